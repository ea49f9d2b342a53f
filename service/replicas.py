"""Replicas of one database: signs of life come in, the work of one that died goes to those that live. Each runs this beside its own work.

Nobody compares clocks of two machines: a replica is dead when its sign of life has not changed for so long by the clock of whoever
watches. Of those who notice, the one that changes the sign first takes charge; should it die as well, that sign does not change any more
either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final

import structlog

from service.audit_rows import audited
from service.database import Database, NameTaken, now
from service.problems import StoreUnavailable
from service.settings import Settings
from service.steady_clock import SteadyClock
from service.storage import Storage
from service.workflows import FAILURES, Workflows

BEATS: Final = 5
"""Signs of life in the time after whose silence a replica counts as dead."""
SWEEP_S: Final = 10.0
FORGET_S: Final = 3600.0
"""How long after its end a workflow is known; the rows know for ever."""
SWEPT_AT_ONCE: Final = 100
ORPHANS_S: Final = 3600.0
"""How often it is looked for what no row knows: it costs the names of everything that is kept."""

log = structlog.get_logger()


class Watch:
    """Who lives, from their signs of life as one watcher sees them, by its own monotonic clock."""

    def __init__(self, lost_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._lost_s, self._clock = lost_s, clock
        self._seen: dict[str, tuple[datetime, float]] = {}

    def saw(self, signs: dict[str, datetime]) -> dict[str, datetime]:
        """Take the present signs; returns those of the dead."""
        now_s = self._clock()
        before, self._seen = self._seen, {}
        for name, sign in signs.items():
            known = before.get(name)
            self._seen[name] = (sign, now_s) if known is None or known[0] != sign else known
        return {name: sign for name, (sign, since_s) in self._seen.items() if now_s - since_s > self._lost_s}


class Replicas:
    """What one replica does for itself and the others, beside its work."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, workflows: Workflows) -> None:
        self._settings, self._database, self._storage, self._workflows = settings, database, storage, workflows
        self._name = settings.replica
        self._alone = settings.database_url is None
        self._sign: datetime | None = None
        self._watch = Watch(settings.replica_lost_s)
        self._clock = SteadyClock()
        self._orphans_due_s = monotonic() + ORPHANS_S
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Say that it lives, and take up what it left when it ended last: alone, all that there is."""
        self._sign = await self._database.beat(self._name, None)
        await self._hand_over(None if self._alone else self._name)
        try:
            orphans = await self._remove_orphans()
        except StoreUnavailable as error:  # what waits can be done when the store is back; until then nobody is told that this is ready
            log.warning("orphans_left", detail=error.detail)
            orphans = []
        enqueued = await self._enqueue_missing()
        if enqueued or orphans:
            log.info("recovered", enqueued=enqueued, orphans=orphans)
        every = ((self._settings.replica_lost_s / BEATS, self._beat), (SWEEP_S, self._sweep))
        self._tasks = [asyncio.create_task(self._repeat(each_s, do), name=do.__name__) for each_s, do in every]

    async def _remove_orphans(self, *, old_at_s: float | None = None) -> list[str]:
        """All that there are, or those that are old at that moment."""
        kept = await asyncio.to_thread(self._storage.kept)
        known = await self._database.ids()
        remove = partial(self._storage.remove_orphans, kept, known, only_old=old_at_s is not None, at_s=old_at_s)
        return await asyncio.to_thread(remove)

    async def leave(self) -> None:
        """Hand over what is under way and was stopped; nothing of it is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sign is None:
            return
        try:
            await self._hand_over(self._name)
            await self._database.depart(self._name)
        except FAILURES as error:
            log.warning("not_handed_over", reason=f"{type(error).__name__}: {error}")  # others find it, as if this had died

    async def _repeat(self, each_s: float, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(each_s)
            try:
                await do()
            except (*FAILURES, StoreUnavailable) as error:
                log.warning("not_done", task=do.__name__, reason=f"{type(error).__name__}: {error}")

    async def _beat(self) -> None:
        try:
            self._sign = await self._database.beat(self._name, self._sign)
        except NameTaken as error:
            log.error("replica_name_taken", detail=str(error))
            self._sign = None
        dead = self._watch.saw(await self._database.replicas())
        for name, sign in dead.items():
            if name != self._name and await self._database.bury(name, sign):
                log.warning("replica_lost", replica=name, handed_over=await self._hand_over(name))
                await self._database.depart(name)

    async def _sweep(self) -> None:
        """Look after what nobody works on; what is old goes, by the hand of the first of those that live."""
        await self._enqueue_missing()
        if min(await self._database.replicas(), default=self._name) != self._name:
            return
        await asyncio.to_thread(self._workflows.forget_ended, FORGET_S)
        at_s = time.time()  # read before it is asked whether that can be believed: a step meanwhile is seen, a later one makes nothing old
        if not self._clock.is_steady:
            return
        if self._settings.retention_days is not None:
            await self._remove_ended(self._settings.retention_days)
        if monotonic() >= self._orphans_due_s:
            self._orphans_due_s = monotonic() + ORPHANS_S
            if orphans := await self._remove_orphans(old_at_s=at_s):
                log.info("orphans_removed", orphans=orphans)

    async def _remove_ended(self, days: float) -> None:
        before = now() - timedelta(days=days)
        old = await self._database.ended_before(before, SWEPT_AT_ONCE)
        swept = 0
        for analysis_id, tenant in old.items():
            try:
                await asyncio.to_thread(self._storage.remove, analysis_id)
            except StoreUnavailable as error:
                await asyncio.to_thread(self._storage.check)  # one that cannot be removed keeps no other; a store that is away does
                log.error("not_swept", analysis=analysis_id, detail=error.detail)
                continue
            await self._database.remove(analysis_id, audited(tenant, None, "analysis.expired", analysis_id))
            swept += 1
        if swept:
            log.info("swept", analyses=swept, days=days)

    async def _hand_over(self, replica: str | None) -> int:
        begun = await asyncio.to_thread(self._workflows.begun_by, replica)
        # The rows first: once the work is handed over, whoever takes it up says so in the row.
        await self._database.release(replica)
        await asyncio.to_thread(self._workflows.hand_over, begun)
        return len(begun)

    async def _enqueue_missing(self) -> int:
        """Rows that wait for nobody: their process died before it could enqueue them, or they come from a backup."""
        unfinished = await self._database.unfinished()
        missing = await asyncio.to_thread(self._workflows.without, list(unfinished))
        # Rows end before their work does. So what has no work, and still has not ended, has lost it.
        still = await self._database.unfinished() if missing else {}
        lost = [analysis_id for analysis_id in missing if analysis_id in still]
        for analysis_id in lost:
            await asyncio.to_thread(self._workflows.enqueue_again, analysis_id, *still[analysis_id])
        return len(lost)
