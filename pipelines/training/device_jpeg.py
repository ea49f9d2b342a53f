"""Baseline JPEG of many pictures at once on any device: levels and qualities in, the levels that a decoder would give out.

Used by `batched_steps.py` where `degradations.through_jpeg` serves one picture. ITU-T T.81 with the tables of its annex K, chroma at half
size, and libjpeg's roundings; entropy coding loses nothing and is left out.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from pipelines.training.pixels import levels

LUMA: Final = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA: Final = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 32),
)
TO_YCC: Final = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB: Final = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


def through_jpeg(x: Tensor, quality: Tensor, side: Tensor) -> Tensor:
    """Pictures (B, 3, N, N) in whole levels, each `side` (B,) even px in the corner of its canvas, after JPEG of `quality` (B,), 1 to 100.

    The channels are taken for blue, green and red, as the pictures of `degradations.through_jpeg` are.
    """
    size = x.shape[-1]
    whole = -(-size // 16) * 16
    # What an encoder sees beyond a picture is its last row and column again.
    last = torch.minimum(torch.arange(whole, device=x.device), side.view(-1, 1) - 1)
    x = x.gather(2, last[:, None, :, None].expand(-1, 3, -1, size)).gather(3, last[:, None, None, :].expand(-1, 3, whole, -1))
    centre = torch.tensor([0.0, 128.0, 128.0], device=x.device).view(3, 1, 1)
    ycc = levels(torch.einsum("ij,bjyx->biyx", torch.tensor(TO_YCC, device=x.device), x.flip(1)) + centre)
    luma = _coded(ycc[:, :1], _table(LUMA, quality))
    chroma = _enlarged(_coded(_halved(ycc[:, 1:]), _table(CHROMA, quality)), side)
    back = torch.einsum("ij,bjyx->biyx", torch.tensor(TO_RGB, device=x.device), torch.cat([luma, chroma], 1) - centre)
    return levels(back)[..., :size, :size].flip(1)


def _table(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """(B, 8, 8) steps of the quantiser."""
    scale = torch.where(quality < 50, 5000 // quality.clamp(min=1), 200 - 2 * quality)
    steps = (torch.tensor(base, device=quality.device) * scale.view(-1, 1) + 50) // 100
    return steps.clamp(1, 255).float().view(-1, 8, 8)


def _coded(plane: Tensor, steps: Tensor) -> Tensor:
    """Planes (B, C, H, W) through cosine transform, quantiser and back."""
    batch, channels, height, width = plane.shape
    blocks = (plane - 128).view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    line = torch.arange(8, device=plane.device, dtype=torch.float64)
    cosines = ((2 * line + 1) * line[:, None] * math.pi / 16).cos() * torch.where(line[:, None] == 0, 0.125, 0.25).sqrt()
    basis, steps = cosines.float(), steps.view(batch, 1, 1, 1, 8, 8)
    coefficients = basis @ blocks @ basis.T / steps
    kept = coefficients.sign() * (coefficients.abs() + 0.5).floor() * steps
    return levels((basis.T @ kept @ basis + 128).transpose(3, 4).reshape(plane.shape))


def _halved(plane: Tensor) -> Tensor:
    """Means of two by two; libjpeg's halves go up and down in turn."""
    pairs = plane[..., ::2, :] + plane[..., 1::2, :]
    total = pairs[..., ::2] + pairs[..., 1::2]
    bias = 1 + torch.arange(total.shape[-1], device=plane.device) % 2
    return ((total + bias) / 4).floor()


def _enlarged(plane: Tensor, side: Tensor) -> Tensor:
    """Twice the size with weights of 3/4 and 1/4 (libjpeg's "fancy" way), within the first `side` / 2 (B,) samples."""
    size, last = plane.shape[-1], side.view(-1, 1, 1) // 2 - 1
    out, source = torch.arange(2 * size, device=plane.device)[:, None], torch.arange(size, device=plane.device)
    near = torch.minimum(out // 2, last)
    far = torch.minimum((out // 2 + 2 * (out % 2) - 1).clamp(min=0), last)
    weights = (3.0 * (near == source) + (far == source)).unsqueeze(1)
    total = weights @ plane @ weights.mT
    return ((total + 8 - out[:, 0] % 2) / 16).floor()
