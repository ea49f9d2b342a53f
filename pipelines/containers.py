"""Opening: a path, byte feed or URL comes in, an open container and its video stream go out, or a typed refusal. Asked by `frames.py`.

FFmpeg never opens a file by itself. A file is opened here, looked at, and handed over as a nameless feed of bytes: its format is told by
its content alone, and whatever it refers to (playlists, concat lists, external tracks) has no protocol to be opened with.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pipelines.byte_feed import ByteFeed, Readable, SeekableFeed, feed_of, open_file
from pipelines.errors import (
    EmptySource,
    MediaTooLarge,
    NoVideoStream,
    SourceAbsent,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    StillImage,
    UnsupportedMedia,
    UrlNotAllowed,
)
from pipelines.media import Limits, RtspTransport

Source = str | os.PathLike[str] | Readable

# Containers that hold their own media. Playlists, concat lists and SDP would make FFmpeg open what they name: other files, other hosts.
FORMATS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,mjpeg,ivf"
TEXT_BYTES: Final = frozenset(range(32, 127)) | {9, 10, 13}
# Large enough that a picture seldom needs two calls into Python, small enough that seeking in an mp4 does not read it twice.
BUFFER_BYTES: Final = 256 * 1024
# Asking again will not help: research/streaming.md, row 4.
PERMANENT: Final = (
    av.error.HTTPBadRequestError,
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
)
STILL_BRANDS: Final = frozenset({"avif", "heic", "heix", "heim", "heis", "mif1"})  # ISO/IEC 23008-12; sequences have others
TAGGED_DURATION: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)\0*")
PROBE: Final = {"format_whitelist": FORMATS, "protocol_whitelist": "none"}


@dataclass(slots=True)
class Opened:
    """An open container, to be closed by whoever asked for it."""

    container: InputContainer
    stream: VideoStream
    feed: ByteFeed | None
    """What a file's or a caller's bytes come through; None for a URL."""
    name: str
    """What to call the source in messages: no directory, no credentials."""
    size_bytes: int | None
    live: bool
    """A camera: its end is a disconnection, and a picture is wanted at once."""
    backend: str
    closing: ExitStack
    declared_duration_s: float | None
    declared_end_s: float | None
    """When the last picture has been shown, by what the container says."""
    closed: bool = False
    """PyAV ends the process when a closed container is read on; so ask."""

    def close(self) -> None:
        """Let go of the file or connection; may be called twice, but not by another thread than the one that reads."""
        self.closed = True
        self.closing.close()


def open_source(
    source: Source,
    limits: Limits,
    *,
    hwaccel: str | None = None,
    live: bool = False,
    transport: RtspTransport = "tcp",
    known_as: str | None = None,
) -> Opened:
    """Open `source` and choose its largest video stream; messages call it `known_as`. A URL may be said to be `live`; RTSP is.

    Raises:
        SourceError: see the tree in `errors.py`.
    """
    with ExitStack() as closing:
        name, size, filmed, feed = "the byte feed", None, False, None
        if isinstance(source, str | os.PathLike) and "://" in os.fspath(source):
            url = os.fspath(source)
            name, filmed = _shown(url), live or url.lower().startswith("rtsp")
            options = _url_options(url, limits, transport)
        elif isinstance(source, str | os.PathLike):
            path = Path(source)
            name = path.name
            feed, options = feed_of(closing.enter_context(open_file(path)), max_bytes=limits.max_bytes), PROBE
        else:
            feed, options = feed_of(source, max_bytes=limits.max_bytes), PROBE
        if isinstance(feed, SeekableFeed):
            size = feed.size_bytes
        name = known_as or name
        container, backend = _open_container(feed or url, options, limits, name, hwaccel)
        if "avi" in container.format.name and isinstance(feed, SeekableFeed):
            # AVI knows no times of showing; those that FFmpeg makes up are those of decoding, wrong wherever there are B pictures.
            container.close()
            feed.seek(0)
            container, backend = _open_container(feed, {**options, "fflags": "-genpts"}, limits, name, hwaccel)
        closing.callback(container.close)
        if container.metadata.get("major_brand", "").strip() in STILL_BRANDS:
            raise StillImage(f"{name} is a picture.", expected="a video", got="a still image")
        stream = _video_stream(container, limits, name, url=feed is None)
        return Opened(container, stream, feed, name, size, filmed, backend, closing.pop_all(), *_declared(container, stream))
    raise AssertionError("ExitStack swallows nothing")


def _url_options(url: str, limits: Limits, transport: RtspTransport) -> dict[str, str]:
    """What FFmpeg may open for `url`, and how long it may take (research/streaming.md section 2.1 and row 31)."""
    parts = urlsplit(url)
    wait_us = str(int(limits.read_timeout_s * 1e6))
    match parts.scheme.lower():
        case "http" | "https":
            playlist = parts.path.lower().endswith(".m3u8")
            formats = f"hls,{FORMATS}" if playlist else FORMATS
            # A redirect could lead to an address that nobody checked.
            return {
                "protocol_whitelist": "http,https,tcp,tls,httpproxy" + (",crypto" if playlist else ""),
                "format_whitelist": formats,
                "max_redirects": "0",
                "timeout": wait_us,
            }
        case "rtsp" | "rtsps":
            encrypted = parts.scheme.lower() == "rtsps"
            return {
                # Over UDP a lost packet is a lost picture, and FFmpeg does not say so: for who asks for it, and where nothing is secret.
                "rtsp_transport": "tcp" if encrypted else transport,
                # Datagrams of that host and port alone, since anybody can send some; and FFmpeg then connects, which `net_gate.py` needs.
                "rtsp_flags": "filter_src",
                # With sound beside it, FFmpeg moves the picture's stamps at every sender report.
                "allowed_media_types": "video",
                # Without rtsp itself: the server is asked by the demuxer, and a redirect (302) would be opened by name.
                "protocol_whitelist": "rtp,udp,tcp" + (",tls,httpproxy" if encrypted else ""),
                "format_whitelist": f"rtsp,rtp,sdp,{FORMATS}",
                "timeout": wait_us,
                "analyzeduration": "500000",
                "fpsprobesize": "0",
            }
        case scheme:
            raise UnsupportedMedia(f"{scheme}:// is not read here.", expected="a file, or an http(s) or rtsp(s) URL", got=f"{scheme}://")


def _open_container(
    what: ByteFeed | str, options: dict[str, str], limits: Limits, name: str, hwaccel: str | None
) -> tuple[InputContainer, str]:
    """The container, and what will decode it: hardware that cannot be had is replaced by software here, because PyAV itself raises."""
    # The attempt takes bytes, which a feed that cannot go back does not give twice.
    if hwaccel is not None and (not isinstance(what, ByteFeed) or what.can_seek):
        try:
            # Pictures stay where they were decoded; those that are wanted come when `pictures.py` converts them, the others never.
            accelerated = HWAccel(hwaccel, allow_software_fallback=False, is_hw_owned=True)
            return _av_open(what, options, limits, accelerated), hwaccel
        except (av.error.FFmpegError, ValueError, RuntimeError, NotImplementedError, OSError):
            if isinstance(what, SeekableFeed):
                what.seek(0)
    try:
        return _av_open(what, options, limits, None), "software"
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if isinstance(what, ByteFeed):
            what.raise_error(name)
            raise _refused_format(what, name, error) from error
        # Not `from error`: its text is the whole URL, credentials and all, and tracebacks are logged.
        if isinstance(error, av.error.InvalidDataError) and not what.lower().startswith("rtsp"):
            raise _refused_format(None, name, error) from None
        if isinstance(error, av.error.ArgumentError) and isinstance(what, str) and what.lower().startswith("rtsp"):
            raise UrlNotAllowed(f"{name} leads elsewhere, and is not followed.", expected="a stream", got="a redirect") from None
        if isinstance(error, OSError) and error.errno == errno.EPROTONOSUPPORT:
            said = options.get("rtsp_transport", "")
            raise SourceRefused(
                f"{name} does not send over {said.upper()}.", expected="a camera that does", got="461 Unsupported transport"
            ) from None
        kind = SourceRefused if isinstance(error, PERMANENT) else SourceUnreachable
        if isinstance(error, av.error.HTTPNotFoundError):
            kind = SourceAbsent
        raise kind(f"{name} cannot be reached.", expected="a URL that answers with a video", got=plain(error)) from None


def _av_open(what: ByteFeed | str, options: dict[str, str], limits: Limits, hwaccel: HWAccel | None) -> InputContainer:
    timeout = (limits.open_timeout_s, limits.read_timeout_s)
    # PyAV's stub names paths and binary files; what it calls is read, and seek and tell where there are any.
    return av.open(cast(str, what), "r", options=options, timeout=timeout, buffer_size=BUFFER_BYTES, hwaccel=hwaccel)


def _refused_format(feed: ByteFeed | None, name: str, error: Exception) -> SourceError:
    """Say what the bytes look like, since the demuxer only says no."""
    head = b""
    if isinstance(feed, SeekableFeed):
        feed.seek(0)
        head = feed.read(64)
    if feed is not None and feed.is_empty:
        return EmptySource(f"{name} is empty.", expected="a video", got="0 bytes")
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
    got = "a text file or playlist" if head and all(byte in TEXT_BYTES for byte in head) else plain(error)
    return UnsupportedMedia(f"{name} is not a video that can be read.", expected=f"one of {FORMATS.replace(',', ', ')}", got=got)


def _video_stream(container: InputContainer, limits: Limits, name: str, *, url: bool) -> VideoStream:
    if len(container.streams) > limits.max_streams:
        raise MediaTooLarge(f"{name} has too many streams.", expected=f"at most {limits.max_streams}", got=str(len(container.streams)))
    if not container.streams and url:
        raise SourceUnreachable(f"{name} sends nothing.", expected="a URL that answers with a video", got="no streams")
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        kinds = sorted({str(stream.type) for stream in container.streams}) or ["nothing"]
        raise NoVideoStream(f"{name} has no video stream.", expected="a video stream", got=", ".join(kinds))
    stream = max(videos, key=lambda one: 0 if one.codec_context is None else one.codec_context.width * one.codec_context.height)
    # PyAV 18.1 leaves the context None where FFmpeg has no decoder, or the header was cut off.
    if stream.codec_context is None:
        raise UnsupportedMedia(f"{name} uses a codec that cannot be decoded.", expected="a known video codec", got="an unknown one")
    if stream.time_base is None:
        raise UnsupportedMedia(f"{name} has no time base.", expected="timestamps", got="none")
    check_pixels(stream.codec_context.width, stream.codec_context.height, limits)
    # Slice threads, PyAV's default, hide damage: green pictures that are not marked corrupt (research/streaming.md section 0.3). One thread
    # costs the least CPU for a picture and gives each at once; streams and analyses are what runs side by side here.
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    # Decoders pad the picture (H.264 to blocks of 16) before they compare; what is above the limit itself is refused picture by picture.
    stream.codec_context.options = {"max_pixels": str(2 * limits.max_pixels + 2**16)}
    return stream


def _declared(container: InputContainer, stream: VideoStream) -> tuple[float | None, float | None]:
    """Length and end in seconds. A stream's length counts from its start; Matroska's, the only one it has, from zero."""
    start = 0.0
    if stream.time_base is not None and stream.start_time is not None:
        start = float(stream.start_time * stream.time_base)
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
        return duration, start + duration
    # Matroska's own length is that of the longest track, which may be the sound; some writers add one for each.
    if written := TAGGED_DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = (float(part) for part in written.groups())
        duration = 3600 * hours + 60 * minutes + seconds
        return duration, duration
    if container.duration is None or len(container.streams) > 1:
        return None if container.duration is None else container.duration / 1e6, None
    duration = container.duration / 1e6
    return duration, duration if "matroska" in container.format.name else start + duration


def preload() -> None:
    """Import what PyAV would import at first use, for a process that will not be able to open files by then."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise MediaTooLarge for a picture above the limit; asked for every picture, since the size may change on the way."""
    if width * height > limits.max_pixels:
        raise MediaTooLarge("The picture is too large.", expected=pixels(limits.max_pixels), got=f"{width} x {height}")


def pixels(most: int) -> str:
    """The limit in words."""
    return f"at most {most / 1e6:.1f} million pixels"


def plain(error: Exception) -> str:
    """FFmpeg's reason without the path or URL that it adds: directories of the server and credentials are nobody's business."""
    reason = error.strerror if isinstance(error, OSError | av.error.FFmpegError) else str(error)
    return reason or type(error).__name__


def _shown(url: str) -> str:
    """A URL without credentials and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
