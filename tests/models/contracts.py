"""Contracts that every cell keeps in the same words; `test_liquid.py`, `test_ltc.py` and `test_cfc.py` hold their cells to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.cell import Cell


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit: unlike torch.equal, tells 0.0 from -0.0."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def observed(cell: Cell, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """u, h and dt of `rows` rows in the middle of their lives."""
    generator = torch.Generator().manual_seed(3)
    u, h = torch.randn(rows, cell.inputs, generator=generator), torch.randn(rows, cell.units, generator=generator)
    return u, h, 0.2 * torch.rand(rows, 1, generator=generator) ** 3


def refuses_time_that_runs_backwards(cell: Cell, dt: float, said: str) -> None:
    """Contract 4: one bad dt among good ones is an error that names it."""
    u, h, good = observed(cell, 3)
    good[1] = dt
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        cell.step(u, h, good)


def keeps_poison_in_its_row(cell: Cell, poison: float) -> None:
    """Contract 5: a row that is no number keeps its state; the others keep every bit, and gradients stay finite."""
    u, h, dt = observed(cell, 5)
    clean = cell.step(u, h, dt)
    bad = u.clone()
    bad[2, -1] = poison
    got = cell.step(bad, h, dt)
    others = torch.tensor([0, 1, 3, 4])
    assert same_bits(got[2], h[2])
    assert same_bits(got[others], clean[others])
    torch.autograd.backward(got.sum())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in cell.parameters())


def streams_as_the_clip(cell: Cell) -> None:
    """Contract 9: step by step, whole, resumed in the middle, with and without a graph: the same bits."""
    generator = torch.Generator().manual_seed(2)
    u, dt = torch.randn(40, 4, cell.inputs, generator=generator), 0.2 * torch.rand(40, 4, 1, generator=generator) ** 3
    mask = torch.rand(40, 4, generator=generator) > 0.2
    clip, last = cell(u, dt, cell.init(4), mask)
    h = cell.init(4)
    for t in range(40):
        h = cell.step(u[t], h, dt[t], mask[t])
        assert same_bits(h, clip[t])
    _, middle = cell(u[:20], dt[:20], cell.init(4), mask[:20])
    resumed, resumed_last = cell(u[20:], dt[20:], middle, mask[20:])
    assert same_bits(resumed, clip[20:])
    assert same_bits(resumed_last, last)
    with torch.no_grad():
        assert same_bits(cell(u, dt, cell.init(4), mask)[0], clip)


def learns_irregular_time(cell: Cell, steps: int, below: float) -> None:
    """Which of two inputs was on for longer? Half of all dt are duplicates or outages. No NaN, and a mean last loss `below` log 2."""
    readout = torch.nn.Linear(cell.units, 1)
    optimiser = torch.optim.Adam([*cell.parameters(), *readout.parameters()], 0.02)
    losses = []
    for _ in range(steps):
        u = torch.randint(0, 2, (8, 32, 1)).float()
        u = torch.cat((u, 1 - u), -1)
        dt = torch.tensor([0.0, 1 / 30, 0.3, 60.0])[torch.tensor([0.2, 0.4, 0.3, 0.1]).multinomial(8 * 32, True)].view(8, 32, 1)
        label = ((u[..., :1] - 0.5) * dt.clamp(max=1)).sum(0) > 0
        _, last = cell(u, dt, cell.init(32))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(readout(last), label.float())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(bool(p.isfinite().all()) for p in cell.parameters())
    assert sum(losses[-10:]) / 10 < below
