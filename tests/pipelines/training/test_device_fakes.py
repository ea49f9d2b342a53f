"""Pairs made in a batch against the same pairs made one by one: every kind and mask family, every wear, any batch mates, any device."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from pipelines.training.batched_steps import blend, enlarged, faces_of, worn
from pipelines.training.degradations import CODECS, Distractor, Strip, Wear
from pipelines.training.device_fakes import DeviceFakes
from pipelines.training.encoder_data import FRAME_KINDS, FacePairs, PairBatch
from pipelines.training.masks import FAMILIES, Family
from pipelines.training.packed_pairs import PackedStream, bits, from_bits, pack
from pipelines.training.pair_recipe import PairRecipe
from pipelines.training.pseudo_fakes import KINDS, MIN_CHANGE, FakeRecipe, Kind
from tests.pipelines.training.portrait import clip, portrait
from tests.support import require

CROP_PX = 112
MEAN, HIGH = 0.35, 3.0
"""Grey levels that a picture may be apart on average, and at its 99th percentile; twice as many where JPEG rounds again."""


def _recipe(seed: int, *, kind: Kind = "static", family: Family = "full", wear: Wear | None = None, strength: float = 1.0) -> PairRecipe:
    """One pair of the astronaut; its donor is she herself, brighter and to one side."""
    one, still = clip(2), clip(1)
    donor = replace(still, crops=np.clip(one.crops[1:] * 0.8 + 30, 0, 255).astype(np.uint8), points=still.points * 0.95 + 6)
    fakes, rng = FakeRecipe(families=(family,)), np.random.default_rng(seed)
    wear = wear or replace(Wear.neutral(), angle=0.05, zoom=1.03, move=(1.2, -2.0), flip=True)
    strip = Strip.draw(rng, 2, shake=1.0)
    return PairRecipe(still, donor if kind == "identity_swap" else None, kind, strength, seed, fakes, wear, strip, measured=True)


def _both(recipes: list[PairRecipe], device: str = "cpu") -> tuple[PairBatch, PairBatch]:
    """The pairs one by one, and in a batch."""
    data = FacePairs([portrait("a")], groups=1, seed=0, crop_px=CROP_PX)
    (made,) = DeviceFakes(device, threads=1).batches([pack(recipes, CROP_PX)])
    return data.finish(recipes), made


def _apart(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Mean and 99th percentile of the difference of two pictures, grey levels."""
    apart = (one.float() - other.float().cpu()).abs().flatten()
    return float(apart.mean()), float(apart.quantile(0.99))


def _assert_alike(recipes: list[PairRecipe], expected: PairBatch, made: PairBatch) -> None:
    for row, recipe in enumerate(recipes):
        again = recipe.wear.jpeg or next(recipe.attempts()).sources[0].jpeg
        for name in ("real", "fake"):
            mean, high = _apart(getattr(expected, name)[row], getattr(made, name)[row])
            assert mean <= MEAN * (1 + bool(again)) and high <= HIGH * (1 + bool(again)), (name, recipe)
    torch.testing.assert_close(made.blend_map.cpu(), expected.blend_map, atol=5e-3, rtol=0)
    assert torch.equal(made.points.cpu(), expected.points), "labels are drawn, not made"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_mask_family_comes_out_as_alone(kind: Kind) -> None:
    recipes = [_recipe(seed, kind=kind, family=family) for family in FAMILIES for seed in (1, 2)]
    expected, made = _both(recipes)
    _assert_alike(recipes, expected, made)
    changed = (made.real.float() - made.fake.float()).abs().mean((1, 2, 3))
    assert kind == "flicker" or bool((changed > 0).all()), "only a flicker may show the original"


WEARS = {
    "jpeg": {"jpeg": 60},
    "small": {"capture": 1.7},
    "small jpeg": {"capture": 1.7, "jpeg": 45},
    "noise": {"noise": 4.0, "seed": 11},
    "small noise": {"noise": 4.0, "capture": 1.4, "seed": 12},
    "blur": {"blur": 0.9},
    "grey": {"grey": True},
    "light": {"brightness": 15.0, "contrast": 1.2, "tint": (1.05, 0.95, 1.0)},
    "distractor": {"distractor": Distractor((0.1, 0.5), (0.1, 0.15), (0.2, -0.3), (0.8, 1.1, 1.2), 2.0)},
}


def test_every_wear_comes_out_as_alone() -> None:
    recipes = [_recipe(3, wear=replace(Wear.neutral(), **wear)) for wear in WEARS.values()]  # type: ignore[arg-type]  # of mixed fields
    expected, made = _both(recipes)
    _assert_alike(recipes, expected, made)
    plain, _ = _both([_recipe(3, wear=Wear.neutral())])
    changed = (made.real.float() - plain.real.float()).abs().mean((1, 2, 3))
    assert bool((changed > 0.2).all()), "each wear does something"


def test_a_codec_gets_what_the_device_made_and_nothing_is_done_to_what_it_gives_back() -> None:
    wears = [replace(Wear.neutral(), codec=(name, best)) for name, best, _ in CODECS]
    recipes = [_recipe(3 + seed, wear=wear) for seed, wear in enumerate(wears)]
    before = _both([replace(one, wear=Wear.neutral()) for one in recipes])[1]
    expected, made = _both(recipes)
    for row, (recipe, wear) in enumerate(zip(recipes, wears, strict=True)):
        assert wear.codec is not None
        tiles = [np.ascontiguousarray(one[row].permute(1, 2, 0).numpy()) for one in (before.real, before.fake)]
        coded = recipe.strip.coded(tiles, wear.codec)
        for tile, name in zip(coded, ("real", "fake"), strict=True):
            assert np.array_equal(tile, getattr(made, name)[row].permute(1, 2, 0).numpy())
            # A codec decides block by block: a level's difference before it may fall to another mode, neither nearer to the truth.
            lost = _apart(getattr(expected, name)[row], getattr(before, name)[row])[0]
            assert _apart(getattr(expected, name)[row], getattr(made, name)[row])[0] < 0.6 * lost


def test_a_face_that_was_small_before_its_codec_comes_back_large() -> None:
    recipe = _recipe(3, wear=replace(Wear.neutral(), capture=1.5, codec=("libx264", 20)))
    expected, made = _both([recipe])
    uncoded, _ = _both([replace(recipe, wear=replace(recipe.wear, codec=None))])
    for name in ("real", "fake"):
        lost = _apart(getattr(expected, name)[0], getattr(uncoded, name)[0])[0]
        assert _apart(getattr(expected, name)[0], getattr(made, name)[0])[0] < 0.6 * lost


def test_drawn_batches_come_out_as_alone_and_carry_the_same_labels() -> None:
    people = [portrait("a"), portrait("b")]
    drawn = FacePairs(people, groups=12, seed=4, crop_px=CROP_PX).recipes(np.random.default_rng(4))
    expected, made = _both(drawn)
    apart = [_apart(*two) for name in ("real", "fake") for two in zip(getattr(expected, name), getattr(made, name), strict=True)]
    assert np.median([mean for mean, _ in apart]) < MEAN and max(mean for mean, _ in apart) < 4
    torch.testing.assert_close(made.blend_map, expected.blend_map, atol=5e-3, rtol=0)
    assert torch.equal(made.points.nan_to_num(), expected.points.nan_to_num())
    assert {recipe.kind for recipe in drawn} <= set(FRAME_KINDS)


def test_no_row_knows_its_batch_mates() -> None:
    recipes = FacePairs([portrait("a"), portrait("b")], groups=4, seed=9, crop_px=CROP_PX).recipes(np.random.default_rng(1))
    recipes = [replace(one, wear=replace(one.wear, codec=None)) for one in recipes]
    _, together = _both(recipes)
    for row, recipe in enumerate(recipes):
        _, alone = _both([recipe])
        for name in ("real", "fake"):
            apart = (getattr(alone, name)[0].int() - getattr(together, name)[row].int()).abs()
            assert int(apart.max()) <= 1 and float((apart > 0).float().mean()) < 1e-3, "sums of another order, now and then another level"
        torch.testing.assert_close(alone.blend_map[0], together.blend_map[row], atol=1e-5, rtol=0)


def test_a_fake_that_nobody_could_tell_is_drawn_again() -> None:
    recipes = [_recipe(seed, family="eye_band", strength=1e-3) for seed in range(40)]
    again = [recipe for recipe in recipes if _change(recipe) < MIN_CHANGE]
    assert len(again) >= 2, "else nothing is tried here"
    kept = [recipe for recipe in recipes if _change(recipe) > 2 * MIN_CHANGE][:2]
    expected, made = _both([*again[:3], *kept])
    _assert_alike([*again[:3], *kept], expected, made)


def _change(recipe: PairRecipe) -> float:
    """How much the first attempt changes inside its mask."""
    made = next(recipe.attempts()).apply(recipe.target, recipe.donor)
    inside = made.masks > 0.2
    return float(np.abs(made.fake.astype(float) - made.real)[inside].mean()) if inside.any() else 0.0


def test_processes_and_a_resume_change_nothing() -> None:
    def made(workers: int, first: int, count: int) -> list[PairBatch]:
        data = PackedStream([portrait("a"), portrait("b")], groups=1, seed=3, crop_px=48, first=first)
        loader = DataLoader(data, batch_size=None, num_workers=workers)
        return list(itertools.islice(DeviceFakes("cpu", threads=2).batches(loader), count))

    alone, shared, later = made(0, 0, 4), made(2, 0, 4), made(0, 2, 2)
    for one, other in [*zip(alone, shared, strict=True), *zip(alone[2:], later, strict=True)]:
        assert torch.equal(one.real, other.real) and torch.equal(one.fake, other.fake) and torch.equal(one.blend_map, other.blend_map)
    assert not torch.equal(alone[0].fake, alone[1].fake)


def test_bits_keep_a_mask() -> None:
    masks = [np.random.default_rng(seed).integers(0, 2, (48, 48)).astype(np.float32) for seed in range(3)]
    assert np.array_equal(from_bits(bits(masks, 48), 48)[:, 0].numpy(), np.stack(masks))
    assert from_bits(bits([], 48), 48).shape == (0, 1, 48, 48)


def test_all_of_the_work_stays_on_the_device_of_its_tensors() -> None:
    """A pretended GPU: nothing is computed, but every operation checks where its operands lie."""
    recipes = FacePairs([portrait("a"), portrait("b")], groups=48, seed=3, crop_px=CROP_PX).recipes(np.random.default_rng(3))
    packed = pack(recipes, CROP_PX)
    assert all(len(rows) for rows in (*packed.rows.values(), *packed.fakes.rows.values())), "every branch is taken"
    with FakeTensorMode() as pretended:
        there = packed.each(lambda one: pretended.from_tensor(one).to("cuda"))
        real, fake, mask = blend(*faces_of(there), there.fakes)
        tiles, maps = worn(there, real, fake, mask)
        made = (enlarged(tiles, there), maps)
    assert [one.device.type for one in made] == ["cuda", "cuda"]
    assert [tuple(one.shape) for one in made] == [(2, 96, 3, CROP_PX, CROP_PX), (96, 2, CROP_PX // 8, CROP_PX // 8)]


@pytest.mark.gpu
def test_a_gpu_makes_what_a_cpu_makes_and_faster(capsys: pytest.CaptureFixture[str]) -> None:
    require("gpu")
    people = [portrait("a"), portrait("b")]
    recipes = [_recipe(seed, kind=kind, family=family) for kind in KINDS for seed, family in enumerate(FAMILIES)]
    expected, made = _both(recipes, "cuda")
    _assert_alike(recipes, expected, made)
    packed = pack(FacePairs(people, groups=64, seed=1).recipes(np.random.default_rng(0)), 160)
    seconds = {}
    for device, batches in (("cpu", 1), ("cuda", 8)):
        fakes = DeviceFakes(device, threads=8)
        list(fakes.batches([packed]))
        began = time.perf_counter()
        for batch in fakes.batches([packed] * batches):
            last = float(batch.fake.float().mean())
        assert last > 0
        seconds[device] = (time.perf_counter() - began) / batches / len(packed.recipes)
    with capsys.disabled():
        print(f"\n{torch.cuda.get_device_name()}: {1 / seconds['cuda']:.0f} pairs/s, one core: {1 / seconds['cpu']:.0f} pairs/s")
    assert seconds["cuda"] < seconds["cpu"]
