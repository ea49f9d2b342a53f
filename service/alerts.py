"""Alerts of feeds: a feed's id comes in; its alerts, their stills and their clips go out.

The routers of `/v1/feeds/{id}/alerts` and of `/v1/alerts`, the newest of all feeds.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from service.alert_view import alert_out
from service.auth import Known
from service.feed_rows import AlertRow
from service.feed_store import Evidence
from service.feed_wire import AlertOut, AlertPage, NewestAlerts
from service.feeds import Existing, link_next
from service.problems import BadCursor, UnknownAlert, documented
from service.ranged import ranged
from service.rooms import Rooms, ServiceRooms

router = APIRouter(prefix="/v1/feeds/{feed_id}/alerts", tags=["feeds"])
newest = APIRouter(prefix="/v1/alerts", tags=["feeds"])
MOST: Final = 2**31 - 1
"""PostgreSQL's integers end there."""
HEADERS: Final = {"Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'", "Cache-Control": "private, no-cache"}


async def _alert(row: Existing, rooms: Rooms, n: Annotated[int, Path(ge=1, le=MOST)]) -> AlertRow:
    alert = await rooms.feeds.rows.alert(row.id, n)
    if alert is None:
        raise UnknownAlert(f"The feed has no alert {n}.", expected="the number of an alert that is kept", got=str(n))
    return alert


Found = Annotated[AlertRow, Depends(_alert)]
Range = Annotated[str | None, Header(alias="Range", description="`bytes=first-last`; one range.")]


@newest.get("", responses=documented(422))
async def list_newest_alerts(rooms: Rooms, caller: Known, limit: Annotated[int, Query(ge=1, le=100)] = 25) -> NewestAlerts:
    """The newest alerts of all feeds, whichever replica watches them."""
    rows = await rooms.feeds.rows.newest_alerts(caller.tenant, limit)
    return NewestAlerts(items=[alert_out(alert) for alert in rows])


@router.get("", responses=documented(404, 422))
async def list_alerts(
    request: Request,
    response: Response,
    row: Existing,
    rooms: Rooms,
    cursor: Annotated[str | None, Query(max_length=20, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> AlertPage:
    """Alerts of a feed, newest first; they outlive restarts."""
    rows = await rooms.feeds.rows.alert_page(row.id, before=_read_number(cursor) if cursor else None, limit=limit + 1)
    following = str(rows[limit - 1].n) if len(rows) > limit else None
    link_next(request, response, following)
    return AlertPage(items=[alert_out(alert) for alert in rows[:limit]], next=following)


@router.get("/{n}", responses=documented(404, 422))
async def get_alert(alert: Found) -> AlertOut:
    """One alert."""
    return alert_out(alert)


@router.get(
    "/{n}/still", response_class=Response, responses=documented(404, 416, 422, 503, also={200: {"content": {"image/jpeg": {}}}, 206: {}})
)
async def get_still(alert: Found, rooms: Rooms, range_: Range = None) -> Response:
    """The picture of the alert's peak, so far, with a box around the face."""
    return await _evidence(alert, rooms, "still", alert.still_bytes, range_)


@router.get(
    "/{n}/clip", response_class=Response, responses=documented(404, 416, 422, 503, also={200: {"content": {"video/mp4": {}}}, 206: {}})
)
async def get_clip(alert: Found, rooms: Rooms, range_: Range = None) -> Response:
    """What was looked at around the alert, with the camera's own times; `Range` is honoured."""
    return await _evidence(alert, rooms, "clip", alert.clip_bytes, range_)


async def _evidence(alert: AlertRow, rooms: ServiceRooms, evidence: Evidence, size: int, wanted: str | None) -> Response:
    if not size:
        raise UnknownAlert(f"The alert {alert.n} has no {evidence}.", expected="one that its `links` name", got=evidence)
    read = partial(rooms.feeds.store.read, alert.feed_id, alert.n, evidence)
    return await ranged(read, size, wanted, media_type="image/jpeg" if evidence == "still" else "video/mp4", headers=HEADERS)


def _read_number(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) > MOST:
        raise BadCursor("The cursor is damaged.", expected="`next` of an earlier page, unchanged", got=cursor)
    return int(cursor)
