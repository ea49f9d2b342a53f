"""Judging on a GPU: crops a second through eye and memory against the roofline, launches of a tick, and streams of 12 looks a second.

The roof is what the same card reached in the same run, at a large product and a large copy, and the work is counted (`roofline.py`). A tick
is `Inference.judge`, which stacks, copies, checks and hands out beside asking the nets; the whole pipeline decodes in children, finds
and follows faces, and sits at an Engine. Needs a CUDA GPU; nobody has run it on one yet.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from models.slots import TemporalSlots
from pipelines.analysis import Analysis
from pipelines.engine import Engine
from pipelines.inference import Inference, Look
from pipelines.media import Reader
from pipelines.model import Model, load_model
from service.media_sandbox import MediaSandbox
from tests.benchmarks.bench_walk import walk_clips
from tests.benchmarks.roofline import Peaks, eye_work, measured_peaks, memory_work
from tests.pipelines.test_inference import open_to_all

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
HZ: Final = 12
SECONDS: Final = 2.0
"""Of each timed loop."""
LAUNCHES: Final = {"cudaLaunchKernel": "kernels", "cuLaunchKernel": "kernels", "cudaGraphLaunch": "graphs", "cudaMemcpyAsync": "copies"}
WAITS: Final = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")


def run() -> list[dict[str, Any]]:
    """Rows of the tables `peaks`, `roofline`, `tick` and `streams`.

    Raises:
        DeviceMissing: there is no CUDA GPU.
    """
    model = load_model(device="cuda")
    card = {"gpu": torch.cuda.get_device_name(model.device)}
    peaks = measured_peaks(model.device)
    rows: list[dict[str, Any]] = [
        {"table": "peaks", "tflop_per_s": round(peaks.flops_per_s / 1e12, 1), "gb_per_s": round(peaks.bytes_per_s / 1e9, 1)}
    ]
    inference = Inference(open_to_all(model), capacity=BATCHES[-1])
    inference.warm_up(BATCHES[::-1])
    rows += [roofline_row(model, batch, peaks) for batch in BATCHES]
    rows += [{"table": "tick", **tick(inference, looks)} for looks in (1, 64, 1024)]
    rows.append({"table": "streams", "what": "model only", "streams": streams_of(inference, BATCHES[-1])})
    with MediaSandbox() as sandbox:
        for name, clip in walk_clips():
            streams = whole_streams(model, clip, sandbox.reader, threads=len(os.sched_getaffinity(0)))
            rows.append({"table": "streams", "what": f"whole pipeline, {name}", "cores": len(os.sched_getaffinity(0)), "streams": streams})
    return [{**card, **row} for row in rows]


def roofline_row(model: Model, batch: int, peaks: Peaks) -> dict[str, Any]:
    """Crops a second through eye and memory, beside what the card's peaks allow for what they compute."""
    memories = TemporalSlots(model.temporal, batch, step=model.step)
    slots = [memories.acquire() for _ in range(batch)]
    crops, dt = np.stack([look.crop for look in _looks(slots)]), torch.full((batch, 1), 1 / HZ)
    # Reading the logits waits for the GPU.
    took_s = _mean_s(lambda: memories.step(model.eye(crops).embedding, slots, dt).logit.tolist())
    work = eye_work(model.encoder.dims, batch) + memory_work(model.temporal, batch)
    return {
        "table": "roofline",
        "batch": batch,
        "crops_per_s": round(batch / took_s),
        "ms": round(1e3 * took_s, 3),
        "arithmetic_ms": round(1e3 * work.flops / peaks.flops_per_s, 3),
        "memory_ms": round(1e3 * work.nbytes / peaks.bytes_per_s, 3),
        "of_roofline": round(peaks.least_s(work) / took_s, 3),
        "mflop_per_crop": round(work.flops / batch / 1e6, 1),
        "mb_per_crop": round(work.nbytes / batch / 1e6, 1),
    }


def tick(inference: Inference, looks: int) -> dict[str, int]:
    """What one tick asks of the driver: launches of kernels and of graphs, copies, and how often it waits."""
    slots = [inference.acquire() for _ in range(looks)]
    inference.judge(_looks(slots))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if inference.model.device.type == "cuda" else [])
    with profile(activities=activities) as profiled:
        inference.judge(_looks(slots))
    for slot in slots:
        inference.release(slot)
    return {"looks": looks, **calls(event.name for event in profiled.events())}


def calls(names: Iterable[str]) -> dict[str, int]:
    """Calls of the driver by what they are for, of all that a profiler saw."""
    seen = Counter(names)
    counts = dict.fromkeys(("kernels", "graphs", "copies"), 0)
    for name, kind in LAUNCHES.items():
        counts[kind] += sum(times for call, times in seen.items() if call.startswith(name))
    return {**counts, "waits": sum(seen[name] for name in WAITS)}


def streams_of(inference: Inference, looks: int) -> float:
    """Streams of HZ looks a second that ticks of so many looks can carry, one after another."""
    slots = [inference.acquire() for _ in range(looks)]
    given = _looks(slots)
    took_s = _mean_s(lambda: inference.judge(given))
    for slot in slots:
        inference.release(slot)
    return round(looks / took_s / HZ, 1)


def whole_streams(model: Model, clip: Path, read: Reader, *, threads: int) -> float:
    """Streams in real time: seconds of media that were judged at HZ looks a second, by so many streams at once, in one second."""
    with Engine(model) as engine:

        def one(_: int) -> float:
            with engine.seat() as seat, read(clip, hz=HZ, limits=None, closely=None) as frames:
                analysis = Analysis(model, seat=seat)
                for frame in frames:
                    analysis.push(frame)
                return analysis.finish().coverage.duration_s

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(threads)))  # the children are started, the nets are warm
            began = time.perf_counter()
            media_s = sum(pool.map(one, range(3 * threads)))
            return round(media_s / (time.perf_counter() - began), 1)


def _looks(slots: list[int]) -> list[Look]:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (len(slots), 160, 160, 3), dtype=np.uint8)
    return [Look(crop, slot, 1 / HZ) for crop, slot in zip(crops, slots, strict=True)]


def _mean_s(work: Callable[[], object]) -> float:
    work()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        work()
        rounds += 1
    return (time.perf_counter() - began) / rounds


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
