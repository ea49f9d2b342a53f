"""The pictures that a camera showed last: Frames on their way to the judge come in, are kept small and compressed, and go out as evidence.

Filled by the thread that reads (`Tapped`), asked on the event loop by `feed_alerts.py`. Bounded in seconds and in bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from pipelines.media import Frame, Image
from service.picture_source import PictureSource, SourceState

KEEP_S: Final = 30.0
"""Of media."""
SIDE: Final = 960
"""Pixels of the longer side at most: enough to see a face by, a third of the bytes of 1080p."""
QUALITY: Final = 80

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One of them."""

    pts: int
    time_base: Fraction
    jpeg: bytes
    scale: float
    """Its pixels for each of the Frame's."""

    @property
    def t(self) -> Fraction:
        """Media seconds, exact."""
        return self.pts * self.time_base

    @property
    def image(self) -> Image:
        """uint8 RGB, (H, W, 3)."""
        return np.asarray(cv2.cvtColor(_read(self.jpeg), cv2.COLOR_BGR2RGB), dtype=np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A picture, and where in it the face is, in pixels of the Frame."""

    picture: Picture
    box: Box

    def jpeg(self) -> bytes:
        """The picture with the box drawn."""
        image = _read(self.picture.jpeg)
        x0, y0, x1, y1 = (round(edge * self.picture.scale) for edge in self.box)
        cv2.rectangle(image, (x0, y0), (x1, y1), (60, 60, 255), 2)
        return _jpeg(image)


class Album:
    """Of one feed, for two threads.

    Args:
        most_bytes: of compressed pictures; the oldest go first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._pictures: deque[Picture] = deque()
        self._bytes = 0
        self._faces: dict[int, Mapping[int, Box]] = {}
        """By PTS, of the pictures that were looked at, by track."""

    def add(self, frame: Frame) -> None:
        """Keep a frame; its PTS is later than those before it, unless another session has begun."""
        scale = min(1.0, SIDE / max(frame.image.shape[:2]))
        height, width = (max(2, round(side * scale) // 2 * 2) for side in frame.image.shape[:2])
        small = frame.image if scale == 1.0 else cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
        picture = Picture(frame.pts, frame.time_base, _jpeg(cv2.cvtColor(small, cv2.COLOR_RGB2BGR)), scale)
        with self._lock:
            self._pictures.append(picture)
            self._bytes += len(picture.jpeg)
            while self._bytes > self._most_bytes or picture.t - self._pictures[0].t > KEEP_S:
                gone = self._pictures.popleft()
                self._bytes -= len(gone.jpeg)
                self._faces.pop(gone.pts, None)
                if not self._pictures:
                    break

    def saw(self, pts: int, faces: Mapping[int, Box]) -> None:
        """A picture was looked at, and these faces are in it."""
        with self._lock:
            if faces and self._pictures and pts >= self._pictures[0].pts:
                self._faces[pts] = faces

    def clear(self) -> None:
        """Another session begins, on a timeline of its own."""
        with self._lock:
            self._pictures.clear()
            self._faces.clear()
            self._bytes = 0

    def still(self, pts: int, track: int) -> Still | None:
        """The face of `track` as it was looked at then; None if that is gone."""
        picture = self.at(pts)
        with self._lock:
            box = self._faces.get(pts, {}).get(track)
        return None if picture is None or box is None else Still(picture, box)

    def at(self, pts: int) -> Picture | None:
        """The picture of that time; None if it is gone."""
        with self._lock:
            return next((one for one in reversed(self._pictures) if one.pts == pts), None)

    def between(self, first: Fraction, last: Fraction) -> list[Picture]:
        """What is kept from one time to another, both included."""
        with self._lock:
            return [one for one in self._pictures if first <= one.t <= last]


class Tapped:
    """A source whose frames go into an album as well; see PictureSource."""

    def __init__(self, source: PictureSource, album: Album) -> None:
        self._source, self._album = source, album

    def run(self, offer: Callable[[Frame], bool], tell: Callable[[SourceState], None]) -> None:
        """See PictureSource."""

        def kept(frame: Frame) -> bool:
            # Before it is judged: whoever hears of an alert finds its picture.
            self._album.add(frame)
            return offer(frame)

        self._source.run(kept, tell)

    def stop(self) -> None:
        """See PictureSource."""
        self._source.stop()


def _read(jpeg: bytes) -> Image:
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("expected a JPEG of ours, got something else")
    return np.asarray(found, dtype=np.uint8)


def _jpeg(bgr: Image | cv2.typing.MatLike) -> bytes:
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()
