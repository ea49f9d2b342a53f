"""Feeds: the URL of a camera comes in, what the service sees there day and night goes out. The router of `/v1/feeds`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import IntegrityError

from service.audit_rows import audited
from service.auth import Known
from service.cursors import read_cursor, write_cursor
from service.database import now
from service.feed_rows import FeedRow
from service.feed_watch import FeedWatch
from service.feed_wire import AlertRuleIn, FeedChange, FeedOut, FeedPage, NewFeed
from service.ids import new_id
from service.key_watch import until_key_ends
from service.problems import FeedElsewhere, IdempotencyKeyReused, TooManyFeeds, UnknownFeed, documented
from service.rooms import Rooms, ServiceRooms
from service.url_policy import shown

router = APIRouter(prefix="/v1/feeds", tags=["feeds"])


async def _existing(feed_id: UUID, rooms: Rooms, caller: Known) -> FeedRow:
    row = await rooms.feeds.rows.get(str(feed_id))
    if row is None or row.tenant != caller.tenant:
        raise _unknown(str(feed_id))
    return row


Existing = Annotated[FeedRow, Depends(_existing)]


async def _watched(row: Existing, rooms: Rooms) -> FeedWatch:
    watch = rooms.feeds.get(row.id)
    if watch is None:
        raise FeedElsewhere("The feed is watched elsewhere.", expected="the replica that watches it", got="another")
    return watch


Watched = Annotated[FeedWatch, Depends(_watched)]


@router.post(
    "",
    status_code=201,
    responses=documented(409, 415, 422, also={200: {"model": FeedOut, "description": "It was registered before (Idempotency-Key)."}}),
)
async def create_feed(
    given: NewFeed,
    response: Response,
    rooms: Rooms,
    caller: Known,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, description="The same key with the same body gives the same feed.")
    ] = None,
) -> FeedOut:
    """Register a camera: the service connects to it, now and after every restart, until the feed is deleted.

    What may not be connected to is refused here. A camera that does not answer is not: it is tried again.
    """
    rows = rooms.feeds.rows
    sha256 = hashlib.sha256(given.model_dump_json().encode()).hexdigest()
    if idempotency_key and (earlier := await rows.by_idempotency_key(caller.tenant, idempotency_key)):
        return _same(earlier, sha256, idempotency_key, response, rooms)
    await rooms.feeds.check(given.url)
    most = rooms.settings.feeds.max_feeds
    if await rows.count() >= most:
        raise TooManyFeeds("There is no room for another feed.", expected=f"at most {most} (UNDERCURRENT_FEEDS__MAX_FEEDS)", got="one more")
    if (own := rooms.settings.tenants.max_feeds) is not None and await rows.count(caller.tenant) >= own:
        setting = "UNDERCURRENT_TENANTS__MAX_FEEDS"
        raise TooManyFeeds("The tenant may have no other feed.", expected=f"at most {own} ({setting})", got="one more")
    row = FeedRow(
        id=new_id(),
        tenant=caller.tenant,
        name=given.name,
        url=given.url,
        hz=given.hz,
        rule=given.rule.model_dump_json(),
        paused=given.paused,
        created_at=now(),
        idempotency_key=idempotency_key,
        request_sha256=sha256,
    )
    try:
        await rows.add(row, audited(caller.tenant, caller.key_id, "feed.created", row.id))
    except IntegrityError:
        # Two requests with one key ran side by side, and the other was first.
        earlier = await rows.by_idempotency_key(caller.tenant, idempotency_key) if idempotency_key else None
        if earlier is None or idempotency_key is None:
            raise
        return _same(earlier, sha256, idempotency_key, response, rooms)
    await rooms.feeds.look()
    response.headers["Location"] = f"/v1/feeds/{row.id}"
    return feed_out(row, rooms)


@router.get("", responses=documented(422))
async def list_feeds(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> FeedPage:
    """Feeds, newest first."""
    rows = await rooms.feeds.rows.page(before=read_cursor(cursor) if cursor else None, limit=limit + 1, tenant=caller.tenant)
    following = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    link_next(request, response, following)
    return FeedPage(items=[feed_out(row, rooms) for row in rows[:limit]], next=following)


@router.get("/{feed_id}", responses=documented(404, 422))
async def get_feed(row: Existing, rooms: Rooms) -> FeedOut:
    """One feed: its state and since when, latency, looks, newest score, totals."""
    return feed_out(row, rooms)


@router.patch("/{feed_id}", responses=documented(404, 422))
async def change_feed(row: Existing, change: FeedChange, rooms: Rooms, caller: Known) -> FeedOut:
    """Rename, pause, go on, look more or less often, or alert by another rule. An alert that is open ends with a new rule."""
    given = change.model_dump(exclude_unset=True, mode="json")
    values = {name: value for name, value in given.items() if name in ("name", "hz") or (name == "paused" and value is not None)}
    if change.rule is not None:
        values["rule"] = change.rule.model_dump_json()
    changed = await rooms.feeds.rows.change(row.id, values, audited(caller.tenant, caller.key_id, "feed.changed", row.id))
    if changed is None:
        raise _unknown(row.id)
    await rooms.feeds.look()
    return feed_out(changed, rooms)


@router.delete("/{feed_id}", status_code=204, responses=documented(404, 422))
async def delete_feed(row: Existing, rooms: Rooms, caller: Known) -> None:
    """Watch it no more, and forget it, its alerts and its credentials."""
    await rooms.audit.write(caller.tenant, caller.key_id, "feed.deleted", row.id)
    await rooms.feeds.rows.remove(row.id)
    await rooms.feeds.look()


@router.get("/{feed_id}/events", response_class=EventSourceResponse, responses=documented(404, 409, 422))
async def follow_feed(
    watch: Watched,
    rooms: Rooms,
    caller: Known,
    last_event_id: Annotated[str | None, Header(description="Go on after this event, as far as events are kept.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events for as many watchers as like: `state`, `score`, `face`, `gap`, `drop`, `stats`, `alert`, `missed`, `error`.

    The first is the present state. Who reads slowly gets the newest score, and for how many it stands; of all others nothing is left out,
    and `missed` says so should they be gone. Numbers (`id`, `event_seq`) go on over restarts. `error` has no number; its problem
    `unauthenticated` says that the key has ended, and nothing follows it.
    """
    last: int | None = None
    with suppress(ValueError):
        last = int(last_event_id or "")
    followed = _followed(watch, last if last is not None and last >= 0 else None)
    async with aclosing(until_key_ends(followed, rooms.keys, caller.key_id)) as events:
        async for event in events:
            yield event


async def _followed(watch: FeedWatch, last: int | None) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(watch.ring.follow(last)) as events:
        async for told in events:
            yield ServerSentEvent(event=told.kind, raw_data=told.data, id=str(told.seq))


def feed_out(row: FeedRow, rooms: ServiceRooms) -> FeedOut:
    """A feed as the wire shows it."""
    watch = rooms.feeds.get(row.id)
    base = f"/v1/feeds/{row.id}"
    hz = rooms.settings.hz
    return FeedOut(
        id=row.id,
        name=row.name,
        url=shown(row.url),
        hz=min(row.hz or hz, hz),
        rule=AlertRuleIn.model_validate_json(row.rule),
        paused=row.paused,
        created_at=row.created_at,
        state="elsewhere" if watch is None else watch.state,
        since=row.created_at if watch is None else watch.since,
        live=None if watch is None else watch.live,
        links={"self": base, "events": f"{base}/events", "alerts": f"{base}/alerts"},
    )


def _same(earlier: FeedRow, sha256: str, key: str, response: Response, rooms: ServiceRooms) -> FeedOut:
    if earlier.request_sha256 != sha256:
        raise IdempotencyKeyReused(
            f"The key {key!r} belongs to the feed {earlier.id}, which was asked for otherwise.",
            expected="the same body",
            got="another",
        )
    response.status_code = 200
    response.headers["Location"] = f"/v1/feeds/{earlier.id}"
    return feed_out(earlier, rooms)


def _unknown(feed_id: str) -> UnknownFeed:
    return UnknownFeed(f"No feed has the id {feed_id}.", expected="the id of a feed that was not deleted", got=feed_id)


def link_next(request: Request, response: Response, following: str | None) -> None:
    """Name the next page of a list in its headers (RFC 8288); `following` is its cursor."""
    if following is not None:
        asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        query = urlencode([*asked, ("cursor", following)])
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
