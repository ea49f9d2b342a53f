"""Which frames to look at: timestamps in, yes or no out. Asked by `frames.py` before a picture is converted."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

CLOCK_TICK_S: Final = Fraction(1, 1000)
"""Ticks up to this long are those of a clock, to which times were rounded; longer ones, as in AVI, count frames and are exact."""


class Sampler:
    """Keeps the first frame at or after each point k / hz of media time; `hz` None keeps all. Exact: no float touches a timestamp.

    A variable frame rate stays variable: a frame is never moved to the grid, it only gets chosen by it. What a clock rounded down by up
    to half a tick is not before its point: of 30 fps in milliseconds (33, 67, 100), two frames of three would be left at 30 Hz.
    """

    def __init__(self, hz: float | None) -> None:
        self._last: Fraction | None = None
        """Seconds of the frame that was kept last."""
        self.look(hz)

    def look(self, hz: float | None) -> None:
        """Another rate from the next frame on; may be called by another thread than asks.

        Raises:
            ValueError: it is no rate.
        """
        if hz is not None and not 0 < hz < float("inf"):
            raise ValueError(f"hz must be positive or None; got {hz}")
        self._hz = None if hz is None else Fraction(hz).limit_denominator(1_000_000)

    def wants(self, pts: int, time_base: Fraction) -> bool:
        """Whether the frame at `pts` is to be looked at; call once for each frame, in order."""
        hz = self._hz
        at = pts * time_base + (time_base / 2 if time_base <= CLOCK_TICK_S else 0)
        if hz is not None and self._last is not None and (at * hz).__floor__() <= (self._last * hz).__floor__():
            return False
        self._last = at
        return True
