"""Following: one face is one track, ages are seconds of media, a cut ends everything, an outage ends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from models.face_detector import Detections, FaceDetector
from pipelines.faces import Face, find_faces
from pipelines.media import Frame, Image
from pipelines.tracks import FaceTracker, Observations
from tests.clips import empty_frame, face_frame

MS = Fraction(1, 1000)


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def _follow(detector: FaceDetector, pictures: Iterable[tuple[float, Image]]) -> list[Observations]:
    tracker = FaceTracker(detector)
    return [tracker.update(Frame(picture, round(1000 * t), MS)) for t, picture in pictures]


def _ids(observed: list[Observations]) -> set[int]:
    return {seen.track for one in observed for seen in one.seen}


def _hidden(t: float) -> Image:
    """The same scene with the face covered, so that the picture as a whole does not cut."""
    picture = face_frame(t)
    height = picture.shape[0]
    picture[height // 8 : height * 5 // 8, 200:440] = (120, 130, 140)
    return picture


@pytest.mark.parametrize("hz", [25.0, 12.0, 5.0, 2.0])
def test_one_swaying_face_is_one_track_at_any_rate(detector: FaceDetector, hz: float) -> None:
    observed = _follow(detector, ((i / hz, face_frame(i / hz)) for i in range(round(3 * hz))))
    assert _ids(observed) == {0}
    assert all(len(one.seen) == 1 for one in observed)


def test_two_faces_are_two_tracks(detector: FaceDetector) -> None:
    def both(t: float) -> Image:
        return np.concatenate([face_frame(t, width=400), face_frame(t + 1, width=400)], axis=1)

    observed = _follow(detector, ((i / 10, both(i / 10)) for i in range(20)))
    assert _ids(observed) == {0, 1}
    lefts = {seen.track: float(seen.face.box[0]) for seen in observed[-1].seen}
    assert sorted(lefts.values())[1] > 400 > sorted(lefts.values())[0]


def test_a_newcomer_is_found_within_half_a_second_and_nobody_else_changes_hands(detector: FaceDetector) -> None:
    def scene(t: float) -> Image:
        beside = empty_frame(t, width=800)
        if t >= 0.75:  # small beside the picture, so that their coming is no cut
            beside[:, 200:600] = face_frame(t + 1, width=400)
        return np.concatenate([face_frame(t, width=400), beside], axis=1)

    searched: list[int] = []

    class Watched(FaceDetector):
        def find(self, image: Image, *, min_face_px: int = 20, known: NDArray[np.float32] | None = None) -> Detections:
            searched.append(0 if known is None else len(known))
            return super().find(image, min_face_px=min_face_px, known=known)

    observed = _follow(Watched(), ((i / 10, scene(i / 10)) for i in range(26)))
    faces = [{seen.track for seen in one.seen} for one in observed]
    assert faces[:8] == [{0}] * 8 and {0, 1} in faces[8:13] and faces[13:] == [{0, 1}] * 13
    assert searched == [0, 1, 1, 2, 0, 2], "afresh at the start and after two seconds, and only for newcomers between"


@pytest.mark.parametrize(("hz", "sparing", "every_s"), [(12.0, False, 0.5), (12.0, True, 0.5), (4.0, False, 0.5), (4.0, True, 1.5)])
def test_a_sparing_tracker_searches_the_same_share_of_its_looks_at_any_rate(
    detector: FaceDetector, monkeypatch: pytest.MonkeyPatch, hz: float, sparing: bool, every_s: float
) -> None:
    searched: list[float] = []

    def counted(detector: FaceDetector, image: Image, known: list[Face] | None = None) -> list[Face]:
        searched.append(t)
        return find_faces(detector, image, known)

    monkeypatch.setattr("pipelines.tracks.find_faces", counted)
    tracker = FaceTracker(detector, sparing=sparing)
    for i in range(round(6 * hz)):
        t = i / hz
        observed = tracker.update(Frame(face_frame(t), round(1000 * t), MS))
        assert len(observed.seen) == 1, "followed all the same"
    assert searched[0] == 0.0, "at once when nobody is known"
    assert np.diff(searched) == pytest.approx(every_s, abs=0.5 / hz)


def test_a_cut_ends_the_track(detector: FaceDetector) -> None:
    dark = [(i / 10, face_frame(i / 10)) for i in range(8)]
    bright = [(0.8 + i / 10, np.asarray(255 - face_frame(0.8, px=300) // 3, dtype=np.uint8)) for i in range(1)]
    again = [(0.9 + i / 10, face_frame(0.9 + i / 10)) for i in range(8)]
    observed = _follow(detector, dark + bright + again)
    assert observed[8].cut and observed[8].ended == (0,)
    assert 0 not in _ids(observed[9:])


def test_a_face_hidden_for_a_second_comes_back_as_itself(detector: FaceDetector) -> None:
    times = [i / 10 for i in range(40)]
    observed = _follow(detector, ((t, _hidden(t) if 1.0 <= t < 2.0 else face_frame(t)) for t in times))
    assert any(not one.seen for one in observed), "the face was hidden"
    assert _ids(observed) == {0}


def test_a_face_gone_for_longer_is_another_track(detector: FaceDetector) -> None:
    times = [i / 10 for i in range(60)]
    observed = _follow(detector, ((t, _hidden(t) if 1.0 <= t < 4.5 else face_frame(t)) for t in times))
    assert _ids(observed) == {0, 1}
    assert [ended for one in observed for ended in one.ended] == [0]


def test_a_break_of_unknown_length_and_another_size_end_every_track(detector: FaceDetector) -> None:
    tracker = FaceTracker(detector)
    frames = [Frame(face_frame(0.0), 100 * i, MS) for i in range(3)] + [Frame(face_frame(0.0, width=720), 300, MS)]
    observed = [tracker.update(frame, broken=i in (0, 2)) for i, frame in enumerate(frames)]
    assert [one.cut for one in observed] == [False, False, True, True]
    assert [one.ended for one in observed] == [(), (), (0,), (1,)]


def test_an_outage_is_not_an_absence(detector: FaceDetector) -> None:
    times = [0.0, 0.1, 0.2, 9.0, 9.1]
    assert _ids(_follow(detector, ((t, face_frame(min(t, 0.2))) for t in times))) == {0}


def test_no_face_is_no_track(detector: FaceDetector) -> None:
    assert _ids(_follow(detector, ((i / 5, empty_frame(i / 5)) for i in range(8)))) == set()
