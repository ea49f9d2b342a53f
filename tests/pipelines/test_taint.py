"""Damage taints what is decoded after it, up to the next key picture and no further."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.taint import Taint


def _flags(taint: Taint, pictures: list[tuple[int, bool, bool]]) -> list[str | None]:
    return [taint.of(order, order, key=key, corrupt=corrupt, missing=False) for order, key, corrupt in pictures]


def test_a_mended_picture_taints_the_rest_of_its_group() -> None:
    pictures = [(0, True, False), (1, False, True), (2, False, False), (3, True, False), (4, False, False)]
    assert _flags(Taint(), pictures) == [None, "corrupt", "tainted", None, None]


def test_a_mended_key_picture_taints_what_follows_it() -> None:
    assert _flags(Taint(), [(0, True, True), (1, False, False)]) == ["corrupt", "tainted"]


def test_a_hole_is_told_of_before_the_pictures_of_earlier_packets_come_out() -> None:
    """A decoder holds pictures back: the key picture that comes out now was decoded before the hole and does not close it."""
    taint = Taint()
    taint.hole(3)
    assert _flags(taint, [(1, True, False), (2, False, False), (4, False, False), (5, True, False)]) == [None, None, "tainted", None]


def test_the_next_key_picture_closes_a_hole_and_the_key_picture_that_is_one_does_not() -> None:
    closed, open_ = Taint(), Taint()
    closed.hole(3)
    open_.hole(3)
    assert _flags(closed, [(4, True, False), (5, False, False)]) == [None, None]
    assert _flags(open_, [(3, True, False), (4, False, False)]) == ["tainted", "tainted"]


def test_a_missing_picture_taints_unless_a_key_picture_follows() -> None:
    assert Taint().of(2, 2, key=False, corrupt=False, missing=True) == "tainted"
    assert Taint().of(2, 2, key=True, corrupt=False, missing=True) is None


def test_what_is_shown_before_a_key_picture_is_built_on_the_group_before_it_too() -> None:
    taint = Taint()
    taint.hole(3)
    assert taint.of(4, 40, key=True, corrupt=False, missing=False) is None
    assert [taint.of(5, 38, key=False, corrupt=False, missing=False), taint.of(6, 39, key=False, corrupt=False, missing=False)] == [
        "tainted"
    ] * 2
    assert taint.of(7, 41, key=False, corrupt=False, missing=False) is None


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=40))
def test_nothing_whole_is_flagged_and_nothing_else_is_not(pictures: list[tuple[bool, bool, bool]]) -> None:
    taint, whole = Taint(), True
    for order, (key, corrupt, fails) in enumerate(pictures):
        if fails:
            taint.hole(order)
        flag = taint.of(order, order, key=key, corrupt=corrupt, missing=False)
        whole = (whole or key) and not corrupt and not fails
        assert (flag is None) == whole
