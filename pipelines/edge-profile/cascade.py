"""The three nets of MTCNN (Zhang et al. 2016): a picture in, faces with five points out. Asked by `following.py`.

Imports nothing of Undercurrent; finds what its FaceDetector finds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from bundle import Bundle, Float, Image
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one picture: box (4,) x0, y0, x1, y1 and points (5, 2), in pixels."""

    box: Float
    confidence: float
    points: Float

    @property
    def px(self) -> float:
        width, height = self.box[2:] - self.box[:2]
        return float(np.sqrt(max(width, 0.0) * max(height, 0.0)))


class Cascade:
    """`search` everywhere, slow, or `refine` where a face is expected, fast."""

    def __init__(self, bundle: Bundle) -> None:
        self._run, self._it = bundle.run, bundle.profile["cascade"]

    def search(self, image: Image) -> list[Face]:
        """Faces of the whole picture (H, W, 3), found on one shrunk to a few hundred pixels."""
        it = self._it
        scale = min(1.0, it["width_px"] / max(image.shape[:2]))
        if min(image.shape[:2]) * scale < 1.0:
            return []
        small = image if scale == 1.0 else np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        exact = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]], np.float32)
        boxes = self._candidates(small, int(np.clip(it["smallest_face_px"] * scale, *it["min_face_px"])))
        found = self._told(small, square(self._narrowed(small, boxes, it["sure"][1], overlap=it["overlap"])), it["sure"][2])
        kept: list[Face] = []
        for face in sorted(found, key=lambda one: -one.confidence):
            if all(shared(face.box, other.box) <= it["overlap"] for other in kept):
                kept.append(face)
        both = np.concatenate([exact, exact])
        return [Face(face.box * both, face.confidence, face.points * exact) for face in kept]

    def refine(self, image: Image, box: Float) -> Face | None:
        """The face where `box` (4,) predicts it, if it is still there."""
        found = self._told(image, square(self._narrowed(image, square(box[None]), self._it["refine_sure"][0])), self._it["refine_sure"][1])
        return found[0] if found else None

    def _candidates(self, image: Image, min_face_px: int) -> Float:
        """P-Net over a pyramid of pictures: square boxes (K, 4) of what may be a face."""
        it = self._it
        cells, offsets, scores = [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        scale = it["cell_px"] / min_face_px
        while min(image.shape[:2]) * scale >= it["cell_px"]:
            x = as_input([area_means(image, (int(image.shape[0] * scale + 1), int(image.shape[1] * scale + 1)))])
            offset, probability = self._run("pnet", ["offset", "probability"], x=x)
            rows, columns = np.nonzero(probability[0, 1] >= it["sure"][0])
            corner = np.stack([columns, rows], axis=1) * it["stride_px"]
            cell = np.concatenate([np.floor((corner + 1) / scale), np.floor((corner + it["cell_px"]) / scale)], axis=1).astype(np.float32)
            score = probability[0, 1, rows, columns]
            kept = strongest(cell, score, it["scale_overlap"])
            cells.append(cell[kept])
            offsets.append(offset[0][:, rows[kept], columns[kept]].T)
            scores.append(score[kept])
            scale *= it["pyramid_step"]
        cell = np.concatenate(cells)
        kept = strongest(cell, np.concatenate(scores), it["overlap"])
        side = cell[kept, 2:] - cell[kept, :2]
        return square(cell[kept] + np.concatenate(offsets)[kept] * np.concatenate([side, side], axis=1))

    def _narrowed(self, image: Image, boxes: Float, sure: float, *, overlap: float | None = None) -> Float:
        """R-Net on square boxes (N, 4): those of which it is `sure`, corrected; of two that overlap the surer one."""
        moved, scores = [np.zeros((0, 4), np.float32)], []
        for box in boxes:
            patch = patch_of(image, box, 24)
            if patch is not None:
                offset, probability = self._run("rnet", ["offset", "probability"], x=patch)
                if probability[0, 1] > sure:
                    moved.append(np.concatenate([box[None], offset], axis=1))
                    scores.append(probability[0, 1])
        if not scores:
            return boxes[:0]
        every = np.concatenate(moved[1:])
        kept = slice(None) if overlap is None else strongest(every[:, :4], np.array(scores, np.float32), overlap)
        return moved_by(every[kept, :4], every[kept, 4:])

    def _told(self, image: Image, boxes: Float, sure: float) -> list[Face]:
        """O-Net on square boxes (N, 4): the faces of which it is `sure`."""
        faces = []
        for box in boxes:
            patch = patch_of(image, box, 48)
            if patch is not None:
                offset, points, probability = self._run("onet", ["offset", "points", "probability"], x=patch)
                if probability[0, 1] > sure:
                    within, size = points[0].reshape(2, 5).T, box[2:] - box[:2] + 1
                    where = np.asarray(within * size + box[:2] - 1, np.float32)
                    faces.append(Face(moved_by(box[None], offset)[0], float(probability[0, 1]), where))
        return faces


def patch_of(image: Image, box: Float, px: int) -> Float | None:
    """`box` cut out, clipped to the picture, and scaled to (1, 3, px, px); None where nothing is left."""
    if not np.isfinite(box).all():
        return None
    left, top, right, bottom = (int(value) for value in np.trunc(box.clip(-1e9, 1e9)))
    left, top, right, bottom = max(left, 1) - 1, max(top, 1) - 1, min(right, image.shape[1]), min(bottom, image.shape[0])
    if right - left < 2 or bottom - top < 2:
        return None
    return as_input([area_means(image[top:bottom, left:right], (px, px))])


def area_means(picture: Image, size: tuple[int, int]) -> Float:
    """Means over `size` (h, w) even areas: whole pixels, shared at the borders, as torch's adaptive average pooling has them."""
    down = np.zeros((picture.shape[0] + 1, *picture.shape[1:]), np.int32)
    np.cumsum(picture, axis=0, dtype=np.int32, out=down[1:])
    (y0, y1), (x0, x1) = borders(picture.shape[0], size[0]), borders(picture.shape[1], size[1])
    along = np.zeros((picture.shape[1] + 1, size[0], 3), np.int32)
    np.cumsum((down[y1] - down[y0]).transpose(1, 0, 2), axis=0, out=along[1:])
    means = (along[x1] - along[x0]) / ((x1 - x0)[:, None] * (y1 - y0))[..., None]
    return means.transpose(1, 0, 2).astype(np.float32)


def borders(length: int, parts: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each of `parts` areas begins and ends."""
    index = np.arange(parts)
    return index * length // parts, -(-(index + 1) * length // parts)


def as_input(pictures: list[Float]) -> Float:
    """RGB (H, W, 3) in 0..255 -> (N, 3, H, W) between -1 and 1."""
    return np.ascontiguousarray(((np.stack(pictures) - np.float32(127.5)) * np.float32(0.0078125)).transpose(0, 3, 1, 2))


def strongest(boxes: Float, score: Float, overlap: float) -> NDArray[np.intp]:
    """Which boxes (N, 4) stay when of two that overlap by more than `overlap` the weaker goes, the surest first."""
    order, area, kept = np.argsort(-score, kind="stable"), (boxes[:, 2:] - boxes[:, :2]).prod(1), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        inside = sides.clip(0).prod(1)
        order = order[inside / (area[best] + area[order] - inside) <= overlap]
    return np.array(kept, dtype=np.intp)


def square(boxes: Float) -> Float:
    """Each box grown about its centre to a square."""
    side = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1).astype(np.float32)


def moved_by(boxes: Float, offset: Float) -> Float:
    """A net's correction, which is relative to the box's size."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(boxes + offset * np.concatenate([size, size], axis=1), np.float32)


def common(a: Float, b: Float) -> tuple[float, float, float]:
    """The area that two boxes have in common, and the areas of both."""
    inside = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(inside), float(np.prod(a[2:] - a[:2])), float(np.prod(b[2:] - b[:2]))


def shared(a: Float, b: Float) -> float:
    """What two boxes have in common, as a share of the smaller one."""
    inside, one, other = common(a, b)
    return inside / max(min(one, other), 1e-6)


def iou(a: Float, b: Float) -> float:
    """Intersection over union of two boxes."""
    inside, one, other = common(a, b)
    return inside / (one + other - inside) if one + other > inside else 0.0
