"""The hall: bytes become `Frame`s with their real timestamps. The only importer of `av`; `analysis.py` takes what it yields."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Literal
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.errors import (
    DecodeError,
    EmptySource,
    MediaTooLarge,
    NotAFile,
    NoVideoStream,
    SourceError,
    SourceNotFound,
    SourceUnreachable,
    StillImage,
    UnsupportedMedia,
)
from pipelines.sampling import Sampler

Provenance = Literal["container", "container_cfr", "rtp", "client", "arrival"]
FrameFlag = Literal["no_pts", "duplicate", "discontinuity", "gap", "corrupt", "tainted", "partial"]
Image = NDArray[np.uint8]

# Containers that hold their own media. Playlists, concat lists and SDP would make FFmpeg open what they name: other files, other hosts.
FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,mjpeg,ivf"
HDR_TRANSFERS: Final = (16, 18)  # PQ and HLG, ITU-T H.273 table 3
TEXT_BYTES: Final = frozenset(range(32, 127)) | {9, 10, 13}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture with its time."""

    image: Image
    """uint8 RGB, shape (H, W, 3), rotation applied."""
    pts: int
    """Presentation timestamp in ticks of `time_base`."""
    time_base: Fraction
    """Seconds per tick, exact."""
    provenance: Provenance = "container"
    """Who said when: the container, RTP, a client's clock."""
    flags: frozenset[FrameFlag] = frozenset()
    dropped_before: int = 0
    """Frames known to be lost between the previous Frame and this one."""

    @property
    def t(self) -> float:
        """Media time in seconds, for people; the model gets differences of ticks."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an untrusted file may ask of this machine before it is refused with MediaTooLarge."""

    max_pixels: int = 9_437_184  # 3072 x 3072: 4K passes, a 16384 x 8192 bomb does not
    max_streams: int = 32
    max_duration_s: float = 6 * 3600.0
    max_frames: int = 2_000_000
    open_timeout_s: float = 8.0
    read_timeout_s: float = 8.0


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


@dataclass(slots=True)
class FrameCounts:
    """What happened to the frames of one source; every repair and refusal is counted."""

    decoded: int = 0
    yielded: int = 0
    no_pts: int = 0
    duplicate: int = 0
    backward: int = 0
    corrupt: int = 0
    decode_errors: int = 0


@dataclass(frozen=True, slots=True)
class MediaWarning:
    """Something the reader of a result must know about its source: `truncated`, `timestamps_repaired`, ..."""

    code: str
    detail: str


class FrameSource:
    """An opened video, to be iterated once; a context manager that always closes its container."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, media: MediaInfo, *, hz: float | None, limits: Limits, name: str
    ) -> None:
        self.media = media
        self.counts = FrameCounts()
        self.warnings: list[MediaWarning] = []
        self._container, self._stream = container, stream
        self._sampler, self._limits, self._name = Sampler(hz), limits, name
        self._used = False

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the wanted Frames in order of time.

        Raises:
            DecodeError: not one frame came out.
            MediaTooLarge: a limit was passed on the way.
            SourceError: the source was iterated before.
        """
        if self._used:
            raise SourceError("A source can be read once.", expected="a newly opened source", got="one that was read before")
        self._used = True
        yield from self._wanted()
        self._conclude()

    def close(self) -> None:
        """Let go of the file or connection; may be called twice."""
        self._container.close()

    def _wanted(self) -> Iterator[Frame]:
        provenance: Provenance = "container_cfr" if "avi" in self.media.container.split(",") else "container"
        reformatter = VideoReformatter()
        self._first_pts: int | None = None
        self._last_pts: int | None = None
        tainted = False
        for picture in self._decoded():
            self.counts.decoded += 1
            if self.counts.decoded > self._limits.max_frames:
                raise MediaTooLarge("The video has too many frames.", expected=f"at most {self._limits.max_frames} frames", got="more")
            _check_pixels(picture.width, picture.height, self._limits)
            if picture.is_corrupt:
                self.counts.corrupt += 1
            tainted = (tainted and not picture.key_frame) or picture.is_corrupt
            if not self._in_order(picture.pts):
                continue
            pts = picture.pts
            assert pts is not None  # _in_order refused None
            self._last_pts = pts
            self._first_pts = pts if self._first_pts is None else self._first_pts
            if float((pts - self._first_pts) * self.media.time_base) > self._limits.max_duration_s:
                raise MediaTooLarge(
                    "The video is too long.",
                    expected=f"at most {self._limits.max_duration_s:.0f} s of media",
                    got=f"more than {float((pts - self._first_pts) * self.media.time_base):.0f} s",
                )
            self._note_colour(picture)
            if self._sampler.wants(pts, self.media.time_base):
                self.counts.yielded += 1
                flags: set[FrameFlag] = {"corrupt"} if picture.is_corrupt else {"tainted"} if tainted else set()
                yield Frame(_rgb(picture, reformatter), pts, self.media.time_base, provenance, frozenset(flags))

    def _decoded(self) -> Iterator[VideoFrame]:
        """Every picture of the stream; damage is counted and stepped over until the demuxer itself gives up."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    yield from packet.decode()
                except av.error.ArgumentError as error:
                    # The decoder refuses to open for max_pixels with this; later on it is damage like any other.
                    if self.counts.decoded == 0:
                        expected = _pixels(self._limits.max_pixels)
                        raise MediaTooLarge("A picture has too many pixels.", expected=expected, got=_plain(error)) from error
                    self.counts.decode_errors += 1
                except av.error.FFmpegError:
                    self.counts.decode_errors += 1
        except (av.error.TimeoutError, av.error.ExitError) as error:
            raise SourceUnreachable(
                "The source stopped sending.", expected=f"data within {self._limits.read_timeout_s:g} s", got=_plain(error)
            ) from error
        except av.error.FFmpegError:
            self.counts.decode_errors += 1

    def _in_order(self, pts: int | None) -> bool:
        """Count and refuse what has no time, repeats the last time or goes back; pictures before an edit list's start are not shown."""
        if pts is None:
            self.counts.no_pts += 1
        elif self._last_pts is not None and pts == self._last_pts:
            self.counts.duplicate += 1
        elif self._last_pts is not None and pts < self._last_pts:
            self.counts.backward += 1
        else:
            return not (pts < 0 and "mov" in self.media.container)
        return False

    def _note_colour(self, picture: VideoFrame) -> None:
        if picture.color_trc in HDR_TRANSFERS:
            self._warn("hdr_not_tonemapped", "The video is HDR; it was converted to 8 bits without tone mapping.")
        if picture.interlaced_frame:
            self._warn("interlaced", "The video is interlaced; fields were not separated.")

    def _warn(self, code: str, detail: str) -> None:
        if all(warning.code != code for warning in self.warnings):
            self.warnings.append(MediaWarning(code, detail))

    def _conclude(self) -> None:
        counts = self.counts
        if counts.yielded == 0:
            raise DecodeError(
                f"{self._name} could be opened, but no picture could be read.",
                expected="at least one decodable frame with a timestamp",
                got=f"{counts.decoded} decoded, {counts.no_pts} without a timestamp, {counts.decode_errors} errors",
            )
        if counts.corrupt or counts.decode_errors:
            self._warn("corrupt_frames", f"{counts.corrupt} damaged pictures, {counts.decode_errors} undecodable packets.")
        if counts.duplicate or counts.backward or counts.no_pts:
            self._warn(
                "timestamps_repaired",
                f"Dropped {counts.duplicate} repeated, {counts.backward} backward and {counts.no_pts} missing timestamps.",
            )
        declared = self.media.declared_duration_s
        if declared is not None and self._last_pts is not None and self._first_pts is not None:
            seen = float((self._last_pts - min(self._first_pts, 0)) * self.media.time_base)
            if declared - seen > max(1.0, 0.05 * declared):
                self._warn("truncated", f"The file says {declared:.1f} s, but its pictures end at {seen:.1f} s.")


def read_frames(source: str | os.PathLike[str], *, hz: float | None = 12.0, limits: Limits | None = None) -> FrameSource:
    """Open `source`, a path or an http(s) URL. The FrameSource yields Frames in order of time: all decoded, about `hz` a second converted.

    Raises:
        SourceError: it cannot be opened as video; see the tree in `errors.py`.
    """
    limits = limits or Limits()
    text = os.fspath(source)
    scheme = text.split("://", 1)[0].lower() if "://" in text else None
    size = None if scheme else _checked_file(Path(text))
    name = _shown(text)
    container = _open(text, scheme, limits, name)
    try:
        stream = _video_stream(container, limits, name)
        media = MediaInfo(
            container=container.format.name,
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            time_base=_time_base(stream),
            nominal_fps=None if stream.average_rate is None else float(stream.average_rate),
            declared_duration_s=_declared_duration(container, stream),
            size_bytes=size,
        )
    except BaseException:
        container.close()
        raise
    return FrameSource(container, stream, media, hz=hz, limits=limits, name=name)


def probe(source: str | os.PathLike[str], *, limits: Limits | None = None) -> MediaInfo:
    """Open, check against `limits` and decode one picture; raises the error that reading would raise first."""
    with read_frames(source, hz=None, limits=limits) as frames:
        next(iter(frames))
        return frames.media


def _checked_file(path: Path) -> int:
    """Size of a readable regular file with content, or the reason why it is not one; a pipe or device would block for ever."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise SourceNotFound(f"There is no file {path.name}.", expected="an existing video file", got="no such file") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path.name} cannot be looked at.", expected="a readable video file", got=_plain(error)) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise NotAFile(f"{path.name} is {kind}.", expected="a video file", got=kind)
    if status.st_size == 0:
        raise EmptySource(f"{path.name} is empty.", expected="a video file", got="0 bytes")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path.name} may not be read.", expected="a readable video file", got="permission denied")
    return status.st_size


def _open(text: str, scheme: str | None, limits: Limits, name: str) -> InputContainer:
    if scheme not in (None, "http", "https"):
        raise UnsupportedMedia(f"{scheme}:// is not read here.", expected="a file or an http(s) URL", got=f"{scheme}://")
    protocols = "file" if scheme is None else "http,https,tcp,tls"
    options = {"protocol_whitelist": protocols, "format_whitelist": FORMATS}
    if scheme is not None:
        # A redirect could lead to an address that nobody checked.
        options |= {"max_redirects": "0", "timeout": str(int(limits.open_timeout_s * 1e6))}
    # The prefix keeps FFmpeg from reading a name like "concat:a|b" as a protocol.
    url = f"file:{Path(text).absolute()}" if scheme is None else text
    try:
        container = av.open(url, "r", options=options, timeout=(limits.open_timeout_s, limits.read_timeout_s))
    except (av.error.HTTPError, av.error.TimeoutError, av.error.ExitError, OSError) as error:
        if scheme is None and not isinstance(error, PermissionError | FileNotFoundError):
            raise _refused_format(text, name, error) from error
        if scheme is None:
            raise SourceError(f"{name} cannot be opened.", expected="a readable video file", got=_plain(error)) from error
        raise SourceUnreachable(f"{name} cannot be reached.", expected="a URL that answers with a video", got=_plain(error)) from error
    except (av.error.FFmpegError, ValueError) as error:
        if scheme is not None and not isinstance(error, av.error.InvalidDataError):
            raise SourceUnreachable(f"{name} cannot be reached.", expected="a URL that answers with a video", got=_plain(error)) from error
        raise _refused_format(text, name, error) from error
    return container


def _refused_format(text: str, name: str, error: Exception) -> SourceError:
    """Say what the bytes look like, since the demuxer only says no."""
    head = b""
    if "://" not in text:
        with Path(text).open("rb") as file:
            head = file.read(64)
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    ):
        return StillImage(f"{name} is a picture.", expected="a video", got="a still image")
    if (
        head.startswith((b"ID3", b"fLaC", b"OggS"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")
        or head[:2] in (b"\xff\xfb", b"\xff\xf3")
    ):
        return NoVideoStream(f"{name} holds sound only.", expected="a video stream", got="audio")
    got = "a text file or playlist" if head and all(byte in TEXT_BYTES for byte in head) else _plain(error)
    return UnsupportedMedia(f"{name} is not a video that can be read.", expected=f"one of {FORMATS.replace(',', ', ')}", got=got)


def _video_stream(container: InputContainer, limits: Limits, name: str) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise MediaTooLarge(f"{name} has too many streams.", expected=f"at most {limits.max_streams}", got=str(len(container.streams)))
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        kinds = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
        raise NoVideoStream(f"{name} has no video stream.", expected="a video stream", got=", ".join(kinds))
    stream = max(videos, key=lambda one: 0 if one.codec_context is None else one.codec_context.width * one.codec_context.height)
    # PyAV 18.1 leaves the context None where FFmpeg has no decoder, or the header was cut off.
    if stream.codec_context is None:
        raise UnsupportedMedia(f"{name} uses a codec that cannot be decoded.", expected="a known video codec", got="an unknown one")
    _check_pixels(stream.codec_context.width, stream.codec_context.height, limits)
    # Slice threads, PyAV's default, hide damage: green pictures that are not marked corrupt. Frame threads mark them.
    stream.thread_type = "FRAME"
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
    return stream


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaTooLarge("The picture is too large.", expected=_pixels(limits.max_pixels), got=f"{width} x {height}")


def _pixels(most: int) -> str:
    return f"at most {most / 1e6:.1f} million pixels"


def _time_base(stream: VideoStream) -> Fraction:
    if stream.time_base is None:
        raise UnsupportedMedia("The video stream has no time base.", expected="timestamps", got="none")
    return Fraction(stream.time_base)


def _declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _rgb(picture: VideoFrame, reformatter: VideoReformatter) -> Image:
    """uint8 (H, W, 3), turned as the container asks; PyAV itself does not turn."""
    image = np.asarray(reformatter.reformat(picture, format="rgb24").to_ndarray(), dtype=np.uint8)
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _plain(error: Exception) -> str:
    """FFmpeg's reason without the path or URL that it adds: directories of the server and credentials are nobody's business."""
    reason = error.strerror if isinstance(error, OSError | av.error.FFmpegError) else str(error)
    return reason or type(error).__name__


def _shown(text: str) -> str:
    """The name to use in messages: no directories, and no credentials or query of a URL."""
    if "://" not in text:
        return Path(text).name
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
