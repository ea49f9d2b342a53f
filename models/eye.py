"""Eye: a FaceEncoder ready to serve. uint8 crops in, EncoderOutput out; on a CPU through ONNX Runtime, on a GPU in buckets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.buckets import BucketedEye
from models.compiled import CompiledNet, onnx_bytes
from models.encoder import EncoderOutput, FaceEncoder


class Eye:
    """Looks at crops with the weights that `encoder` has when it is made; may be called from many threads."""

    def __init__(self, encoder: FaceEncoder) -> None:
        on_cpu = next(encoder.parameters()).device.type == "cpu"
        self._look: Callable[[NDArray[np.uint8]], EncoderOutput] = _compiled(encoder) if on_cpu else BucketedEye(encoder)

    def __call__(self, crops: NDArray[np.uint8]) -> EncoderOutput:
        """uint8 RGB crops (N, S, S, 3), N >= 1 and S = `dims.crop_px` -> EncoderOutput on the encoder's device.

        On a CPU each row by itself, to the last bit; for a GPU `buckets.py` says how far.

        Raises:
            torch.cuda.OutOfMemoryError: a GPU has no room even for one.
        """
        return self._look(crops)


def _compiled(encoder: FaceEncoder) -> Callable[[NDArray[np.uint8]], EncoderOutput]:
    px = encoder.dims.crop_px
    net = CompiledNet(_AsTuple(encoder), torch.zeros(1, 3, px, px))

    def look(crops: NDArray[np.uint8]) -> EncoderOutput:
        pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2), dtype=np.float32)
        return EncoderOutput(*(torch.from_numpy(part) for part in net(pixels)))

    return look


def encoder_bytes(encoder: FaceEncoder) -> bytes:
    """An encoder on a CPU as an ONNX model: float RGB `crops` (N, 3, S, S) in 0..255, any N, to the fields of EncoderOutput."""
    px = encoder.dims.crop_px
    return onnx_bytes(_AsTuple(encoder), {"crops": torch.zeros(1, 3, px, px)}, outputs=EncoderOutput._fields)


class _AsTuple(nn.Module):
    """The exporter takes no named tuples."""

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(x))
