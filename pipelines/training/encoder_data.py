"""Batches for the encoder: portraits in, pairs of real and pseudo-fake crops with their dense targets out. Read by `encoder_training.py`.

Two pairs of the same face stand in each group, each worn in its own way, so that the loss can ask that either fake scores above either
real: a property of the clip, and of its wear, earns nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Wear, warp_crop, warp_mask
from pipelines.training.masks import BROWS, EYES, JAW, MOUTH, NOSE, template_points
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, FakeRecipe, Kind, make_fake, nearest, usable_points

FAKES_PER_FACE: Final = 2
# The facial points that the encoder learns to find: every other one of the jaw, and the features.
LOCATED: Final = [*JAW[::2], *BROWS[0][::2], *BROWS[1][::2], *EYES[0][::2], *EYES[1][::2], *NOSE, *MOUTH[::2]]
FRAME_KINDS: Final[tuple[Kind, ...]] = ("static", "identity_swap", "time_shift", "residue", "feature_drift")
FRAME_SHARES: Final = (0.53, 0.24, 0.06, 0.1, 0.07)
# A donor is the one of so many whose features fit the target best.
DONORS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """G pairs; pair 2g and 2g + 1 show the same face."""

    real: Tensor
    """(G, 3, S, S) uint8."""
    fake: Tensor
    """(G, 3, S, S) uint8."""
    blend_map: Tensor
    """(G, 2, S/8, S/8) targets of the fakes: opacity m, and the seam 4 n (1 - n) of n = m / max m. The reals' are zero."""
    points: Tensor
    """(G, K, 2) facial points of both, in shares of the crop's side; NaN where none were measured."""


class FacePairs(IterableDataset[PairBatch]):
    """An endless, seeded stream of batches of `crop_px` crops, from the batch numbered `first` on.

    Every batch has a generator of its own, and a loader takes from its workers in turn: neither how many processes draw nor where a run
    was cut short changes what is drawn.
    """

    def __init__(
        self,
        portraits: list[Portrait],
        *,
        groups: int,
        seed: int,
        crop_px: int = CROP_PX,
        recipe: FakeRecipe | None = None,
        first: int = 0,
    ) -> None:
        self.portraits, self.groups, self.seed, self.crop_px, self.first = portraits, groups, seed, crop_px, first
        self.recipe = recipe or FakeRecipe()
        self.weights = sampling_weights(portraits)

    def __iter__(self) -> Iterator[PairBatch]:
        worker = torch.utils.data.get_worker_info()
        cv2.setNumThreads(0)
        mine, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in itertools.count(self.first + mine, workers):
            yield self.draw(np.random.default_rng((self.seed, number)))

    def draw(self, rng: np.random.Generator) -> PairBatch:
        """Draw one batch."""
        pairs: list[_Pair] = []
        for _ in range(self.groups):
            portrait = self.portraits[int(rng.choice(len(self.portraits), p=self.weights))]
            pairs += self._group(portrait, rng)
        return PairBatch(
            _tensor([pair.real for pair in pairs]),
            _tensor([pair.fake for pair in pairs]),
            torch.from_numpy(np.stack([pair.maps for pair in pairs])),
            torch.from_numpy(np.stack([pair.points for pair in pairs])),
        )

    def _group(self, portrait: Portrait, rng: np.random.Generator) -> list[_Pair]:
        at = int(rng.integers(len(portrait.t)))
        # A short window, so that a donor from another moment exists; only its middle frame is used.
        window = slice(max(0, at - 12), at + 13)
        clip = Clip(np.asarray(portrait.crops[window]), portrait.t[window], usable_points(portrait.dense[window]))
        here = at - window.start
        single = _moment(clip, here)
        measured = bool(np.isfinite(portrait.dense[window][:, 0, 0]).any())
        return [self._pair(single, clip, measured=measured, rng=rng) for _ in range(FAKES_PER_FACE)]

    def _pair(self, single: Clip, clip: Clip, *, measured: bool, rng: np.random.Generator) -> _Pair:
        wear = Wear.draw(rng)
        matrix = wear.geometry(single.crops.shape[1], self.crop_px)
        kind = FRAME_KINDS[int(rng.choice(len(FRAME_KINDS), p=FRAME_SHARES))]
        donor: Clip | None = None
        if kind == "identity_swap":
            drawn = rng.choice(len(self.portraits), size=DONORS, p=self.weights)
            donor = nearest([_one_frame(self.portraits[int(i)], rng) for i in drawn], single)
        elif kind == "time_shift":
            donor, kind = _moment(clip, int(rng.integers(len(clip.t)))), "identity_swap"
        made = make_fake(single, rng, kind=kind, other=donor, strength=float(rng.uniform(0.4, 1.0)), recipe=self.recipe)
        real, fake = wear.still([warp_crop(picture, matrix, self.crop_px) for picture in (made.real[0], made.fake[0])], rng)
        points = single.points[0][_mirrored()[LOCATED] if wear.flip else LOCATED] @ matrix[:, :2].T + matrix[:, 2]
        return _Pair(
            real,
            fake,
            _targets(warp_mask(made.masks[0], matrix, self.crop_px)),
            ((points + 0.5) / self.crop_px if measured else np.full_like(points, np.nan)).astype(np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    real: Image
    fake: Image
    maps: NDArray[np.float32]
    points: NDArray[np.float32]


@cache
def _mirrored() -> NDArray[np.intp]:
    """(478,) the index of the point that each becomes in a mirror."""
    points = template_points()
    mirror = np.stack([2 * points[:, 0].mean() - points[:, 0], points[:, 1]], axis=1)
    return np.asarray(np.linalg.norm(mirror[:, None] - points[None], axis=2).argmin(1))


def sampling_weights(portraits: list[Portrait]) -> NDArray[np.float64]:
    """One share for each person, not for each frame: 6 for video, 1 for a still, 0.5 for a small still (the pilot's weights)."""
    tracks: dict[str, int] = {}
    for portrait in portraits:
        tracks[portrait.identity] = tracks.get(portrait.identity, 0) + 1
    weight = [
        (6.0 if len(portrait.t) > 1 else 1.0 if portrait.face_px > 140 else 0.5) / tracks[portrait.identity] for portrait in portraits
    ]
    return np.array(weight) / sum(weight)


def _moment(clip: Clip, at: int) -> Clip:
    return Clip(clip.crops[at : at + 1], clip.t[at : at + 1], clip.points[at : at + 1])


def _one_frame(portrait: Portrait, rng: np.random.Generator) -> Clip:
    at = int(rng.integers(len(portrait.t)))
    row = slice(at, at + 1)
    return Clip(np.asarray(portrait.crops[row]), portrait.t[row], usable_points(portrait.dense[row]))


def _targets(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    shape = mask / max(float(mask.max()), 1e-6)
    seam, side = 4 * shape * (1 - shape), mask.shape[0] // 8
    return np.stack([cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) for layer in (mask, seam)]).astype(np.float32)


def _tensor(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
