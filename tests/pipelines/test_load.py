"""The controller: latency stays under the target, everybody is shed alike, newcomers are told when to come again. A fake clock."""

from __future__ import annotations

import pytest

from pipelines.errors import Overloaded
from pipelines.load import A_SECOND, AT_ONCE, LATENCY_BOUNDS_S, LoadController, LoadTargets


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def machine(controller: LoadController, clock: Clock, *, streams: int, looks_a_second: float, seconds: float) -> float:
    """A machine that can do so many looks a second: an M/D/1 queue's mean wait (Pollaczek and Khinchine) on top of the work itself,
    and frames that are missed beyond what it can do. Returns the last latency."""
    cost = 1 / looks_a_second
    for _ in range(round(seconds / 0.05)):
        clock.s += 0.05
        load = min(streams * controller.hz / looks_a_second, 2.0)
        took = cost + (cost * load / (2 * (1 - load)) if load < 0.98 else 0.5)
        for n in range(max(1, round(streams * controller.hz * 0.05))):
            if load > 1 and n % 4 == 0:
                controller.missed()
            else:
                controller.scored(took)
    return took


def test_a_machine_with_room_looks_at_everybody_at_the_full_rate() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    took = machine(controller, clock, streams=6, looks_a_second=150, seconds=20)
    assert controller.hz == 12.0 and controller.latency_s == pytest.approx(took)


def test_one_that_is_behind_looks_less_often_until_the_latency_holds() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    took = machine(controller, clock, streams=12, looks_a_second=100, seconds=20)
    assert 4.0 < controller.hz < 9.0
    assert took < controller.targets.latency_s
    machine(controller, clock, streams=2, looks_a_second=100, seconds=30)
    assert controller.hz == 12.0, "and as often as before when the others have gone"


def test_the_rate_has_a_floor_whatever_happens() -> None:
    clock = Clock()
    controller = LoadController(LoadTargets(low_hz=3.0), now=clock)
    machine(controller, clock, streams=100, looks_a_second=100, seconds=20)
    assert controller.hz == 3.0


def test_a_stream_that_only_misses_frames_is_behind_too() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    for _ in range(20):
        clock.s += 0.1
        controller.missed()
    assert controller.hz < 12.0 and controller.latency_s is None


def test_newcomers_are_turned_away_when_the_others_would_fall_below_the_floor() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    controller.admit(0)
    machine(controller, clock, streams=24, looks_a_second=100, seconds=20)
    assert controller.hz < 5.0
    with pytest.raises(
        Overloaded, match=r"24 streams are as many as this machine can judge\. Expected room for one more at 5 looks"
    ) as refused:
        controller.admit(24)
    assert refused.value.retry_after_s == 5.0
    machine(controller, clock, streams=2, looks_a_second=100, seconds=40)
    controller.admit(24)


def test_who_asks_again_and_again_finds_no_moment_at_which_the_rate_is_higher_than_it_can_be_held() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    let_in = 0
    for _ in range(1200):
        try:
            controller.admit(let_in)
            let_in += 1
        except Overloaded:
            pass
        took = machine(controller, clock, streams=let_in, looks_a_second=50, seconds=0.5)
    assert 6 <= let_in <= 10, "at most what gets five looks a second"
    assert took < controller.targets.latency_s and controller.hz >= 50 / 10 * 0.8


def test_when_all_have_gone_the_door_is_open_again() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    machine(controller, clock, streams=100, looks_a_second=100, seconds=20)
    clock.s += 60
    controller.admit(0)
    assert controller.hz == 12.0


def test_a_crowd_is_let_in_by_and_by() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    let_in, waits = 0, []
    for _ in range(100):
        try:
            controller.admit(let_in)
            let_in += 1
        except Overloaded as refused:
            assert refused.retry_after_s is not None
            waits.append(refused.retry_after_s)
    assert let_in == AT_ONCE and set(waits) == {1 / A_SECOND}
    clock.s += waits[0]
    controller.admit(let_in)
    clock.s += 3600
    for _ in range(AT_ONCE):
        controller.admit(let_in)


def test_what_it_was_told_is_counted_for_ever() -> None:
    clock = Clock()
    controller = LoadController(now=clock)
    for latency_s in (0.004, 0.1, 0.11, 60.0):
        clock.s += 10
        controller.scored(latency_s)
    controller.missed()
    controller.shed(7)
    counts = controller.counts
    assert dict(zip(LATENCY_BOUNDS_S, counts.within, strict=True)) == {
        0.01: 1,
        0.025: 1,
        0.05: 1,
        0.1: 2,
        0.2: 3,
        0.3: 3,
        0.5: 3,
        1.0: 3,
        2.5: 3,
        5.0: 3,
    }
    assert (counts.scored, counts.missed, counts.shed) == (4, 1, 7) and counts.latency_sum_s == pytest.approx(60.214)
