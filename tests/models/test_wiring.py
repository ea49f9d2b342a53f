"""The promises of NCPWiring: layers, fans, determinism, and a faithful take-over from ncps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ncps.wirings import AutoNCP

from models.wiring import FanIn, NCPWiring, Synapses


def build(seed: int = 0, **changed: int) -> NCPWiring:
    sizes = {"inter": 7, "command": 5, "motor": 3, "sensory_fan_out": 2, "inter_fan_out": 3, "command_recurrent": 6, "motor_fan_in": 2}
    return NCPWiring.build(changed.pop("inputs", 6), **(sizes | changed), seed=seed)


def pairs(synapses: Synapses) -> list[tuple[int, int]]:
    return list(zip(synapses.pre, synapses.post, strict=True))


@settings(max_examples=40)
@given(
    inputs=st.integers(1, 9), inter=st.integers(1, 9), command=st.integers(1, 9), motor=st.integers(1, 9), seed=st.integers(0, 2**31 - 1)
)
def test_signals_run_from_sensors_to_motors_and_nobody_is_left_out(inputs: int, inter: int, command: int, motor: int, seed: int) -> None:
    wiring = build(
        seed, inputs=inputs, inter=inter, command=command, motor=motor, sensory_fan_out=1, inter_fan_out=1, motor_fan_in=min(2, command)
    )
    commands, inters = range(motor, motor + command), range(motor + command, motor + command + inter)
    assert wiring.units == motor + command + inter
    assert {post for _, post in pairs(wiring.sensory)} == set(inters)
    assert {pre for pre, _ in pairs(wiring.sensory)} == set(range(inputs))
    for pre, post in pairs(wiring.recurrent):
        assert (pre in inters and post in commands) or (pre in commands and post in commands) or (pre in commands and post < motor)
    heard = {post for _, post in pairs(wiring.recurrent)}
    assert heard == set(commands) | set(range(motor))
    for post in range(motor):
        assert len([1 for _, p in pairs(wiring.recurrent) if p == post]) >= min(2, command)
    for synapses in (wiring.sensory, wiring.recurrent):
        assert pairs(synapses) == sorted(set(pairs(synapses)), key=lambda pair: (pair[1], pair[0]))
        assert set(synapses.polarity) <= {-1, 1}


def test_a_seed_says_everything() -> None:
    assert build(3) == build(3)
    assert hash(build(3)) == hash(build(3))
    assert build(3) != build(4)


def test_dense_is_every_pair_and_a_third_inhibits() -> None:
    wiring = NCPWiring.dense(30, 20)
    assert (len(wiring.sensory), len(wiring.recurrent), wiring.motor) == (600, 400, 20)
    assert sum(p < 0 for p in wiring.sensory.polarity) == pytest.approx(200, abs=40)


def test_a_wiring_of_ncps_is_taken_over_as_it_is() -> None:
    theirs = AutoNCP(20, 4, sparsity_level=0.6, seed=5)
    theirs.build(9)
    ours = NCPWiring.from_dense(theirs.adjacency_matrix, theirs.sensory_adjacency_matrix, motor=theirs.output_dim)
    assert torch.equal(ours.recurrent.dense(20, 20), torch.tensor(theirs.adjacency_matrix).float())
    assert torch.equal(ours.sensory.dense(9, 20), torch.tensor(theirs.sensory_adjacency_matrix).float())
    assert (ours.inputs, ours.units, ours.motor) == (9, 20, 4)
    assert len(ours.recurrent) == theirs.synapse_count


def test_fan_in_holds_every_synapse_once() -> None:
    wiring = build()
    for synapses, sources in ((wiring.sensory, wiring.inputs), (wiring.recurrent, wiring.units)):
        fan = FanIn.of(synapses)
        dense = torch.zeros(sources, wiring.units)
        for slot in range(fan.pre.shape[0]):
            for column in range(fan.pre.shape[1]):
                dense[fan.pre[slot, column], fan.first + column] += fan.polarity[slot, column]
        assert torch.equal(dense, synapses.dense(sources, wiring.units))
    assert FanIn.of(wiring.sensory).first == 8  # inter neurons only
    assert FanIn.of(Synapses((), (), ())).polarity.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"motor": 0}, "expected at least 1 neuron in motor, got 0"),
        ({"inputs": 0}, "expected at least 1 neuron in inputs, got 0"),
        ({"sensory_fan_out": 8}, "expected sensory_fan_out in 1..7, the neurons it can reach, got 8"),
        ({"inter_fan_out": 0}, "expected inter_fan_out in 1..5, .* got 0"),
        ({"motor_fan_in": 6}, "expected motor_fan_in in 1..5, .* got 6"),
    ],
)
def test_impossible_sizes_are_named(changed: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(**changed)


def test_impossible_matrices_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected adjacency .* got \(2, 2\) and \(1, 3\)"):
        NCPWiring.from_dense([[0, 1], [1, 0]], [[1, 1, 1]])
    with pytest.raises(ValueError, match=r"expected polarities -1, 0 or \+1, got \[2\]"):
        NCPWiring.from_dense([[0, 2], [1, 0]], [[1, 1]])
