"""Attention: calm is looked at less, what stirs more, and over time no more is spent than is due."""

from __future__ import annotations

from fractions import Fraction
from itertools import cycle

import numpy as np
import pytest

from pipelines.attention import CALM_SHARE, HELD_S, LEFT_S, MOST_SHARE, SAVINGS_S, Attention
from pipelines.verdict import Score

MS = Fraction(1, 1000)
DUE = 12.0


# What a calm face shows, over and over; its standard deviation is about 1.
CALM = cycle((-1.0, 0.0, 1.0, 0.0, -1.5, 1.5))


def score(artefact: float | None, track: int = 0) -> Score:
    return Score(track, 0, MS, 0.1, (0, 0, 1, 1), artefact, 0.1, 1.0, artefact=artefact)


def looks(attention: Attention, start: float, end: float, due: float = DUE, *, rise: float = 0.0) -> int:
    t, n = start, 0
    while t < end:
        attention.saw(t, [score(next(CALM) + rise)], due)
        n += 1
        t += 1 / attention.hz(due)
    return n


def test_a_calm_stream_saves_and_then_gets_its_due() -> None:
    attention = Attention()
    assert looks(attention, 0, 10) == pytest.approx(10 * DUE * CALM_SHARE, abs=2)
    looks(attention, 10, 60)
    assert attention.hz(DUE) == pytest.approx(DUE, rel=0.5) and looks(attention, 60, 70) == pytest.approx(10 * DUE, rel=0.05)


def test_what_rises_above_its_own_past_is_looked_at_more_often_while_savings_last() -> None:
    attention = Attention()
    looks(attention, 0, 60)
    noticed = 2.0
    looks(attention, 60, 60 + noticed, rise=4.0)
    assert attention.hz(DUE) == MOST_SHARE * DUE
    lasts = SAVINGS_S / (MOST_SHARE - 1)
    burst = looks(attention, 60 + noticed, 60 + 2 * lasts, rise=4.0)
    assert burst == pytest.approx((2 * lasts - noticed) * DUE + SAVINGS_S * DUE, rel=0.1), "its due, and all that was saved"
    looks(attention, 200, 260)
    looks(attention, 260, 260 + 2 * HELD_S)
    assert attention.hz(DUE) <= DUE, "calm again"


def test_nothing_is_spent_that_was_not_saved() -> None:
    attention = Attention()
    looks(attention, 0, 6)
    looks(attention, 6, 100, rise=4.0)
    assert looks(attention, 100, 110, rise=4.0) <= 10 * DUE + 1


def test_each_face_has_a_past_of_its_own_and_a_face_long_gone_none() -> None:
    attention = Attention()
    for i in range(360):
        attention.saw(i / 6, [score(next(CALM), 0), score(next(CALM) + 6.0, 1)], DUE)
    assert attention.hz(DUE) <= DUE, "a face that is always high is calm"
    for i in range(24):
        attention.saw(60 + i / 12, [score(next(CALM) + 6.0, 0), score(next(CALM) + 6.0, 1)], DUE)
    assert attention.hz(DUE) == MOST_SHARE * DUE
    back = 62 + LEFT_S + 1
    attention.saw(back, [], DUE)
    looks(attention, back + 1, back + 3, rise=6.0)
    assert attention.hz(DUE) <= DUE, "nobody remembers what it was like"


def test_a_face_that_could_not_be_judged_says_nothing() -> None:
    attention = Attention()
    looks(attention, 0, 60)
    for i in range(100):
        attention.saw(60 + i / 12, [score(None)], DUE)
    assert attention.hz(DUE) <= DUE


def test_over_time_no_more_is_spent_than_is_due() -> None:
    rng = np.random.default_rng(0)
    attention, t, n = Attention(), 0.0, 0
    while t < 600:
        attention.saw(t, [score(float(rng.standard_t(2)) + 5 * (int(t / 30) % 2))], DUE)
        n += 1
        t += 1 / attention.hz(DUE)
        assert n <= DUE * t + MOST_SHARE * DUE + 2
    assert n > 0.7 * 600 * DUE


def test_no_stream_is_looked_at_more_often_than_it_has_frames() -> None:
    attention = Attention(native_hz=15.0)
    looks(attention, 0, 60)
    looks(attention, 60, 62, rise=4.0)
    assert attention.hz(DUE) == 15.0


def test_a_machine_that_is_behind_lowers_what_is_due_and_all_follows() -> None:
    attention = Attention()
    looks(attention, 0, 60)
    looks(attention, 60, 62, 4.0, rise=4.0)
    assert attention.hz(4.0) == MOST_SHARE * 4.0
