"""A camera in the real world: a URL comes in; Frames on one timeline go out, through stalls, outages and restarts, and word of each.

Made by `Cameras`, run by whoever runs a live stream (`picture_source.PictureSource`). Each session has a decode child of its own, so that
whatever hangs can be ended; what it knew of time goes on in the next, and an outage is a real dt.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pipelines.clock import Mark
from pipelines.errors import DecodeError, PipelineError, SourceAbsent, SourceRefused, SourceSilent, SourceUnreachable
from pipelines.media import Frame, Limits, RtspTransport
from service.backoff import OpenLimiter, full_jitter
from service.media_sandbox import MediaSandbox
from service.picture_source import PictureSource, SourceState
from service.sandboxed_frames import SandboxedFrames

SILENT_S: Final = 4.0
STALLED_S: Final = 1.5
# A camera of one picture in two seconds is not silent between two of them.
STALLED_INTERVALS, SILENT_INTERVALS = 3, 5
HEALTHY_S: Final = 30.0
"""Pictures for so long make up for earlier failures; a shorter success is how a camera behaves that is about to fail again."""
# What may get better by itself. A camera that says no, or shows what cannot be read, will say so again.
PASSING: Final = (SourceUnreachable, DecodeError)
FOREVER: Final = 10**9


class Cameras:
    """Makes sources of URLs (`picture_source.OpenCamera`), which share a limit on how many connections begin.

    Args:
        sandbox: where they are decoded; its policy says where URLs may point.
        limits: what a camera may ask of this machine, but for how long: it does not end.
        silent_s: seconds without a picture, at opening and later, after which a connection is given up for a new one.
        give_up_s: seconds without a picture after which there is no going on; None never gives up.
        transport: how rtsp:// cameras are to send.
    """

    def __init__(
        self,
        sandbox: MediaSandbox,
        *,
        limits: Limits | None = None,
        silent_s: float = SILENT_S,
        give_up_s: float | None = None,
        transport: RtspTransport = "tcp",
    ) -> None:
        self._sandbox, self._silent_s, self._give_up_s, self._transport = sandbox, silent_s, give_up_s, transport
        self._limits = replace(
            limits or Limits(),
            open_timeout_s=silent_s,
            # The source's own watch comes first; FFmpeg's is there for a child that nobody watches any more.
            read_timeout_s=2 * silent_s,
            max_frames=2**62,
            max_duration_s=float("inf"),
            max_wall_s=float("inf"),
            max_cpu_s=FOREVER,
        )
        self._opens = OpenLimiter()

    def open(self, url: str, rate: Callable[[], float], *, forever: bool = False) -> PictureSource:
        """The source of `url`, which looks as often as `rate` says; one that is to last `forever` never gives up,
        and waits for a camera that its relay does not know yet.

        Raises:
            UrlNotAllowed, UnsupportedMedia: it may not be opened; one whose host is not known now may be later.
        """
        with suppress(SourceUnreachable):
            self._sandbox.policy.admit(url)
        return LiveSource(
            url,
            rate,
            sandbox=self._sandbox,
            limits=self._limits,
            silent_s=self._silent_s,
            give_up_s=None if forever else self._give_up_s,
            forever=forever,
            transport=self._transport,
            opens=self._opens,
        )


class _Stopped(Exception):
    """Somebody asked for the end."""


class _Silent(Exception):
    """No picture for too long."""


@dataclass(slots=True)
class _Watch:
    """When the last picture of a session came, by this process's own clock: of all that were decoded, whether or not they were wanted."""

    now: Callable[[], float]
    last_s: float
    decoded: int = 0
    flowing: bool = False
    intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=31))
    _before: tuple[float, int] | None = None

    def saw(self, decoded: int) -> None:
        """So many were decoded until now."""
        if decoded != self.decoded:
            self.decoded, self.last_s = decoded, self.now()

    def shown(self, frame: Frame, decoded: int) -> None:
        """One that was wanted."""
        self.saw(decoded)
        if self._before is not None and decoded > self._before[1]:
            self.intervals_s.append((frame.t - self._before[0]) / (decoded - self._before[1]))
        self._before = frame.t, decoded

    @property
    def silent_s(self) -> float:
        return self.now() - self.last_s

    @property
    def usual_s(self) -> float:
        """Seconds of media between two pictures, on the whole."""
        return statistics.median(self.intervals_s) if self.intervals_s else 0.0


class LiveSource:
    """See `Cameras`, and `picture_source.PictureSource`. `now` is the monotonic clock, `draw` gives random numbers in [0, 1)."""

    def __init__(
        self,
        url: str,
        rate: Callable[[], float],
        *,
        sandbox: MediaSandbox,
        limits: Limits,
        silent_s: float,
        give_up_s: float | None,
        forever: bool,
        transport: RtspTransport,
        opens: OpenLimiter,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._url, self._rate, self._sandbox, self._limits = url, rate, sandbox, limits
        self._silent_s, self._give_up_s, self._transport = silent_s, give_up_s, transport
        self._opens, self._now, self._draw = opens, now, draw
        self._forever = forever
        self._stopped = threading.Event()
        self._mark: Mark | None = None
        self._failures = 0

    def run(self, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> None:
        """See PictureSource.

        Raises:
            PipelineError: the camera says no, shows what cannot be read, or was away for longer than it may be.
        """
        tell(SourceState("connecting"))
        seen_s = self._now()
        with suppress(_Stopped):
            while True:
                self._wait(self._opens.turn())
                watch = _Watch(self._now, self._now())
                try:
                    if not self._session(watch, offer, tell):
                        return
                    code = "disconnected"
                    error: PipelineError = SourceUnreachable("The camera went away.", expected="pictures", got="an end")
                except _Silent:
                    code, error = "stalled", SourceSilent("The camera fell silent.", expected="pictures", got="none")
                except SourceRefused as refusal:
                    # A relay has nothing to show while a camera that it knows is away; a wrong path would say the same for ever.
                    known = self._mark is not None or self._forever
                    if not (isinstance(refusal, SourceAbsent) and known):
                        raise
                    code, error = refusal.slug, refusal
                except PASSING as refusal:
                    code, error = refusal.slug, refusal
                if watch.decoded:
                    seen_s = watch.last_s
                self._failures += 1
                delay_s = full_jitter(self._failures, self._draw)
                if self._give_up_s is not None and self._now() + delay_s - seen_s > self._give_up_s:
                    raise error
                again: Literal["connecting", "reconnecting"] = "connecting" if self._mark is None else "reconnecting"
                tell(SourceState(again, attempt=self._failures, next_retry_s=delay_s, code=code))
                self._wait(delay_s)

    def stop(self) -> None:
        """See PictureSource."""
        self._stopped.set()

    def _session(self, watch: _Watch, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> bool:
        """One connection, to its end; whether there should be another."""
        frames: SandboxedFrames | None = None
        running = SourceState("running")

        def idle() -> None:
            if self._stopped.is_set():
                raise _Stopped
            if frames is None:
                return  # opening has its own limit
            watch.saw(frames.counts.decoded)
            if watch.silent_s > max(self._silent_s, SILENT_INTERVALS * watch.usual_s):
                raise _Silent
            stalled_s = max(min(STALLED_S, self._silent_s / 2), STALLED_INTERVALS * watch.usual_s)
            if watch.flowing and watch.silent_s > stalled_s:
                watch.flowing = False
                tell(replace(running, state="stalled", code="stalled"))

        asked = self._rate()
        with self._sandbox.read_frames(
            self._url, hz=asked, limits=self._limits, live=True, after=self._mark, idle=idle, transport=self._transport
        ) as opened:
            running = SourceState("running", media=opened.media)
            frames = opened
            began_s = watch.last_s = self._now()
            for frame in opened:
                if not watch.flowing:
                    watch.flowing = True
                    tell(running)
                watch.shown(frame, opened.counts.decoded)
                self._mark = frame.mark
                if self._stopped.is_set():
                    raise _Stopped
                if self._now() - began_s >= HEALTHY_S:
                    self._failures = 0
                if not offer(frame):
                    return False
                if (hz := self._rate()) != asked:
                    opened.look(hz)
                    asked = hz
        # A download that says how long it is has an end, a camera has none.
        return opened.media.declared_duration_s is None or self._url.lower().startswith("rtsp")

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _Stopped
