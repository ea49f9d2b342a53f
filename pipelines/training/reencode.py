"""Pictures through a lossy codec: clips in and the same clips as a viewer would get them out, or whole files in and worn copies out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.frames import read_frames
from pipelines.media import Image
from pipelines.training.video_writer import VideoWriter, quality_options

TICK: Final = Fraction(1, 1000)
"""What Matroska keeps of a time. A finer one would be lost on the way, and MPEG-4 takes none below 1/65535 s."""


def reencode(pictures: Image, t: NDArray[np.float64], codec: str, quality: int) -> Image:
    """Encode a clip (T, S, S, 3) seen at `t` (T,) seconds and decode it; sides must be even. Order and count are kept.

    Raises:
        KeyError: `codec` is none of `video_writer.CODECS`, which say what `quality` means.
    """
    buffer = io.BytesIO()
    ticks = np.maximum.accumulate(np.round((t - t[0]) / float(TICK)).astype(np.int64) + np.arange(len(t)))
    with VideoWriter(buffer, codec, quality_options(codec, quality), tick=TICK) as writer:
        for picture, tick in zip(pictures, ticks.tolist(), strict=True):
            writer.write(picture, tick)
    buffer.seek(0)
    with av.open(buffer, "r", format="matroska") as back:
        decoded = [frame.to_ndarray(format="rgb24") for frame in back.decode(video=0)]
    return np.stack(decoded) if len(decoded) == len(pictures) else pictures


def reencode_file(
    path: Path, out: Path, *, codec: str = "libx264", quality: int = 23, scale: float = 1.0, drop: float = 0.0, seed: int = 0
) -> int:
    """Write `path` again as Matroska: another codec and quality, `scale` times the size, a share `drop` of its pictures left out.

    Every picture that is kept keeps its true time, to a millisecond and from 0. Returns how many were kept; the first one always is.

    Raises:
        SourceError, DecodeError: `path` cannot be read.
    """
    rng = np.random.default_rng(seed)
    kept, first, last = 0, Fraction(0), -1
    with read_frames(path, hz=None) as source, VideoWriter(out, codec, quality_options(codec, quality), tick=TICK) as writer:
        for number, frame in enumerate(source):
            at = frame.pts * frame.time_base
            first = at if number == 0 else first
            if number and rng.random() < drop:
                continue
            # Two pictures within a millisecond happen; a container takes only rising times.
            last = max(round((at - first) / TICK), last + 1)
            writer.write(_scaled(frame.image, scale), last)
            kept += 1
    return kept


def write_pictures(pictures: Iterable[Image], times: Iterable[float], out: Path) -> None:
    """Write pictures (H, W, 3) of one size and their seconds as a Matroska file that loses nothing of the pictures."""
    with VideoWriter(out, "ffv1", quality_options("ffv1", 0), tick=TICK) as writer:
        for picture, t in zip(pictures, times, strict=True):
            writer.write(picture, round(t / TICK))


def _scaled(picture: Image, scale: float) -> Image:
    height, width = (max(16, round(side * scale / 2) * 2) for side in picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
