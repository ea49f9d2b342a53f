"""The steps from faces to a pair of worn crops, for a whole batch and with the roundings of one: packed recipes in, pictures out.

Each is named by the code for one pair that it repeats (`pseudo_fakes.py`, `masks.py`, `degradations.py`). Called by `device_fakes.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pipelines.training.device_jpeg import through_jpeg
from pipelines.training.fields import noise
from pipelines.training.packed_pairs import PackedFakes, PackedPairs, from_bits
from pipelines.training.pixels import (
    area,
    blurred,
    cubic,
    displaced,
    grown,
    levels,
    linear,
    residue,
    separable,
    smooth_fields,
    to_lab,
    to_rgb,
    warped,
)
from pipelines.training.pseudo_fakes import FACE_SOFTNESS, GREY_CHROMA, UNSHARP_PX


def faces_of(pairs: PackedPairs) -> tuple[Tensor, Tensor, Tensor]:
    """The faces (B, 3, S, S), what lends itself to be blended into each, and which part of that may be used (B, 1, S, S)."""
    faces, swap = pairs.faces.permute(0, 3, 1, 2).float(), pairs.rows["swap"]
    donors, usable = faces.clone(), torch.ones_like(faces[:, :1])
    if len(swap):
        donors[swap] = levels(warped(pairs.donors.permute(0, 3, 1, 2).float(), pairs.numbers["fit"], faces.shape[-1]))
        hard = from_bits(pairs.donor_faces, faces.shape[-1])
        usable[swap] = blurred(hard, torch.full((len(swap),), FACE_SOFTNESS, device=hard.device))
    return faces, donors, usable


def blend(faces: Tensor, donors: Tensor, usable: Tensor, fakes: PackedFakes) -> tuple[Tensor, Tensor, Tensor]:
    """`DrawnFake.apply` for one frame of each: reals, fakes, masks."""
    numbers, rows = fakes.numbers, fakes.rows
    altered = _altered(donors, fakes)
    base, source = faces.clone(), altered.clone()
    target = rows["alter_target"]
    base[target], source[target] = altered[target].clamp(0, 255), donors[target]
    _on(source, rows["swap"], lambda x: _matched_colour(x, base[rows["swap"]]))
    source = source * numbers["drift_gain"].view(-1, 1, 1, 1)
    if len(rows["warp"]):
        modes = smooth_fields(fakes.warps.coarse, fakes.warps.amplitude, faces.shape[-1]).view(-1, 2, 2, *faces.shape[2:])
        _on(source, rows["warp"], lambda x: displaced(x, (numbers["paths"].view(-1, 2, 1, 1, 1) * modes).sum(1)))
    mask = _mask(fakes, faces.shape[-1]) * usable * numbers["opacity"].view(-1, 1, 1, 1)
    fake = source * mask + base * (1 - mask)
    two = rows["bands"]
    if len(two):
        sigma, m, s, b = numbers["bands"][two], mask[two], source[two], base[two]
        low_s, low_b, wide = blurred(s, sigma), blurred(b, sigma), blurred(m, 1.5 * sigma)
        fake[two] = low_s * wide + low_b * (1 - wide) + (s - low_s) * m + (b - low_b) * (1 - m)
    return levels(base), levels(fake), mask


def _altered(images: Tensor, fakes: PackedFakes) -> Tensor:
    """`SourceRecipe.apply`."""
    numbers, rows, size = fakes.numbers, fakes.rows, images.shape[-1]
    x = levels(warped(images, numbers["map"], size))
    if len(rows["elastic"]):
        field = smooth_fields(fakes.elastic.coarse, fakes.elastic.amplitude, size)
        _on(x, rows["elastic"], lambda one: levels(displaced(one, field)))
    _on(x, rows["residue"], residue)
    if len(rows["down"]):
        scale = numbers["scale_down"][rows["down"]]
        small = torch.round(size / scale)
        down, up = area(size, small, scale, size), cubic(small, size, size)
        _on(x, rows["down"], lambda one: levels(separable(levels(separable(one, down)), up)))
    _on(x, rows["blur"], lambda one: levels(blurred(one, numbers["blur"][rows["blur"]], eight_bit=True)))
    if len(rows["jpeg"]):
        quality = numbers["jpeg"][rows["jpeg"]].long()
        _on(x, rows["jpeg"], lambda one: through_jpeg(one, quality, torch.full_like(quality, size)))
    if len(rows["sharpen"]):
        much = numbers["sharpen"][rows["sharpen"]]
        _on(x, rows["sharpen"], lambda one: one + much.view(-1, 1, 1, 1) * (one - blurred(one, torch.full_like(much, UNSHARP_PX))))
    _on(x, rows["grain"], lambda one: one + _noise(numbers["seed"], numbers["grain"], rows["grain"], size))
    few = images[..., ::8, ::8]
    is_grey = ((few.amax(1) - few.amin(1)).mean((1, 2)) < GREY_CHROMA).view(-1, 1)
    gain, shift = (torch.where(is_grey, numbers[name].mean(1, keepdim=True), numbers[name]).view(-1, 3, 1, 1) for name in ("gain", "shift"))
    grey = x.mean(1, keepdim=True)
    x = (grey + (x - grey) * numbers["saturation"].view(-1, 1, 1, 1)) * gain + shift
    return 255 * (x.clamp(0, 255) / 255) ** numbers["gamma"].view(-1, 1, 1, 1)


def _mask(fakes: PackedFakes, size: int) -> Tensor:
    """`MaskRecipe.apply`."""
    numbers = fakes.numbers
    hard = displaced(from_bits(fakes.hard, size), smooth_fields(fakes.bends.coarse, fakes.bends.amplitude, size), "zeros")
    for px, rows in fakes.grow.items():
        hard[rows] = grown(hard[rows], px)
    soft = blurred(hard, numbers["blur_first"])
    least = numbers["keep_above"].view(-1, 1, 1, 1) * soft.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    soft = blurred(torch.where(soft < least, 0.0, soft), numbers["blur_second"])
    peak = soft.amax((1, 2, 3), keepdim=True)
    return torch.where(peak > 1e-3, soft / peak * numbers["ratio"].view(-1, 1, 1, 1), 0.0)


def _matched_colour(source: Tensor, target: Tensor) -> Tensor:
    """`pseudo_fakes._matched_colour`."""
    edge = source.shape[-1] // 3
    a, b = to_lab(source), to_lab(target)
    (spread_a, mean_a), (spread_b, mean_b) = (
        torch.std_mean(one[..., edge:-edge, edge:-edge], (2, 3), correction=0, keepdim=True) for one in (a, b)
    )
    return to_rgb((a - mean_a) * (spread_b / spread_a.clamp(min=1e-3)).clamp(0.6, 1.6) + mean_b)


def worn(pairs: PackedPairs, real: Tensor, fake: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Everything that happens before a codec: tiles (2, B, 3, C, C) of reals and fakes, and the maps (B, 2, C/8, C/8)."""
    geometry, size = pairs.numbers["geometry"], pairs.crop_px
    tiles = [_look(levels(warped(one, geometry, size)), pairs) for one in (real, fake)]
    return torch.stack(tiles), _targets(warped(mask, geometry, size, "zeros"))


def enlarged(tiles: Tensor, pairs: PackedPairs) -> Tensor:
    """`degradations.enlarged`, in place, for the crops that were captured small."""
    rows, size = pairs.rows["capture"], pairs.crop_px
    if len(rows):
        up = linear(pairs.numbers["captured_px"][rows], size, size)
        for one in tiles:
            one[rows] = levels(separable(one[rows], up))
    return tiles


def _look(x: Tensor, pairs: PackedPairs) -> Tensor:
    """`Wear.look` of crops (B, 3, C, C): worn levels, each in the corner of its canvas that its capture leaves."""
    numbers, rows, size = pairs.numbers, pairs.rows, x.shape[-1]
    if len(rows["distractor"]):
        away = -size * numbers["offset"].view(-1, 2, 1, 1)
        soft = blurred(from_bits(pairs.distractors, size), numbers["softness"])
        gain = numbers["patch_gain"].view(-1, 3, 1, 1)
        _on(x, rows["distractor"], lambda one: one + (displaced(one, away) * gain - one) * soft)
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)
    _on(x, rows["grey"], lambda one: (one * weights).sum(1, keepdim=True).expand_as(one))
    x = (x - 128) * numbers["contrast"].view(-1, 1, 1, 1) + 128 + numbers["brightness"].view(-1, 1, 1, 1)
    x = x * numbers["tint"].view(-1, 3, 1, 1)
    _on(x, rows["blur"], lambda one: blurred(one, numbers["blur"][rows["blur"]]))
    if len(rows["capture"]):
        side = numbers["captured_px"][rows["capture"]]
        _on(x, rows["capture"], lambda one: separable(one, area(size, side, size / side, size)))
    _on(x, rows["noise"], lambda one: one + _noise(numbers["seed"], numbers["noise"], rows["noise"], size))
    x = levels(x)
    if len(rows["jpeg"]):
        quality, side = numbers["jpeg"][rows["jpeg"]].long(), numbers["captured_px"][rows["jpeg"]].long()
        _on(x, rows["jpeg"], lambda one: through_jpeg(one, quality, side))
    return x


def _targets(mask: Tensor) -> Tensor:
    """`pair_recipe._targets`: (B, 2, C/8, C/8)."""
    shape = mask / mask.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return avg_pool2d(torch.cat([mask, 4 * shape * (1 - shape)], dim=1), 8)


def _noise(seeds: Tensor, strength: Tensor, rows: Tensor, size: int) -> Tensor:
    return strength[rows].view(-1, 1, 1, 1) * noise(seeds[rows], size).unsqueeze(1)


def _on(x: Tensor, rows: Tensor, work: Callable[[Tensor], Tensor]) -> None:
    """Do it to some rows, in place; to none, nothing is launched."""
    if len(rows):
        x[rows] = work(x[rows])
