"""A clock that runs false is noticed within a minute or so; bursts, jitter and short streams are not mistaken for one."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.skew import Skew


def _skew(rate: float, *, seconds: float = 90.0, fps: float = 25.0, jitter_s: float = 0.2, burst: int = 30) -> Skew:
    rng = np.random.default_rng(1)
    skew, now = Skew(), 100.0
    for i in range(round(seconds * fps)):
        if i >= burst:
            now += 1 / fps
        skew.saw(now + float(rng.uniform(0, jitter_s)), rate * i / fps)
    return skew


@pytest.mark.parametrize("rate", [21 / 25, 25 / 21, 1.03])
def test_a_false_clock_is_noticed(rate: float) -> None:
    assert _skew(rate).rate == pytest.approx(rate, rel=0.005)


@pytest.mark.parametrize("rate", [1.0, 1.001, 0.99])
def test_a_true_one_is_not_accused_whatever_the_network_does(rate: float) -> None:
    assert _skew(rate, jitter_s=0.5).rate is None


def test_a_minute_is_needed() -> None:
    assert _skew(0.5, seconds=40).rate is None


def test_after_a_break_it_begins_anew() -> None:
    skew = _skew(0.5)
    skew.restart()
    assert skew.rate is None
