"""Damage taints what is built on it, up to the next key picture and no further."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.taint import Taint


def _flags(taint: Taint, pictures: list[tuple[int, bool, bool]]) -> list[str | None]:
    return [taint.of(stamp, key=key, corrupt=corrupt, missing=False) for stamp, key, corrupt in pictures]


def test_a_mended_picture_taints_its_group() -> None:
    pictures = [(0, True, False), (1, False, True), (2, False, False), (3, True, False), (4, False, False)]
    assert _flags(Taint(), pictures) == [None, "corrupt", "tainted", None, None]


def test_a_mended_key_picture_taints_what_follows_it() -> None:
    assert _flags(Taint(), [(0, True, True), (1, False, False)]) == ["corrupt", "tainted"]


def test_a_failed_packet_taints_from_its_own_stamp_on() -> None:
    """Pictures come out later than their packets go in: those shown before the hole are whole."""
    taint = Taint()
    assert _flags(taint, [(0, True, False)]) == [None]
    taint.packet_failed(3)
    assert _flags(taint, [(1, False, False), (2, False, False), (4, False, False), (5, True, False)]) == [None, None, "tainted", None]


def test_the_next_key_picture_heals_a_failed_packet_and_the_failed_key_picture_does_not() -> None:
    healed, broken = Taint(), Taint()
    healed.packet_failed(3)
    broken.packet_failed(3)
    assert _flags(healed, [(4, True, False), (5, False, False)]) == [None, None]
    assert _flags(broken, [(3, True, False), (4, False, False)]) == ["tainted", "tainted"]


def test_a_missing_picture_taints_unless_a_key_picture_follows() -> None:
    assert Taint().of(2, key=False, corrupt=False, missing=True) == "tainted"
    assert Taint().of(2, key=True, corrupt=False, missing=True) is None


def test_a_failed_packet_without_a_stamp_taints_at_once() -> None:
    taint = Taint()
    _flags(taint, [(0, True, False)])
    taint.packet_failed(None)
    assert _flags(taint, [(1, False, False)]) == ["tainted"]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=40))
def test_a_whole_group_without_damage_is_never_flagged(pictures: list[tuple[bool, bool, bool]]) -> None:
    taint, whole = Taint(), True
    for stamp, (key, corrupt, fails) in enumerate(pictures):
        if fails:
            taint.packet_failed(stamp)
        flag = taint.of(stamp, key=key, corrupt=corrupt, missing=False)
        whole = (whole or key) and not corrupt and not fails
        assert (flag is None) == whole
