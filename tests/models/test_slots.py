"""TemporalSlots on a processor: whoever steps together, every stream gets what it would get alone, and leaves nothing behind."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from models.slots import RepeatedSlot, SlotsFull, TemporalSlots, UnknownSlot
from models.temporal import TemporalHead, TemporalOutput, TemporalState
from tests.golden.renew import liven
from tests.models.test_temporal import all_same_bits

E, D = 12, 6
STREAMS = 5


@cache
def make_head(cell: str = "liquid") -> TemporalHead:
    torch.manual_seed(0)
    head = TemporalHead(E, D, cell)
    liven(head, 1)
    return head


def faces(n: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn((n, E), generator=torch.Generator().manual_seed(seed)), dim=-1)


def pick(outputs: TemporalOutput, i: int) -> TemporalOutput:
    return TemporalOutput(*(part[i : i + 1] for part in outputs))


def state_of(slots: TemporalSlots, slot: int) -> TemporalState:
    return slots.state.gather(torch.tensor([slot]))


@st.composite
def ticks(draw: st.DrawFn) -> list[list[int]]:
    """Which streams arrive together, tick after tick, and in what order."""
    return draw(
        st.lists(st.permutations(range(STREAMS)).flatmap(lambda order: st.integers(0, STREAMS).map(lambda n: order[:n])), max_size=8)
    )


@pytest.mark.parametrize("cell", ["liquid", "resonator", "ltc", "cfc"])
@settings(max_examples=25, deadline=None)
@given(arrivals=ticks(), seed=st.integers(0, 2**31 - 1))
def test_every_stream_gets_what_it_would_get_alone(arrivals: list[list[int]], seed: int, cell: str) -> None:
    head = make_head(cell)
    slots = TemporalSlots(head, STREAMS + 2)
    mine = [slots.acquire() for _ in range(STREAMS)]
    alone = [head.init(1) for _ in range(STREAMS)]
    generator = torch.Generator().manual_seed(seed)
    for tick, streams in enumerate(arrivals):
        x = faces(len(streams), seed + tick)
        dt = 0.3 * torch.rand((len(streams), 1), generator=generator)
        dt[dt < 0.05] = 0.0
        mask = torch.rand(len(streams), generator=generator) > 0.2
        if len(streams) > 2:
            x[0, 3] = math.nan
        outputs = slots.step(x, [mine[stream] for stream in streams], dt, mask)
        for i, stream in enumerate(streams):
            with torch.no_grad():
                expected, alone[stream] = head.step(x[i : i + 1], alone[stream], dt[i : i + 1], mask[i : i + 1])
            assert all_same_bits(pick(outputs, i), expected)
        for stream in range(STREAMS):
            assert all_same_bits(state_of(slots, mine[stream]), alone[stream])


def test_a_released_slot_tells_its_next_owner_nothing() -> None:
    head = make_head()
    slots = TemporalSlots(head, 1)
    slot = slots.acquire()
    slots.step(faces(1), [slot], torch.full((1, 1), math.inf))
    assert bool(slots.state.started[slot])
    slots.release(slot)
    assert all_same_bits(slots.state, head.init(1))
    heir = slots.acquire()
    outputs = slots.step(faces(1, 1), [heir], torch.full((1, 1), 0.1))
    with torch.no_grad():
        fresh, _ = head.step(faces(1, 1), head.init(1), torch.full((1, 1), math.inf))
    assert all_same_bits(outputs, fresh)


def test_slots_are_given_out_once() -> None:
    slots = TemporalSlots(make_head(), 3)
    taken = {slots.acquire() for _ in range(3)}
    assert taken == {0, 1, 2}
    assert len(slots) == 3
    with pytest.raises(SlotsFull, match="acquire: expected one of 3 slots to be free, got none"):
        slots.acquire()
    slots.release(1)
    assert len(slots) == 2
    assert slots.acquire() == 1


def test_slots_nobody_owns_are_refused() -> None:
    slots = TemporalSlots(make_head(), 3)
    slot = slots.acquire()
    gone = slots.acquire()
    slots.release(gone)
    for stranger in (gone, 2, 3, -1):
        with pytest.raises(UnknownSlot, match=rf"release: expected a slot that is in use, got {stranger}"):
            slots.release(stranger)
        with pytest.raises(UnknownSlot, match=rf"step: expected slots that are in use, got {stranger}"):
            slots.step(faces(2), [slot, stranger], torch.zeros(2, 1))


def test_a_slot_comes_once_in_a_step() -> None:
    slots = TemporalSlots(make_head(), 3)
    mine = [slots.acquire() for _ in range(3)]
    with pytest.raises(RepeatedSlot, match="step: expected every slot once, got 2 twice"):
        slots.step(faces(4), [mine[2], mine[0], mine[1], mine[2]], torch.zeros(4, 1))


@pytest.mark.parametrize(("dt", "said"), [(-0.5, "got -0.5"), (math.nan, "got NaN")])
def test_a_step_that_is_refused_changes_no_state(dt: float, said: str) -> None:
    slots = TemporalSlots(make_head(), 3)
    mine = [slots.acquire() for _ in range(3)]
    slots.step(faces(3), mine, torch.full((3, 1), math.inf))
    before = TemporalState(*(part.clone() for part in slots.state))
    seconds = torch.full((3, 1), 0.1)
    seconds[2] = dt
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        slots.step(faces(3, 1), mine, seconds)
    with pytest.raises(ValueError, match=r"x: expected shape \(N, E\), one row for each slot, = \(3, 12\), got \(2, 12\)"):
        slots.step(faces(2, 1), mine, seconds)
    assert all_same_bits(slots.state, before)


def test_nobody_is_a_step_too() -> None:
    slots = TemporalSlots(make_head(), 3)
    assert slots.step(faces(0), [], torch.zeros(0, 1)).logit.shape == (0,)


def test_it_works_inside_inference_mode_and_out_of_it() -> None:
    with torch.inference_mode():
        slots = TemporalSlots(make_head(), 2)
        slot = slots.acquire()
        slots.step(faces(1), [slot], torch.full((1, 1), math.inf))
    first = slots.state.h.clone()
    outputs = slots.step(faces(1, 1), torch.tensor([slot]), torch.full((1, 1), 0.1))
    assert not outputs.logit.requires_grad
    assert not torch.equal(slots.state.h, first)
    slots.release(slot)


def test_there_is_room_for_somebody() -> None:
    with pytest.raises(ValueError, match="expected a capacity of at least 1, got 0"):
        TemporalSlots(make_head(), 0)


@pytest.mark.parametrize("given", [[0.0], [0.9], [True], [[0]], torch.tensor([[0]]), torch.tensor([0.0])])
def test_a_slot_is_a_whole_number(given: list[int] | Tensor) -> None:
    slots = TemporalSlots(make_head(), 2)
    slots.acquire()
    with pytest.raises(UnknownSlot, match="expected a row of whole numbers, got"):
        slots.step(faces(1), given, torch.zeros(1, 1))
    with pytest.raises(UnknownSlot, match="expected a slot that is in use, got"):
        slots.release(0.5)  # type: ignore[arg-type]


def test_a_slot_that_was_read_goes_on_in_another_slab_to_the_last_bit() -> None:
    here, there = TemporalSlots(make_head(), 3), TemporalSlots(make_head(), 3)
    slot, other = here.acquire(), there.acquire()
    there.release(other)
    other = there.acquire()
    here.step(faces(1), [slot], torch.full((1, 1), math.inf))
    there.write(other, here.read(slot))
    for seed in (1, 2):
        outputs = [one.step(faces(1, seed), [mine], torch.full((1, 1), 0.1)) for one, mine in ((here, slot), (there, other))]
        assert all_same_bits(*outputs)
    assert all_same_bits(here.read(slot), there.read(other))


def test_a_state_of_another_head_is_not_written() -> None:
    slots = TemporalSlots(make_head(), 2)
    slot = slots.acquire()
    before = slots.read(slot)
    other = TemporalSlots(TemporalHead(E, D + 1), 1)
    with pytest.raises(ValueError, match=r"write: expected h to be torch.float32 of shape \(1, 6\), got torch.float32 of \(1, 7\)"):
        slots.write(slot, other.read(other.acquire()))
    assert all_same_bits(slots.read(slot), before)
    with pytest.raises(UnknownSlot):
        slots.read(slot + 1)
