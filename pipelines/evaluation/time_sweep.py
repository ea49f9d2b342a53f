"""Is the score the same at another frame rate? Clips and arms in, AUC and drift of every arm under every timing out.

The claim to earn: dropping half of the frames costs at most .02 of AUC, and the same clip's score moves at most half as much as a GRU's.
Drift is given in standard deviations of the arm's own scores over the clips as they are, so that arms on different scales compare, and in
probability after the arm's own logistic scaling (Platt 1999). Intervals draw whole people anew; what compares is drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pipelines.analysis import Analysis, Judged
from pipelines.evaluation.baselines import FRAMES_ALONE, Scorer
from pipelines.evaluation.metrics import Estimate, auc_difference, auc_interval, bootstrap, mean_of
from pipelines.evaluation.retiming import AS_IT_IS, CONDITIONS, Condition
from pipelines.frames import read_frames
from pipelines.inference import Impression
from pipelines.media import Frame
from pipelines.model import Model
from pipelines.training.manifest import Record
from pipelines.training.sequences import Sequence

Float = NDArray[np.float64]
TEMPORAL_KINDS: Final = ("drift", "feature_drift", "time_shift", "flicker")
"""Pseudo-fakes whose single pictures may be faultless."""
RATES: Final = ("30", "15", "10", "5")
"""Levels of the condition `fps` over which arms are compared by how steady they are."""
RIDGE: Final = 1.0
"""Of the slope of an arm's logistic scaling, so that clips told without a mistake do not make it infinite."""


@dataclass(frozen=True, slots=True)
class TimeRow:
    """One arm under one timing."""

    arm: str
    condition: str
    level: str
    auc: Estimate
    lost: float
    """AUC as it is, less this one."""
    lost_interval: Estimate
    """The same, both on the same people in every draw."""
    drift: float
    """Mean |score - score of the same clip as it is|, in standard deviations of the arm's scores as they are."""
    drift_p: float
    """The same in probability, after the logistic scaling that fits the arm's scores as they are."""


@dataclass(frozen=True, slots=True)
class Difference:
    """AUC of one arm less that of another on the same clips."""

    arm: str
    other: str
    among: str
    auc: Estimate


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How far one arm's scores move over the frame rates RATES, as a share of how far another's do: .5 is half as far."""

    arm: str
    other: str
    ratio: Estimate


@dataclass(frozen=True, slots=True)
class TimeSweep:
    """All arms under all timings, how the arms differ on the clips as they are, and how steady they are across frame rates."""

    clips: int
    people: int
    rows: tuple[TimeRow, ...]
    differences: tuple[Difference, ...]
    steadiness: tuple[Steadiness, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        rows = [
            {
                "arm": r.arm,
                "condition": r.condition,
                "level": r.level,
                "auc": _plain(r.auc),
                "lost": _number(r.lost),
                "lost_interval": _plain(r.lost_interval),
                "drift": _number(r.drift),
                "drift_p": _number(r.drift_p),
            }
            for r in self.rows
        ]
        return {
            "sweep": "time",
            "clips": self.clips,
            "people": self.people,
            "rows": rows,
            "differences": [{"arm": d.arm, "other": d.other, "among": d.among, "auc": _plain(d.auc)} for d in self.differences],
            "steadiness": [{"arm": s.arm, "other": s.other, "ratio": _plain(s.ratio)} for s in self.steadiness],
        }


def sweep_time(
    clips: list[Sequence],
    arms: dict[str, Scorer],
    *,
    conditions: tuple[Condition, ...] = CONDITIONS,
    resamples: int = 500,
    on_condition: Callable[[Condition], None] | None = None,
) -> TimeSweep:
    """Score all clips under all timings with every arm, and compare the first arm with each other one.

    Raises:
        ValueError: there is no clip, or no arm.
    """
    if not clips or not arms:
        raise ValueError(f"sweep_time: expected clips and arms, got {len(clips)} clips and {len(arms)} arms")
    labels, people = np.array([clip.label for clip in clips]), np.array([clip.identity for clip in clips])
    whole: dict[str, Float] = {}
    curves: dict[str, Callable[[Float], Float]] = {}
    moved: dict[str, list[Float]] = {name: [] for name in arms}
    rows = []
    for condition in (AS_IT_IS, *conditions):
        seen = [condition.apply(clip) for clip in clips]
        for name, score in arms.items():
            scores = score(seen)
            before = whole.setdefault(name, scores)
            away = np.abs(scores - before) / (float(before.std()) or math.nan)
            if condition.name == "fps" and condition.level in RATES:
                moved[name].append(away)
            auc = auc_interval(scores, labels, people, resamples=resamples)
            lost = auc_difference(before, scores, labels, people, resamples=resamples)
            p = curves[name] = curves.get(name) or _platt(before, labels)
            in_p = float(np.abs(p(scores) - p(before)).mean())
            rows.append(TimeRow(name, condition.name, condition.level, auc, lost.value, lost, float(away.mean()), in_p))
        if on_condition is not None:
            on_condition(condition)
    return TimeSweep(
        len(clips),
        len(set(people)),
        tuple(rows),
        tuple(_differences(clips, whole, labels, people, resamples)),
        tuple(_steadiness({name: np.mean(steps, axis=0) for name, steps in moved.items() if steps}, people, resamples)),
    )


def sequences_of(records: list[Record], model: Model, *, on_video: Callable[[int], None] | None = None) -> list[Sequence]:
    """What the eye said of each video's longest judged face at the video's own rate: `Analysis` itself walks, so cuts, damage and gates
    are those of serving.

    A video in which no face can be judged is left out.

    Raises:
        SourceError, DecodeError: a video cannot be read.
    """
    found = []
    for number, record in enumerate(records, start=1):
        with read_frames(record.path, hz=None) as source:
            walk = _Recorded(model)
            for frame in source:
                walk.push(frame)
        judged = [track for track in walk.finish().tracks if track.score is not None]
        if judged:
            seen = walk.looks[max(judged, key=lambda track: track.judged).id]
            label = int(record.label == "fake")
            found.append(
                Sequence(
                    identity=record.identity,
                    label=label,
                    kind=record.method or record.label,
                    t=np.array([look.t for look in seen]),
                    embedding=np.stack([look.embedding for look in seen]),
                    artefact=np.array([look.artefact for look in seen], dtype=np.float32),
                    frame_label=np.full(len(seen), label, dtype=np.float32),
                )
            )
        if on_video is not None:
            on_video(number)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What the eye said of one track at one moment."""

    t: float
    embedding: NDArray[np.float32]
    """(E,)."""
    artefact: float


class _Recorded(Analysis):
    """An Analysis that keeps what it gave to each memory, by track."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.looks: dict[int, list[_Look]] = {}

    def _keep(self, frame: Frame, track: int, dt: float | None, impression: Impression) -> Judged:
        self.looks.setdefault(track, []).append(_Look(frame.t, impression.embedding[0], impression.artefact))
        return super()._keep(frame, track, dt, impression)


def _differences(
    clips: list[Sequence], scores: dict[str, Float], labels: NDArray[np.int64], people: NDArray[np.str_], resamples: int
) -> list[Difference]:
    """Every arm against the first (the mean frame logit, the honest baseline): among all fakes, the temporal ones, and each kind of these.

    A fake that lasts only part of its clip ("partial") is a temporal one whatever its kind.
    """
    base = next(iter(scores))
    kinds = np.array([clip.kind for clip in clips])
    partial = np.array([clip.label == 1 and float(np.ptp(clip.frame_label)) > 0 for clip in clips])
    fakes = {"all": labels == 1, "temporal": np.isin(kinds, TEMPORAL_KINDS) | partial}
    fakes |= {kind: kinds == kind for kind in TEMPORAL_KINDS} | {"partial": partial}
    found = []
    for among, chosen in fakes.items():
        rows = (labels == 0) | chosen
        if (labels[rows] == 0).any() and (labels[rows] == 1).any():
            found += [
                Difference(
                    name,
                    base,
                    among,
                    auc_difference(scores[name][rows], scores[base][rows], labels[rows], people[rows], resamples=resamples),
                )
                for name in scores
                if name != base
            ]
    return found


def _steadiness(moved: dict[str, Float], people: NDArray[np.str_], resamples: int) -> list[Steadiness]:
    """Every arm against every other one that has a memory; an average over frames is steadier by nature and no measure of one."""
    arms = [name for name in moved if name not in FRAMES_ALONE]

    return [
        Steadiness(arm, other, bootstrap(mean_of(moved[arm], moved[other]), people, resamples=resamples))
        for arm in arms
        for other in arms
        if arm != other
    ]


def _platt(scores: Float, labels: NDArray[np.int64]) -> Callable[[Float], Float]:
    """Scores -> probability of a fake, by the logistic curve (slope with a ridge, and offset) that fits these clips."""
    middle, unit = float(scores.mean()), float(scores.std()) or 1.0

    def loss(w: Float) -> tuple[float, Float]:
        x = (scores - middle) / unit
        z = w[0] * x + w[1]
        miss = 1 / (1 + np.exp(-z)) - labels
        value = float((np.logaddexp(0, z) - labels * z).sum() + 0.5 * RIDGE * w[0] ** 2)
        return value, np.array([float(miss @ x) + RIDGE * w[0], float(miss.sum())])

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (-20, 20)]).x
    return lambda new: np.asarray(1 / (1 + np.exp(-(slope * (new - middle) / unit + offset))))


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _number(estimate.value), "low": _number(estimate.low), "high": _number(estimate.high)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
