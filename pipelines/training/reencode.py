"""A clip through a lossy codec and back: (T, S, S, 3) pictures in, the same pictures as a viewer would get them out.

The writing half of PyAV, used by training only; serving never encodes. With `pipelines/frames.py` the only importer of av.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.frames import read_frames
from pipelines.media import Image

_OPTIONS: dict[str, dict[str, str]] = {
    # Macroblock trees make x264 give other bits from run to run on pictures this small (measured: 24 of 25 runs differed, without: none).
    "libx264": {"preset": "veryfast", "threads": "1", "x264-params": "no-mbtree=1"},
    "mpeg4": {"threads": "1"},
    # "good", because "realtime" looks at the clock and gives the two of a pair different errors.
    "libvpx": {"deadline": "good", "cpu-used": "5", "threads": "1"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "5", "threads": "1"},
    "mjpeg": {"threads": "1"},
}


TICK: Final = Fraction(1, 90_000)
"""Fine enough that a true time survives: no camera knows its own better."""


def reencode_file(
    path: Path, out: Path, *, codec: str = "libx264", quality: int = 23, scale: float = 1.0, drop: float = 0.0, seed: int = 0
) -> int:
    """Write `path` again, whole: another codec and quality, `scale` times the size, a share `drop` of its pictures left out.

    Every picture that is kept keeps its true time (to 1/90000 s, from 0). Returns how many were kept; the first one always is.

    Raises:
        SourceError, DecodeError: `path` cannot be read.
    """
    rng = np.random.default_rng(seed)
    kept = 0
    with read_frames(path, hz=None) as source, _Writer(out, codec, quality) as writer:
        for number, frame in enumerate(source):
            if number and rng.random() < drop:
                continue
            picture = frame.image
            height, width = (max(16, round(side * scale / 2) * 2) for side in picture.shape[:2])
            if (height, width) != picture.shape[:2]:
                picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
            writer.write(picture, round(Fraction(frame.pts) * frame.time_base / TICK))
            kept += 1
    return kept


def write_pictures(pictures: Iterable[Image], times: Iterable[float], out: Path) -> None:
    """Write pictures (H, W, 3) of one size and their seconds as a video that loses nothing."""
    with _Writer(out, "ffv1", 0) as writer:
        for picture, t in zip(pictures, times, strict=True):
            writer.write(picture, round(t / TICK))


class _Writer:
    """A video file under way; the first picture says how large, and the first time is 0."""

    def __init__(self, out: Path, codec: str, quality: int) -> None:
        self._container = av.open(str(out), "w", format="mov" if out.suffix == ".mov" else "matroska")
        self._codec, self._quality = codec, quality
        self._stream: VideoStream | None = None
        self._first = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None and error[0] is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def write(self, picture: Image, tick: int) -> None:
        """Add a picture at a time in TICKs."""
        if self._stream is None:
            self._stream, self._first = self._begin(picture), tick
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = tick - self._first, TICK
        self._container.mux(self._stream.encode(frame))

    def _begin(self, picture: Image) -> VideoStream:
        options = dict(_OPTIONS.get(self._codec, {}))
        if self._codec == "mpeg4":
            options |= {"qmin": str(self._quality), "qmax": str(self._quality)}
        elif self._codec == "mjpeg":
            options |= {"qmin": str(self._quality), "qmax": str(self._quality), "strict": "unofficial"}
        elif self._codec != "ffv1":
            options["crf"] = str(self._quality)
        stream = self._container.add_stream(self._codec, rate=30, options=options)
        if not isinstance(stream, VideoStream):
            raise ValueError(f"codec must encode video; got {self._codec}")
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = {"ffv1": "bgr0", "mjpeg": "yuvj420p"}.get(self._codec, "yuv420p")
        stream.codec_context.time_base = TICK
        stream.time_base = TICK
        return stream


def reencode(pictures: Image, t: NDArray[np.float64], codec: str, quality: int) -> Image:
    """Encode with `codec` (libx264: CRF, mpeg4: qscale, libvpx: CRF) and decode; sides must be even. Order and count are kept."""
    buffer = io.BytesIO()
    options = dict(_OPTIONS[codec])
    options |= {"qmin": str(quality), "qmax": str(quality)} if codec == "mpeg4" else {"crf": str(quality)}
    base = Fraction(1, 1000)
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=30, options=options)
        if not isinstance(stream, VideoStream):
            raise ValueError(f"codec must encode video; got {codec}")
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        ticks = np.maximum.accumulate(np.round((t - t[0]) * 1000).astype(np.int64) + np.arange(len(t)))
        for picture, pts in zip(pictures, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = int(pts), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r", format="matroska") as back:
        decoded = [frame.to_ndarray(format="rgb24") for frame in back.decode(video=0)]
    return np.stack(decoded) if len(decoded) == len(pictures) else pictures
