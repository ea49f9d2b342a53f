"""Numbers about a detector: scores and labels in, AUC with its interval, rates at a threshold and calibration out.

Groups (a person, a scene) are resampled whole, because two clips of one person are not two votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
RESAMPLES: Final = 2000


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


def auc_interval(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """AUC with a percentile bootstrap interval over whole groups."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    return bootstrap(lambda rows: roc_auc(score[rows], label[rows]), groups, resamples=resamples, seed=seed)


def bootstrap(statistic: Callable[[Rows], float], groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """A statistic of rows with its percentile interval over whole groups; draws in which it is NaN (a class is missing) do not count."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(len(names))]
    rng = np.random.default_rng(seed)
    draws = np.array(
        [
            statistic(np.concatenate([members[g] for g in rng.integers(len(names), size=len(names))]))
            for _ in range(resamples if members else 0)
        ]
    )
    known = draws[np.isfinite(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (float("nan"), float("nan"))
    return Estimate(statistic(np.arange(len(index))), float(low), float(high))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the precision-recall steps, equal scores taken together; NaN without a fake."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    if not label.any():
        return float("nan")
    levels = np.unique(score)[::-1]
    hits = np.array([(label & (score >= level)).sum() for level in levels])
    called = np.array([(score >= level).sum() for level in levels])
    return float((np.diff(hits, prepend=0) * hits / called).sum() / label.sum())


def roc_points(scores: ArrayLike, labels: ArrayLike) -> tuple[Float, Float]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); empty when a class is missing."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    if label.all() or not label.any():
        return np.empty(0), np.empty(0)
    levels = np.unique(score)[::-1]
    fpr = np.array([0.0, *((score[~label] >= level).mean() for level in levels)])
    tpr = np.array([0.0, *((score[label] >= level).mean() for level in levels)])
    return fpr, tpr


def equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> float:
    """Where the ROC, straight between its points, has as many misses as false alarms; NaN when a class is missing."""
    fpr, tpr = roc_points(scores, labels)
    if not len(fpr):
        return float("nan")
    gap = fpr - (1 - tpr)
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    share = -gap[before] / step if step > 0 else 0.0
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def tpr_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float) -> float:
    """Largest share of fakes found while at most `fpr` of the reals are accused; NaN with fewer than 1 / fpr reals."""
    label = np.asarray(labels).astype(bool)
    if (~label).sum() * fpr < 1 - 1e-9:
        return float("nan")
    false, true = roc_points(scores, labels)
    return float(true[false <= fpr + 1e-12].max()) if len(false) else float("nan")


def area_under_risk_coverage(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean error among the most certain k, over all k (Geifman and El-Yaniv 2017): certainty is |score|, an error its wrong sign."""
    score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    wrong = ((score >= 0) != label)[np.argsort(-np.abs(score), kind="stable")]
    return float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean()) if len(wrong) else float("nan")


def without(scores: ArrayLike, nuisance: ArrayLike, labels: ArrayLike) -> Float:
    """The scores less the straight line that the nuisance explains of them among the reals: what is left is not the nuisance."""
    score, x, real = np.asarray(scores, dtype=np.float64), np.asarray(nuisance, dtype=np.float64), ~np.asarray(labels).astype(bool)
    if real.sum() < 3 or not x[real].std():
        return score
    slope, _ = np.polyfit(x[real], score[real], 1)
    return np.asarray(score - slope * x)


def negative_log_likelihood(p: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log of what was claimed of the truth, in nats."""
    claimed, label = np.clip(np.asarray(p, dtype=np.float64), 1e-12, 1 - 1e-12), np.asarray(labels, dtype=np.float64)
    return float(-(label * np.log(claimed) + (1 - label) * np.log(1 - claimed)).mean()) if len(claimed) else float("nan")


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


@dataclass(frozen=True, slots=True)
class Reliability:
    """Videos that were given about the same probability: what was claimed of them, and what they were."""

    claimed: float
    observed: float
    videos: int


def reliability(p: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> tuple[Reliability, ...]:
    """Bins of equal mass, from the least probable to the most."""
    claimed, label = np.asarray(p, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    parts = [part for part in np.array_split(np.argsort(claimed, kind="stable"), bins) if len(part)]
    return tuple(Reliability(float(claimed[part].mean()), float(label[part].mean()), len(part)) for part in parts)


def expected_calibration_error(p: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> float:
    """Mean |claimed - observed| over bins of equal mass (Guo et al. 2017)."""
    found = reliability(p, labels, bins=bins)
    return sum(one.videos * abs(one.claimed - one.observed) for one in found) / max(sum(one.videos for one in found), 1)


def calibration_error_by_chance(p: ArrayLike, *, bins: int = 15, draws: int = 200, seed: int = 0) -> float:
    """What `expected_calibration_error` would be, on average, were every probability true: of few videos it is far from 0.

    The labels are drawn from `p` itself (the "consistency" resampling of Broecker and Smith 2007, "Increasing the reliability of
    reliability diagrams").
    """
    claimed, rng = np.asarray(p, dtype=np.float64), np.random.default_rng(seed)
    return float(np.mean([expected_calibration_error(claimed, rng.random(len(claimed)) < claimed, bins=bins) for _ in range(draws)]))


def brier(p: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared error of the probabilities (Brier 1950)."""
    claimed, label = np.asarray(p, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    return float(((claimed - label) ** 2).mean()) if len(claimed) else float("nan")
