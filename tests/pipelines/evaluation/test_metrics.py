"""Metrics against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.metrics import (
    Estimate,
    Ranking,
    area_under_risk_coverage,
    auc_difference,
    auc_interval,
    average_precision,
    bootstrap,
    calibration_error_by_chance,
    clustered_rate,
    equal_error_rate,
    expected_calibration_error,
    log_losses,
    mean_of,
    one_by_one,
    per_hour,
    rate_interval,
    reliability,
    roc_auc,
    roc_points,
    squared_errors,
    tpr_interval,
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


def test_squared_errors_and_calibration_error() -> None:
    assert squared_errors([0, 1, 1.0, 0.5], [0, 1, 0, 1]).tolist() == [0, 0, 1, 0.25]
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
    def found(scores: list[float], labels: list[int], fpr: float) -> float:
        return tpr_interval(scores, labels, np.arange(len(labels)), fpr).value

    labels = [0] * 20 + [1] * 3
    assert found([*range(20), 18.5, 19.5, 30], labels, 0.05) == 1.0, "18.5 lets one of 20 through, 19"
    assert found([*range(20), 17.5, 19.5, 30], labels, 0.05) == pytest.approx(2 / 3)
    assert math.isnan(found([*range(20), 18.5, 19.5, 30], labels, 0.01)), "1 % of 20 reals cannot be resolved"
    assert math.isnan(found([*range(20)], [0] * 20, 0.05))


def test_likelihood_and_reliability_by_hand() -> None:
    assert log_losses([0.5, 0.5], [0, 1]) == pytest.approx([math.log(2)] * 2)
    assert log_losses([0.9, 0.2], [1, 0]) == pytest.approx([-math.log(0.9), -math.log(0.8)])
    assert np.isfinite(log_losses([0.0], [1])).all()
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
    seen: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []

    def mean(counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        seen.append(counts)
        return mean_of([0.0, 0.0, 1.0, 1.0])(counts)

    found = bootstrap(mean, ["a", "a", "b", "b"], resamples=200)
    counts = np.concatenate(seen)
    assert len(counts) == 201 and (counts[:, 0] == counts[:, 1]).all() and (counts.sum(axis=1) == 4).all()
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    both = bootstrap(lambda counts: np.where((counts > 0).all(axis=1), 1.0, np.nan), ["a", "b"], resamples=50)
    assert both.low == 1.0
    for none in (bootstrap(lambda counts: np.full(len(counts), np.nan), ["a", "b"], resamples=10), bootstrap(mean_of([]), [])):
        assert math.isnan(none.value) and math.isnan(none.low)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=2, max_size=20))
def test_a_row_that_is_drawn_thrice_is_three_rows(rows: list[tuple[int, bool, int]]) -> None:
    scores, labels, times = (np.array(column) for column in zip(*rows, strict=True))
    drawn = np.repeat(np.arange(len(rows)), times)
    ranking, counts = Ranking(scores, labels), times[None].astype(np.float64)
    for found, metric in (
        (ranking.auc, roc_auc),
        (ranking.average_precision, average_precision),
        (ranking.equal_error_rate, equal_error_rate),
    ):
        assert found(counts)[0] == pytest.approx(metric(scores[drawn], labels[drawn]), nan_ok=True)
    assert one_by_one(lambda own: float(scores[own].sum()))(counts)[0] == scores[drawn].sum()


def test_many_draws_of_many_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(mean_of(np.arange(30)), np.arange(30), resamples=100)
    monkeypatch.setattr("pipelines.evaluation.metrics.CELLS_AT_ONCE", 200)
    assert bootstrap(mean_of(np.arange(30)), np.arange(30), resamples=100) == whole


def test_few_videos_look_uncalibrated_by_chance() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 200)
    labels = rng.random(200) < p
    by_chance = calibration_error_by_chance(p)
    assert 0.05 < by_chance < 0.12
    assert expected_calibration_error(p, labels) == pytest.approx(by_chance, abs=0.04)
    assert calibration_error_by_chance(np.tile(p, 50)) < by_chance / 4
    assert expected_calibration_error(p, rng.random(200) < 0.5) > 2 * by_chance


def test_a_rate_is_worth_as_many_clips_as_there_are_independent_ones() -> None:
    """Ten people, four clips each: alike within a person they are worth ten, and apart forty."""
    people = np.repeat(np.arange(10), 4)
    alike = clustered_rate(np.repeat([1, 0, 0, 1, 0, 0, 0, 0, 1, 0], 4), people)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0.3, *_ends(rate_interval(3, 10))), abs=0.02)
    apart = clustered_rate([(i % 4 + i // 4) % 4 == 0 for i in range(40)], people)
    assert (apart.low, apart.high) == pytest.approx(_ends(rate_interval(10, 40))), "one of each person's four"
    none = clustered_rate(np.zeros(40), people)
    assert (none.low, none.high) == pytest.approx(_ends(rate_interval(0, 10))), "nothing is known of how alike they would be"
    assert math.isnan(clustered_rate([], []).value)


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_false_alarms_an_hour_are_counted_by_people() -> None:
    none = per_hour([0, 0], [0.5, 0.5], ["a", "b"])
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(-math.log(0.025)), "e^-x of none is 2.5 %"
    two = per_hour([1, 1], [0.5, 0.5], ["a", "b"])
    assert two.value == 2 and (two.low, two.high) == pytest.approx((0.2422, 7.2247), abs=1e-4), "Garwood's table"
    one = per_hour([1, 1], [0.5, 0.5], ["a", "a"])
    assert one.value == 2 and one.low < two.low and one.high > two.high
    assert math.isnan(per_hour([], [], []).value)


def test_a_rare_rate_is_asked_of_all_rows_and_not_of_a_draw() -> None:
    labels, scores = np.repeat([0, 1], 20), np.r_[np.arange(20), np.linspace(10, 30, 20)]
    found = tpr_interval(scores, labels, np.arange(40), 0.05)
    assert found.low < found.value < found.high, "half of all draws hold fewer than 20 reals"
    alike = tpr_interval(scores, labels, np.repeat(np.arange(20), 2), 0.05)
    assert alike.value == found.value and (alike.low, alike.high) != (found.low, found.high)


def test_a_difference_of_two_rankings_is_drawn_on_the_same_rows() -> None:
    rng, labels = np.random.default_rng(1), np.repeat([0, 1], 60)
    a = rng.normal(labels, 1)
    b = a + rng.normal(0, 0.1, 120)
    paired = auc_difference(a, b, labels, np.arange(120), resamples=300)
    alone = auc_interval(a, labels, np.arange(120), resamples=300)
    assert paired.value == pytest.approx(roc_auc(a, labels) - roc_auc(b, labels))
    assert paired.high - paired.low < (alone.high - alone.low) / 3
