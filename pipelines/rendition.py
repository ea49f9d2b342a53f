"""A rendition: Frames of a video that browsers cannot play come in, H.264 in MP4 with the very same times goes out. Made in a decode child.

Times are copied in ticks: whatever came late, early or irregularly does so here, and the first picture begins when it began. Pictures from
before 0, where no player begins, are left out, and so is sound. What a reviewer sees are the pictures that were judged,
repaired and turned as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from pipelines.errors import MediaTooLarge, RenditionFailed
from pipelines.media import Frame, Image, MediaInfo
from pipelines.training.video_writer import CANNOT_WRITE, Sink, VideoWriter, quality_options

CRF: Final = 23
# No B-frames: with them the first stamp is not that of the first picture, and a player must honour an edit list. A key picture every
# twenty-four lets a browser step back at once.
OPTIONS: Final = {**quality_options("libx264", CRF), "bf": "0", "g": "24"}
MOST_TICKS: Final = 2**31
"""Between two pictures of an MP4."""


@dataclass(frozen=True, slots=True)
class RenditionTerms:
    """What a rendition may be."""

    max_height: int = 720
    max_bytes: int = 2 * 1024**3


def encode(frames: Iterable[Frame], media: MediaInfo, out: Sink, terms: RenditionTerms, *, pixel_aspect: Fraction = Fraction(1)) -> None:
    """Write every frame at its own time.

    Args:
        frames: in order of time; whatever ends them ends this.
        media: what they are of.
        pixel_aspect: the width of a pixel of the source over its height.

    Raises:
        RenditionFailed: the pictures, or their times, are none that H.264 or MP4 can hold.
        MediaTooLarge: the file would be larger than the terms allow.
    """
    bounded = _Bounded(out, terms.max_bytes)
    lasts = _Told()
    # The container counts in ticks of the source, and so does its edit list, which says when the first picture begins.
    muxing = {"movie_timescale": str(_timescale(media.time_base))}
    try:
        with VideoWriter(
            bounded,
            "libx264",
            OPTIONS,
            container="mp4",
            tick=media.time_base,
            lasts=lasts,
            muxing=muxing,
            bt709=True,
            pixel_aspect=pixel_aspect,
        ) as writer:
            held: Frame | None = None
            size, usual = (0, 0), 1
            for frame in frames:
                if frame.pts < 0:
                    continue
                if held is None:
                    size = _size(frame.image, terms.max_height)
                else:
                    usual = _ticks(held, frame)
                    lasts[held.pts] = usual
                    writer.write(_fitted(held.image, size), held.pts)
                held = frame
            if held is None:
                raise RenditionFailed("It is over before it begins.", expected="a picture at 0 or later", got="none")
            lasts[held.pts] = usual
            writer.write(_fitted(held.image, size), held.pts)
    except CANNOT_WRITE as error:
        bounded.raise_error()
        got = str(error) or type(error).__name__
        raise RenditionFailed("The pictures cannot be made H.264.", expected="pictures that libx264 takes", got=got) from error
    bounded.raise_error()


class _Told(dict[int, int]):
    """How long each picture is shown; forgotten once told, since a video has up to two million."""

    def __getitem__(self, tick: int) -> int:
        return self.pop(tick)


class _Bounded:
    """Stops at a size. What is raised within FFmpeg's callbacks may be lost there, so it is kept."""

    def __init__(self, out: Sink, max_bytes: int) -> None:
        self._out, self._max_bytes = out, max_bytes
        self._error: BaseException | None = None
        self.seek, self.tell = out.seek, out.tell

    def write(self, data: bytes, /) -> int:
        if self._error is not None:
            raise OSError("it was given up")
        try:
            if self._out.tell() + len(data) > self._max_bytes:
                got = f"more than {self._max_bytes:,} bytes"
                raise MediaTooLarge("The rendition is too large.", expected=f"at most {self._max_bytes:,} bytes", got=got)
            return self._out.write(data)
        except BaseException as error:
            self._error = error
            raise OSError("it was given up") from error

    def raise_error(self) -> None:
        """Raise what ended it, if anything did."""
        if self._error is not None:
            raise self._error


def _timescale(time_base: Fraction) -> int:
    """That of FFmpeg's MP4 muxer: the source's, doubled until it has 10,000 ticks a second; so both edit list and samples are exact."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale


def _ticks(held: Frame, frame: Frame) -> int:
    ticks = frame.pts - held.pts
    if ticks * _timescale(frame.time_base) * frame.time_base >= MOST_TICKS:
        raise RenditionFailed(
            "Two pictures are further apart than an MP4 can say in the ticks of the source.",
            expected=f"less than {MOST_TICKS:,} ticks",
            got=f"{ticks:,} ticks of {frame.time_base} s",
        )
    return ticks


def _size(image: Image, max_height: int) -> tuple[int, int]:
    """Width and height: even, as 4:2:0 wants, and no higher than allowed."""
    height, width = image.shape[:2]
    share = min(1.0, max_height / height)
    return max(2, round(width * share) // 2 * 2), max(2, round(height * share) // 2 * 2)


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    """The whole picture in that size; one that changed its shape on the way is squeezed, so that relative places stay."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
