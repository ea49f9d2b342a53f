"""LoadController: how long each score took in, how often every stream is to be looked at, and whether there is room for another, out.

Continuous time makes shedding load harmless: a stream that is looked at less often has a longer dt, not a wrong score. So when the machine
falls behind, all streams are looked at less often, alike, within stated bounds, and only then are new ones turned away. Passive.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from pipelines.errors import Overloaded

TAKE_STOCK_S: Final = 0.5
REMEMBER_S: Final = 1.0
# Of the target: beyond the first the rate falls, below the second it may rise. Between them it stays, so that it does not swing.
TIGHT: Final = 0.7
EASY: Final = 0.35
# A step down is by what is too much, but at most by half; up it goes slowly, because what a higher rate costs shows a second later.
MOST_DOWN: Final = 0.5
LEAST_DOWN: Final = 0.9
UP: Final = 1.05
# Share of looks that came too late for a newer one, at which a stream is behind, however quick those were that were taken.
LATE_SHARE: Final = 0.1
# So many newcomers may come at once, and so many a second after them. What one costs is known two seconds after it came: a latency is that
# of the last second, and the rate falls by half each half second at most. Two a second let everybody in before anything was known.
AT_ONCE: Final = 4
A_SECOND: Final = 0.5
# A newcomer is measured against the lowest rate of so many seconds: for a moment the rate is always higher than it can be held, and whoever
# asks again and again would find that moment. The rate is what keeps the latency, so it needs room to fall below what a newcomer leaves.
SURE_S: Final = 10.0
ROOM: Final = 1.25

# Finest around the target, which is what an operator wants to see kept.
LATENCY_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What became of the looks of all streams since the controller was made."""

    scored: int
    latency_sum_s: float
    """Of all that were scored."""
    within: tuple[int, ...]
    """How many were scored within each of LATENCY_BOUNDS_S."""
    missed: int
    """Frames that a newer one overtook."""
    shed: int
    """Looks that the full rate would have had and nobody got, those of `missed` among them."""


@dataclass(frozen=True, slots=True)
class LoadTargets:
    """What an operator wants."""

    latency_s: float = 0.3
    """From a frame's arrival to its score, for 95 of 100."""
    low_hz: float = 4.0
    high_hz: float = 12.0


class LoadController:
    """Keeps the latency of all streams under one target. May be used by many threads.

    Args:
        targets: what to keep.
        now: the monotonic clock, in seconds.
    """

    def __init__(self, targets: LoadTargets | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self.targets = targets or LoadTargets()
        self._now = now
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, float | None]] = deque()
        """When, and how long a score took; None for a frame that nobody could look at before the next one came."""
        self._hz = self.targets.high_hz
        self._held: deque[tuple[float, float]] = deque()
        """When stock was taken in the last SURE_S, and the rate that it left."""
        self._stock_at = now()
        self._tokens, self._tokens_at = float(AT_ONCE), now()
        self._scored_in = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._latency_sum_s = 0.0
        self._missed = self._shed = 0

    @property
    def hz(self) -> float:
        """Looks a second that every stream gets now."""
        return self._hz

    @property
    def latency_s(self) -> float | None:
        """The 95th percentile of the last second; None if nothing was scored."""
        with self._lock:
            return _p95([took for _, took in self._seen if took is not None])

    @property
    def counts(self) -> LoadCounts:
        """What it was told so far."""
        with self._lock:
            *within, scored = accumulate(self._scored_in)
            return LoadCounts(scored, self._latency_sum_s, tuple(within), self._missed, self._shed)

    def scored(self, latency_s: float) -> None:
        """A frame was scored so many seconds after it arrived."""
        with self._lock:
            self._scored_in[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
            self._latency_sum_s += latency_s
            self._note(latency_s)

    def missed(self) -> None:
        """A frame that was wanted came and was passed over, because a newer one came first."""
        with self._lock:
            self._missed += 1
            self._note(None)

    def shed(self, looks: int) -> None:
        """A stream was told of so many looks that it did not get."""
        with self._lock:
            self._shed += looks

    def admit(self, streams: int) -> None:
        """Take in another stream beside `streams`.

        Raises:
            Overloaded: it would take the others below the lowest rate, or too many came at once; `retry_after_s` says when to ask again.
        """
        with self._lock:
            at = self._now()
            self._forget(at)
            if not streams:  # nobody is scored any more, so nothing but this would tell that the load is gone
                self._hz, self._tokens = self.targets.high_hz, float(AT_ONCE)
                self._held.clear()
            held = min((hz for _, hz in self._held), default=self._hz)
            share, least = held * streams / (streams + 1), ROOM * self.targets.low_hz
            # As long as everybody gets the highest rate, nobody knows how much room is left.
            if held < self.targets.high_hz and share < least:
                raise Overloaded(
                    f"{streams} streams are as many as this machine can judge.",
                    expected=f"room for one more at {least:g} looks a second",
                    got=f"{share:.1f} a second for each",
                    retry_after_s=SURE_S / 2,
                )
            self._tokens = min(float(AT_ONCE), self._tokens + (at - self._tokens_at) * A_SECOND)
            self._tokens_at = at
            if self._tokens < 1:
                raise Overloaded(
                    "Too many streams begin at once.",
                    expected=f"at most {AT_ONCE} together and {A_SECOND:g} a second",
                    got="more",
                    retry_after_s=(1 - self._tokens) / A_SECOND,
                )
            self._tokens -= 1

    def _note(self, latency_s: float | None) -> None:
        at = self._now()
        self._seen.append((at, latency_s))
        if at - self._stock_at >= TAKE_STOCK_S:
            self._stock_at = at
            self._forget(at)
            self._take_stock()
            self._held.append((at, self._hz))

    def _forget(self, at: float) -> None:
        while self._seen and at - self._seen[0][0] > REMEMBER_S:
            self._seen.popleft()
        while self._held and at - self._held[0][0] > SURE_S:
            self._held.popleft()

    def _take_stock(self) -> None:
        took = [latency for _, latency in self._seen if latency is not None]
        missed = len(self._seen) - len(took)
        p95, target = _p95(took), self.targets.latency_s
        behind = missed > LATE_SHARE * len(self._seen)
        if behind or (p95 is not None and p95 > TIGHT * target):
            down = MOST_DOWN if p95 is None else TIGHT * target / p95
            self._hz *= min(LEAST_DOWN, max(MOST_DOWN, down))
        elif p95 is not None and p95 < EASY * target:
            self._hz *= UP
        self._hz = min(self.targets.high_hz, max(self.targets.low_hz, self._hz))


def _p95(values: list[float]) -> float | None:
    return sorted(values)[int(0.95 * (len(values) - 1) + 0.5)] if values else None
