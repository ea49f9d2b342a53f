"""Eye: a FaceEncoder ready to serve. uint8 crops in, EncoderOutput out; on a CPU through ONNX Runtime, elsewhere through torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.compiled import CompiledNet, onnx_bytes
from models.encoder import EncoderOutput, FaceEncoder


class Eye:
    """Looks at crops with the weights that `encoder` has when it is made; holds no state, may be called from many threads."""

    def __init__(self, encoder: FaceEncoder) -> None:
        self._encoder = encoder
        self._device = next(encoder.parameters()).device
        px = encoder.dims.crop_px
        self._compiled = CompiledNet(_AsTuple(encoder), torch.zeros(1, 3, px, px)) if self._device.type == "cpu" else None

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.uint8]) -> EncoderOutput:
        """uint8 RGB crops (N, S, S, 3), N >= 1 and S = `dims.crop_px` -> EncoderOutput on the encoder's device; each row by itself."""
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2)
        if self._compiled is not None:
            return EncoderOutput(*(torch.from_numpy(part) for part in self._compiled(pixels.float().contiguous().numpy())))
        # One at a time: a convolution's rounding depends on its batch, and a face's score must not depend on who else is there.
        rows = [self._encoder(row.unsqueeze(0).to(self._device, memory_format=torch.channels_last)) for row in pixels]
        return EncoderOutput(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


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
