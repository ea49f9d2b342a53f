"""Renditions: an analysis comes in, H.264 of its media that browsers play goes out, made once, when somebody wants it. One of `Rooms`.

A maker runs in a thread here and a decode child beside it; what it makes is kept whole or not at all, so one that was killed left nothing,
and whoever asks next begins again. Of two replicas each may make one: they are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Final, Literal

import structlog

from models.errors import Refusal
from pipelines.errors import PipelineError
from pipelines.frames import read_frames
from pipelines.media import Limits
from pipelines.rendition import RenditionTerms, encode
from service.database import Database
from service.media_sandbox import MediaSandbox
from service.outages import AWAY
from service.problems import ServiceError, StoreUnavailable
from service.storage import Rendition, Storage

MAKERS: Final = 1
"""At once; each takes a core."""
MOST_WAITING: Final = 16
WAIT_S: Final = 2.0
"""How long whoever asks is kept waiting, so that a short clip comes at once."""
REMEMBERED: Final = 256
AGAIN_S: Final = 600.0
"""How long a failure is told again without another try."""

Outcome = Literal["made", "failed", "stopped"]

log = structlog.get_logger()


class RenditionsBusy(ServiceError):
    slug = "renditions-busy"
    title = "Too many renditions are being made"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        """When there may be room."""
        return {"Retry-After": "10"}


class RenditionStopped(ServiceError):
    """Its analysis was deleted, or the service stops."""

    slug = "rendition-stopped"
    title = "The rendition is not made any more"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        """Another replica may make it, or this one when it is back."""
        return {"Retry-After": "2"}


@dataclass(slots=True)
class Making:
    """A rendition under way."""

    t: float = 0.0
    """Media seconds that are in it."""
    duration_s: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=monotonic)
    patience: asyncio.Timeout | None = None
    """While it waits for its turn."""

    def end(self) -> None:
        """Have it stopped: at once while it waits for its turn, else at the next `check`. May be called twice."""
        self.stop.set()
        if self.patience is not None:
            self.patience.reschedule(0)
            self.patience = None

    def check(self) -> None:
        """Raise RenditionStopped if it is to end."""
        if self.stop.is_set():
            raise _stopped()


def _stopped() -> RenditionStopped:
    return RenditionStopped("The rendition was stopped before its end.", expected="to be made to the end", got="a request to stop")


class Renditions:
    """The renditions of one replica; to be used on the event loop."""

    def __init__(self, storage: Storage, database: Database, sandbox: MediaSandbox, limits: Limits, terms: RenditionTerms) -> None:
        self._storage, self._database, self._sandbox = storage, database, sandbox
        self._limits, self._terms = limits, terms
        self._under_way: dict[str, tuple[Making, asyncio.Task[Rendition | Exception]]] = {}
        self._failed: OrderedDict[str, tuple[PipelineError, float]] = OrderedDict()
        self._places = asyncio.Semaphore(MAKERS)
        self.counts: Counter[Outcome] = Counter()
        """What became of those that were begun here."""

    @property
    def under_way(self) -> int:
        """How many are being made, or wait for it."""
        return len(self._under_way)

    async def find(self, analysis_id: str) -> Rendition | Making:
        """The rendition; or how far it is, after a moment in which it did not come to its end. Whoever is first has it made.

        Raises:
            PipelineError: it cannot be made.
            RenditionsBusy, RenditionStopped: too many others are to be made first; nobody goes on with it.
            UnknownEvidence, StoreUnavailable, DiskFull: its media is gone, or it cannot be kept now.
        """
        if analysis_id not in self._under_way:
            if (kept := await asyncio.to_thread(self._storage.rendition, analysis_id)) is not None:
                return kept
            if (failure := self._failed.get(analysis_id)) is not None and monotonic() < failure[1]:
                raise failure[0].with_traceback(None)
            self._begin(analysis_id)
        making, task = self._under_way[analysis_id]
        done, _ = await asyncio.wait({task}, timeout=WAIT_S)
        if not done:
            return making
        outcome = task.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drop(self, analysis_id: str) -> None:
        """Have nobody make this one any more: its analysis is deleted."""
        self._failed.pop(analysis_id, None)
        if (under_way := self._under_way.get(analysis_id)) is not None:
            under_way[0].end()
            await asyncio.wait({under_way[1]})

    async def close(self) -> None:
        """Stop them all."""
        tasks = [task for _, task in self._under_way.values()]
        for making, _ in self._under_way.values():
            making.end()
        await asyncio.gather(*tasks)

    def _begin(self, analysis_id: str) -> None:
        if analysis_id in self._under_way:  # somebody else did, while this one looked
            return
        if len(self._under_way) >= MAKERS + MOST_WAITING:
            raise RenditionsBusy("No other rendition is begun now.", expected=f"at most {MOST_WAITING} that wait", got="one more")
        making = Making()
        self._under_way[analysis_id] = (making, asyncio.create_task(self._run(analysis_id, making), name="rendition"))

    async def _run(self, analysis_id: str, making: Making) -> Rendition | Exception:
        """Make one. What goes wrong is told to whoever waits, and to the log."""
        try:
            async with self._turn(making):
                made = await asyncio.to_thread(self._make, analysis_id, making)
            await self._remove_if_deleted(analysis_id)
        except RenditionStopped as stopped:
            self.counts["stopped"] += 1
            log.info("rendition_stopped", analysis=analysis_id)
            return stopped
        except Exception as error:
            self.counts["failed"] += 1
            if isinstance(error, Refusal):
                log.warning("rendition_failed", analysis=analysis_id, problem=error.slug, detail=error.detail)
            else:
                log.exception("rendition_crashed", analysis=analysis_id)
            if isinstance(error, PipelineError):
                self._failed[analysis_id] = (error, monotonic() + AGAIN_S)
                while len(self._failed) > REMEMBERED:
                    self._failed.popitem(last=False)
            return error
        finally:
            del self._under_way[analysis_id]
        self.counts["made"] += 1
        log.info("rendition_made", analysis=analysis_id, size_bytes=made.size_bytes, took_s=round(monotonic() - making.began, 1))
        return made

    @asynccontextmanager
    async def _turn(self, making: Making) -> AsyncIterator[None]:
        """One of the places, as soon as there is one; raises RenditionStopped once it is to end."""
        making.check()
        try:
            async with asyncio.timeout(None) as making.patience:
                await self._places.acquire()
        except TimeoutError:
            raise _stopped() from None
        finally:
            making.patience = None
        try:
            making.check()  # its turn came in the moment in which it was ended
            yield
        finally:
            self._places.release()

    async def _remove_if_deleted(self, analysis_id: str) -> None:
        """It may have been deleted by another replica meanwhile. While nobody knows, whoever removes orphans does it."""
        try:
            if await self._database.get(analysis_id) is None:
                await asyncio.to_thread(self._storage.remove, analysis_id)
        except (*AWAY, StoreUnavailable) as error:
            log.warning("rendition_left", analysis=analysis_id, reason=type(error).__name__)

    def _make(self, analysis_id: str, making: Making) -> Rendition:
        """In a thread."""
        # Somebody may have looked for it while the one before was being kept.
        if (kept := self._storage.rendition(analysis_id)) is not None:
            return kept
        with self._storage.media_file(analysis_id) as media, self._storage.scratch_file() as (path, file):
            if self._sandbox.supported():
                self._encode_in_child(media, file, making)
            else:
                with read_frames(media, hz=None, limits=self._limits) as frames:
                    encode(frames, frames.media, file, self._terms, pixel_aspect=frames.pixel_aspect)
            making.check()
            file.seek(0)
            rendition = Rendition(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
            self._storage.write_rendition(analysis_id, path, rendition)
            return rendition

    def _encode_in_child(self, media: Path, file: FileIO, making: Making) -> None:
        check: Callable[[], None] = making.check
        with self._sandbox.encode(media, self._terms, limits=self._limits, idle=check) as made:
            making.duration_s = made.media.declared_duration_s
            for piece in made.written():
                making.check()
                making.t = piece.t
                self._storage.put_at(file, piece.at, piece.data)
