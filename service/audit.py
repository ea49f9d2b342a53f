"""The record of who did what: a page's cursor comes in, rows go out, newest first. The router of `/v1/audit`, for `admin`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from service.audit_rows import Action
from service.auth import Known
from service.cursors import read_cursor, write_cursor
from service.problems import documented
from service.rooms import Rooms
from service.schemas import Wire

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditOut(Wire):
    """One action."""

    id: str
    at: datetime
    key_id: str | None = Field(description="Who did it; null: somebody on the service's own machine, without a key.")
    action: Action
    subject: str = Field(description="The id of what it was done to.")
    request_id: str | None


class AuditPage(Wire):
    """Some of the record."""

    items: list[AuditOut]
    next: str | None


@router.get("", responses=documented(422))
async def list_audit(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> AuditPage:
    """What was done in this tenant, newest first. Nobody can change or remove a line of it."""
    rows = await rooms.audit.page(caller.tenant, before=read_cursor(cursor) if cursor else None, limit=limit + 1)
    following = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    if following:
        response.headers["Link"] = f'</v1/audit?{urlencode({**request.query_params, "cursor": following})}>; rel="next"'
    items = [
        AuditOut(id=row.id, at=row.at, key_id=row.key_id, action=row.action, subject=row.subject, request_id=row.request_id)
        for row in rows[:limit]
    ]
    return AuditPage(items=items, next=following)
