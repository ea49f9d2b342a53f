"""Attention: calm is looked at less, what stirs more, and over time no more is spent than is due."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pipelines.attention import CALM_SHARE, HELD_S, MOST_SHARE, SAVINGS_S, STIRRED, Attention
from pipelines.verdict import Score

MS = Fraction(1, 1000)
DUE = 12.0


def score(*, surprise: float | None = 1.0, logit: float | None = -3.0) -> Score:
    return Score(0, 0, MS, 0.1, (0, 0, 1, 1), logit, None if logit is None else 0.1, surprise)


def looks(attention: Attention, start: float, end: float, one: Score, due: float = DUE) -> int:
    t, n = start, 0
    while t < end:
        attention.saw(t, [one], due)
        n += 1
        t += 1 / attention.hz(due)
    return n


def test_a_calm_stream_saves_and_then_gets_its_due() -> None:
    attention = Attention(doubt_logit=0.0)
    assert looks(attention, 0, 10, score()) == pytest.approx(10 * DUE * CALM_SHARE, abs=2)
    looks(attention, 10, 60, score())
    assert attention.hz(DUE) == pytest.approx(DUE, rel=0.5) and looks(attention, 60, 70, score()) == pytest.approx(10 * DUE, rel=0.05)


@pytest.mark.parametrize("sign", [score(surprise=2 * STIRRED), score(logit=0.5), score(surprise=None, logit=0.5)])
def test_what_stirs_is_looked_at_more_often_while_savings_last(sign: Score) -> None:
    attention = Attention(doubt_logit=0.0)
    assert looks(attention, 0, 1, sign) <= DUE + 1, "nothing is saved yet"
    looks(attention, 1, 60, score())
    attention.saw(60, [sign], DUE)
    assert attention.hz(DUE) == MOST_SHARE * DUE
    lasts = SAVINGS_S / (MOST_SHARE - 1)
    burst = looks(attention, 60, 60 + 2 * lasts, sign)
    assert burst == pytest.approx(2 * lasts * DUE + SAVINGS_S * DUE, rel=0.05)
    attention.saw(200, [score()], DUE)
    looks(attention, 200, 200 + 2 * HELD_S, score())
    assert attention.hz(DUE) <= DUE


def test_over_time_no_more_is_spent_than_is_due() -> None:
    rng = np.random.default_rng(0)
    attention, t, n = Attention(doubt_logit=0.0), 0.0, 0
    while t < 600:
        attention.saw(t, [score(surprise=float(rng.choice([1.0, 9.0], p=[0.9, 0.1])))], DUE)
        n += 1
        t += 1 / attention.hz(DUE)
        assert n <= DUE * t + MOST_SHARE * DUE + 2
    assert n > 0.8 * 600 * DUE


def test_no_stream_is_looked_at_more_often_than_it_has_frames() -> None:
    attention = Attention(doubt_logit=0.0, native_hz=15.0)
    looks(attention, 0, 60, score())
    attention.saw(60, [score(logit=1.0)], DUE)
    assert attention.hz(DUE) == 15.0


def test_a_machine_that_is_behind_lowers_what_is_due_and_all_follows() -> None:
    attention = Attention(doubt_logit=0.0)
    looks(attention, 0, 60, score())
    attention.saw(60, [score(logit=1.0)], 4.0)
    assert attention.hz(4.0) == MOST_SHARE * 4.0
