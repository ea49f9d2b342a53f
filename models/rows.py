"""What every cell and head does to rows: checks of shapes, seconds and numbers, and a linear layer that knows no batch.

A row is one face track at one moment. Taken by the cells (`liquid.py`, `ltc.py`, `cfc.py`) and the heads (`temporal.py`, `heads.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import pad

LONGEST_DT_S = 1e4
"""Seconds that count as "for ever": every state has forgotten by then, and exp and its gradient stay finite."""
LARGEST_INPUT = 1e6
"""A row with a component beyond this (or NaN) is no measurement. Squares of it still fit fp32 with room."""
AT_ONCE = 131072
"""Numbers in a temporary. All T at once would be megabytes, and the page faults of fresh megabytes cost more than the arithmetic
(measured: 43 instead of 14 ms for LiquidCell at T = 300, N = 64, D = 64)."""


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
    valid = (u.amax(-1) <= LARGEST_INPUT) & (u.amin(-1) >= -LARGEST_INPUT)  # NaN fails both
    if mask is not None:
        expect_mask(mask, u.shape[:2])
        valid = valid & mask
    return u if bool(valid.all()) else torch.where(valid.unsqueeze(-1), u, 0.0), valid


def expect_dtype(parameter: Tensor) -> torch.dtype:
    """The dtype of a module's parameters; ValueError unless fp32 or fp64: in less, a slow memory's steps vanish (see `cell.py`)."""
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"parameters: expected torch.float32 or torch.float64, got {parameter.dtype}; autocast leaves these layers alone")
    return parameter.dtype


def expect_mask(mask: Tensor | None, rows: torch.Size) -> None:
    """ValueError unless `mask` is None or bool (T, N)."""
    if mask is None:
        return
    expect_shape("mask", mask, tuple(rows), "(T, N)")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: expected dtype torch.bool, got {mask.dtype}")


def first_sights(started: Tensor, judged: Tensor) -> Tensor:
    """Moments at which a row has not been seen before, (T, N, 1) bool: started (N, 1) bool says who had been, judged (T, N) who is now."""
    seen = started | (judged.unsqueeze(-1).cumsum(0) > 0)
    return ~torch.cat((started.unsqueeze(0), seen))[:-1]


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    """ValueError that names the tensor, what was expected and what came."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {meaning} = {shape}, got {tuple(tensor.shape)}")


def differentiable_once() -> None:
    """First line of a hand-written backward that keeps no graph. torch's own decorator misses a gradient whose graph does not reach it."""
    if torch.is_grad_enabled():
        raise NotImplementedError("a second derivative was asked for (create_graph=True); the cells' backward is written by hand, once")


def chunks(steps: int, numbers: int) -> Iterator[slice]:
    """Slices of time that hold about AT_ONCE numbers each, when one step has `numbers`."""
    length = max(1, AT_ONCE // max(1, numbers))
    return (slice(start, min(start + length, steps)) for start in range(0, steps, length))


def log_uniform(n: int, low: float, high: float) -> Tensor:
    """(n,) natural logarithms, one in each n-th of [log low, log high], in random order (two draws then pair up by chance).

    Raises:
        ValueError: not 0 < low <= high, both finite.
    """
    if not 0.0 < low <= high < math.inf:
        raise ValueError(f"log_uniform: expected 0 < shortest <= longest, got {low:g} and {high:g}")
    place = (torch.randperm(n) + 0.5) / n
    return math.log(low) + (math.log(high) - math.log(low)) * place


class RowLinear(nn.Linear):
    """nn.Linear whose every row is the same to the last bit, alone or in any batch; always in the dtype of its weights.

    A matrix product chooses its blocking by the number of rows: measured on AVX-512, row 0 of 1, 2 or 3 rows differs from row 0 of
    300 in its last bits. Here every product has the same shape, see `row_affine`.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features); autocast is off inside: these layers are tiny and feed a long memory."""
        if torch.is_autocast_enabled(input.device.type):  # entering it costs more than a row's product, so only where it matters
            with torch.autocast(input.device.type, enabled=False):
                return self._affine(input)
        return self._affine(input)

    def _affine(self, input: Tensor) -> Tensor:
        rows = input.to(self.weight.dtype).reshape(-1, input.shape[-1])
        return row_affine(rows, self.weight, self.bias).reshape(*input.shape[:-1], self.out_features)


BLOCK = 16
"""Rows in a product; the last block is filled up with zeros. 8 cost 15 % more at 19,200 rows, 1 twice as much."""
EVEN = 8
"""Inputs and outputs are filled up to a multiple of this. Otherwise rows begin at odd addresses and meet other code by their place: of 624
shapes up to 129 x 65, 123 gave other bits; of 225 even ones, none."""


def row_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (M, K) times W (D, K) transposed, plus b (D,): (M, D), each row with the bits that it would have alone."""
    if torch.is_grad_enabled():
        out: Tensor = _RowAffine.apply(x, weight, bias)
        return out
    return _row_affine(x, weight, bias)


def _row_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (M, K) times W (D, K) transposed, plus b (D,)."""
    (rows, inputs), outputs = x.shape, weight.shape[0]
    blocks, more_inputs, more_outputs = -(-rows // BLOCK), -inputs % EVEN, -outputs % EVEN
    if more_inputs or more_outputs:
        weight = pad(weight, (0, more_inputs, 0, more_outputs))
    if rows % BLOCK or more_inputs:
        x = pad(x, (0, more_inputs, 0, blocks * BLOCK - rows))
    product = torch.bmm(x.reshape(blocks, BLOCK, inputs + more_inputs), weight.t().expand(blocks, -1, -1)).flatten(0, 1)
    return product[:rows, :outputs] + bias if more_outputs else product[:rows].add_(bias)


class _RowAffine(torch.autograd.Function):
    """Block by block forward, whole matrices backward (nobody compares gradients bitwise)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return _row_affine(x, weight, bias)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # noqa: ANN401 - torch types no saved_tensors
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return grad @ weight if ctx.needs_input_grad[0] else None, grad.t() @ x, grad.sum(0)
