"""A real face for training tests: scikit-image's astronaut (public domain), followed for a second by its own slow zoom."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from skimage import data

from models.face_detector import FaceDetector
from pipelines.faces import align, find_faces
from pipelines.training.portraits import CONTEXT, PORTRAIT_PX, Portrait
from pipelines.training.pseudo_fakes import Clip, usable_points


@cache
def clip(frames: int = 12, hz: float = 12.0) -> Clip:
    """A clip of aligned 192 px crops with slightly changing light, and the template as its dense points."""
    image = np.ascontiguousarray(data.astronaut())  # type: ignore[no-untyped-call]  # scikit-image ships no types for it
    face = find_faces(FaceDetector(), image)[0]
    still = align(image, face.points, size=PORTRAIT_PX, context=CONTEXT).astype(np.float32)
    light = 1 + 0.03 * np.sin(np.arange(frames) / 3)
    crops = np.stack([np.clip(cv2.GaussianBlur(still, (0, 0), 0.4 + 0.02 * i) * light[i], 0, 255) for i in range(frames)]).astype(np.uint8)
    return Clip(crops, np.arange(frames) / hz, usable_points(np.full((frames, 478, 2), np.nan, dtype=np.float32)))


def portrait(identity: str = "astronaut", frames: int = 24, split: str = "train") -> Portrait:
    """The same as a Portrait of the store."""
    made = clip(frames)
    dense = np.full((frames, 478, 2), np.nan, dtype=np.float32)
    return Portrait("astronaut.mp4", identity, "scikit-image", split, "video", 200.0, made.t, made.crops, dense)
