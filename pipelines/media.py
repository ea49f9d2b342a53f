"""The words of media: what a source is, what a Frame of it is, what an untrusted one may ask for. Plain values, made by `frames.py`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.byte_feed import Readable
from pipelines.clock import Arrival, Mark
from pipelines.time_report import Provenance, TimeReport

FrameFlag = Literal["no_pts", "duplicate", "discontinuity", "gap", "corrupt", "tainted", "partial", "sparse"]
"""`sparse`: a key picture of a group that nobody wanted; what was filmed between it and the next was left out on purpose."""
Image = NDArray[np.uint8]
RtspTransport = Literal["tcp", "udp"]
"""What a camera's pictures come in: within the connection, in order and whole, or as datagrams, some of which are lost."""

DAMAGE: frozenset[FrameFlag] = frozenset({"corrupt", "tainted", "partial"})
"""Flags of a picture that is not what the camera filmed: shown, but never judged."""
BREAKS: frozenset[FrameFlag] = frozenset({"gap", "discontinuity"})
"""Flags of what happened to the time before a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture with its time."""

    image: Image
    """uint8 RGB, shape (H, W, 3), rotation applied."""
    pts: int
    """Presentation timestamp in ticks of `time_base`, on one timeline that never goes back."""
    time_base: Fraction
    """Seconds per tick, exact."""
    provenance: Provenance = "container"
    """Who said when."""
    flags: frozenset[FrameFlag] = frozenset()
    dropped_before: int = 0
    """Pictures known to be lost between the previous Frame and this one: no timestamp, a backward one, or undecodable."""
    missing_before: int = 0
    """Pictures that never came, by the steady interval of the others, between the previous Frame and this one. Told where
    media can be lost on its way (RTP, HLS, MPEG-TS); those of a gap are not among them."""
    missing_since: int | None = None
    """The place of the last picture before the first of them, wanted or not."""
    gap_since: int | None = None
    """The place of the last picture before a `gap`, wanted or not; None where this session had none."""
    epoch: int = 0
    """How often the timeline was broken and bridged before this Frame."""
    shift: int = 0
    """Ticks that bridging and unwrapping added: `pts - shift` is the stamp that the source itself gave."""
    arrival: Arrival | None = None
    """Of a live picture, when it came and what its sender said of UTC: for health and for bridging, never for the model."""

    @property
    def mark(self) -> Mark:
        """From where the next session of the same source goes on."""
        return Mark(self.pts, self.shift, self.epoch, self.time_base, self.arrival)

    @property
    def t(self) -> float:
        """Media time in seconds, for people; the model gets differences of ticks."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an untrusted source may ask of this machine before it is refused with MediaTooLarge.

    The last three hold where media is decoded in a child process (`service/media_sandbox.py`).
    """

    max_pixels: int = 9_437_184  # 3072 x 3072: 4K passes, a 16384 x 8192 bomb does not
    max_streams: int = 32
    max_duration_s: float = 6 * 3600.0
    max_frames: int = 2_000_000
    max_bytes: int = 16 * 1024**3
    open_timeout_s: float = 8.0
    read_timeout_s: float = 8.0
    max_wall_s: float = 4 * 3600.0
    max_cpu_s: int = 4 * 3600
    max_memory_bytes: int = 1024**3  # 17 pictures of 4K with 10 bits, as H.265 may keep, are 430 MB


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Facts about the source that need no decoding (declared, not trusted)."""

    container: str
    codec: str
    width: int
    height: int
    time_base: Fraction
    nominal_fps: float | None
    declared_duration_s: float | None
    size_bytes: int | None
    decode_backend: str = "software"
    """What decodes: `software`, or the hardware that was asked for and answered."""


@dataclass(slots=True)
class FrameCounts:
    """What happened to the frames of one source; every repair and refusal is counted."""

    decoded: int = 0
    yielded: int = 0
    no_pts: int = 0
    duplicate: int = 0
    backward: int = 0
    corrupt: int = 0
    tainted: int = 0
    partial: int = 0
    """Half-green pictures; looked for only among the wanted ones."""
    decode_errors: int = 0
    hidden: int = 0
    """Pictures before the start that an mp4's edit list sets: decoded, never shown."""


@dataclass(frozen=True, slots=True)
class MediaWarning:
    """Something the reader of a result must know about its source: `truncated`, `timestamps_repaired`, ..."""

    code: str
    detail: str


class Frames(Protocol):
    """An opened source of Frames, in this process (`FrameSource`) or in a child: iterate it once, then read what it found."""

    media: MediaInfo
    counts: FrameCounts
    warnings: list[MediaWarning]

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...

    def look(self, hz: float | None) -> None:
        """Another rate from one of the next frames on, `hz` a second of media (None: all); may be asked by another thread than reads."""
        ...

    @property
    def report(self) -> TimeReport:
        """How the source keeps time; whole once it was read to its end."""
        ...

    @property
    def cpu_s(self) -> float:
        """CPU seconds that another process spent on it; 0 where this one decodes."""
        ...


class Reader(Protocol):
    """Opens a source: `pipelines.frames.read_frames`, or the media sandbox's."""

    def __call__(
        self, source: str | os.PathLike[str] | Readable, *, hz: float | None, limits: Limits | None, closely: Collection[int] | None
    ) -> Frames: ...
