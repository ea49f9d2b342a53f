"""The record of who did what: filters and a page's cursor come in, rows go out, newest first. The router of `/v1/audit`, for `admin`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from service.audit_csv import audit_csv
from service.audit_rows import Action, Only
from service.audit_wire import AuditOut, AuditPage
from service.auth import AT_HOME, Known
from service.cursors import read_cursor, write_cursor
from service.feeds import link_next
from service.problems import documented
from service.rooms import Rooms, ServiceRooms

AT_ONCE: Final = 500
"""Rows of a table that are in memory."""

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get(
    "",
    response_model=AuditPage,
    responses=documented(422, also={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}),
)
async def list_audit(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Of a page.")] = 25,
    who: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=320,
            pattern=r"^[^\x00]+$",
            description="Only of the key with this id, or of those with this in their name, in any case. "
            f"Whoever needed no key is `{AT_HOME.name}`.",
        ),
    ] = None,
    action: Annotated[list[Action] | None, Query(description="Only these.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only from then on.")] = None,
    format: Annotated[
        Literal["json", "csv"], Query(description="`csv`: all of it from `cursor` on as one table, safe to open in a spreadsheet.")
    ] = "json",
) -> AuditPage | Response:
    """What was done in this tenant, newest first. Nobody can change or remove a line of it."""
    called = None if who is None else rooms.keys.called(caller.tenant, who)
    only = Only(tuple(action or ()), since, called, here=who is not None and who.lower() in AT_HOME.name)
    before = read_cursor(cursor) if cursor else None
    entries = partial(_entries, rooms, caller.tenant, only)
    if format == "csv":
        named = {"Content-Disposition": 'attachment; filename="audit.csv"', "Cache-Control": "no-store"}
        table = audit_csv(lambda last: entries(last or before, AT_ONCE))
        return StreamingResponse(table, media_type="text/csv; charset=utf-8", headers=named)
    items = await entries(before, limit + 1)
    following = write_cursor(items[limit - 1].id) if len(items) > limit else None
    link_next(request, response, following)
    return AuditPage(items=list(items[:limit]), next=following)


async def _entries(rooms: ServiceRooms, tenant: str, only: Only, before: str | None, limit: int) -> Sequence[AuditOut]:
    rows = await rooms.audit.page(tenant, before=before, limit=limit, only=only)
    names = await rooms.keys.names(row.key_id for row in rows if row.key_id is not None)
    return [
        AuditOut(
            id=row.id,
            at=row.at,
            key_id=row.key_id,
            name=names.get(row.key_id or ""),
            action=row.action,
            subject=row.subject,
            request_id=row.request_id,
        )
        for row in rows
    ]
