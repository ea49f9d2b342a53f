"""Training of the eye: portraits in, an encoder's weights and a log of its progress out. Called by `stages.py`.

Half of what the net must learn is coarse, so the first half of the pairs are small crops, which cost half as much (progressive resizing,
as in Tan and Le 2021, "EfficientNetV2"). The averaged weights, the log and a state to resume from are written as it goes.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, softplus
from torch.utils.data import DataLoader

from models.encoder import EncoderDims, EncoderOutput, FaceEncoder
from pipelines.evaluation.metrics import roc_auc
from pipelines.faces import CROP_PX
from pipelines.training.device_fakes import DeviceFakes
from pipelines.training.encoder_data import FAKES_PER_FACE, FacePairs, PairBatch
from pipelines.training.packed_pairs import PackedStream
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import FakeRecipe
from pipelines.training.run_files import read_state, restore


@dataclass(frozen=True, slots=True)
class EncoderRecipe:
    """How to train; the values are the pilot's where it measured them."""

    pairs: int = 280_000
    """Pairs of pictures to see; the schedule goes by them, so that a slow machine learns the same."""
    groups: int = 12
    small_px: int = 112
    small_share: float = 0.5
    """Share of the pairs shown as crops of `small_px`."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema: float = 0.999
    rank_weight: float = 0.5
    rank_margin: float = 1.0
    map_weight: float = 1.5
    consistency_weight: float = 0.5
    points_weight: float = 3.0
    workers: int = 1
    """Processes that draw pairs, and make them on a CPU; where a GPU makes them, as many threads run the codecs."""
    seed: int = 1
    validate_every_s: float = 240.0
    validation_batches: int = 16
    fakes: FakeRecipe = field(default_factory=FakeRecipe)


@dataclass(frozen=True, slots=True)
class EncoderProgress:
    """One line of the training log."""

    minutes: float
    pairs: int
    crop_px: int
    loss: float
    classify: float
    rank: float
    maps: float
    consistency: float
    points: float
    holdout_auc: float
    holdout_pair_accuracy: float


class _Losses(NamedTuple):
    """The parts of the loss before they are weighed."""

    classify: Tensor
    rank: Tensor
    maps: Tensor
    consistency: Tensor
    points: Tensor


def train_encoder(
    train: list[Portrait],
    holdout: list[Portrait],
    out: Path,
    recipe: EncoderRecipe,
    *,
    device: str = "cpu",
    start: FaceEncoder | None = None,
    on_progress: Callable[[EncoderProgress], None] | None = None,
) -> FaceEncoder:
    """Train on `recipe.pairs`, from scratch or from the net `start`; the averaged weights are written to `out` at every validation.

    Beside `out` stand `<stem>.state.pt`, from which a run that was cut short goes on, and `snapshots/`, the averaged weights of every
    validation, for learning curves.
    """
    torch.manual_seed(recipe.seed)
    net = copy.deepcopy(start).requires_grad_(True) if start is not None else FaceEncoder(EncoderDims())
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    averaged = copy.deepcopy(net).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    run = _Run(net, averaged, optimiser)
    run.resume(out.with_suffix(".state.pt"))
    recent = np.zeros(len(_Losses._fields))
    for crop_px, until in ((recipe.small_px, round(recipe.pairs * recipe.small_share)), (CROP_PX, recipe.pairs)):
        if run.pairs >= until:
            continue
        fixed = _fixed_batches(holdout, recipe, crop_px, device)
        validated = time.monotonic()
        for batch in _batches(train, recipe, crop_px, device, first=run.steps):
            began = time.monotonic()
            _set_rate(optimiser, recipe, run.pairs)
            losses = _step(net, optimiser, batch, recipe, device)
            recent = 0.98 * recent + 0.02 * losses if recent.any() else losses
            run.count(len(batch.real), recipe.ema)
            run.seconds += time.monotonic() - began
            done = run.pairs >= until
            if done or time.monotonic() - validated >= recipe.validate_every_s:
                auc, accuracy = _validate(averaged, fixed, device)
                run.keep(out)
                if on_progress is not None:
                    total, parts = float(recent @ _weights(recipe)), dict(zip(_Losses._fields, recent.tolist(), strict=True))
                    on_progress(
                        EncoderProgress(
                            run.seconds / 60, run.pairs, crop_px, total, **parts, holdout_auc=auc, holdout_pair_accuracy=accuracy
                        )
                    )
                validated = time.monotonic()
            if done:
                break
    frozen: FaceEncoder = averaged
    return frozen


@dataclass(slots=True)
class _Run:
    """A training under way: what is saved, and found again."""

    net: FaceEncoder
    averaged: FaceEncoder
    optimiser: torch.optim.Optimizer
    pairs: int = 0
    steps: int = 0
    seconds: float = 0.0

    @torch.no_grad()
    def count(self, pairs: int, ema: float) -> None:
        """A step over so many pairs was taken: let the averaged weights follow, quickly at first."""
        self.pairs, self.steps = self.pairs + pairs, self.steps + 1
        keep = min(ema, 1 - 10 / (10 + self.steps))
        for mean, value in zip(self.averaged.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)
        for old, new in zip(self.averaged.buffers(), self.net.buffers(), strict=True):
            old.copy_(new)

    def keep(self, out: Path) -> None:
        """Write the averaged weights, a snapshot of them, and everything needed to go on."""
        snapshots = out.parent / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        _write(out, self.averaged.state_dict())
        _write(snapshots / f"{out.stem}-{self.pairs:08d}.pt", self.averaged.state_dict())
        whole = {"net": self.net.state_dict(), "averaged": self.averaged.state_dict(), "optimiser": self.optimiser.state_dict()}
        _write(out.with_suffix(".state.pt"), {**whole, "seconds": self.seconds, "pairs": self.pairs, "steps": self.steps})

    def resume(self, path: Path) -> None:
        """Go on from what `keep` wrote, if it did."""
        if not path.is_file():
            return
        state = read_state(path)
        restore(self.net, state["net"], path)
        restore(self.averaged, state["averaged"], path)
        self.optimiser.load_state_dict(state["optimiser"])
        self.seconds, self.pairs, self.steps = float(state["seconds"]), int(state["pairs"]), int(state["steps"])


def write_log(path: Path) -> Callable[[EncoderProgress], None]:
    """A progress callback that appends JSON lines to `path`."""

    def write(progress: EncoderProgress) -> None:
        with path.open("a") as log:
            log.write(json.dumps({name: round(getattr(progress, name), 4) for name in EncoderProgress.__slots__}) + "\n")

    return write


def _step(
    net: FaceEncoder, optimiser: torch.optim.Optimizer, batch: PairBatch, recipe: EncoderRecipe, device: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    net.train()
    losses = _losses(net, batch, recipe, device)
    loss = torch.stack(list(losses)) @ torch.as_tensor(_weights(recipe), dtype=torch.float32, device=device)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    optimiser.step()
    return torch.stack(list(losses)).detach().double().cpu().numpy()


def _weights(recipe: EncoderRecipe) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([1.0, recipe.rank_weight, recipe.map_weight, recipe.consistency_weight, recipe.points_weight])


def _losses(net: FaceEncoder, batch: PairBatch, recipe: EncoderRecipe, device: str) -> _Losses:
    images = torch.cat([batch.real, batch.fake]).to(device).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        seen: EncoderOutput = net(images)
    real, fake = seen.logit.chunk(2)
    smooth = 0.03
    classify = binary_cross_entropy_with_logits(seen.logit, torch.cat([torch.full_like(real, smooth), torch.full_like(fake, 1 - smooth)]))
    # Each fake against every real of its group, worn differently: only what the fake has and its own original lacks can satisfy this.
    real_group, fake_group = real.view(-1, FAKES_PER_FACE, 1), fake.view(-1, 1, FAKES_PER_FACE)
    rank = softplus(recipe.rank_margin - (fake_group - real_group)).mean()
    target = torch.cat([torch.zeros_like(batch.blend_map), batch.blend_map]).to(device)
    maps = binary_cross_entropy_with_logits(seen.blend_map, target)
    points = torch.cat([batch.points, batch.points]).to(device)
    known = points.isfinite()
    apart = torch.where(known, seen.points - points.nan_to_num(), 0.0).abs().sum() / known.sum().clamp(min=1)
    return _Losses(classify, rank, maps, _inconsistency(seen.fingerprint, target[:, 0]), apart)


def _inconsistency(fingerprint: Tensor, blended: Tensor) -> Tensor:
    """Fingerprints (N, F, h, w) of places from one source must agree, of places from two must not; `blended` (N, h, w) says which.

    Every pair of places at half the resolution; agreeing and disagreeing pairs weigh the same, however rare the latter are.
    """
    places = avg_pool2d(fingerprint, 2).flatten(2)
    alike = torch.bmm(places.transpose(1, 2), places)
    opacity = avg_pool2d(blended.unsqueeze(1), 2).flatten(1)
    apart = (opacity.unsqueeze(2) - opacity.unsqueeze(1)).abs()
    agree = ((1 - apart) * (1 - alike).square()).sum() / (1 - apart).sum()
    differ = (apart * alike.clamp(min=0).square()).sum() / apart.sum().clamp(min=1)
    return agree + differ


def _batches(portraits: list[Portrait], recipe: EncoderRecipe, crop_px: int, device: str, *, first: int) -> Iterator[PairBatch]:
    """A GPU makes the pairs that the loader draws; on a CPU the loader makes them as well, three times as fast as the batch would be."""
    on_gpu = torch.device(device).type == "cuda"
    data = (PackedStream if on_gpu else FacePairs)(
        portraits, groups=recipe.groups, seed=recipe.seed, crop_px=crop_px, recipe=recipe.fakes, first=first
    )
    loader = DataLoader(data, batch_size=None, num_workers=recipe.workers, prefetch_factor=4 if recipe.workers else None)
    yield from DeviceFakes(device, threads=recipe.workers).batches(loader) if on_gpu else loader


def _set_rate(optimiser: torch.optim.Optimizer, recipe: EncoderRecipe, pairs: int) -> None:
    """Cosine over the pairs after a warm-up of 4,000 of them."""
    share = min(1.0, pairs / recipe.pairs)
    rate = recipe.learning_rate * min(1.0, (pairs + 1) / 4000) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _write(path: Path, what: dict[str, Any]) -> None:
    """Whole or not at all: a run may be stopped while it writes."""
    part = path.with_suffix(path.suffix + ".part")
    torch.save(what, part)
    part.replace(path)


def _fixed_batches(holdout: list[Portrait], recipe: EncoderRecipe, crop_px: int, device: str) -> list[PairBatch]:
    """Pairs of the held-out, of every make whatever is left out of the training."""
    fixed = replace(recipe, seed=recipe.seed + 1000, fakes=FakeRecipe())
    return list(itertools.islice(_batches(holdout, fixed, crop_px, device, first=0), recipe.validation_batches))


@torch.inference_mode()
def _validate(net: FaceEncoder, batches: list[PairBatch], device: str) -> tuple[float, float]:
    """AUC over all held-out crops, and how often a fake scores above its own original."""
    real = torch.cat([net(batch.real.to(device)).logit for batch in batches]).float().cpu().numpy()
    fake = torch.cat([net(batch.fake.to(device)).logit for batch in batches]).float().cpu().numpy()
    scores, labels = np.concatenate([real, fake]), np.concatenate([np.zeros(len(real)), np.ones(len(fake))])
    return roc_auc(scores, labels), float((fake > real).mean())
