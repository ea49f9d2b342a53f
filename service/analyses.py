"""Analyses: a video comes in, its state and in the end its result go out. The router of `/v1/analyses`; `evidence.py` has the rest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from pipelines.verdict import VerdictName
from service.admission import admit
from service.arrivals import Wish
from service.auth import Known
from service.cursors import read_cursor, write_cursor
from service.database import AnalysisRow
from service.etags import tagged
from service.key_watch import until_key_ends
from service.problems import (
    AlreadyEnded,
    NotStopped,
    StoreUnavailable,
    documented,
)
from service.rooms import Existing, Rooms, ServiceRooms
from service.schemas import AnalysisOut, AnalysisPage, AnalysisStatus, FromUpload, FromUrl, Problem, ProgressOut

STOP_TIMEOUT_S = 10.0
"""An analysis stops within one frame; the slowest frame allowed takes a few seconds on a slow core."""

log = structlog.get_logger()
router = APIRouter(prefix="/v1/analyses", tags=["analyses"])

MEDIA_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "contentMediaType": "application/octet-stream", "description": "The video."},
                        "external_id": {
                            "type": "string",
                            "maxLength": 200,
                            "description": "Your own name for it; the list can be searched by it.",
                        },
                    },
                }
            },
            "video/mp4": {"schema": {"type": "string", "contentMediaType": "video/mp4"}},
            "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}},
            "application/json": {"schema": {"oneOf": [FromUrl.model_json_schema(), FromUpload.model_json_schema()]}},
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=AnalysisOut,
    responses=documented(
        404,
        408,
        413,
        415,
        422,
        503,
        504,
        507,
        also={200: {"model": AnalysisOut, "description": "It ended while you waited, or it had ended before (Idempotency-Key, dedupe)."}},
    ),
    openapi_extra=MEDIA_BODY,
)
async def create_analysis(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    external_id: Annotated[
        str | None, Query(max_length=200, description="Your own name for a raw body; a form has a field for it.")
    ] = None,
    filename: Annotated[str | None, Query(max_length=255, description="The name of a raw body; a form carries its own.")] = None,
    dedupe: Annotated[
        bool, Query(description="Answer with the finished analysis of the same bytes, if one was made in the same way.")
    ] = False,
    priority: Annotated[int, Query(ge=0, le=9, description="Of two that wait, the lower number goes first.")] = 5,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="The same key with the same bytes, URL or upload gives the same analysis."),
    ] = None,
    prefer: Annotated[str | None, Header(description="`wait=N`: answer when it has ended, or after N seconds (RFC 7240).")] = None,
) -> AnalysisOut:
    """Take a video and queue its analysis.

    The body is a form with `file`, or the media itself with a `video/*` or `application/octet-stream` content type, or JSON that says where
    the media is: `url`, fetched before the answer, or `upload`. What cannot be a video is refused here, with a problem that says what came;
    nothing of it is kept.
    """
    row = await admit(request, rooms, caller, Wish(external_id, filename, idempotency_key, dedupe, priority))
    wait_s = _wait_s(prefer)
    if wait_s is not None and not row.ended:
        applied = min(wait_s, rooms.settings.max_wait_s)
        row = await rooms.jobs.wait(row.id, applied) or row
        response.headers["Preference-Applied"] = f"wait={applied:g}"
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    response.status_code = 200 if row.ended else 202
    return await shown(row, rooms)


@router.get("", responses=documented(422))
async def list_analyses(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
    verdict: Annotated[VerdictName | None, Query(description="Only these.")] = None,
    status: Annotated[AnalysisStatus | None, Query(description="Only these.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the file name or of your external_id.")] = None,
) -> AnalysisPage:
    """Analyses, newest first, without their results."""
    before = read_cursor(cursor) if cursor else None
    rows = await rooms.database.page(before=before, limit=limit + 1, tenant=caller.tenant, status=status, verdict=verdict, text=q)
    items = [await shown(row, rooms, with_result=False) for row in rows[:limit]]
    following = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    if following:
        query = urlencode({**request.query_params, "cursor": following})
        response.headers["Link"] = f'</v1/analyses?{query}>; rel="next"'
    return AnalysisPage(items=items, next=following)


@router.get(
    "/{analysis_id}",
    response_model=AnalysisOut,
    responses=documented(404, 422, 503, also={304: {"description": "Unchanged since that ETag."}}),
)
async def get_analysis(
    row: Existing, rooms: Rooms, if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None
) -> Response:
    """One analysis: its state, and its result or problem when it has ended."""
    body = (await shown(row, rooms)).model_dump_json().encode()
    return tagged(body, "application/json", if_none_match)


@router.get("/{analysis_id}/events", response_class=EventSourceResponse, responses=documented(404, 422))
async def follow_analysis(
    row: Existing,
    rooms: Rooms,
    caller: Known,
    last_event_id: Annotated[
        str | None, Header(description="Taken and ignored: the first event is always the whole present state.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `state` at each change of status, `progress` while it runs, and one `end` with the whole analysis.

    When the key ends before the analysis does, the last is `error` with the problem `unauthenticated`.
    """
    async with aclosing(until_key_ends(_followed(row, rooms), rooms.keys, caller.key_id)) as events:
        async for event in events:
            yield event


async def _followed(row: AnalysisRow, rooms: ServiceRooms) -> AsyncGenerator[ServerSentEvent]:
    status: AnalysisStatus | None = None
    async with aclosing(rooms.jobs.follow(row.id)) as updates:
        async for update in updates:
            number = str(update.number)
            if update.row.status != status:
                status = update.row.status
                yield ServerSentEvent(event="state", data=await shown(update.row, rooms, with_result=False), id=number)
            if update.progress is not None:
                yield ServerSentEvent(event="progress", data=ProgressOut.model_validate(update.progress, from_attributes=True), id=number)
            if update.row.ended:
                yield ServerSentEvent(event="end", data=await shown(update.row, rooms), id=number)


@router.post("/{analysis_id}/cancel", responses=documented(404, 409, 422, 503))
async def cancel_analysis(row: Existing, rooms: Rooms, caller: Known) -> AnalysisOut:
    """Stop a queued or running analysis, within one frame. Cancelling twice is no error; what has a result keeps it."""
    stopped = await _stop(row, rooms)
    if stopped is not None and stopped.status != "cancelled":
        raise AlreadyEnded(f"The analysis has {stopped.status}.", expected="a queued or running analysis", got=stopped.status)
    await rooms.audit.write(caller.tenant, caller.key_id, "analysis.cancelled", row.id)
    return await shown(stopped or row, rooms)


@router.delete("/{analysis_id}", status_code=204, responses=documented(404, 409, 422, 503))
async def delete_analysis(row: Existing, rooms: Rooms, caller: Known) -> None:
    """Remove an analysis, its media and its evidence; a running one is stopped first."""
    await _stop(row, rooms)
    await rooms.audit.write(caller.tenant, caller.key_id, "analysis.deleted", row.id)
    await rooms.renditions.drop(row.id)
    # In this order: whoever is told 503 can ask again.
    await asyncio.to_thread(rooms.storage.remove, row.id)
    rooms.timelines.drop(row.id)
    await rooms.database.remove(row.id)
    # Whoever judged it may have written evidence since, and have found the row still there. From now on nobody does.
    try:
        await asyncio.to_thread(rooms.storage.remove, row.id)
    except StoreUnavailable as error:  # whoever removes orphans does it
        log.warning("evidence_left", analysis=row.id, detail=error.detail)


async def shown(row: AnalysisRow, rooms: ServiceRooms, *, with_result: bool = True) -> AnalysisOut:
    """A row as the wire shows it."""
    result = None
    if with_result and row.status == "succeeded":
        result = await rooms.storage.read_result(row.id)
    progress = rooms.jobs.progress(row)
    return AnalysisOut(
        id=row.id,
        external_id=row.external_id,
        filename=row.filename,
        source_url=row.source_url,
        status=row.status,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=ProgressOut.model_validate(progress, from_attributes=True) if progress else None,
        verdict=row.verdict,
        sentence=row.sentence,
        p=row.p,
        result=result,
        problem=Problem.model_validate_json(row.problem) if row.problem else None,
        links=_links(row),
    )


async def _stop(row: AnalysisRow, rooms: ServiceRooms) -> AnalysisRow | None:
    """The row once it is no longer queued or running; None when someone deleted it meanwhile."""
    if row.ended:
        return row
    stopped = await rooms.jobs.cancel(row.id, STOP_TIMEOUT_S)
    if stopped is not None and not stopped.ended:
        raise NotStopped(f"It is still {stopped.status}.", expected=f"a stop within {STOP_TIMEOUT_S:g} s", got="none; try again")
    return stopped


def _wait_s(prefer: str | None) -> float | None:
    """N of `wait=N` in a Prefer header; a preference that cannot be understood is ignored, as RFC 7240 section 2 says."""
    match = re.search(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', prefer or "", re.IGNORECASE)
    return float(match[1]) if match else None


def _links(row: AnalysisRow) -> dict[str, str]:
    base = f"/v1/analyses/{row.id}"
    links = {"self": base, "events": f"{base}/events", "media": f"{base}/media", "page": f"/analyses/{row.id}"}
    if row.status == "succeeded":
        links |= {"timeline": f"{base}/timeline", "report": f"{base}/report", "pack": f"{base}/report?format=zip", "plot": f"{base}/plot"}
    if not row.ended:
        links["cancel"] = f"{base}/cancel"
    return links
