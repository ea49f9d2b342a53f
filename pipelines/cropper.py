"""The portraits of a frame: Frames in, each followed face with its aligned crop, and why it cannot be judged, out. Driven by `analysis.py`.

What can be said of a face without any encoder is said here, so that whoever compares encoders cuts the very crops that serving judges.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.face_detector import FaceDetector
from pipelines.faces import align
from pipelines.media import DAMAGE, Frame, Image
from pipelines.profile import StageClock
from pipelines.quality import why_unusable
from pipelines.tracks import FaceTracker, Observation, TrackerState
from pipelines.verdict import ReasonCode


@dataclass(frozen=True, slots=True, eq=False)
class Cropped:
    """What one frame showed; `seen`, `crops` and `reasons` go together. Tracks named in `ended` will not come back."""

    seen: tuple[Observation, ...]
    crops: tuple[Image, ...]
    """Each (160, 160, 3)."""
    reasons: tuple[ReasonCode | None, ...]
    ended: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CropperState:
    """All that a Cropper knows between two frames."""

    tracker: TrackerState
    broken: bool


class Cropper:
    """Follows the faces of one stream and cuts them out; `sparing` as in FaceTracker."""

    def __init__(self, detector: FaceDetector, *, clock: StageClock | None = None, sparing: bool = False) -> None:
        self._tracker = FaceTracker(detector, sparing=sparing)
        self._clock = clock or StageClock()
        self._broken = False
        """Whether the timeline broke since the last picture that was looked at."""

    @property
    def state(self) -> CropperState:
        """What it knows between two frames."""
        return CropperState(self._tracker.state, self._broken)

    def resume(self, state: CropperState) -> None:
        """Go on from where another one was."""
        self._tracker.resume(state.tracker)
        self._broken = state.broken

    def crop(self, frame: Frame) -> Cropped | None:
        """Find, follow and cut out the faces of the next frame; None where it is damaged: that is not what the camera filmed, nobody is
        followed through it, and its time comes with the next picture.
        """
        self._broken = self._broken or "discontinuity" in frame.flags
        if frame.flags & DAMAGE:
            return None
        with self._clock.stage("faces"):
            observed = self._tracker.update(frame, broken=self._broken)
        self._broken = False
        with self._clock.stage("crops"):
            crops = tuple(align(frame.image, seen.face.points) for seen in observed.seen)
            reasons = tuple(why_unusable(seen.face, crop) for seen, crop in zip(observed.seen, crops, strict=True))
        return Cropped(observed.seen, crops, reasons, observed.ended)
