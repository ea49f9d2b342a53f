"""Speed of the cells and heads on one thread: milliseconds forward, and forward and backward, beside ncps and torch in the same run.

Rows of T = 300 steps with 128 inputs and 64 units, each row with its own irregular dt (ncps: by a loop over its cells, the one way in
which it takes them). The minimum of rounds that visit every model in turn, so that a slow minute of the machine is slow for all.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ncps.torch.cfc_cell import CfCCell as NcpsCfC
from ncps.torch.ltc_cell import LTCCell as NcpsLTC
from ncps.wirings import AutoNCP, FullyConnected
from torch import Tensor, nn

from models.cell import Cell
from models.cfc import CfCCell
from models.liquid import LiquidCell
from models.ltc import LTCCell
from models.temporal import TemporalHead
from models.wiring import NCPWiring

STEPS, INPUTS, UNITS = 300, 128, 64
ROUNDS_S = 3.0
"""Seconds spent on each model and batch, at least two rounds."""
Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Contender:
    """A model under the clock."""

    name: str
    run: Run
    """x (T, N, 128), dt (T, N, 1) -> something to take a gradient of."""
    parameters: int
    against: str | None = None
    """The name that it is compared with."""


def run() -> list[dict[str, Any]]:
    """Rows of the sequence table, then of the streaming step."""
    rows = []
    for batch in (1, 64):
        contenders = _contenders()
        forward = _time({one.name: _forward(one, batch) for one in contenders})
        both = _time({one.name: _both(one, batch) for one in contenders if not (batch > 1 and one.name.startswith("ncps LTC"))})
        for one in contenders:
            row: dict[str, Any] = {"table": "sequence", "model": one.name, "batch": batch, "parameters": one.parameters}
            for key, found in (("forward_ms", forward), ("both_ms", both)):
                row[key] = round(1000 * found[one.name], 3) if one.name in found else None
                known = one.against in found and one.name in found
                row[f"{key}_ratio"] = round(found[str(one.against)] / found[one.name], 2) if known else None
            rows.append({**row, "against": one.against})
    return rows + _streaming()


def _contenders() -> list[Contender]:
    torch.manual_seed(0)
    dense, ncp = FullyConnected(UNITS, UNITS), AutoNCP(UNITS, 16, sparsity_level=0.75, seed=1)
    ncps_cfc, ncps_ltc, ncps_wired = NcpsCfC(INPUTS, UNITS), NcpsLTC(dense, INPUTS), NcpsLTC(ncp, INPUTS)
    wiring = NCPWiring.from_dense(ncp.adjacency_matrix, ncp.sensory_adjacency_matrix)
    cells: list[tuple[str, Cell, str]] = [
        ("LiquidCell", LiquidCell(INPUTS, UNITS), "ncps CfC"),
        ("LiquidCell, 16 resonators", LiquidCell(INPUTS, UNITS, resonators=16), "ncps CfC"),
        ("CfCCell", CfCCell(INPUTS, UNITS), "ncps CfC"),
        ("LTCCell, dense", LTCCell(INPUTS, UNITS), "ncps LTC, dense"),
        ("LTCCell, NCP wiring", LTCCell(INPUTS, UNITS, wiring=wiring), "ncps LTC, NCP wiring"),
    ]
    ours = [Contender(name, _cell(cell), _size(cell), against) for name, cell, against in cells]
    theirs = [
        Contender("ncps CfC", _ncps(ncps_cfc), _size(ncps_cfc)),
        Contender("ncps LTC, dense", _ncps(ncps_ltc), _size(ncps_ltc)),
        Contender("ncps LTC, NCP wiring", _ncps(ncps_wired), _size(ncps_wired)),
    ]
    gru, lstm = nn.GRU(INPUTS + 1, UNITS), nn.LSTM(INPUTS + 1, UNITS)
    torchs = [Contender("nn.GRU + dt", _rnn(gru), _size(gru)), Contender("nn.LSTM + dt", _rnn(lstm), _size(lstm))]
    return ours + theirs + torchs


def _streaming() -> list[dict[str, Any]]:
    """Microseconds of one tick of the whole head at D = 64, beside a tick of nn.LSTM alone."""
    head, lstm = TemporalHead(INPUTS, UNITS), nn.LSTM(INPUTS + 1, UNITS)
    rows = []
    for batch in (1, 64, 256):
        x, dt = torch.randn(batch, INPUTS), torch.rand(batch, 1)
        _, state = head.step(x, head.init(batch), dt)
        state = type(state)(*(part.detach() for part in state))
        features, memory = torch.cat((x, dt), -1).unsqueeze(0), (torch.zeros(1, batch, UNITS), torch.zeros(1, batch, UNITS))

        def ours(x: Tensor = x, dt: Tensor = dt, state: Any = state) -> None:  # noqa: ANN401
            with torch.inference_mode():
                head.step(x, state, dt)

        def theirs(features: Tensor = features, memory: tuple[Tensor, Tensor] = memory) -> None:
            with torch.inference_mode():
                lstm(features, memory)

        found = _time({"head": ours, "nn.LSTM": theirs})
        rows.append(
            {
                "table": "streaming",
                "batch": batch,
                "parameters": _size(head),
                "head_us": round(1e6 * found["head"], 1),
                "head_us_per_stream": round(1e6 * found["head"] / batch, 2),
                "lstm_us": round(1e6 * found["nn.LSTM"], 1),
                "over_lstm": round(found["head"] / found["nn.LSTM"], 2),
            }
        )
    return rows


def _forward(one: Contender, batch: int) -> Callable[[], None]:
    x, dt = _inputs(batch)

    def work() -> None:
        with torch.inference_mode():
            one.run(x, dt)

    return work


def _both(one: Contender, batch: int) -> Callable[[], None]:
    x, dt = _inputs(batch)

    def work() -> None:
        torch.autograd.backward(one.run(x, dt).square().sum())

    return work


def _inputs(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(STEPS, batch, INPUTS, generator=generator), 0.1 * torch.rand(STEPS, batch, 1, generator=generator)


def _time(works: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of the quickest round of each."""
    best: dict[str, float] = {}
    for work in works.values():
        work()
    left = dict.fromkeys(works, ROUNDS_S)
    gc.disable()
    try:
        while left:
            for name in list(left):
                began = time.perf_counter()
                works[name]()
                spent = time.perf_counter() - began
                left[name] -= spent
                if left[name] < 0 and name in best:
                    del left[name]
                best[name] = min(best.get(name, spent), spent)
    finally:
        gc.enable()
    return best


def _cell(cell: Cell) -> Run:
    def go(x: Tensor, dt: Tensor) -> Tensor:
        every: Tensor = cell(x, dt, cell.init(x.shape[1]))[0]
        return every

    return go


def _ncps(cell: nn.Module) -> Run:
    def go(x: Tensor, dt: Tensor) -> Tensor:
        h, every = x.new_zeros((x.shape[1], UNITS)), []
        for t in range(x.shape[0]):
            _, h = cell(x[t], h, dt[t])
            every.append(h)
        return torch.stack(every)

    return go


def _rnn(rnn: nn.Module) -> Run:
    def go(x: Tensor, dt: Tensor) -> Tensor:
        every: Tensor = rnn(torch.cat((x, dt), -1))[0]
        return every

    return go


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
