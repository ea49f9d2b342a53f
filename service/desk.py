"""The desk: what a reviewer wants to see comes in, a page of the queue or the next analysis to be opened goes out.

The router of `/v1/reviews`.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from pipelines.verdict import VerdictName
from service.analyses import shown
from service.auth import Known
from service.cursors import read_place, write_place
from service.etags import tagged
from service.problems import documented
from service.review_queue import SORTS, UNDECIDED, ItemState, Queued, Sort, Wanted
from service.review_wire import QueuePage, ReviewItemOut, item_out
from service.reviewer import Reviewer, Reviewing
from service.rooms import Rooms, ServiceRooms

_Seconds = Annotated[float | None, Query(ge=0, le=10**9, description="Since the analysis ended.")]
_Share = Annotated[float | None, Query(ge=0, le=1)]

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])


async def _wanted(
    rooms: Rooms,
    verdict: Annotated[
        list[VerdictName] | None, Query(description="Only these; else what waits by the settings, and what was opened.")
    ] = None,
    state: Annotated[list[ItemState] | None, Query(description="Only these; else all that is not decided.")] = None,
    sort: Annotated[Sort, Query(description="What was skipped comes after the rest.")] = "oldest",
    min_p: _Share = None,
    min_severity: _Share = None,
    older_than_s: _Seconds = None,
    younger_than_s: _Seconds = None,
    media: Annotated[str | None, Query(max_length=64, pattern=r"^[\x20-\x7e]*$", description="Media type, as `video/mp4`.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the file name or of your external_id.")] = None,
) -> Wanted:
    verdicts = tuple(verdict) if verdict else rooms.settings.reviews.verdicts
    states = tuple(state) if state else UNDECIDED
    return Wanted(verdicts, states, sort, min_p, min_severity, older_than_s, younger_than_s, media, q, also_reviewed=not verdict)


Wishes = Annotated[Wanted, Depends(_wanted)]


@router.get("/queue", response_model=QueuePage, responses=documented(422, also={304: {"description": "Unchanged since that ETag."}}))
async def list_queue(
    request: Request,
    rooms: Rooms,
    caller: Known,
    reviewer: Reviewing,
    wanted: Wishes,
    cursor: Annotated[str | None, Query(max_length=300, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None,
) -> Response:
    """What is to be reviewed, oldest first. Ask again with the ETag to see what has changed."""
    after = read_place(cursor, wanted.sort, [column.type.python_type for column, _ in SORTS[wanted.sort]]) if cursor else None
    found = await rooms.queue.page(caller.tenant, wanted, after=after, limit=limit + 1)
    following = write_place(wanted.sort, found[limit - 1].keys) if len(found) > limit else None
    page = QueuePage(items=[await _out(queued, rooms, reviewer) for queued in found[:limit]], next=following)
    headers = {}
    if following:
        asked = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
        headers["Link"] = f'</v1/reviews/queue?{urlencode([*asked, ("cursor", following)])}>; rel="next"'
    return tagged(page.model_dump_json().encode(), "application/json", if_none_match, headers)


@router.post(
    "/next", response_model=ReviewItemOut, responses=documented(422, also={204: {"description": "There is nothing for you to review."}})
)
async def next_review(rooms: Rooms, caller: Known, reviewer: Reviewing, wanted: Wishes) -> Response | ReviewItemOut:
    """Open the next analysis of the queue for yourself; nobody else is given the same one. Who has one open is given that."""
    queued = await rooms.queue.take(reviewer, caller.tenant, wanted)
    return Response(status_code=204) if queued is None else await _out(queued, rooms, reviewer)


async def _out(queued: Queued, rooms: ServiceRooms, reviewer: Reviewer) -> ReviewItemOut:
    return item_out(queued, await shown(queued.analysis, rooms, with_result=False), reviewer)
