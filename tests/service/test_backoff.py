"""How soon to connect again: drawn from a window that grows, and never all at once."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.backoff import LONGEST_S, OpenLimiter, full_jitter, window_s


def test_the_window_grows_from_one_second_to_thirty() -> None:
    assert [window_s(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert window_s(10**9) == LONGEST_S


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_in_its_window(attempt: int, drawn: float) -> None:
    assert 0 <= full_jitter(attempt, lambda: drawn) <= window_s(attempt) <= LONGEST_S


def test_waits_fill_the_window_evenly() -> None:
    draw = random.Random(1).random
    waits = [full_jitter(4, draw) for _ in range(4000)]
    assert sum(waits) / len(waits) == pytest.approx(4, abs=0.2)
    assert [sum(low <= wait < low + 2 for wait in waits) for low in (0, 2, 4, 6)] == pytest.approx([1000] * 4, rel=0.15)


@given(st.lists(st.floats(0, 0.5), min_size=2, max_size=40))
def test_connections_begin_no_faster_than_they_may(pauses: list[float]) -> None:
    at = 0.0
    limiter = OpenLimiter(per_s=4, now=lambda: at)
    begun = []
    for pause in pauses:
        at += pause
        begun.append(at + limiter.turn())
    assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in pairwise(begun))
    assert begun[0] == pauses[0]
