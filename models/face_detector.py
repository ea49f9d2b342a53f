"""FaceDetector: an RGB picture in, boxes with five points out. Sole importer of facenet_pytorch; `pipelines/faces.py` takes what it finds.

The three networks of MTCNN (Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional
networks"), whose weights ship inside the facenet-pytorch wheel. `find` runs the whole cascade; `refine` runs only R-Net and O-Net
on boxes predicted from the past, which is two orders of magnitude cheaper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from facenet_pytorch.models.utils.detect_face import detect_face
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.compiled import CompiledNet

Float = NDArray[np.float32]
_Net = Callable[[Tensor], tuple[Tensor, ...]]

# P-Net 0.6, R-Net 0.7, O-Net 0.7 and a pyramid step of 0.709 are the paper's working point.
CASCADE_THRESHOLDS = (0.6, 0.7, 0.7)
PYRAMID_STEP = 0.709
# A face that is followed has been found before, so R-Net may be less sure of a blurred moment; O-Net still has to agree.
REFINE_THRESHOLD_R = 0.5
REFINE_THRESHOLD_O = 0.6


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
    """MTCNN split into `find` (everywhere, slow) and `refine` (here, fast)."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        self.eval().requires_grad_(False)
        self._on_cpu: tuple[_Net, _Net, _Net] | None = None

    @torch.inference_mode()
    def find(self, image: NDArray[np.uint8], *, min_face_px: int = 20) -> Detections:
        """Search a whole uint8 RGB picture (H, W, 3) for faces of at least `min_face_px`."""
        if min(image.shape[:2]) < min_face_px:
            return _none()
        try:
            boxes, points = detect_face(image, min_face_px, *self._nets(), CASCADE_THRESHOLDS, PYRAMID_STEP, self._device)
        except (ValueError, RuntimeError) as error:
            # facenet-pytorch concatenates an empty list when every candidate of a stage lies outside the picture.
            if "expected a non-empty" in str(error) or "need at least one array" in str(error):
                return _none()
            raise
        found = np.asarray(boxes[0], dtype=np.float32).reshape(-1, 5)
        order = np.argsort(-found[:, 4], kind="stable")
        return Detections(found[order, :4], found[order, 4], np.asarray(points[0], dtype=np.float32).reshape(-1, 5, 2)[order])

    @torch.inference_mode()
    def refine(self, image: NDArray[np.uint8], boxes: Float) -> tuple[Detections, NDArray[np.intp]]:
        """Correct predicted `boxes` (N, 4) on a uint8 RGB picture; returns the faces still there and which box each came from."""
        index = np.arange(len(boxes))
        square = _square(boxes)
        patches, kept = self._patches(image, square, 24)
        if not len(kept):
            return _none(), index[:0]
        _, rnet, onet = self._nets()
        offset, probability = rnet(patches)
        sure = (probability[:, 1] > REFINE_THRESHOLD_R).cpu().numpy()
        square, index = _moved(square[kept][sure], offset.cpu().numpy()[sure]), index[kept][sure]
        square = _square(square)
        patches, kept = self._patches(image, square, 48)
        if not len(kept):
            return _none(), index[:0]
        offset, relative, probability = onet(patches)
        confidence = probability[:, 1].cpu().numpy()
        sure = confidence > REFINE_THRESHOLD_O
        square, index, confidence = square[kept][sure], index[kept][sure], confidence[sure]
        within, moved = relative.cpu().numpy()[sure], offset.cpu().numpy()[sure]
        size = square[:, 2:] - square[:, :2] + 1
        points = np.stack(
            [within[:, :5] * size[:, :1] + square[:, :1] - 1, within[:, 5:] * size[:, 1:] + square[:, 1:2] - 1],
            axis=-1,
        ).astype(np.float32)
        return Detections(_moved(square, moved), confidence.astype(np.float32), points), index

    def _nets(self) -> tuple[_Net, _Net, _Net]:
        """P-Net, R-Net and O-Net, a picture's result independent of the others'; compiled at first use on a CPU."""
        if self._device.type != "cpu":
            return self.pnet, _one_by_one(self.rnet), _one_by_one(self.onet)
        if self._on_cpu is None:
            self._on_cpu = (
                _Compiled(self.pnet, torch.zeros(1, 3, 64, 64), free=(2, 3)),
                _Compiled(self.rnet, torch.zeros(1, 3, 24, 24)),
                _Compiled(self.onet, torch.zeros(1, 3, 48, 48)),
            )
        return self._on_cpu

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.pnet.parameters()).device
        return device

    def _patches(self, image: NDArray[np.uint8], boxes: Float, size: int) -> tuple[Tensor, NDArray[np.intp]]:
        """Cut `boxes` out, clipped to the picture as MTCNN was trained, and scale to (K, 3, size, size); K boxes had pixels left."""
        height, width = image.shape[:2]
        corners = np.trunc(boxes).astype(np.int64)
        left, top = np.maximum(corners[:, 0], 1) - 1, np.maximum(corners[:, 1], 1) - 1
        right, bottom = np.minimum(corners[:, 2], width), np.minimum(corners[:, 3], height)
        kept = np.flatnonzero((right - left >= 2) & (bottom - top >= 2))
        if not len(kept):
            return torch.empty(0, 3, size, size), kept
        patches = []
        for k in kept:
            patch = torch.from_numpy(np.ascontiguousarray(image[top[k] : bottom[k], left[k] : right[k]])).to(self._device)
            patches.append(interpolate(patch.permute(2, 0, 1).unsqueeze(0).float(), size=(size, size), mode="area"))
        return (torch.cat(patches) - 127.5) * 0.0078125, kept


def _one_by_one(net: nn.Module) -> _Net:
    """A convolution's rounding depends on its batch, and where a face is found must not depend on who else is in the picture."""

    def run(patches: Tensor) -> tuple[Tensor, ...]:
        outputs = [net(patch.unsqueeze(0)) for patch in patches]
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))

    return run


class _Compiled(nn.Module):
    """A compiled net that looks like a torch one: facenet-pytorch asks P-Net for the type of its parameters."""

    def __init__(self, net: nn.Module, example: Tensor, *, free: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.asked = nn.Parameter(torch.empty(0), requires_grad=False)
        self._run = CompiledNet(net, example, free=free)

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(part) for part in self._run(patches.contiguous().numpy()))


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
