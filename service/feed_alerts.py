"""Alerts of a feed: scores of one session after the other come in, rows and `alert` events go out, as the feed's rule says.

Owned by `feed_watch.py`, on the event loop. What it tells is what `GET /v1/feeds/{id}/alerts` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final, Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from pipelines.alert_rule import Alert, AlertRule, AlertWatch
from service.database import now
from service.feed_rows import AlertRow, FeedRows
from service.feed_wire import AlertEvent, AlertOut, AlertPeak, AlertRuleIn
from service.schemas import moment
from service.stream_wire import Event, GapEvent, ScoreEvent

END_SHARE: Final = 0.9
"""Of the threshold: where an alert ends that was told no other."""

log = structlog.get_logger()


class FeedAlerts:
    """Of one feed, in this process.

    Args:
        tell: takes events for its watchers.
    """

    def __init__(self, feed_id: str, rows: FeedRows, tell: Callable[[Event], None]) -> None:
        self._feed_id, self._rows, self._tell = feed_id, rows, tell
        self._watch: AlertWatch | None = None
        self._session_id = ""
        self._base = Fraction(1)
        self._open: dict[int, AlertRow] = {}
        """By track; number 0 for one that could not be kept."""
        self.told = 0
        """Alerts that began here."""

    def begin(self, session_id: str, rule: AlertRule) -> None:
        """Another session, on a timeline of its own, or another rule."""
        self._session_id, self._watch = session_id, AlertWatch(rule)

    async def saw(self, event: ScoreEvent) -> None:
        """A look was told."""
        if self._watch is not None:
            self._base = Fraction(*event.at.time_base)
            await self._tell_all(self._watch.look(event.at.pts * self._base, {face.track: face.p for face in event.faces}))

    async def missed(self, event: GapEvent) -> None:
        """The timeline has a hole. One of known length is in the times of the looks."""
        if self._watch is not None and event.cause == "discontinuity":
            await self._tell_all(self._watch.broke())

    async def stop(self) -> None:
        """No more looks come: what is open ends."""
        if self._watch is not None:
            await self._tell_all(self._watch.stop())
            self._watch = None

    async def _tell_all(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            row = self._row(alert)
            try:
                await self._keep(row)
            except SQLAlchemyError:
                log.exception("alert_not_kept", feed=self._feed_id)
            if row.cause is None:
                self._open[alert.track] = row
                self.told += 1
            change: Literal["began", "ended"] = "began" if row.cause is None else "ended"
            shown = alert_out(row)
            self._tell(AlertEvent(session_id=self._session_id, t=float(alert.last), change=change, alert=shown))
            log.info("alert", feed=self._feed_id, alert=shown.n, change=change, cause=shown.cause)

    def _row(self, alert: Alert) -> AlertRow:
        began = self._open.pop(alert.track, None)
        return AlertRow(
            feed_id=self._feed_id,
            n=0 if began is None else began.n,
            session_id=self._session_id,
            track=alert.track,
            base_numerator=self._base.numerator,
            base_denominator=self._base.denominator,
            began_pts=int(alert.began / self._base),
            last_pts=int(alert.last / self._base),
            peak_pts=int(alert.peak_at / self._base),
            peak=alert.peak,
            longest_s=float(alert.longest),
            cause=alert.ended,
            told_at=now() if began is None else began.told_at,
            ended_at=None if alert.ended is None else now(),
        )

    async def _keep(self, row: AlertRow) -> None:
        """Write it down; a new one gets its number."""
        if row.cause is None:
            row.n = await self._rows.add_alert(row)
        elif row.n:
            await self._rows.change_alert(row)


def alert_rule(given: AlertRuleIn, model_threshold: float) -> AlertRule:
    """A rule with what was left out of it."""
    threshold = model_threshold if given.threshold is None else given.threshold
    end = END_SHARE * threshold if given.end_threshold is None else given.end_threshold
    return AlertRule(threshold, end, given.min_s, given.cooldown_s)


def alert_out(row: AlertRow) -> AlertOut:
    """An alert as the wire shows it."""
    base = Fraction(row.base_numerator, row.base_denominator)
    return AlertOut(
        n=row.n or None,
        state="open" if row.cause is None else "ended",
        session_id=row.session_id,
        track=row.track,
        began=moment(row.began_pts, base),
        last=moment(row.last_pts, base),
        seconds=float((row.last_pts - row.began_pts) * base),
        peak=AlertPeak(at=moment(row.peak_pts, base), p=row.peak),
        longest_s=row.longest_s,
        cause=row.cause,
        told_at=row.told_at,
        ended_at=row.ended_at,
    )
