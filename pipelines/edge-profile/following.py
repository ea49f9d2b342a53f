"""The same face over time, and its crops: pictures in, an aligned crop or the reason why there is none out. Asked by `detect.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from bundle import Float, Image
from cascade import Cascade, Face, iou


@dataclass(slots=True)
class Follower:
    """Follows one face, the largest that it finds: searched for at key moments, refined between. Ages are seconds of media time."""

    cascade: Cascade
    it: dict[str, Any]
    """The profile's `following`."""
    track: int = -1
    """Number of the face that is followed; the next one gets the next number, and a memory of its own."""
    face: Face | None = None
    velocity: Float = field(default_factory=lambda: np.zeros(2, np.float32))
    seen_s: Fraction | None = None
    unseen_s: Fraction | None = None
    found_s: Fraction | None = None
    afresh_s: Fraction | None = None
    thumbnail: Float | None = None
    size: tuple[int, ...] | None = None

    def update(self, image: Image, t: Fraction) -> Face | None:
        """The face in the next picture (H, W, 3), `t` seconds into the media."""
        it = self.it
        cut = self._is_cut(image)
        if cut or (self.unseen_s is not None and t - self.unseen_s > it["forget_after_s"]):
            self.face = None
        visible = self.face is not None and self.unseen_s is None
        face = self.cascade.refine(image, self._predicted(t)) if visible else None
        if cut or (visible and face is None) or late(self.afresh_s, t, it["afresh_every_s"]):
            self.found_s = self.afresh_s = t
            face = self._search(image, t)
        elif late(self.found_s, t, it["find_every_s"]):
            self.found_s = t
            if face is None or face.confidence < it["min_confidence"]:
                face = self._search(image, t)
        if face is not None:
            self._saw(face, t)
        elif self.face is not None and self.unseen_s is None:
            self.unseen_s = t
        return face

    def _search(self, image: Image, t: Fraction) -> Face | None:
        found = [face for face in self.cascade.search(image) if face.confidence >= self.it["min_confidence"]]
        # Shown its box once more, in whole pixels, O-Net gives the points that following gives: a search does not make the crop jump.
        found = [self.cascade.refine(image, np.rint(face.box).astype(np.float32)) or face for face in found]
        if self.face is not None:
            predicted = self._predicted(t)
            same = max(found, key=lambda face: iou(predicted, face.box), default=None)
            if same is not None and iou(predicted, same.box) >= self.it["same_face_iou"]:
                return same
        if not found:
            return None
        largest = max(found, key=lambda face: face.px)
        self.track, self.face, self.velocity, self.seen_s = self.track + 1, largest, np.zeros(2, np.float32), t
        return largest

    def _predicted(self, t: Fraction) -> Float:
        assert self.face is not None and self.seen_s is not None
        shift = self.velocity * np.float32(min(float(t - self.seen_s), self.it["predict_at_most_s"]))
        return np.asarray(self.face.box + np.concatenate([shift, shift]), np.float32)

    def _saw(self, face: Face, t: Fraction) -> None:
        assert self.face is not None and self.seen_s is not None
        dt = float(t - self.seen_s)
        if dt > 0:
            moved = (centre(face.box) - centre(self.face.box)) / np.float32(dt)
            # Half the new speed: MTCNN's box jitters.
            self.velocity = 0.5 * self.velocity + 0.5 * moved if dt < self.it["predict_at_most_s"] else 0 * moved
        self.face, self.seen_s, self.unseen_s = face, t, None

    def _is_cut(self, image: Image) -> bool:
        px, samples = self.it["thumbnail_px"], self.it["thumbnail_samples"]
        rows, columns = (slice(step // 2, None, step) for step in (max(1, side // (px * samples)) for side in image.shape[:2]))
        small = cv2.resize(np.ascontiguousarray(image[rows, columns]), (px, px), interpolation=cv2.INTER_AREA)
        before, self.thumbnail = self.thumbnail, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        size, self.size = self.size, image.shape[:2]
        return before is not None and (size != self.size or float(np.abs(self.thumbnail - before).mean()) > self.it["cut_level"])


def late(since: Fraction | None, t: Fraction, every_s: float) -> bool:
    """Whether something that happens `every_s` is due."""
    return since is None or t - since >= every_s


def centre(box: Float) -> Float:
    """x, y."""
    return np.asarray((box[:2] + box[2:]) / 2, np.float32)


def align(image: Image, points: Float, crop: dict[str, Any]) -> Image:
    """The face upright, by a five-point similarity to the profile's template: uint8 RGB (px, px, 3)."""
    px, target, source = crop["px"], np.array(crop["template"]), points.astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    power = float((a**2).sum()) or 1.0
    re, im = float((a * b).sum()) / power, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
    turn = np.array([[re, -im], [im, re]])
    matrix = np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], axis=1)
    scale = math.hypot(re, im)
    if scale < 1.0:
        # A bilinear warp skips pixels when it shrinks and invents sharpness, so the part that is needed is shrunk by areas first.
        corners = np.array([[0, 0, 1], [px, 0, 1], [0, px, 1], [px, px, 1]]) @ cv2.invertAffineTransform(matrix).T
        height, width = image.shape[:2]
        left, top = (int(v) for v in np.clip(np.floor(corners.min(0)) - 2, 0, [width - 1, height - 1]))
        right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 2, [left + 1, top + 1], [width, height]))
        new = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
        image = np.asarray(cv2.resize(image[top:bottom, left:right], new, interpolation=cv2.INTER_AREA), np.uint8)
        fx, fy = new[0] / (right - left), new[1] / (bottom - top)
        matrix = matrix @ np.array([[1 / fx, 0, 0.5 / fx - 0.5 + left], [0, 1 / fy, 0.5 / fy - 0.5 + top], [0, 0, 1]])
    return np.asarray(cv2.warpAffine(image, matrix, (px, px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)


def why_unusable(face: Face, crop: Image, it: dict[str, Any]) -> str | None:
    """Why this crop is not to be judged, or None."""
    (top, bottom), (left, right) = it["inner"]
    inner = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[top:bottom, left:right]
    eye, other, nose = (face.points[i].astype(np.float64) for i in range(3))
    across = other - eye
    if face.px < it["min_face_px"]:
        return "face_too_small"
    if float(inner.mean()) < it["min_luma"] or float(inner.std()) < it["min_luma_spread"]:
        return "too_dark"
    if abs(float(((nose - (eye + other) / 2) * across).sum())) / max(float(np.hypot(*across)), 1.0) ** 2 > it["max_nose_offset"]:
        return "profile_face"
    return "motion_blur" if float(np.abs(cv2.Laplacian(inner, cv2.CV_32F)).mean()) < it["min_sharpness"] else None
