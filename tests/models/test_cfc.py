"""The promises of CfCCell; the numbers in the names are the contracts of test_liquid.py. What CfC cannot keep is measured by a test."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.cfc import Activation, CfCCell, Mode
from models.wiring import NCPWiring
from tests.models.contracts import (
    keeps_poison_in_its_row,
    learns_irregular_time,
    refuses_time_that_runs_backwards,
    same_bits,
    streams_as_the_clip,
)
from tests.models.test_ltc import SPARSE, jacobians, make_rows, threads

INPUTS, UNITS = 6, 8
MODES: tuple[Mode, ...] = ("default", "pure", "no_gate")
ACTIVATIONS: tuple[Activation, ...] = ("lecun_tanh", "tanh", "relu", "silu", "gelu")


def make_cell(
    mode: Mode = "default",
    *,
    inputs: int = INPUTS,
    units: int = UNITS,
    layers: int | None = None,
    activation: Activation = "lecun_tanh",
    wiring: NCPWiring | None = None,
) -> CfCCell:
    torch.manual_seed(0)
    return CfCCell(inputs, units, mode=mode, backbone_units=20, backbone_layers=layers, activation=activation, wiring=wiring)


@pytest.mark.parametrize("mode", MODES)
def test_01_dt_zero_leaves_the_state_bit_identical(mode: Mode) -> None:
    cell = make_cell(mode)
    u, dt = make_rows(4, 1)
    h = torch.randn(4, UNITS)
    h[0, 0] = -0.0
    assert same_bits(cell.step(u[0], h, torch.zeros(4, 1)), h)
    mixed = dt[0].clone()
    mixed[2] = 0.0
    assert same_bits(cell.step(u[0], h, mixed)[2], h[2])


@pytest.mark.parametrize("wiring", [None, SPARSE], ids=["dense", "ncp"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dt", [0.0, 1e-30, 1e-8, 1 / 30, 60.0, 1e4, math.inf])
def test_03_gradients_are_finite_and_bounded_at_every_dt(dt: float, mode: Mode, wiring: NCPWiring | None) -> None:
    cell = make_cell(mode, wiring=wiring)
    u, _ = make_rows(4, 1)
    u.requires_grad_()
    h = torch.randn(4, UNITS, requires_grad=True)
    torch.autograd.backward(cell.step(u[0], h, torch.full((4, 1), dt)).square().sum())
    grads = [u.grad, h.grad, *(p.grad for p in cell.parameters())]
    assert all(g is not None and float(g.abs().max()) < 300 for g in grads)


@pytest.mark.parametrize("mode", MODES)
def test_03_no_rate_however_wild_makes_a_gradient_that_is_not_finite(mode: Mode) -> None:
    cell = make_cell(mode)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(1e4)
    u, _ = make_rows(4, 1)
    out = cell.step(u[0], torch.randn(4, UNITS), torch.tensor([[1e-8], [1 / 30], [60.0], [math.inf]]))
    torch.autograd.backward(out.sum())
    assert bool(out.isfinite().all())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in cell.parameters())
    assert float(cell.time_constants(u[0], torch.randn(4, UNITS)).detach().min()) >= 0.01 / 10 * 0.999


@pytest.mark.parametrize(("dt", "said"), [(-1e-6, "got -1e-06"), (math.nan, "got NaN")])
def test_04_time_that_runs_backwards_is_refused(dt: float, said: str) -> None:
    refuses_time_that_runs_backwards(make_cell(), dt, said)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("poison", [math.nan, -math.inf])
def test_05_a_row_that_is_no_number_is_masked_and_touches_no_other(poison: float, mode: Mode) -> None:
    keeps_poison_in_its_row(make_cell(mode), poison)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("inputs", "units"), [(INPUTS, UNITS), (128, 64), (33, 29)])
@pytest.mark.parametrize("mode", MODES)
def test_06_a_row_has_the_same_bits_alone_and_in_a_batch(mode: Mode, inputs: int, units: int, n_threads: int) -> None:
    """rows == UNITS included: broadcasting a (rows,) dt over units would go unnoticed there."""
    cell = make_cell(mode, inputs=inputs, units=units)
    u, dt = make_rows(257, 3, inputs=inputs)
    with torch.no_grad(), threads(n_threads):
        whole, _ = cell(u, dt, cell.init(257))
        for rows in (*range(1, 71, 1 if units == UNITS and n_threads == 1 else 7), 64, 128):
            some, _ = cell(u[:, :rows], dt[:, :rows], cell.init(rows))
            assert same_bits(some, whole[:, :rows])
        for i in range(0, 257, 16):
            alone, _ = cell(u[:, i : i + 1], dt[:, i : i + 1], cell.init(1))
            assert same_bits(alone[:, 0], whole[:, i])


@settings(max_examples=30)
@given(
    inputs=st.integers(1, 40),
    units=st.integers(1, 40),
    rows=st.integers(1, 40),
    layers=st.integers(0, 2),
    mode=st.sampled_from(MODES),
    activation=st.sampled_from(ACTIVATIONS),
    data=st.data(),
)
def test_06_07_09_10_for_any_shape(
    inputs: int, units: int, rows: int, layers: int, mode: Mode, activation: Activation, data: st.DataObject
) -> None:
    """Any rows, in any order, some masked, some with dt = 0, one by one in time, with and without gradients: the same bits."""
    cell = make_cell(mode, inputs=inputs, units=units, layers=layers, activation=activation)
    u, dt = make_rows(rows, 3, inputs=inputs)
    draws = torch.Generator().manual_seed(rows)
    mask = torch.rand(3, rows, generator=draws) > 0.2
    dt = dt * (torch.rand(dt.shape, generator=draws) > 0.2)
    order = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=12))
    h0 = 2 * torch.rand((rows, units), generator=draws) - 1
    whole, last = cell(u, dt, h0, mask)
    h = h0[order]
    with torch.no_grad():
        for t in range(3):
            h = cell.step(u[t, order], h, dt[t, order], mask[t, order])
            assert same_bits(h, whole[t, order].detach())
    assert same_bits(h, last[order].detach())


@pytest.mark.parametrize(("mode", "least", "most"), [("default", 0.05, 1.5), ("pure", 0.05, 2.5), ("no_gate", 0.05, 2.5)])
def test_08_two_half_steps_miss_one_whole_step_by_this_much(mode: Mode, least: float, most: float) -> None:
    """CfC is no flow: its time is a learned gate, and splitting a gap changes the answer. LiquidCell misses 1e-7."""
    cell = make_cell(mode)
    u, _ = make_rows(16, 1)
    h, dt = torch.zeros(16, UNITS), torch.full((16, 1), 0.2)
    with torch.no_grad():
        missed = float((cell.step(u[0], cell.step(u[0], h, dt / 2), dt / 2) - cell.step(u[0], h, dt)).abs().max())
        at_once = float((cell.step(u[0], h + 1, dt * 1e-9) - (h + 1)).abs().max())
    assert least < missed < most
    assert 0.5 < at_once < 4  # and the shortest dt > 0 jumps; only dt = 0 itself is at rest


@pytest.mark.parametrize("mode", MODES)
def test_09_a_stream_is_the_clip_and_can_be_resumed(mode: Mode) -> None:
    streams_as_the_clip(make_cell(mode))


@pytest.mark.parametrize("mode", ["default", "no_gate"])
@pytest.mark.parametrize("per_second", [1000.0, 1e-3])
def test_11_the_unit_of_time_is_a_convention(per_second: float, mode: Mode) -> None:
    """Not in mode "pure": there ff1 is a rate and, times A, a target."""
    cell = make_cell(mode)
    other = CfCCell(INPUTS, UNITS, mode=mode, backbone_units=20, tau_s=(0.01 * per_second, 10 * per_second))
    other.load_state_dict(cell.state_dict())
    with torch.no_grad():
        other.heads.weight[2 * UNITS : 3 * UNITS] /= per_second
        other.heads.bias[2 * UNITS : 3 * UNITS] /= per_second
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grad", [True, False])
def test_13_nothing_observed_is_nothing_changed(mode: Mode, grad: bool) -> None:
    cell = make_cell(mode)
    u, dt = make_rows(4, 5)
    h0 = torch.randn(4, UNITS)
    with torch.set_grad_enabled(grad):
        empty, last = cell(u[:0], dt[:0], h0)
        _, masked = cell(u, dt, h0, torch.zeros(5, 4, dtype=torch.bool))
        nobody, _ = cell(u[:, :0], dt[:, :0], cell.init(0))
    assert empty.shape == (0, 4, UNITS)
    assert same_bits(last, h0)
    assert same_bits(masked.detach(), h0)
    assert nobody.shape == (5, 0, UNITS)


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("activation", ["lecun_tanh", "gelu"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_right(mode: Mode, activation: Activation, layers: int) -> None:
    cell = make_cell(mode, layers=layers, activation=activation).double()
    u, dt = (t.double() for t in make_rows(3, 2))
    names, values = zip(*cell.named_parameters(), strict=True)

    def run(u: Tensor, h: Tensor, dt: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(cell, dict(zip(names, values, strict=True)), (u, dt, h))[0]
        return out

    h = torch.randn(3, UNITS, dtype=torch.float64)
    inputs = [t.detach().clone().requires_grad_() for t in (u, h, dt + 0.01, *values)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("mode", MODES)
def test_time_scales_start_in_their_range(mode: Mode) -> None:
    torch.manual_seed(0)
    cell = CfCCell(INPUTS, 50, mode=mode, tau_s=(0.02, 1.0))
    with torch.no_grad():
        cell.heads.weight.zero_()
        if mode == "pure":
            cell.heads.bias.zero_()
        tau = cell.time_constants(torch.randn(2, 3, INPUTS), torch.randn(2, 3, 50))[1, 2].sort().values
    assert 0.02 <= float(tau[0]) < 0.025
    assert 0.9 < float(tau[-1]) <= 1.0
    assert float(tau.median()) == pytest.approx(math.sqrt(0.02), rel=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_an_absent_synapse_has_exactly_no_influence(mode: Mode) -> None:
    cell = make_cell(mode, wiring=SPARSE).double()
    dt = torch.full((1, 1), 0.03)
    by_u, by_h = jacobians(lambda u, h: cell.step(u[None], h[None], dt)[0], torch.rand(INPUTS).double(), torch.rand(UNITS).double())
    hears = SPARSE.recurrent.dense(UNITS, UNITS) + 2 * torch.eye(UNITS)
    assert torch.equal(by_h != 0, hears.t() != 0)
    assert torch.equal(by_u != 0, SPARSE.sensory.dense(INPUTS, UNITS).t() != 0)


@pytest.mark.parametrize("seed", range(10))
def test_training_on_irregular_time_reaches_no_nan(seed: int) -> None:
    torch.manual_seed(seed)
    learns_irregular_time(CfCCell(2, 6, backbone_units=12), 60, 0.66)


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ValueError, match="expected mode default, pure, no_gate, got fast"):
        CfCCell(2, 3, mode="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected activation lecun_tanh, tanh, relu, silu, gelu, got sine"):
        CfCCell(2, 3, activation="sine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a wiring of 6 inputs and 8 units and no backbone, got 6 inputs, 8 units and 1 layers"):
        CfCCell(INPUTS, UNITS, wiring=SPARSE, backbone_layers=1)
    with pytest.raises(ValueError, match=r"expected a wiring of 2 inputs and 3 units .* got 6 inputs, 8 units"):
        CfCCell(2, 3, wiring=SPARSE)
