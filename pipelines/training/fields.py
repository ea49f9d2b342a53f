"""Smooth displacements and camera noise: a few numbers drawn, a whole picture's worth out, the same from NumPy and on any device.

Used by the recipes of pseudo-fakes and of wear (`masks.py`, `pseudo_fakes.py`, `degradations.py`) and by their batched twin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Level = TypeVar("Level", np.uint8, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothField:
    """A random displacement, kept at a quarter of its size: it is smooth, and a sixteenth travels faster to a device."""

    coarse: NDArray[np.float32]
    """(S/4, S/4, 2), x before y."""
    amplitude: float
    """The largest component anywhere in the whole field, px."""

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int, *, sigma: float, amplitude: float) -> SmoothField:
        """Draw a field for pictures of `size` px whose detail is about `sigma` px."""
        coarse = rng.normal(size=(size // 4, size // 4, 2)).astype(np.float32)
        return cls(np.asarray(cv2.GaussianBlur(coarse, (0, 0), max(sigma / 4, 0.5)), dtype=np.float32), amplitude)

    def full(self, size: int) -> NDArray[np.float32]:
        """The whole field (S, S, 2) in pixels."""
        field = cv2.resize(self.coarse, (size, size))
        peak = float(np.abs(field).max())
        return np.asarray(field * (self.amplitude / peak if peak > 0 else 0.0), dtype=np.float32)

    def moved(self, picture: NDArray[Level], border: int = cv2.BORDER_REFLECT) -> NDArray[Level]:
        """A picture (S, S) or (S, S, 3) seen through the field."""
        return remapped(picture, self.full(picture.shape[0]), border)


def remapped(picture: NDArray[Level], field: NDArray[np.float32], border: int = cv2.BORDER_REFLECT) -> NDArray[Level]:
    """A picture (S, S) or (S, S, 3) of any type whose pixel at p comes from p + field[p]."""
    grid = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    moved = cv2.remap(picture, grid[1] + field[..., 0], grid[0] + field[..., 1], cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, dtype=picture.dtype)


def noise(seeds: Tensor, size: int) -> Tensor:
    """Normal noise (B, S, S) of unit variance for B integer `seeds`; a smaller size is the corner of a larger one.

    Counted, not drawn in turn: a pixel's value depends on its seed and place alone, so every device and every batch has the same.
    The mixing is the finaliser of Appleby's MurmurHash3, two normals come from two hashes by Box and Muller 1958.
    """
    line = torch.arange(size, device=seeds.device)
    place = (line[:, None] << 16) | line
    key = _mixed(seeds & 0xFFFFFFFF).view(-1, 1, 1)
    first = _mixed(place ^ key)
    radius, turn = ((one.float() + 0.5) / 2**32 for one in (first, _mixed(first ^ 0x9E3779B9 ^ place)))
    return (-2 * radius.log()).sqrt() * (2 * math.pi * turn).cos()


def one_noise(seed: int, size: int) -> NDArray[np.float32]:
    """`noise` of one picture for NumPy, (S, S, 1)."""
    made: NDArray[np.float32] = noise(torch.tensor([seed]), size)[0, :, :, None].numpy()
    return made


def _mixed(x: Tensor) -> Tensor:
    """int64 holding 32 bits -> the same, thoroughly mixed; the products wrap, of which the lower half is kept."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)
