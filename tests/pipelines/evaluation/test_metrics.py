"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.metrics import auc_interval, brier, expected_calibration_error, rate_at, rate_interval, roc_auc

LABELLED = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40)


@given(LABELLED)
def test_auc_is_the_chance_that_a_fake_scores_above_a_real(rows: list[tuple[int, bool]]) -> None:
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, la in rows if la for b, lb in rows if not lb]
    if wins:
        assert roc_auc(scores, labels) == pytest.approx(np.mean(wins))
    else:
        assert math.isnan(roc_auc(scores, labels))


def test_the_interval_holds_the_value_and_widens_with_fewer_groups() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    scores = rng.normal(labels, 1)
    many = auc_interval(scores, labels, np.arange(200), resamples=300)
    few = auc_interval(scores, labels, np.arange(200) // 20, resamples=300)
    assert many.low < many.value < many.high
    assert str(many).count(".") == 3
    assert few.value == many.value


def test_a_proportion_of_none_is_unknown_and_of_few_is_wide() -> None:
    assert math.isnan(rate_interval(0, 0).value)
    none_of_ten = rate_interval(0, 10)
    assert none_of_ten.low == pytest.approx(0.0, abs=1e-12)
    assert 0.2 < none_of_ten.high < 0.35


def test_rate_brier_and_calibration_error() -> None:
    assert rate_at([0.1, 0.5, 0.9], 0.5) == pytest.approx(2 / 3)
    assert brier([0, 1], [0, 1]) == 0
    assert brier([1.0], [0]) == 1
    p = np.full(1000, 0.3)
    labels = np.arange(1000) < 300
    assert expected_calibration_error(p, np.random.default_rng(0).permutation(labels), bins=1) == pytest.approx(0, abs=1e-9)
