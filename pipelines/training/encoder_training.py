"""Training of the eye: portraits in, an encoder's weights and a log of its progress out. Called by `undercurrent train encoder`."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.utils.data import DataLoader

from models.encoder import EncoderDims, EncoderOutput, FaceEncoder
from pipelines.evaluation.metrics import roc_auc
from pipelines.training.encoder_data import FAKES_PER_FACE, FacePairs, PairBatch
from pipelines.training.portraits import Portrait


@dataclass(frozen=True, slots=True)
class EncoderRecipe:
    """How to train; the values are the pilot's where it measured them."""

    minutes: float = 40.0
    groups: int = 12
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    rank_weight: float = 0.5
    rank_margin: float = 1.0
    map_weight: float = 1.5
    workers: int = 1
    seed: int = 1
    validate_every_s: float = 240.0
    validation_batches: int = 16


@dataclass(frozen=True, slots=True)
class EncoderProgress:
    """One line of the training log."""

    minutes: float
    pairs: int
    loss: float
    holdout_auc: float
    holdout_pair_accuracy: float


def train_encoder(
    train: list[Portrait],
    holdout: list[Portrait],
    out: Path,
    recipe: EncoderRecipe,
    *,
    device: str = "cpu",
    on_progress: Callable[[EncoderProgress], None] | None = None,
) -> FaceEncoder:
    """Train from scratch for `recipe.minutes`; the averaged weights are written to `out` at every validation, so a run can be cut short."""
    torch.manual_seed(recipe.seed)
    net = FaceEncoder(EncoderDims()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    averaged = copy.deepcopy(net).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    fixed = _fixed_batches(holdout, recipe)
    started, validated, pairs, recent = time.monotonic(), 0.0, 0, 0.0
    for batch in _batches(train, recipe):
        minutes = (time.monotonic() - started) / 60
        _set_rate(optimiser, recipe, minutes, pairs)
        net.train()
        loss = _loss(net, batch, recipe, device)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        pairs += len(batch.real)
        _average(averaged, net, min(recipe.ema, 1 - 10 / (10 + pairs / len(batch.real))))
        recent = 0.98 * recent + 0.02 * float(loss.detach()) if recent else float(loss.detach())
        done = minutes >= recipe.minutes
        if done or minutes * 60 - validated >= recipe.validate_every_s:
            validated = minutes * 60
            auc, accuracy = _validate(averaged, fixed, device)
            torch.save(averaged.state_dict(), out)
            if on_progress is not None:
                on_progress(EncoderProgress(minutes, pairs, recent, auc, accuracy))
        if done:
            frozen: FaceEncoder = averaged
            return frozen
    raise RuntimeError("the stream of batches is endless")


def write_log(path: Path) -> Callable[[EncoderProgress], None]:
    """A progress callback that appends JSON lines to `path`."""

    def write(progress: EncoderProgress) -> None:
        with path.open("a") as log:
            log.write(json.dumps({name: round(getattr(progress, name), 4) for name in EncoderProgress.__slots__}) + "\n")

    return write


def _loss(net: FaceEncoder, batch: PairBatch, recipe: EncoderRecipe, device: str) -> Tensor:
    images = torch.cat([batch.real, batch.fake]).to(device).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        seen: EncoderOutput = net(images)
    real, fake = seen.logit.chunk(2)
    smooth = 0.03
    classify = binary_cross_entropy_with_logits(seen.logit, torch.cat([torch.full_like(real, smooth), torch.full_like(fake, 1 - smooth)]))
    # Each fake against every real of its group: only what the fake has and its own original lacks can satisfy this.
    real_group, fake_group = real.view(-1, FAKES_PER_FACE, 1), fake.view(-1, 1, FAKES_PER_FACE)
    rank = softplus(recipe.rank_margin - (fake_group - real_group)).mean()
    target = torch.cat([torch.zeros_like(batch.blend_map), batch.blend_map]).to(device)
    maps = binary_cross_entropy_with_logits(seen.blend_map, target)
    return classify + recipe.rank_weight * rank + recipe.map_weight * maps


def _batches(portraits: list[Portrait], recipe: EncoderRecipe) -> Iterator[PairBatch]:
    data = FacePairs(portraits, groups=recipe.groups, seed=recipe.seed)
    loader = DataLoader(data, batch_size=None, num_workers=recipe.workers, prefetch_factor=4 if recipe.workers else None)
    yield from loader


def _set_rate(optimiser: torch.optim.Optimizer, recipe: EncoderRecipe, minutes: float, pairs: int) -> None:
    """Cosine over wall time (the budget is minutes, not steps) after a warm-up of 4,000 pairs."""
    share = min(1.0, minutes / recipe.minutes)
    rate = recipe.learning_rate * min(1.0, (pairs + 1) / 4000) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def _average(averaged: nn.Module, net: nn.Module, keep: float) -> None:
    for mean, value in zip(averaged.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)
    for old, new in zip(averaged.buffers(), net.buffers(), strict=True):
        old.copy_(new)


def _fixed_batches(holdout: list[Portrait], recipe: EncoderRecipe) -> list[PairBatch]:
    data = FacePairs(holdout, groups=recipe.groups, seed=recipe.seed + 1000)
    rng = np.random.default_rng(recipe.seed + 1000)
    return [data.draw(rng) for _ in range(recipe.validation_batches)]


@torch.inference_mode()
def _validate(net: FaceEncoder, batches: list[PairBatch], device: str) -> tuple[float, float]:
    """AUC over all held-out crops, and how often a fake scores above its own original."""
    real = torch.cat([net(batch.real.to(device)).logit for batch in batches]).float().cpu().numpy()
    fake = torch.cat([net(batch.fake.to(device)).logit for batch in batches]).float().cpu().numpy()
    scores, labels = np.concatenate([real, fake]), np.concatenate([np.zeros(len(real)), np.ones(len(fake))])
    return roc_auc(scores, labels), float((fake > real).mean())
