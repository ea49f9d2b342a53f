"""Change: silent on a stationary stream whatever its level, sure of a rise, deaf to one odd look, and it does not learn what it accuses."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.change import MOST, SLACK, SURE, WARM_S, Change


def run(change: Change, start: float, seconds: float, level: float, *, hz: float = 12.0, sd: float = 1.0, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(level, sd, int(seconds * hz))
    return np.array([change.saw(start + i / hz, float(value)) for i, value in enumerate(values)])


@pytest.mark.parametrize("level", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("sd", [0.2, 3.0])
def test_what_is_as_before_gives_little_evidence_at_any_level(level: float, sd: float) -> None:
    evidence = run(Change(), 0, 600, level, sd=sd)
    assert np.mean(evidence > SURE) < 0.01 and evidence.max() < 3 * SURE


@pytest.mark.parametrize("hz", [4.0, 12.0, 30.0])
def test_a_rise_is_noticed_within_a_few_looks_and_stays_noticed(hz: float) -> None:
    change = Change()
    run(change, 0, 60, 0.0, hz=hz)
    evidence = run(change, 60, 120, 2.0, hz=hz, seed=1)
    first = int(np.argmax(evidence > SURE))
    assert 0 < first <= 20, "counted in looks, not in seconds"
    assert (evidence[first:] > SURE).all(), "what is accused is not learnt as the past"


def test_a_fall_is_no_rise() -> None:
    change = Change()
    run(change, 0, 60, 0.0)
    assert run(change, 60, 20, -4.0, seed=1)[-1] == 0.0


def test_one_odd_look_weighs_no_more_than_its_bound() -> None:
    change = Change()
    run(change, 0, 60, 0.0)
    before = change.evidence
    assert change.saw(60.0, 1e6) == pytest.approx(before + MOST - SLACK)


def test_nothing_is_said_before_a_past_is_learnt() -> None:
    change = Change()
    evidence = np.array([change.saw(i / 12, 10.0 * (i % 7)) for i in range(int(WARM_S * 12))])
    assert (evidence == 0).all()


def test_after_an_hour_without_a_look_the_new_level_is_soon_the_past() -> None:
    change = Change()
    run(change, 0, 60, 0.0, sd=0.5)
    run(change, 3660, 60, -3.0, sd=0.5, seed=1)
    assert run(change, 3720, 20, 0.0, sd=0.5, seed=2)[-1] > SURE, "what used to be usual is a rise now"
