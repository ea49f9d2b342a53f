"""The Engine: looks of many streams in, each stream's impressions out. It owns a Model and its memories, and the thread that asks it.

Streams sit at it (`seat`) and wait for their answers; what arrives within a window goes through the nets as one batch. Its queue holds at
most one request of each seat, so it is bounded by the seats. `Engines` is the door before several: one for each GPU, or for some cores.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import torch

from models.buckets import BUCKETS
from pipelines.errors import EngineClosed, ModelFailed, Overloaded
from pipelines.inference import Impression, Inference, Look
from pipelines.load import LoadController
from pipelines.model import Model
from pipelines.profile import StageClock, StageTotal
from pipelines.tracks import MAX_TRACKS

SEATS: Final = 256
"""Streams at one Engine: a bound for memory (21 kB a seat); load is the controller's to bound."""
WINDOW_S: Final = 0.003
"""How long a GPU waits for company. A CPU does not: its rows go through one by one (`models/compiled.py`)."""
BATCH_ROWS: Final = 1024
CORES_AN_ENGINE: Final = 2
"""Of a CPU: an Engine's thread is busy with the nets for a third of what a stream costs; decoding and faces take the rest."""


@dataclass(slots=True)
class _Request:
    looks: Sequence[Look]
    outcomes: list[Impression | ModelFailed] = field(default_factory=list)
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """What an Engine has done."""

    batches: int
    rows: int
    failed: int
    largest: int
    """Rows of its largest batch."""
    seats: int
    memories: int

    def __add__(self, other: EngineCounts) -> EngineCounts:
        """What two have done together."""
        largest = max(self.largest, other.largest)
        return EngineCounts(
            self.batches + other.batches,
            self.rows + other.rows,
            self.failed + other.failed,
            largest,
            self.seats + other.seats,
            self.memories + other.memories,
        )


class Engine:
    """A thread that judges for its seats. A context manager: leaving it answers whoever waits with EngineClosed.

    Args:
        model: judges; its device decides how batches are made.
        seats: streams at once.
        window_s: seconds to wait for others before a batch begins; None takes WINDOW_S on a GPU, nothing on a CPU.
        spent: where its thread's CPU seconds are added up.
        now: the monotonic clock.
    """

    def __init__(
        self,
        model: Model,
        *,
        seats: int = SEATS,
        window_s: float | None = None,
        spent: StageTotal | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        on_cpu = model.device.type == "cpu"
        self._window_s = (0.0 if on_cpu else WINDOW_S) if window_s is None else window_s
        # Whoever came first on a CPU would wait for rows that gain nothing from its company.
        self._rows = 1 if on_cpu and not self._window_s else BATCH_ROWS
        # The largest first: the smaller ones' graphs then find their memory there.
        self._warm_rows = (1,) if on_cpu else (BATCH_ROWS, *reversed(BUCKETS))
        self._now, self._most = now, seats
        # The engine's thread alone spends CPU time in the nets.
        self.clock = StageClock(time.thread_time, total=spent)
        self._inference = Inference(model, capacity=seats * MAX_TRACKS, clock=self.clock)
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._seated = self._batches = self._judged = self._failed = self._largest = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> Self:
        self._inference.warm_up(self._warm_rows)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; a batch that runs is finished, who else waits gets EngineClosed. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for request in self._waiting:
            self._refuse(request)
        self._waiting.clear()

    def seat(self) -> EngineSeat:
        """A place for one stream.

        Raises:
            Overloaded: all are taken.
        """
        with self._changed:
            if self._seated >= self._most:
                raise Overloaded("The engine has no seat left.", expected=f"fewer than {self._most} streams", got=str(self._seated))
            self._seated += 1
        return EngineSeat(self)

    @property
    def counts(self) -> EngineCounts:
        """What it has done so far."""
        with self._changed:
            return EngineCounts(self._batches, self._judged, self._failed, self._largest, self._seated, len(self._inference))

    @property
    def seated(self) -> int:
        """Streams that sit here."""
        return self._seated

    def acquire(self) -> int:
        """A memory, for a seat."""
        return self._inference.acquire()

    def release(self, slot: int) -> None:
        """Let a seat's memory go."""
        self._inference.release(slot)

    def leave(self) -> None:
        """A seat is free again."""
        with self._changed:
            self._seated -= 1
            self._changed.notify_all()

    def ask(self, looks: Sequence[Look]) -> list[Impression | ModelFailed]:
        """Put looks of one seat into the next batch and wait for what comes of each.

        Raises:
            EngineClosed: it ended before it could answer.
        """
        request = _Request(looks)
        with self._changed:
            if self._closed:
                self._refuse(request)
            else:
                self._waiting.append(request)
                self._changed.notify_all()
        request.done.wait()
        if request.error is not None:
            raise request.error
        return request.outcomes

    def _run(self) -> None:
        while batch := self._next_batch():
            outcomes = self._inference.judge_each([look for request in batch for look in request.looks])
            with self._changed:
                self._batches += 1
                self._judged += len(outcomes)
                self._failed += sum(isinstance(outcome, ModelFailed) for outcome in outcomes)
                self._largest = max(self._largest, len(outcomes))
            for request in batch:
                request.outcomes, outcomes = outcomes[: len(request.looks)], outcomes[len(request.looks) :]
                request.done.set()

    def _next_batch(self) -> list[_Request]:
        """Who waits, in the order in which they came, after a window for company; nobody when the Engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = self._now() + self._window_s
            while not self._closed and len(self._waiting) < self._seated and (left := until - self._now()) > 0:
                self._changed.wait(left)
            if self._closed:
                return []
            taken, rows = 0, 0
            while taken < len(self._waiting) and rows < self._rows:
                rows += len(self._waiting[taken].looks)
                taken += 1
            batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
            return batch

    def _refuse(self, request: _Request) -> None:
        request.error = EngineClosed("The engine was closed.", expected="a running engine", got="one that has ended")
        request.done.set()


class EngineSeat:
    """One stream's place at an Engine, for one thread; see `pipelines.inference.Seat`. Leaving gives every memory back."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._slots: set[int] = set()
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()

    def acquire(self) -> int:
        """A memory that has seen nothing."""
        slot = self.engine.acquire()
        self._slots.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Let a memory go."""
        self._slots.discard(slot)
        self.engine.release(slot)

    def judge(self, looks: Sequence[Look]) -> list[Impression]:
        """See and remember.

        Raises:
            ModelFailed: the nets fail on one of these looks; those of other seats are none of its concern.
            EngineClosed: the Engine has ended.
        """
        if not looks:
            return []
        outcomes = self.engine.ask(looks)
        for outcome in outcomes:
            if isinstance(outcome, ModelFailed):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Impression)]

    def leave(self) -> None:
        """Give everything back; may be called twice."""
        if self._left:
            return
        self._left = True
        for slot in list(self._slots):
            self.release(slot)
        self.engine.leave()


class Engines:
    """The door: streams come in, each is led to the Engine with the fewest; one LoadController says whether there is room, and how often
    to look. Another model can take over while streams run: they end with the one that they began with.

    Args:
        models: one for each device. On a CPU one is served by an Engine for every two cores.
        controller: bounds the load.
        engines_each: Engines for each model; None as said above.
    """

    def __init__(self, models: Sequence[Model], *, controller: LoadController | None = None, engines_each: int | None = None) -> None:
        if not models:
            raise ValueError("Engines: expected at least one model, got none")
        self.controller = controller or LoadController()
        self.spent = StageTotal()
        """CPU seconds of the nets and of the streams at this door, whether or not they still run."""
        self.refused = 0
        """Streams for which there was no room."""
        self._past = EngineCounts(0, 0, 0, 0, 0, 0)
        self._each = engines_each
        self._lock = threading.Lock()
        self._current: list[Engine] = []
        self._retired: list[Engine] = []
        self._models = models

    def __enter__(self) -> Self:
        self._current = self._started(self._models)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for engine in (*self._current, *self._retired):
            engine.close()

    @property
    def model(self) -> Model:
        """What new streams are judged by."""
        return self._current[0].model

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where new streams are judged, each once."""
        return tuple(dict.fromkeys(model.device for model in self._models))

    def seat(self) -> EngineSeat:
        """A place at the Engine with the fewest streams.

        Raises:
            Overloaded: there is no room; it says when to ask again.
        """
        with self._lock:
            try:
                self.controller.admit(self.seated)
                self._retire()
                return min(self._current, key=lambda engine: engine.seated).seat()
            except Overloaded:
                self.refused += 1
                raise

    @property
    def seated(self) -> int:
        """Streams that are judged now, those of earlier models too."""
        return sum(engine.seated for engine in (*self._current, *self._retired))

    @property
    def counts(self) -> list[EngineCounts]:
        """What each Engine has done, those of earlier models last."""
        return [engine.counts for engine in (*self._current, *self._retired)]

    @property
    def total(self) -> EngineCounts:
        """What all of them have done, those that are gone too: it never falls, but for seats and memories."""
        with self._lock:
            return sum(self.counts, self._past)

    def swap(self, models: Sequence[Model]) -> None:
        """Judge new streams by other models, once they are warm; streams that run end with the model that they began with."""
        started = self._started(models)
        with self._lock:
            self._retired += self._current
            self._current, self._models = started, models
            self._retire()

    def _started(self, models: Sequence[Model]) -> list[Engine]:
        with ExitStack() as failed:
            started = [
                failed.enter_context(Engine(model, spent=self.spent)) for model in models for _ in range(self._each or _engines_for(model))
            ]
            failed.pop_all()
        return started

    def _retire(self) -> None:
        for engine in [engine for engine in self._retired if not engine.seated]:
            engine.close()
            self._past += engine.counts
            self._retired.remove(engine)


def _engines_for(model: Model) -> int:
    return max(1, len(os.sched_getaffinity(0)) // CORES_AN_ENGINE) if model.device.type == "cpu" else 1
