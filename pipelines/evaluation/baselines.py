"""What the liquid head must beat: heads trained on the same embeddings in the same way, and scores that know no time. See `time_sweep.py`.

Every head gets the same sequences, re-timing, losses, steps and validation; the comparison heads get a grid of learning rates besides,
chosen like everything else on held-out pseudo-fakes. With more seeds than one, the chosen rate is trained again from each, and so is the
liquid head, at its own rate: a claim about a head is one about its seeds. On disk they are one safetensors file: tensors and JSON.
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
from pipelines.evaluation.metrics import roc_auc
from pipelines.evaluation.retiming import WRONG_DT_S
from pipelines.training.evidence import of_sequences
from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import AnyHead, TemporalRecipe, clip_logits, train_head, train_temporal

Float = NDArray[np.float64]
Scorer = Callable[[list[Sequence]], Float]
UNITS: Final = 32
RATES: Final = (1e-3, 4e-3)
TOP_SHARE: Final = 0.1
AT_ONCE: Final = 64
FORMAT: Final = "undercurrent-baselines-1"
LIQUID: Final = "liquid"
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
    """Of the arm: a key of BASELINES, or LIQUID."""
    head: AnyHead
    holdout_auc: float
    learning_rate: float
    seed: int = 1

    @property
    def parameters(self) -> int:
        """How many numbers it learnt."""
        return sum(parameter.numel() for parameter in self.head.parameters())


def train_baselines(
    train: list[Sequence],
    holdout: list[Sequence],
    recipe: TemporalRecipe,
    *,
    seeds: int = 1,
    on_trained: Callable[[Trained], None] | None = None,
) -> list[Trained]:
    """Train every comparison head at every rate of the grid and keep the rate with the best held-out AUC.

    With more `seeds`, that rate is trained again from the seeds after the recipe's, and the liquid head at the recipe's rate besides. All
    get the same sequences, re-timings, losses, schedule and steps; the first seed of the liquid head is whoever's it is compared with.

    Raises:
        ValueError: not one seed is asked for.
    """
    if seeds < 1:
        raise ValueError(f"train_baselines: expected at least one seed, got {seeds}")
    found: list[Trained] = []

    def keep(one: Trained) -> None:
        found.append(one)
        if on_trained is not None:
            on_trained(one)

    inputs = train[0].embedding.shape[1]

    def trained(name: str, rate: float, seed: int) -> Trained:
        torch.manual_seed(seed)
        head, auc = train_head(BASELINES[name](inputs), train, holdout, replace(recipe, learning_rate=rate, seed=seed))
        return Trained(name, head, auc, rate, seed)

    for name in BASELINES:
        best = max((trained(name, rate, recipe.seed) for rate in RATES), key=lambda one: one.holdout_auc)
        keep(best)
        for seed in range(recipe.seed + 1, recipe.seed + seeds):
            keep(trained(name, best.learning_rate, seed))
    labels = [one.label for one in holdout]
    for seed in range(recipe.seed + 1, recipe.seed + seeds):
        head = train_temporal(train, holdout, replace(recipe, seed=seed))
        keep(Trained(LIQUID, head, roc_auc(clip_logits(head, holdout), labels), recipe.learning_rate, seed))
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
    dims = about["dims"]
    head = TemporalHead.from_metadata(dims) if about["name"] == LIQUID else BASELINES[about["name"]](int(dims["inputs"]))
    head.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)})
    head.eval().requires_grad_(False)
    return Trained(str(about["name"]), head, float(about["holdout_auc"]), float(about["learning_rate"]), int(about["seed"]))


def scorers(head: TemporalHead, calibrator: Calibrator, trained: list[Trained]) -> dict[str, Scorer]:
    """Every arm by name: sequences in, one score a clip out. What comes from another seed than an arm's first says so in its name.

    Raises:
        UnsupportedMedia: a comparison head was trained on embeddings of another size.
    """
    mean, top = FRAMES_ALONE
    arms: dict[str, Scorer] = {
        mean: lambda clips: np.array([float(one.artefact.mean()) for one in clips]),
        top: lambda clips: np.array([_top(one.artefact) for one in clips]),
        LIQUID: partial(_in_parts, head),
        "liquid and frame logit, fused": lambda clips: _fused(head, calibrator, clips),
    }
    for one in trained:
        if one.head.inputs != head.inputs:
            raise UnsupportedMedia(
                "The comparison heads belong to another eye.",
                expected=f"embeddings of {head.inputs}",
                got=f"{one.name} of {one.head.inputs}",
            )
        arms[f"{one.name}, seed {one.seed}" if one.name in arms else one.name] = partial(_in_parts, one.head)
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
