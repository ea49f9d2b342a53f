"""Fitting the judge: sequences of people that the nets never saw in, a Calibrator out. Called by `undercurrent train calibration`.

The fusion is a ridge logistic regression (real against pseudo-fake); the thresholds come from real tracks alone, one vote for each person,
so that the stated false-positive rate is about people and not about frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm

from models.calibration import Calibrator
from pipelines.errors import ManifestError

Float = NDArray[np.float64]
RIDGE: Final = 1.0
DOUBT_FPR: Final = 0.10
FAR_MARGIN: Final = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class TrackEvidence:
    """One judged track: its evidence over time, and who it is."""

    identity: str
    label: int
    t: Float
    artefact: Float
    """(T,) running means."""
    temporal: Float
    """(T,) logits."""
    surprise: Float
    """(T,) as the head measures it."""


def fit_fusion(tracks: list[TrackEvidence]) -> Calibrator:
    """Weights and covariance of P(fake) from track means; both weights are kept >= 0, for evidence of a fake cannot speak for a real."""
    x = np.array([[track.artefact.mean(), track.temporal.mean(), 1.0] for track in tracks])
    y = np.array([float(track.label) for track in tracks])
    vote = one_vote(track.identity for track in tracks) * 2.0
    penalty = np.diag([RIDGE, RIDGE, 0.0])

    def loss(w: Float) -> tuple[float, Float]:
        z = x @ w
        value = float((vote * (np.logaddexp(0, z) - y * z)).sum() + 0.5 * w @ penalty @ w)
        slope = x.T @ (vote * (1 / (1 + np.exp(-z)) - y)) + penalty @ w
        return value, slope

    w = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)]).x
    p = 1 / (1 + np.exp(-(x @ w)))
    hessian = (x * (vote * p * (1 - p))[:, None]).T @ x + penalty
    calibrator = Calibrator()
    calibrator.weight.copy_(torch.from_numpy(w))
    calibrator.covariance.copy_(torch.from_numpy(np.linalg.inv(hessian)))
    # The first surprise of a track is 1 by definition and says nothing.
    calibrator.surprise_unit.fill_(float(np.median(np.concatenate([track.surprise[1:] for track in tracks if not track.label]))))
    return calibrator


def set_thresholds(calibrator: Calibrator, reals: list[tuple[str, float, float]], *, target_fpr: float) -> None:
    """Set the thresholds from real tracks (identity, mean log-odds, highest one-second log-odds), half of `target_fpr` to each accusation.

    A quantile that lies beyond the number of people seen is taken from a normal tail fitted to one value for each person, or from the
    most suspicious person if that is higher: with few people a threshold must err on the side of the accused.

    Raises:
        ManifestError: there are fewer than two people.
    """
    people: dict[str, list[tuple[float, float]]] = {}
    for identity, mean, peak in reals:
        people.setdefault(identity, []).append((mean, peak))
    if len(people) < 2:
        raise ManifestError(
            "There are too few people to set thresholds by.",
            expected="judged real video of at least two people that nothing was trained on (some hundreds, for 1 %)",
            got=f"{len(people)}",
        )
    means = np.array([max(mean for mean, _ in tracks) for tracks in people.values()])
    peaks = np.array([max(peak for _, peak in tracks) for tracks in people.values()])
    calibrator.thresholds.copy_(
        torch.tensor([_upper(means, target_fpr / 2), _upper(peaks, target_fpr / 2), float(np.quantile(means, 1 - DOUBT_FPR))])
    )
    calibrator.target_fpr.fill_(target_fpr)


def set_farthest(calibrator: Calibrator, reals: list[tuple[str, Float]]) -> None:
    """Set how far an embedding of a real face may lie: FAR_MARGIN times what 99.5 % of a person's pictures stay below, for 99 % of people.

    `reals`: identity and the distances (n,) of some of their crops.
    """
    people: dict[str, list[Float]] = {}
    for identity, distance in reals:
        people.setdefault(identity, []).append(distance)
    worst = np.array([np.quantile(np.concatenate(distances), 0.995) for distances in people.values()])
    calibrator.farthest.fill_(FAR_MARGIN * float(np.quantile(worst, 0.99)))


def one_vote(identities: Iterable[str]) -> Float:
    """Weights that give every person the same say; they sum to the number of people."""
    names = list(identities)
    return np.array([1.0 / names.count(name) for name in names])


def _upper(values: Float, share: float) -> float:
    """The value that a share of people exceeds."""
    tail = float(values.mean() + norm.ppf(1 - share) * values.std(ddof=1))
    if share * len(values) >= 1:
        return float(np.quantile(values, 1 - share, method="higher"))
    return max(tail, float(values.max()))
