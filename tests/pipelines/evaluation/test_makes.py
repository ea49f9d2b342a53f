"""The mean over makes gives each make one voice, and its difference to a control is drawn on the same people."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.evaluation.makes import Makes


def _makes() -> tuple[Makes, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Ten people, each with a real, four of make A told by chance and one of make B always told."""
    rows = [(0, "real", f"p{i}", float(i % 5)) for i in range(10)]
    rows += [(1, "A", f"p{i}", float((i + k) % 5)) for i in range(10) for k in range(4)]
    rows += [(1, "B", f"p{i}", 9.0) for i in range(10)]
    label, method, group, score = zip(*rows, strict=True)
    return Makes(np.array(label), np.array(method), np.array(group)), np.array(score)


def test_a_make_with_few_fakes_counts_as_much_as_one_with_many() -> None:
    makes, score = _makes()
    assert makes.names == ["A", "B"]
    found = makes.macro(score, resamples=200)
    assert found.value == pytest.approx((0.5 + 1) / 2)
    assert found.low < found.value < found.high


def test_a_score_less_itself_is_nothing_in_every_draw() -> None:
    makes, score = _makes()
    same = makes.macro(score, less=score, resamples=50)
    assert (same.value, same.low, same.high) == (0, 0, 0), "drawn apart, the difference would have a spread"
    assert makes.macro(score, less=-score, resamples=50).value == pytest.approx(2 * makes.macro(score, resamples=2).value - 1)


def test_without_reals_of_their_scenes_there_is_no_mean() -> None:
    makes = Makes(np.array([0, 1]), np.array(["real", "A"]), np.array(["a", "b"]))
    assert math.isnan(makes.macro(np.array([0.0, 1.0]), own_scene=True, resamples=5).value)
    assert makes.macro(np.array([0.0, 1.0]), resamples=5).value == 1.0
