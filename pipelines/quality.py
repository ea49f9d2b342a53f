"""Is this crop worth judging? A Face and its crop in, None or the reason why not out. Asked by `analysis.py`.

Abstaining is an answer. The bounds are set so that ordinary video passes: they refuse what the encoder never saw in training.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from pipelines.faces import Face
from pipelines.media import Image
from pipelines.verdict import ReasonCode

# Below 80 px half of all real faces were called fake in the pilot study: the cue is smaller than a pixel of the source.
MIN_JUDGED_PX: Final = 80.0
MIN_LUMA: Final = 28.0
MIN_LUMA_SPREAD: Final = 8.0
# Nose's distance from the eyes' middle along the eye line, in eye distances: 0 is frontal, 0.5 is a nose below one eye.
MAX_NOSE_OFFSET: Final = 0.6
# The inner face in the aligned crop, of version 2: rows and columns.
INNER: Final = (slice(32, 140), slice(32, 128))
# Mean absolute Laplacian of the inner face at 160 px: 99.9 % of the crops of the training and study tiers lie above 2.0, the median is 7.0.
MIN_SHARPNESS: Final = 1.8


def why_unusable(face: Face, crop: Image) -> ReasonCode | None:
    """The first reason not to judge `crop` (uint8 RGB, aligned), or None."""
    if face.px < MIN_JUDGED_PX:
        return "face_too_small"
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    inner = luma[INNER]
    if float(inner.mean()) < MIN_LUMA or float(inner.std()) < MIN_LUMA_SPREAD:
        return "too_dark"
    if nose_offset(face) > MAX_NOSE_OFFSET:
        return "profile_face"
    if sharpness(crop) < MIN_SHARPNESS:
        return "motion_blur"
    return None


def nose_offset(face: Face) -> float:
    """How far the nose is from the middle of the eyes, along the line of the eyes, in eye distances."""
    left, right, nose = (face.points[i].astype(np.float64) for i in range(3))
    across = right - left
    length = float(np.hypot(*across))
    return abs(float(((nose - (left + right) / 2) * across).sum())) / max(length, 1.0) ** 2


def sharpness(crop: Image) -> float:
    """Mean absolute Laplacian of the inner face, in grey levels: the trivial control beside every detection number."""
    inner = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[INNER]
    return float(np.abs(cv2.Laplacian(inner, cv2.CV_32F)).mean())
