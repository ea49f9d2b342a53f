"""Is the score the same at another frame rate? Clips and arms in, AUC and drift of every arm under every timing out.

The claim to earn: dropping half of the frames costs at most .02 of AUC, and the same clip's score moves at most half as much as a GRU's.
Drift is given in standard deviations of the arm's own scores over the clips as they are, so that arms on different scales compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.baselines import Scorer
from pipelines.evaluation.metrics import Estimate, auc_interval, roc_auc
from pipelines.evaluation.retiming import AS_IT_IS, CONDITIONS, Condition
from pipelines.faces import align
from pipelines.frames import read_frames
from pipelines.judgement import MIN_MOMENTS, MIN_TRACK_S
from pipelines.media import Image
from pipelines.model import Model
from pipelines.quality import why_unusable
from pipelines.tracks import FaceTracker
from pipelines.training.manifest import Record
from pipelines.training.sequences import Sequence, see

Float = NDArray[np.float64]
TEMPORAL_KINDS: Final = ("drift", "feature_drift", "time_shift", "flicker")
"""Pseudo-fakes whose single pictures may be faultless."""


@dataclass(frozen=True, slots=True)
class TimeRow:
    """One arm under one timing."""

    arm: str
    condition: str
    level: str
    auc: Estimate
    lost: float
    """AUC as it is, less this one."""
    drift: float
    """Mean |score - score of the same clip as it is|, in standard deviations of the arm's scores as they are."""


@dataclass(frozen=True, slots=True)
class Difference:
    """AUC of one arm less that of another on the same clips."""

    arm: str
    other: str
    among: str
    auc: Estimate


@dataclass(frozen=True, slots=True)
class TimeSweep:
    """All arms under all timings, and how the arms differ on the clips as they are."""

    clips: int
    people: int
    rows: tuple[TimeRow, ...]
    differences: tuple[Difference, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        rows = [
            {"arm": r.arm, "condition": r.condition, "level": r.level, "auc": _plain(r.auc), "lost": r.lost, "drift": r.drift}
            for r in self.rows
        ]
        return {
            "sweep": "time",
            "clips": self.clips,
            "people": self.people,
            "rows": rows,
            "differences": [{"arm": d.arm, "other": d.other, "among": d.among, "auc": _plain(d.auc)} for d in self.differences],
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
    rows = []
    for condition in (AS_IT_IS, *conditions):
        seen = [condition.apply(clip) for clip in clips]
        for name, score in arms.items():
            scores = score(seen)
            before = whole.setdefault(name, scores)
            spread = float(before.std()) or math.nan
            auc = auc_interval(scores, labels, people, resamples=resamples)
            rows.append(
                TimeRow(
                    name,
                    condition.name,
                    condition.level,
                    auc,
                    roc_auc(before, labels) - auc.value,
                    float(np.abs(scores - before).mean()) / spread,
                )
            )
        if on_condition is not None:
            on_condition(condition)
    return TimeSweep(len(clips), len(set(people)), tuple(rows), tuple(_differences(clips, whole, labels, people, resamples)))


def sequences_of(records: list[Record], model: Model, *, on_video: Callable[[int], None] | None = None) -> list[Sequence]:
    """Each video's longest judged face at the video's own rate, through the tracking, crops and gates that serve.

    A video in which no face can be judged is left out.
    """
    found = []
    for number, record in enumerate(records, start=1):
        tracker = FaceTracker(model.detector)
        tracks: dict[int, list[tuple[float, Image]]] = {}
        with read_frames(record.path, hz=None) as source:
            for frame in source:
                for one in tracker.update(frame).seen:
                    crop = align(frame.image, one.face.points)
                    if why_unusable(one.face, crop) is None:
                        tracks.setdefault(one.track, []).append((frame.t, crop))
        longest = max(tracks.values(), key=len, default=[])
        if len(longest) >= MIN_MOMENTS and longest[-1][0] - longest[0][0] >= MIN_TRACK_S:
            seen = see(model.encoder, np.stack([crop for _, crop in longest]))
            label = int(record.label == "fake")
            t, flat = np.array([t for t, _ in longest]), np.full(len(longest), label, dtype=np.float32)
            found.append(Sequence(record.identity, label, record.method or record.label, t, seen.embedding, seen.artefact, flat))
        if on_video is not None:
            on_video(number)
    return found


def _differences(
    clips: list[Sequence], scores: dict[str, Float], labels: NDArray[np.int64], people: NDArray[np.str_], resamples: int
) -> list[Difference]:
    """Every arm against the mean frame logit (the honest baseline, or whatever arm comes first): among all fakes and the temporal ones."""
    base = next(iter(scores))
    kinds = np.array([clip.kind for clip in clips])
    among = {"all": np.ones(len(clips), dtype=bool), "temporal": (labels == 0) | np.isin(kinds, TEMPORAL_KINDS)}
    return [
        Difference(name, base, which, _paired(scores[name][rows], scores[base][rows], labels[rows], people[rows], resamples))
        for which, rows in among.items()
        if len(set(labels[rows])) == 2 and (which == "all" or np.isin(kinds, TEMPORAL_KINDS).any())
        for name in scores
        if name != base
    ]


def _paired(a: Float, b: Float, labels: NDArray[np.int64], people: NDArray[np.str_], resamples: int) -> Estimate:
    """Difference of two AUCs with its percentile interval over whole people, both arms on the same draw."""
    names, index = np.unique(people, return_inverse=True)
    members = [np.flatnonzero(index == i) for i in range(len(names))]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(resamples):
        rows = np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])
        draws.append(roc_auc(a[rows], labels[rows]) - roc_auc(b[rows], labels[rows]))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(roc_auc(a, labels) - roc_auc(b, labels), float(low), float(high))


def _plain(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
