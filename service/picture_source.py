"""Where the pictures of a live stream come from: a seam. A source offers Frames and tells its state until it ends or is stopped.

`FedPictures` decodes what a client sends; a camera that the service connects to fits the same seam. Run by `stream_session.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from pipelines.media import Frame, FrameFlag, Frames, Limits, MediaInfo, Reader
from service.media_feed import MediaFeed
from service.picture_container import STAMP_OFFSET
from service.sandboxed_frames import SandboxedFrames
from service.stream_intake import Intake

OPEN_S: Final = 100.0
"""Opening waits for bytes that a client sends when it likes, or when it has come back; silence is the session's to notice."""
KEPT: Final = 16
CUT: Final[frozenset[FrameFlag]] = frozenset({"discontinuity"})


@dataclass(frozen=True, slots=True)
class SourceState:
    """How it is with a source."""

    state: Literal["connecting", "running", "stalled", "reconnecting"]
    attempt: int = 0
    next_retry_s: float | None = None
    code: str | None = None
    media: MediaInfo | None = None


class PictureSource(Protocol):
    """Offers Frames. One thread lives in `run`; `stop` may be called by another, at any time and more than once."""

    def run(self, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> None:
        """Offer Frames until there are no more, `offer` says False, or `stop` is called.

        Raises:
            PipelineError: there is no going on.
        """
        ...

    def stop(self) -> None:
        """Make `run` return soon."""
        ...


OpenCamera = Callable[[str, Callable[[], float]], PictureSource]
"""Makes the source of a URL, that looks as often as it is told; refuses with a typed error what may not be connected to."""


class FedPictures:
    """Decodes a feed of a client's bytes.

    Args:
        feed: what to decode.
        read: opens it, in a child.
        limits: what it may ask for.
        hz: frames a second at most.
        intake: of single pictures, whose stamps are the client's; None for a container.
        rate: how often to look from now on, asked after each picture; None leaves it at `hz`.
    """

    def __init__(
        self, feed: MediaFeed, read: Reader, limits: Limits, *, hz: float, intake: Intake | None, rate: Callable[[], float] | None
    ) -> None:
        self._feed, self._read, self._hz, self._intake, self._rate = feed, read, hz, intake, rate
        self._limits = replace(limits, open_timeout_s=OPEN_S)
        self._lock = threading.Lock()
        self._frames: Frames | None = None
        self._stopped = False
        self.captured: dict[int, int] = {}
        """Stamp -> when the client says that it was filmed, of the last few pictures offered."""

    def run(self, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> None:
        """See PictureSource."""
        tell(SourceState("connecting"))
        with self._read(self._feed, hz=self._hz, limits=self._limits, closely=None) as frames:
            with self._lock:
                self._frames = frames
                if self._stopped:
                    return
            tell(SourceState("running", media=frames.media))
            asked = self._hz
            for frame in frames:
                if not offer(frame if self._intake is None else self._as_told(frame, self._intake)):
                    return
                if self._rate is not None and (hz := self._rate()) != asked:
                    frames.look(hz)
                    asked = hz

    def stop(self) -> None:
        """See PictureSource."""
        self._feed.abort()
        with self._lock:
            self._stopped = True
            # In this process only the thread that reads may close; the feed has ended, so it soon will.
            if isinstance(self._frames, SandboxedFrames):
                self._frames.close()

    def _as_told(self, frame: Frame, intake: Intake) -> Frame:
        """A picture with the stamp that its client gave, and what its header said; headers of pictures that were not wanted go by."""
        pts = frame.pts - STAMP_OFFSET
        stamp, cut = pts - frame.shift, False
        waiting = [told.pts_us for told in intake.told.copy()]
        if stamp in waiting:
            for _ in range(waiting.index(stamp) + 1):
                told = intake.told.popleft()
                cut |= told.discontinuity
            if told.capture_epoch_us is not None:
                self.captured[stamp] = told.capture_epoch_us
        while len(self.captured) > KEPT:
            del self.captured[next(iter(self.captured))]
        flags = frame.flags | CUT if cut else frame.flags
        return replace(
            frame,
            pts=pts,
            missing_since=_moved_back(frame.missing_since),
            gap_since=_moved_back(frame.gap_since),
            provenance="client",
            flags=flags,
        )


def _moved_back(pts: int | None) -> int | None:
    return None if pts is None else pts - STAMP_OFFSET
