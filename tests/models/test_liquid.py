"""The promises of LiquidCell; the numbers in the names are the contracts a liquid memory must keep to live in a video stream."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear

from models.cell import Cell
from models.cfc import CfCCell
from models.liquid import LiquidCell
from models.ltc import LTCCell
from models.rows import LARGEST_INPUT, LONGEST_DT_S, RowLinear
from tests.golden.renew import HERE, liven
from tests.models.contracts import keeps_poison_in_its_row, refuses_time_that_runs_backwards, same_bits, streams_as_the_clip

INPUTS, UNITS = 6, 8
seconds = st.floats(min_value=0.0, max_value=3600.0, width=32)
seeds = st.integers(0, 2**31 - 1)


both_kinds = pytest.mark.parametrize("resonators", [0, 3], ids=["memories", "resonators"])
"""Three resonators are six of the eight units: the other two are memories."""


def make_cell(resonators: int = 0, seed: int = 0) -> LiquidCell:
    torch.manual_seed(seed)
    cell = LiquidCell(INPUTS, UNITS, resonators=resonators)
    liven(cell, seed + 1)
    return cell


def make_rows(rows: int, steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dt = 0.2 * torch.rand((steps, rows, 1), generator=generator) ** 3
    return torch.randn((steps, rows, INPUTS), generator=generator), dt


@both_kinds
def test_01_dt_zero_leaves_the_state_bit_identical(resonators: int) -> None:
    cell = make_cell(resonators)
    u, _ = make_rows(4, 1)
    h = torch.randn(4, UNITS)
    h[0, 0] = -0.0
    assert same_bits(cell.step(u[0], h, torch.zeros(4, 1)), h)


@both_kinds
def test_02_and_03_an_endless_dt_forgets_everything_but_the_input(resonators: int) -> None:
    cell = make_cell(resonators)
    u, _ = make_rows(4, 1)
    target, _ = cell.coefficients(u[0])
    for dt in (LONGEST_DT_S, 1e30, math.inf):
        from_nothing = cell.step(u[0], cell.init(4), torch.full((4, 1), dt))
        assert torch.equal(from_nothing, target)
        torch.testing.assert_close(cell.step(u[0], torch.randn(4, UNITS), torch.full((4, 1), dt)), target, atol=1e-6, rtol=0)


@both_kinds
@pytest.mark.parametrize("dt", [0.0, 1e-30, 1 / 30, 1e4, 1e30, math.inf])
def test_03_gradients_are_finite_at_every_dt(resonators: int, dt: float) -> None:
    cell = make_cell(resonators)
    u, _ = make_rows(4, 1)
    u.requires_grad_()
    h = torch.randn(4, UNITS, requires_grad=True)
    torch.autograd.backward(cell.step(u[0], h, torch.full((4, 1), dt)).square().sum())
    grads = [u.grad, h.grad, *(p.grad for p in cell.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) for g in grads)


@pytest.mark.parametrize(("dt", "said"), [(-1e-6, "got -1e-06"), (-math.inf, "got -inf"), (math.nan, "got NaN")])
def test_04_time_that_runs_backwards_is_refused(dt: float, said: str) -> None:
    refuses_time_that_runs_backwards(make_cell(), dt, said)


@both_kinds
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 10 * LARGEST_INPUT])
def test_05_a_row_that_is_no_number_is_masked_and_touches_no_other(resonators: int, poison: float) -> None:
    keeps_poison_in_its_row(make_cell(resonators), poison)


@both_kinds
@pytest.mark.parametrize("rows", [1, 2, 3, 5, UNITS, 33, 64])
def test_06_a_row_has_the_same_bits_alone_and_in_a_batch(resonators: int, rows: int) -> None:
    """rows == UNITS included: broadcasting a (rows,) dt over units would go unnoticed there."""
    cell = make_cell(resonators)
    u, dt = make_rows(rows, 9)
    h, last = cell(u, dt, cell.init(rows))
    for i in range(rows):
        alone, alone_last = cell(u[:, i : i + 1], dt[:, i : i + 1], cell.init(1))
        assert same_bits(alone[:, 0], h[:, i])
        assert same_bits(alone_last[0], last[i])


@both_kinds
def test_07_a_masked_row_keeps_its_state_and_its_seconds_come_later(resonators: int) -> None:
    cell = make_cell(resonators)
    u, dt = make_rows(2, 3)
    mask = torch.tensor([[True, True], [False, True], [True, True]])
    late = dt.clone()
    late[2, 0] += dt[1, 0]
    _, last = cell(u, late, cell.init(2), mask)
    _, unseen = cell(u[[0, 2], :1], torch.stack((dt[0, :1], dt[1, :1] + dt[2, :1])), cell.init(1))
    assert same_bits(last[:1], unseen)


@both_kinds
@settings(max_examples=60, deadline=None)
@given(a=seconds, b=seconds, seed=seeds)
def test_08_two_steps_with_one_input_are_one_long_step(resonators: int, a: float, b: float, seed: int) -> None:
    cell = make_cell(resonators)
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn((3, INPUTS), generator=generator)
    h = 2 * torch.rand((3, UNITS), generator=generator) - 1

    def after(h: Tensor, dt: float) -> Tensor:
        return cell.step(u, h, torch.full((3, 1), dt, dtype=torch.float64))

    target, rate = cell.coefficients(u)
    scale = max(1.0, float(target.detach().abs().max()))
    # fp32 seconds know an angle to 1e-7 of itself; it matters only while the resonator still rings.
    turned = 2 * math.pi * float(cell.frequencies(u).detach().max()) * (a + b) if resonators else 0.0
    blurred = 2e-7 * turned * math.exp(-float(rate.detach().min()) * (a + b))
    torch.testing.assert_close(after(after(h, a), b), after(h, a + b), atol=scale * (1e-6 + blurred), rtol=0)


@both_kinds
def test_09_a_stream_is_the_clip_and_can_be_resumed(resonators: int) -> None:
    streams_as_the_clip(make_cell(resonators))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(11)), seed=seeds)
def test_10_the_order_of_the_streams_changes_nothing(order: list[int], seed: int) -> None:
    cell = make_cell()
    u, dt = make_rows(11, 3, seed)
    h, _ = cell(u, dt, cell.init(11))
    shuffled, _ = cell(u[:, order], dt[:, order], cell.init(11))
    assert same_bits(shuffled, h[:, order])


@both_kinds
@pytest.mark.parametrize("per_second", [1000.0, 1e-3])
def test_11_the_unit_of_time_is_a_convention(resonators: int, per_second: float) -> None:
    cell = make_cell(resonators)
    u, dt = make_rows(4, 20)
    h, _ = cell(u, dt, cell.init(4))
    with torch.no_grad():
        cell.kappa.sub_(math.log(per_second))
        if resonators:
            cell.hz.div_(per_second)
    rescaled, _ = cell(u, dt * per_second, cell.init(4))
    torch.testing.assert_close(rescaled, h, atol=2e-6, rtol=0)


@both_kinds
def test_12_autocast_and_foreign_dtypes_leave_the_state_in_fp32(resonators: int) -> None:
    cell = make_cell(resonators)
    u, dt = make_rows(4, 6)
    _, plain = cell(u, dt, cell.init(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, cast = cell(u, dt, cell.init(4))
        _, from_bf16 = cell(u.bfloat16(), dt.double(), cell.init(4))
    assert same_bits(cast, plain)
    assert from_bf16.dtype == torch.float32


@both_kinds
def test_13_nothing_observed_is_nothing_changed(resonators: int) -> None:
    cell = make_cell(resonators)
    u, dt = make_rows(4, 5)
    h0 = torch.randn(4, UNITS)
    empty, last = cell(u[:0], dt[:0], h0)
    assert empty.shape == (0, 4, UNITS)
    assert same_bits(last, h0)
    _, masked = cell(u, dt, h0, torch.zeros(5, 4, dtype=torch.bool))
    assert same_bits(masked, h0)
    nobody, _ = cell(u[:, :0], dt[:, :0], cell.init(0))
    assert nobody.shape == (5, 0, UNITS)


@pytest.mark.slow
@pytest.mark.parametrize(("resonators", "hours"), [(0, 24), (3, 4)])
def test_14_a_day_at_60_fps_does_not_drift_from_fp64(resonators: int, hours: int) -> None:
    """All 5,184,000 steps, a minute at a time with the state carried over; a sixth of them for resonators, which take longer."""
    torch.manual_seed(0)
    cell = LiquidCell(INPUTS, UNITS, resonators=resonators)
    exact_cell = copy.deepcopy(cell).double()
    dt = torch.full((3600, 1, 1), 1 / 60, dtype=torch.float32)  # the same seconds for both: rounding them is the caller's affair
    state, exact_state, worst = cell.init(1), exact_cell.init(1), 0.0
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for _ in range(60 * hours):
            u = torch.randn(3600, 1, INPUTS, generator=generator)
            h, state = cell(u, dt, state)
            exact, exact_state = exact_cell(u.double(), dt.double(), exact_state)
            worst = max(worst, float((h - exact).abs().max()))
    assert worst < 1e-4


def test_slow_memory_still_moves_in_the_shortest_steps() -> None:
    """1 - exp(-z) in fp32 is 0 for every z used here; the truth is z."""
    cell = LiquidCell(INPUTS, UNITS)
    with torch.no_grad():
        cell.kappa.fill_(-math.log(10.0))
    u, _ = make_rows(2, 1)
    target, _ = cell.coefficients(u[0])
    for dt in (1e-7, 1e-12):
        torch.testing.assert_close(cell.step(u[0], cell.init(2), torch.full((2, 1), dt)), target * (dt / 10.0), rtol=1e-5, atol=0)


def test_effective_time_constants_stay_inside_hard_bounds() -> None:
    cell = make_cell()
    with torch.no_grad():
        cell.rate.weight.mul_(100)
    _, rate = cell.coefficients(100 * torch.randn(200, INPUTS))
    stretch = (rate.log() - cell.kappa).abs().detach()
    assert float(stretch.max()) <= 2.0 + 1e-5
    assert float(stretch.max()) > 1.9


def test_time_constants_start_in_their_range_and_do_not_depend_on_the_input() -> None:
    cell = LiquidCell(INPUTS, 50, tau_s=(0.02, 1.0))
    _, rate = cell.coefficients(torch.randn(30, INPUTS))
    assert torch.equal(rate, rate[:1].expand(30, -1))
    tau = (1 / rate[0]).detach().sort().values
    assert 0.02 <= float(tau[0]) < 0.025
    assert 0.9 < float(tau[-1]) <= 1.0
    assert float(tau.median()) == pytest.approx(math.sqrt(0.02), rel=0.1)


def test_a_resonator_rings_at_its_own_rhythm() -> None:
    """Kicked once and left alone, it comes back after 1 / hz seconds, smaller by what its time constant took."""
    cell = LiquidCell(1, 2, resonators=1)
    with torch.no_grad():
        cell.hz.fill_(1.25)
        cell.kappa.fill_(-math.log(4.0))
        for parameter in cell.parameters():
            if parameter.ndim == 2:
                parameter.zero_()
        assert cell.target is not None
        cell.target.bias.zero_()
    kicked = torch.tensor([[1.0, 0.0]])
    quiet = torch.zeros(1, 1)
    quarter = cell.step(quiet, kicked, torch.full((1, 1), 0.2))
    torch.testing.assert_close(quarter, math.exp(-0.2 / 4) * torch.tensor([[0.0, 1.0]]), atol=1e-6, rtol=0)
    whole = cell.step(quiet, kicked, torch.full((1, 1), 0.8))
    torch.testing.assert_close(whole, math.exp(-0.8 / 4) * kicked, atol=1e-6, rtol=0)


def test_rhythms_stay_between_nothing_and_twice_their_centre() -> None:
    cell = make_cell(3)
    assert cell.frequency is not None
    with torch.no_grad():
        cell.frequency.weight.mul_(100)
    hz = cell.frequencies(100 * torch.randn(200, INPUTS)).detach()
    share = hz / cell.hz.detach()
    assert float(share.min()) >= 0.0
    assert float(share.max()) <= 2.0
    assert float(share.max() - share.min()) > 1.9
    assert torch.equal(LiquidCell(3, 4).frequencies(torch.zeros(5, 3)), torch.zeros(5, 0))


@pytest.mark.parametrize("resonators", [-1, 5])
def test_a_resonator_needs_two_units(resonators: int) -> None:
    with pytest.raises(ValueError, match=f"expected 0 to 4 resonators, each a pair of the 8 units, got {resonators}"):
        LiquidCell(INPUTS, UNITS, resonators=resonators)


@both_kinds
@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 9), steps=st.integers(0, 7), units=st.integers(2, 9), data=st.data())
def test_any_shape_any_dt_any_mask(resonators: int, rows: int, steps: int, units: int, data: st.DataObject) -> None:
    """Finite, and the fold of its steps, for whatever a stream may bring."""
    torch.manual_seed(units)
    cell = LiquidCell(INPUTS, units, resonators=min(resonators, units // 2))
    liven(cell, units + 1)
    u, _ = make_rows(rows, steps, seed=steps)
    some_dt = st.sampled_from([0.0, 1e-38, 1e-8, 1 / 60, 1 / 30, 0.5, 60.0, 1e4, 1e30, math.inf])
    dt = torch.tensor(data.draw(st.lists(some_dt, min_size=rows * steps, max_size=rows * steps))).reshape(steps, rows, 1)
    flags = data.draw(st.lists(st.booleans(), min_size=rows * steps, max_size=rows * steps))
    mask = torch.tensor(flags, dtype=torch.bool).reshape(steps, rows)
    every, last = cell(u, dt, cell.init(rows), mask)
    assert bool(every.isfinite().all())
    h = cell.init(rows)
    for t in range(steps):
        before, h = h, cell.step(u[t], h, dt[t], mask[t])
        assert same_bits(h, every[t])
        still = ~mask[t] | (dt[t, :, 0] == 0)
        assert same_bits(h[still], before[still])
    assert same_bits(h, last)


def test_ten_seeds_train_without_a_nan() -> None:
    """Gaps from nothing to an hour, duplicates, masks, an ambitious learning rate; the loss falls every time."""
    for seed in range(10):
        cell = make_cell(3, seed)
        read = torch.nn.Linear(UNITS, 1)
        optimiser = torch.optim.AdamW([*cell.parameters(), *read.parameters()], lr=2e-2)
        generator = torch.Generator().manual_seed(seed)
        losses = []
        for _ in range(40):
            u = torch.randn((30, 16, INPUTS), generator=generator)
            dt = torch.pow(10.0, 8.0 * torch.rand((30, 16, 1), generator=generator) - 4.5)
            dt[torch.rand((30, 16, 1), generator=generator) < 0.1] = 0.0
            mask = torch.rand((30, 16), generator=generator) > 0.1
            _, last = cell(u, dt, cell.init(16), mask)
            loss = (read(last) - u.mean((0, 2)).unsqueeze(-1)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert all(math.isfinite(loss) for loss in losses)
        assert all(bool(p.isfinite().all()) for p in cell.parameters())
        assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize("wanted", ["parameter", "input"])
@pytest.mark.parametrize(
    "make", [lambda: make_cell(0), lambda: make_cell(3), lambda: CfCCell(INPUTS, UNITS), lambda: LTCCell(INPUTS, UNITS)]
)
def test_a_second_derivative_is_refused_and_never_wrong(make: Callable[[], Cell], wanted: str) -> None:
    cell = make()
    u, dt = make_rows(3, 4)
    u.requires_grad_()
    with pytest.raises(NotImplementedError, match="a second derivative was asked for"):
        first = torch.autograd.grad(
            cell(u, dt, cell.init(3))[0].square().sum(), u if wanted == "input" else [*cell.parameters()][-1], create_graph=True
        )
        torch.autograd.grad(first[0].square().sum(), next(cell.parameters()), allow_unused=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_in_less_than_fp32_are_refused(dtype: torch.dtype) -> None:
    cell = make_cell().to(dtype)
    u, dt = make_rows(2, 1)
    with pytest.raises(ValueError, match=f"expected torch.float32 or torch.float64, got {dtype}"):
        cell.step(u[0], torch.zeros(2, UNITS), dt[0])


@both_kinds
def test_no_learning_rate_makes_a_time_constant_nothing(resonators: int) -> None:
    cell = make_cell(resonators)
    u, dt = make_rows(3, 4)
    dt[2] = 0.0
    for kappa in (90.0, -90.0, 1e30):
        with torch.no_grad():
            cell.kappa.fill_(kappa)
        assert bool(cell(u, dt, cell.init(3))[0].isfinite().all())


@pytest.mark.parametrize("tau_s", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.1, math.inf), (math.nan, 1.0)])
@pytest.mark.parametrize("kind", [LiquidCell, LTCCell, CfCCell])
def test_time_constants_need_a_range(kind: type[LiquidCell | LTCCell | CfCCell], tau_s: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 < shortest <= longest, got"):
        kind(INPUTS, UNITS, tau_s=tau_s)


@both_kinds
def test_a_state_is_nobody_else_s_memory(resonators: int) -> None:
    """Neither the clip's, which it would keep alive, nor the caller's."""
    cell = make_cell(resonators)
    u, dt = make_rows(2, 200)
    h0 = torch.zeros(2, UNITS)
    with torch.inference_mode():
        for steps in (0, 1, 200):
            every, last = cell(u[:steps], dt[:steps], h0)
            kept = last.clone()
            assert last.untyped_storage().nbytes() == 4 * last.numel()
            every.zero_()
            h0.add_(1.0)
            assert same_bits(last, kept)


def test_gradcheck() -> None:
    cell = make_cell(2).double()
    u, dt = make_rows(2, 3)
    dt = dt.double()
    dt[1, 0] = 0.0

    def run(u: Tensor, h0: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip((name for name, _ in cell.named_parameters()), parameters, strict=True))
        every: Tensor = torch.func.functional_call(cell, names, (u, dt, h0))[0]
        return every

    inputs = (u.double().requires_grad_(), torch.randn(2, UNITS, dtype=torch.float64).requires_grad_())
    torch.autograd.gradcheck(run, (*inputs, *(p.detach().clone().requires_grad_() for p in cell.parameters())))


def test_without_projection_the_target_is_the_input() -> None:
    cell = LiquidCell(4, 4, project=False)
    u = torch.randn(3, 4)
    assert torch.equal(cell.step(u, cell.init(3), torch.full((3, 1), math.inf)), u)
    with pytest.raises(ValueError, match="expected inputs == units, got 3 inputs and 4 units"):
        LiquidCell(3, 4, project=False)


@pytest.mark.parametrize(
    ("u", "h", "dt", "mask", "said"),
    [
        ((3, 5), (3, 8), (3, 1), None, r"u: expected shape .* = \(1, 3, 6\), got \(1, 3, 5\)"),
        ((3, 6), (3, 7), (3, 1), None, r"h0: expected shape .* = \(3, 8\), got \(3, 7\)"),
        ((3, 6), (3, 8), (3,), None, r"dt: expected shape \(T, N, 1\) in seconds = \(1, 3, 1\), got \(1, 3\)"),
        ((3, 6), (3, 8), (3, 8), None, r"dt: expected shape .* got \(1, 3, 8\)"),
        ((3, 6), (3, 8), (1, 1), None, r"dt: expected shape .* got \(1, 1, 1\)"),
        ((3, 6), (3, 8), (3, 1), torch.ones(2, dtype=torch.bool), r"mask: expected shape .* got \(1, 2\)"),
        ((3, 6), (3, 8), (3, 1), torch.ones(3), "mask: expected dtype torch.bool, got torch.float32"),
    ],
)
def test_wrong_shapes_are_named(u: tuple[int, ...], h: tuple[int, ...], dt: tuple[int, ...], mask: Tensor | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_cell().step(torch.zeros(u), torch.zeros(h), torch.zeros(dt), mask)


def test_row_linear_is_linear_with_its_gradient() -> None:
    layer = RowLinear(7, 5)
    x = torch.randn(4, 3, 7)
    torch.testing.assert_close(layer(x), linear(x, layer.weight, layer.bias), atol=1e-6, rtol=1e-6)
    layer.double()
    torch.autograd.gradcheck(layer, torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True))
    x = torch.randn(6, 7, dtype=torch.float64)
    ours = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    theirs = torch.autograd.grad(linear(x, layer.weight, layer.bias).square().sum(), list(layer.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("threads", [1, 2])
@settings(max_examples=60, deadline=None)
@given(inputs=st.integers(1, 130), outputs=st.integers(1, 70), rows=st.integers(1, 70), skipped=st.integers(0, 40))
def test_a_row_of_a_product_knows_no_other(threads: int, inputs: int, outputs: int, rows: int, skipped: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer = RowLinear(inputs, outputs)
        x = torch.randn(120, inputs, generator=torch.Generator().manual_seed(inputs))
        whole = layer(x)
        assert same_bits(layer(x[skipped : skipped + rows]), whole[skipped : skipped + rows])
    finally:
        torch.set_num_threads(before)


def test_golden() -> None:
    golden = load_file(HERE / "liquid_cell.safetensors")
    cell = LiquidCell(5, 4)
    cell.load_state_dict({k.removeprefix("cell."): v for k, v in golden.items() if k.startswith("cell.")})
    h, _ = cell(golden["x"], golden["dt"], cell.init(3), golden["mask"])
    torch.testing.assert_close(h, golden["h"], atol=1e-6, rtol=0)
