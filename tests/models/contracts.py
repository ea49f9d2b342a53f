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
