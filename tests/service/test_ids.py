"""Identifiers: they sort by creation and are UUIDs of version 7."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from service.ids import new_id

MOMENTS = st.integers(0, 2**48 * 1_000_000 - 1)
TICK_NS = 1_000_000 / 4096


@given(MOMENTS, MOMENTS)
def test_ids_sort_by_the_clock(a: int, b: int) -> None:
    first, second = sorted((a, b))
    if second - first > TICK_NS:
        assert new_id(first) < new_id(second)


@given(MOMENTS)
def test_an_id_is_a_version_7_uuid_of_its_millisecond(moment: int) -> None:
    made = UUID(new_id(moment))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == moment // 1_000_000


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id(1) for _ in range(100)}) == 100
