"""A clip through a lossy codec and back: (T, S, S, 3) pictures in, the same pictures as a viewer would get them out.

The writing half of PyAV, used by training only; serving never encodes. With `pipelines/frames.py` the only importer of av.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.media import Image

_OPTIONS: dict[str, dict[str, str]] = {
    # Macroblock trees make x264 give other bits from run to run on pictures this small (measured: 24 of 25 runs differed, without: none).
    "libx264": {"preset": "veryfast", "threads": "1", "x264-params": "no-mbtree=1"},
    "mpeg4": {"threads": "1"},
    # "good", because "realtime" looks at the clock and gives the two of a pair different errors.
    "libvpx": {"deadline": "good", "cpu-used": "5", "threads": "1"},
}


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
