"""Drawn pairs laid side by side for a device: recipes in, tensors out. Packed by a loader's processes, unpacked by `device_fakes.py`.

What only some pairs have (a donor, an elastic field, JPEG) is packed for those alone, beside the list of their rows: which work there is
for which rows is known before anything runs, so a device never has to be asked. Outlines are filled in here, by the code that serves
one pair: that is cheap, and one bit a pixel travels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pipelines.training.encoder_data import PairStream
from pipelines.training.fields import SmoothField
from pipelines.training.masks import Soft
from pipelines.training.pair_recipe import PairRecipe
from pipelines.training.pseudo_fakes import Clip, DrawnFake, SourceRecipe, face_of, fit


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Tensors that go to a device together."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return self.each(lambda one: one.to(device))

    def each(self, work: Callable[[Tensor], Tensor]) -> Self:
        """The same with something done to every tensor."""
        return replace(self, **{one.name: _done(getattr(self, one.name), work) for one in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class PackedFields(Packed):
    """N smooth fields: `coarse` (N, s, s, 2) and `amplitude` (N,) of `SmoothField`."""

    coarse: Tensor
    amplitude: Tensor

    @classmethod
    def of(cls, several: Sequence[SmoothField]) -> PackedFields:
        """Lay fields of one size side by side."""
        coarse = np.stack([one.coarse for one in several]) if several else np.empty((0, 1, 1, 2), np.float32)
        return cls(torch.from_numpy(coarse), torch.tensor([one.amplitude for one in several], dtype=torch.float32))


@dataclass(frozen=True, slots=True, eq=False)
class PackedFakes(Packed):
    """One attempt at B fakes. Numbers are (B, ...) float32, `rows` list the pairs that something happens to; both by the recipes' names."""

    numbers: dict[str, Tensor]
    rows: dict[str, Tensor]
    hard: Tensor
    """(B, S * S / 8) uint8, a bit a pixel: where each mask is before anything softens it."""
    bends: PackedFields
    """Of the B masks."""
    elastic: PackedFields
    """Of the rows `elastic`."""
    warps: PackedFields
    """Two for each of the rows `warp`, one after the other."""
    grow: dict[int, Tensor]
    """Rows by how far their masks grow, px."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedPairs(Packed):
    """B pairs for crops of `crop_px`."""

    recipes: list[PairRecipe]
    """Without their pictures, which lie below."""
    crop_px: int
    faces: Tensor
    """(B, S, S, 3) uint8."""
    donors: Tensor
    """(D, S, S, 3) uint8, of the rows `swap`."""
    donor_faces: Tensor
    """(D, S * S / 8) uint8, a bit a pixel: what of them may be used."""
    fakes: PackedFakes
    """The first attempt."""
    numbers: dict[str, Tensor]
    rows: dict[str, Tensor]
    distractors: Tensor
    """(N, C * C / 8) uint8 of the rows `distractor`."""
    points: Tensor
    """(B, K, 2) as in `PairBatch`."""

    def recipe(self, row: int) -> PairRecipe:
        """The recipe of a row with its target's picture; its own fake's draws never look at the donor's."""
        recipe = self.recipes[row]
        return replace(recipe, target=replace(recipe.target, crops=self.faces[row : row + 1].numpy()))


class PackedStream(PairStream[PackedPairs]):
    """Batches that a device makes: the same pairs as `FacePairs` of the same seed."""

    def finish(self, recipes: list[PairRecipe]) -> PackedPairs:
        """Lay them side by side."""
        return pack(recipes, self.crop_px)


def pack(recipes: list[PairRecipe], crop_px: int) -> PackedPairs:
    """Lay pairs side by side."""
    size = recipes[0].target.crops.shape[1]
    swapped = [(row, recipe.target, recipe.donor) for row, recipe in enumerate(recipes) if recipe.donor is not None]
    fits = [fit(donor.points[0], target.points[0]) for _, target, donor in swapped]
    wears = [recipe.wear for recipe in recipes]
    distracted = [(row, wear.distractor) for row, wear in enumerate(wears) if wear.distractor is not None]
    return PackedPairs(
        recipes=[replace(one, target=_blind(one.target), donor=None if one.donor is None else _blind(one.donor)) for one in recipes],
        crop_px=crop_px,
        faces=torch.from_numpy(np.stack([recipe.target.crops[0] for recipe in recipes])),
        donors=torch.from_numpy(_stacked([donor.crops[0] for *_, donor in swapped], (size, size, 3), np.uint8)),
        donor_faces=bits([face_of(donor.points[0], matrix, size) for (*_, donor), matrix in zip(swapped, fits, strict=True)], size),
        fakes=pack_fakes([next(recipe.attempts()) for recipe in recipes], [recipe.target for recipe in recipes]),
        numbers={
            "fit": _floats(_stacked([cv2.invertAffineTransform(matrix) for matrix in fits], (2, 3), np.float64)),
            "geometry": _floats([cv2.invertAffineTransform(recipe.geometry(crop_px)) for recipe in recipes]),
            "offset": _floats(_stacked([np.array(one.offset) for _, one in distracted], (2,), np.float64)),
            "patch_gain": _floats(_stacked([np.array(one.gain) for _, one in distracted], (3,), np.float64)),
            "softness": _floats([one.softness for _, one in distracted]),
            "captured_px": _floats([wear.captured_px(crop_px) for wear in wears]),
            **{
                name: _floats([getattr(wear, name) for wear in wears])
                for name in ("brightness", "contrast", "tint", "blur", "noise", "jpeg")
            },
            "seed": torch.tensor([wear.seed for wear in wears]),
        },
        rows={
            "swap": _rows(recipes, lambda one: one.donor is not None),
            "distractor": _rows(wears, lambda one: one.distractor is not None),
            "grey": _rows(wears, lambda one: one.grey),
            "blur": _rows(wears, lambda one: one.blur > 0),
            "capture": _rows(wears, lambda one: one.capture > 1),
            "noise": _rows(wears, lambda one: one.noise > 0),
            "jpeg": _rows(wears, lambda one: one.jpeg > 0),
            "codec": _rows(wears, lambda one: one.codec is not None),
        },
        distractors=bits([one.hard(crop_px) for _, one in distracted], crop_px),
        points=torch.from_numpy(np.stack([recipe.points(crop_px) for recipe in recipes])),
    )


def pack_fakes(drawn: list[DrawnFake], targets: list[Clip]) -> PackedFakes:
    """Lay one attempt at fakes of single frames side by side."""
    size = targets[0].crops.shape[1]
    masks, sources = [one.mask for one in drawn], [one.sources[0] for one in drawn]
    hard = [one.mask.hard(one.placed(target.points[0], 0), target.crops[0]) for one, target in zip(drawn, targets, strict=True)]
    warped = [one.warp for one in drawn if one.warp is not None]
    return PackedFakes(
        numbers={
            **{name: _floats([getattr(mask, name) for mask in masks]) for name in ("blur_first", "blur_second", "keep_above", "ratio")},
            **{name: _floats([getattr(source, name) for source in sources]) for name in SOURCE_NUMBERS},
            "map": _floats([cv2.invertAffineTransform(source.warp) for source in sources]),
            "bands": _floats([one.bands for one in drawn]),
            "drift_gain": _floats([one.gain(0) for one in drawn]),
            "opacity": _floats([one.opacity(0) for one in drawn]),
            "paths": _floats(_stacked([one.paths[0] for one in warped], (2,), np.float32)),
            "seed": torch.tensor([source.seed for source in sources]),
        },
        rows={
            "alter_target": _rows(drawn, lambda one: one.alter_target),
            "bands": _rows(drawn, lambda one: one.bands > 0),
            "warp": _rows(drawn, lambda one: one.warp is not None),
            "swap": _rows(drawn, lambda one: one.kind == "identity_swap" and one.donor_rows is not None),
            **{name: _rows(sources, happens) for name, happens in SOURCE_ROWS.items()},
        },
        hard=bits(hard, size),
        bends=PackedFields.of([mask.elastic for mask in masks]),
        elastic=PackedFields.of([source.elastic for source in sources if source.elastic is not None]),
        warps=PackedFields.of([mode for warp in warped for mode in warp.modes]),
        grow={px: _rows([mask.grow_px == px for mask in masks], bool) for px in sorted({mask.grow_px for mask in masks} - {0})},
    )


SOURCE_NUMBERS = ("gain", "shift", "gamma", "saturation", "scale_down", "sharpen", "blur", "jpeg", "grain")
SOURCE_ROWS: dict[str, Callable[[SourceRecipe], bool]] = {
    "elastic": lambda one: one.elastic is not None,
    "residue": lambda one: one.residue,
    "down": lambda one: one.scale_down > 1,
    "blur": lambda one: one.blur > 0,
    "jpeg": lambda one: one.jpeg > 0,
    "sharpen": lambda one: one.sharpen > 0,
    "grain": lambda one: one.grain > 0,
}
"""What happens to some sources only."""


def bits(masks: list[Soft], size: int) -> Tensor:
    """Masks (S, S) of 0 and 1 as (N, S * S / 8) uint8."""
    flat = _stacked([mask.reshape(-1) > 0.5 for mask in masks], (size * size,), np.bool_)
    return torch.from_numpy(np.packbits(flat, axis=1))


def from_bits(packed: Tensor, size: int) -> Tensor:
    """What `bits` packed, as (N, 1, S, S) float32."""
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((packed.unsqueeze(-1) >> shifts) & 1).float().view(-1, 1, size, size)


def _blind(clip: Clip) -> Clip:
    return replace(clip, crops=clip.crops[:0])


def _rows(several: Sequence[Any], happens: Callable[[Any], bool]) -> Tensor:
    return torch.tensor([row for row, one in enumerate(several) if happens(one)], dtype=torch.long)


def _floats(values: ArrayLike) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _stacked(arrays: list[NDArray[Any]], shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """`np.stack` that takes none as well."""
    return np.stack(arrays) if arrays else np.empty((0, *shape), dtype)


def _done(value: object, work: Callable[[Tensor], Tensor]) -> object:
    if isinstance(value, Tensor):
        return work(value)
    if isinstance(value, Packed):
        return value.each(work)
    return {key: _done(one, work) for key, one in value.items()} if isinstance(value, dict) else value
