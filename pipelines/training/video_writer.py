"""The one place that writes video: pictures and their ticks in, a file with those times out. For training, evaluation and evidence."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO, Final, Self

import av
import numpy as np
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


class VideoWriter:
    """A video under way, as a context; the first picture says how large it is.

    Args:
        out: where to; a path, or a binary file that can be sought.
        container: FFmpeg's name of it. Matroska and WebM know milliseconds only, whatever the tick.
        tick: seconds of one tick of `write`.
        lasts: ticks that the picture at each tick is shown for, where the container should say so.
    """

    def __init__(
        self,
        out: Path | IO[bytes],
        codec: str,
        options: Mapping[str, str],
        *,
        container: str = "matroska",
        tick: Fraction,
        lasts: Mapping[int, int] | None = None,
    ) -> None:
        self._container = av.open(str(out) if isinstance(out, Path) else out, "w", format=container)
        self._codec, self._options, self._tick, self._lasts = codec, dict(options), tick, lasts
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
        return stream
