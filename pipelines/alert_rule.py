"""When a face is worth an alert: the looks at one stream come in, alerts that begin and end go out. Asked by `service/feed_watch.py`.

A rule has a threshold, a shortest duration, a lower threshold to end (hysteresis) and a cool-down. Times are media seconds, exact. A look
that was not judged is no low score: it says nothing, and an alert ends when nothing was said for too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

UNSEEN_S: Final = 2.0
"""Of media: what is not judged for longer may be another face by then (the memories' own limit)."""

EndCause = Literal["below", "unseen", "stopped"]
"""`below`: its score fell under the lower threshold. `unseen`: it was not judged for too long, or the timeline broke. `stopped`: nobody
looks any more."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Of one stream.

    Raises:
        ValueError: it contradicts itself.
    """

    threshold: float
    """Probability from which on a face counts, in (0, 1]."""
    end_threshold: float
    """Probability below which an alert ends; at most `threshold`."""
    min_s: float
    """Seconds for which a face must stay at or above `threshold` before there is an alert."""
    cooldown_s: float
    """Seconds after an alert in which the stream begins no other."""
    unseen_s: float = UNSEEN_S
    """Longest distance of two judged looks at a face that an alert may span."""

    def __post_init__(self) -> None:
        if not 0 < self.end_threshold <= self.threshold <= 1:
            raise ValueError(f"expected 0 < end_threshold <= threshold <= 1, got {self.end_threshold} and {self.threshold}")
        if not (self.min_s >= 0 and self.cooldown_s >= 0 and self.unseen_s > 0):
            raise ValueError(f"expected no negative durations, got {self.min_s}, {self.cooldown_s}, {self.unseen_s}")


@dataclass(frozen=True, slots=True)
class Alert:
    """A face that stayed high, as it is when it begins, and again when it ends."""

    track: int
    began: Fraction
    """The first look of the run, `min_s` or more before the alert is told."""
    last: Fraction
    """The newest judged look that belongs to it."""
    peak: float
    peak_at: Fraction
    longest: Fraction
    """The longest distance of two judged looks that it spans."""
    ended: EndCause | None = None

    @property
    def seconds(self) -> Fraction:
        """How long it has lasted, as far as that was seen."""
        return self.last - self.began


@dataclass(slots=True)
class _Run:
    """Looks at one face in a row that were high."""

    track: int
    began: Fraction
    last: Fraction
    peak: float
    peak_at: Fraction
    longest: Fraction = Fraction(0)
    told: bool = False

    def saw(self, t: Fraction, p: float) -> None:
        self.longest = max(self.longest, t - self.last)
        self.last = t
        if p > self.peak:
            self.peak, self.peak_at = p, t

    def alert(self, ended: EndCause | None = None) -> Alert:
        return Alert(self.track, self.began, self.last, self.peak, self.peak_at, self.longest, ended)


class AlertWatch:
    """Applies a rule to the looks of one stream, in their order."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self._runs: dict[int, _Run] = {}
        self._quiet_until: Fraction | None = None

    @property
    def open(self) -> list[Alert]:
        """Alerts that have begun and not ended, as they are now."""
        return [run.alert() for run in self._runs.values() if run.told]

    def look(self, t: Fraction, faces: Mapping[int, float | None]) -> list[Alert]:
        """A picture at `t` was looked at: the probability of each face in it by track, None where it was not judged.

        Returns:
            What ended, and then what began, by this look.
        """
        ended = [alert for run in list(self._runs.values()) if t - run.last > self.rule.unseen_s for alert in self._over(run, "unseen")]
        began = []
        for track, p in faces.items():
            if p is None:
                continue
            run = self._runs.get(track)
            if p < (self.rule.end_threshold if run is not None and run.told else self.rule.threshold):
                ended += self._over(run, "below") if run is not None else []
                continue
            if run is None:
                run = self._runs[track] = _Run(track, t, t, p, t)
            else:
                run.saw(t, p)
            if not run.told and t - run.began >= self.rule.min_s:
                began.append(run)
        # What ends by this look is quiet from now on, whichever face of the picture comes first.
        quiet = self._quiet_until is not None and t < self._quiet_until
        for run in [] if quiet else began:
            run.told = True
        return ended + [run.alert() for run in began if run.told]

    def broke(self) -> list[Alert]:
        """The timeline broke, and nobody knows for how long: nothing spans that. Returns what ended."""
        return self._all_over("unseen")

    def stop(self) -> list[Alert]:
        """No more looks come. Returns what ended."""
        return self._all_over("stopped")

    def _all_over(self, cause: EndCause) -> list[Alert]:
        return [alert for run in list(self._runs.values()) for alert in self._over(run, cause)]

    def _over(self, run: _Run, cause: EndCause) -> list[Alert]:
        del self._runs[run.track]
        if not run.told:
            return []
        until = run.last + Fraction(self.rule.cooldown_s)
        self._quiet_until = until if self._quiet_until is None else max(self._quiet_until, until)
        return [run.alert(cause)]
