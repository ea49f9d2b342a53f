"""The compiled step beside `TemporalHead.step`: what torch says within 1e-5, with the same contracts to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.compiled import OPSET
from models.compiled_step import INPUTS, OUTPUTS, CannotCompile, CompiledStep, step_bytes
from models.temporal import TemporalHead, TemporalOutput, TemporalState
from pipelines.model import load_model
from tests.golden.renew import liven
from tests.models.contracts import same_bits

SECONDS = (0.0, 1e-6, 1e-3, 1 / 60, 1 / 30, 0.5, 2.0, 59.0, 3600.0, 1e4, math.inf)


@pytest.fixture
def head() -> TemporalHead:
    return pair(True)[0]


@pytest.fixture
def step() -> CompiledStep:
    return pair(True)[1]


def faces(n: int, inputs: int = 128, seed: int = 0) -> Tensor:
    return torch.randn((n, inputs), generator=torch.Generator().manual_seed(seed))


def begun(step: CompiledStep, n: int) -> TemporalState:
    return step(faces(n, seed=99), step.head.init(n), torch.full((n, 1), math.inf))[1]


def all_same_bits(a: Iterable[Tensor], b: Iterable[Tensor]) -> bool:
    return all(same_bits(x, y) for x, y in zip(a, b, strict=True))


def assert_close(came: TemporalOutput | TemporalState, expected: TemporalOutput | TemporalState) -> None:
    for name, mine, theirs in zip(type(came)._fields, came, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5, msg=f"{name}: {theirs} became {mine}")


@cache
def pair(shipped: bool) -> tuple[TemporalHead, CompiledStep]:
    """The shipped head, or a small one with random weights everywhere; and its compiled step."""
    if shipped:
        head = load_model().temporal
    else:
        torch.manual_seed(3)
        head = TemporalHead(12, 6)
        liven(head, 4)
    return head, CompiledStep(head)


@pytest.mark.parametrize("shipped", [True, False])
@settings(max_examples=40, deadline=None)
@given(seconds=st.lists(st.sampled_from(SECONDS) | st.floats(0, 3, width=32), min_size=1, max_size=12), seed=st.integers(0, 2**31 - 1))
def test_it_says_what_torch_says(shipped: bool, seconds: list[float], seed: int) -> None:
    """Streams of three faces, each step with its own gap, one row that comes later and one that is now and then no measurement."""
    head, step = pair(shipped)
    theirs = mine = head.init(3)
    for moment, dt in enumerate((math.inf, *seconds)):
        x = faces(3, head.inputs, seed + moment)
        x[2, moment % head.inputs] = (0.0, math.nan, math.inf, 1e7)[moment % 4]
        mask = torch.tensor([True, moment >= 2, True])
        gaps = torch.tensor([[dt], [dt / 2], [dt]])
        with torch.no_grad():
            expected, theirs = head.step(x, theirs, gaps, mask)
        came, mine = step(x, mine, gaps, mask)
        assert_close(came, expected)
        assert_close(mine, theirs)


@pytest.mark.parametrize("dt", [0.0, 1 / 30, math.inf, math.nan, -1.0])
def test_a_first_observation_fixes_the_memory_whatever_its_dt(step: CompiledStep, dt: float) -> None:
    fresh = step.head.init(2)
    honest = step(faces(2), fresh, torch.full((2, 1), math.inf))
    came = step(faces(2), fresh, torch.full((2, 1), dt))
    assert all(all_same_bits(a, b) for a, b in zip(came, honest, strict=True))
    assert torch.equal(came[0].surprise, torch.ones(2)) and bool(came[1].started.all())


def test_what_changes_nothing_leaves_every_bit(step: CompiledStep) -> None:
    """No time, no face, or no number; -0.0 too stays what it is."""
    state = begun(step, 4)
    state.h[:, 0] = -0.0
    state.k[:, 1] = -0.0
    x = faces(4)
    x[2, 5] = math.nan
    x[3, 5] = -2e6
    dt = torch.tensor([[0.0], [0.3], [0.3], [0.3]])
    output, after = step(x, state, dt, torch.tensor([True, False, True, True]))
    assert all_same_bits(after, state)
    assert output.judged.tolist() == [True, False, False, False]
    assert output.surprise[1:].tolist() == [1.0] * 3 and output.logit[1:].tolist() == [0.0] * 3


def test_a_row_has_the_same_bits_whoever_is_beside_it(step: CompiledStep) -> None:
    state, x, dt = begun(step, 9), faces(9), torch.rand((9, 1))
    together = step(x, state, dt)
    for i in range(9):
        row = torch.tensor([i])
        output, after = step(x[row], state.gather(row), dt[row])
        assert all_same_bits(output, TemporalOutput(*(part[row] for part in together[0])))
        assert all_same_bits(after, together[1].gather(row))


def test_nobody_is_a_step_too(step: CompiledStep) -> None:
    output, state = step(faces(0), step.head.init(0), torch.zeros(0, 1))
    assert output.logit.shape == (0,) and output.tau.shape == (0, 40) and state.h.shape == (0, 40)


def test_what_it_was_given_stays_as_it_was_and_what_it_gave_is_its_own(step: CompiledStep) -> None:
    state, x, dt = begun(step, 1), faces(1), torch.full((1, 1), 0.1)
    copies = [part.clone() for part in (*state, x, dt)]
    _, after = step(x, state, dt)
    kept = after.h.clone()
    step(faces(1, seed=5), after, dt)
    assert all(torch.equal(a, b) for a, b in zip((*state, x, dt), copies, strict=True))
    assert torch.equal(after.h, kept) and after.h.data_ptr() != state.h.data_ptr()


@pytest.mark.parametrize(("dt", "said"), [(-0.5, "got -0.5"), (math.nan, "got NaN")])
def test_time_does_not_run_backwards(step: CompiledStep, dt: float, said: str) -> None:
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        step(faces(2), begun(step, 2), torch.tensor([[0.1], [dt]]))


@pytest.mark.parametrize(
    ("x", "dt", "mask", "said"),
    [
        ((2, 127), (2, 1), None, r"x: expected shape \(N, E\) = \(2, 128\), got \(2, 127\)"),
        ((2, 128), (2,), None, r"dt: expected shape \(N, 1\) in seconds = \(2, 1\), got \(2,\)"),
        ((3, 128), (3, 1), None, r"state.h: expected shape \(N, D\) = \(3, 40\), got \(2, 40\)"),
        ((2, 128), (2, 1), torch.ones(3, dtype=torch.bool), "mask: expected shape"),
        ((2, 128), (2, 1), torch.ones(2), "mask: expected dtype torch.bool"),
    ],
)
def test_other_shapes_are_refused(step: CompiledStep, x: tuple[int, ...], dt: tuple[int, ...], mask: Tensor | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        step(torch.zeros(x), step.head.init(2), torch.zeros(dt), mask)


@pytest.mark.parametrize("cell", ["resonator", "ltc", "cfc"])
def test_other_cells_are_refused_by_name(cell: str) -> None:
    head = TemporalHead(12, 8, cell)
    assert not CompiledStep.supports(head)
    for made in (CompiledStep, step_bytes):
        with pytest.raises(CannotCompile, match=f"Expected cell 'liquid' in fp32 on a CPU; got cell '{cell}'"):
            made(head)


def test_fp64_is_refused(head: TemporalHead) -> None:
    assert CompiledStep.supports(head)
    with pytest.raises(CannotCompile, match=r"got parameters of torch.float64 on cpu"):
        CompiledStep(TemporalHead(12, 6).double())


def test_the_head_stays_as_it_is(head: TemporalHead) -> None:
    assert type(head.embed).__name__ == "RowLinear"


def test_threads_side_by_side(step: CompiledStep) -> None:
    state, dt = begun(step, 3), torch.full((3, 1), 0.1)
    batches = [faces(3, seed=seed) for seed in range(16)]
    alone = [step(x, state, dt) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for expected, came in zip(alone, pool.map(lambda x: step(x, state, dt), batches), strict=True):
            assert all(all_same_bits(a, b) for a, b in zip(came, expected, strict=True))


def test_the_exported_graph_takes_any_number_of_rows(head: TemporalHead, step: CompiledStep) -> None:
    graph = onnx.load_from_string(step_bytes(head))
    onnx.checker.check_model(graph, full_check=True)
    assert [one.version for one in graph.opset_import if one.domain == ""] == [OPSET]
    assert [one.name for one in graph.graph.input] == list(INPUTS) and [one.name for one in graph.graph.output] == list(OUTPUTS)
    for value in (*graph.graph.input, *graph.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param, f"{value.name} has a fixed number of rows"
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 2, 33):
        state, x, dt = begun(step, n), faces(n), torch.rand((n, 1))
        outputs, after = step(x, state, dt)
        came = session.run(None, {name: part.numpy() for name, part in zip(INPUTS, (x, *state, dt), strict=True)})
        for name, mine, theirs in zip(OUTPUTS, came, (*outputs, *after), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5, err_msg=name)
