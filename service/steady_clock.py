"""Whether the wall clock may say what is old: the wall clock and the monotonic one come in, a yes or no goes out. Asked by `replicas.py`.

What a clock says that was just set, by hours or by days, is no reason to remove anything for good: it may be set back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

STEP_S: Final = 60.0
"""Clocks that are only corrected differ by less between two questions."""
STEADY_S: Final = 3600.0
"""After a step somebody has so long to notice."""


class SteadyClock:
    """Compares the two whenever it is asked.

    Args:
        wall: seconds since the epoch, as somebody may set them.
        clock: seconds that only go forward.
    """

    def __init__(self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._clock = wall, clock
        self._ahead_s = self._wall() - clock()
        self._stepped_s = float("-inf")

    @property
    def is_steady(self) -> bool:
        """Whether it made no step lately."""
        now_s = self._clock()
        ahead_s = self._wall() - now_s
        if abs(ahead_s - self._ahead_s) > STEP_S:
            self._stepped_s = now_s
        self._ahead_s = ahead_s
        return now_s - self._stepped_s >= STEADY_S
