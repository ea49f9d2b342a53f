"""Heads for comparison: one Embedding a face and its seconds in, a logit out, behind the interface of TemporalHead; benchmarks train them.

A head is a front end that says what changed, an integrator that gathers it, and one readout for all. Integrators are torch's own layers:
rows agree alone and in a batch to 1e-5, not bitwise as TemporalHead's do. And none of the discrete ones is a flow: dt = 0 moves them too.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cell import Cell
from models.liquid import LiquidCell
from models.rows import LONGEST_DT_S, RowLinear, checked_dt, expect_shape, first_sights, log_uniform, usable_rows
from models.temporal import LONGEST_GAP_S, NOISE_FLOORS, RATE_LR_FACTOR, TemporalOutput, evidence_cell, surprise, surprise_features

Front = Literal["difference", "rate", "innovation"]

TICK_S = 1e-3
"""Added to dt under a root or a logarithm: a container's own tick, below which no time between pictures is true."""
USUAL_DT_S = 0.04
"""Where the feature log dt is 0."""


class HeadState(NamedTuple):
    """What a head remembers of N face tracks."""

    front: Tensor
    """(N, F) of the front end: the last usable embedding, or the innovation's memory."""
    memory: Tensor
    """(N, ...) of the integrator."""
    started: Tensor
    """(N, 1) bool: False until the row's first usable embedding."""

    def gather(self, rows: Tensor) -> HeadState:
        """The state of `rows` (n,) int64, in that order."""
        return HeadState(self.front[rows], self.memory[rows], self.started[rows])

    def scatter(self, rows: Tensor, part: HeadState) -> HeadState:
        """This state with `rows` (n,) int64, each at most once, replaced by the rows of `part`."""
        return HeadState(*(whole.index_copy(0, rows, new) for whole, new in zip(self, part, strict=True)))


class Change(NamedTuple):
    """What a front end says; surprise, information and tau as in TemporalOutput, and 1 where a front end knows none."""

    features: Tensor
    """(T, N, width)"""
    surprise: Tensor
    information: Tensor
    tau: Tensor
    last: Tensor
    """(N, F) its own state after all of them."""


class Difference(nn.Module):
    """x, dx, log dt and "this is the first", the usual way to tell a net about time; with `per_root` dx / sqrt(dt), as diffusion grows."""

    def __init__(self, inputs: int, units: int, *, per_root: bool) -> None:
        super().__init__()
        self.size, self.units, self.per_root = inputs, units, per_root
        self.width = 2 * inputs + 2

    def forward(self, x: Tensor, dt: Tensor, first: Tensor, judged: Tensor, before: Tensor) -> Change:
        """x (T, N, E), dt and first (T, N, 1), judged (T, N), before (N, E): each row is compared with its last usable one."""
        known = torch.cat((before.unsqueeze(0), x))
        moment = torch.arange(1, x.shape[0] + 1, device=x.device).unsqueeze(-1)
        latest = functional.pad(torch.where(judged, moment, 0), (0, 0, 1, 0)).cummax(0).values.unsqueeze(-1).expand(-1, -1, self.size)
        held = known.gather(0, latest)
        change = torch.where(first, 0.0, x - held[:-1])
        if self.per_root:
            change = change / (dt.clamp(max=LONGEST_GAP_S) + TICK_S).sqrt()
        features = torch.cat((x, change, log_dt(dt, first), first.to(x.dtype)), -1)
        ones = x.new_ones((*x.shape[:2], self.units))
        return Change(features, ones[..., 0], ones[..., 0], ones, held[-1])


class Innovation(nn.Module):
    """TemporalHead's front end: what a liquid memory did not expect, in units of how far a real face may move in that many seconds."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.size = units
        self.width = 2 * units + 1
        self.embed = RowLinear(inputs, units)
        self.memory = LiquidCell(units, units, tau_s=(0.02, 1.0), project=False)
        self.kappa_q = nn.Parameter(-log_uniform(units, 0.3, 3.0))
        self.kappa_sigma = nn.Parameter(log_uniform(units, *NOISE_FLOORS))

    def forward(self, x: Tensor, dt: Tensor, first: Tensor, judged: Tensor, before: Tensor) -> Change:
        """x (T, N, E), dt and first (T, N, 1), judged (T, N), before (N, D): the memory before the first of them."""
        u = self.embed(x)
        h, last = self.memory(u, dt, before, judged)
        before = torch.cat((before.unsqueeze(0), h))[:-1]
        nu, share = surprise(u - before, dt, self.kappa_q, self.kappa_sigma)
        nu, information = torch.where(first, 1.0, nu), torch.where(first, 0.0, share).mean(-1)
        mean = nu.mean(-1, keepdim=True)
        features = surprise_features(nu, mean)
        return Change(features, mean.squeeze(-1), information, 1.0 / self.memory.coefficients(u)[1], last)


class Head(nn.Module):
    """What all heads for comparison share. A subclass adds the integrator: `integrate`, or `advance` where one moment follows another.

    Args:
        inputs: components of the embedding (E).
        units: width of everything inside (D).
        front: "difference" (x, dx, log dt), "rate" (x, dx / sqrt(dt), log dt) or "innovation" (TemporalHead's own).
        memory: shape of the integrator's state of one row.
    """

    def __init__(self, inputs: int, units: int, front: str, memory: tuple[int, ...]) -> None:
        super().__init__()
        if front not in ("difference", "rate", "innovation"):
            raise ValueError(f"{type(self).__name__}: expected front difference, rate or innovation, got {front}")
        self.inputs, self.units, self.memory_shape = inputs, units, memory
        self.front_name = cast(Front, front)
        self.front = Innovation(inputs, units) if front == "innovation" else Difference(inputs, units, per_root=front == "rate")
        self.embed = nn.Linear(self.front.width, units)
        self.norm = nn.LayerNorm(units)
        self.merge = nn.Linear(units, units)
        self.readout = nn.Sequential(nn.LayerNorm(units), nn.Linear(units, units), nn.GELU(), nn.Linear(units, 1))

    @property
    def dims(self) -> dict[str, Any]:
        """`type(head)(**dims)` builds the same net."""
        return {"inputs": self.inputs, "units": self.units, "front": self.front_name}

    def init(self, n: int) -> HeadState:
        """State of `n` tracks that have not been seen, on the device of the parameters."""
        zeros = self.embed.weight.new_zeros
        return HeadState(zeros((n, self.front.size)), zeros((n, *self.memory_shape)), zeros((n, 1), dtype=torch.bool))

    def step(self, x: Tensor, state: HeadState, dt: Tensor, mask: Tensor | None = None) -> tuple[TemporalOutput, HeadState]:
        """One observation of N tracks: x (N, E), dt (N, 1) seconds since each track's previous one, mask (N,) bool.

        A masked or non-finite row keeps its state; the caller adds its dt to the row's next one. A first observation may have any dt.

        Raises:
            ValueError: a shape is wrong, or the dt of a started row is negative or NaN.
        """
        outputs, state = self.forward(x.unsqueeze(0), dt.unsqueeze(0), None if mask is None else mask.unsqueeze(0), state)
        return TemporalOutput(*(part[0] for part in outputs)), state

    def forward(
        self, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: HeadState | None = None
    ) -> tuple[TemporalOutput, HeadState]:
        """The fold of `step`, equal to it to 1e-5: x (T, N, E), dt (T, N, 1) seconds, mask (T, N) bool -> outputs over T, last state."""
        expect_shape("x", x, (*x.shape[:2], self.inputs), "(T, N, E)")
        expect_shape("dt", dt, (*x.shape[:2], 1), "(T, N, 1) in seconds")
        state = self.init(x.shape[1]) if state is None else state
        expect_shape("state.front", state.front, (x.shape[1], self.front.size), "(N, F)")
        expect_shape("state.memory", state.memory, (x.shape[1], *self.memory_shape), "(N, ...)")
        x, judged = usable_rows(x.to(self.embed.weight.dtype), mask)
        first = first_sights(state.started, judged)
        dt = checked_dt(torch.where(first, LONGEST_DT_S, dt.clamp(max=LONGEST_GAP_S)), x.shape[:2]).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            change = self.front(x, dt, first, judged, state.front)
            z = self.embed(change.features)
            k, memory = self.integrate(self.norm(z), log_dt(dt, first), dt, state.memory, judged)
            logit = self.readout(z + self.merge(k)).squeeze(-1)
        outputs = _output(logit, change, judged)
        return outputs, HeadState(change.last, memory, state.started | judged.any(0).unsqueeze(-1))

    def integrate(self, n: Tensor, age: Tensor, dt: Tensor, memory: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
        """n (T, N, D), age = log dt and dt (T, N, 1), memory (N, ...), judged (T, N) -> what is read (T, N, D), last memory."""
        u = torch.cat((n, age), -1)
        states = [memory]
        for t in range(n.shape[0]):
            states.append(torch.where(judged[t].unsqueeze(-1), self.advance(u[t], states[-1], dt[t]), states[-1]))
        return torch.stack(states)[1:, :, : self.units], states[-1]

    def advance(self, u: Tensor, memory: Tensor, dt: Tensor) -> Tensor:
        """memory (N, K) after one moment: u (N, D + 1) ends in log dt, dt (N, 1) seconds. Its first D components are read."""
        raise NotImplementedError

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """As TemporalHead's: what a Cell calls slow and every parameter called kappa learn slowly and without decay; the rest as given."""
        slow = {id(p) for cell in self.modules() if isinstance(cell, Cell) for p in cell.slow_parameters()}
        rates = [p for name, p in self.named_parameters() if id(p) in slow or name.rpartition(".")[-1].startswith("kappa")]
        known = {id(parameter) for parameter in rates}
        return [
            {"params": [p for p in self.parameters() if id(p) not in known], "lr": lr, "weight_decay": weight_decay},
            {"params": rates, "lr": lr * RATE_LR_FACTOR, "weight_decay": 0.0},
        ]


class GRUHead(Head):
    """A gated recurrent unit (Cho et al. 2014) that is told log dt."""

    def __init__(self, inputs: int = 128, units: int = 32, front: str = "difference") -> None:
        super().__init__(inputs, units, front, (units,))
        self.cell = nn.GRUCell(units + 1, units)

    def advance(self, u: Tensor, memory: Tensor, dt: Tensor) -> Tensor:
        h: Tensor = self.cell(u, memory)
        return h


class LSTMHead(Head):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) that is told log dt; the memory of a row is h, then c."""

    def __init__(self, inputs: int = 128, units: int = 32, front: str = "difference") -> None:
        super().__init__(inputs, units, front, (2 * units,))
        self.cell = nn.LSTMCell(units + 1, units)

    def advance(self, u: Tensor, memory: Tensor, dt: Tensor) -> Tensor:
        h, c = memory.chunk(2, -1)
        return torch.cat(self.cell(u, (h, c)), -1)


class GRUDHead(Head):
    """GRU-D (Che et al. 2018): the hidden state fades by exp(-softplus(kappa) dt) before each update. Masks of single inputs have no use
    here, where an embedding is there as a whole or not at all."""

    def __init__(self, inputs: int = 128, units: int = 32, front: str = "difference") -> None:
        super().__init__(inputs, units, front, (units,))
        self.cell = nn.GRUCell(units + 1, units)
        self.kappa = nn.Parameter(_inverse_softplus(-log_uniform(units, 0.03, 10.0)))

    def advance(self, u: Tensor, memory: Tensor, dt: Tensor) -> Tensor:
        h: Tensor = self.cell(u, memory * torch.exp(-functional.softplus(self.kappa) * dt))
        return h


class CellHead(Head):
    """Any Cell that TemporalHead knows by name as the integrator; it gets dt in seconds, as cells do, and no log dt beside it."""

    def __init__(self, inputs: int = 128, units: int = 32, front: str = "difference", cell: str = "liquid") -> None:
        super().__init__(inputs, units, front, (units,))
        self.cell_name = cell
        self.cell = evidence_cell(cell, units)

    @property
    def dims(self) -> dict[str, Any]:
        return {**super().dims, "cell": self.cell_name}

    def integrate(self, n: Tensor, age: Tensor, dt: Tensor, memory: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
        states, last = self.cell(n, dt, memory, judged)
        return states, last


def _output(logit: Tensor, change: Change, judged: Tensor) -> TemporalOutput:
    """The one place where heads for comparison fill TemporalOutput."""
    return TemporalOutput(
        logit=torch.where(judged, logit, 0.0),
        surprise=torch.where(judged, change.surprise, 1.0),
        tau=change.tau,
        judged=judged,
        information=torch.where(judged, change.information, 0.0),
    )


def log_dt(dt: Tensor, first: Tensor) -> Tensor:
    """dt in seconds as a feature: 0 at USUAL_DT_S and on a first observation, which has no dt."""
    return torch.where(first, 0.0, ((dt.clamp(max=LONGEST_GAP_S) + TICK_S) / (USUAL_DT_S + TICK_S)).log())


def _inverse_softplus(log_rates: Tensor) -> Tensor:
    """w with softplus(w) = exp(log_rates)."""
    return log_rates.exp().expm1().log()
