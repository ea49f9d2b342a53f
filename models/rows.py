"""What every cell and head does to rows: checks of shapes, seconds and numbers, and a linear layer that knows no batch.

A row is one face track at one moment. Taken by the cells (`liquid.py`, `ltc.py`, `cfc.py`) and the heads (`temporal.py`, `heads.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

LONGEST_DT_S = 1e4
"""Seconds that count as "for ever": every state has forgotten by then, and exp and its gradient stay finite."""
LARGEST_INPUT = 1e6
"""A row with a component beyond this (or NaN) is no measurement. Squares of it still fit fp32 with room."""


def checked_dt(dt: Tensor, rows: torch.Size) -> Tensor:
    """dt (T, N, 1) in seconds, at most LONGEST_DT_S; ValueError when it has another shape, or is negative or NaN anywhere."""
    expect_shape("dt", dt, (*rows, 1), "(T, N, 1) in seconds")
    if not bool((dt >= 0).all()):
        worst = "NaN" if bool(dt.isnan().any()) else f"{float(dt.detach().min()):g}"
        raise ValueError(f"dt: expected seconds >= 0 since each row's previous observation, got {worst}")
    return dt.clamp(max=LONGEST_DT_S)


def usable_rows(u: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """u (T, N, K) with every row that is masked, not finite or absurd replaced by zeros, and the rows that count (T, N) bool.

    Replaced before any arithmetic: a NaN that is only masked afterwards still reaches the gradient of shared parameters.
    """
    valid = (u.abs() <= LARGEST_INPUT).all(-1)
    if mask is not None:
        expect_shape("mask", mask, tuple(u.shape[:2]), "(T, N)")
        if mask.dtype != torch.bool:
            raise ValueError(f"mask: expected dtype torch.bool, got {mask.dtype}")
        valid = valid & mask
    return torch.where(valid.unsqueeze(-1), u, torch.zeros_like(u)), valid


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    """ValueError that names the tensor, what was expected and what came."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {meaning} = {shape}, got {tuple(tensor.shape)}")


def log_uniform(n: int, low: float, high: float) -> Tensor:
    """(n,) natural logarithms, one in each n-th of [log low, log high], in random order (two draws then pair up by chance)."""
    place = (torch.randperm(n) + 0.5) / n
    return math.log(low) + (math.log(high) - math.log(low)) * place


class RowLinear(nn.Linear):
    """nn.Linear whose every row is the same to the last bit, alone or in any batch; always in the dtype of its weights.

    A matrix product chooses its blocking by the number of rows: measured on AVX-512, row 0 of 1, 2 or 3 rows differs from row 0 of
    300 in its last bits. One small product per row costs 12 instead of 7 us at 64 rows and has nothing to choose.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features); autocast is off inside: these layers are tiny and feed a long memory."""
        with torch.autocast(input.device.type, enabled=False):
            rows = input.to(self.weight.dtype).flatten(0, -2)
            out: Tensor = _RowProduct.apply(rows, self.weight)
            return (out + self.bias).reshape(*input.shape[:-1], self.out_features)


class _RowProduct(torch.autograd.Function):
    """x (M, K) times W (D, K) transposed: row by row forward, whole matrices backward (nobody compares gradients bitwise)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return torch.bmm(x.contiguous().unsqueeze(1), weight.t().expand(x.shape[0], -1, -1)).squeeze(1)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - torch types no saved_tensors
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return grad @ weight, grad.t() @ x
