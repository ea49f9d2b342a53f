"""The same face over time: Frames in, (track id, Face) out. Driven by `analysis.py`; finds and refines through `faces.py`.

Searching a whole frame costs ten times as much as looking where a face is expected, so faces are *found* at key moments only (every half
second of media time, at a cut, when a track is lost) and *refined* in between. Most key moments look for newcomers alone, where nobody is
followed; at a cut, after a loss and every two seconds the whole frame is searched afresh. All ages are seconds of media time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.face_detector import FaceDetector
from pipelines.faces import Face, find_faces, refine_faces
from pipelines.media import Frame, Image

FIND_EVERY_S: Final = 0.5
AFRESH_EVERY_S: Final = 2.0
FIND_LOOKS, AFRESH_LOOKS = 6, 24
"""As many looks as these seconds have at 12 a second. A sparing tracker waits for them too: who is looked at less often because the
machine is behind would else search at every look, each would cost three times as much, and the machine fall further behind."""
FORGET_AFTER_S: Final = 2.0
MAX_FACES: Final = 20
MAX_TRACKS: Final = 64
"""Faces of one stream that are remembered at once, in view or not; of those out of view the longest unseen are given up first."""
MIN_CONFIDENCE: Final = 0.92
SAME_FACE_IOU: Final = 0.3
# Mean change of 32 x 32 grey thumbnails between neighbouring analysed frames, in grey levels of 255: hand-held talking heads stay
# under 12 in the training clips, hard cuts between shots are above 30.
CUT_LEVEL: Final = 28.0
THUMBNAIL_PX: Final = 32
# At least so many pixels are averaged along each side of a thumbnail's pixel: all of them cost 3 ms at 720p, these 0.2.
SAMPLES: Final = 4
# A prediction further ahead than this is a guess: search instead.
PREDICT_AT_MOST_S: Final = 0.7


@dataclass(frozen=True, slots=True)
class Observation:
    """One followed face in one frame."""

    track: int
    face: Face


@dataclass(frozen=True, slots=True)
class Observations:
    """What one frame showed. Tracks named in `ended` will not come back: their memory may be let go."""

    seen: tuple[Observation, ...]
    ended: tuple[int, ...]
    cut: bool
    unfollowed: int
    """Faces beyond MAX_FACES, the smallest ones, that nobody follows."""


@dataclass(frozen=True, slots=True)
class TrackPlace:
    """Where one track is, in numbers."""

    id: int
    box: tuple[float, ...]
    velocity: tuple[float, ...]
    last_pts: int
    unseen_since: int | None


@dataclass(frozen=True, slots=True)
class TrackerState:
    """All that a FaceTracker knows between two frames, in numbers: another one goes on from it bit for bit."""

    tracks: tuple[TrackPlace, ...]
    next_id: int
    last_find_pts: int | None
    last_afresh_pts: int | None
    looks_since_find: int
    looks_since_afresh: int
    thumbnail: tuple[float, ...] | None
    """32 x 32 grey levels of the last picture, row by row."""
    size: tuple[int, ...] | None


@dataclass(slots=True)
class _Track:
    id: int
    box: NDArray[np.float32]
    velocity: NDArray[np.float32]
    """Pixels per second of the box's centre, (2,)."""
    last_pts: int
    unseen_since: int | None = None
    """PTS of the first frame that did not show it; None while it is visible. An outage, with no frames at all, is not being unseen."""

    @property
    def visible(self) -> bool:
        return self.unseen_since is None

    def predicted(self, pts: int, time_base: Fraction) -> NDArray[np.float32]:
        ahead = min(float((pts - self.last_pts) * time_base), PREDICT_AT_MOST_S)
        shift = self.velocity * np.float32(ahead)
        return np.asarray(self.box + np.concatenate([shift, shift]), dtype=np.float32)

    def saw(self, face: Face, pts: int, time_base: Fraction) -> None:
        dt = float((pts - self.last_pts) * time_base)
        if dt > 0:
            moved = (_centre(face.box) - _centre(self.box)) / np.float32(dt)
            # Half the new speed: MTCNN's box jitters by a few pixels, which at 30 fps looks like 100 px/s.
            self.velocity = np.asarray(0.5 * self.velocity + 0.5 * moved if dt < PREDICT_AT_MOST_S else 0 * moved, dtype=np.float32)
        self.box, self.last_pts, self.unseen_since = face.box, pts, None


@dataclass(slots=True)
class FaceTracker:
    """Finds and follows. Holds the state of one stream; the detector holds none."""

    detector: FaceDetector
    sparing: bool = False
    """Search no larger a share of the looks when there are fewer of them a second; newcomers are then noticed later."""
    _tracks: list[_Track] = field(default_factory=list)
    _next_id: int = 0
    _last_find_pts: int | None = None
    _last_afresh_pts: int | None = None
    _looks_since_find: int = 0
    _looks_since_afresh: int = 0
    _thumbnail: NDArray[np.float32] | None = None
    _size: tuple[int, ...] | None = None

    def update(self, frame: Frame, *, broken: bool = False) -> Observations:
        """Follow all faces into `frame`. Frames must come in order of time (`Analysis.push` sees to it).

        `broken`: nobody knows how much time has passed since the last one. An outage whose length is known is no such break.
        """
        cut = self._is_cut(frame.image) or (broken and self._last_find_pts is not None)
        ended = [track.id for track in self._tracks if cut or _unseen_s(track, frame) > FORGET_AFTER_S]
        self._tracks = [track for track in self._tracks if track.id not in ended]
        followed = {} if cut else self._follow(frame)
        lost = any(track.visible and track.id not in followed for track in self._tracks)
        unfollowed = 0
        self._looks_since_find += 1
        self._looks_since_afresh += 1
        if cut or lost or self._is_due(frame, self._last_afresh_pts, AFRESH_EVERY_S, self._looks_since_afresh, AFRESH_LOOKS):
            self._last_afresh_pts, self._looks_since_afresh = frame.pts, 0
            followed, unfollowed = self._find(frame, {})
        elif self._is_due(frame, self._last_find_pts, FIND_EVERY_S, self._looks_since_find, FIND_LOOKS):
            # Whoever is followed on a doubtful look is looked for like anybody else, and lost if nobody is there.
            sure = {track: face for track, face in followed.items() if face.confidence >= MIN_CONFIDENCE}
            followed, unfollowed = self._find(frame, sure)
            if unfollowed:
                followed, unfollowed = self._find(frame, {})
        for track in self._tracks:
            if track.id in followed:
                track.saw(followed[track.id], frame.pts, frame.time_base)
            elif track.visible:
                track.unseen_since = frame.pts
        ended += self._crowded_out()
        seen = tuple(Observation(track, face) for track, face in sorted(followed.items()))
        return Observations(seen=seen, ended=tuple(ended), cut=cut, unfollowed=unfollowed)

    @property
    def state(self) -> TrackerState:
        """What it knows now."""
        return TrackerState(
            tracks=tuple(
                TrackPlace(track.id, _numbers(track.box), _numbers(track.velocity), track.last_pts, track.unseen_since)
                for track in self._tracks
            ),
            next_id=self._next_id,
            last_find_pts=self._last_find_pts,
            last_afresh_pts=self._last_afresh_pts,
            looks_since_find=self._looks_since_find,
            looks_since_afresh=self._looks_since_afresh,
            thumbnail=None if self._thumbnail is None else _numbers(self._thumbnail),
            size=self._size,
        )

    def resume(self, state: TrackerState) -> None:
        """Go on from where another one was."""
        self._tracks = [
            _Track(place.id, _array(place.box), _array(place.velocity), place.last_pts, place.unseen_since) for place in state.tracks
        ]
        self._next_id = state.next_id
        self._last_find_pts, self._last_afresh_pts = state.last_find_pts, state.last_afresh_pts
        self._looks_since_find, self._looks_since_afresh = state.looks_since_find, state.looks_since_afresh
        self._thumbnail = None if state.thumbnail is None else _array(state.thumbnail).reshape(THUMBNAIL_PX, THUMBNAIL_PX)
        self._size = state.size

    def _follow(self, frame: Frame) -> dict[int, Face]:
        """Refine every visible track where it is predicted; two tracks that land on one face are one: the older keeps it."""
        tracks = [track for track in self._tracks if track.visible]
        if not tracks:
            return {}
        predicted = np.stack([track.predicted(frame.pts, frame.time_base) for track in tracks])
        faces = refine_faces(self.detector, frame.image, predicted)
        followed: dict[int, Face] = {}
        for i, track in enumerate(tracks):
            if i in faces and all(_iou(faces[i].box, other.box) < 0.6 for other in followed.values()):
                followed[track.id] = faces[i]
        return followed

    def _find(self, frame: Frame, known: dict[int, Face]) -> tuple[dict[int, Face], int]:
        """Search where nobody is `known`; match what is found to the other tracks by overlap; the rest are new tracks."""
        self._last_find_pts, self._looks_since_find = frame.pts, 0
        found = [face for face in find_faces(self.detector, frame.image, list(known.values())) if face.confidence >= MIN_CONFIDENCE]
        found.sort(key=lambda face: -face.px)
        room = MAX_FACES - len(known)
        found, beyond = found[:room], len(found[room:])
        if not found:
            return known, beyond
        # O-Net's points depend on the box that it was shown; showing it the found box once more gives the same points that following
        # gives, so a key moment does not make the crop jump. Whole pixels, because the search's last bits depend on who else it found.
        again = refine_faces(self.detector, frame.image, np.rint(np.stack([face.box for face in found])).astype(np.float32))
        found = [again.get(i, face) for i, face in enumerate(found)]
        others = [track for track in self._tracks if track.id not in known]
        overlap = np.zeros((len(others), len(found)))
        for i, track in enumerate(others):
            box = track.predicted(frame.pts, frame.time_base)
            overlap[i] = [_iou(box, face.box) for face in found]
        rows, columns = linear_sum_assignment(-overlap)
        matched = {int(j): others[i] for i, j in zip(rows, columns, strict=True) if overlap[i, j] >= SAME_FACE_IOU}
        followed = dict(known)
        for j, face in enumerate(found):
            if j not in matched:
                matched[j] = self._born(face, frame)
            followed[matched[j].id] = face
        return followed, beyond

    def _crowded_out(self) -> list[int]:
        """Forget whom there is no room to remember; faces that flicker would else be a new track at each look."""
        hidden = sorted((track.unseen_since, track.id) for track in self._tracks if track.unseen_since is not None)
        gone = {track for _, track in hidden[: max(0, len(self._tracks) - MAX_TRACKS)]}
        self._tracks = [track for track in self._tracks if track.id not in gone]
        return sorted(gone)

    def _is_due(self, frame: Frame, last_pts: int | None, every_s: float, looks: int, every_looks: int) -> bool:
        if last_pts is None:
            return True
        return float((frame.pts - last_pts) * frame.time_base) >= every_s and not (self.sparing and looks < every_looks)

    def _born(self, face: Face, frame: Frame) -> _Track:
        track = _Track(self._next_id, face.box, np.zeros(2, dtype=np.float32), frame.pts)
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _is_cut(self, image: Image) -> bool:
        before, self._thumbnail = self._thumbnail, _thumbnail(image)
        size, self._size = self._size, image.shape[:2]
        return before is not None and (size != self._size or float(np.abs(self._thumbnail - before).mean()) > CUT_LEVEL)


def _numbers(array: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(array.ravel().tolist())


def _array(numbers: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)


def _thumbnail(image: Image) -> NDArray[np.float32]:
    """(32, 32) grey levels: means over pixels that lie evenly in each cell."""
    rows, columns = (slice(step // 2, None, step) for step in (max(1, side // (THUMBNAIL_PX * SAMPLES)) for side in image.shape[:2]))
    small = cv2.resize(np.ascontiguousarray(image[rows, columns]), (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _unseen_s(track: _Track, frame: Frame) -> float:
    return 0.0 if track.unseen_since is None else float((frame.pts - track.unseen_since) * frame.time_base)


def _centre(box: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((box[:2] + box[2:]) / 2, dtype=np.float32)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes."""
    corner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inside = float(np.prod(np.maximum(corner, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inside
    return inside / union if union > 0 else 0.0
