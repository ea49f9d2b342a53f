"""How a source keeps time: every decoded timestamp goes in, one TimeReport comes out. Filled by `frames.py`; shown by `detect --profile`.

Memory does not grow with the length of the media: intervals are counted in a histogram whose bins are 1 % wide.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal

Provenance = Literal["container", "container_cfr", "rtp", "client", "arrival"]

MAX_GAPS: Final = 16
# An interval this far off the median is not the same rate any more. One tick is how a steady rate looks in a coarse time base: 33, 33,
# 34 ms.
SAME_RATE: Final = 0.02
VARIABLE_ABOVE: Final = 0.01


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A stretch of media time without pictures."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class TimeReport:
    """What is known of a source's timestamps; all numbers are of decoded frames, analysed or not."""

    provenance: Provenance
    """Who said when."""
    frames: int
    span_s: float
    """From the first timestamp to the last."""
    nominal_fps: float | None
    """What the container claims; no computation uses it."""
    true_fps: float | None
    """Frames divided by time, measured; None when not every picture was decoded or there are fewer than two."""
    median_dt_s: float | None
    min_dt_s: float | None
    max_dt_s: float | None
    variability: float
    """Share of intervals that differ from the median by more than one tick and 2 %."""
    variable: bool
    """Whether more than 1 % do."""
    index_error_s: float | None
    """How wrong a timeline of frame index / nominal rate would have been at its worst; None without a nominal rate."""
    gaps: tuple[Gap, ...]
    """The longest, in order of time; `gap_count` has all."""
    gap_count: int
    duplicates: int
    no_pts: int
    backward: int
    wraps: int
    epochs: int
    """1 for an unbroken timeline; each break that had to be bridged adds 1."""
    corrupt: int
    tainted: int
    partial: int
    decode_errors: int


@dataclass(slots=True)
class TimeKeeper:
    """Gathers what a TimeReport says about intervals; `frames.py` adds the counts."""

    time_base: Fraction
    nominal_fps: float | None
    _first: int | None = None
    _last: int | None = None
    _seen: int = 0
    _intervals: int = 0
    _index_error_s: float = 0.0
    _bins: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of the bin -> how many intervals, their sum in ticks."""
    _least: int | None = None
    _most: int | None = None
    _longest: list[tuple[int, int, int]] = field(default_factory=list)
    _gap_count: int = 0

    def saw(self, pts: int, index: int, *, gap: bool, whole: bool = True) -> None:
        """One frame: its place on the timeline, how many pictures were shown before it, and whether it follows a gap.

        Not `whole`: pictures were left out on purpose before it, and the interval says nothing of the source.
        """
        self._seen += 1
        if self._first is None or self._last is None:
            self._first = self._last = pts
            return
        dt, before, self._last = pts - self._last, self._last, pts
        if not whole:
            return
        self._intervals += 1
        number = round(100 * math.log(dt))
        count, total = self._bins.get(number, (0, 0))
        self._bins[number] = (count + 1, total + dt)
        self._least = dt if self._least is None else min(dt, self._least)
        self._most = dt if self._most is None else max(dt, self._most)
        if gap:
            self._gap_count += 1
            heapq.heappush(self._longest, (dt, before, pts))
            if len(self._longest) > MAX_GAPS:
                heapq.heappop(self._longest)
        if self.nominal_fps:
            error = abs(float((pts - self._first) * self.time_base) - index / self.nominal_fps)
            self._index_error_s = max(self._index_error_s, error)

    @property
    def span_s(self) -> float:
        """Seconds from the first timestamp to the last."""
        return 0.0 if self._first is None or self._last is None else float((self._last - self._first) * self.time_base)

    def report(self, *, provenance: Provenance, complete: bool, counts: dict[str, int]) -> TimeReport:
        """The report as of now; `counts` are TimeReport's integer fields that are counted elsewhere."""
        median = self._median()
        off = 0
        if median is not None:
            tolerance = max(1.0, SAME_RATE * median)
            off = sum(count for count, total in self._bins.values() if abs(total / count - median) > tolerance)
        variability = off / self._intervals if self._intervals else 0.0
        span = self.span_s
        return TimeReport(
            provenance=provenance,
            frames=self._seen,
            span_s=span,
            nominal_fps=self.nominal_fps,
            true_fps=self._intervals / span if complete and span > 0 else None,
            median_dt_s=None if median is None else median * float(self.time_base),
            min_dt_s=self._seconds(self._least),
            max_dt_s=self._seconds(self._most),
            variability=variability,
            variable=variability > VARIABLE_ABOVE,
            index_error_s=self._index_error_s if self.nominal_fps and complete and self._seen else None,
            gaps=tuple(sorted(Gap(float(a * self.time_base), float(b * self.time_base)) for _, a, b in self._longest)),
            gap_count=self._gap_count,
            **counts,
        )

    def _median(self) -> float | None:
        """Mean of the bin that holds the middle interval: exact for a steady rate, within half a per cent otherwise."""
        half = self._intervals / 2
        for number in sorted(self._bins):
            count, total = self._bins[number]
            half -= count
            if half <= 0:
                return total / count
        return None

    def _seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None else float(ticks * self.time_base)
