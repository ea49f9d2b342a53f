"""The wall: who asks for all feeds at once comes in, their events over one connection go out. The router of `/v1/feeds/events`.

Included before `feeds.py`, whose paths would take the word for an id.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.auth import Known
from service.feed_wall import Wall
from service.key_watch import until_key_ends
from service.problems import documented
from service.rooms import Rooms

router = APIRouter(prefix="/v1/feeds", tags=["feeds"])


@router.get("/events", response_class=EventSourceResponse, responses=documented(422))
async def follow_feeds(
    rooms: Rooms,
    caller: Known,
    last_event_id: Annotated[str | None, Header(max_length=64, description="Go on after this event, as far as events are kept.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events of all feeds that this replica watches: `hello`, `history`, `looks`, `state`, `gap`, `alert`, `tick`, `error`.

    The data of `looks`, `state`, `gap` and `alert` is `{"feed_id": ..., "event": ...}`; but for `looks`, which tells of about a second
    of looks together and hides no peak, they are those of the feed's own `/events`. The first is `hello`. It says in `resumed` whether
    all that came after `Last-Event-ID` follows; if not, there is a `history` of each feed's last three minutes, and states and alerts
    are to be asked for (`GET /v1/feeds`, `GET /v1/alerts`). Numbers are those of one run of the service. `tick` says every five seconds
    that there is nothing to say; `error` with the problem `unauthenticated`, that the key has ended, and nothing follows it.
    """
    followed = _followed(rooms.feeds.wall(caller.tenant), last_event_id)
    async with aclosing(until_key_ends(followed, rooms.keys, caller.key_id)) as events:
        async for event in events:
            yield event


async def _followed(wall: Wall, last: str | None) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(wall.follow(last)) as events:
        async for told in events:
            yield ServerSentEvent(event=told.kind, raw_data=told.data, id=told.id)
