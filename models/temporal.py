"""TemporalHead: one Embedding a face and its seconds in, a logit and a surprise out. `encoder.py` feeds it; the caller keeps the state.

The liquid innovation network. A liquid memory relaxes towards each embedding; what it did not expect (the innovation) is measured
against how far a real face may move in that many seconds, and a second liquid memory gathers what remains as evidence. Nothing in it
sees dt as a feature, so frame rates outside the training range are no extrapolation. Time constants that follow the input are from
Hasani et al. 2021, "Liquid Time-constant Networks"; the growth of variance with dt is that of an Ornstein-Uhlenbeck process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.cell import Cell, last_of
from models.cfc import CfCCell
from models.checkpoint import WeightsError
from models.liquid import LiquidCell
from models.ltc import LTCCell
from models.rows import LONGEST_DT_S, RowLinear, checked_dt, expect_dtype, expect_shape, first_sights, log_uniform, usable_rows
from models.scan import bounded_rate, relax

LONGEST_GAP_S = 60.0
"""A started row's dt counts as at most this; every time constant of the evidence has passed by then."""
LARGEST_DIM = 1024
"""Components that a checkpoint may ask for."""
CELLS = ("liquid", "resonator", "ltc", "cfc")
SURPRISE_CEILING = 8.0
NOISE_FLOORS = (0.02, 0.2)
"""Initial standard deviations of what is not motion; motion's own, given for ever, is 1. With one floor for all units, 0.22, a head never
learned short intervals: 18 % error on bursts, where a spread leaves 8 % (tests/benchmarks/bench_seconds.py)."""
RATE_LR_FACTOR = 0.3


class TemporalState(NamedTuple):
    """What the head remembers of N face tracks; 2 D floats and a flag each, for ever."""

    h: Tensor
    """(N, D) liquid memory of the face."""
    k: Tensor
    """(N, D) liquid evidence."""
    started: Tensor
    """(N, 1) bool: False until the row's first usable embedding."""

    def gather(self, rows: Tensor) -> TemporalState:
        """The state of `rows` (n,) int64, in that order."""
        return TemporalState(self.h[rows], self.k[rows], self.started[rows])

    def scatter(self, rows: Tensor, part: TemporalState) -> TemporalState:
        """This state with `rows` (n,) int64, each at most once, replaced by the rows of `part`."""
        return TemporalState(*(whole.index_copy(0, rows, new) for whole, new in zip(self, part, strict=True)))


class TemporalOutput(NamedTuple):
    """What the head says of each row; with a leading T from `forward`."""

    logit: Tensor
    """(N,) log-odds of manipulation before calibration; 0 where not judged."""
    surprise: Tensor
    """(N,) mean normalised innovation: 1 is what real faces do in dt seconds; 1 on a first observation and where not judged."""
    tau: Tensor
    """(N, D) effective time constants of the memory in seconds; without meaning where not judged."""
    judged: Tensor
    """(N,) bool: False where the row was masked or its embedding was not finite."""
    information: Tensor
    """(N,) how much of what changed can be motion and not noise, 0 to 1: 0 at dt = 0, on a first observation and where not judged."""


class Trace(NamedTuple):
    """What a head computed on the way to its outputs, each (T, N, ...)."""

    dt: Tensor
    """(T, N, 1) seconds as the memories took them: first observations are for ever, gaps at most 60 s."""
    z: Tensor
    """(T, N, D) features of surprise."""
    n: Tensor
    """(T, N, D) z, normalised: what drives the evidence."""
    k: Tensor
    """(T, N, D) gathered evidence."""


class TemporalHead(nn.Module):
    """Holds parameters only: 18,641 of them at the default size.

    Args:
        inputs: components of the embedding (E).
        units: components of each memory (D).
        cell: what gathers the evidence: "liquid" (exact flow), "resonator" (exact flow, half of it turning), "ltc" or "cfc".

    Raises:
        ValueError: there is no such cell.
    """

    def __init__(self, inputs: int = 128, units: int = 40, cell: str = "liquid") -> None:
        super().__init__()
        self.inputs = inputs
        self.units = units
        self.cell = cell
        self.embed = RowLinear(inputs, units)
        self.memory = LiquidCell(units, units, tau_s=(0.02, 1.0), project=False)
        self.kappa_q = nn.Parameter(-log_uniform(units, 0.3, 3.0))  # blinks .15 s, visemes .1-.2 s, expressions .3-2 s
        self.kappa_sigma = nn.Parameter(log_uniform(units, *NOISE_FLOORS))
        self.innovation = RowLinear(2 * units + 1, units)
        self.norm = nn.LayerNorm(units)
        self.evidence = evidence_cell(cell, units)
        self.gate = RowLinear(units, units)
        self.merge = RowLinear(units, units)
        self.readout_norm = nn.LayerNorm(units)
        self.readout_hidden = RowLinear(units, units)
        self.readout = RowLinear(units, 1)

    @property
    def dims(self) -> dict[str, Any]:
        """`TemporalHead(**dims)` builds the same net; goes into a checkpoint's metadata."""
        return {"inputs": self.inputs, "units": self.units, "cell": self.cell}

    @classmethod
    def from_metadata(cls, dims: Mapping[str, Any]) -> TemporalHead:
        """Build the net that `dims` described, which may be older than `cell`.

        Raises:
            WeightsError: it is none that this version knows.
        """
        whole = [type(dims.get(key)) is int and 1 <= dims[key] <= LARGEST_DIM for key in ("inputs", "units")]
        if dims.keys() - {"inputs", "units", "cell"} or not all(whole) or dims.get("cell", "liquid") not in CELLS:
            raise WeightsError(
                "The checkpoint's temporal head is none that this version can build.",
                expected=f"inputs and units from 1 to {LARGEST_DIM}, and a cell among {', '.join(CELLS)}",
                got=str(dict(dims)),
            )
        return cls(**dims)

    def init(self, n: int) -> TemporalState:
        """State of `n` tracks that have not been seen, on the device of the parameters."""
        return TemporalState(self.memory.init(n), self.evidence.init(n), self.kappa_q.new_zeros((n, 1), dtype=torch.bool))

    def step(self, x: Tensor, state: TemporalState, dt: Tensor, mask: Tensor | None = None) -> tuple[TemporalOutput, TemporalState]:
        """One observation of N tracks: x (N, E), dt (N, 1) seconds since each track's previous one, mask (N,) bool.

        A row's first observation fixes its memory whatever its dt says (inf is the honest value). dt = 0 is judged but leaves h and k
        bit-identical. A masked or non-finite row keeps its state; the caller adds its dt to the row's next one.

        Raises:
            ValueError: a shape is wrong, or the dt of a started row is negative or NaN.
        """
        outputs, state = self.forward(x.unsqueeze(0), dt.unsqueeze(0), None if mask is None else mask.unsqueeze(0), state)
        return TemporalOutput(*(part[0] for part in outputs)), state

    def forward(
        self, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: TemporalState | None = None
    ) -> tuple[TemporalOutput, TemporalState]:
        """The fold of `step`, equal to it bitwise: x (T, N, E), dt (T, N, 1) seconds, mask (T, N) bool -> outputs over T, last state.

        Only the two memories are sequential; everything else runs over all T at once.
        """
        if x.is_cuda and not torch.is_grad_enabled():
            from models import step_triton  # Triton is there only where a GPU is

            if step_triton.supports(self):
                return step_triton.forward(self, x, dt, mask, state)
        outputs, state, _ = self.trace(x, dt, mask, state)
        return outputs, state

    def trace(
        self, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: TemporalState | None = None
    ) -> tuple[TemporalOutput, TemporalState, Trace]:
        """`forward`, and what lies between: for who explains it. Autocast is off inside, for the sake of the states."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.trace(x, dt, mask, state)
        expect_shape("x", x, (*x.shape[:2], self.inputs), "(T, N, E)")
        expect_shape("dt", dt, (*x.shape[:2], 1), "(T, N, 1) in seconds")
        state = self.init(x.shape[1]) if state is None else state
        state = self.checked(state, x.shape[1])
        x, judged = usable_rows(x.to(expect_dtype(self.kappa_q)), mask)
        first = first_sights(state.started, judged)
        dt = checked_dt(torch.where(first, LONGEST_DT_S, dt.clamp(max=LONGEST_GAP_S)), x.shape[:2]).to(x.dtype)

        u = self.embed(x)
        w = self.memory.rate(u)
        h = torch.cat((state.h.unsqueeze(0), relax(u, w, self.memory.centre, dt, state.h, judged)))
        nu, share = surprise(u - h[:-1], dt, self.kappa_q, self.kappa_sigma)
        nu, share = torch.where(first, 1.0, nu), torch.where(first, 0.0, share)
        mean_nu = nu.mean(-1, keepdim=True)
        z = self.innovation(surprise_features(nu, mean_nu))
        n = self.norm(z)
        k = self.evidence.roll(n, dt, state.k, judged)
        logit = self.read(z, n, k)

        outputs = TemporalOutput(
            logit=torch.where(judged, logit, 0.0),
            surprise=torch.where(judged, mean_nu.squeeze(-1), 1.0),
            tau=1.0 / bounded_rate(self.memory.centre, w),
            judged=judged,
            information=torch.where(judged, share.mean(-1), 0.0),
        )
        state = TemporalState(h[-1].clone(), last_of(k, state.k), state.started | judged.any(0).unsqueeze(-1))
        return outputs, state, Trace(dt, z, n, k)

    def checked(self, state: TemporalState, rows: int) -> TemporalState:
        """The state of `rows` tracks in the head's own dtype; ValueError where a part has another shape."""
        for name, part, width in (("h", state.h, self.units), ("k", state.k, self.units), ("started", state.started, 1)):
            expect_shape(f"state.{name}", part, (rows, width), "(N, D)" if width > 1 else "(N, 1)")
        return TemporalState(state.h.to(self.kappa_q.dtype), state.k.to(self.kappa_q.dtype), state.started.bool())

    def read(self, z: Tensor, n: Tensor, k: Tensor) -> Tensor:
        """What a moment says: its features z and n, z normalised, and the gathered evidence k, all (..., D) -> logit (...)."""
        y = z + self.merge(k * _silu(self.gate(n)))
        logit: Tensor = self.readout(_gelu(self.readout_hidden(self.readout_norm(y)))).squeeze(-1)
        return logit

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: logarithms of rates and of noise learn slowly and are not pulled towards 1 s; the rest as given."""
        rates = [*self.memory.slow_parameters(), *self.evidence.slow_parameters(), self.kappa_q, self.kappa_sigma]
        known = {id(parameter) for parameter in rates}
        return [
            {"params": [p for p in self.parameters() if id(p) not in known], "lr": lr, "weight_decay": weight_decay},
            {"params": rates, "lr": lr * RATE_LR_FACTOR, "weight_decay": 0.0},
        ]


def surprise(innovation: Tensor, dt: Tensor, kappa_q: Tensor, kappa_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Squared innovation (..., D) in units of the variance that a real face gathers in dt (..., 1) seconds, and how much of that is motion.

    The variance is that of a stationary Ornstein-Uhlenbeck process of variance 1 and rate exp(kappa_q) after dt, plus exp(kappa_sigma)^2.
    """
    growth = -torch.expm1(-2.0 * dt * kappa_q.exp())
    variance = growth + (2.0 * kappa_sigma).exp()
    return innovation * innovation / variance, growth / variance


def surprise_features(nu: Tensor, mean_nu: Tensor) -> Tensor:
    """nu (..., D) and its mean (..., 1), on scales that a net can add: (..., 2 D + 1)."""
    return torch.cat((nu.log1p(), nu.clamp(max=SURPRISE_CEILING) / 4.0, (mean_nu + 1e-3).log()), -1)


def evidence_cell(name: str, units: int) -> Cell:
    """The cell that gathers evidence, `units` wide; its time constants start log-uniform between 30 ms and 10 s."""
    tau_s = (0.03, 10.0)
    match name:
        case "liquid":
            return LiquidCell(units, units, tau_s=tau_s)
        case "resonator":
            return LiquidCell(units, units, tau_s=tau_s, resonators=units // 4)
        case "ltc":
            return LTCCell(units, units, tau_s=tau_s)
        case "cfc":
            return CfCCell(units, units, tau_s=tau_s, backbone_layers=0)
    raise ValueError(f"TemporalHead: expected a cell among {', '.join(CELLS)}; got {name!r}")


def clip_logit(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the judged moments: logits (T, N), mask (T, N) bool -> (N,). 0 where nothing was judged: ask `mask.any(0)` first."""
    judged = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask
    expect_shape("mask", judged, tuple(logits.shape), "(T, N) of the logits")
    total = torch.where(judged, logits, 0.0).sum(0)
    return total / judged.sum(0).clamp(min=1)


# torch's fused silu takes other code for the last few numbers of a tensor, so a row's bits would depend on its batch (measured on
# AVX-512: 93 of 300 batch sizes), and its fused gelu for a tensor of one number. tanh and erf take the same code everywhere.
def _silu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(0.5 * x))


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.erf(x * math.sqrt(0.5)))
