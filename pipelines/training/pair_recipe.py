"""One pair for the encoder, before a pixel is touched: two faces and everything drawn about them in, a pair of crops out.

Drawn by `encoder_data.py`. `make` does the pixel work for one pair in NumPy and OpenCV; `device_fakes.py` does the same for many at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.degradations import Strip, Wear, warp_crop, warp_mask
from pipelines.training.masks import BROWS, EYES, JAW, MOUTH, NOSE, template_points
from pipelines.training.pseudo_fakes import Clip, DrawnFake, FakeRecipe, Kind, attempts, make_fake

# The facial points that the encoder learns to find: every other one of the jaw, and the features.
LOCATED: Final = [*JAW[::2], *BROWS[0][::2], *BROWS[1][::2], *EYES[0][::2], *EYES[1][::2], *NOSE, *MOUTH[::2]]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A real crop and its fake (S, S, 3), the fake's targets (2, S/8, S/8), and the facial points (K, 2) of both."""

    real: Image
    fake: Image
    maps: NDArray[np.float32]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PairRecipe:
    """Everything random about one pair. The fake's own draws come from `seed`, because how many there are is known from its pixels only."""

    target: Clip
    """One frame."""
    donor: Clip | None
    """One frame of another face or moment, for `identity_swap`."""
    kind: Kind
    strength: float
    seed: int
    fakes: FakeRecipe
    wear: Wear
    strip: Strip
    measured: bool
    """Whether the target's points were measured, and not taken from the template."""

    def attempts(self) -> Iterator[DrawnFake]:
        """What to try in turn until the fake can be told from its original; the same at every call."""
        rng = np.random.default_rng(self.seed)
        return attempts(self.target, rng, kind=self.kind, other=self.donor, strength=self.strength, recipe=self.fakes)

    def make(self, crop_px: int) -> Pair:
        """The pair, made on its own."""
        matrix = self.geometry(crop_px)
        rng = np.random.default_rng(self.seed)
        made = make_fake(self.target, rng, kind=self.kind, other=self.donor, strength=self.strength, recipe=self.fakes)
        real, fake = self.wear.still([warp_crop(picture, matrix, crop_px) for picture in (made.real[0], made.fake[0])], self.strip)
        return Pair(real, fake, _targets(warp_mask(made.masks[0], matrix, crop_px)), self.points(crop_px))

    def geometry(self, crop_px: int) -> NDArray[np.float64]:
        """The (2, 3) matrix from the portrait to the network crop."""
        return self.wear.geometry(self.target.crops.shape[1], crop_px)

    def points(self, crop_px: int) -> NDArray[np.float32]:
        """(K, 2) facial points in shares of the crop's side; NaN where none were measured."""
        matrix = self.geometry(crop_px)
        points = self.target.points[0][_mirrored()[LOCATED] if self.wear.flip else LOCATED] @ matrix[:, :2].T + matrix[:, 2]
        return np.asarray((points + 0.5) / crop_px if self.measured else np.full_like(points, np.nan), dtype=np.float32)


@cache
def _mirrored() -> NDArray[np.intp]:
    """(478,) the index of the point that each becomes in a mirror."""
    points = template_points()
    mirror = np.stack([2 * points[:, 0].mean() - points[:, 0], points[:, 1]], axis=1)
    return np.asarray(np.linalg.norm(mirror[:, None] - points[None], axis=2).argmin(1))


def _targets(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    shape = mask / max(float(mask.max()), 1e-6)
    seam, side = 4 * shape * (1 - shape), mask.shape[0] // 8
    return np.stack([cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) for layer in (mask, seam)]).astype(np.float32)
