"""FaceDetector: an RGB picture in, boxes with five points out. Sole importer of facenet_pytorch; `pipelines/faces.py` takes what it finds.

The three networks of MTCNN (Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional
networks"), whose weights ship inside the facenet-pytorch wheel. `find` runs the whole cascade; `refine` runs only R-Net and O-Net
on boxes predicted from the past, which costs a tenth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn
from torchvision.ops import nms

from models.compiled import CompiledNet, onnx_bytes

Float = NDArray[np.float32]
Index = NDArray[np.intp]
_Net = Callable[[Float], tuple[Float, ...]]

# The paper's working point: what P-Net, R-Net and O-Net must be sure of, a pyramid step of 0.709, a P-Net of 12 px in steps of 2.
CASCADE_THRESHOLDS = (0.6, 0.7, 0.7)
PYRAMID_STEP = 0.709
CELL_PX = 12
STRIDE_PX = 2
# Overlaps above which the weaker of two boxes is dropped: within a scale, across scales and after R-Net.
SCALE_OVERLAP = 0.5
OVERLAP = 0.7
# A face that is followed has been found before, so R-Net may be less sure of a blurred moment; O-Net still has to agree.
REFINE_THRESHOLD_R = 0.5
REFINE_THRESHOLD_O = 0.6
# What lies on a face that is known already with more than this of its area, or is as like it, is that face or a part of it.
KNOWN_SHARE = 0.6
KNOWN_IOU = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N faces of one picture, strongest first."""

    boxes: Float
    """(N, 4) x0, y0, x1, y1 in pixels."""
    confidence: Float
    """(N,) O-Net's probability of a face."""
    points: Float
    """(N, 5, 2) x, y in pixels: the eye on the picture's left, the other eye, nose, the two corners of the mouth."""


class FaceDetector(nn.Module):
    """MTCNN split into `find` (everywhere, slow) and `refine` (here, fast). A face's result does not depend on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        self.eval().requires_grad_(False)
        self._on_cpu: tuple[_Net, _Net, _Net] | None = None

    @torch.inference_mode()
    def find(self, image: NDArray[np.uint8], *, min_face_px: int = 20, known: Float | None = None) -> Detections:
        """Search a whole uint8 RGB picture (H, W, 3) for faces of at least `min_face_px`, except where `known` boxes (N, 4) are."""
        boxes = self._candidates(image, min_face_px)
        if known is not None and len(known):
            boxes = boxes[_is_new(boxes, known)]
        boxes, _ = self._narrowed(image, boxes, CASCADE_THRESHOLDS[1], overlap=OVERLAP)
        found, _ = self._told(image, _square(boxes), np.arange(len(boxes)), CASCADE_THRESHOLDS[2])
        order = np.argsort(-found.confidence, kind="stable")
        if known is not None and len(known):
            order = order[_is_new(found.boxes[order], known)]
        order = order[_apart(found.boxes[order])]
        return Detections(found.boxes[order], found.confidence[order], found.points[order])

    @torch.inference_mode()
    def refine(self, image: NDArray[np.uint8], boxes: Float) -> tuple[Detections, Index]:
        """Correct predicted `boxes` (N, 4) on a uint8 RGB picture; returns the faces still there and which box each came from."""
        finite = np.flatnonzero(np.isfinite(boxes).all(1))
        moved, index = self._narrowed(image, _square(boxes[finite]), REFINE_THRESHOLD_R)
        return self._told(image, _square(moved), finite[index], REFINE_THRESHOLD_O)

    def exported(self) -> dict[str, bytes]:
        """The three nets of a detector on a CPU as ONNX models: RGB `x` (N, 3, H, W) between -1 and 1, H and W free for P-Net alone."""
        outputs = ("offset", "probability")
        return {
            "pnet": onnx_bytes(self.pnet, torch.zeros(1, 3, 64, 64), free=(2, 3), outputs=outputs),
            "rnet": onnx_bytes(self.rnet, torch.zeros(1, 3, 24, 24), outputs=outputs),
            "onet": onnx_bytes(self.onet, torch.zeros(1, 3, 48, 48), outputs=("offset", "points", "probability")),
        }

    def _candidates(self, image: NDArray[np.uint8], min_face_px: int) -> Float:
        """P-Net over the pyramid: square boxes (K, 4) of what may be a face."""
        pnet, _, _ = self._nets()
        cells, offsets, scores = [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
        scale, pixels = CELL_PX / min_face_px, image.astype(np.float32)
        while min(image.shape[:2]) * scale >= CELL_PX:
            size = int(image.shape[0] * scale + 1), int(image.shape[1] * scale + 1)
            offset, probability = pnet(_as_input([_area_means(pixels, size)]))
            rows, columns = np.nonzero(probability[0, 1] >= CASCADE_THRESHOLDS[0])
            corner = np.stack([columns, rows], axis=1) * STRIDE_PX
            cell = np.concatenate([np.floor((corner + 1) / scale), np.floor((corner + CELL_PX) / scale)], axis=1).astype(np.float32)
            score = probability[0, 1, rows, columns]
            kept = _strongest(cell, score, SCALE_OVERLAP)
            cells.append(cell[kept])
            offsets.append(offset[0][:, rows[kept], columns[kept]].T)
            scores.append(score[kept])
            scale *= PYRAMID_STEP
        cell = np.concatenate(cells)
        kept = _strongest(cell, np.concatenate(scores), OVERLAP)
        side = cell[kept, 2:] - cell[kept, :2]
        return _square(cell[kept] + np.concatenate(offsets)[kept] * np.concatenate([side, side], axis=1))

    def _narrowed(self, image: NDArray[np.uint8], square: Float, sure: float, *, overlap: float | None = None) -> tuple[Float, Index]:
        """R-Net on square boxes (N, 4): those of which it is `sure`, corrected, and which they were; of two that overlap the surer one."""
        _, rnet, _ = self._nets()
        patches, kept = _patches(image, square, 24)
        if not len(kept):
            return square[:0], kept
        offset, probability = rnet(patches)
        good = np.flatnonzero(probability[:, 1] > sure)
        if overlap is not None:
            good = good[_strongest(square[kept[good]], probability[good, 1], overlap)]
        return _moved(square[kept[good]], offset[good]), kept[good]

    def _told(self, image: NDArray[np.uint8], square: Float, index: Index, sure: float) -> tuple[Detections, Index]:
        """O-Net on square boxes (N, 4): the faces of which it is `sure`, and the `index` (N,) of each."""
        _, _, onet = self._nets()
        patches, kept = _patches(image, square, 48)
        if not len(kept):
            return _none(), index[:0]
        offset, within, probability = onet(patches)
        confidence = probability[:, 1]
        good = confidence > sure
        square, index, confidence, within = square[kept][good], index[kept][good], confidence[good], within[good]
        size = square[:, 2:] - square[:, :2] + 1
        points = np.stack([within[:, :5] * size[:, :1] + square[:, :1] - 1, within[:, 5:] * size[:, 1:] + square[:, 1:2] - 1], axis=-1)
        return Detections(_moved(square, offset[good]), confidence, points.astype(np.float32)), index

    def _nets(self) -> tuple[_Net, _Net, _Net]:
        """P-Net, R-Net and O-Net; on a CPU compiled at first use, with the weights of that moment."""
        device = next(self.pnet.parameters()).device
        if device.type != "cpu":
            return tuple(_one_by_one(net, device) for net in (self.pnet, self.rnet, self.onet))  # type: ignore[return-value]  # three
        if self._on_cpu is None:
            self._on_cpu = (
                CompiledNet(self.pnet, torch.zeros(1, 3, 64, 64), free=(2, 3)),
                CompiledNet(self.rnet, torch.zeros(1, 3, 24, 24)),
                CompiledNet(self.onet, torch.zeros(1, 3, 48, 48)),
            )
        return self._on_cpu


def _one_by_one(net: nn.Module, device: torch.device) -> _Net:
    """A convolution's rounding depends on its batch, and where a face is found must not depend on who else is in the picture."""

    def run(patches: Float) -> tuple[Float, ...]:
        outputs = [net(patch.unsqueeze(0)) for patch in torch.from_numpy(patches).to(device)]
        return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*outputs, strict=True))

    return run


def _patches(image: NDArray[np.uint8], boxes: Float, size: int) -> tuple[Float, Index]:
    """Cut `boxes` out, clipped to the picture as MTCNN was trained, and scale to (K, 3, size, size); K boxes had pixels left."""
    height, width = image.shape[:2]
    corners = np.trunc(boxes.clip(-1e9, 1e9)).astype(np.int64)
    left, top = np.maximum(corners[:, 0], 1) - 1, np.maximum(corners[:, 1], 1) - 1
    right, bottom = np.minimum(corners[:, 2], width), np.minimum(corners[:, 3], height)
    kept = np.flatnonzero((right - left >= 2) & (bottom - top >= 2))
    return _as_input([_area_means(image[top[k] : bottom[k], left[k] : right[k]], (size, size)) for k in kept]), kept


def _area_means(picture: NDArray[np.uint8] | Float, size: tuple[int, int]) -> Float:
    """Means over `size` (h, w) even areas of a picture (H, W, 3) in 0..255: float32 (h, w, 3).

    The areas are those of torch's adaptive average pooling, with which facenet-pytorch scales: whole pixels, shared at the borders. Sums
    of whole numbers are exact in float32 up to areas of 65,793 pixels, which in a patch of R-Net's is a face of 6,100 pixels.
    """
    height, width, channels = picture.shape
    down, across = _areas(height, size[0]), _areas(width, size[1])
    rows = down.sums @ picture.reshape(height, -1).astype(np.float32, copy=False)
    columns = rows.reshape(size[0], width, channels).swapaxes(0, 1).reshape(width, -1)
    sums = (across.sums @ columns).reshape(size[1], size[0], channels).swapaxes(0, 1)
    return np.asarray(sums / (down.lengths[:, None] * across.lengths)[..., None], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Areas:
    """A line of pixels cut into even areas."""

    sums: csr_array
    """(areas, pixels), 1 where an area holds a pixel."""
    lengths: Float
    """(areas,) pixels of each."""


@lru_cache(1024)
def _areas(length: int, parts: int) -> _Areas:
    """`parts` areas of `length` pixels. Kept, because making one takes as long as using it, and faces keep their sizes: 5 KB each."""
    index = np.arange(parts)
    first, end = index * length // parts, -(-(index + 1) * length // parts)
    lengths = end - first
    begins = np.concatenate([[0], np.cumsum(lengths)])
    pixels = np.arange(begins[-1]) - np.repeat(begins[:-1] - first, lengths)
    ones = np.ones(len(pixels), dtype=np.float32)
    return _Areas(csr_array((ones, pixels, begins), shape=(parts, length)), lengths.astype(np.float32))


def _as_input(pictures: list[Float]) -> Float:
    """RGB (H, W, 3) of one size in 0..255 -> (N, 3, H, W) between -1 and 1."""
    if not pictures:
        return np.zeros((0, 3, 1, 1), np.float32)
    return np.ascontiguousarray(((np.stack(pictures) - np.float32(127.5)) * np.float32(0.0078125)).transpose(0, 3, 1, 2))


def _strongest(boxes: Float, score: Float, overlap: float) -> Index:
    """Which boxes (N, 4) stay when of two that overlap by more than `overlap` the weaker goes, the surest first."""
    return np.asarray(nms(torch.from_numpy(boxes), torch.from_numpy(score), overlap).numpy())


def _is_new(boxes: Float, known: Float) -> NDArray[np.bool_]:
    """Which of boxes (N, 4) are of none of the `known` ones (M, 4); one that holds a much smaller known one is."""
    inside, area, other = _common(boxes, known)
    same = (inside > KNOWN_SHARE * area) | (inside > KNOWN_IOU * (area + other - inside))
    return np.logical_not(same.any(1))


def _apart(boxes: Float) -> Index:
    """Which boxes (N, 4), the surest first, stay when no two may share more than OVERLAP of the smaller one."""
    inside, area, other = _common(boxes, boxes)
    shared = inside / np.maximum(np.minimum(area, other), 1e-6)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not (shared[i, kept] > OVERLAP).any():
            kept.append(i)
    return np.array(kept, dtype=np.intp)


def _common(boxes: Float, others: Float) -> tuple[Float, Float, Float]:
    """The area (N, M) that each of boxes (N, 4) has in common with each of `others` (M, 4), and the areas (N, 1) and (M,) of both."""
    corner = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    area, other = ((part[:, 2:] - part[:, :2]).prod(1) for part in (boxes, others))
    return np.clip(corner, 0, None).prod(2), area[:, None], other


def _none() -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def _square(boxes: Float) -> Float:
    """Grow each box about its centre to a square: R-Net and O-Net know faces in squares only."""
    side = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1).astype(np.float32)


def _moved(boxes: Float, offset: Float) -> Float:
    """Apply a network's box regression, which is relative to the box's size."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return np.asarray(boxes + offset * np.concatenate([size, size], axis=1), dtype=np.float32)
