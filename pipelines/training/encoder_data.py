"""Batches for the encoder: portraits in, pairs of real and pseudo-fake crops with their blend maps out. Read by `encoder_training.py`.

Two fakes of the same picture stand in each group, so that the loss can ask for the *difference* between a face and its fakes and a
property of the clip itself earns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, Kind, make_fake, usable_points
from pipelines.training.reencode import reencode

FAKES_PER_FACE: Final = 2
MAP_PX: Final = CROP_PX // 8
FRAME_KINDS: Final[tuple[Kind, ...]] = ("static", "identity_swap", "time_shift", "residue", "feature_drift")
FRAME_SHARES: Final = (0.6, 0.15, 0.08, 0.1, 0.07)


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """G pairs; pair 2g and 2g + 1 show the same face."""

    real: Tensor
    """(G, 3, 160, 160) uint8."""
    fake: Tensor
    """(G, 3, 160, 160) uint8."""
    blend_map: Tensor
    """(G, 2, 20, 20) targets of the fakes: opacity m, and the seam 4 m (1 - m). The reals' are zero."""


class FacePairs(IterableDataset[PairBatch]):
    """An endless, seeded stream of batches; each worker process draws its own."""

    def __init__(self, portraits: list[Portrait], *, groups: int, seed: int) -> None:
        self.portraits, self.groups, self.seed = portraits, groups, seed
        self.weights = sampling_weights(portraits)

    def __iter__(self) -> Iterator[PairBatch]:
        worker = torch.utils.data.get_worker_info()
        cv2.setNumThreads(0)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            yield self.draw(rng)

    def draw(self, rng: np.random.Generator) -> PairBatch:
        """Draw one batch."""
        real: list[Image] = []
        fake: list[Image] = []
        maps: list[NDArray[np.float32]] = []
        for _ in range(self.groups):
            portrait = self.portraits[int(rng.choice(len(self.portraits), p=self.weights))]
            group = self._group(portrait, rng)
            real += group[0]
            fake += group[1]
            maps += group[2]
        return PairBatch(_tensor(real), _tensor(fake), torch.from_numpy(np.stack(maps)))

    def _group(self, portrait: Portrait, rng: np.random.Generator) -> tuple[list[Image], list[Image], list[NDArray[np.float32]]]:
        at = int(rng.integers(len(portrait.t)))
        # A short window, so that a donor from another moment exists; only its middle frame is used.
        window = slice(max(0, at - 12), at + 13)
        points = usable_points(portrait.dense[window])
        clip = Clip(np.asarray(portrait.crops[window]), portrait.t[window], points)
        here = at - window.start
        wear = Wear.draw(rng)
        matrix = wear.geometry(clip.crops.shape[1], CROP_PX)
        reals, fakes, maps = [], [], []
        for _ in range(FAKES_PER_FACE):
            kind = FRAME_KINDS[int(rng.choice(len(FRAME_KINDS), p=FRAME_SHARES))]
            single = Clip(clip.crops[here : here + 1], clip.t[here : here + 1], clip.points[here : here + 1])
            donor: Clip | None = None
            if kind == "identity_swap":
                donor = _one_frame(self.portraits[int(rng.choice(len(self.portraits), p=self.weights))], rng)
            elif kind == "time_shift":
                other = int(rng.integers(len(clip.t)))
                donor, kind = (
                    Clip(clip.crops[other : other + 1], clip.t[other : other + 1], clip.points[other : other + 1]),
                    "identity_swap",
                )
            made = make_fake(single, rng, kind=kind, other=donor, strength=float(rng.uniform(0.4, 1.0)))
            reals.append(wear.look(warp_crop(made.real[0], matrix, CROP_PX)))
            fakes.append(wear.look(warp_crop(made.fake[0], matrix, CROP_PX)))
            maps.append(_targets(warp_mask(made.masks[0], matrix, CROP_PX)))
        if wear.codec is not None:
            reals, fakes = _mosaic(reals, fakes, wear.codec, rng)
        return reals, fakes, maps


def sampling_weights(portraits: list[Portrait]) -> NDArray[np.float64]:
    """One share for each person, not for each frame: 6 for video, 1 for a still, 0.5 for a small still (the pilot's weights)."""
    tracks: dict[str, int] = {}
    for portrait in portraits:
        tracks[portrait.identity] = tracks.get(portrait.identity, 0) + 1
    weight = [
        (6.0 if len(portrait.t) > 1 else 1.0 if portrait.face_px > 140 else 0.5) / tracks[portrait.identity] for portrait in portraits
    ]
    return np.array(weight) / sum(weight)


def _one_frame(portrait: Portrait, rng: np.random.Generator) -> Clip:
    at = int(rng.integers(len(portrait.t)))
    row = slice(at, at + 1)
    return Clip(np.asarray(portrait.crops[row]), portrait.t[row], usable_points(portrait.dense[row]))


def _mosaic(reals: list[Image], fakes: list[Image], codec: tuple[str, int], rng: np.random.Generator) -> tuple[list[Image], list[Image]]:
    """Encode all crops of a group as tiles of one picture: one codec state for both classes, and no order that could tell them apart."""
    tiles = reals + fakes
    order = rng.permutation(len(tiles))
    half = len(tiles) // 2
    picture = np.concatenate([np.concatenate([tiles[i] for i in row], axis=1) for row in (order[:half], order[half:])], axis=0)
    worn = reencode(picture[None], np.zeros(1), *codec)[0]
    back = list(tiles)
    for place, i in enumerate(order):
        y, x = divmod(place, half)
        back[i] = worn[y * CROP_PX : (y + 1) * CROP_PX, x * CROP_PX : (x + 1) * CROP_PX]
    return back[: len(reals)], back[len(reals) :]


def _targets(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    seam = 4 * mask * (1 - mask)
    return np.stack([cv2.resize(layer, (MAP_PX, MAP_PX), interpolation=cv2.INTER_AREA) for layer in (mask, seam)]).astype(np.float32)


def _tensor(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
