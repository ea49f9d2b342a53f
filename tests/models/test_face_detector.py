"""FaceDetector on a real face: found, refined to the same place, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facenet_pytorch.models.utils.detect_face import detect_face
from torch.nn.functional import adaptive_avg_pool2d

from models.face_detector import CASCADE_THRESHOLDS, PYRAMID_STEP, FaceDetector, _area_means
from tests.clips import empty_frame, face_frame


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def test_a_face_is_found_with_eyes_above_the_mouth(detector: FaceDetector) -> None:
    found = detector.find(face_frame(0.0))
    assert len(found.boxes) == 1
    points = found.points[0]
    assert points[0, 0] < points[1, 0], "eyes from left to right"
    assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min(), "eyes, nose, mouth from top to bottom"


def test_refining_a_shifted_box_comes_back_to_the_face(detector: FaceDetector) -> None:
    picture = face_frame(0.0)
    box = detector.find(picture).boxes
    size = float(box[0, 2] - box[0, 0])
    refined, index = detector.refine(picture, box + np.float32(0.1 * size))
    assert index.tolist() == [0]
    assert np.abs(refined.boxes - box).max() < 0.12 * size


def test_boxes_without_a_face_or_outside_the_picture_are_dropped(detector: FaceDetector) -> None:
    boxes = np.array([[10, 10, 60, 60], [-500, -500, -400, -400], [5000, 10, 5100, 110], [30, 30, 30, 30]], dtype=np.float32)
    found, index = detector.refine(empty_frame(0.0), boxes)
    assert len(found.boxes) == len(index) == 0


def test_nothing_is_found_where_nothing_is(detector: FaceDetector) -> None:
    assert len(detector.find(empty_frame(0.0)).boxes) == 0
    assert len(detector.find(np.zeros((10, 10, 3), dtype=np.uint8)).boxes) == 0
    assert len(detector.refine(empty_frame(0.0), np.zeros((0, 4), dtype=np.float32))[1]) == 0


def test_the_cascade_finds_what_facenet_pytorch_finds(detector: FaceDetector) -> None:
    picture = np.concatenate([face_frame(0.0, width=400), face_frame(1.0, width=400)], axis=1)
    boxes, points = detect_face(
        picture, 40, detector.pnet, detector.rnet, detector.onet, CASCADE_THRESHOLDS, PYRAMID_STEP, torch.device("cpu")
    )
    theirs = np.argsort(boxes[0][:, 0])
    found = detector.find(picture, min_face_px=40)
    ours = np.argsort(found.boxes[:, 0])
    assert len(ours) == len(theirs) == 2
    size = found.boxes[ours, 2] - found.boxes[ours, 0]
    assert np.abs(found.boxes[ours] - boxes[0][theirs, :4]).max() < 1e-3 * size.min()
    assert np.abs(found.points[ours] - points[0][theirs]).max() < 1e-3 * size.min()


@pytest.mark.parametrize("size", [(24, 24), (48, 48), (13, 200)])
def test_areas_are_those_of_torch(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 150, 3), dtype=np.uint8)
    expected = adaptive_avg_pool2d(torch.from_numpy(picture).permute(2, 0, 1).float(), size).permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(_area_means(picture, size)), expected, atol=1e-4, rtol=0)


def test_where_a_face_is_known_nothing_is_looked_for(detector: FaceDetector) -> None:
    picture = np.concatenate([face_frame(0.0, width=400), face_frame(1.0, width=400)], axis=1)
    both = detector.find(picture)
    left = both.boxes[both.boxes[:, 0].argsort()][:1]
    rest = detector.find(picture, known=left)
    assert len(rest.boxes) == 1 and rest.boxes[0, 0] > 400
    assert len(detector.find(picture, known=both.boxes).boxes) == 0
    eye = np.concatenate([both.points[0, 0] - 12, both.points[0, 0] + 12])[None]
    assert len(detector.find(picture, known=eye).boxes) == 2, "a small thing on a face does not hide it"
    assert len(detector.find(picture, known=np.zeros((0, 4), np.float32)).boxes) == 2
