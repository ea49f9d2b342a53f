"""What OpenCV does to one picture, done to a batch on any device with other settings for every row. Used by `batched_steps.py`.

Pictures are float32 (B, C, S, S) in grey levels. Everything linear (blurs, other sizes) is two products with matrices that are built for
each row, so that rows of different strength and size go together. Borders, kernels and roundings are OpenCV's; tests hold the two together.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, max_pool2d, pad

CUBIC: Final = -0.75
# sRGB to XYZ over the white of D65, as OpenCV rounds it; below THRESHOLD the cube root of CIELAB is a line.
XYZ: Final = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE: Final = (0.950456, 1.0, 1.088754)
THRESHOLD, SLOPE, OFFSET = 0.008856, 7.787, 16 / 116


def levels(x: Tensor) -> Tensor:
    """Rounded and held within 0..255, as storing in eight bits does."""
    return x.round().clamp(0, 255)


def sampled(x: Tensor, place: Tensor, border: Literal["reflection", "zeros"]) -> Tensor:
    """Bilinear values of `x` (B, C, S, S) at `place` (B, 2, h, w), x before y, px."""
    grid = ((2 * place + 1) / x.shape[-1] - 1).permute(0, 2, 3, 1)
    return grid_sample(x, grid, mode="bilinear", padding_mode=border, align_corners=False)


def warped(x: Tensor, inverse: Tensor, size: int, border: Literal["reflection", "zeros"] = "reflection") -> Tensor:
    """Through affine maps given from the result back to the source, (B, 2, 3): (B, C, `size`, `size`)."""
    place = _grid(size, x.device).view(2, -1)
    return sampled(x, (inverse[:, :, :2] @ place + inverse[:, :, 2:]).view(-1, 2, size, size), border)


def displaced(x: Tensor, field: Tensor, border: Literal["reflection", "zeros"] = "reflection") -> Tensor:
    """Seen through displacements (B, 2, S, S)."""
    return sampled(x, _grid(x.shape[-1], x.device) + field, border)


def smooth_fields(coarse: Tensor, amplitude: Tensor, size: int) -> Tensor:
    """`SmoothField.full` of coarse fields (B, s, s, 2) and amplitudes (B,): (B, 2, S, S)."""
    up = linear(torch.tensor([coarse.shape[1]], device=coarse.device), coarse.shape[1], size)
    field = separable(coarse.permute(0, 3, 1, 2), up)
    peak = field.abs().amax((1, 2, 3))
    return field * torch.where(peak > 0, amplitude / peak, 0.0).view(-1, 1, 1, 1)


def separable(x: Tensor, matrix: Tensor) -> Tensor:
    """The same matrix (B or 1, out, S) down the columns and along the rows: (B, C, out, out)."""
    return matrix.unsqueeze(1) @ x @ matrix.unsqueeze(1).mT


def blurred(x: Tensor, sigma: Tensor, *, eight_bit: bool = False) -> Tensor:
    """Gaussian blur with its own sigma (B,) in every row; OpenCV cuts the kernel at 3 sigma for eight bits, at 4 for floats."""
    width = torch.round(sigma * (6 if eight_bit else 8) + 1).long() | 1
    return separable(x, gaussian(sigma, width // 2, x.shape[-1]))


def gaussian(sigma: Tensor, radius: Tensor, size: int) -> Tensor:
    """Matrices (B, S, S) of blurs by `sigma` cut at `radius`, mirrored about the outermost pixels (BORDER_REFLECT_101)."""
    line = torch.arange(size, device=sigma.device)
    out, source, last = line[:, None], line[None, :], size - 1

    def weight(distance: Tensor) -> Tensor:
        bell = (-0.5 * (distance / sigma.view(-1, 1, 1)).square()).exp()
        return torch.where(distance.abs() <= radius.view(-1, 1, 1), bell, 0.0)

    matrix = weight(source - out) + weight(-source - out) * (source > 0) + weight(2 * last - source - out) * (source < last)
    return matrix / matrix.sum(2, keepdim=True)


def area(inside: int, outside: Tensor, scale: Tensor, canvas: int) -> Tensor:
    """INTER_AREA from `inside` px to `outside` (B,) px, each `scale` (B,) px wide, in the corner of a canvas: (B, canvas, inside)."""
    out = torch.arange(canvas, device=scale.device)[:, None]
    source = torch.arange(inside, device=scale.device)[None, :]
    scale = scale.view(-1, 1, 1)
    low, high = out * scale, (out + 1) * scale
    covered = (torch.minimum(high, source + 1) - torch.maximum(low, source)).clamp(min=0)
    return covered / covered.sum(2, keepdim=True).clamp(min=1e-6) * (out < outside.view(-1, 1, 1))


def linear(inside: Tensor, canvas: int, outside: int) -> Tensor:
    """INTER_LINEAR from the first `inside` (B,) px of a canvas to `outside` px: (B, outside, canvas)."""
    source = torch.arange(canvas, device=inside.device)[None, :]
    return (1 - (_middle(inside, outside, clamp=True) - source).abs()).clamp(min=0)


def cubic(inside: Tensor, canvas: int, outside: int) -> Tensor:
    """INTER_CUBIC from the first `inside` (B,) px of a canvas to `outside` px: (B, outside, canvas)."""
    source, middle = torch.arange(canvas, device=inside.device)[None, :], _middle(inside, outside, clamp=False)
    base, last = middle.floor(), inside.view(-1, 1, 1) - 1
    matrix = torch.zeros((len(inside), outside, canvas), device=inside.device)
    for tap in (-1, 0, 1, 2):
        away = (middle - base - tap).abs()
        near = ((CUBIC + 2) * away - (CUBIC + 3)) * away.square() + 1
        far = CUBIC * (((away - 5) * away + 8) * away - 4)
        matrix += torch.where(away <= 1, near, far) * (torch.minimum((base + tap).clamp(min=0), last) == source)
    return matrix


def grown(x: Tensor, px: int) -> Tensor:
    """Dilated (`px` > 0) or eroded by an ellipse of that radius; what lies outside the picture does not count."""
    if px < 0:
        return -grown(-x, -px)
    tall, size = pad(x, (0, 0, px, px), value=-torch.inf), x.shape[-2]
    rows = [max_pool2d(tall[..., dy : dy + size, :], (1, 2 * half + 1), 1, (0, half)) for dy, half in enumerate(_ellipse(px))]
    return torch.stack(rows).amax(0)


def residue(x: Tensor) -> Tensor:
    """`pseudo_fakes._generator_residue`: edge-preserving blur (Tomasi and Manduchi 1998), and a grid of two pixels."""
    radius, size = 3, x.shape[-1]
    wide = pad(x, (radius,) * 4, mode="reflect")
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                other = wide[..., radius + dy : radius + dy + size, radius + dx : radius + dx + size]
                apart = (other - x).abs().sum(1, keepdim=True)
                weight = (-(dx * dx + dy * dy) / (2 * 5.0**2) - apart.square() / (2 * 28.0**2)).exp()
                total, weights = total + weight * other, weights + weight
    grid = interpolate(levels(avg_pool2d(levels(total / weights), 2)), scale_factor=2, mode="nearest")
    one = torch.ones(1, device=x.device)
    soft = levels(separable(grid, gaussian(0.6 * one, one, size)))
    return levels(0.8 * soft + 0.2 * x)


def to_lab(rgb: Tensor) -> Tensor:
    """Grey levels (B, 3, S, S) to CIELAB."""
    x = (rgb.clamp(0, 255) / 255).movedim(1, -1)
    light = torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    xyz = light @ (torch.tensor(XYZ) / torch.tensor(WHITE)[:, None]).T.to(x.device)
    f = torch.where(xyz > THRESHOLD, xyz.clamp(min=THRESHOLD) ** (1 / 3), SLOPE * xyz + OFFSET)
    fx, fy, fz = f.unbind(-1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=1)


def to_rgb(lab: Tensor) -> Tensor:
    """CIELAB (B, 3, S, S) to grey levels 0..255."""
    lightness, a, b = lab.unbind(1)
    fy = (lightness + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-1)
    xyz = torch.where(f > SLOPE * THRESHOLD + OFFSET, f**3, (f - OFFSET) / SLOPE) * torch.tensor(WHITE, device=lab.device)
    x = (xyz @ torch.linalg.inv(torch.tensor(XYZ)).T.to(lab.device)).clamp(0, 1)
    return 255 * torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055).movedim(-1, 1)


def _middle(inside: Tensor, outside: int, *, clamp: bool) -> Tensor:
    """(B, outside, 1) where each pixel of the result lies in the source, px."""
    place = torch.arange(outside, device=inside.device)[:, None]
    middle = (place + 0.5) * (inside.view(-1, 1, 1) / outside) - 0.5
    return torch.minimum(middle.clamp(min=0), inside.view(-1, 1, 1) - 1) if clamp else middle


def _grid(size: int, device: torch.device) -> Tensor:
    """(2, S, S) x and y of every pixel."""
    line = torch.arange(size, device=device, dtype=torch.float32)
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size)])


@cache
def _ellipse(px: int) -> tuple[int, ...]:
    """Half the width of each row of OpenCV's ellipse."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1,) * 2)
    return tuple(int(width) // 2 for width in np.asarray(kernel).sum(axis=1))
