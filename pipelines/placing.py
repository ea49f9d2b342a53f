"""Where each picture belongs, and how whole it is: decoded VideoFrames in, with their Place and their damage out. For `frames.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from av.video.frame import PictureType, VideoFrame

from pipelines.clock import MediaClock, Place
from pipelines.decoding import Decoder
from pipelines.media import FrameCounts, FrameFlag
from pipelines.taint import Damage, Taint

# H.264 and H.265 keep at most 16 pictures to build on, so no run of B pictures that are shown in a row is waited for longer.
MOST_B_PICTURES: Final = 17
# Beyond it a stamp is damage, and sums of two would not fit into 64 bits any more; at 90 kHz it is 400,000 years.
FARTHEST: Final = 2**60


@dataclass(slots=True)
class Seen:
    """A decoded picture, where it belongs and how whole it is."""

    picture: VideoFrame
    place: Place | None
    index: int
    """How many pictures were shown before it."""
    order: int
    """How many packets were decoded before its own."""
    sparse: bool
    damage: Damage | None = None

    @property
    def flags(self) -> set[FrameFlag]:
        """What its Frame will say of its pixels."""
        found: set[FrameFlag] = set() if self.damage is None else {self.damage}
        return found | {"sparse"} if self.sparse else found


class Placing:
    """Asks the clock and the taint about every picture of one source, each in its own order: showing, and decoding."""

    def __init__(
        self, decoder: Decoder, clock: MediaClock, taint: Taint, counts: FrameCounts, *, edited: bool, lossy: bool, live: bool
    ) -> None:
        self._decoder, self._clock, self._taint, self._counts = decoder, clock, taint, counts
        self.edited = edited
        """Whether an edit list says that nothing before 0 is shown (mov, mp4)."""
        self._lossy, self._live = lossy, live

    def pictures(self) -> Iterator[Seen]:
        """Every picture that is shown.

        One of type B is built on one that is shown after it, so what that one turns out to be is waited for; a live source does not wait.
        """
        waiting: list[Seen] = []
        for picture in self._decoder.pictures():
            stamp = self._decoder.stamp_of(picture)
            if stamp is not None and abs(stamp) > FARTHEST:
                stamp = None
            if stamp is not None and stamp < 0 and self.edited:
                self._counts.hidden += 1
                continue
            place = self._clock.place(stamp, self._decoder.arrival)
            self._counts.no_pts += stamp is None
            self._counts.backward += place is None and stamp is not None
            index = self._counts.decoded - self._counts.hidden - 1
            waiting.append(Seen(picture, place, index, self._decoder.order_of(picture), self._decoder.sparse))
            if picture.pict_type != PictureType.B or self._live or len(waiting) >= MOST_B_PICTURES:
                yield from self._judged(waiting)
                waiting = []
        yield from self._judged(waiting)

    def _judged(self, run: list[Seen]) -> list[Seen]:
        for seen in sorted(run, key=lambda one: one.order):
            pts = None if seen.place is None else seen.place.pts
            missing = self._lossy and seen.place is not None and seen.place.missing > 0
            seen.damage = self._taint.of(seen.order, pts, key=seen.picture.key_frame, corrupt=seen.picture.is_corrupt, missing=missing)
            self._counts.corrupt += seen.damage == "corrupt"
            self._counts.tainted += seen.damage == "tainted"
        return run
