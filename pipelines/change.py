"""Change: one number about one face, look by look, in; how much evidence there is that it has left its own past, out.

Scores differ from camera to camera by more than a fake moves them, so a rise against the stream's own past is seen where one threshold for
all sees nothing. It tells of a change, whatever changed: another light or lens is one too. Passive; one for each track.
"""

from __future__ import annotations

import math
from typing import Final

WARM_S: Final = 5.0
WARM_LOOKS: Final = 10
"""Of the past that is learnt before anything is said."""
PAST_S: Final = 60.0
"""Time constant with which the past is forgotten."""
SURE: Final = 8.0
"""Evidence at which the present is taken for another: it is not learnt as the past then. Noise gets there once in 10,000 looks."""
SLACK: Final = 0.5
MOST: Final = 3.0
"""Standard deviations of a look: below the first nothing is gathered, above the second no more, so that one odd look is none."""
LEAST_SD: Final = 0.05


class Change:
    """A one-sided cumulative sum of a rise, in standard deviations of the stream's own past (Page, Continuous inspection schemes, 1954)."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._n = 0
        self._mean = self._square = 0.0
        """Of the past; `_square` is the sum of squared deviations while it is learnt, their mean afterwards."""
        self._begun_t = self._last_t = -math.inf
        self._learning = True

    @property
    def evidence(self) -> float:
        """0 where all is as before; each look adds at most MOST - SLACK."""
        return self._sum

    def saw(self, t: float, value: float) -> float:
        """Take `value` of media time `t` (seconds, not before the last), and return the evidence."""
        if self._n == 0:
            self._begun_t = self._last_t = t
        dt, self._last_t = t - self._last_t, t
        if self._learning:
            self._learn(t, value)
            return 0.0
        deviation = (value - self._mean) / math.sqrt(self._square)
        self._sum = max(0.0, self._sum + min(MOST, deviation) - SLACK)
        if self._sum <= SURE:
            share = -math.expm1(-dt / PAST_S)
            off = max(-MOST, min(MOST, deviation)) * math.sqrt(self._square)
            self._mean += share * off
            self._square = max(LEAST_SD**2, self._square + share * (off**2 - self._square))
        return self._sum

    def _learn(self, t: float, value: float) -> None:
        self._n += 1
        before = value - self._mean
        self._mean += before / self._n
        self._square += before * (value - self._mean)
        if t - self._begun_t >= WARM_S and self._n >= WARM_LOOKS:
            self._learning = False
            self._square = max(LEAST_SD**2, self._square / (self._n - 1))
