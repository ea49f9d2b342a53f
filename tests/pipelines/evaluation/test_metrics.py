"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.metrics import (
    area_under_risk_coverage,
    auc_interval,
    average_precision,
    bootstrap,
    brier,
    calibration_error_by_chance,
    equal_error_rate,
    expected_calibration_error,
    negative_log_likelihood,
    rate_at,
    rate_interval,
    reliability,
    roc_auc,
    roc_points,
    tpr_at_fpr,
    without,
)

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


def test_average_precision_by_hand() -> None:
    assert average_precision([4, 3, 2, 1], [1, 0, 1, 0]) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert average_precision([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5, "equal scores are one step, whatever their order"
    assert math.isnan(average_precision([1, 2], [0, 0]))


def test_roc_and_equal_error_rate_by_hand() -> None:
    fpr, tpr = roc_points([4, 3, 2, 1], [1, 0, 1, 0])
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1] and tpr.tolist() == [0, 0.5, 0.5, 1, 1]
    assert equal_error_rate([4, 3, 2, 1], [1, 0, 1, 0]) == 0.5
    assert equal_error_rate([3, 4, 1, 2], [1, 1, 0, 0]) == 0.0
    assert equal_error_rate([0, 0, 0], [1, 0, 0]) == pytest.approx(0.5), "between the ends of the curve lies a straight line"
    # Points (1/3, 1/2) and (2/3, 1/2): a third accused for half missed, then two thirds for half; half of both lies between.
    assert equal_error_rate([5, 4, 3, 2, 1], [1, 0, 0, 1, 0]) == pytest.approx(0.5)
    assert math.isnan(equal_error_rate([1, 2], [1, 1])) and not len(roc_points([1, 2], [1, 1])[0])


@given(LABELLED)
def test_the_area_under_the_roc_points_is_the_auc(rows: list[tuple[int, bool]]) -> None:
    scores, labels = [score for score, _ in rows], [label for _, label in rows]
    fpr, tpr = roc_points(scores, labels)
    if len(fpr):
        assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc(scores, labels))


def test_a_rate_of_false_positives_needs_its_number_of_reals() -> None:
    scores = [*range(20), 18.5, 19.5, 30]
    labels = [0] * 20 + [1] * 3
    assert tpr_at_fpr(scores, labels, 0.05) == 1.0, "18.5 lets one of 20 through, 19"
    assert tpr_at_fpr([*range(20), 17.5, 19.5, 30], labels, 0.05) == pytest.approx(2 / 3)
    assert math.isnan(tpr_at_fpr(scores, labels, 0.01)), "1 % of 20 reals cannot be resolved"
    assert math.isnan(tpr_at_fpr(range(20), [0] * 20, 0.05))


def test_likelihood_and_reliability_by_hand() -> None:
    assert negative_log_likelihood([0.5, 0.5], [0, 1]) == pytest.approx(math.log(2))
    assert negative_log_likelihood([0.9, 0.2], [1, 0]) == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    assert math.isfinite(negative_log_likelihood([0.0], [1]))
    low, high = reliability([0.9, 0.1, 0.3, 0.7], [1, 0, 1, 1], bins=2)
    assert low.claimed == pytest.approx(0.2) and (low.observed, low.videos) == (0.5, 2)
    assert high.claimed == pytest.approx(0.8) and (high.observed, high.videos) == (1.0, 2)
    assert expected_calibration_error([0.9, 0.1, 0.3, 0.7], [1, 0, 1, 1], bins=2) == pytest.approx((0.3 + 0.2) / 2)
    assert [one.videos for one in reliability(np.linspace(0, 1, 32), np.zeros(32))] == [3, 3, *[2] * 13], "15 bins of equal mass"
    assert len(reliability([0.4], [1])) == 1, "a bin without a video is none"


def test_risk_against_coverage_by_hand() -> None:
    # From the most certain: right, wrong, right. Errors among the first 1, 2, 3: 0, 1/2, 1/3.
    assert area_under_risk_coverage([3, 2, -1], [1, 0, 0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert math.isnan(area_under_risk_coverage([], []))


def test_what_a_nuisance_explains_among_the_reals_is_taken_away() -> None:
    nuisance = np.array([0.0, 1.0, 2.0, 3.0])
    left = without(2 * nuisance + np.array([0, 0, 0, 5.0]), nuisance, [0, 0, 0, 1])
    assert left == pytest.approx([0, 0, 0, 5])
    assert without([1.0, 2.0], [1.0, 1.0], [0, 0]).tolist() == [1.0, 2.0], "too little to fit a line on"


def test_groups_are_drawn_whole_and_unknown_draws_do_not_count() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])
    drawn: list[int] = []

    def mean(rows: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> float:
        drawn.append(len(rows))
        return float(values[rows].mean())

    found = bootstrap(mean, ["a", "a", "b", "b"], resamples=200)
    assert set(drawn) == {4} and (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert bootstrap(lambda rows: 1.0 if len(set(rows)) > 1 else math.nan, ["a", "b"], resamples=50).low == 1.0
    none = bootstrap(lambda _: math.nan, ["a", "b"], resamples=10)
    assert math.isnan(none.value) and math.isnan(none.low)


def test_few_videos_look_uncalibrated_by_chance() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 200)
    labels = rng.random(200) < p
    by_chance = calibration_error_by_chance(p)
    assert 0.05 < by_chance < 0.12
    assert expected_calibration_error(p, labels) == pytest.approx(by_chance, abs=0.04)
    assert calibration_error_by_chance(np.tile(p, 50)) < by_chance / 4
    assert expected_calibration_error(p, rng.random(200) < 0.5) > 2 * by_chance
