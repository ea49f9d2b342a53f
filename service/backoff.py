"""How soon to connect again: a count of failures comes in, seconds to wait go out. Asked by `live_source.py`.

Cameras fail together, when a switch or a recorder restarts, and many serve one viewer at a time: whoever comes back at once, or in step
with the others, keeps them down.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


def window_s(attempt: int) -> float:
    """The longest wait before attempt 1, 2, 3...: 1, 2, 4, up to 30 seconds."""
    return float(min(LONGEST_S, FIRST_S * 2 ** min(attempt - 1, 30)))


def full_jitter(attempt: int, draw: Callable[[], float] = random.random) -> float:
    """A wait drawn from the whole window, so that those who fell together do not rise together; `draw` gives numbers in [0, 1)."""
    return draw() * window_s(attempt)


class OpenLimiter:
    """Spaces out the connections that one process begins. For any number of threads."""

    def __init__(self, per_s: float = 4.0, now: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._now = 1 / per_s, now
        self._lock = threading.Lock()
        self._next_s = float("-inf")

    def turn(self) -> float:
        """Take the next turn; returns the seconds until it comes."""
        with self._lock:
            now = self._now()
            at = max(now, self._next_s)
            self._next_s = at + self._every_s
            return at - now
