"""The epoch rule: places never go back, what is honest stays exact, and every repair shows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clock import Arrival, Kind, Mark, MediaClock, Place
from pipelines.errors import TimestampError

TICK = Fraction(1, 90_000)
FRAME = 3000


def _clock(*, wrap_bits: int | None = None, jumps: bool = False) -> MediaClock:
    clock = MediaClock()
    clock.join(TICK, wrap_bits=wrap_bits, jumps=jumps)
    return clock


def _places(clock: MediaClock, stamps: Sequence[int | None]) -> list[Place | None]:
    return [clock.place(stamp) for stamp in stamps]


def _kinds(places: list[Place | None]) -> list[Kind | None]:
    return [None if place is None else place.kind for place in places]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**34), 2**34)), max_size=60), st.sampled_from([None, 32, 33]), st.booleans())
def test_whatever_comes_places_never_go_back(stamps: list[int | None], bits: int | None, jumps: bool) -> None:
    clock = _clock(wrap_bits=bits, jumps=jumps)
    last: int | None = None
    for stamp in stamps:
        place = clock.place(stamp)
        assert place is None or place.kind == "duplicate" or place.pts - place.shift == stamp
        if place is not None:
            assert last is None or place.pts > last or (place.kind == "duplicate" and place.pts == last)
            last = place.pts


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60), st.integers(-(10**9), 10**9))
def test_a_timeline_that_only_goes_on_is_left_alone(steps: list[int], start: int) -> None:
    stamps = [start]
    for step in steps:
        stamps.append(stamps[-1] + step)
    clock = _clock(jumps=False)
    places = [clock.place(stamp) for stamp in stamps]
    assert [place.pts for place in places if place] == stamps
    assert {place.kind for place in places if place} <= {"next", "gap"}
    assert (clock.epoch, clock.wraps) == (0, 0)


@pytest.mark.parametrize("bits", [32, 33])
def test_a_wrap_is_bridged_exactly_however_often(bits: int) -> None:
    clock = _clock(wrap_bits=bits, jumps=True)
    true = [2**bits - 2 * FRAME + i * FRAME for i in range(6)]
    places = _places(clock, [stamp % 2**bits for stamp in true])
    assert [place.pts for place in places if place] == true
    assert set(_kinds(places)) == {"next"}
    assert clock.wraps == 1
    again = clock.place((true[-1] + 2 ** (bits - 2)) % 2**bits)
    assert again is not None and again.kind == "discontinuity", "hours later is another timeline, not the rest of a turn"


def test_no_stamp_no_place_and_the_same_stamp_the_same_place() -> None:
    clock = _clock()
    assert _kinds(_places(clock, [None, 0, FRAME, FRAME, None, 2 * FRAME])) == [None, "next", "next", "duplicate", None, "next"]


def test_one_late_picture_has_no_place_and_changes_nothing() -> None:
    clock = _clock()
    places = _places(clock, [0, FRAME, 2 * FRAME, FRAME + 1, 3 * FRAME])
    assert _kinds(places) == ["next", "next", "next", None, "next"]
    assert places[-1] is not None and places[-1].pts == 3 * FRAME
    assert clock.epoch == 0


def test_two_late_pictures_that_go_on_are_a_new_epoch_one_usual_step_later() -> None:
    clock = _clock()
    places = _places(clock, [900_000 + i * FRAME for i in range(20)] + [0, FRAME, 2 * FRAME])
    assert _kinds(places)[-3:] == [None, "discontinuity", "next"]
    before, first, second = places[19], places[21], places[22]
    assert before is not None and first is not None and second is not None
    assert first.pts - before.pts == FRAME
    assert second.pts - first.pts == FRAME
    assert (first.epoch, first.shift) == (1, first.pts - FRAME)


def test_ever_older_stamps_stay_late() -> None:
    clock = _clock()
    assert _kinds(_places(clock, [9 * FRAME, 8 * FRAME, 7 * FRAME, 6 * FRAME])) == ["next", None, None, None]


def test_a_long_pause_is_real_where_there_is_one_timeline_and_a_break_where_there_may_be_several() -> None:
    stamps: list[int | None] = [i * FRAME for i in range(20)]
    ahead = 19 * FRAME + 11 * 90_000
    one, several = _places(_clock(), [*stamps, ahead])[-1], _places(_clock(jumps=True), [*stamps, ahead])[-1]
    assert one is not None and several is not None
    assert (one.kind, one.pts) == ("gap", ahead)
    assert (several.kind, several.pts) == ("discontinuity", 20 * FRAME)
    within = _places(_clock(jumps=True), [*stamps, 19 * FRAME + 10 * 90_000])[-1]
    assert within is not None and (within.kind, within.shift) == ("gap", 0)


def test_a_slow_rhythm_is_no_row_of_gaps() -> None:
    seconds = [i * 2 * 90_000 for i in range(10)]
    assert _kinds(_places(_clock(), seconds))[2:] == ["next"] * 8


@pytest.mark.parametrize(("step", "missing"), [(FRAME, 0), (2 * FRAME, 1), (int(1.4 * FRAME), 0), (31 * FRAME + 2, 30)])
def test_a_steady_stream_owes_an_explanation_for_what_it_leaves_out(step: int, missing: int) -> None:
    clock = _clock()
    _places(clock, [i * FRAME + i % 2 for i in range(40)])
    place = clock.place(39 * FRAME + 1 + step)
    assert place is not None and place.missing == missing


def test_a_restless_stream_owes_nothing() -> None:
    clock = _clock()
    stamp = 0
    for i in range(40):
        stamp += FRAME * (1 + i % 3)
        clock.place(stamp)
    place = clock.place(stamp + 5 * FRAME)
    assert place is not None and not place.missing


def _session(clock: MediaClock, start_s: float, utc_zero_s: float | None, *, frames: int = 5) -> list[Place]:
    clock.join(TICK, wrap_bits=32, jumps=True)
    found = [clock.place(i * FRAME, Arrival(start_s + i / 30, utc_zero_s)) for i in range(frames)]
    return [place for place in found if place is not None]


def test_an_outage_is_a_real_distance_by_arrival() -> None:
    clock = MediaClock()
    before = _session(clock, 100.0, None)[-1]
    after = _session(clock, 107.0, None)
    assert (after[0].kind, after[0].epoch) == ("bridged_arrival", 1)
    assert float((after[0].pts - before.pts) * TICK) == pytest.approx(7.0 - 4 / 30, abs=1e-4)
    assert [place.kind for place in after[1:]] == ["next"] * 4


def test_an_outage_is_told_by_the_senders_clock_where_both_sessions_know_it() -> None:
    clock = MediaClock()
    before = _session(clock, 100.0, 5000.0)[-1]
    after = _session(clock, 109.0, 5008.0)[0]
    assert after.kind == "bridged_utc"
    assert float((after.pts - before.pts) * TICK) == pytest.approx(8.0 - 4 / 30, abs=1e-4)


def test_a_senders_clock_that_was_set_back_is_not_believed() -> None:
    clock = MediaClock()
    _session(clock, 100.0, 5000.0)
    assert _session(clock, 109.0, 4000.0)[0].kind == "bridged_arrival"


@pytest.mark.parametrize("late_s", [3600.0, 25.8 * 365 * 86400])
def test_a_senders_clock_that_was_set_forward_is_not_believed_either(late_s: float) -> None:
    clock = MediaClock()
    before = _session(clock, 100.0, 5000.0)[-1]
    after = _session(clock, 109.0, 5009.0 + late_s)[0]
    assert after.kind == "bridged_arrival"
    assert float((after.pts - before.pts) * TICK) == pytest.approx(9.0 - 4 / 30, abs=1e-4)


@pytest.mark.parametrize(("arrives_s", "kind"), [(12.0, "gap"), (13.5, "gap"), (0.03, "discontinuity"), (40.0, "discontinuity")])
def test_a_camera_that_froze_was_silent_for_as_long_as_its_stamps_say(arrives_s: float, kind: Kind) -> None:
    clock = MediaClock()
    before = _session(clock, 100.0, None)[-1]
    place = clock.place(4 * FRAME + 12 * 90_000, Arrival(100.0 + 4 / 30 + arrives_s, None))
    assert place is not None and place.kind == kind
    assert (place.pts - before.pts == 12 * 90_000) == (kind == "gap")


def test_a_file_after_a_file_is_a_break_of_unknown_length() -> None:
    clock = _clock()
    _places(clock, [0, FRAME, 2 * FRAME])
    clock.join(TICK, wrap_bits=None, jumps=False)
    place = clock.place(0)
    assert place is not None and (place.kind, place.pts) == ("discontinuity", 3 * FRAME)


def test_another_time_base_is_refused() -> None:
    clock = _clock()
    with pytest.raises(TimestampError, match="another time base"):
        clock.join(Fraction(1, 1000), wrap_bits=None, jumps=False)


@given(st.floats(0, 1e6), st.floats(0.1, 1e5), st.one_of(st.none(), st.just(1.7e9)), st.integers(0, 2**31))
def test_a_clock_elsewhere_goes_on_from_a_mark_as_this_one_would(began_s: float, outage_s: float, utc: float | None, stamp: int) -> None:
    """A decode child ends with its session; the next gets the mark of its last picture."""
    here = _clock(wrap_bits=32, jumps=True)
    place = None
    for n in range(20):
        place = here.place(stamp + FRAME * n, Arrival(began_s + n / 30, utc))
    assert place is not None
    there = MediaClock(Mark(place.pts, place.shift, place.epoch, TICK, Arrival(began_s + 19 / 30, utc)))
    back = Arrival(began_s + 19 / 30 + outage_s, None if utc is None else utc + outage_s + stamp * float(TICK))
    places = []
    for clock in (here, there):
        clock.join(TICK, wrap_bits=32, jumps=True)
        places.append([clock.place(FRAME * n, back) for n in range(1, 4)])
    assert places[0] == places[1]
    first = places[0][0]
    assert first is not None and first.epoch == 1 and first.pts > place.pts


def test_a_mark_of_another_time_base_is_refused() -> None:
    clock = MediaClock(Mark(5, 0, 0, Fraction(1, 1000), None))
    with pytest.raises(TimestampError, match="another time base"):
        clock.join(TICK, wrap_bits=None, jumps=False)
