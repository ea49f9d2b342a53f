"""Does the score follow what it must not? A model and faces in; what codec, quality, size, rate and source do to the score, out.

Each clip of a real face, and a pseudo-fake of it, is worn in one way at a time. A detector without shortcuts gives all versions of a real
clip the same score, and nothing in its embedding tells the wear of a fake better than that of a real face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.calibration import probability
from pipelines.errors import PipelineError
from pipelines.evaluation.metrics import Estimate, auc_interval
from pipelines.faces import CROP_PX
from pipelines.model import Model
from pipelines.training.degradations import Wear
from pipelines.training.evidence import of_sequences
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, make_fake, usable_points
from pipelines.training.sequences import Sequence, see

Float = NDArray[np.float64]
FRAMES: Final = 32
MIN_FRAMES: Final = 16
RIDGE: Final = 0.1
FOLDS: Final = 5

_PLAIN: Final = Wear.neutral()
WEARS: Final[dict[str, dict[str, tuple[Wear, int]]]] = {
    "codec": {
        "none": (_PLAIN, 1),
        "H.264": (replace(_PLAIN, codec=("libx264", 26)), 1),
        "MPEG-4": (replace(_PLAIN, codec=("mpeg4", 5)), 1),
        "VP8": (replace(_PLAIN, codec=("libvpx", 32)), 1),
    },
    "CRF": {f"{crf}": (replace(_PLAIN, codec=("libx264", crf)), 1) for crf in (18, 28, 35, 40)},
    "size": {f"1/{shrunk:g}": (replace(_PLAIN, capture=shrunk), 1) for shrunk in (1.0, 1.5, 2.0)},
    "rate": {f"1/{keep}": (_PLAIN, keep) for keep in (1, 2, 3)},
}
"""Property -> level -> the wear, and that one of so many frames is kept. The first level of each is the one the others are held against."""


@dataclass(frozen=True, slots=True)
class ShortcutRow:
    """One property that the score must not follow."""

    name: str
    levels: tuple[str, ...]
    logit: tuple[float, ...]
    """Mean log-odds of the reals at each level."""
    moved: float
    """Largest move of the reals' mean probability from the first level."""
    separates: Estimate
    """AUC of the score at telling the level that moves it most from the first, on reals: .5 is what one wants."""
    probe_reals: float
    """Balanced accuracy of a linear probe on mean embeddings at telling the levels of reals of people it has not seen."""
    probe_fakes: float
    """The same probe on pseudo-fakes: more than on reals would be a shortcut."""
    chance: float


@dataclass(frozen=True, slots=True)
class ShortcutAudit:
    """All of them, and how much of the reals' spread goes by their source."""

    clips: int
    people: int
    rows: tuple[ShortcutRow, ...]
    source_share: float
    """Share of the variance of the plain reals' log-odds that lies between their sources, less what as many random groups would get."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [{name: getattr(row, name) for name in ShortcutRow.__slots__} for row in self.rows]
        for row in rows:
            row["separates"] = {"value": row["separates"].value, "low": row["separates"].low, "high": row["separates"].high}
        return {"clips": self.clips, "people": self.people, "source_share": self.source_share, "rows": rows}


def audit_shortcuts(
    model: Model, portraits: list[Portrait], *, seed: int = 41, on_clip: Callable[[int, int], None] | None = None
) -> ShortcutAudit:
    """Wear every portrait that is a clip in every way, and see what the score does.

    Raises:
        PipelineError: fewer than two people have a clip.
    """
    clips = [portrait for portrait in portraits if len(portrait.t) >= MIN_FRAMES]
    if len({portrait.identity for portrait in clips}) < 2:
        raise PipelineError(
            "There are too few clips to look for shortcuts in.",
            expected=f"two people with at least {MIN_FRAMES} frames each",
            got=f"{len(clips)} such clips",
        )
    rng = np.random.default_rng(seed)
    seen: dict[tuple[str, str, int], list[Sequence]] = {}
    for number, portrait in enumerate(clips, start=1):
        start = int(rng.integers(max(1, len(portrait.t) - FRAMES + 1)))
        rows = slice(start, start + FRAMES)
        clip = Clip(np.asarray(portrait.crops[rows]), portrait.t[rows], usable_points(portrait.dense[rows]))
        made = make_fake(clip, rng, kind="static", strength=0.7)
        for name, levels in WEARS.items():
            for level, (wear, keep) in levels.items():
                for label, crops in ((0, made.real), (1, made.fake)):
                    t = clip.t[::keep]
                    found = see(model.encoder, wear.clip(crops[::keep], t, CROP_PX))
                    flat = np.zeros(len(t), dtype=np.float32)
                    one = Sequence(portrait.identity, label, "static", t, found.embedding, found.artefact, flat)
                    seen.setdefault((name, level, label), []).append(one)
        if on_clip is not None:
            on_clip(number, len(clips))
    people = np.array([portrait.identity for portrait in clips])
    plain = _logits(model, seen["codec", "none", 0])
    return ShortcutAudit(
        clips=len(clips),
        people=len(set(people)),
        rows=tuple(_row(model, name, seen, people) for name in WEARS),
        source_share=_between(plain, np.array([portrait.source for portrait in clips])),
    )


def _row(model: Model, name: str, seen: dict[tuple[str, str, int], list[Sequence]], people: NDArray[np.str_]) -> ShortcutRow:
    levels = tuple(WEARS[name])
    logits = [_logits(model, seen[name, level, 0]) for level in levels]
    p = np.array([np.mean([probability(float(value)) for value in column]) for column in logits])
    worst = int(np.abs(p - p[0]).argmax()) or 1
    separates = auc_interval(
        np.concatenate([logits[worst], logits[0]]), np.repeat([1, 0], len(people)), np.concatenate([people, people]), resamples=500
    )
    reals, fakes = (np.stack([[one.embedding.mean(0) for one in seen[name, level, label]] for level in levels]) for label in (0, 1))
    on_reals, on_fakes = _probe(reals, fakes, people)
    return ShortcutRow(
        name=name,
        levels=levels,
        logit=tuple(float(column.mean()) for column in logits),
        moved=float(np.abs(p - p[0]).max()),
        separates=separates,
        probe_reals=on_reals,
        probe_fakes=on_fakes,
        chance=1 / len(levels),
    )


def _logits(model: Model, sequences: list[Sequence]) -> Float:
    tracks = of_sequences(model.temporal, model.calibrator, sequences, hz=None)
    return np.array([model.calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks])


def _probe(reals: NDArray[np.float32], fakes: NDArray[np.float32], people: NDArray[np.str_]) -> tuple[float, float]:
    """Linear discriminants of the levels, fitted to the reals of other people: (levels, clips, E) of both -> accuracy on both."""
    names = np.unique(people)
    fold = np.searchsorted(names, people) % min(FOLDS, len(names))
    hits = np.zeros((2, len(people)))
    for held in np.unique(fold):
        train, test = reals[:, fold != held].astype(np.float64), fold == held
        means = train.mean(1)
        within = np.cov((train - means[:, None]).reshape(-1, train.shape[2]).T)
        within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
        weight = np.linalg.solve(within, means.T)
        bias = 0.5 * (means * weight.T).sum(1)
        for which, side in enumerate((reals, fakes)):
            told = (side[:, test] @ weight - bias).argmax(2)
            hits[which, test] = (told == np.arange(len(reals))[:, None]).mean(0)
    return float(hits[0].mean()), float(hits[1].mean())


def _between(value: Float, group: NDArray[np.str_], *, shuffles: int = 500) -> float:
    """Eta squared, less its mean over shuffled groups (Hays 1963: a share of variance is biased upwards by the number of groups)."""

    def share(order: NDArray[np.intp]) -> float:
        means = {name: value[order][group == name].mean() for name in np.unique(group)}
        return float(np.var([means[name] for name in group]) / max(float(np.var(value)), 1e-12))

    rng = np.random.default_rng(0)
    by_chance = np.mean([share(rng.permutation(len(value))) for _ in range(shuffles)])
    return share(np.arange(len(value))) - float(by_chance)
