"""The log of reviews over the wire: whose, and how it is to be written, comes in, a page as JSON or all of it as CSV goes out.

The router of `GET /v1/reviews`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from service.auth import Known
from service.cursors import read_cursor, write_cursor
from service.etags import tagged
from service.problems import documented
from service.review_log_rows import Logged
from service.review_wire import ReviewOut, review_out
from service.reviewer import Reviewer, Reviewing
from service.rooms import Rooms
from service.schemas import Wire

COLUMNS: Final = (
    "at", "analysis_id", "filename", "n", "role", "reviewer", "mine", "decision", "reason", "note",
    "open_s", "waited_s", "verdict", "p", "calibration_id", "weights_sha256", "id",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula; the last four are the wide =, +, - and @ of East Asia."""

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])


class LoggedOut(ReviewOut):
    """What one reviewer said, with the name of what it was said of."""

    filename: str | None = Field(description="As its client gave it; null also once the analysis was deleted.")


class LogPage(Wire):
    """Some of the log."""

    items: list[LoggedOut]
    next: str | None


@router.get(
    "",
    response_model=LogPage,
    responses=documented(
        422, also={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, 304: {"description": "Unchanged since that ETag."}}
    ),
)
async def list_log(
    request: Request,
    rooms: Rooms,
    caller: Known,
    reviewer: Reviewing,
    mine: Annotated[bool, Query(description="Only the caller's own.")] = False,
    format: Annotated[
        Literal["json", "csv"], Query(description="`csv`: all from the cursor on, in one file, whatever the limit.")
    ] = "json",
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    if_none_match: Annotated[str | None, Header(description="An ETag you have; of JSON.")] = None,
) -> Response:
    """What reviewers decided and skipped, newest first. A decision that awaits a second, blind one is left out for all but its author.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    before = read_cursor(cursor) if cursor else None
    if format == "csv":
        batches = rooms.review_log.all(caller.tenant, reviewer, mine=mine, before=before)
        kept = {"Content-Disposition": 'attachment; filename="reviews.csv"', "Cache-Control": "no-cache"}
        return StreamingResponse(_csv(batches, reviewer), media_type="text/csv; charset=utf-8", headers=kept)
    found = await rooms.review_log.page(caller.tenant, reviewer, mine=mine, before=before, limit=limit + 1)
    following = write_cursor(found[limit - 1].review.id) if len(found) > limit else None
    page = LogPage(items=[_out(logged, reviewer) for logged in found[:limit]], next=following)
    headers = {}
    if following:
        headers["Link"] = f'</v1/reviews?{urlencode({**request.query_params, "cursor": following})}>; rel="next"'
    return tagged(page.model_dump_json().encode(), "application/json", if_none_match, headers)


def _out(logged: Logged, reviewer: Reviewer) -> LoggedOut:
    return LoggedOut(**review_out(logged.review, reviewer).model_dump(), filename=logged.filename)


async def _csv(batches: AsyncIterator[Sequence[Logged]], reviewer: Reviewer) -> AsyncIterator[str]:
    yield _lines([COLUMNS])
    async for batch in batches:
        rows = (_out(logged, reviewer).model_dump(mode="json") for logged in batch)
        yield _lines([[_cell(row[name]) for name in COLUMNS] for row in rows])


def _lines(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """A value that a spreadsheet shows and never runs: what people wrote is text for it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
