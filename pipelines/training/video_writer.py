"""The one place that writes video: pictures and their ticks in, a file with those times out. For training, evaluation and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Final, Protocol, Self, cast

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream

from pipelines.media import Image

CODECS: Final[dict[str, dict[str, str]]] = {
    # Macroblock trees make x264 give other bits from run to run on pictures this small (measured: 24 of 25 runs differed, without: none).
    "libx264": {"preset": "veryfast", "threads": "1", "x264-params": "no-mbtree=1"},
    "mpeg4": {"threads": "1"},
    # "good", because "realtime" looks at the clock and gives the two of a pair different errors.
    "libvpx": {"deadline": "good", "cpu-used": "5", "threads": "1"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "threads": "1"},
    "mjpeg": {"threads": "1", "strict": "unofficial"},
    "ffv1": {},
}
"""Codecs for wearing clips out (and one that loses nothing), with what makes them repeatable."""
CANNOT_WRITE: Final = (av.error.FFmpegError, OSError, ValueError, OverflowError)
"""What writing raises of pictures, times or places that codec or container cannot have."""
_PIXELS: Final = {"ffv1": "bgr0", "mjpeg": "yuvj420p"}


def quality_options(codec: str, quality: int) -> dict[str, str]:
    """Options of one of CODECS at a quality: CRF, or the quantiser where a codec has no CRF; ffv1 has neither.

    Raises:
        KeyError: it is none of CODECS.
    """
    options = dict(CODECS[codec])
    if codec in ("mpeg4", "mjpeg"):
        return options | {"qmin": str(quality), "qmax": str(quality)}
    return options if codec == "ffv1" else options | {"crf": str(quality)}


class Sink(Protocol):
    """Where a file goes that is no path. What is known last is written first: it must go back."""

    def write(self, data: bytes, /) -> int: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class VideoWriter:
    """A video under way, as a context; the first picture says how large it is.

    Args:
        out: where to.
        container: FFmpeg's name of it. Matroska and WebM know milliseconds only, whatever the tick.
        tick: seconds of one tick of `write`.
        lasts: ticks that the picture at each tick is shown for, where the container should say so; asked once for each.
        muxing: options of the container.
        bt709: convert to YUV by BT.709 and say so, as browsers take HD for; else as swscale does by itself, unsaid.
        pixel_aspect: the width of a pixel over its height.
    """

    def __init__(
        self,
        out: Path | Sink,
        codec: str,
        options: Mapping[str, str],
        *,
        container: str = "matroska",
        tick: Fraction,
        lasts: Mapping[int, int] | None = None,
        muxing: Mapping[str, str] | None = None,
        bt709: bool = False,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        # PyAV's stub names whole files; what it calls is this.
        to = str(out) if isinstance(out, Path) else cast(IO[bytes], out)
        self._container = av.open(to, "w", format=container, container_options=dict(muxing or {}))
        self._codec, self._options, self._tick, self._lasts = codec, dict(options), tick, lasts
        self._bt709 = VideoReformatter() if bt709 else None
        self._pixel_aspect = pixel_aspect
        self._stream: VideoStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._stream is not None and error is None:
            self._put(None)
        self._container.close()

    def write(self, picture: Image, tick: int) -> None:
        """Add a picture (H, W, 3); ticks must rise."""
        if self._stream is None:
            self._stream = self._begin(picture)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = tick, self._tick
        if self._bt709 is not None:
            frame = self._bt709.reformat(
                frame, format=self._stream.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
            )
        self._put(frame)

    def _put(self, frame: av.VideoFrame | None) -> None:
        assert self._stream is not None
        for packet in self._stream.encode(frame):
            if self._lasts is not None:
                packet.duration = self._lasts[int(packet.pts or 0)]
            self._container.mux(packet)

    def _begin(self, picture: Image) -> VideoStream:
        stream = self._container.add_stream(self._codec, rate=30, options=self._options)
        if not isinstance(stream, VideoStream):
            raise ValueError(f"codec must encode video; got {self._codec}")
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = _PIXELS.get(self._codec, "yuv420p")
        stream.codec_context.time_base = self._tick
        if self._bt709 is not None:
            codec = stream.codec_context
            codec.colorspace, codec.color_range = int(Colorspace.ITU709), int(ColorRange.MPEG)
            codec.color_primaries, codec.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        if self._pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        return stream
