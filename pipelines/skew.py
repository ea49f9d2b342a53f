"""Does a camera's clock run true? Arrivals and media times go in, how much faster media time runs comes out. Kept by `frames.py`.

Some cameras stamp 25 pictures a second and send 21 (research/streaming.md, row 16). The scores keep the stamps; whoever reads them is told.
"""

from __future__ import annotations

from typing import Final

# What a server has stored comes in a burst; arrivals are steady from then on.
SETTLED_S: Final = 2.0
LEAST_SPAN_S: Final = 60.0
TOLERATED: Final = 0.02


class Skew:
    """Least squares of media time on arrival, in running sums."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The timeline broke: what follows says nothing of what was before."""
        self._start: tuple[float, float] | None = None
        self._n = 0
        self._sums = [0.0] * 4
        self._span_s = 0.0

    def saw(self, arrived_s: float, t: float) -> None:
        """A picture of media time `t` came at `arrived_s` of a monotonic clock."""
        if self._start is None:
            self._start = (arrived_s, t)
        x, y = arrived_s - self._start[0], t - self._start[1]
        if x < SETTLED_S:
            return
        self._n += 1
        self._span_s = x - SETTLED_S
        for i, value in enumerate((x, y, x * x, x * y)):
            self._sums[i] += value

    @property
    def rate(self) -> float | None:
        """Seconds of media for each second that passed, where that is known and more than 2 % off; None otherwise."""
        if self._n < 2 or self._span_s < LEAST_SPAN_S:
            return None
        x, y, xx, xy = self._sums
        rate = (self._n * xy - x * y) / (self._n * xx - x * x)
        return rate if abs(rate - 1) > TOLERATED else None
