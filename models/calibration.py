"""Calibrator: what the eye and the memory say, in; log-odds and their interval, out. In every checkpoint; used by `judgement.py`.

Logistic fusion of two pieces of evidence (Platt 1999), fitted on people that the nets never saw. Its covariance comes along, so that
every probability has an interval. The same weights serve a moment and a whole track: a track's log-odds are the mean of its moments'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a verdict turns: log-odds, but for `p`. A value of its own, so that two analyses by one Calibrator may be judged by two."""

    p: float
    """The probability from which on a track is manipulated."""
    track: float
    """The same as log-odds."""
    stretch: float
    """A second of media whose mean is at or above is a manipulated segment."""
    doubt: float
    """A track at or above, but below `track`, is inconclusive."""
    target_fpr: float
    """The share of real videos that they were set to accuse."""


class Calibrator(nn.Module):
    """Holds fitted numbers only (buffers, fp64); the smoothed artefact of a stream is kept by its owner."""

    weight: Tensor
    """(3,) for artefact, temporal logit, 1."""
    covariance: Tensor
    """(3, 3) of `weight`: the inverse Hessian of the fit."""
    artefact_tau_s: Tensor
    """Time constant of the artefact's running mean, seconds."""
    thresholds: Tensor
    """(3,) log-odds: a whole track is manipulated; a one-second stretch is; below the third a track is not even suspicious."""
    surprise_unit: Tensor
    """Median surprise of real faces as the head measures it; a score's surprise is in these units."""
    farthest: Tensor
    """An embedding whose `EncoderOutput.distance` is beyond this is of no face that the nets know; it is not judged."""
    target_fpr: Tensor
    """The share of real clips that the thresholds were set to accuse."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
        self.register_buffer("covariance", torch.zeros(3, 3, dtype=torch.float64))
        self.register_buffer("artefact_tau_s", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("surprise_unit", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("thresholds", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("farthest", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("target_fpr", torch.tensor(0.01, dtype=torch.float64))

    def smooth(self, running: float | None, artefact: float, dt: float) -> float:
        """Exact flow of ds/dt = (artefact - s) / tau over `dt` seconds, the artefact held; a first one (running None) is its own mean."""
        if running is None:
            return artefact
        return artefact + (running - artefact) * math.exp(-dt / float(self.artefact_tau_s))

    def logit(self, artefact: float, temporal: float) -> float:
        """Fused log-odds of one moment (or of a track's means)."""
        return sum(self.terms(artefact, temporal))

    def terms(self, artefact: float, temporal: float) -> tuple[float, float, float]:
        """What those log-odds are the sum of: what the eye gives, what the memory gives, and what was there before either."""
        a, b, c = self.weight.tolist()
        return float(a * artefact), float(b * temporal), float(c)

    def interval(self, artefact: float, temporal: float, sampling_variance: float) -> tuple[float, float]:
        """95 % bounds of the log-odds: the fit's own uncertainty (delta method) plus that of having seen only so much of the face."""
        x = torch.tensor([artefact, temporal, 1.0], dtype=torch.float64)
        half = Z95 * math.sqrt(max(float(x @ self.covariance @ x), 0.0) + max(sampling_variance, 0.0))
        centre = self.logit(artefact, temporal)
        return centre - half, centre + half

    def familiar(self, distance: float) -> bool:
        """Whether an embedding at this distance is like those of the faces that the nets were made with."""
        return distance <= float(self.farthest)

    @property
    def shipped(self) -> Thresholds:
        """Those that were fitted."""
        track, stretch, doubt = self.thresholds.tolist()
        return Thresholds(probability(track), track, stretch, doubt, float(self.target_fpr))

    def thresholds_at(self, p: float, target_fpr: float) -> Thresholds:
        """Those that were fitted, all moved by one difference of log-odds, so that a track is manipulated from the probability `p` on.

        Raises:
            ValueError: `p` is not between 0 and 1.
        """
        if not 0 < p < 1:
            raise ValueError(f"thresholds_at: expected a probability between 0 and 1, got {p}")
        shipped = self.shipped
        by = log_odds(p) - shipped.track
        return Thresholds(p, shipped.track + by, shipped.stretch + by, shipped.doubt + by, target_fpr)


def probability(logit: float) -> float:
    """The logistic function, without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


def log_odds(p: float) -> float:
    """The inverse of `probability`; `p` is between 0 and 1."""
    return math.log(p) - math.log1p(-p)
