"""The scan on a processor against the formula it stands for, h' = A + (h - A) exp((-r + i omega) dt), written out in complex fp64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import rows as rows_module
from models.scan import bounded_rate, relax, resonate
from tests.models.contracts import same_bits


class Inputs(NamedTuple):
    """What a scan takes; `omega` is None for memories."""

    target: Tensor
    w: Tensor
    kappa: Tensor
    omega: Tensor | None
    dt: Tensor
    h0: Tensor
    valid: Tensor

    def run(self) -> Tensor:
        """The scan under test."""
        if self.omega is None:
            return relax(self.target, self.w, self.kappa, self.dt, self.h0, self.valid)
        return resonate(self.target, self.w, self.kappa, self.omega, self.dt, self.h0, self.valid)

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """`change` applied to everything but `valid`."""
        omega = None if self.omega is None else change(self.omega)
        return Inputs(change(self.target), change(self.w), change(self.kappa), omega, change(self.dt), change(self.h0), self.valid)

    def rows(self, chosen: slice | list[int]) -> Inputs:
        """Only these rows."""
        omega = None if self.omega is None else self.omega[:, chosen]
        return Inputs(
            self.target[:, chosen], self.w[:, chosen], self.kappa, omega, self.dt[:, chosen], self.h0[chosen], self.valid[:, chosen]
        )

    def differentiable(self) -> dict[str, Tensor]:
        """The tensors that a gradient is asked for, by name."""
        return {name: one for name, one in self._asdict().items() if one is not None and one.requires_grad}

    def gradients(self, states: Tensor, pull: Tensor) -> dict[str, Tensor]:
        """Of sum(states * pull), by name."""
        wanted = self.differentiable()
        return dict(zip(wanted, torch.autograd.grad(states, list(wanted.values()), pull, materialize_grads=True), strict=True))


def make(steps: int, rows: int, units: int, *, turning: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    """Random inputs with dt = 0, a long gap and rows that do not count among them."""
    generator = torch.Generator().manual_seed(seed)
    randn = partial(torch.randn, generator=generator, dtype=dtype)
    wide = 2 * units if turning else units
    dt = 3.0 * torch.rand((steps, rows, 1), generator=generator, dtype=dtype) ** 3
    dt[1::5, : rows // 2] = 0.0
    dt[2::7] = 50.0
    return Inputs(
        target=randn((steps, rows, wide)),
        w=randn((steps, rows, units)),
        kappa=randn(units),
        omega=randn((steps, rows, units)) if turning else None,
        dt=dt,
        h0=randn((rows, wide)),
        valid=torch.rand((steps, rows), generator=generator) > 0.2,
    )


def reference(inputs: Inputs) -> Tensor:
    """Every state in fp64, one row of the textbook after the other."""
    target, w, kappa, omega, dt, h, valid = (None if one is None else one.double() for one in inputs)
    assert target is not None and w is not None and kappa is not None and dt is not None and h is not None and valid is not None
    rate = bounded_rate(kappa, w)
    if omega is not None:
        target, h = torch.complex(*target.chunk(2, -1)), torch.complex(*h.chunk(2, -1))
        rate = torch.complex(rate, -omega)
    every = []
    for t in range(len(target)):
        moved = target[t] + (h - target[t]) * torch.exp(-dt[t] * rate[t])
        h = torch.where(valid[t].bool().unsqueeze(-1) & (dt[t] > 0), moved, h)
        every.append(h)
    states = torch.stack(every) if every else h.new_empty((0, *h.shape))
    return states if omega is None else torch.cat((states.real, states.imag), -1)


KINDS = pytest.mark.parametrize("turning", [False, True], ids=["relax", "resonate"])


@KINDS
def test_gradients_are_those_of_finite_differences(turning: bool) -> None:
    """dt = 0 is fixed here: the state is still on one side of it and moves on the other."""
    inputs = make(6, 3, 4, turning=turning, dtype=torch.float64)
    assert bool((inputs.dt == 0).any()) and bool((inputs.dt == 50).any()) and not bool(inputs.valid.all())
    names = [name for name in Inputs._fields[:-1] if name != "dt" and getattr(inputs, name) is not None]
    free = [getattr(inputs, name).requires_grad_() for name in names]
    assert torch.autograd.gradcheck(lambda *changed: inputs._replace(**dict(zip(names, changed, strict=True))).run(), free)


@KINDS
def test_gradients_of_time_are_those_of_finite_differences(turning: bool) -> None:
    inputs = make(6, 3, 4, turning=turning, dtype=torch.float64)
    dt = inputs.dt.clamp(min=0.01).requires_grad_()
    assert torch.autograd.gradcheck(lambda dt: inputs._replace(dt=dt).run(), [dt])


@KINDS
@pytest.mark.parametrize(
    ("steps", "rows", "units"), [(0, 3, 7), (1, 3, 7), (2, 5, 13), (31, 3, 7), (300, 2, 33), (4097, 1, 3), (5, 0, 4), (31, 4, 8)]
)
def test_states_are_those_of_the_formula(steps: int, rows: int, units: int, turning: bool) -> None:
    inputs = make(steps, rows, units, turning=turning)
    got = inputs.run()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), reference(inputs), atol=1e-5, rtol=0)
    exact = inputs.map(Tensor.double)
    torch.testing.assert_close(exact.run(), reference(inputs), atol=1e-12, rtol=0)


@KINDS
@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 12), rows=st.integers(0, 5), units=st.integers(1, 9), seed=st.integers(0, 2**31 - 1))
def test_gradients_are_those_of_the_formula(steps: int, rows: int, units: int, seed: int, turning: bool) -> None:
    inputs = make(steps, rows, units, turning=turning, dtype=torch.float64, seed=seed).map(Tensor.requires_grad_)
    pull = torch.randn(inputs.target.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if not steps:
        assert inputs.run().shape == inputs.target.shape
        return
    got, expected = inputs.gradients(inputs.run(), pull), inputs.gradients(reference(inputs), pull)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-9, rtol=1e-9)


@KINDS
@pytest.mark.parametrize("dt", [0.0, 1e-8, 1 / 30, 60.0, 1e4])
def test_gradients_are_finite_and_bounded_at_every_dt(dt: float, turning: bool) -> None:
    inputs = make(3, 4, 8, turning=turning)
    inputs = inputs._replace(dt=torch.full_like(inputs.dt, dt), valid=torch.ones_like(inputs.valid)).map(Tensor.requires_grad_)
    states = inputs.run()
    gradients = inputs.gradients(states, torch.ones_like(states))
    assert all(bool(one.isfinite().all()) for one in (states, *gradients.values()))
    by_dt = gradients.pop("dt")
    # z exp(-z) <= 1/e: however long the wait, only dt itself can move a state by more than the way it has to go
    assert max(float(one.abs().max()) for one in gradients.values()) < 1e3
    if dt == 0.0:
        assert not bool(by_dt.any())


@KINDS
def test_seconds_that_barely_pass_still_count(turning: bool) -> None:
    """1 - exp(-z) in fp32 is 0 for every z here; the truth is z."""
    inputs = make(1, 2, 5, turning=turning)
    inputs = inputs._replace(valid=torch.ones_like(inputs.valid), h0=torch.zeros_like(inputs.h0))
    for dt in (1e-8, 1e-12):
        tiny = inputs._replace(dt=torch.full_like(inputs.dt, dt))
        torch.testing.assert_close(
            tiny.run().double() / dt, reference(tiny.map(Tensor.double)) / dt, rtol=1e-3 if dt < 1e-10 else 1e-5, atol=1e-3
        )


@KINDS
def test_rows_that_do_not_move_keep_their_bits(turning: bool) -> None:
    inputs = make(3, 4, 5, turning=turning)
    inputs.h0[0, 0] = -0.0
    for still in (
        inputs._replace(dt=torch.zeros_like(inputs.dt)),
        inputs._replace(dt=torch.ones_like(inputs.dt), valid=torch.zeros_like(inputs.valid)),
    ):
        assert same_bits(still.run(), inputs.h0.expand(3, -1, -1))


@KINDS
def test_a_row_that_is_no_number_touches_no_other(turning: bool) -> None:
    def run(inputs: Inputs) -> list[Tensor]:
        inputs = inputs.map(lambda one: one.clone().requires_grad_())
        states = inputs.run()
        gradients = inputs.gradients(states, torch.ones_like(states))
        gradients.pop("kappa")  # belongs to every row
        return [states, *gradients.values()]

    inputs = make(7, 5, 6, turning=turning)
    bad = inputs.map(Tensor.clone)
    bad.target[3, 2] = math.nan
    others = [0, 1, 3, 4]
    for got, clean in zip(run(bad), run(inputs), strict=True):
        at = (slice(None), others) if got.dim() == 3 else (others,)
        assert same_bits(got[at], clean[at])


@KINDS
@pytest.mark.parametrize("rows", [1, 2, 3, 6, 33])
def test_a_row_has_the_same_bits_alone_and_in_a_batch(rows: int, turning: bool) -> None:
    inputs = make(9, rows, 6, turning=turning)
    together = inputs.run()
    for i in range(rows):
        assert same_bits(inputs.rows(slice(i, i + 1)).run(), together[:, i : i + 1])


@KINDS
def test_a_stream_is_the_clip(turning: bool) -> None:
    inputs = make(20, 3, 6, turning=turning)
    clip, h = inputs.run(), inputs.h0
    for t in range(20):
        omega = None if inputs.omega is None else inputs.omega[t : t + 1]
        here = Inputs(inputs.target[t : t + 1], inputs.w[t : t + 1], inputs.kappa, omega, inputs.dt[t : t + 1], h, inputs.valid[t : t + 1])
        h = here.run()[0]
        assert same_bits(h, clip[t])


@KINDS
@pytest.mark.parametrize("at_once", [1, 40, 65])
def test_no_bit_depends_on_how_time_is_cut(at_once: int, turning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> list[Tensor]:
        inputs = make(17, 3, 6, turning=turning).map(Tensor.requires_grad_)
        states = inputs.run()
        return [states.detach(), *inputs.gradients(states, states.detach()).values()]

    whole = run()
    monkeypatch.setattr(rows_module, "AT_ONCE", at_once)
    for cut, uncut in zip(run(), whole, strict=True):
        if cut.dim() == 1:  # kappa: a sum over all of time, in other portions
            torch.testing.assert_close(cut, uncut)
        else:
            assert same_bits(cut, uncut)


@KINDS
def test_the_graph_changes_no_bit(turning: bool) -> None:
    inputs = make(9, 3, 6, turning=turning)
    with torch.no_grad():
        without = inputs.run()
    assert same_bits(inputs.map(Tensor.requires_grad_).run().detach(), without)


def test_elsewhere_there_is_no_scan() -> None:
    inputs = make(2, 3, 4).map(lambda one: one.to("meta"))
    with pytest.raises(NotImplementedError, match="expected tensors on one of cpu, cuda, got meta"):
        inputs._replace(valid=inputs.valid.to("meta")).run()
