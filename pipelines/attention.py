"""Attention: what a stream's faces have shown in, how often to look at it out, at no more work over time than a fixed rate.

A stream that shows nothing new is looked at less often than its due, and what that saves is spent when a face of it leaves its own past.
Whatever the rate, the memory is told the true dt, so looking more often says more and means nothing else. Passive; one a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipelines.change import SURE, Change
from pipelines.verdict import Score

CALM_SHARE: Final = 0.5
"""Of its due that a calm stream gets, while it has savings to make."""
MOST_SHARE: Final = 2.5
"""Of its due that a stirred one gets, while it has savings."""
SAVINGS_S: Final = 20.0
"""Seconds of its due that a stream may save up."""
HELD_S: Final = 1.0
"""It stays stirred for so long after the last sign. Surprise is none: every turn of a head has it."""
LEFT_S: Final = 60.0
"""A face that was not judged for so long is forgotten."""


class Attention:
    """Spends one stream's looks. Times are media seconds.

    Args:
        native_hz: frames a second that the source has; None where it does not say.
    """

    def __init__(self, *, native_hz: float | None = None) -> None:
        self._native_hz = native_hz or float("inf")
        self._savings = 0.0
        self._last_t: float | None = None
        self._stirred_until = -float("inf")
        self._changes: dict[int, tuple[Change, float]] = {}
        """Of each face, and when it was last judged."""

    def saw(self, t: float, scores: Sequence[Score], due_hz: float) -> None:
        """A frame was looked at; `due_hz` is the rate that this stream is due."""
        if self._last_t is not None:
            earned = (t - self._last_t) * due_hz
            self._savings = min(SAVINGS_S * due_hz, max(0.0, self._savings + earned - 1))
        self._last_t = t
        for score in scores:
            if score.artefact is not None and self._change(score.track, t).saw(t, score.artefact) > SURE:
                self._stirred_until = t + HELD_S
        self._changes = {track: kept for track, kept in self._changes.items() if t - kept[1] < LEFT_S}

    def hz(self, due_hz: float) -> float:
        """How often to look from now on."""
        if self._last_t is not None and self._last_t <= self._stirred_until:
            wanted = MOST_SHARE * due_hz if self._savings > 1 else due_hz
        else:
            wanted = CALM_SHARE * due_hz if self._savings < SAVINGS_S * due_hz - 1 else due_hz
        return min(self._native_hz, wanted)

    def _change(self, track: int, t: float) -> Change:
        change = self._changes[track][0] if track in self._changes else Change()
        self._changes[track] = change, t
        return change
