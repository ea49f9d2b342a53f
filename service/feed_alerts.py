"""Alerts of a feed: scores of one session after the other come in; rows, events, stills and clips go out, as the feed's rule says.

Owned by `feed_watch.py`, on the event loop. What it tells is what `GET /v1/feeds/{id}/alerts` shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from pipelines.alert_rule import Alert, AlertRule, AlertWatch
from service.database import now
from service.feed_album import Album, Picture, Still
from service.feed_clip import clip_of
from service.feed_rows import AlertRow, FeedRows
from service.feed_store import Evidence, FeedStore
from service.feed_wire import AlertEvent, AlertOut, AlertPeak, AlertRuleIn, ClipOut
from service.problems import ServiceError
from service.schemas import moment
from service.settings import FeedTerms
from service.stream_wire import Event, GapEvent, ScoreEvent

END_SHARE: Final = 0.9
"""Of the threshold: where an alert ends that was told no other."""
AROUND_S: Final = 3.0
"""Of media, that a clip shows before the alert began and after it ended..."""
BEFORE_S: Final = 12.0
AFTER_S: Final = 10.0
"""...but never more than this before and after it was told: an alert may last for hours."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Case:
    """An alert, until all of it is kept."""

    row: AlertRow
    """Its number is 0 where it could not be kept."""
    since: Fraction
    until: Fraction
    """What its clip shows."""
    peak: Still | None
    kept: Still | None = None
    """The still that is stored."""
    clipped: bool = False


class FeedAlerts:
    """Of one feed, in this process.

    Args:
        terms: how much is kept.
        tell: takes events for its watchers.
    """

    def __init__(self, feed_id: str, rows: FeedRows, store: FeedStore, terms: FeedTerms, tell: Callable[[Event], None]) -> None:
        self._feed_id, self._rows, self._store, self._terms, self._tell = feed_id, rows, store, terms, tell
        self.album = Album(terms.album_bytes)
        self._watch: AlertWatch | None = None
        self._turn = asyncio.Lock()
        """A change of the rule comes between two looks."""
        self._session_id = ""
        self._base = Fraction(1)
        self._open: dict[int, _Case] = {}
        """By track."""
        self._untold: deque[tuple[_Case, Literal["began", "ended"]]] = deque()
        """Known to the rule, and not told yet: whoever is cancelled meanwhile leaves them for `stop`."""
        self._due: list[_Case] = []
        """Whose clips are not made yet, open or ended."""
        self._work: set[asyncio.Task[None]] = set()
        self.told = 0
        """Alerts that began here."""

    def begin(self, session_id: str, rule: AlertRule) -> None:
        """Another session, on a timeline of its own, or another rule."""
        self._session_id, self._watch = session_id, AlertWatch(rule)

    async def saw(self, event: ScoreEvent) -> None:
        """A look was told."""
        async with self._turn:
            await self._saw(event)

    async def missed(self, event: GapEvent) -> None:
        """The timeline has a hole. One of known length is in the times of the looks."""
        async with self._turn:
            if self._watch is not None and event.cause == "discontinuity":
                await self._tell_all(self._watch.broke(), event.start.pts * self._base)

    async def stop(self) -> None:
        """No more looks come: what is open ends, and all evidence is kept when this returns."""
        async with self._turn:
            if self._watch is not None:
                ended, self._watch = self._watch.stop(), None
                await self._tell_all(ended, Fraction(0))
            for case in list(self._due):
                self._begin_clip(case)
            if self._work:
                await asyncio.wait(self._work)

    def discard(self) -> None:
        """Nobody will want evidence any more."""
        self._due.clear()

    async def _saw(self, event: ScoreEvent) -> None:
        if self._watch is None:
            return
        self._base = Fraction(*event.at.time_base)
        t = event.at.pts * self._base
        self.album.saw(event.at.pts, {face.track: face.box for face in event.faces})
        await self._tell_all(self._watch.look(t, {face.track: face.p for face in event.faces}), t)
        for alert in self._watch.open:
            self._update(self._open[alert.track], alert)
        for case in [case for case in self._due if t >= case.until]:
            self._begin_clip(case)

    async def _tell_all(self, alerts: list[Alert], t: Fraction) -> None:
        for alert in alerts:
            self._untold.append((self._begun(alert, t), "began") if alert.ended is None else (self._ended(alert), "ended"))
        while self._untold:
            case, change = self._untold[0]
            try:
                if not case.row.n and change == "began":
                    case.row.n = await self._rows.add_alert(case.row)
            except SQLAlchemyError:
                log.exception("alert_not_kept", feed=self._feed_id)
            await self._keep_still(case)
            await self._say(case, change)
            self._untold.popleft()
            if change == "ended":
                await self._forget_old()

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
        case = _Case(row, max(alert.began - Fraction(AROUND_S), t - Fraction(BEFORE_S)), t + Fraction(AFTER_S), None)
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

    async def _keep_still(self, case: _Case) -> None:
        """The picture of the peak so far, unless it is kept already."""
        if case.peak is None or case.peak is case.kept:
            return
        jpeg = await asyncio.to_thread(case.peak.jpeg)
        if await self._put(case, "still", jpeg):
            case.kept, case.row.still_bytes = case.peak, len(jpeg)

    def _begin_clip(self, case: _Case) -> None:
        self._due.remove(case)
        pictures = self.album.between(case.since, case.until)
        if pictures and case.row.n:
            name = f"clip-{self._feed_id}-{case.row.n}"
            task = asyncio.create_task(self._make_clip(case, pictures), name=name, context=Context())
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _make_clip(self, case: _Case, pictures: list[Picture]) -> None:
        try:
            clip = await asyncio.to_thread(clip_of, pictures)
            if await self._put(case, "clip", clip):
                row = case.row
                row.clip_bytes, row.clip_first_pts, row.clip_last_pts = len(clip), pictures[0].pts, pictures[-1].pts
                if await self._say(case, "clip"):
                    await self._forget_old()
                else:
                    await asyncio.to_thread(self._store.remove_alerts, self._feed_id, [row.n])
        except Exception:  # in a task that nobody awaits: the alert stands without its clip, and the feed goes on
            log.exception("clip_not_made", feed=self._feed_id, alert=case.row.n)

    async def _put(self, case: _Case, evidence: Evidence, content: bytes) -> bool:
        if not case.row.n:
            return False
        try:
            await asyncio.to_thread(self._store.put, self._feed_id, case.row.n, evidence, content)
        except ServiceError as error:
            log.error("evidence_not_kept", feed=self._feed_id, alert=case.row.n, problem=error.slug)
            return False
        return True

    async def _say(self, case: _Case, change: Literal["began", "ended", "clip"]) -> bool:
        """Write the row as it is now, and tell; False, and nothing is told, of one that was forgotten meanwhile."""
        row = case.row
        try:
            if row.n and not await self._rows.change_alert(row):
                return False
        except SQLAlchemyError:
            log.exception("alert_not_kept", feed=self._feed_id, alert=row.n)
        shown = alert_out(row)
        self._tell(AlertEvent(session_id=row.session_id, t=shown.last.t, change=change, alert=shown))
        log.info("alert", feed=self._feed_id, alert=shown.n, change=change, cause=shown.cause)
        return True

    async def _forget_old(self) -> None:
        try:
            gone = await self._rows.forget_alerts(self._feed_id, self._terms.kept_alerts, self._terms.kept_bytes)
            await asyncio.to_thread(self._store.remove_alerts, self._feed_id, gone)
        except (SQLAlchemyError, ServiceError):
            log.exception("alerts_not_forgotten", feed=self._feed_id)


def alert_rule(given: AlertRuleIn, model_threshold: float) -> AlertRule:
    """A rule with what was left out of it."""
    threshold = model_threshold if given.threshold is None else given.threshold
    end = END_SHARE * threshold if given.end_threshold is None else given.end_threshold
    return AlertRule(threshold, end, given.min_s, given.cooldown_s)


def alert_out(row: AlertRow) -> AlertOut:
    """An alert as the wire shows it."""
    base = Fraction(row.base_numerator, row.base_denominator)
    there = {"still": row.still_bytes, "clip": row.clip_bytes}
    clip = None
    if row.clip_bytes and row.clip_first_pts is not None and row.clip_last_pts is not None:
        clip = ClipOut(first=moment(row.clip_first_pts, base), last=moment(row.clip_last_pts, base), bytes=row.clip_bytes)
    path = f"/v1/feeds/{row.feed_id}/alerts/{row.n}"
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
        clip=clip,
        links={"self": path, **{name: f"{path}/{name}" for name, octets in there.items() if octets}} if row.n else {},
    )
