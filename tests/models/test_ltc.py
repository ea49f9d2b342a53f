"""The promises of LTCCell; the numbers in the names are the contracts of test_liquid.py. What LTC cannot keep is measured by a test."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.cfc import CfCCell
from models.ltc import LEAK, LTCCell, Solver
from models.wiring import NCPWiring
from tests.models.contracts import (
    keeps_poison_in_its_row,
    learns_irregular_time,
    refuses_time_that_runs_backwards,
    same_bits,
    streams_as_the_clip,
)

INPUTS, UNITS = 6, 8
SOLVERS: tuple[Solver, ...] = ("fused", "exponential", "rk4")
EVERY: tuple[Solver, ...] = (*SOLVERS, "adaptive")
DTS = (0.0, 1e-30, 1e-8, 1 / 30, 60.0, 1e4, math.inf)
SPARSE = NCPWiring.build(
    INPUTS, inter=4, command=3, motor=1, sensory_fan_out=2, inter_fan_out=2, command_recurrent=3, motor_fan_in=2, seed=1
)


def make_cell(solver: Solver = "fused", wiring: NCPWiring | None = None, units: int = UNITS, inputs: int = INPUTS) -> LTCCell:
    torch.manual_seed(0)
    return LTCCell(inputs, units, solver=solver, wiring=wiring)


def make_rows(rows: int, steps: int, seed: int = 0, inputs: int = INPUTS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dt = 0.2 * torch.rand((steps, rows, 1), generator=generator) ** 3
    return torch.randn((steps, rows, inputs), generator=generator), dt


def jacobians(f: Callable[[Tensor, Tensor], Tensor], u: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """d f(u, h) / du and / dh, a row for each component of f."""
    u, h = u.requires_grad_(), h.requires_grad_()
    rows = [torch.autograd.grad(out, (u, h), retain_graph=True) for out in f(u, h)]
    by_u, by_h = (torch.stack(columns) for columns in zip(*rows, strict=True))
    return by_u, by_h


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("solver", EVERY)
def test_01_dt_zero_leaves_the_state_bit_identical(solver: Solver) -> None:
    cell = make_cell(solver)
    u, dt = make_rows(4, 1)
    h = torch.randn(4, UNITS)
    h[0, 0] = -0.0
    assert same_bits(cell.step(u[0], h, torch.zeros(4, 1)), h)
    mixed = dt[0].clone()
    mixed[2] = 0.0
    assert same_bits(cell.step(u[0], h, mixed)[2], h[2])


@pytest.mark.parametrize("wiring", [None, SPARSE], ids=["dense", "ncp"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dt", DTS)
def test_03_gradients_are_finite_and_bounded_at_every_dt(dt: float, solver: Solver, wiring: NCPWiring | None) -> None:
    cell = make_cell(solver, wiring)
    u, _ = make_rows(4, 1)
    u.requires_grad_()
    h = torch.randn(4, UNITS, requires_grad=True)
    out = cell.step(u[0], h, torch.full((4, 1), dt))
    assert float(out.detach().abs().max()) < 4
    torch.autograd.backward(out.square().sum())
    grads = [u.grad, h.grad, *(p.grad for p in cell.parameters())]
    assert all(g is not None and float(g.abs().max()) < 100 for g in grads)


@pytest.mark.parametrize("solver", SOLVERS)
def test_03_an_endless_dt_ends_at_the_equilibrium(solver: Solver) -> None:
    """rk4 is cut to stable sub-steps; what it still remembers of h after one observation is bounded here."""
    cell = make_cell(solver)
    u, _ = make_rows(4, 1)
    forever = torch.full((4, 1), math.inf)
    rest = cell.init(4)
    for _ in range(40):
        rest = cell.step(u[0], rest, forever)
    once = cell.step(u[0], torch.randn(4, UNITS), forever)
    assert torch.allclose(cell.step(u[0], rest, forever), rest, atol=1e-5)
    assert float((once - rest).detach().abs().max()) < (0.5 if solver == "rk4" else 0.02)


@pytest.mark.parametrize(("dt", "said"), [(-1e-6, "got -1e-06"), (math.nan, "got NaN")])
def test_04_time_that_runs_backwards_is_refused(dt: float, said: str) -> None:
    refuses_time_that_runs_backwards(make_cell(), dt, said)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("poison", [math.nan, -math.inf])
def test_05_a_row_that_is_no_number_is_masked_and_touches_no_other(poison: float, solver: Solver) -> None:
    keeps_poison_in_its_row(make_cell(solver), poison)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("wiring", [None, SPARSE], ids=["dense", "ncp"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_06_a_row_has_the_same_bits_alone_and_in_a_batch(solver: Solver, wiring: NCPWiring | None, n_threads: int) -> None:
    """rows == UNITS included: broadcasting a (rows,) dt over units would go unnoticed there."""
    cell = make_cell(solver, wiring)
    u, dt = make_rows(257, 3)
    with torch.no_grad(), threads(n_threads):
        whole, _ = cell(u, dt, cell.init(257))
        for rows in (*range(1, 71, 1 if solver == "fused" and n_threads == 1 else 9), 128):
            some, _ = cell(u[:, :rows], dt[:, :rows], cell.init(rows))
            assert same_bits(some, whole[:, :rows])
        for i in range(0, 257, 16):
            alone, _ = cell(u[:, i : i + 1], dt[:, i : i + 1], cell.init(1))
            assert same_bits(alone[:, 0], whole[:, i])


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("inputs", "units"), [(128, 64), (128, 40), (300, 65)])
def test_06_holds_where_torch_splits_work_over_threads(inputs: int, units: int, n_threads: int) -> None:
    cell = make_cell(units=units, inputs=inputs)
    u, dt = make_rows(257, 1, inputs=inputs)
    h = 2 * torch.rand(257, units) - 1
    with torch.no_grad(), threads(n_threads):
        whole = cell.step(u[0], h, dt[0])
        for rows in (1, 2, 7, 33, units, 130):
            assert same_bits(cell.step(u[0, -rows:], h[-rows:], dt[0, -rows:]), whole[-rows:])
    assert same_bits(cell.step(u[0, :9], h[:9], dt[0, :9]), whole[:9])  # and with gradients


@settings(max_examples=30)
@given(
    inputs=st.integers(1, 40),
    units=st.integers(1, 40),
    rows=st.integers(1, 40),
    sparse=st.booleans(),
    solver=st.sampled_from(SOLVERS),
    data=st.data(),
)
def test_06_07_09_10_for_any_shape(inputs: int, units: int, rows: int, sparse: bool, solver: Solver, data: st.DataObject) -> None:
    """Any rows, in any order, some masked, some with dt = 0, one by one in time: the same bits."""
    wiring = None
    if sparse:
        draw = torch.Generator().manual_seed(units)
        signs = torch.randint(-1, 2, (units + inputs, units), generator=draw)
        wiring = NCPWiring.from_dense(signs[:units].tolist(), signs[units:].tolist())
    cell = make_cell(solver, wiring, units, inputs)
    u, dt = make_rows(rows, 3, inputs=inputs)
    draws = torch.Generator().manual_seed(rows)
    mask = torch.rand(3, rows, generator=draws) > 0.2
    dt = dt * (torch.rand(dt.shape, generator=draws) > 0.2)
    order = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=12))
    h0 = 2 * torch.rand((rows, units), generator=draws) - 1
    with torch.no_grad():
        whole, last = cell(u, dt, h0, mask)
        h = h0[order]
        for t in range(3):
            h = cell.step(u[t, order], h, dt[t, order], mask[t, order])
            assert same_bits(h, whole[t, order])
    assert same_bits(h, last[order])


@pytest.mark.parametrize("solver", SOLVERS)
def test_07_a_masked_row_keeps_its_state_and_its_seconds_come_later(solver: Solver) -> None:
    cell = make_cell(solver)
    u, dt = make_rows(2, 3)
    mask = torch.tensor([[True, True], [False, True], [True, True]])
    late = dt.clone()
    late[2, 0] += dt[1, 0]
    _, last = cell(u, late, cell.init(2), mask)
    _, unseen = cell(u[[0, 2], :1], torch.stack((dt[0, :1], dt[1, :1] + dt[2, :1])), cell.init(1))
    assert same_bits(last[:1], unseen)


@pytest.mark.parametrize(
    ("solver", "least", "most"), [("fused", 1e-3, 0.2), ("exponential", 1e-5, 0.1), ("rk4", 1e-9, 0.1), ("adaptive", 0.0, 2e-3)]
)
def test_08_two_half_steps_miss_one_whole_step_by_this_much(solver: Solver, least: float, most: float) -> None:
    """The ODE is a flow, its discretisation is not: what a solver misses, from both sides. LiquidCell misses 1e-7."""
    cell = make_cell(solver)
    u, _ = make_rows(16, 1)
    h = torch.zeros(16, UNITS)
    dt = torch.full((16, 1), 0.2)
    with torch.no_grad():
        missed = float((cell.step(u[0], cell.step(u[0], h, dt / 2), dt / 2) - cell.step(u[0], h, dt)).abs().max())
    assert least <= missed < most


@pytest.mark.parametrize("solver", SOLVERS)
def test_09_a_stream_is_the_clip_and_can_be_resumed(solver: Solver) -> None:
    streams_as_the_clip(make_cell(solver))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("per_second", [1000.0, 1e-3])
def test_11_the_unit_of_time_is_a_convention(per_second: float, solver: Solver) -> None:
    cell = make_cell(solver)
    other = LTCCell(INPUTS, UNITS, solver=solver, tau_s=(0.01 * per_second, 10 * per_second))
    other.load_state_dict(cell.state_dict())
    with torch.no_grad():
        other.log_cm.add_(math.log(per_second))
    u, dt = make_rows(4, 20)
    torch.testing.assert_close(other(u, dt * per_second, cell.init(4))[0], cell(u, dt, cell.init(4))[0], atol=2e-6, rtol=0)


def test_12_autocast_and_foreign_dtypes_leave_the_state_in_fp32() -> None:
    cell = make_cell()
    u, dt = make_rows(4, 6)
    _, plain = cell(u, dt, cell.init(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, cast = cell(u, dt, cell.init(4))
        _, from_bf16 = cell(u.bfloat16(), dt.double(), cell.init(4))
    assert same_bits(cast, plain)
    assert from_bf16.dtype == torch.float32


@pytest.mark.parametrize("solver", EVERY)
def test_13_nothing_observed_is_nothing_changed(solver: Solver) -> None:
    cell = make_cell(solver)
    u, dt = make_rows(4, 5)
    h0 = torch.randn(4, UNITS)
    for no_grad in (False, True):
        with torch.set_grad_enabled(not no_grad):
            empty, last = cell(u[:0], dt[:0], h0)
            assert empty.shape == (0, 4, UNITS)
            assert same_bits(last, h0)
            _, masked = cell(u, dt, h0, torch.zeros(5, 4, dtype=torch.bool))
            assert same_bits(masked, h0)
            nobody, _ = cell(u[:, :0], dt[:, :0], cell.init(0))
            assert nobody.shape == (5, 0, UNITS)


@pytest.mark.parametrize("wiring", [None, SPARSE], ids=["dense", "ncp"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_gradients_are_right(solver: Solver, wiring: NCPWiring | None) -> None:
    cell = make_cell(solver, wiring).double()
    u, dt = (t.double() for t in make_rows(3, 2))
    names, values = zip(*cell.named_parameters(), strict=True)

    def run(u: Tensor, h: Tensor, dt: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(cell, dict(zip(names, values, strict=True)), (u, dt, h))[0]
        return out

    h = torch.randn(3, UNITS, dtype=torch.float64)
    inputs = [t.detach().clone().requires_grad_() for t in (u, h, dt + 0.01, *values)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def errors(solver: Solver, dt: float, unfolds: Sequence[int]) -> list[float]:
    """Largest error of one observation against dopri5 in fp64, by the number of sub-steps."""
    torch.manual_seed(0)
    u, h = torch.randn(32, INPUTS, dtype=torch.float64), torch.zeros(32, UNITS, dtype=torch.float64)
    seconds = torch.full((32, 1), dt, dtype=torch.float64)
    found = []
    reference = LTCCell(INPUTS, UNITS, solver="adaptive", tau_s=(0.1, 10.0)).double()
    with torch.no_grad():
        true = reference.step(u, h, seconds)
        for n in unfolds:
            cell = LTCCell(INPUTS, UNITS, solver=solver, unfolds=n, tau_s=(0.1, 10.0)).double()
            cell.load_state_dict(reference.state_dict())
            found.append(float((cell.step(u, h, seconds) - true).abs().max()))
    return found


@pytest.mark.parametrize(("solver", "order"), [("fused", 1), ("exponential", 1), ("rk4", 4)])
def test_solvers_converge_by_their_order(solver: Solver, order: int) -> None:
    coarse, fine = errors(solver, 0.2, (16, 32))
    assert coarse / fine == pytest.approx(2**order, rel=0.25)


def test_at_six_unfolds_the_solvers_are_this_good() -> None:
    at_30_fps: Mapping[Solver, float] = {s: errors(s, 1 / 30, (6,))[0] for s in SOLVERS}
    assert at_30_fps["rk4"] < at_30_fps["exponential"] < at_30_fps["fused"] < 0.05
    assert at_30_fps["rk4"] < 1e-4


@pytest.mark.parametrize("wiring", [None, SPARSE], ids=["dense", "ncp"])
def test_time_constants_start_in_their_range_and_keep_hard_bounds(wiring: NCPWiring | None) -> None:
    cell = LTCCell(INPUTS, UNITS, wiring=wiring, tau_s=(0.02, 1.0))
    at_rest = cell.time_constants(torch.zeros(INPUTS), torch.zeros(UNITS)).detach().log()
    steps = at_rest.sort().values.diff()
    assert torch.allclose(steps, torch.full_like(steps, math.log(50) / UNITS), atol=1e-4)
    assert math.log(0.02) < float(at_rest.min()) < float(at_rest.max()) < math.log(1.0)
    low, high = cell.tau_bounds_s
    for shift in (-50.0, 50.0):
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                if "log" in name:
                    parameter.fill_(-shift if name == "log_cm" else shift)
        tau = cell.time_constants(100 * torch.randn(5, 3, INPUTS), torch.randn(5, 3, UNITS)).detach()
        assert low * 0.999 <= float(tau.min()) <= float(tau.max()) <= high * 1.001
    assert high == pytest.approx(1.0 / LEAK[0])


def test_many_inputs_do_not_collapse_the_time_constants() -> None:
    for inputs in (2, 500):
        cell = make_cell(inputs=inputs)
        open_wide = cell.time_constants(torch.full((inputs,), 100.0), torch.full((UNITS,), 100.0))
        shut = cell.time_constants(torch.zeros(inputs), torch.zeros(UNITS))
        assert 3 < float((shut / open_wide).detach().mean()) < 16


def test_an_absent_synapse_has_exactly_no_influence() -> None:
    """One sub-step; in the next one a neuron hears what its neighbours heard."""
    torch.manual_seed(0)
    cell = LTCCell(INPUTS, UNITS, wiring=SPARSE, unfolds=1).double()
    u, h, dt = torch.rand(INPUTS).double(), torch.rand(UNITS).double(), torch.full((1, 1), 0.03)

    def after(u: Tensor, h: Tensor) -> Tensor:
        return cell.step(u.unsqueeze(0), h.unsqueeze(0), dt)[0]

    by_u, by_h = jacobians(after, u, h)
    hears = SPARSE.recurrent.dense(UNITS, UNITS) + 2 * torch.eye(UNITS)
    assert torch.equal(by_h != 0, hears.t() != 0)
    assert torch.equal(by_u != 0, SPARSE.sensory.dense(INPUTS, UNITS).t() != 0)


@pytest.mark.parametrize("seed", range(10))
def test_training_on_irregular_time_reaches_no_nan(seed: int) -> None:
    torch.manual_seed(seed)
    learns_irregular_time(LTCCell(2, 6, unfolds=3), 40, 0.68)


def test_what_cannot_be_built_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected solver fused, exponential, rk4, adaptive, got euler"):
        LTCCell(2, 3, solver="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected at least 1 unfold, got 0"):
        LTCCell(2, 3, unfolds=0)
    with pytest.raises(ValueError, match="expected a wiring of 2 inputs and 3 units, got 6 inputs and 8 units"):
        LTCCell(2, 3, wiring=SPARSE)
    with pytest.raises(ValueError, match="expected dt that dopri5 crosses in 20 steps, got one too long"):
        monkeypatch.setattr("models.ltc.MOST_STEPS", 20)
        make_cell("adaptive").step(torch.randn(2, INPUTS), torch.zeros(2, UNITS), torch.full((2, 1), math.inf))
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "torchdiffeq":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="expected torchdiffeq; install it with: pip install torchdiffeq"):
        make_cell("adaptive").step(torch.randn(2, INPUTS), torch.zeros(2, UNITS), torch.ones(2, 1))


def test_a_masked_hour_costs_the_adaptive_solver_nothing() -> None:
    cell = make_cell("adaptive")
    u, dt = make_rows(2, 1)
    h = torch.randn(2, UNITS)
    dt[0, 1] = math.inf
    moved = cell.step(u[0], h, dt[0], torch.tensor([True, False]))
    assert same_bits(moved[1], h[1])
    assert not same_bits(moved[0], h[0])


def test_weights_of_another_wiring_are_refused() -> None:
    """Same shapes, other synapses: the outputs would be another net's, without a word."""

    def build(seed: int) -> NCPWiring:
        sizes = {"inter": 4, "command": 3, "motor": 2, "sensory_fan_out": 2, "inter_fan_out": 2, "command_recurrent": 3, "motor_fan_in": 2}
        return NCPWiring.build(INPUTS, **sizes, seed=seed)

    one, other = (build(seed) for seed in (1, 4))
    saved = LTCCell(INPUTS, one.units, wiring=one).state_dict()
    LTCCell(INPUTS, one.units, wiring=one).load_state_dict(saved)
    twin = LTCCell(INPUTS, other.units, wiring=other)
    with pytest.raises(RuntimeError, match=r"expected weights of the same wiring|size mismatch"):
        twin.load_state_dict(saved)
    gates = CfCCell(INPUTS, one.units, wiring=one).state_dict()
    with pytest.raises(RuntimeError, match="expected weights of the same wiring"):
        CfCCell(INPUTS, other.units, wiring=other).load_state_dict(gates)


def test_capacities_learn_slowly() -> None:
    cell = make_cell("fused")
    names = {id(p): name for name, p in cell.named_parameters()}
    assert [names[id(p)] for p in cell.slow_parameters()] == ["log_cm", "log_leak"]
