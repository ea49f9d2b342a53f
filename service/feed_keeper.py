"""All feeds of this process: rows come in, a FeedWatch for each that is this process's to watch goes out. `app.py` makes the one `Feeds`.

One look at the rows, every few seconds and after each change, brings both together: at the start, for what was registered here or by
another replica, and for what a dead one left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from pipelines.engine import Engines
from service.feed_rows import FeedRows
from service.feed_store import FeedStore
from service.feed_wall import Wall
from service.feed_watch import FeedWatch
from service.feed_wire import FeedState
from service.live_source import Cameras
from service.outages import report
from service.picture_source import OpenCamera
from service.problems import ServiceError
from service.settings import Settings
from service.stream_errors import PullNotSupported

LOOK_S: Final = 5.0
"""Between two looks at the rows: a third of a lease has room for one that fails."""

log = structlog.get_logger()


class Feeds:
    """Watches what this process has the lease of. Used on the event loop.

    Args:
        rows: what is registered.
        store: evidence of alerts.
        settings, engines: for every watch.
        cameras: connects; None: this machine cannot, and says so.
    """

    def __init__(self, rows: FeedRows, store: FeedStore, settings: Settings, engines: Engines, cameras: Cameras | None) -> None:
        self.rows, self.store = rows, store
        self._settings, self._engines = settings, engines
        self._open: OpenCamera | None = None if cameras is None else partial(cameras.open, forever=True)
        self._owner = uuid4().hex
        self._watches: dict[str, FeedWatch] = {}
        self._walls: dict[str, Wall] = {}
        """By tenant."""
        self._turn = asyncio.Lock()
        self._past_alerts = self._past_notes_lost = 0
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Remove what no feed knows, take up what is registered, and go on looking."""
        try:
            kept = await asyncio.to_thread(self.store.kept)
            orphans = await asyncio.to_thread(self.store.remove_orphans, kept, [row.id for row in await self.rows.all()])
        except ServiceError as error:
            log.error("orphans_not_removed", problem=error.slug)
        else:
            if orphans:
                log.info("orphans_removed", feeds=orphans)
        await self.look()
        self._tasks = [asyncio.create_task(self._look_again(), name="feeds"), asyncio.create_task(self._renew_again(), name="feed-leases")]

    async def close(self) -> None:
        """Stop every watch and let its watchers go; nothing of them is left. May be called twice."""
        self._closed = True
        if self._tasks:
            self._tasks[0].cancel()
        async with self._turn:
            await asyncio.gather(*(self._let_go(feed_id) for feed_id in list(self._watches)))
        for wall in self._walls.values():
            wall.close()
        # What takes long to stop is held meanwhile.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def get(self, feed_id: str) -> FeedWatch | None:
        """The watch of a feed; None if it is not this process's."""
        return self._watches.get(feed_id)

    def wall(self, tenant: str) -> Wall:
        """All feeds of a tenant that are this process's, side by side."""
        if tenant not in self._walls:
            self._walls[tenant] = wall = Wall()
            if self._closed:
                wall.close()
        return self._walls[tenant]

    @property
    def states(self) -> Counter[FeedState]:
        """How many are in which state here."""
        return Counter(watch.state for watch in self._watches.values())

    @property
    def alerts(self) -> int:
        """That began here, those of deleted feeds too."""
        return self._past_alerts + sum(watch.alerts for watch in self._watches.values())

    @property
    def alert_notes_lost(self) -> int:
        """What there was to tell of alerts, and could not be kept: no room, no database in time, no store."""
        return self._past_notes_lost + sum(watch.alert_notes_lost for watch in self._watches.values())

    async def check(self, url: str) -> None:
        """Make sure that `url` may be watched.

        Raises:
            PullNotSupported, UrlNotAllowed, UnsupportedMedia: it may not.
        """
        await asyncio.to_thread(self._opener, url, lambda: self._settings.hz)

    async def look(self) -> None:
        """Bring the watches and the rows together, and say that this process lives."""
        async with self._turn:
            if self._closed or self._open is None:
                return
            rows = {row.id: row for row in await self.rows.all()}
            for feed_id in self._watches.keys() - rows.keys():
                await self._forget(feed_id)
            for feed_id in rows:
                try:
                    await self._look_at(feed_id)
                except Exception as error:  # one feed's fault is not that of all others, which only this keeps alive
                    report("feed_not_looked_at", error, feed=feed_id)

    async def _look_at(self, feed_id: str) -> None:
        watch = self._watches.get(feed_id)
        if watch is None:
            await self._take_up(feed_id)
        elif (row := await self.rows.renew(feed_id, self._owner, watch.ring.seq)) is None:
            # Another replica's by now; or deleted, since this look at the rows began.
            if await self.rows.get(feed_id) is None:
                await self._forget(feed_id)
            else:
                await self._let_go(feed_id)
        elif row.version != watch.row.version:
            await watch.change(row)

    async def _take_up(self, feed_id: str) -> None:
        """Watch a feed that nobody watches. One that cannot be begun is given back, so that the next look finds it free."""
        if (row := await self.rows.take(feed_id, self._owner)) is None:
            return
        async with AsyncExitStack() as failed:
            failed.push_async_callback(self._release, feed_id, row.event_seq)
            if await self.rows.renew(feed_id, self._owner, row.event_seq) is None:
                return  # deleted just now
            tell = partial(self.wall(row.tenant).put, feed_id)
            watch = FeedWatch(row, self.rows, self.store, self._settings, self._engines, self._opener, tell)
            watch.start()
            self._watches[feed_id] = watch
            failed.pop_all()

    async def _forget(self, feed_id: str) -> None:
        """A feed was deleted: let it go, with whatever it has left; what cannot be removed now is an orphan at the next start."""
        self._watches[feed_id].discard()
        await self._let_go(feed_id)
        try:
            await asyncio.to_thread(self.store.remove, feed_id)
        except ServiceError as error:
            log.error("evidence_not_removed", feed=feed_id, problem=error.slug)

    async def _let_go(self, feed_id: str) -> None:
        watch = self._watches[feed_id]
        await watch.close()
        self.wall(watch.row.tenant).forget(feed_id)
        del self._watches[feed_id]
        self._past_alerts += watch.alerts
        self._past_notes_lost += watch.alert_notes_lost
        await self._release(feed_id, watch.ring.seq)

    async def _release(self, feed_id: str, event_seq: int) -> None:
        try:
            await self.rows.release(feed_id, self._owner, event_seq)
        except SQLAlchemyError as error:
            report("feed_not_released", error, feed=feed_id)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except SQLAlchemyError as error:
                report("feeds_not_looked_at", error, retry_s=LOOK_S)

    async def _renew_again(self) -> None:
        """Say that this process lives, whatever a look waits for: evidence to be removed, a watch to end."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                for feed_id, watch in list(self._watches.items()):
                    await self.rows.renew(feed_id, self._owner, watch.ring.seq)
            except SQLAlchemyError as error:
                report("feeds_not_renewed", error, retry_s=LOOK_S)

    @property
    def _opener(self) -> OpenCamera:
        if self._open is None:
            raise PullNotSupported("This service connects to no cameras.", expected="a system with a media sandbox", got="another")
        return self._open
