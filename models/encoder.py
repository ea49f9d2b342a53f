"""FaceEncoder: aligned crops in, Embedding, artefact logit and blend map out. Trained by `pipelines/training`; called by `analysis.py`.

A small residual net trained from scratch: early-heavy and shallow, because the trace of a blend is local (Chai et al. 2020, "What makes
fake images detectable?"); a fixed high-pass beside the RGB stem; and a map of the blend at stride 8, whose dense supervision stands in
for the pretraining we do not have (Li et al. 2020, "Face X-ray"). What the map says *inside* the face against *outside* of it enters the
logit, so that a property of the whole clip (its codec, its sharpness) cancels out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, normalize, relu

from models.checkpoint import WeightsError

# The inner face of the aligned 160 px crop, as shares of its side: eyes to chin, temple to temple.
INNER_BOX = (0.26, 0.74, 0.34, 0.82)


@dataclass(frozen=True, slots=True)
class EncoderDims:
    """Everything needed to build the net again; stored in the checkpoint."""

    embedding: int = 128
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    depths: tuple[int, int, int, int] = (1, 1, 2, 1)
    crop_px: int = 160

    def as_metadata(self) -> dict[str, object]:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class EncoderOutput(NamedTuple):
    """What the eye sees in N crops."""

    embedding: Tensor
    """(N, E), unit length."""
    logit: Tensor
    """(N,) log-odds of an artefact in this one picture."""
    blend_map: Tensor
    """(N, 2, S/8, S/8) logits: how much was blended in here; is this the seam."""


class HighPass(nn.Module):
    """Three fixed residuals of luma, clamped: what is left when what a camera would predict is taken away."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.zeros(5, 5)
        across[2] = torch.tensor([0.0, -1.0, 2.0, -1.0, 0.0]) / 2
        laplace = torch.zeros(5, 5)
        laplace[1:4, 1:4] = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]) / 4
        self.register_buffer("kernels", torch.stack([across, across.T, laplace]).unsqueeze(1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] -> (N, 3, S, S) in [-1, 1]; residuals beyond 24 grey levels are edges, not noise, and saturate."""
        luma = (rgb * rgb.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return (conv2d(luma, self.kernels, padding=2) * (127.5 / 24)).clamp(-1, 1)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; the shortcut averages before it strides (ResNet-D, He et al. 2019)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        shortcut: list[nn.Module] = [nn.AvgPool2d(2)] if stride == 2 else []
        if inputs != outputs:
            shortcut += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, S, S) -> (N, outputs, S / stride, S / stride)."""
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class FaceEncoder(nn.Module):
    """About 0.8 M parameters; parameters only, no state."""

    def __init__(self, dims: EncoderDims | None = None) -> None:
        super().__init__()
        self.dims = dims = dims or EncoderDims()
        first, second, third, fourth = dims.widths
        self.high_pass = HighPass()
        self.stem_rgb = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_residual = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        self.stage1 = _stage(32, first, dims.depths[0], 1)
        self.stage2 = _stage(first, second, dims.depths[1], 2)
        self.stage3 = _stage(second, third, dims.depths[2], 2)
        self.stage4 = _stage(third, fourth, dims.depths[3], 2)
        self.lateral = nn.Conv2d(fourth, 32, 1)
        self.map_conv = nn.Conv2d(third + 32, 48, 3, 1, 1, bias=False)
        self.map_norm = nn.BatchNorm2d(48)
        self.map_out = nn.Conv2d(48, 2, 1)
        self.project = nn.Linear(2 * fourth, dims.embedding)
        self.classify = nn.Linear(2 * fourth + 6, 1)

    @classmethod
    def from_metadata(cls, dims: dict[str, object]) -> FaceEncoder:
        """Build the net that `EncoderDims.as_metadata` describes.

        Raises:
            WeightsError: it describes none.
        """
        try:
            given = {key: tuple(value) if isinstance(value, list) else value for key, value in dims.items()}
            return cls(EncoderDims(**given))  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(
                "The checkpoint's encoder is none that this version can build.",
                expected=", ".join(field.name for field in fields(EncoderDims)),
                got=str(dims),
            ) from error

    def forward(self, crops: Tensor) -> EncoderOutput:
        """uint8 or float (N, 3, S, S) in 0..255 -> EncoderOutput; S = `dims.crop_px` when serving, any multiple of 16 in training."""
        rgb = (crops.float() - 127.5) / 127.5
        # The residuals are a few grey levels in size and do not survive bf16, so the stem is fp32 whatever the caller's autocast.
        with torch.autocast(rgb.device.type, enabled=False):
            stem = torch.cat([self.stem_rgb(rgb), self.stem_residual(self.high_pass(rgb))], dim=1)
        x = self.stage2(self.stage1(relu(self.stem_norm(stem))))
        x = self.stage3(x)
        deep = self.stage4(x)
        lateral = interpolate(self.lateral(deep), size=x.shape[-2:], mode="nearest")
        blend_map = self.map_out(relu(self.map_norm(self.map_conv(torch.cat([x, lateral], dim=1))))).float()
        pooled = torch.cat([deep.mean((2, 3)), deep.amax((2, 3))], dim=1).float()
        with torch.autocast(rgb.device.type, enabled=False):
            embedding = normalize(self.project(pooled), dim=1)
            logit = self.classify(torch.cat([pooled, _contrast(blend_map)], dim=1)).squeeze(1)
        return EncoderOutput(embedding, logit, blend_map)


def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(depth - 1)))


def _contrast(blend_map: Tensor) -> Tensor:
    """(N, 2, h, w) -> (N, 6): of each map the mean inside the face less that outside, the mean of its top tenth, and the mean."""
    height, width = blend_map.shape[-2:]
    left, right, top, bottom = INNER_BOX
    inside = blend_map.new_zeros(height, width)
    inside[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    squashed = torch.tanh(blend_map / 4)
    mean_in = (squashed * inside).sum((2, 3)) / inside.sum()
    mean_out = (squashed * (1 - inside)).sum((2, 3)) / (1 - inside).sum()
    strongest = squashed.flatten(2).topk(max(1, height * width // 10), dim=2).values.mean(2)
    return torch.cat([mean_in - mean_out, strongest, squashed.mean((2, 3))], dim=1)
