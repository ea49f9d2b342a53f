"""The judge's numbers: exact smoothing, monotone evidence, an interval around its logit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibrator, probability

LOGIT = st.floats(-20, 20)
GAP = st.floats(0, 50)


@given(LOGIT, LOGIT, GAP, GAP)
def test_smoothing_is_an_exact_flow(running: float, artefact: float, a: float, b: float) -> None:
    calibrator = Calibrator()
    whole = calibrator.smooth(running, artefact, a + b)
    halves = calibrator.smooth(calibrator.smooth(running, artefact, a), artefact, b)
    assert whole == pytest.approx(halves, abs=1e-9)


def test_no_time_leaves_the_mean_and_a_first_artefact_is_its_own() -> None:
    calibrator = Calibrator()
    assert calibrator.smooth(0.25, 9.0, 0.0) == 0.25
    assert calibrator.smooth(None, 9.0, 0.0) == 9.0
    assert calibrator.smooth(0.25, 9.0, 1e9) == 9.0


@given(LOGIT, LOGIT, st.floats(0, 10))
def test_the_interval_holds_the_logit(artefact: float, temporal: float, variance: float) -> None:
    calibrator = Calibrator()
    calibrator.covariance.copy_(torch.eye(3, dtype=torch.float64) * 0.01)
    low, high = calibrator.interval(artefact, temporal, variance)
    assert low <= calibrator.logit(artefact, temporal) <= high


@given(st.floats(-800, 800))
def test_probability_never_overflows(logit: float) -> None:
    p = probability(logit)
    assert 0.0 <= p <= 1.0
    assert p + probability(-logit) == pytest.approx(1.0)


def test_probability_of_even_odds() -> None:
    assert probability(0.0) == 0.5
    assert probability(math.log(3)) == pytest.approx(0.75)
