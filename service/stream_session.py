"""One live stream from its `start` to its `end`: Frames of a source go into a LiveStream, what comes of them into the Outbox as events.

Made by `streams.py`; lives on without a connection for a minute, so that a client may come back. Two threads work for it, one that reads
frames and one that judges them; all else happens on the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

import structlog

from models.errors import Refusal
from pipelines.errors import PipelineError
from pipelines.live import Failed, LiveEvent, LiveStream, Scored, Shed
from pipelines.media import BREAKS, Frame
from pipelines.verdict import Verdict
from service.close_codes import CloseCode, close_code
from service.media_header import MediaHeader
from service.outbox import Outbox, SlowReader
from service.picture_source import FedPictures, PictureSource, SourceState
from service.schemas import ModelOut, VerdictOut, moment, timeline_row
from service.settings import StreamTerms
from service.stream_errors import StreamFault, StreamIdle, error_event
from service.stream_intake import MESSAGE_BYTES, Intake
from service.stream_wire import (
    Allowance,
    Credit,
    DropEvent,
    End,
    Event,
    FaceEvent,
    GapEvent,
    LatencyStages,
    Mode,
    Pace,
    Ready,
    ScoreEvent,
    Source,
    Stats,
    StreamLimits,
    StreamMedia,
    Totals,
)

STATS_S: Final = 2.0
LEFT_S: Final = 2.0
"""Of media, after which a face that is not seen has left."""
DROPS_S: Final = 0.5
NOTHING: Final = Allowance(media=0, bytes=0)

DropCause = Literal["client_over_credit", "no_pts", "undecodable", "missing", "overtaken", "nets_failed", "paused"]
EndReason = Literal["stopped", "source_ended", "idle", "failed", "draining"]

log = structlog.get_logger()


class Session:
    """A stream. Made and used on the event loop.

    Args:
        mode, pace: as its `start` asked.
        live: its seat; given back at the end.
        terms: how long it waits.
        hz: looks a second at most.
        media_s, pixels: limits that its client is told.
    """

    def __init__(self, mode: Mode, pace: Pace, live: LiveStream, terms: StreamTerms, *, hz: float, media_s: float, pixels: int) -> None:
        self.id, self.token = secrets.token_hex(8), secrets.token_urlsafe(24)
        self.mode, self.pace, self._live, self._terms = mode, pace, live, terms
        self._hz, self._media_s, self._pixels = hz, media_s, pixels
        self.outbox = Outbox()
        self.intake: Intake | None = None
        self._source: PictureSource | None = None
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"stream-{self.id}")
        self.news = asyncio.Event()
        """Set whenever there may be something to send."""
        self.close_code: CloseCode | None = None
        """Once `end` is in the outbox; nothing follows it."""
        self.ended = asyncio.Event()
        """When its threads are gone and its seat is free."""
        self._reason: EndReason = "source_ended"
        self._error: Refusal | None = None
        self._aborted = False
        self._attached: asyncio.Event | None = None
        """Set when another connection goes on with the stream; None while there is no connection."""
        self._since = self._media_at = time.monotonic()
        """Of being attached or not; of the last media."""
        self._paused_at: float | None = None
        self._room = threading.Event()
        self._room.set()
        self._drops: dict[DropCause, tuple[int, float | None]] = {}
        self._dropped = 0
        self._latencies: deque[float] = deque(maxlen=512)
        # Of the threads: the reader's, then the judge's.
        self._last: Frame | None = None
        self._pause_told = False
        self._t: float | None = None
        self._seen: dict[int, Scored] = {}

    # On the event loop.

    def begin(self, source: PictureSource, intake: Intake | None) -> Coroutine[Any, Any, None]:
        """Tell that it is ready; what is returned is its whole life, to be run as a task."""
        self._source, self.intake = source, intake
        model = self._live.model
        self.emit(
            Ready(
                session_id=self.id,
                token=self.token,
                mode=self.mode,
                pace=self.pace,
                hz=self._hz,
                threshold=self.threshold,
                model=ModelOut.of(model.info),
                limits=StreamLimits(
                    message_bytes=MESSAGE_BYTES,
                    idle_s=self._terms.idle_s,
                    resume_s=self._terms.resume_s,
                    media_s=self._media_s,
                    pixels=self._pixels,
                ),
                credit=self.allowance,
            )
        )
        return self._lived()

    def emit(self, event: Event) -> None:
        """Let an event wait for the client; one that has no room ends the stream."""
        try:
            self.outbox.put(event.model_copy(update={"t": self._t}))
        except SlowReader as slow:
            self.abort("failed", slow)
        if self.outbox.crowded and not self._aborted:
            self._room.clear()
        self.news.set()

    def next_message(self) -> str | None:
        """What to send next."""
        message = self.outbox.take()
        if not self.outbox.crowded:
            self._room.set()
        return message

    def next_event(self) -> Event | None:
        """What was told next, for whoever listens in this process instead of over a connection."""
        event = self.outbox.take_event()
        if not self.outbox.crowded:
            self._room.set()
        return event

    def take(self, header: MediaHeader, payload: memoryview) -> None:
        """Media came.

        Raises:
            ServiceError: it may not; see `stream_intake.Intake.take`.
        """
        if self.intake is None:
            raise StreamFault("unreachable", expected="a stream that is fed", got="another")
        self._media_at = time.monotonic()
        if self._paused_at is not None:
            self.resume_media()
        allowed = self.intake.allowance
        if (cause := self.intake.take(header, payload)) is not None:
            self.drop(cause, 1)
        if self.intake.allowance != allowed:
            self._tell_credit(self.intake)

    def taken(self, size: int) -> None:
        """The decoder took a piece."""
        if self.intake is not None and self.intake.taken(size):
            self._tell_credit(self.intake)

    def _tell_credit(self, intake: Intake) -> None:
        self.emit(Credit(session_id=self.id, credit=intake.allowance, received=intake.received))

    def drop(self, cause: DropCause, n: int, since: float | None = None) -> None:
        """So much media was not looked at; told in sums, twice a second."""
        before, first = self._drops.get(cause, (0, since))
        self._drops[cause] = before + n, first
        self._dropped += n

    def pause(self) -> None:
        """Nothing comes on purpose."""
        self._paused_at = self._paused_at or time.monotonic()

    def resume_media(self) -> None:
        """It goes on."""
        self._paused_at, self._media_at = None, time.monotonic()

    def stop(self) -> None:
        """The media has ended; what came is judged."""
        self._reason = "stopped"
        if self.intake is not None:
            self.intake.feed.end()
        elif self._source is not None:
            self._source.stop()

    def abort(self, reason: EndReason, error: Refusal | None) -> None:
        """End now, and say why; the verdict is on what was looked at. May be called twice."""
        if self._aborted:
            return
        self._aborted, self._reason, self._error = True, reason, self._error or error
        self._room.set()
        if self._source is not None:
            self._source.stop()
        self._live.end()

    def attach(self) -> asyncio.Event:
        """A client is there. What is returned is set when another connection takes its place."""
        if self._attached is not None:
            self._attached.set()
        self._attached, self._since = asyncio.Event(), time.monotonic()
        self._media_at = self._since
        return self._attached

    def detach(self, taken_over: asyncio.Event) -> None:
        """A client is gone, and may come back; unless another has taken its place, see `attach`."""
        if self._attached is taken_over:
            self._attached, self._since = None, time.monotonic()

    @property
    def over(self) -> bool:
        """Whether its end is told, or soon will be: what still comes is of no use."""
        return self._aborted

    @property
    def threshold(self) -> float:
        """The model's own."""
        return self._live.model.calibrator.shipped.p

    @property
    def error(self) -> Refusal | None:
        """Why it failed, if it did."""
        return self._error

    @property
    def allowance(self) -> Allowance:
        """Media that may be sent."""
        return NOTHING if self.intake is None else self.intake.allowance

    @property
    def received(self) -> Allowance:
        """Media that was taken."""
        return NOTHING if self.intake is None else self.intake.received

    @property
    def forgotten(self) -> bool:
        """Whether nobody came back in time."""
        return self._attached is None and time.monotonic() - self._since >= self._terms.resume_s

    async def _lived(self) -> None:
        assert self._source is not None
        watching = asyncio.create_task(self._watch())
        verdict: Verdict | None = None
        try:
            reading = self._loop.run_in_executor(self._threads, self._read, self._source)
            judging = self._loop.run_in_executor(self._threads, self._judge)
            try:
                verdict = await judging
            except PipelineError as error:
                self._fail(error)
            self._source.stop()
            try:
                await reading
            except PipelineError as error:
                self._fail(error)
        except Exception:  # a fault of ours is told to the client as one, with `end`, instead of a socket that goes dead
            log.exception("stream_crashed", stream=self.id)
            self._fail(StreamFault("The stream failed in a way that was not foreseen.", expected="a verdict", got=f"see log, {self.id}"))
        finally:
            watching.cancel()
            # Whatever ended it: whoever reads may be waiting for media that never comes.
            self._source.stop()
            await asyncio.to_thread(self._threads.shutdown)
            self._close(verdict)
            # What may still be asked for is in the outbox; pictures, some megabytes of them, are not kept for a client that may come back.
            self._source = self._last = None
            self._seen.clear()
            self.ended.set()

    def _fail(self, error: Refusal) -> None:
        """The first fault is the reason; what follows from an abort is none."""
        if self._error is None and not self._aborted:
            self._reason, self._error = "failed", error

    def _close(self, verdict: Verdict | None) -> None:
        error, counts = self._error, self._live.counts
        state: Literal["ended", "failed"] = "failed" if self._reason == "failed" else "ended"
        code = CloseCode.DONE if error is None else close_code(error)
        self._aborted = True
        self._room.set()
        self._tell_drops()
        self.emit(Source(session_id=self.id, state=state, code=error.slug if error else None))
        if error is not None:
            self.emit(error_event(error, self.id))
        self.emit(
            End(
                session_id=self.id,
                reason=self._reason,
                verdict=None if verdict is None else VerdictOut.of(verdict, self._live.model.info.calibration_id),
                totals=Totals(
                    received=self.received,
                    dropped=self._dropped,
                    looked_at=counts.looked_at,
                    overtaken=counts.passed_over,
                    shed=counts.shed,
                    nets_failed=counts.failed,
                    scores_left_out=self.outbox.left_out,
                ),
            )
        )
        self.close_code = code
        self.news.set()
        log.info("stream_ended", stream=self.id, mode=self.mode, reason=self._reason, code=int(code), looks=counts.looked_at)

    async def _watch(self) -> None:
        """Tell the sums, and notice what does not happen."""
        stats_due = time.monotonic() + STATS_S
        while True:
            await asyncio.sleep(DROPS_S)
            self._tell_drops()
            now = time.monotonic()
            if now >= stats_due:
                stats_due = now + STATS_S
                self.emit(self._stats())
            if self.forgotten:
                self.abort("idle", StreamIdle("Nobody came back.", expected=f"a resume within {self._terms.resume_s:g} s", got="none"))
            elif self._attached is not None and self.outbox.stuck_s >= self._terms.drain_s:
                most = f"to be read within {self._terms.drain_s:g} s"
                self.abort("failed", SlowReader("The client does not read.", expected=most, got="nothing read"))
            elif self._attached is not None:
                self._check_idle(now)

    def _check_idle(self, now: float) -> None:
        pause_s, idle_s = self._terms.pause_s, self._terms.idle_s
        if self._paused_at is not None:
            if now - self._paused_at >= pause_s:
                self.abort("idle", StreamIdle("The pause was too long.", expected=f"at most {pause_s:g} s", got="more"))
        elif self._waits_for_media and now - self._media_at >= idle_s:
            self.abort("idle", StreamIdle("No media came.", expected=f"media within {idle_s:g} s, or `pause`", got="none"))

    @property
    def _waits_for_media(self) -> bool:
        feed = None if self.intake is None else self.intake.feed
        return feed is not None and not feed.ended and not feed.waiting_bytes

    def _tell_drops(self) -> None:
        drops, self._drops = self._drops, {}
        for cause, (n, since) in drops.items():
            next_seq = self.intake.next_seq if cause == "client_over_credit" and self.intake is not None else None
            self.emit(DropEvent(session_id=self.id, cause=cause, n=n, since=since, next_seq=next_seq))

    def _stats(self) -> Stats:
        counts = self._live.counts
        took = sorted(self._latencies)
        self._latencies.clear()
        return Stats(
            session_id=self.id,
            received=self.received,
            waiting_bytes=0 if self.intake is None else self.intake.feed.waiting_bytes,
            offered=counts.offered,
            looked_at=counts.looked_at,
            overtaken=counts.passed_over,
            shed=counts.shed,
            nets_failed=counts.failed,
            hz=self._hz if self.pace == "every" else self._live.hz,
            latency_p95_s=took[int(0.95 * (len(took) - 1) + 0.5)] if took else None,
            events_waiting=len(self.outbox),
        )

    # In the threads.

    def _soon(self, do: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(do, *arguments)

    def _read(self, source: PictureSource) -> None:
        try:
            source.run(self._offer, lambda state: self._soon(self.emit, self._source_event(state)))
        finally:
            self._live.end()

    def _source_event(self, state: SourceState) -> Source:
        media = state.media
        return Source(
            session_id=self.id,
            state=state.state,
            attempt=state.attempt,
            next_retry_s=state.next_retry_s,
            code=state.code,
            media=None
            if media is None
            else StreamMedia(
                container=media.container,
                codec=media.codec,
                width=media.width,
                height=media.height,
                time_base=(media.time_base.numerator, media.time_base.denominator),
            ),
        )

    def _offer(self, frame: Frame) -> bool:
        """Tell what happened before this frame, and have it looked at unless the stream is paused."""
        if self._paused_at is not None and self.intake is None:
            self._soon(self.drop, "paused", 1, frame.t)
            self._pause_told = True
            return not self._aborted
        if frame.dropped_before:
            self._soon(self.drop, "undecodable", frame.dropped_before, None if self._last is None else self._last.t)
        if frame.missing_before:
            since = frame.missing_since
            self._soon(self.drop, "missing", frame.missing_before, None if since is None else float(since * frame.time_base))
        if self._last is not None and (frame.flags & BREAKS or self._pause_told):
            self._soon(self.emit, self._gap(self._last, frame))
        self._last, self._pause_told = frame, False
        return self._live.offer(frame)

    def _gap(self, before: Frame, after: Frame) -> GapEvent:
        cause: Literal["missing", "discontinuity", "reconnected", "paused"] = "missing"
        if self._pause_told:
            cause = "paused"
        elif "discontinuity" in after.flags:
            cause = "discontinuity"
        elif after.epoch != before.epoch:
            cause = "reconnected"
        began = before.pts if after.gap_since is None or cause != "missing" else after.gap_since
        return GapEvent(
            session_id=self.id,
            cause=cause,
            start=moment(began, before.time_base),
            end=moment(after.pts, after.time_base),
            seconds=float((after.pts - began) * after.time_base),
        )

    def _judge(self) -> Verdict:
        with self._live as live:
            return live.run(self._tell)

    def _tell(self, event: LiveEvent) -> None:
        if self.pace == "every":
            # Whoever can hold its sender back need not leave scores out.
            self._room.wait()
        match event:
            case Scored():
                self._scored(event)
            case Shed():
                self._soon(self.drop, "overtaken", event.n, float(event.first_pts * event.time_base))
            case Failed():
                self._soon(self.drop, "nets_failed", 1, float(event.pts * event.time_base))
                log.warning("nets_failed", stream=self.id, detail=str(event.error))

    def _scored(self, scored: Scored) -> None:
        at = moment(scored.pts, scored.time_base)
        judged = [score.p for score in scored.scores if score.p is not None]
        stamp = scored.pts - scored.shift
        captured = self._source.captured.get(stamp) if isinstance(self._source, FedPictures) else None
        self._t = at.t
        took = scored.took
        self._latencies.append(took.all_s)
        for score in scored.scores:
            if score.track not in self._seen:
                self._soon(self.emit, FaceEvent(session_id=self.id, track=score.track, state="appeared", at=at))
            self._seen[score.track] = scored
        for track, last in list(self._seen.items()):
            if float((scored.pts - last.pts) * scored.time_base) > LEFT_S:
                del self._seen[track]
                gone = moment(last.pts, last.time_base)
                self._soon(self.emit, FaceEvent(session_id=self.id, track=track, state="left", at=gone))
        self._soon(
            self.emit,
            ScoreEvent(
                session_id=self.id,
                at=at,
                stamp=stamp,
                provenance=scored.provenance,
                p=max(judged) if judged else None,
                faces=[timeline_row(score) for score in scored.scores],
                latency_s=took.all_s,
                stages=LatencyStages(decode_s=took.decode_s, wait_s=took.wait_s, look_s=took.look_s),
                judged_at=time.time(),
                capture_epoch_us=captured,
            ),
        )
