"""Event-based XOR: our cells in, test accuracies over seeds beside the published ones out. `python -m tests.benchmarks --only xor`.

A probe of state tracking: the parity of all bits so far needs the elapsed steps and a state that turns. A memory that only relaxes cannot
hold a parity; a resonator whose rhythm follows its input turns by half a circle for each step that a 1 lasts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.cell import Cell
from models.cfc import CfCCell
from models.liquid import LiquidCell
from models.ltc import LTCCell
from tests.benchmarks.xor_task import TEST_SEED, TRAIN_SEED, Streams, make_streams

STEP_S = 0.25
"""Seconds that one step of the stream lasts. The cells' constants start in seconds, and at 4 steps a second they find their range."""
BATCH = 128
PUBLISHED = {
    # Hasani et al. 2022, arXiv 2106.13898, Table 4, event-based, 200 epochs; most are from Lechner and Hasani 2020, arXiv 2006.04418.
    "CfC-mmRNN (paper)": (99.72, 0.08),
    "CfC (paper)": (99.42, 0.42),
    "ODE-LSTM (paper)": (98.89, 0.26),
    "GRU-D (paper)": (97.90, 1.71),
    "CfC-noGate (paper)": (96.29, 1.61),
    "CT-LSTM (paper)": (95.09, 0.30),
    "Bi-directional RNN (paper)": (90.17, 0.69),
    "Augmented LSTM (paper)": (89.71, 3.48),
    "Cf-S (paper)": (85.42, 2.84),
    "PhasedLSTM (paper)": (80.29, 0.99),
    "RNN-Decay (paper)": (75.53, 5.28),
    "CT-GRU (paper)": (61.36, 4.87),
    "coRNN (paper)": (52.89, 1.25),
    "Lipschitz RNN (paper)": (52.84, 3.25),
    "GRU-ODE (paper)": (52.52, 0.35),
    "ODE-RNN (paper)": (51.21, 0.37),
    "CT-RNN (paper)": (50.79, 0.34),
    "LTC (paper)": (49.11, 0.00),
}


class Reader(nn.Module):
    """A cell that reads the bits, optionally with a short memory before it, and a small head at the last event."""

    def __init__(self, cell: Callable[[int], Cell], *, remembers: bool) -> None:
        super().__init__()
        # Its state before an event is the bit that lasted until then: what the elapsed steps were spent on.
        self.before = LiquidCell(1, 8, tau_s=(0.01, 0.05)) if remembers else None
        self.cell = cell(9 if remembers else 1)
        inputs = self.cell.units + self.cell.inputs
        self.read = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, streams: Streams) -> Tensor:
        """Logits (M,) of an odd parity."""
        u, dt, rows = 2.0 * streams.bits - 1.0, STEP_S * streams.elapsed, streams.odd.shape[0]
        if self.before is not None:
            h, _ = self.before(u, dt, self.before.init(rows), streams.mask)
            u = torch.cat((u, torch.cat((self.before.init(rows).unsqueeze(0), h))[:-1]), -1)
        _, last = self.cell(u, dt, self.cell.init(rows), streams.mask)
        seen = u[streams.mask.sum(0) - 1, torch.arange(rows)]
        logit: Tensor = self.read(torch.cat((last, seen), -1)).squeeze(-1)
        return logit


@dataclass(frozen=True, slots=True)
class Arm:
    """One row of the table."""

    name: str
    make: Callable[[], Reader]
    epochs: int
    seeds: int
    lr: float = 3e-3


def _resonators(inputs: int) -> Cell:
    cell = LiquidCell(inputs, 64, resonators=24, top_hz=4.0, tau_s=(1.0, 100.0))
    assert cell.frequency is not None
    nn.init.normal_(cell.frequency.weight, std=0.5)  # otherwise every bit turns alike, and the symmetry takes long to break
    return cell


ARMS = (
    Arm("liquid with resonators", lambda: Reader(_resonators, remembers=True), 2, 5),
    Arm("liquid, memories alone", lambda: Reader(lambda n: LiquidCell(n, 64, tau_s=(1.0, 100.0)), remembers=True), 4, 3),
    Arm("CfCCell, default", lambda: Reader(lambda n: CfCCell(n, 64, tau_s=(0.1, 10.0)), remembers=False), 12, 2),
    Arm("LTCCell, fused", lambda: Reader(lambda n: LTCCell(n, 32, tau_s=(0.1, 10.0)), remembers=False), 2, 2),
)


def train(arm: Arm, seed: int, streams: Streams, tests: Streams, *, until: float = 0.9999) -> dict[str, Any]:
    """One training: AdamW, OneCycle, clipped at 1. Stops early where the training accuracy of an epoch passes `until`."""
    torch.manual_seed(seed)
    model = arm.make()
    slow = {id(p) for cell in model.modules() if isinstance(cell, Cell) for p in cell.slow_parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in slow], "lr": arm.lr},
        {"params": [p for p in model.parameters() if id(p) in slow], "lr": 0.3 * arm.lr},
    ]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0)
    count = streams.odd.shape[0] // BATCH
    peaks = [group["lr"] for group in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, total_steps=count * arm.epochs, pct_start=0.1)
    began, accuracy, epochs = time.process_time(), 0.0, 0
    for epoch in range(arm.epochs):
        right = 0.0
        for rows in torch.randperm(streams.odd.shape[0])[: count * BATCH].view(count, BATCH):
            batch = Streams(streams.bits[:, rows], streams.elapsed[:, rows], streams.mask[:, rows], streams.odd[rows])
            logits = model(batch)
            loss = binary_cross_entropy_with_logits(logits, batch.odd)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            right += float(((logits.detach() > 0) == (batch.odd > 0.5)).sum())
        epochs, reached = epoch + 1, right / (count * BATCH)
        accuracy = _accuracy(model, tests)
        spent = time.process_time() - began
        print(f"{arm.name}, seed {seed}, epoch {epochs}: training {reached:.4f}, test {accuracy:.4f}, {spent:.0f} CPU-s", file=sys.stderr)
        if reached > until:
            break
    parameters = sum(p.numel() for p in model.parameters())
    return {"accuracy": accuracy, "epochs": epochs, "cpu_s": time.process_time() - began, "parameters": parameters}


def run(names: tuple[str, ...] | None = None, train_count: int = 100_000, test_count: int = 10_000) -> list[dict[str, Any]]:
    """A row for each arm."""
    streams, tests = make_streams(train_count, TRAIN_SEED), make_streams(test_count, TEST_SEED)
    rows = []
    for arm in ARMS:
        if names is not None and arm.name not in names:
            continue
        found = [train(arm, seed, streams, tests) for seed in range(arm.seeds)]
        reached = [100.0 * one["accuracy"] for one in found]
        rows.append(
            {
                "model": arm.name,
                "accuracy": round(statistics.mean(reached), 2),
                "sd": round(statistics.pstdev(reached), 2),
                "seeds": arm.seeds,
                "parameters": found[0]["parameters"],
                "epochs": max(one["epochs"] for one in found),
                "cpu_s_per_epoch": round(sum(one["cpu_s"] for one in found) / sum(one["epochs"] for one in found), 1),
            }
        )
    return rows


def _accuracy(model: Reader, streams: Streams) -> float:
    with torch.inference_mode():
        return float(((model(streams) > 0) == (streams.odd > 0.5)).float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", action="append", choices=[arm.name for arm in ARMS], help="only this one; may be given again")
    parser.add_argument("--out", type=Path, help="write the rows here as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = run(tuple(asked.arm) if asked.arm else None)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))
