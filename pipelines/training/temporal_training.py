"""Training of the memory: cached sequences in, a TemporalHead's weights out. Called by `undercurrent train temporal`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from models.heads import Head
from models.temporal import TemporalHead, clip_logit
from pipelines.evaluation.metrics import roc_auc
from pipelines.training.sequences import Sequence, altered, retime

AnyHead = TemporalHead | Head
H = TypeVar("H", TemporalHead, Head)
ROUNDING_S: Final = 1e-3
"""How far a difference of two stamps in milliseconds, the coarsest of a clock, may be from the true one."""


@dataclass(frozen=True, slots=True)
class TemporalRecipe:
    """How to train; time constants learn slowly and without decay, as in state-space models (Gu et al. 2022, "S4")."""

    steps: int = 800
    batch: int = 48
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    rank_weight: float = 0.5
    rank_margin: float = 1.0
    agreement_weight: float = 0.1
    """Of the squared difference between the logits of one clip under two re-timings."""
    validate_every: int = 50
    seed: int = 1
    seeds: int = 4
    """Trainings, from `seed` on, of which the one with the best held-out AUC is kept: among them it varies by .01 or .02."""


@dataclass(frozen=True, slots=True)
class TemporalProgress:
    """One line of the training log."""

    seed: int
    step: int
    loss: float
    holdout_auc: float


def train_temporal(
    train: list[Sequence], holdout: list[Sequence], recipe: TemporalRecipe, *, on_progress: Callable[[TemporalProgress], None] | None = None
) -> TemporalHead:
    """Train the liquid head from scratch on re-timed sequences, once from each seed of the recipe; see `train_head`."""
    return max((_from_seed(train, holdout, one, on_progress) for one in each_seed(recipe)), key=lambda trained: trained[1])[0]


def each_seed(recipe: TemporalRecipe) -> list[TemporalRecipe]:
    """The recipe, once for every seed it asks for.

    Raises:
        ValueError: it asks for none.
    """
    if recipe.seeds < 1:
        raise ValueError(f"TemporalRecipe.seeds: expected at least one, got {recipe.seeds}")
    return [replace(recipe, seed=seed) for seed in range(recipe.seed, recipe.seed + recipe.seeds)]


def _from_seed(
    train: list[Sequence], holdout: list[Sequence], recipe: TemporalRecipe, on_progress: Callable[[TemporalProgress], None] | None
) -> tuple[TemporalHead, float]:
    torch.manual_seed(recipe.seed)
    head = TemporalHead(inputs=train[0].embedding.shape[1])
    _start_at_unit_motion(head, train)
    return train_head(head, train, holdout, recipe, on_progress=on_progress)


def train_head(
    head: H,
    train: list[Sequence],
    holdout: list[Sequence],
    recipe: TemporalRecipe,
    *,
    on_progress: Callable[[TemporalProgress], None] | None = None,
) -> tuple[H, float]:
    """Train any head on re-timed sequences; returns the weights of the validation step with the best held-out AUC, and that AUC."""
    rng = np.random.default_rng(recipe.seed)
    optimiser = torch.optim.AdamW(head.parameter_groups(recipe.learning_rate, recipe.weight_decay))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[group["lr"] for group in optimiser.param_groups], total_steps=recipe.steps, pct_start=0.1
    )
    best, best_auc = copy.deepcopy(head), -1.0
    for step in range(1, recipe.steps + 1):
        loss = _loss(head, _draw(train, recipe, rng), recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % recipe.validate_every == 0 or step == recipe.steps:
            auc = roc_auc(clip_logits(head, holdout), [sequence.label for sequence in holdout])
            if auc > best_auc:
                best, best_auc = copy.deepcopy(head), auc
            if on_progress is not None:
                on_progress(TemporalProgress(recipe.seed, step, float(loss.detach()), auc))
    return best.eval().requires_grad_(False), best_auc


def _draw(train: list[Sequence], recipe: TemporalRecipe, rng: np.random.Generator) -> SequenceBatch:
    """Pairs, each under two re-timings: rows 4 i to 4 i + 3 are real, fake, real, fake of one window.

    The two of a pair get the same timing, so that a frame rate can never tell the class.
    """
    pairs = len(train) // 2
    rows = []
    for pair in rng.choice(pairs, size=min(recipe.batch // 2, pairs), replace=False):
        real, fake = altered((train[2 * pair], train[2 * pair + 1]), rng)
        for _ in range(2):
            kept = retime(real.t, rng)
            rows += [(real, kept), (fake, kept)]
    return collate(rows)


def _loss(head: AnyHead, batch: SequenceBatch, recipe: TemporalRecipe) -> Tensor:
    output, _ = head(batch.x, batch.dt, batch.mask)
    clip = clip_logit(output.logit, batch.mask)
    loss = binary_cross_entropy_with_logits(clip, batch.label)
    real_1, fake_1, real_2, fake_2 = clip.view(-1, 4).unbind(1)
    apart = torch.stack([fake - real for fake in (fake_1, fake_2) for real in (real_1, real_2)])
    loss = loss + recipe.rank_weight * softplus(recipe.rank_margin - apart).mean()
    return loss + recipe.agreement_weight * ((real_1 - real_2).square() + (fake_1 - fake_2).square()).mean()


@torch.no_grad()
def _start_at_unit_motion(head: TemporalHead, train: list[Sequence]) -> None:
    """Scale what the memory follows so that each unit of a real face varies by 1 along a clip, which is what its surprise is measured by.

    Without it a real face's surprise starts far below that of a first sight (1 by definition), and first sights drown the rest.
    """
    moved = [torch.from_numpy(sequence.embedding - sequence.embedding.mean(0)) for sequence in train if not sequence.label]
    within = torch.cat([head.embed(x) - head.embed(torch.zeros_like(x)) for x in moved]).square().mean(0).sqrt()
    head.embed.weight.div_(within.clamp(min=1e-6).unsqueeze(1))


@dataclass(frozen=True, slots=True, eq=False)
class SequenceBatch:
    """Sequences of unequal length side by side, padded at the end."""

    x: Tensor
    """(T, N, E)."""
    dt: Tensor
    """(T, N, 1) seconds; inf on the first."""
    mask: Tensor
    """(T, N) bool: False on padding."""
    label: Tensor
    """(N,)."""


def collate(rows: list[tuple[Sequence, NDArray[np.intp]]]) -> SequenceBatch:
    """Put the kept observations of each sequence into one batch."""
    longest = max(len(kept) for _, kept in rows)
    x = torch.zeros(longest, len(rows), rows[0][0].embedding.shape[1])
    dt, mask = torch.zeros(longest, len(rows), 1), torch.zeros(longest, len(rows), dtype=torch.bool)
    for n, (sequence, kept) in enumerate(rows):
        size = len(kept)
        x[:size, n] = torch.from_numpy(sequence.embedding[kept])
        dt[:size, n, 0] = torch.from_numpy(np.diff(sequence.t[kept], prepend=-np.inf).astype(np.float32))
        mask[:size, n] = True
    return SequenceBatch(x, dt, mask, torch.tensor([float(sequence.label) for sequence, _ in rows]))


@torch.inference_mode()
def clip_logits(head: AnyHead, sequences: list[Sequence], *, hz: float | None = None) -> NDArray[np.float64]:
    """Mean logit of each whole sequence, looked at `hz` times a second (None: every frame)."""
    rows = [(sequence, at_rate(sequence.t, hz)) for sequence in sequences]
    batch = collate(rows)
    output, _ = head(batch.x, batch.dt, batch.mask)
    return clip_logit(output.logit, batch.mask).double().numpy()


def at_rate(t: NDArray[np.float64], hz: float | None) -> NDArray[np.intp]:
    """Of times (T,) in seconds, which a sampler at `hz` keeps that starts with the first: one in each 1 / hz; None keeps all."""
    if hz is None:
        return np.arange(len(t))
    # What rounding brought closer to the first is not before its slot; see `Sampler`, which forgives half as much to one stamp.
    slot = np.floor((t - t[0] + ROUNDING_S) * hz + 1e-6).astype(np.int64)
    return np.flatnonzero(np.concatenate([[True], np.diff(slot) > 0]))
