"""LiquidCell: inputs and seconds in, an exactly relaxed state out. `temporal.py` builds on it; whoever streams keeps the state.

The state h follows dh/dt = r(u) (A(u) - h) with u held since the previous observation, so its value after dt seconds is known:
h' = h + (1 - exp(-dt r)) (A - h). No solver, no step size, no default dt. The liquid idea, time constants that depend on the
input, is that of Hasani et al. 2021, "Liquid Time-constant Networks"; leaving h out of r and A makes the solution exact.

A resonator is a pair of units with a rhythm of its own: h is complex and turns at omega(u) while it relaxes, r becomes r - i omega.
Blinks, a pulse or flicker are rhythms; a memory without one can only forget.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.cell import Cell
from models.rows import RowLinear, log_uniform
from models.scan import bounded_rate, relax, resonate

WIDEST_KAPPA = math.log(1e6)


class LiquidCell(Cell):
    """Diagonal liquid memory with an exact flow: r(u) = exp(kappa + 2 tanh(W u + b)), A(u) = V u + c, or u itself.

    Holds parameters only. Time constants start log-uniform in `tau_s` seconds and independent of the input (W = b = 0).

    Args:
        inputs: components of u.
        units: components of h (D): D - 2 R memories, then R real and R imaginary parts of resonators.
        tau_s: shortest and longest initial time constant, seconds.
        project: learn A; when False u is the target and `inputs` must equal `units`.
        resonators: how many (R). omega(u) = 2 pi hz (1 + tanh(W u + b)) lies between 0 and twice its learned centre.
        top_hz: centres start between 0 and this, quadratically: most of them slow, as most rhythms of a face are.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        tau_s: tuple[float, float] = (0.01, 10.0),
        project: bool = True,
        resonators: int = 0,
        top_hz: float = 6.0,
    ) -> None:
        super().__init__(inputs, units)
        if not project and inputs != units:
            raise ValueError(f"LiquidCell without projection: expected inputs == units, got {inputs} inputs and {units} units")
        if not 0 <= resonators <= units // 2:
            raise ValueError(f"LiquidCell: expected 0 to {units // 2} resonators, each a pair of the {units} units, got {resonators}")
        self.resonators = resonators
        self.memories = units - 2 * resonators
        self.target = RowLinear(inputs, units) if project else None
        self.rate = RowLinear(inputs, units - resonators)
        self.kappa = nn.Parameter(-log_uniform(units - resonators, *tau_s))
        _start_at_zero(self.rate)
        self.frequency = None
        if resonators:
            self.frequency = RowLinear(inputs, resonators)
            self.hz = nn.Parameter(top_hz * ((torch.arange(resonators) + 0.5) / resonators) ** 2)
            _start_at_zero(self.frequency)

    def slow_parameters(self) -> list[nn.Parameter]:
        """The centres of the rates and of the rhythms."""
        return [self.kappa] if self.frequency is None else [self.kappa, self.hz]

    def roll(self, u: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
        """Every state after h0, (T, N, D): one exact relaxation after the other."""
        return self.relaxed(u if self.target is None else self.target(u), u, dt, h0, valid)

    def relaxed(self, target: Tensor, u: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
        """`roll` towards targets (T, N, D) of the caller's own, at the rates and rhythms of u."""
        w = self.rate(u)
        if self.frequency is None:
            return relax(target, w, self.centre, dt, h0, valid)
        m = self.memories
        kappa = self.centre
        memories = relax(target[..., :m], w[..., :m], kappa[:m], dt, h0[:, :m], valid)
        omega = 2.0 * math.pi * self.frequencies(u)
        resonators = resonate(target[..., m:], w[..., m:], kappa[m:], omega, dt, h0[:, m:], valid)
        return torch.cat((memories, resonators), -1)

    @property
    def centre(self) -> Tensor:
        """kappa, kept where no learning rate can blow it up: time constants between 1e-6 and 1e6 times e^+-2."""
        return self.kappa.clamp(-WIDEST_KAPPA, WIDEST_KAPPA)

    def coefficients(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (..., inputs) -> the target A (..., D) and the rate r (..., D - R) in 1/s; 1/r is the effective time constant."""
        return u if self.target is None else self.target(u), bounded_rate(self.centre, self.rate(u))

    def frequencies(self, u: Tensor) -> Tensor:
        """u (..., inputs) -> the rhythm of each resonator (..., R) in Hz."""
        if self.frequency is None:
            return u[..., :0]
        frequencies: Tensor = self.hz * (1.0 + torch.tanh(self.frequency(u)))
        return frequencies


def _start_at_zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
