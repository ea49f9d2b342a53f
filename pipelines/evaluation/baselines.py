"""What the liquid head must beat: heads trained on the same embeddings in the same way, and scores that know no time. See `time_sweep.py`.

Every head gets the same sequences, re-timing, losses, steps, validation and (for even numbers of seeds) number of trainings, of which the
best by held-out pseudo-fakes is kept: the liquid head's from as many seeds, a comparison head's from half of them at each of two rates.
On disk they are one safetensors file: tensors and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.calibration import Calibrator
from models.heads import CellHead, GRUHead, Head, HeadState, LSTMHead
from models.temporal import TemporalHead, TemporalOutput
from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.evaluation.retiming import WRONG_DT_S
from pipelines.training.evidence import of_sequences
from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import AnyHead, TemporalRecipe, clip_logits, each_seed, train_head

Float = NDArray[np.float64]
Scorer = Callable[[list[Sequence]], Float]
UNITS: Final = 32
RATES: Final = (1e-3, 4e-3)
TOP_SHARE: Final = 0.1
AT_ONCE: Final = 64
FORMAT: Final = "undercurrent-baselines-2"
FRAMES_ALONE: Final = ("mean frame logit", "top tenth of frame logits")
"""Arms without a memory."""


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
    """Of the arm: a key of BASELINES."""
    head: Head
    holdout_auc: float
    learning_rate: float
    seed: int

    @property
    def parameters(self) -> int:
        """How many numbers it learnt."""
        return sum(parameter.numel() for parameter in self.head.parameters())


def train_baselines(
    train: list[Sequence], holdout: list[Sequence], recipe: TemporalRecipe, *, on_trained: Callable[[Trained], None] | None = None
) -> list[Trained]:
    """Train every comparison head at every rate of the grid, from as many seeds as give it the trainings that the liquid head had, and keep
    the one with the best held-out AUC. `recipe` is the liquid head's.
    """
    inputs = train[0].embedding.shape[1]

    def trained(name: str, rate: float, one: TemporalRecipe) -> Trained:
        torch.manual_seed(one.seed)
        head, auc = train_head(BASELINES[name](inputs), train, holdout, replace(one, learning_rate=rate))
        return Trained(name, head, auc, rate, one.seed)

    seeds = each_seed(replace(recipe, seeds=max(1, recipe.seeds // len(RATES))))
    found = []
    for name in BASELINES:
        found.append(max((trained(name, rate, one) for rate in RATES for one in seeds), key=lambda one: one.holdout_auc))
        if on_trained is not None:
            on_trained(found[-1])
    return found


def save_baselines(path: Path, trained: list[Trained]) -> None:
    """Write them beside the run they belong to; whole or not at all."""
    tensors = {f"{i}.{key}": tensor.contiguous() for i, one in enumerate(trained) for key, tensor in one.head.state_dict().items()}
    about = [
        {"name": one.name, "dims": one.head.dims, "holdout_auc": one.holdout_auc, "learning_rate": one.learning_rate, "seed": one.seed}
        for one in trained
    ]
    part = path.with_name(path.name + ".part")
    part.write_bytes(safetensors.torch.save(tensors, {"format": FORMAT, "heads": json.dumps(about)}))
    part.replace(path)


def load_baselines(path: Path) -> list[Trained]:
    """Read what `save_baselines` wrote; dims of another embedding than the model's are found out by `scorers`.

    Raises:
        SourceNotFound: there is no such file.
        UnsupportedMedia: it is broken, of another version, or another file.
    """
    expected = "the file that `undercurrent train baselines` writes"
    if not path.is_file():
        raise SourceNotFound("There are no comparison heads.", expected=expected, got=f"no {path}")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        if about.get("format") != FORMAT:
            raise UnsupportedMedia(f"{path.name} holds no comparison heads.", expected=expected, got=str(about.get("format")))
        return [_rebuilt(one, tensors, f"{i}.") for i, one in enumerate(json.loads(about["heads"]))]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedMedia(f"{path.name} holds no comparison heads.", expected=expected, got=str(error)) from error


def _rebuilt(about: dict[str, Any], tensors: dict[str, Tensor], prefix: str) -> Trained:
    head = BASELINES[about["name"]](int(about["dims"]["inputs"]))
    head.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)})
    head.eval().requires_grad_(False)
    return Trained(str(about["name"]), head, float(about["holdout_auc"]), float(about["learning_rate"]), int(about["seed"]))


def scorers(head: TemporalHead, calibrator: Calibrator, trained: list[Trained]) -> dict[str, Scorer]:
    """Every arm by name: sequences in, one score a clip out.

    Raises:
        UnsupportedMedia: a comparison head was trained on embeddings of another size.
    """
    mean, top = FRAMES_ALONE
    arms: dict[str, Scorer] = {
        mean: lambda clips: np.array([float(one.artefact.mean()) for one in clips]),
        top: lambda clips: np.array([_top(one.artefact) for one in clips]),
        "liquid": partial(_in_parts, head),
        "liquid and frame logit, fused": lambda clips: _fused(head, calibrator, clips),
    }
    for one in trained:
        if one.head.inputs != head.inputs:
            raise UnsupportedMedia(
                "The comparison heads belong to another eye.",
                expected=f"embeddings of {head.inputs}",
                got=f"{one.name} of {one.head.inputs}",
            )
        arms[one.name] = partial(_in_parts, one.head)
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
