"""Alerts of a feed: scores of one session after the other come in, notes of what began and ended, as the feed's rule says, go out.

Owned by `feed_watch.py`, on the event loop; waits for nothing. `alert_notes.py` tells: `GET /v1/feeds/{id}/alerts` shows what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from pipelines.alert_rule import Alert, AlertRule, AlertWatch
from service.alert_notes import AlertNotes, Change, Kept, Note
from service.database import now
from service.feed_album import Album, Picture, Still
from service.feed_rows import AlertRow, FeedRows
from service.feed_store import FeedStore
from service.feed_wire import AlertRuleIn
from service.settings import FeedTerms
from service.stream_wire import Event, GapEvent, ScoreEvent

END_SHARE: Final = 0.9
"""Of the threshold: where an alert ends that was told no other."""
AROUND_S: Final = 3.0
"""Of media, that a clip shows before the alert began and after it ended..."""
BEFORE_S: Final = 12.0
AFTER_S: Final = 10.0
"""...but never more than this before and after it was judged: an alert may last for hours."""
FAREWELL_S: Final = 15.0
"""How long a watch that ends waits for what is not told yet."""


@dataclass(slots=True)
class _Case:
    """An alert, until the last note of it is written."""

    row: AlertRow
    """As it is judged now."""
    since: Fraction
    until: Fraction
    """What its clip shows."""
    peak: Still | None = None
    kept: Kept = field(default_factory=Kept)


class FeedAlerts:
    """Of one feed, in this process.

    Args:
        terms: how much is kept.
        tell: takes events for its watchers.
    """

    def __init__(self, feed_id: str, rows: FeedRows, store: FeedStore, terms: FeedTerms, tell: Callable[[Event], None]) -> None:
        self._feed_id = feed_id
        self.album = Album(terms.album_bytes)
        self._notes = AlertNotes(feed_id, rows, store, terms, tell)
        self._watch: AlertWatch | None = None
        self._session_id = ""
        self._base = Fraction(1)
        self._open: dict[int, _Case] = {}
        """By track."""
        self._due: list[_Case] = []
        """Whose clips are not noted yet, open or ended."""
        self.told = 0
        """Alerts that began here."""

    @property
    def lost(self) -> int:
        """Notes on alerts of which something could not be kept."""
        return self._notes.lost

    def begin(self, session_id: str, rule: AlertRule) -> None:
        """Another session, on a timeline of its own, or another rule."""
        self._session_id, self._watch = session_id, AlertWatch(rule)

    def saw(self, event: ScoreEvent) -> None:
        """A look was told."""
        if self._watch is None:
            return
        self._base = Fraction(*event.at.time_base)
        t = event.at.pts * self._base
        self.album.saw(event.at.pts, {face.track: face.box for face in event.faces})
        self._judged(self._watch.look(t, {face.track: face.p for face in event.faces}), t)
        for alert in self._watch.open:
            self._update(self._open[alert.track], alert)
        for case in [case for case in self._due if t >= case.until]:
            self._note_clip(case)

    def missed(self, event: GapEvent) -> None:
        """The timeline has a hole. One of known length is in the times of the looks."""
        if self._watch is not None and event.cause == "discontinuity":
            self._judged(self._watch.broke(), event.start.pts * self._base)

    def stop(self) -> None:
        """No more looks come, or they are judged by another rule: what is open ends, and its evidence is what there is."""
        if self._watch is not None:
            ended, self._watch = self._watch.stop(), None
            self._judged(ended, Fraction(0))
        for case in list(self._due):
            self._note_clip(case)

    def discard(self) -> None:
        """Nobody will want to know any more."""
        self._watch = None
        self._open.clear()
        self._due.clear()
        self._notes.discard()

    async def close(self) -> None:
        """Returns when all is told, or given up because that takes too long."""
        await self._notes.close(FAREWELL_S)

    def _judged(self, alerts: list[Alert], t: Fraction) -> None:
        for alert in alerts:
            if alert.ended is None:
                self._note(self._begun(alert, t), "began")
            else:
                self._note(self._ended(alert), "ended")

    def _note(self, case: _Case, change: Change, pictures: Sequence[Picture] = ()) -> None:
        # A copy, for the case goes on: what began is told as it began, even if it has ended by then.
        self._notes.put(Note(case.kept, change, case.row.copy(), case.peak, pictures))

    def _note_clip(self, case: _Case) -> None:
        self._due.remove(case)
        if pictures := self.album.between(case.since, case.until):
            self._note(case, "clip", pictures)

    def _begun(self, alert: Alert, t: Fraction) -> _Case:
        row = AlertRow(
            feed_id=self._feed_id,
            n=0,
            session_id=self._session_id,
            track=alert.track,
            base_numerator=self._base.numerator,
            base_denominator=self._base.denominator,
            began_pts=int(alert.began / self._base),
            told_at=now(),
            still_bytes=0,
            clip_bytes=0,
        )
        case = _Case(row, max(alert.began - Fraction(AROUND_S), t - Fraction(BEFORE_S)), t + Fraction(AFTER_S))
        self._update(case, alert)
        self._open[alert.track] = case
        self._due.append(case)
        self.told += 1
        return case

    def _ended(self, alert: Alert) -> _Case:
        case = self._open.pop(alert.track)
        self._update(case, alert)
        case.row.cause, case.row.ended_at = alert.ended, now()
        case.until = min(case.until, alert.last + Fraction(AROUND_S))
        return case

    def _update(self, case: _Case, alert: Alert) -> None:
        row = case.row
        row.last_pts, row.peak_pts = int(alert.last / self._base), int(alert.peak_at / self._base)
        row.peak, row.longest_s = alert.peak, float(alert.longest)
        if case.peak is None or case.peak.picture.pts != row.peak_pts:
            case.peak = self.album.still(row.peak_pts, row.track) or case.peak


def alert_rule(given: AlertRuleIn, model_threshold: float) -> AlertRule:
    """A rule with what was left out of it."""
    threshold = model_threshold if given.threshold is None else given.threshold
    end = END_SHARE * threshold if given.end_threshold is None else given.end_threshold
    return AlertRule(threshold, end, given.min_s, given.cooldown_s)
