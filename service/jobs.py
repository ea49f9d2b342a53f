"""Work: the id of a stored analysis comes in, its row ends and its evidence lies on disk. `analyses.py` submits, cancels, waits, listens.

The seam where a durable engine goes: submit, cancel, wait, follow, start, close are all that the routers know. The table is the queue;
a worker takes the oldest queued row, runs `analyse` in a thread of its own, and moves the row on in single transactions.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

import structlog
from sqlalchemy.exc import SQLAlchemyError

from pipelines.analysis import Model, Progress, analyse
from pipelines.errors import AnalysisCancelled, PipelineError
from pipelines.media import Reader
from service.database import AnalysisRow, Database
from service.problems import DiskFull, ServiceError, StoreUnavailable, internal_problem, problem_of
from service.recipe import recipe
from service.report import crop_images
from service.schemas import AnalysisResult, Problem, timeline
from service.settings import Settings
from service.storage import Storage
from service.witness import Witness

PROGRESS_INTERVAL_S = 0.1
"""Clients see at most ten progress events a second, whatever the speed of the analysis."""

RETRY_S = 1.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Live:
    """What is known of one analysis beyond its row; dropped when it ends and nobody listens."""

    progress: Progress | None = None
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def touch(self) -> None:
        """Wake everyone who listens; a slow listener sees the latest state, not every one."""
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Update:
    """One look at an analysis: its row, and how far it is while it runs."""

    version: int
    row: AnalysisRow
    progress: Progress | None


class Jobs:
    """Runs the queued analyses of one database in this process."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, model: Model, read: Reader, witness: Witness) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._model = model
        self._recipe = recipe(settings, model)
        self._read = read
        self._witness = witness
        self._live: dict[str, _Live] = {}
        self._queued = asyncio.Event()
        self._closing = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="analysis")
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Queue again what a dead process left running, remove what it left half uploaded, and start to work."""
        requeued = await self._database.requeue_running()
        orphans = await self._remove_orphans()
        if requeued or orphans:
            log.info("recovered", requeued=requeued, orphans=orphans)
        self._workers = [asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(self._settings.workers)]
        self._queued.set()

    def drain(self) -> None:
        """Take no more work, stop what runs within one frame, and let every listener go. Safe to call twice."""
        self._closing.set()
        self._queued.set()
        for live in self._live.values():
            live.stop.set()
            live.touch()

    async def close(self) -> None:
        """Drain, and wait until running analyses are queued again for the next process."""
        self.drain()
        await asyncio.gather(*self._workers)
        self._threads.shutdown()

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._closing.is_set()

    def submit(self) -> None:
        """A row was queued."""
        self._queued.set()

    def progress(self, analysis_id: str) -> Progress | None:
        """How far a running analysis is."""
        live = self._live.get(analysis_id)
        return live.progress if live else None

    async def cancel(self, analysis_id: str, timeout_s: float) -> AnalysisRow | None:
        """Ask an analysis to stop, and wait for it; the row as it is then, None when it was deleted."""
        if await self._database.move(analysis_id, "queued", "cancelled"):
            self._touch(analysis_id)
        else:
            # A row that was claimed this very moment has no `_Live` yet: leave the wish where its worker will find it.
            self._live.setdefault(analysis_id, _Live()).stop.set()
        return await self.wait(analysis_id, timeout_s)

    async def wait(self, analysis_id: str, timeout_s: float) -> AnalysisRow | None:
        """The row once it has ended, or as it is after `timeout_s` seconds; None when it was deleted."""
        last: AnalysisRow | None = None
        try:
            async with asyncio.timeout(timeout_s):
                async for update in self.follow(analysis_id):
                    last = update.row
        except TimeoutError:
            return await self._database.get(analysis_id)
        return last

    async def follow(self, analysis_id: str) -> AsyncGenerator[Update]:
        """What happens to an analysis: its state now, then each change, until it has ended, is deleted or the service stops."""
        live = self._live.setdefault(analysis_id, _Live())
        live.listeners += 1
        try:
            while True:
                changed, version = live.changed, live.version
                row = await self._database.get(analysis_id)
                if row is None:
                    return
                yield Update(version, row, live.progress if row.status == "running" else None)
                if row.ended or self.draining:
                    return
                await changed.wait()
        finally:
            live.listeners -= 1
            self._forget(analysis_id)

    async def _remove_orphans(self) -> list[str]:
        try:
            return await asyncio.to_thread(self._storage.remove_orphans, await self._database.ids())
        except StoreUnavailable as error:  # what waits can be done when the store is back; until then nobody is told that this is ready
            log.warning("orphans_left", detail=error.detail)
            return []

    async def _work(self) -> None:
        while not self.draining:
            self._queued.clear()
            try:
                row = await self._database.claim_next()
                if row is None:
                    await self._queued.wait()
                else:
                    await self._run(row)
            except SQLAlchemyError:
                log.exception("database_failed", retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _run(self, row: AnalysisRow) -> None:
        """One analysis from `running` to its end. The last boundary: whatever fails is recorded in the row and the log."""
        live = self._live.setdefault(row.id, _Live())
        live.listeners += 1
        live.touch()
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._threads, self._judge, row, live, _publisher(loop, live))
            score = result.score
            facts = {"verdict": result.verdict, "sentence": result.sentence, "p": score.p, "recipe": self._recipe}
            await self._database.move(row.id, "running", "succeeded", **facts)
            log.info("analysis_succeeded", analysis=row.id, verdict=result.verdict, p=score.p)
        except AnalysisCancelled:
            if self.draining:
                await self._database.move(row.id, "running", "queued", started_at=None)
            else:
                await self._database.move(row.id, "running", "cancelled")
            log.info("analysis_stopped", analysis=row.id, queued_again=self.draining)
        except (StoreUnavailable, DiskFull) as error:  # it is not the media's fault: nothing is lost by waiting
            await self._database.move(row.id, "running", "queued", started_at=None)
            log.warning("analysis_put_back", analysis=row.id, problem=error.slug, detail=error.detail, retry_s=RETRY_S)
            await asyncio.sleep(RETRY_S)
        except (PipelineError, ServiceError) as error:
            await self._fail(row.id, problem_of(error, instance=f"/v1/analyses/{row.id}"))
            log.warning("analysis_failed", analysis=row.id, problem=error.slug, detail=error.detail)
        except Exception:
            await self._fail(row.id, internal_problem(instance=f"/v1/analyses/{row.id}", request_id=row.id))
            log.exception("analysis_crashed", analysis=row.id, request_id=row.id)
        finally:
            live.progress = None
            live.listeners -= 1
            live.touch()
            self._forget(row.id)

    async def _fail(self, analysis_id: str, problem: Problem) -> None:
        await self._database.move(analysis_id, "running", "failed", problem=problem.model_dump_json())

    def _judge(self, row: AnalysisRow, live: _Live, publish: Callable[[Progress], None]) -> AnalysisResult:
        """In the worker's thread: analyse, and put the evidence on disk before anyone says `succeeded`."""
        with self._witness.analysis(row.id) as ended, self._storage.media_file(row.id) as media:
            report = analyse(
                media,
                self._model,
                hz=self._settings.hz,
                limits=self._settings.limits,
                read=self._read,
                on_progress=publish,
                cancelled=live.stop.is_set,
            )
            result = AnalysisResult.from_report(report, sha256=row.sha256)
            if live.stop.is_set():
                raise AnalysisCancelled
            self._storage.write_evidence(row.id, result, timeline(report), crop_images(report))
            ended(report)
            return result

    def _touch(self, analysis_id: str) -> None:
        if live := self._live.get(analysis_id):
            live.touch()

    def _forget(self, analysis_id: str) -> None:
        live = self._live.get(analysis_id)
        if live is not None and live.listeners == 0:
            del self._live[analysis_id]


def _publisher(loop: asyncio.AbstractEventLoop, live: _Live) -> Callable[[Progress], None]:
    """A callback for the worker's thread that hands its progress to the event loop, at most ten times a second."""
    due = 0.0

    def show(progress: Progress) -> None:
        live.progress = progress
        live.touch()

    def publish(progress: Progress) -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + PROGRESS_INTERVAL_S
            loop.call_soon_threadsafe(show, progress)

    return publish
