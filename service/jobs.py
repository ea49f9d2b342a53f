"""Jobs: all that the routers know of work. Ids of stored analyses come in; their rows, how far they are and when they end go out.

A thin port: `workflows.py` says who works when, `judging.py` does it, `replicas.py` sees to what others have left, the rows are the truth.
What runs here is followed as it happens; what runs on another replica, through its row.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic

import structlog
from pydantic import TypeAdapter
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from pipelines.analysis import Model, Progress
from service.database import AnalysisRow, Database
from service.judging import Judging
from service.media_sandbox import MediaSandbox
from service.outages import AWAY
from service.replicas import Replicas
from service.settings import Settings
from service.storage import Storage
from service.threshold_rows import ThresholdRows
from service.witness import Witness
from service.workflows import FAILURES, Step, Workflows

PROGRESS_INTERVAL_S = 0.1
"""Clients see at most ten progress events a second, whatever the speed of the analysis."""
NOTE_S = 1.0
"""How often the rows of what runs here are written, and looked at: somebody may have cancelled it elsewhere."""
LOOK_S = 0.5
"""How often the row of an analysis that somebody follows is read, however many follow it and however often it tells its progress."""

log = structlog.get_logger()
_progress = TypeAdapter(Progress)


@dataclass(slots=True)
class _Live:
    """What is known of one analysis beyond its row; dropped when it ends and nobody listens."""

    progress: Progress | None = None
    running: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    row: AnalysisRow | None = None
    """As one of those who listen read it for all of them."""
    due: float = 0.0
    """When it is to be read again, by the loop's clock; 0 is at once."""
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def show(self, progress: Progress) -> None:
        """It came further. The first time its row says something new too."""
        if self.progress is None:
            self.due = 0.0
        self.progress = progress
        self._wake()

    def touch(self) -> None:
        """Its row may say something new."""
        self.due = 0.0
        self._wake()

    def _wake(self) -> None:
        """Wake everyone who listens; a slow listener sees the latest state, not every one."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Update:
    """One look at an analysis: its row, and how far it is while it runs."""

    number: int
    row: AnalysisRow
    progress: Progress | None


class Jobs:
    """The work of one replica, as the routers see it; to be made on the event loop."""

    def __init__(
        self, settings: Settings, database: Database, url: URL, storage: Storage, model: Model, sandbox: MediaSandbox, witness: Witness
    ) -> None:
        self._settings, self._database = settings, database
        self._live: dict[str, _Live] = {}
        self._leaving = threading.Event()
        self._loop = asyncio.get_running_loop()
        thresholds = ThresholdRows(database)
        self._judging = Judging(settings, database, thresholds, storage, model, sandbox.reader, sandbox.credentials, witness, self._loop)
        self._workflows = Workflows(url, settings.replica, settings.workers, self._work, settings.tenants.max_running)
        self._replicas = Replicas(settings, database, storage, self._workflows)
        self._notes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what this replica left when it ended last, and begin to work.

        Raises:
            WorkflowsInUse: this process has another service.
        """
        await asyncio.to_thread(self._workflows.open)
        await self._replicas.start()
        await asyncio.to_thread(self._workflows.launch)
        self._notes = asyncio.create_task(self._note(), name="notes")

    def drain(self) -> None:
        """Begin nothing more, stop what runs within one frame, and let every listener go. Safe to call twice."""
        self._leaving.set()
        for live in self._live.values():
            live.stop.set()
            live.touch()

    async def close(self) -> None:
        """Drain, wait until what runs has kept a bookmark, and hand it over to whoever is free."""
        self.drain()
        if self._notes is not None:
            self._notes.cancel()
            await asyncio.gather(self._notes, return_exceptions=True)
            await asyncio.to_thread(self._workflows.leave)
        await self._replicas.leave()
        await asyncio.to_thread(self._workflows.close)

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._leaving.is_set()

    async def submit(self, row: AnalysisRow) -> None:
        """Have a stored row judged. Should the database be away just now, the next look at what is unfinished finds it."""
        try:
            await asyncio.to_thread(self._workflows.enqueue, row.id, row.tenant, row.priority)
        except FAILURES as error:
            log.warning("enqueued_later", analysis=row.id, reason=type(error).__name__)

    def progress(self, row: AnalysisRow) -> Progress | None:
        """How far a running analysis is, here or on another replica."""
        live = self._live.get(row.id)
        if row.status != "running":
            return None
        if live is not None and live.progress is not None:
            return live.progress
        return None if row.progress is None else _progress.validate_json(row.progress)

    async def cancel(self, analysis_id: str, timeout_s: float) -> AnalysisRow | None:
        """End an analysis that has not ended; the row as it is then, None when it was deleted. What runs here has stopped by then."""
        ended = [await self._database.move(analysis_id, status, "cancelled") for status in ("queued", "running")]
        if any(ended):
            await self._let_nobody_begin(analysis_id)
            if live := self._live.get(analysis_id):
                live.stop.set()
                live.touch()
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        while live.running:
                            await live.changed.wait()
        return await self._database.get(analysis_id)

    async def _let_nobody_begin(self, analysis_id: str) -> None:
        try:
            await asyncio.to_thread(self._workflows.cancel, analysis_id)
        except FAILURES as error:  # whoever takes it up finds that its row has ended
            log.warning("cancelled_in_its_row", analysis=analysis_id, reason=type(error).__name__)

    async def wait(self, analysis_id: str, timeout_s: float) -> AnalysisRow | None:
        """The row once it has ended, or as it was when last seen within `timeout_s` seconds; None if it was not, or is deleted."""
        last: AnalysisRow | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for update in self.follow(analysis_id):
                    last = update.row
        return last

    async def follow(self, analysis_id: str) -> AsyncGenerator[Update]:
        """What happens to an analysis: its state now, then each change, until it has ended, is deleted or the service stops.

        While the database is away, nothing is seen to happen.
        """
        live = self._live.setdefault(analysis_id, _Live())
        live.listeners += 1
        number, told = 0, None
        try:
            while True:
                changed = live.changed
                with suppress(*AWAY):
                    row = await self._look(analysis_id, live)
                    if row is None:
                        return
                    progress = self.progress(row)
                    if (row.status, progress) != told:
                        number, told = number + 1, (row.status, progress)
                        yield Update(number, row, progress)
                    if row.ended:
                        return
                if self.draining:
                    return
                try:
                    # It is not due at a time of its own after a look that failed.
                    async with asyncio.timeout_at(live.due or self._loop.time() + LOOK_S):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            live.listeners -= 1
            self._forget(analysis_id)

    async def _look(self, analysis_id: str, live: _Live) -> AnalysisRow | None:
        async with live.reading:
            if live.due <= self._loop.time():
                live.due, due = inf, 0.0
                try:
                    live.row = await self._database.get(analysis_id)
                    # From its end on: a slow database would be asked again at once, by each listener in turn.
                    due = self._loop.time() + LOOK_S
                finally:
                    if live.due == inf:  # else it was touched while it was read
                        live.due = due
            return live.row

    def _work(self, analysis_id: str, step: Step) -> None:
        """In a worker's thread."""
        live = asyncio.run_coroutine_threadsafe(self._enter(analysis_id), self._loop).result()
        try:
            self._judging.work(analysis_id, step, _Guide(self._loop, live, self._leaving))
        finally:
            self._loop.call_soon_threadsafe(self._exit, analysis_id, live)

    async def _enter(self, analysis_id: str) -> _Live:
        live = self._live.setdefault(analysis_id, _Live())
        live.running = True
        live.listeners += 1
        live.touch()
        return live

    def _exit(self, analysis_id: str, live: _Live) -> None:
        live.running = False
        live.progress = None
        live.stop.clear()
        live.listeners -= 1
        live.touch()
        self._forget(analysis_id)

    async def _note(self) -> None:
        """Write down how far what runs here is, and stop what is not ours any more."""
        while True:
            await asyncio.sleep(NOTE_S)
            for analysis_id, live in list(self._live.items()):
                if not live.running or live.progress is None:
                    continue
                try:
                    told = _progress.dump_json(live.progress).decode()
                    if not await self._database.note(analysis_id, self._settings.replica, progress=told):
                        live.stop.set()
                except SQLAlchemyError as error:
                    log.warning("progress_not_noted", analysis=analysis_id, reason=type(error).__name__)

    def _forget(self, analysis_id: str) -> None:
        live = self._live.get(analysis_id)
        if live is not None and live.listeners == 0:
            del self._live[analysis_id]


class _Guide:
    """Takes an analysis's progress from its thread to the event loop, at most ten times a second, and its stop the other way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, live: _Live, leaving: threading.Event) -> None:
        self._loop, self._live, self._leaving = loop, live, leaving
        self._due = 0.0

    @property
    def leaving(self) -> bool:
        """Whether this replica stops."""
        return self._leaving.is_set()

    def stopped(self) -> bool:
        """Whether the analysis is to stop."""
        return self._live.stop.is_set() or self._leaving.is_set()

    def show(self, progress: Progress) -> None:
        """It came so far."""
        if monotonic() >= self._due:
            self._due = monotonic() + PROGRESS_INTERVAL_S
            self._loop.call_soon_threadsafe(self._live.show, progress)
