"""LiquidCell: inputs and seconds in, an exactly relaxed state out. `temporal.py` builds on it; whoever streams keeps the state.

The state h follows dh/dt = r(u) (A(u) - h) with u held since the previous observation, so its value after dt seconds is known:
h' = h + (1 - exp(-dt r)) (A - h). No solver, no step size, no default dt. The liquid idea, time constants that depend on the
input, is that of Hasani et al. 2021, "Liquid Time-constant Networks"; leaving h out of r and A makes the solution exact.
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
LIQUIDITY = 2.0
"""r moves at most by exp(+-2) around its learned centre: effective time constants have hard bounds."""


class LiquidCell(nn.Module):
    """Diagonal liquid memory with an exact flow: r(u) = exp(kappa + 2 tanh(W u + b)), A(u) = V u + c, or u itself.

    Holds parameters only. Time constants start log-uniform in `tau_s` seconds and independent of the input (W = b = 0).

    Args:
        inputs: components of u.
        units: components of h (D).
        tau_s: shortest and longest initial time constant, seconds.
        project: learn A; when False u is the target and `inputs` must equal `units`.
    """

    def __init__(self, inputs: int, units: int, *, tau_s: tuple[float, float] = (0.01, 10.0), project: bool = True) -> None:
        super().__init__()
        if not project and inputs != units:
            raise ValueError(f"LiquidCell without projection: expected inputs == units, got {inputs} inputs and {units} units")
        self.inputs = inputs
        self.units = units
        self.target = RowLinear(inputs, units) if project else None
        self.rate = RowLinear(inputs, units)
        self.kappa = nn.Parameter(-log_uniform(units, *tau_s))
        nn.init.zeros_(self.rate.weight)
        nn.init.zeros_(self.rate.bias)

    def init(self, n: int) -> Tensor:
        """State of `n` rows that have seen nothing: zeros (n, D)."""
        return self.kappa.new_zeros((n, self.units))

    def step(self, u: Tensor, h: Tensor, dt: Tensor, mask: Tensor | None = None) -> Tensor:
        """One observation: u (N, inputs), h (N, D), dt (N, 1) seconds since each row's previous one, mask (N,) bool -> h (N, D).

        Rows never influence each other. dt = 0 leaves a row's h bit-identical; so does mask = False or a u that is not finite
        (then the caller adds this dt to the row's next one). inf or more than 1e4 s reads as 1e4 s.

        Raises:
            ValueError: a shape is wrong, or dt is negative or NaN.
        """
        _, last = self.forward(u.unsqueeze(0), dt.unsqueeze(0), h, None if mask is None else mask.unsqueeze(0))
        return last

    def forward(self, u: Tensor, dt: Tensor, h0: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The fold of `step`: u (T, N, inputs), dt (T, N, 1), h0 (N, D), mask (T, N) -> every h (T, N, D) and the last (N, D)."""
        expect_shape("u", u, (*u.shape[:2], self.inputs), "(T, N, inputs)")
        expect_shape("h0", h0, (u.shape[1], self.units), "(N, units)")
        u, valid = usable_rows(u.to(self.kappa.dtype), mask)
        target, rate = self.coefficients(u)
        states, last = scan(target, rate, checked_dt(dt, u.shape[:2]), h0, valid)
        return states[1:], last

    def coefficients(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (..., inputs) -> the target A (..., D) and the rate r (..., D) in 1/s; 1/r is the effective time constant."""
        target = u if self.target is None else self.target(u)
        return target, torch.exp(self.kappa + LIQUIDITY * torch.tanh(self.rate(u)))


def scan(target: Tensor, rate: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Relax h0 (N, D) through T observations: target, rate (T, N, D), dt (T, N, 1) seconds, valid (T, N) bool.

    Returns h0 followed by every state, (T + 1, N, D), and the last state (N, D). Sequential in time, because a tree-shaped scan
    rounds differently from a stream.
    """
    gain = -torch.expm1(-dt.to(rate.dtype) * rate)  # 1 - exp(-z) loses everything below z = 6e-8 in fp32, and slow memories live there
    moves = valid.unsqueeze(-1) & (dt > 0)
    h = h0
    states = [h0]
    for t in range(target.shape[0]):
        # where, not gain = 0: h + 0 turns -0.0 into 0.0, and "bit-identical" is the promise.
        h = torch.where(moves[t], h + gain[t] * (target[t] - h), h)
        states.append(h)
    return torch.stack(states), h


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
