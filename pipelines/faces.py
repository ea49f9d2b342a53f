"""The portraits: a Frame's picture in, Faces and their aligned crops out. Detection by `models/face_detector.py`; followed by `tracks.py`.

`align` is the one crop function of the house. Training, evaluation and serving share it, its version is stored in every
checkpoint, and a checkpoint of another version is refused: a drift here turns real video into "99.99 % fake".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face_detector import Detections, FaceDetector
from pipelines.media import Image

CROP_VERSION: Final = 2
CROP_PX: Final = 160
DETECT_WIDTH_PX: Final = 640
# The search stops somewhat below the smallest face that is judged (quality.py), so that a small face is reported and not just missed.
# MTCNN's cost grows with the square of 1 / min_face_px, and 20 px is as small as P-Net is any good at.
SMALLEST_FACE_PX: Final = 60
MIN_FACE_PX: Final = (20, 40)

# Eye, eye, nose, corner, corner of the mouth in the 160 px crop, the eyes 46.8 px apart: hairline and chin are about 13 px from the edges,
# cheeks about 30, room enough for the seam of a blend. Symmetric; version 1 showed the same mean face at 1 / 1.2 of the size.
TEMPLATE: Final = np.array([[56.6, 67.4], [103.4, 67.4], [80.0, 93.8], [60.8, 116.6], [99.2, 116.6]], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one frame."""

    box: NDArray[np.float32]
    """(4,) x0, y0, x1, y1 in pixels of the frame."""
    confidence: float
    points: NDArray[np.float32]
    """(5, 2) in pixels of the frame."""

    @property
    def px(self) -> float:
        """Size of the face: the geometric mean of its box's sides, in pixels."""
        width, height = self.box[2:] - self.box[:2]
        return float(np.sqrt(max(width, 0.0) * max(height, 0.0)))


def find_faces(detector: FaceDetector, image: Image, known: list[Face] | None = None) -> list[Face]:
    """Search a whole frame, shrunk to at most 640 px wide (MTCNN at 1080p costs 14 times as much and finds no more usable faces).

    Where `known` faces are, nothing is looked for, which is most of the work: around a face lie most of the candidates.
    """
    scale = min(1.0, DETECT_WIDTH_PX / max(image.shape[:2]))
    if min(image.shape[:2]) * scale < 1.0:
        return []
    small = image if scale == 1.0 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    exact = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]], dtype=np.float32)
    smallest = int(np.clip(SMALLEST_FACE_PX * scale, *MIN_FACE_PX))
    boxes = None if not known else np.stack([face.box for face in known]) / np.concatenate([exact, exact])
    return _faces(detector.find(np.ascontiguousarray(small, dtype=np.uint8), min_face_px=smallest, known=boxes), exact)


def refine_faces(detector: FaceDetector, image: Image, boxes: NDArray[np.float32]) -> dict[int, Face]:
    """Look for faces only where `boxes` (N, 4) predict them; returns those still there by the index of their box."""
    found, index = detector.refine(image, boxes)
    return {int(i): face for i, face in zip(index, _faces(found, np.ones(2, dtype=np.float32)), strict=True)}


def align(image: Image, points: NDArray[np.float32], *, size: int = CROP_PX, context: float = 1.0) -> Image:
    """Crop a face upright by a five-point similarity to the template: uint8 RGB (size, size, 3).

    `context` > 1 shows more around the same face (training crops are cut again from such). When the face shrinks, the picture is
    first reduced with INTER_AREA to within a factor of two, because a bilinear warp skips pixels there and invents sharpness.
    """
    matrix = similarity(points, size=size, context=context)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1.0:
        image, matrix = _shrunk(image, matrix, scale, size)
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped, dtype=np.uint8)


def similarity(points: NDArray[np.float32], *, size: int = CROP_PX, context: float = 1.0) -> NDArray[np.float64]:
    """The 2x3 matrix that takes frame pixels to crop pixels: least squares over rotation, scale and shift (Umeyama 1991)."""
    centre = CROP_PX / 2
    target = ((TEMPLATE - centre) / context + centre) * (size / CROP_PX)
    source = np.asarray(points, dtype=np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    # A similarity is one complex number: its least-squares value is <a, b> / <a, a>.
    power = float((a**2).sum())
    re = float((a * b).sum()) / power if power > 0 else 1.0
    im = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power if power > 0 else 0.0
    rotation = np.array([[re, -im], [im, re]])
    shift = target.mean(0) - rotation @ source.mean(0)
    return np.concatenate([rotation, shift[:, None]], axis=1)


def _shrunk(image: Image, matrix: NDArray[np.float64], scale: float, size: int) -> tuple[Image, NDArray[np.float64]]:
    """Cut the part of the picture that the crop needs and reduce it by 1 / `scale`, adjusting the matrix to the new pixels."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], dtype=np.float64) @ inverse.T
    height, width = image.shape[:2]
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0)) - 2, 0, [width - 1, height - 1]))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 2, [left + 1, top + 1], [width, height]))
    patch = image[top:bottom, left:right]
    new_width, new_height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    small = cv2.resize(patch, (new_width, new_height), interpolation=cv2.INTER_AREA)
    fx, fy = new_width / (right - left), new_height / (bottom - top)
    # Pixel centres: old = (new + 0.5) / f - 0.5 + offset.
    to_old = np.array([[1 / fx, 0, 0.5 / fx - 0.5 + left], [0, 1 / fy, 0.5 / fy - 0.5 + top], [0, 0, 1]])
    return np.asarray(small, dtype=np.uint8), matrix @ to_old


def _faces(found: Detections, scale: NDArray[np.float32]) -> list[Face]:
    both = np.concatenate([scale, scale])
    return [
        Face(box=box * both, confidence=float(confidence), points=points * scale)
        for box, confidence, points in zip(found.boxes, found.confidence, found.points, strict=True)
    ]
