"""Numbers about a detector: scores and labels in, AUC with its interval, rates at a threshold and calibration out.

Groups (a person, a scene) are resampled whole, because two clips of one person are not two votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

Float = NDArray[np.float64]
Rows = NDArray[np.intp]
Statistic = Callable[[Float], Float]
"""How often each row was drawn (R, n) in, the number of each draw (R,) out; NaN where it does not exist. One sort serves all draws."""
RESAMPLES: Final = 2000
CELLS_AT_ONCE: Final = 1_000_000
"""Draws times rows that are held at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


UNKNOWN: Final = Estimate(float("nan"), float("nan"), float("nan"))


class Ranking:
    """Rows sorted by score once; gives the curve of any number of draws. Equal scores are one step of it."""

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        score, label = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
        self._order = np.argsort(-score, kind="stable")
        self._label = label[self._order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(np.diff(score[self._order]) != 0, True)) if len(score) else np.zeros(0, dtype=np.intp)

    def called(self, counts: Float) -> tuple[Float, Float]:
        """How many reals and fakes (R, K + 1) reach each threshold, from the one that nobody reaches down."""
        drawn, start = counts[:, self._order], np.zeros((len(counts), 1))
        sides = (np.cumsum(drawn * side, axis=1)[:, self._ends] for side in (1 - self._label, self._label))
        false, true = (np.concatenate([start, side], axis=1) for side in sides)
        return false, true

    def rates(self, counts: Float) -> tuple[Float, Float]:
        """False and true positive rates (R, K + 1); NaN where a class is missing."""
        false, true = self.called(counts)
        return _share(false, false[:, -1:]), _share(true, true[:, -1:])

    def auc(self, counts: Float) -> Float:
        """Probability that a random fake scores above a random real, ties counting half (Mann-Whitney)."""
        false, true = self.called(counts)
        return _share((np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1])).sum(axis=1), 2 * false[:, -1] * true[:, -1])

    def average_precision(self, counts: Float) -> Float:
        """Area under the precision-recall steps, without interpolation (it would flatter)."""
        false, true = self.called(counts)
        precision = np.nan_to_num(_share(true[:, 1:], false[:, 1:] + true[:, 1:]))
        return np.where(false[:, -1] > 0, _share((np.diff(true, axis=1) * precision).sum(axis=1), true[:, -1]), np.nan)

    def equal_error_rate(self, counts: Float) -> Float:
        """Where the ROC, straight between its points, has as many misses as false alarms."""
        fpr, tpr = self.rates(counts)
        gap = fpr + tpr - 1  # rises from -1 to 1
        after, row = np.argmax(gap >= 0, axis=1), np.arange(len(counts))
        before = np.maximum(after - 1, 0)
        part = np.nan_to_num(_share(-gap[row, before], gap[row, after] - gap[row, before]))
        return np.asarray(fpr[row, before] + part * (fpr[row, after] - fpr[row, before]))

    def tpr_at(self, counts: Float, fpr: float) -> Float:
        """Largest share of fakes found while at most `fpr` of the reals are accused; no threshold lies between two rows."""
        false, true = self.rates(counts)
        best = np.where(false <= fpr + 1e-12, true, 0.0).max(axis=1)
        return np.where(np.isfinite(false[:, -1] + true[:, -1]), best, np.nan)


def bootstrap(statistic: Statistic, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """A statistic with its percentile interval over whole groups; draws in which it is NaN (a class is missing) do not count."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if not len(names):
        return UNKNOWN
    rng = np.random.default_rng(seed)
    at_once = max(1, CELLS_AT_ONCE // len(index))
    draws = []
    for done in range(0, resamples, at_once):
        drawn = rng.integers(len(names), size=(min(at_once, resamples - done), len(names)))
        counts = np.zeros(drawn.shape)
        np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1)
        draws.append(statistic(counts[:, index]))
    found = np.concatenate(draws)
    known = found[np.isfinite(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (float("nan"), float("nan"))
    return Estimate(float(statistic(np.ones((1, len(index))))[0]), float(low), float(high))


def mean_of(values: ArrayLike, weights: ArrayLike | None = None) -> Statistic:
    """The mean of rows, or their sum over the sum of `weights`."""
    value = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64)
    return lambda counts: _share(counts @ value, counts @ weight)


def one_by_one(metric: Callable[[Rows], float]) -> Statistic:
    """A statistic that takes the rows of one draw at a time, each as often as it was drawn; slow, for what has no better form."""

    def each(counts: Float) -> Float:
        rows = np.arange(counts.shape[1])
        return np.array([metric(np.repeat(rows, drawn)) for drawn in counts.astype(np.intp)])

    return each


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """`Ranking.auc` of the rows as they are; NaN when a class is missing."""
    return _once(Ranking(scores, labels).auc, labels)


def auc_interval(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """AUC with a percentile bootstrap interval over whole groups."""
    return bootstrap(Ranking(scores, labels).auc, groups, resamples=resamples, seed=seed)


def auc_difference(a: ArrayLike, b: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, resamples: int = RESAMPLES) -> Estimate:
    """AUC of the scores `a` less that of `b` for the same rows, both on the same draws: what they share does not widen it."""
    one, other = Ranking(a, labels), Ranking(b, labels)
    return bootstrap(lambda counts: one.auc(counts) - other.auc(counts), groups, resamples=resamples)


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """`Ranking.average_precision` of the rows as they are; NaN when a class is missing."""
    return _once(Ranking(scores, labels).average_precision, labels)


def roc_points(scores: ArrayLike, labels: ArrayLike) -> tuple[Float, Float]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); empty when a class is missing."""
    fpr, tpr = Ranking(scores, labels).rates(np.ones((1, np.size(labels))))
    return (fpr[0], tpr[0]) if np.isfinite(fpr[0, -1] + tpr[0, -1]) else (np.empty(0), np.empty(0))


def equal_error_rate(scores: ArrayLike, labels: ArrayLike) -> float:
    """`Ranking.equal_error_rate` of the rows as they are; NaN when a class is missing."""
    return _once(Ranking(scores, labels).equal_error_rate, labels)


def tpr_interval(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, fpr: float) -> Estimate:
    """`Ranking.tpr_at` with its interval; unknown with fewer than 1 / fpr reals. That is asked of all rows: a draw may hold fewer."""
    if float((~np.asarray(labels).astype(bool)).sum()) * fpr < 1 - 1e-9:
        return UNKNOWN
    ranking = Ranking(scores, labels)
    return bootstrap(lambda counts: ranking.tpr_at(counts, fpr), groups)


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


def log_losses(p: ArrayLike, labels: ArrayLike) -> Float:
    """-log of what was claimed of the truth of each row, in nats; their mean is the negative log-likelihood."""
    claimed, label = np.clip(np.asarray(p, dtype=np.float64), 1e-12, 1 - 1e-12), np.asarray(labels, dtype=np.float64)
    return np.asarray(-(label * np.log(claimed) + (1 - label) * np.log(1 - claimed)))


def squared_errors(p: ArrayLike, labels: ArrayLike) -> Float:
    """Of the probabilities of each row; their mean is the Brier score (1950)."""
    return np.asarray((np.asarray(p, dtype=np.float64) - np.asarray(labels, dtype=np.float64)) ** 2)


def rate_interval(hits: float, total: float) -> Estimate:
    """A proportion with its Wilson 95 % interval, honest for few clips (Wilson 1927)."""
    if total <= 0:
        return Estimate(float("nan"), 0.0, 1.0)
    z, p = 1.959964, hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return Estimate(p, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def clustered_rate(hits: ArrayLike, groups: ArrayLike) -> Estimate:
    """A proportion with Wilson's interval for as many independent rows as the groups are worth (Rao and Scott 1992).

    A bootstrap would say [0, 0] of no hit in 22 clips; this says what 22 clips can say.
    """
    hit = np.asarray(hits, dtype=np.float64)
    if not len(hit):
        return rate_interval(0, 0)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    p, people = float(hit.mean()), len(names)
    worth = float(people)
    if 0 < p < 1 and people > 1:
        variance = people / (people - 1) * float((np.bincount(index, weights=hit - p) ** 2).sum()) / len(hit) ** 2
        # Neither more than there are rows, nor fewer than there are people.
        worth = float(np.clip(p * (1 - p) / max(variance, 1e-12), people, len(hit)))
    return rate_interval(p * worth, worth)


def per_hour(events: ArrayLike, hours: ArrayLike, groups: ArrayLike) -> Estimate:
    """Events of all rows an hour of all rows, with the exact interval of a count (Garwood 1936): none in ten minutes is not none for ever.

    The count is that of the groups with an event, each of which brings as many as one does on average: six false alarms on one person are
    one piece of bad luck.
    """
    count, time = np.asarray(events, dtype=np.float64), float(np.sum(hours))
    if time <= 0:
        return UNKNOWN
    struck = len(np.unique(np.asarray(groups)[count > 0]))
    each = float(count.sum()) / max(struck, 1) if struck else 1.0
    low = float(chi2.ppf(0.025, 2 * struck)) / 2 if struck else 0.0
    return Estimate(float(count.sum()) / time, each * low / time, each * float(chi2.ppf(0.975, 2 * struck + 2)) / 2 / time)


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
    if not len(claimed):
        return float("nan")
    return float(np.mean([expected_calibration_error(claimed, rng.random(len(claimed)) < claimed, bins=bins) for _ in range(draws)]))


def _once(statistic: Statistic, labels: ArrayLike) -> float:
    return float(statistic(np.ones((1, np.size(labels))))[0])


def _share(part: Float, whole: Float) -> Float:
    return np.asarray(np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0))
