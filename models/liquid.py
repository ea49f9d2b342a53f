"""LiquidCell: inputs and seconds in, an exactly relaxed state out. `temporal.py` builds on it; whoever streams keeps the state.

The state h follows dh/dt = r(u) (A(u) - h) with u held since the previous observation, so its value after dt seconds is known:
h' = h + (1 - exp(-dt r)) (A - h). No solver, no step size, no default dt. The liquid idea, time constants that depend on the
input, is that of Hasani et al. 2021, "Liquid Time-constant Networks"; leaving h out of r and A makes the solution exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.cell import Cell
from models.rows import RowLinear, log_uniform

LIQUIDITY = 2.0
"""r moves at most by exp(+-2) around its learned centre: effective time constants have hard bounds."""


class LiquidCell(Cell):
    """Diagonal liquid memory with an exact flow: r(u) = exp(kappa + 2 tanh(W u + b)), A(u) = V u + c, or u itself.

    Holds parameters only. Time constants start log-uniform in `tau_s` seconds and independent of the input (W = b = 0).

    Args:
        inputs: components of u.
        units: components of h (D).
        tau_s: shortest and longest initial time constant, seconds.
        project: learn A; when False u is the target and `inputs` must equal `units`.
    """

    def __init__(self, inputs: int, units: int, *, tau_s: tuple[float, float] = (0.01, 10.0), project: bool = True) -> None:
        super().__init__(inputs, units)
        if not project and inputs != units:
            raise ValueError(f"LiquidCell without projection: expected inputs == units, got {inputs} inputs and {units} units")
        self.target = RowLinear(inputs, units) if project else None
        self.rate = RowLinear(inputs, units)
        self.kappa = nn.Parameter(-log_uniform(units, *tau_s))
        nn.init.zeros_(self.rate.weight)
        nn.init.zeros_(self.rate.bias)

    def roll(self, u: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
        """h0 and every state, (T + 1, N, D): one exact relaxation after the other."""
        target, rate = self.coefficients(u)
        states, _ = scan(target, rate, dt, h0, valid)
        return states

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
