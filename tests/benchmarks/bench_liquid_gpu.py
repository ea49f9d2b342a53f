"""Speed of the liquid memory on a GPU: training beside ncps and the memory's bandwidth, and one tick of many streams, in one run.

Bandwidth is what a copy of 1 GiB reaches on this card; a scan can at best move its bytes, each once, at that pace, and the fraction says
how near it comes. Times are between CUDA events around many repetitions, so that gaps between launches count.

`python -m tests.benchmarks.bench_liquid_gpu` prints the rows. Needs a CUDA GPU; nobody has run it without one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from models.liquid import LiquidCell
from models.scan import relax
from models.temporal import TemporalHead
from tests.benchmarks.roofline import bandwidth, seconds_of

STEPS, BATCH, UNITS = 300, 256, 128
STREAMS = (1, 8, 64, 256, 1024, 4096)
TARGET_US = 10.0
FORWARD_BYTES, BOTH_BYTES = 12, 36
"""A number and step: target and w read, a state written; then gradient, target, w and state read, two gradients written. fp32."""
REPEATS = 50


def run() -> list[dict[str, Any]]:
    """Rows of the training table, then of the streaming table.

    Raises:
        RuntimeError: there is no CUDA GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("bench_liquid_gpu: expected a CUDA GPU, torch finds none")
    torch.manual_seed(0)
    device = torch.device("cuda")
    card = {"gpu": torch.cuda.get_device_name(device)}
    return [{**card, **row} for row in (*_training(device), *_streaming(device))]


def _training(device: torch.device) -> list[dict[str, Any]]:
    """Milliseconds of forward and backward at batch 256, T = 300, 128 inputs and units, each row with its own irregular dt."""
    bytes_per_s = bandwidth(device)
    x = torch.randn((STEPS, BATCH, UNITS), device=device)
    dt = 0.1 * torch.rand((STEPS, BATCH, 1), device=device)
    numbers = x.numel()
    rows: list[dict[str, Any]] = [{"table": "training", "model": "copy", "gb_per_s": round(bytes_per_s / 1e9, 1)}]
    scan_forward, scan_both = _scan(x, dt)
    cell = LiquidCell(UNITS, UNITS).to(device)
    for model, work, moved, repeats in (
        ("scan, forward", scan_forward, FORWARD_BYTES * numbers, REPEATS),
        ("scan, forward and backward", scan_both, BOTH_BYTES * numbers, REPEATS),
        ("LiquidCell, forward and backward", lambda: _both(lambda: cell(x, dt, cell.init(BATCH))[0]), None, REPEATS),
        ("ncps CfC, forward and backward", _ncps(x, dt), None, 3),
    ):
        seconds = seconds_of(work, repeats)
        row: dict[str, Any] = {"table": "training", "model": model, "ms": round(1e3 * seconds, 3)}
        if moved is not None:
            row |= {"roofline_ms": round(1e3 * moved / bytes_per_s, 3), "of_roofline": round(moved / bytes_per_s / seconds, 2)}
        rows.append(row)
    rows[-2]["times_ncps"] = round(rows[-1]["ms"] / rows[-2]["ms"], 1)
    return rows


def _scan(x: Tensor, dt: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """The scan alone: without a graph, and with its backward from a gradient that is there already."""
    target, w = x.clone().requires_grad_(), torch.randn_like(x).requires_grad_()
    kappa = torch.randn(UNITS, device=x.device, requires_grad=True)
    h0 = torch.zeros((BATCH, UNITS), device=x.device, requires_grad=True)
    valid, pull = torch.ones((STEPS, BATCH), dtype=torch.bool, device=x.device), torch.randn_like(x)

    def forward() -> None:
        with torch.no_grad():
            relax(target, w, kappa, dt, h0, valid)

    def both() -> None:
        torch.autograd.grad(relax(target, w, kappa, dt, h0, valid), (target, w, kappa, h0), pull)

    return forward, both


def _ncps(x: Tensor, dt: Tensor) -> Callable[[], None]:
    """ncps's CfC cell in a loop of ours: its own loop takes no dt of one row."""
    from ncps.torch.cfc_cell import CfCCell

    cell = CfCCell(UNITS, UNITS).to(x.device)

    def forward() -> Tensor:
        h, every = x.new_zeros((x.shape[1], UNITS)), []
        for t in range(x.shape[0]):
            _, h = cell(x[t], h, dt[t])
            every.append(h)
        return torch.stack(every)

    return lambda: _both(forward)


def _both(forward: Callable[[], Tensor]) -> None:
    torch.autograd.backward(forward().square().sum())


def _streaming(device: torch.device) -> list[dict[str, Any]]:
    """Microseconds of a tick of the default head: the captured kernel alone, and `TemporalSlots.step` with its checks and copies.

    Both precisions of the products, and how far the logits of the quicker one are from the exact one's after 100 ticks.
    """
    from models import step_triton

    rows = []
    for streams in STREAMS:
        logits = {}
        for precision in ("ieee", "tf32x3"):
            usual, step_triton.PRECISION = step_triton.PRECISION, precision
            try:
                kernel_us, tick_us, logits[precision] = _tick(streams, device)
            finally:
                step_triton.PRECISION = usual
            rows.append(
                {
                    "table": "streaming",
                    "streams": streams,
                    "precision": precision,
                    "kernel_us": round(kernel_us, 2),
                    "within_target": kernel_us <= TARGET_US,
                    "tick_us": round(tick_us, 1),
                    "logit_off": float((logits[precision] - logits["ieee"]).abs().max()),
                }
            )
    return rows


def _tick(streams: int, device: torch.device) -> tuple[float, float, Tensor]:
    from models import step_triton
    from models.graphs import capture
    from models.slots import TemporalSlots

    torch.manual_seed(1)
    head = TemporalHead().to(device)
    x = torch.nn.functional.normalize(torch.randn((100, streams, head.inputs), device=device), dim=-1)
    dt = torch.full((streams, 1), 1 / 30)
    slots = TemporalSlots(head, streams)
    mine = torch.tensor([slots.acquire() for _ in range(streams)])
    for moment in x:
        logit = slots.step(moment, mine, dt).logit
    torch.cuda.synchronize()
    began = time.perf_counter()
    for moment in x:
        slots.step(moment, mine, dt)
    torch.cuda.synchronize()
    tick_us = 1e6 * (time.perf_counter() - began) / len(x)

    outputs = step_triton.empty_outputs(head, (1, streams))
    mask = torch.ones((1, streams), dtype=torch.bool, device=device)
    given = (head, x[:1].clone(), dt.to(device).unsqueeze(0), mask, mine.to(device), head.init(streams), outputs)
    with torch.no_grad():
        replay = capture(partial(step_triton.step_slots, *given), device)
    return 1e6 * seconds_of(replay, 1000), tick_us, logit


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
