"""The epoch rule: a source's raw stamps go in, places on one timeline that never goes back come out. Kept by `frames.py`.

One for each stream. Pure integers, and nobody reads the clock on the wall. What is repaired is counted or flagged, never silent:

- no stamp: the picture has no place;
- the same stamp again: the same instant;
- a field of 32 or 33 bits that starts again at 0: a wrap, bridged exactly;
- one picture that goes back: late, no place; two in a row: the source started again, a new epoch;
- more than JUMP_S ahead in a source that carries several timelines one after another (MPEG-TS, RTP, HLS): a new epoch;
- a new session of the same camera: a new epoch at its true distance, as far as anyone knows it.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from pipelines.errors import TimestampError

JUMP_S: Final = 10
# A still camera that sends nothing for a second has stopped; five of its own intervals allow for slide shows and time lapses.
GAP_S: Final = 1
GAP_INTERVALS: Final = 5
RECENT: Final = 31
# A stream is steady when three of four recent intervals are the usual one, give or take a tick or 2 %; it then owes an explanation for
# every interval above 1.5 of them (research/streaming.md, row 7).
STEADY_SHARE: Final = 0.75
OWED: Final = 1.5
# Live pictures come in bursts and late, by a second or two (research/streaming.md, section 2.1); clocks that were set differ by more.
AGREE_S: Final = 3.0

Kind = Literal["next", "duplicate", "gap", "discontinuity", "bridged_utc", "bridged_arrival"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture belongs."""

    pts: int
    shift: int
    """What was added to the source's stamp."""
    epoch: int
    kind: Kind
    missing: int = 0
    """Pictures that a steady stream left out before this one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a live picture beside its stamp."""

    at_s: float
    """Seconds of a monotonic clock when its packet came."""
    utc_zero_s: float | None
    """UTC of stamp 0 as the sender reported it by RTCP; None until it has."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a timeline stands after a picture: all that a clock elsewhere needs to go on from there."""

    pts: int
    shift: int
    epoch: int
    time_base: Fraction
    arrival: Arrival | None


class MediaClock:
    """Keeps one timeline over one or more sessions of a source; `after` is the last picture of those that another clock kept."""

    def __init__(self, after: Mark | None = None) -> None:
        self.epoch = 0
        self.wraps = 0
        self.time_base: Fraction | None = None
        self._wrap: int | None = None
        self._jump: int | None = None
        self._gap = 1
        self._shift = 0
        self._last: int | None = None
        self._late: int | None = None
        self._unplaced = 0
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._usual: int | None = None
        self._arrival: Arrival | None = None
        self._rejoining = False
        if after is not None:
            self.epoch, self.time_base, self._arrival = after.epoch, after.time_base, after.arrival
            self._last, self._shift = after.pts, after.shift

    def join(self, time_base: Fraction, *, wrap_bits: int | None, jumps: bool) -> None:
        """Begin a session: `wrap_bits` wide stamps in ticks of `time_base`; `jumps` if one source may hold several timelines.

        Raises:
            TimestampError: an earlier session had another time base.
        """
        if self.time_base is not None and self.time_base != time_base:
            raise TimestampError("The source came back with another time base.", expected=str(self.time_base), got=str(time_base))
        self._rejoining = self._last is not None
        self.time_base = time_base
        self._wrap = None if wrap_bits is None else 2**wrap_bits
        self._jump = int(JUMP_S / time_base) if jumps else None
        self._gap = int(GAP_S / time_base)
        self._late = None

    def place(self, stamp: int | None, arrival: Arrival | None = None) -> Place | None:
        """The place of the next picture, in the order in which pictures are shown; None if it has none."""
        if stamp is None:
            self._unplaced += 1
            return None
        if self._last is None:
            return self._put(stamp, stamp, "next", arrival)
        if self._rejoining:
            return self._rejoin(stamp, arrival)
        dt = self._distance(stamp)
        if dt == 0:
            self._unplaced += 1
            return Place(self._last, self._shift, self.epoch, "duplicate")
        if dt < 0:
            return self._went_back(stamp, arrival)
        if self._jump is not None and dt > self._jump and not self._arrived_so(dt, arrival):
            return self._begin(stamp, self._last + self._step, "discontinuity", arrival)
        # Pictures that came with a wrong stamp, or none, are where they were missing.
        owes = dt > (OWED + self._unplaced) * self._step and self._is_steady
        missing = round(dt / self._step) - 1 - self._unplaced if owes else 0
        gap = dt > max(self._gap, GAP_INTERVALS * self._step)
        self._remember(dt)
        return self._put(stamp, self._last + dt, "gap" if gap else "next", arrival, missing=missing)

    def _distance(self, stamp: int) -> int:
        """Ticks from the last place to `stamp`; where stamps wrap, the shorter way round."""
        assert self._last is not None
        plain = stamp + self._shift - self._last
        if self._wrap is None:
            return plain
        half = self._wrap // 2
        return (plain + half) % self._wrap - half

    def _went_back(self, stamp: int, arrival: Arrival | None) -> Place | None:
        """One picture out of order is late. A second one that goes on from the first shows that the source started again."""
        assert self._last is not None
        if self._late is not None and stamp > self._late:
            return self._begin(stamp, self._last + self._step, "discontinuity", arrival)
        self._late = stamp
        self._unplaced += 1
        return None

    def _rejoin(self, stamp: int, arrival: Arrival | None) -> Place:
        """The camera is back: its outage is a real distance, told by the sender's clock if both sessions know it, else by arrival."""
        assert self._last is not None
        assert self.time_base is not None
        self._rejoining = False
        before, gap_s = self._arrival, None
        kind: Kind = "discontinuity"
        if before is not None and arrival is not None:
            if before.utc_zero_s is not None and arrival.utc_zero_s is not None:
                then = before.utc_zero_s + float((self._last - self._shift) * self.time_base)
                gap_s, kind = arrival.utc_zero_s + float(stamp * self.time_base) - then, "bridged_utc"
            arrived_s = arrival.at_s - before.at_s
            # A sender's clock that was set in between tells nothing.
            if gap_s is None or gap_s <= 0 or abs(gap_s - arrived_s) > AGREE_S:
                gap_s, kind = arrived_s, "bridged_arrival"
        ticks = self._step if gap_s is None else max(1, round(gap_s / self.time_base))
        return self._begin(stamp, self._last + ticks, kind, arrival)

    def _arrived_so(self, dt: int, arrival: Arrival | None) -> bool:
        """Whether a camera was silent for as long as its stamps say."""
        if arrival is None or self._arrival is None or self.time_base is None:
            return False
        return abs(arrival.at_s - self._arrival.at_s - float(dt * self.time_base)) <= AGREE_S

    def _begin(self, stamp: int, pts: int, kind: Kind, arrival: Arrival | None) -> Place:
        self.epoch += 1
        self._recent.clear()
        self._shift = pts - stamp
        return self._put(stamp, pts, kind, arrival)

    def _put(self, stamp: int, pts: int, kind: Kind, arrival: Arrival | None, *, missing: int = 0) -> Place:
        if pts - stamp != self._shift and self._last is not None:
            self.wraps += 1
        self._shift, self._last, self._late, self._unplaced, self._arrival = pts - stamp, pts, None, 0, arrival
        return Place(pts, self._shift, self.epoch, kind, missing)

    def _remember(self, dt: int) -> None:
        self._recent.append(dt)
        # Finding the median anew for each picture of a steady stream would cost more than the rest of the clock.
        if self._usual is None or abs(dt - self._usual) > self._tolerance:
            self._usual = statistics.median_low(self._recent)

    @property
    def _step(self) -> int:
        """The usual interval in ticks, of this epoch or the one before; a tick while nobody knows."""
        return self._usual or 1

    @property
    def _tolerance(self) -> int:
        return max(1, self._step // 50)

    @property
    def _is_steady(self) -> bool:
        if len(self._recent) < RECENT // 2:
            return False
        same = sum(abs(dt - self._step) <= self._tolerance for dt in self._recent)
        return same >= STEADY_SHARE * len(self._recent)
