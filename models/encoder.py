"""FaceEncoder: aligned crops in; Embedding, artefact logit, blend maps and facial points out. Called by `analysis.py` and the trainings.

A small residual net trained from scratch: early-heavy and shallow, because the trace of a blend is local (Chai et al. 2020, "What makes
fake images detectable?"), with a fixed high-pass beside the RGB stem. Three dense tasks stand in for the pretraining we do not have: what
was blended in and where its seam runs (Li et al. 2020, "Face X-ray"), whether two places come from one source (Zhao et al. 2021, "Learning
self-consistency for deepfake detection"), and where the facial points are. The logit reads what is *inside* the face against what is
*outside* of it, so that a property of the whole clip (its codec, its sharpness) cancels out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, normalize, relu

from models.checkpoint import WeightsError

# Half axes of the ellipses about the crop's centre, as shares of its side: within the first lies the face whatever a swap's mask is, beyond
# the second lies none of it (crop version 2: a mean face's jaw is 0.31 to the side of the centre, its chin 0.42 below).
INNER_AXES = (0.24, 0.34)
OUTER_AXES = (0.33, 0.46)
CUES = 9
"""Numbers that `_contrast` makes of the two maps and the oddness of the places."""


@dataclass(frozen=True, slots=True)
class EncoderDims:
    """Everything needed to build the net again; stored in the checkpoint."""

    embedding: int = 128
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    depths: tuple[int, int, int, int] = (1, 1, 2, 1)
    fingerprint: int = 16
    points: int = 52
    crop_px: int = 160

    def as_metadata(self) -> dict[str, object]:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class EncoderOutput(NamedTuple):
    """What the eye sees in N crops."""

    embedding: Tensor
    """(N, E); whitened: over real faces each component varies by about 1 at most."""
    logit: Tensor
    """(N,) log-odds of an artefact in this one picture."""
    blend_map: Tensor
    """(N, 2, S/8, S/8) logits: how much was blended in here; is this the seam."""
    fingerprint: Tensor
    """(N, F, S/8, S/8), unit length along F: alike where the picture has one source."""
    points: Tensor
    """(N, K, 2) facial points as x and y in shares of the crop's side."""
    distance: Tensor
    """(N,) root mean square of the embedding: about 1 for the real faces it was whitened on, more for what they never showed."""


class HighPass(nn.Module):
    """Three fixed residuals of luma, clamped: what is left when what a camera would predict is taken away."""

    kernels: Tensor
    luma: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.zeros(5, 5)
        across[2] = torch.tensor([0.0, -1.0, 2.0, -1.0, 0.0]) / 2
        laplace = torch.zeros(5, 5)
        laplace[1:4, 1:4] = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]) / 4
        self.register_buffer("kernels", torch.stack([across, across.T, laplace]).unsqueeze(1), persistent=False)
        # Beside the net: a constant made in `forward` is a copy from the host, and a CUDA graph takes none.
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1] -> (N, 3, S, S) in [-1, 1]; residuals beyond 24 grey levels are edges, not noise, and saturate."""
        grey = (rgb * self.luma).sum(1, keepdim=True)
        return (conv2d(grey, self.kernels, padding=2) * (127.5 / 24)).clamp(-1, 1)


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
    """About 0.9 M parameters; parameters only, no state.

    The embedding is for the memory to follow: features inside and outside of the face apart, so that what moves inside can be held against
    what moves around it, where the facial points are, and what the logit is read from. `parts` names these inputs and how many each has.
    """

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
        self.fingerprint = nn.Conv2d(48, dims.fingerprint, 1)
        self.locate = nn.Conv2d(48, dims.points, 1)
        self.parts = {"inside": fourth, "outside": fourth, "points": 2 * dims.points, "cues": CUES + 1}
        self.project = nn.Linear(sum(self.parts.values()), dims.embedding)
        self.classify = nn.Linear(2 * fourth + CUES, 1)

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
        trunk = relu(self.map_norm(self.map_conv(torch.cat([x, lateral], dim=1))))
        blend_map = self.map_out(trunk).float()
        fingerprint = normalize(self.fingerprint(trunk).float(), dim=1)
        deep = deep.float()
        with torch.autocast(rgb.device.type, enabled=False):
            points = _soft_argmax(self.locate(trunk.float()))
            strongest = deep.amax((2, 3))
            inside, outside = _means(deep)
            cues = _contrast(torch.cat([torch.tanh(blend_map / 4), _oddness(fingerprint)], dim=1))
            logit = self.classify(torch.cat([inside - outside, strongest, cues], dim=1))
            embedding = self.project(torch.cat([inside, outside, 2 * points.flatten(1) - 1, cues, logit], dim=1))
        distance = embedding.norm(dim=1) / embedding.shape[1] ** 0.5
        return EncoderOutput(embedding, logit.squeeze(1), blend_map, fingerprint, points, distance)


def _stage(inputs: int, outputs: int, depth: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(depth - 1)))


def _ellipse(like: Tensor, axes: tuple[float, float]) -> Tensor:
    """(h, w) 1 within the ellipse about the centre, else 0."""
    height, width = like.shape[-2:]
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height - 0.5
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width - 0.5
    return ((x / axes[0]).square().unsqueeze(0) + (y / axes[1]).square().unsqueeze(1) <= 1).to(like.dtype)


def _means(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, h, w) -> the means (N, C) inside and outside the face."""
    inner, outer = _ellipse(maps, INNER_AXES), 1 - _ellipse(maps, OUTER_AXES)
    return (maps * inner).sum((2, 3)) / inner.sum(), (maps * outer).sum((2, 3)) / outer.sum()


def _oddness(fingerprint: Tensor) -> Tensor:
    """(N, F, h, w) -> (N, 1, h, w): how little each place has in common with what surrounds the face, 0 to 2."""
    _, outside = _means(fingerprint)
    return 1 - (fingerprint * normalize(outside, dim=1)[..., None, None]).sum(1, keepdim=True)


def _contrast(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 3 C): of each map the mean inside the face less that outside, the mean of its top tenth, and the mean."""
    inside, outside = _means(maps)
    strongest = maps.flatten(2).topk(max(1, maps.shape[2] * maps.shape[3] // 10), dim=2).values.mean(2)
    return torch.cat([inside - outside, strongest, maps.mean((2, 3))], dim=1)


def _soft_argmax(heat: Tensor) -> Tensor:
    """(N, K, h, w) logits -> (N, K, 2): the mean place x, y in 0..1 of each map's softmax (Sun et al. 2018, "Integral human pose")."""
    share = heat.flatten(2).softmax(2).view_as(heat)
    height, width = heat.shape[-2:]
    x = (torch.arange(width, device=heat.device, dtype=heat.dtype) + 0.5) / width
    y = (torch.arange(height, device=heat.device, dtype=heat.dtype) + 0.5) / height
    return torch.stack([(share.sum(2) * x).sum(2), (share.sum(3) * y).sum(2)], dim=2)
