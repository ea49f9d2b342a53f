"""Numbers about a detector: scores and labels in, AUC with its interval, rates at a threshold and calibration out.

Groups (a person, a scene) are resampled whole, because two clips of one person are not two votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a random fake scores above a random real, ties counting half (Mann-Whitney); NaN when a class is missing."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    fakes, reals = int(label.sum()), int((~label).sum())
    if not fakes or not reals:
        return float("nan")
    return float((rankdata(score)[label].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


def auc_interval(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """AUC with a percentile bootstrap interval over whole groups."""
    score, label, group = np.asarray(scores, dtype=np.float64), np.asarray(labels), np.asarray(groups)
    names, index = np.unique(group, return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(len(names))]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        rows = np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))])
        draws.append(roc_auc(score[rows], label[rows]))
    known = np.array([draw for draw in draws if np.isfinite(draw)])
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (float("nan"), float("nan"))
    return Estimate(roc_auc(score, label), float(low), float(high))


def rate_at(scores: ArrayLike, threshold: float) -> float:
    """Share of `scores` at or above `threshold`: TPR of fakes, FPR of reals; NaN for none."""
    score = np.asarray(scores, dtype=np.float64)
    return float((score >= threshold).mean()) if len(score) else float("nan")


def rate_interval(hits: int, total: int) -> Estimate:
    """A proportion with its Wilson 95 % interval, honest for few clips (Wilson 1927)."""
    if total == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    z, p = 1.959964, hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return Estimate(p, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def expected_calibration_error(p: ArrayLike, labels: ArrayLike, *, bins: int = 10) -> float:
    """Mean |claimed - observed| over bins of equal mass (Guo et al. 2017)."""
    claimed, label = np.asarray(p, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    order = np.argsort(claimed, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(part) * abs(claimed[part].mean() - label[part].mean()) for part in parts) / max(len(claimed), 1))


def brier(p: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared error of the probabilities (Brier 1950)."""
    return float(np.mean((np.asarray(p, dtype=np.float64) - np.asarray(labels, dtype=np.float64)) ** 2))
