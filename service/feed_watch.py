"""One camera that the service watches by itself: its row comes in, live sessions one after the other, and events in its ring, go out.

Made by `feed_keeper.py`. The sessions are those that clients of `WS /v1/stream` have; what goes wrong for a while is tried again, what says
no for good ends in `failed`. All on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from models.errors import Refusal
from pipelines.alert_rule import AlertRule
from pipelines.engine import Engines
from pipelines.errors import Overloaded, SourceError, SourceRefused, SourceUnreachable
from service.backoff import full_jitter
from service.database import now
from service.feed_album import Picture, Tapped
from service.feed_alerts import FeedAlerts, alert_rule
from service.feed_ring import FeedRing
from service.feed_rows import FeedRow, FeedRows
from service.feed_store import FeedStore
from service.feed_wire import AlertRuleIn, FeedLive, FeedState, FeedStateEvent, FeedTotals, LastScore
from service.live_source import HEALTHY_S
from service.picture_source import OpenCamera
from service.problems import internal_problem, problem_of
from service.schemas import Problem
from service.seating import RETRY_S, take_seat
from service.settings import Settings
from service.stream_session import Session
from service.stream_wire import DropEvent, End, Event, FaceEvent, GapEvent, ScoreEvent, Source, Stats, StreamMedia

log = structlog.get_logger()


@dataclass(slots=True)
class _Totals:
    since: datetime = field(default_factory=now)
    sessions: int = 0
    looks: int = 0
    judged: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    drops: Counter[str] = field(default_factory=Counter)


class FeedWatch:
    """A feed in this process, from its start to its stop; it may be started again.

    Args:
        row: what to watch; events go on behind its `event_seq`.
        rows, store: where alerts are kept.
        settings: the operator's.
        engines: where there may be a seat.
        open_camera: makes a source that never gives up.
        tell: hears every event of the ring as well.
    """

    def __init__(
        self,
        row: FeedRow,
        rows: FeedRows,
        store: FeedStore,
        settings: Settings,
        engines: Engines,
        open_camera: OpenCamera,
        tell: Callable[[Event], None],
    ) -> None:
        self.row = row
        self._settings, self._engines, self._open_camera = settings, engines, open_camera
        self.ring = FeedRing(row.event_seq, tell)
        self._state = FeedStateEvent(session_id=None, state="waiting", since=now())
        self._totals = _Totals()
        self._session: Session | None = None
        self._alerts = FeedAlerts(row.id, rows, store, settings.feeds, self.ring.put)
        self._score: LastScore | None = None
        self._look: ScoreEvent | None = None
        """The newest of this session."""
        self._stats: Stats | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        # In a context of its own: what it logs for years is not about the request that it began with.
        self._task = asyncio.create_task(self._live(), name=f"feed-{self.row.id}", context=Context())

    async def stop(self) -> None:
        """Watch no more; returns when thread, child and seat are gone. May be called twice, and started again."""
        if self._task is not None:
            if not self._task.cancelling():
                self._task.cancel()
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop for good: returns when all that happened is told as well, or given up."""
        await self.stop()
        await self._alerts.close()
        self.ring.close()

    def discard(self) -> None:
        """The feed was deleted: nobody wants to know what is not told yet."""
        self._alerts.discard()

    async def change(self, row: FeedRow) -> None:
        """The row is another now: go on with that."""
        same = (row.hz, row.paused) == (self.row.hz, self.row.paused) and self._session is not None
        ruled = row.rule != self.row.rule
        self.row = row
        if not same:
            await self.stop()
            self.start()
        elif ruled and self._session is not None:
            self._alerts.stop()
            self._begin_alerts()

    @property
    def hz(self) -> float:
        """Looks a second at most."""
        return min(self.row.hz or self._settings.hz, self._settings.hz)

    @property
    def state(self) -> FeedState:
        """How it is now."""
        return self._state.state

    @property
    def since(self) -> datetime:
        """Of the state."""
        return self._state.since

    @property
    def alerts(self) -> int:
        """That were told here."""
        return self._alerts.told

    @property
    def seen(self) -> tuple[Picture, ScoreEvent] | None:
        """The newest picture that was looked at, and the look; None before the first of a session, and where none are kept."""
        picture = None if self._look is None else self._alerts.album.at(self._look.at.pts)
        return None if picture is None or self._look is None else (picture, self._look)

    @property
    def alert_notes_lost(self) -> int:
        """Of what there was to tell of them."""
        return self._alerts.lost

    @property
    def live(self) -> FeedLive:
        """What is known of it."""
        state, totals, stats = self._state, self._totals, self._stats
        return FeedLive(
            attempt=state.attempt,
            next_retry_s=state.next_retry_s,
            code=state.code,
            problem=state.problem,
            media=state.media,
            session_id=None if self._session is None else self._session.id,
            threshold=self._rule(self._engines.model.calibrator.shipped.p).threshold,
            hz=None if stats is None else min(stats.hz, self.hz),
            latency_p95_s=None if stats is None else stats.latency_p95_s,
            last_score=self._score,
            event_seq=self.ring.seq,
            totals=FeedTotals(
                since=totals.since,
                sessions=totals.sessions,
                looks=totals.looks,
                judged=totals.judged,
                gaps=totals.gaps,
                gap_s=totals.gap_s,
                drops=dict(totals.drops),
                alerts=self.alerts,
            ),
        )

    async def _live(self) -> None:
        """Session after session, until there is no point in another, or the task is cancelled."""
        if self.row.paused:
            self._tell_state("paused")
            return
        self._tell_state("connecting")
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            problem: Problem | None = None
            try:
                error = await self._watch()
            except Refusal as refusal:
                error = refusal
            except Exception:  # a fault of ours: the camera is watched again after a while, as nobody else would begin it
                log.exception("feed_crashed", feed=self.row.id)
                if (this := asyncio.current_task()) is not None and this.cancelling():
                    raise asyncio.CancelledError from None
                error, problem = None, internal_problem(instance=self._path, request_id=self.row.id)
            if error is None and problem is None:
                self._tell_state("ended")
                return
            if isinstance(error, Overloaded):
                await self._wait("overloaded", error.retry_after_s or RETRY_S)
                continue
            if error is not None and _is_final(error):
                log.warning("feed_failed", feed=self.row.id, problem=error.slug, detail=error.detail)
                self._tell_state("failed", code=error.slug, problem=problem_of(error, instance=self._path))
                return
            failures = 1 if asyncio.get_running_loop().time() - began > HEALTHY_S else failures + 1
            await self._wait("internal-error" if error is None else error.slug, full_jitter(failures), attempt=failures)

    async def _wait(self, code: str, seconds: float, attempt: int = 0) -> None:
        self._tell_state("waiting", code=code, next_retry_s=seconds, attempt=attempt)
        await asyncio.sleep(seconds)

    async def _watch(self) -> Refusal | None:
        """One session; what it ended with.

        Raises:
            Overloaded: there is no seat.
            SourceError: that URL may not be opened.
        """
        hz, limits = self.hz, self._settings.limits
        with ExitStack() as failed:
            live = failed.enter_context(take_seat(self._engines, self._settings.streams, native_hz=hz))
            session = Session("pull", "live", live, self._settings.streams, hz=hz, media_s=limits.max_duration_s, pixels=limits.max_pixels)
            # Who a name belongs to is asked of the network.
            source = await asyncio.to_thread(self._open_camera, self.row.url, lambda: min(hz, live.hz))
            failed.pop_all()
        session.attach()
        life = asyncio.create_task(session.begin(Tapped(source, self._alerts.album), None), name=f"stream-{session.id}")
        life.add_done_callback(lambda _: session.news.set())
        self._session = session
        self._begin_alerts()
        self._totals.sessions += 1
        try:
            await self._hear(session, life)
        finally:
            session.abort("stopped", None)
            await asyncio.wait([life])
            self._alerts.stop()
            self._session = self._stats = self._look = None
            # Whoever pauses a camera does not want to be looked at.
            self._alerts.album.clear()
        return session.error

    async def _hear(self, session: Session, life: asyncio.Task[None]) -> None:
        """Take its events up to its end; raises what a session died of that could not tell one."""
        while True:
            session.news.clear()
            while (event := session.next_event()) is not None:
                if isinstance(event, End):
                    return
                self._take(event)
            if life.done():
                life.result()
                return
            await session.news.wait()

    def _take(self, event: Event) -> None:
        """Tell of an event of the session, and do what it asks for."""
        totals = self._totals
        match event:
            case Source() if event.state not in ("ended", "failed"):
                self._tell_state(
                    event.state,
                    session_id=event.session_id,
                    t=event.t,
                    attempt=event.attempt,
                    next_retry_s=event.next_retry_s,
                    code=event.code,
                    media=event.media or self._state.media,
                )
            case ScoreEvent():
                totals.looks += event.stands_for
                totals.judged += event.p is not None
                self._look = event
                self._score = LastScore(at=event.at, told_at=now(), p=event.p, faces=len(event.faces), latency_s=event.latency_s)
                self.ring.put(event)
                self._alerts.saw(event)
            case GapEvent():
                totals.gaps += 1
                totals.gap_s += event.seconds
                self.ring.put(event)
                self._alerts.missed(event)
            case DropEvent():
                totals.drops[event.cause] += event.n
                self.ring.put(event)
            case Stats():
                self._stats = event
                self.ring.put(event)
            case FaceEvent():
                self.ring.put(event)

    def _tell_state(
        self,
        state: FeedState,
        *,
        session_id: str | None = None,
        t: float | None = None,
        attempt: int = 0,
        next_retry_s: float | None = None,
        code: str | None = None,
        problem: Problem | None = None,
        media: StreamMedia | None = None,
    ) -> None:
        since = self._state.since if state == self._state.state else now()
        self._state = FeedStateEvent(
            session_id=session_id,
            t=t,
            state=state,
            since=since,
            attempt=attempt,
            next_retry_s=next_retry_s,
            code=code,
            problem=problem,
            media=media,
        )
        self.ring.put(self._state)
        log.info("feed_state", feed=self.row.id, state=state, code=code)

    def _begin_alerts(self) -> None:
        """Nothing of a session that has ended meanwhile."""
        if (session := self._session) is not None:
            self._alerts.begin(session.id, self._rule(session.threshold))

    def _rule(self, model_threshold: float) -> AlertRule:
        return alert_rule(AlertRuleIn.model_validate_json(self.row.rule), model_threshold)

    @property
    def _path(self) -> str:
        return f"/v1/feeds/{self.row.id}"


def _is_final(error: Refusal) -> bool:
    """Whether it will not get better by itself."""
    return isinstance(error, SourceRefused) or (isinstance(error, SourceError) and not isinstance(error, SourceUnreachable))
