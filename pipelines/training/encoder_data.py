"""Batches for the encoder: portraits in, pairs of real and pseudo-fake crops with their dense targets out. Read by `encoder_training.py`.

Two pairs of the same face stand in each group, each worn in its own way, so that the loss can ask that either fake scores above either
real: a property of the clip, and of its wear, earns nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Strip, Wear
from pipelines.training.pair_recipe import PairRecipe
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, FakeRecipe, Kind, nearest, usable_points

FAKES_PER_FACE: Final = 2
FRAME_KINDS: Final[tuple[Kind, ...]] = ("static", "identity_swap", "time_shift", "residue", "feature_drift")
FRAME_SHARES: Final = (0.53, 0.24, 0.06, 0.1, 0.07)
# A donor is the one of so many whose features fit the target best.
DONORS: Final = 8
Made = TypeVar("Made")


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


class PairStream(IterableDataset[Made]):
    """An endless, seeded stream of what `finish` makes of drawn pairs, for crops of `crop_px`, from the batch numbered `first` on.

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

    def __iter__(self) -> Iterator[Made]:
        worker = torch.utils.data.get_worker_info()
        cv2.setNumThreads(0)
        mine, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in itertools.count(self.first + mine, workers):
            yield self.draw(np.random.default_rng((self.seed, number)))

    def draw(self, rng: np.random.Generator) -> Made:
        """Draw one batch."""
        return self.finish(self.recipes(rng))

    def finish(self, recipes: list[PairRecipe]) -> Made:
        """What a loader's process makes of one batch of drawn pairs."""
        raise NotImplementedError

    def recipes(self, rng: np.random.Generator) -> list[PairRecipe]:
        """Draw the pairs of one batch and touch no pixel; pair 2g and 2g + 1 show the same face."""
        recipes: list[PairRecipe] = []
        for _ in range(self.groups):
            portrait = self.portraits[int(rng.choice(len(self.portraits), p=self.weights))]
            at = int(rng.integers(len(portrait.t)))
            # Points are filled in, and a donor of another moment is taken, from a short window around it.
            window = range(len(portrait.t))[max(0, at - 12) : at + 13]
            target = _moment(portrait, at, window)
            recipes += [self._recipe(portrait, target, window, rng) for _ in range(FAKES_PER_FACE)]
        return recipes

    def _recipe(self, portrait: Portrait, target: Clip, window: range, rng: np.random.Generator) -> PairRecipe:
        wear = Wear.draw(rng)
        kind = FRAME_KINDS[int(rng.choice(len(FRAME_KINDS), p=FRAME_SHARES))]
        donor: Clip | None = None
        if kind == "identity_swap":
            drawn = rng.choice(len(self.portraits), size=DONORS, p=self.weights)
            donor = nearest([_any_moment(self.portraits[int(i)], rng) for i in drawn], target)
        elif kind == "time_shift":
            donor, kind = _moment(portrait, int(rng.integers(window.start, window.stop)), window), "identity_swap"
        return PairRecipe(
            target=target,
            donor=donor,
            kind=kind,
            strength=float(rng.uniform(0.4, 1.0)),
            seed=int(rng.integers(2**31)),
            fakes=self.recipe,
            wear=wear,
            strip=Strip.draw(rng, 2, shake=wear.shake),
            measured=bool(np.isfinite(portrait.dense[window.start : window.stop, 0, 0]).any()),
        )


class FacePairs(PairStream[PairBatch]):
    """Batches ready to learn from, made by the loader's own processes."""

    def finish(self, recipes: list[PairRecipe]) -> PairBatch:
        """Make the pairs one by one."""
        pairs = [recipe.make(self.crop_px) for recipe in recipes]
        return PairBatch(
            _tensor([pair.real for pair in pairs]),
            _tensor([pair.fake for pair in pairs]),
            torch.from_numpy(np.stack([pair.maps for pair in pairs])),
            torch.from_numpy(np.stack([pair.points for pair in pairs])),
        )


def sampling_weights(portraits: list[Portrait]) -> NDArray[np.float64]:
    """One share for each person, not for each frame: 6 for video, 1 for a still, 0.5 for a small still (the pilot's weights)."""
    tracks: dict[str, int] = {}
    for portrait in portraits:
        tracks[portrait.identity] = tracks.get(portrait.identity, 0) + 1
    weight = [
        (6.0 if len(portrait.t) > 1 else 1.0 if portrait.face_px > 140 else 0.5) / tracks[portrait.identity] for portrait in portraits
    ]
    return np.array(weight) / sum(weight)


def _moment(portrait: Portrait, at: int, window: range) -> Clip:
    """One frame, its points filled in from a window around it."""
    points = portrait.dense[at]
    if not np.isfinite(points[0, 0]):
        points = usable_points(portrait.dense[window.start : window.stop])[at - window.start]
    return Clip(np.asarray(portrait.crops[at : at + 1]), portrait.t[at : at + 1], points[None])


def _any_moment(portrait: Portrait, rng: np.random.Generator) -> Clip:
    at = int(rng.integers(len(portrait.t)))
    return _moment(portrait, at, range(at, at + 1))


def _tensor(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
