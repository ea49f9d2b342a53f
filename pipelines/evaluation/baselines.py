"""What the liquid head must beat: heads trained on the same embeddings in the same way, and scores that know no time. See `time_sweep.py`.

Every head gets the same sequences, re-timing, losses, steps and validation; the comparison heads get a grid of learning rates besides,
chosen like everything else on held-out pseudo-fakes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import Calibrator
from models.heads import CellHead, GRUHead, Head, HeadState, LSTMHead
from models.temporal import TemporalHead, TemporalOutput
from pipelines.errors import SourceNotFound
from pipelines.evaluation.retiming import WRONG_DT_S
from pipelines.training.evidence import of_sequences
from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import AnyHead, TemporalRecipe, clip_logits, train_head

Float = NDArray[np.float64]
Scorer = Callable[[list[Sequence]], Float]
UNITS: Final = 32
RATES: Final = (1e-3, 4e-3)
TOP_SHARE: Final = 0.1
AT_ONCE: Final = 64


class BlindGRUHead(GRUHead):
    """A GRU that takes every interval for the same: what most published video detectors do."""

    def forward(
        self, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: HeadState | None = None
    ) -> tuple[TemporalOutput, HeadState]:
        """As `Head.forward`, with every dt replaced by 1/25 s."""
        return super().forward(x, torch.where(dt.isfinite(), WRONG_DT_S, dt), mask, state)


BASELINES: Final[dict[str, Callable[[int], Head]]] = {
    "GRU without dt": lambda inputs: BlindGRUHead(inputs, UNITS),
    "GRU with dt": lambda inputs: GRUHead(inputs, UNITS),
    "LSTM with dt": lambda inputs: LSTMHead(inputs, UNITS),
    "CfC": lambda inputs: CellHead(inputs, UNITS, cell="cfc"),
}


@dataclass(frozen=True, slots=True)
class Trained:
    """One comparison head and how it was chosen."""

    name: str
    head: Head
    holdout_auc: float
    learning_rate: float


def train_baselines(
    train: list[Sequence], holdout: list[Sequence], recipe: TemporalRecipe, *, on_trained: Callable[[Trained], None] | None = None
) -> list[Trained]:
    """Train every comparison head at every rate of the grid and keep the rate with the best held-out AUC."""
    found = []
    for name, make in BASELINES.items():
        tried = []
        for rate in RATES:
            torch.manual_seed(recipe.seed)
            head, auc = train_head(make(train[0].embedding.shape[1]), train, holdout, replace(recipe, learning_rate=rate))
            tried.append(Trained(name, head, auc, rate))
        found.append(max(tried, key=lambda one: one.holdout_auc))
        if on_trained is not None:
            on_trained(found[-1])
    return found


def save_baselines(path: Path, trained: list[Trained]) -> None:
    """Write them beside the run they belong to."""
    torch.save({one.name: {"state": one.head.state_dict(), "auc": one.holdout_auc, "rate": one.learning_rate} for one in trained}, path)


def load_baselines(path: Path) -> list[Trained]:
    """Read what `save_baselines` wrote.

    Raises:
        SourceNotFound: there is no such file.
    """
    if not path.is_file():
        raise SourceNotFound(
            "There are no comparison heads.", expected="the file that `undercurrent train baselines` writes", got=f"no {path}"
        )
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    found = []
    for name, one in stored.items():
        head = BASELINES[name](one["state"]["embed.weight"].shape[1] // 2 - 1)
        head.load_state_dict(one["state"])
        found.append(Trained(name, head.eval().requires_grad_(False), one["auc"], one["rate"]))
    return found


def scorers(head: TemporalHead, calibrator: Calibrator, trained: list[Trained]) -> dict[str, Scorer]:
    """Every arm by name: sequences in, one score a clip out."""
    arms: dict[str, Scorer] = {
        "mean frame logit": lambda clips: np.array([float(one.artefact.mean()) for one in clips]),
        "top tenth of frame logits": lambda clips: np.array([_top(one.artefact) for one in clips]),
        "liquid": lambda clips: _in_parts(head, clips),
        "liquid and frame logit, fused": lambda clips: _fused(head, calibrator, clips),
    }
    for one in trained:
        arms[one.name] = lambda clips, head=one.head: _in_parts(head, clips)  # type: ignore[misc]  # mypy has no type for a bound default
    return arms


def _top(artefact: NDArray[np.float32]) -> float:
    return float(np.sort(artefact)[-max(1, round(TOP_SHARE * len(artefact))) :].mean())


def _in_parts(head: AnyHead, clips: list[Sequence]) -> Float:
    """In batches of clips of like length: padding to the longest of all would cost more than the clips."""
    order = np.argsort([len(clip.t) for clip in clips], kind="stable")
    scores = np.empty(len(clips))
    for part in np.array_split(order, max(1, len(order) // AT_ONCE)):
        scores[part] = clip_logits(head, [clips[i] for i in part])
    return scores


def _fused(head: TemporalHead, calibrator: Calibrator, clips: list[Sequence]) -> Float:
    tracks = of_sequences(head, calibrator, clips, hz=None)
    return np.array([calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks])
