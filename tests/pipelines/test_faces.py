"""The one crop function: template to template, equivariant, and without invented sharpness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.face_detector import FaceDetector
from pipelines.faces import CROP_PX, TEMPLATE, align, find_faces, refine_faces, similarity
from pipelines.quality import MIN_JUDGED_PX, nose_offset, sharpness, why_unusable
from tests.clips import face_frame


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.mark.parametrize(("scale", "angle", "shift"), [(1.0, 0.0, 0.0), (2.5, 0.3, 40.0), (0.5, -0.6, 200.0)])
def test_the_similarity_undoes_scale_turn_and_shift(scale: float, angle: float, shift: float) -> None:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (TEMPLATE @ turn.T + shift).astype(np.float32)
    matrix = similarity(points)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-3)


def test_context_shows_more_around_the_same_centre() -> None:
    points = TEMPLATE.astype(np.float32)
    wide = similarity(points, size=192, context=192 / CROP_PX)
    np.testing.assert_allclose(wide[:, 2], 16.0, atol=1e-4)
    np.testing.assert_allclose(wide[:, :2], np.eye(2), atol=1e-5)


def test_a_crop_moves_with_its_face() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (400, 400, 3), dtype=np.uint8)
    points = (TEMPLATE + 60).astype(np.float32)
    moved = np.roll(picture, (7, 13), axis=(0, 1))
    np.testing.assert_array_equal(align(picture, points), align(moved, points + np.array([13, 7], dtype=np.float32)))


def test_shrinking_averages_instead_of_skipping() -> None:
    board = (255 * (np.indices((1200, 1200)).sum(axis=0) % 2)).astype(np.uint8)
    crop = align(np.repeat(board[..., None], 3, axis=2), (4 * TEMPLATE + 200).astype(np.float32))
    assert crop[8:-8, 8:-8].std() < 6, "a one-pixel board seen from afar is grey"


def test_find_and_refine_agree_on_a_large_picture(detector: FaceDetector) -> None:
    picture = face_frame(0.0, width=1280, height=960, px=800)
    found = find_faces(detector, picture)
    assert len(found) == 1
    refined = refine_faces(detector, picture, found[0].box[None])[0]
    assert np.abs(refined.points - found[0].points).max() < 0.04 * found[0].px
    assert found[0].px == pytest.approx(refined.px, rel=0.1)


@pytest.mark.parametrize("shape", [(3, 4000), (4000, 3), (1, 1), (13, 2000), (12, 12)])
def test_pictures_of_any_shape_are_searched(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert find_faces(detector, np.full((*shape, 3), 90, dtype=np.uint8)) == []


def test_boxes_that_are_no_numbers_hold_no_face(detector: FaceDetector) -> None:
    boxes = np.array([[np.nan] * 4, [-np.inf, -np.inf, np.inf, np.inf], [1e19, 1e19, 2e19, 2e19]], dtype=np.float32)
    assert refine_faces(detector, face_frame(0.0), boxes) == {}


def test_quality_names_its_reason(detector: FaceDetector) -> None:
    picture = face_frame(0.0)
    face = find_faces(detector, picture)[0]
    crop = align(picture, face.points)
    assert why_unusable(face, crop) is None
    assert why_unusable(face, (crop // 16)) == "too_dark"
    assert why_unusable(face, np.full_like(crop, 128)) == "too_dark", "a face without contrast shows nothing either"
    small = find_faces(detector, face_frame(0.0, px=150))[0]
    assert small.px < MIN_JUDGED_PX
    assert why_unusable(small, crop) == "face_too_small"


def test_a_blurred_face_is_less_sharp_and_refused(detector: FaceDetector) -> None:
    picture = face_frame(0.0)
    face = find_faces(detector, picture)[0]
    crop = align(picture, face.points)
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), 9), dtype=np.uint8)
    assert sharpness(blurred) < sharpness(crop)
    assert why_unusable(face, blurred) == "motion_blur"


def test_a_frontal_nose_is_in_the_middle(detector: FaceDetector) -> None:
    assert nose_offset(find_faces(detector, face_frame(0.0))[0]) < 0.25
