"""A live stream: Frames as they arrive in; scores as soon as they can be had, and word of every look that was left out, go out.

A camera does not wait, so the newest frame is looked at and those it overtakes are passed over: latency is bounded by what one look takes,
whatever the load. How often to look is the LoadController's to say, and the stream's own Attention's. A recording that comes as a stream
does wait: a `patient` stream looks at every frame, and holds the giver back instead. Passive: whoever reads frames calls `offer` (or
`follow`, for a source that is pulled), and another thread of the caller's lives in `run`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import Final, Self

from pipelines.analysis import Analysis
from pipelines.attention import Attention
from pipelines.engine import Engines
from pipelines.errors import ModelFailed
from pipelines.media import BREAKS, Frame, Frames
from pipelines.profile import StageClock
from pipelines.time_report import Provenance
from pipelines.verdict import Score, StageTime, Verdict

HORIZON_S: Final = 600.0
"""Media that a live verdict is about; what is older is forgotten, so that a camera may run for ever."""
TELL_EVERY_S: Final = 1.0
FAILURES: Final = 10
"""Frames in a row on which the nets may fail before the stream does."""


@dataclass(frozen=True, slots=True)
class Took:
    """Where the seconds between a frame's arrival and its scores went."""

    decode_s: float
    """From its last packet to the decoded picture; 0 for a source that is not live, whose packets do not come but are fetched."""
    wait_s: float
    """Until the frame before it was done with."""
    look_s: float
    """Faces, encoder and memory, with the wait for the other streams of a batch."""

    @property
    def all_s(self) -> float:
        """From arrival to score."""
        return self.decode_s + self.wait_s + self.look_s


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A frame was looked at; without a face `scores` is empty."""

    pts: int
    time_base: Fraction
    scores: tuple[Score, ...]
    took: Took
    provenance: Provenance
    shift: int
    """As the Frame's: `pts - shift` is the stamp that the source gave."""


@dataclass(frozen=True, slots=True)
class Shed:
    """So many looks were left out between two PTS, because the machine had no time for them."""

    n: int
    first_pts: int
    last_pts: int
    time_base: Fraction


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """The nets failed on a frame; the stream goes on."""

    pts: int
    time_base: Fraction
    error: ModelFailed


LiveEvent = Scored | Shed | Failed


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The newest frame, when it came and when it was offered, and how many it overtook."""

    frame: Frame
    arrived_s: float
    offered_s: float
    overtaken: int


@dataclass(frozen=True, slots=True)
class _Moment:
    pts: int
    time_base: Fraction


@dataclass(slots=True)
class LiveCounts:
    """What happened to the frames of one stream: offered = looked_at + passed_over + failed + at most one that waits."""

    offered: int = 0
    looked_at: int = 0
    passed_over: int = 0
    """Frames that a newer one overtook while the one before was looked at."""
    failed: int = 0
    shed: int = 0
    """Looks that the full rate would have had and this stream did not, those of `passed_over` among them."""


class LiveStream:
    """One stream at a door of Engines. A context manager that gives its seat back.

    Args:
        engines: where there may be a seat.
        native_hz: frames a second that the source has, if it says so.
        attentive: look more often at what stirs and less at what is calm; else at the rate that everybody gets.
        patient: look at every frame that is offered, and let `offer` wait until the one before was taken.
        now: the monotonic clock.

    Raises:
        Overloaded: there is no room.
    """

    def __init__(
        self,
        engines: Engines,
        *,
        native_hz: float | None = None,
        attentive: bool = True,
        patient: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controller, self._now = engines.controller, now
        self._seat = engines.seat()
        self.model = self._seat.engine.model
        self.clock = StageClock(time.thread_time, total=engines.spent)
        self._analysis = Analysis(self.model, seat=self._seat, clock=self.clock, horizon_s=HORIZON_S, sparing=not patient)
        self._native_hz = native_hz
        self._attention = Attention(native_hz=native_hz) if attentive and not patient else None
        self._patient = patient
        self.counts = LiveCounts()
        self._changed = threading.Condition()
        self._next: _Waiting | None = None
        self._ended = False
        self._looked: _Moment | None = None
        self._told_pts = 0
        self._left_out = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
        self._analysis.close()
        self._seat.leave()

    @property
    def hz(self) -> float:
        """How often to look at this stream now, for whoever samples its frames (`Frames.look`)."""
        due = self._controller.hz
        return due if self._attention is None else self._attention.hz(due)

    def offer(self, frame: Frame) -> bool:
        """Here is the newest frame; waits only if the stream is patient. It came at `frame.arrival`, or now.

        Returns whether anybody will look at it: False once the stream has ended, or failed.
        """
        with self._changed:
            if self._patient:
                self._changed.wait_for(lambda: self._next is None or self._ended)
            if self._ended:
                return False
            self.counts.offered += 1
            overtaken = 0
            if self._next is not None:
                overtaken = self._next.overtaken + 1
                self.counts.passed_over += 1
                self._controller.missed()
                # A break of time before a frame that nobody looks at is one before the next.
                if lost := self._next.frame.flags & BREAKS:
                    frame = replace(frame, flags=frame.flags | lost)
            now = self._now()
            self._next = _Waiting(frame, now if frame.arrival is None else min(now, frame.arrival.at_s), now, overtaken)
            self._changed.notify_all()
            return True

    def follow(self, frames: Frames) -> None:
        """Offer every frame of an opened source as it comes, at the rate that is wanted then; returns when it ends, or the stream has."""
        asked = None
        for frame in frames:
            if not self.offer(frame):
                return
            if (hz := self.hz) != asked:
                frames.look(hz)
                asked = hz

    def end(self) -> None:
        """No more frames come: `run` looks at the one that waits, and returns."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def run(self, tell: Callable[[LiveEvent], None]) -> Verdict:
        """Look at frames until the stream ends; `tell` is called in this thread. Returns the verdict on the last HORIZON_S.

        Raises:
            ModelFailed: the nets failed on FAILURES frames in a row.
            EngineClosed: the Engine has ended.
            TimestampError: a frame was older than the one before it, or of another time base.
        """
        try:
            self._look(tell)
        finally:
            self.end()
        self._tell_shed(tell)
        return self.verdict()

    def _look(self, tell: Callable[[LiveEvent], None]) -> None:
        failures = 0
        while (taken := self._take()) is not None:
            frame, began_s = taken.frame, self._now()
            self._count_shed(frame, taken.overtaken, tell)
            try:
                scores = self._analysis.push(frame)
            except ModelFailed as error:
                failures += 1
                self.counts.failed += 1
                tell(Failed(frame.pts, frame.time_base, error))
                if failures == FAILURES:
                    raise
                continue
            failures = 0
            self.counts.looked_at += 1
            if self._attention is not None:
                self._attention.saw(frame.t, scores, self._controller.hz)
            took = Took(taken.offered_s - taken.arrived_s, began_s - taken.offered_s, self._now() - began_s)
            self._controller.scored(took.all_s)
            tell(Scored(frame.pts, frame.time_base, tuple(scores), took, frame.provenance, frame.shift))

    def verdict(self) -> Verdict:
        """The verdict on the last HORIZON_S; to be asked in `run`'s thread, or after it."""
        return self._analysis.finish()

    @property
    def stages(self) -> tuple[StageTime, ...]:
        """CPU seconds that this stream's thread spent; the nets' are on the Engine's clock."""
        return self.clock.times()

    def _take(self) -> _Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._ended)
            taken, self._next = self._next, None
            if self._patient:
                self._changed.notify_all()
            return taken

    def _count_shed(self, frame: Frame, passed_over: int, tell: Callable[[LiveEvent], None]) -> None:
        """What was left out since the last look: frames that were overtaken, and what the full rate has beyond the present one."""
        before, self._looked = self._looked, _Moment(frame.pts, frame.time_base)
        self._left_out += passed_over
        if before is None:
            self._told_pts = frame.pts
            return
        if not self._patient and not frame.flags & BREAKS:
            full_hz = min(self._controller.targets.high_hz, self._native_hz or math.inf)
            self._left_out += float((frame.pts - before.pts) * frame.time_base) * max(0.0, full_hz - self._controller.hz)
        if float((frame.pts - self._told_pts) * frame.time_base) >= TELL_EVERY_S:
            self._tell_shed(tell)

    def _tell_shed(self, tell: Callable[[LiveEvent], None]) -> None:
        if self._looked is None:
            return
        if n := int(self._left_out):
            self.counts.shed += n
            self._controller.shed(n)
            self._left_out -= n
            tell(Shed(n, self._told_pts, self._looked.pts, self._looked.time_base))
        self._told_pts = self._looked.pts
