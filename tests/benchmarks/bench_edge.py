"""The edge profile: what a look costs its example, where no torch is, beside `analyse`; and the memory's compiled step beside torch's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from models.compiled_step import INPUTS, CompiledStep, step_bytes
from pipelines.analysis import Model, analyse, load_model
from pipelines.edge_bundle import edge_files
from tests.benchmarks.bench_walk import walk_clips

EXAMPLE = r"""
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
import cv2, detect
from fractions import Fraction
from pathlib import Path
cv2.setNumThreads(1)
judge = detect.Judge(detect.Bundle(Path(sys.argv[1])))
start = time.process_time()
looks = {pts: judge.look(image, pts, base).logit for image, pts, base in detect.pictures(sys.argv[2], Fraction(12))}
spent = time.process_time() - start
# Not getrusage: what a process starts out with there is the peak of the one that started it.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
assert "torch" not in sys.modules
print(json.dumps({"looks": looks, "start_s": start, "spent_s": spent, "peak_kb": peak}))
"""
SWEEP_BYTES = 32 * 1024**2
REPEATS = 300


def run() -> list[dict[str, Any]]:
    """Rows of three tables: the bundle's size, one a clip (the best of two runs), one a way to step (medians)."""
    model = load_model()
    with tempfile.TemporaryDirectory() as folder:
        size = 0
        for name, content in edge_files(model):
            Path(folder, name).write_bytes(content)
            size += len(content)
        rows: list[dict[str, Any]] = [{"table": "size", "bundle_mb": round(size / 1e6, 2)}]
        rows += [_look(name, path, Path(folder), model) for name, path in walk_clips()]
    return rows + _steps(model)


def _look(name: str, clip: Path, folder: Path, model: Model) -> dict[str, Any]:
    command = [sys.executable, "-c", EXAMPLE, str(folder), str(clip)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(2)]
    example = min(runs, key=lambda one: one["spent_s"])
    reports = [analyse(clip, model, hz=12) for _ in range(2)]
    report = min(reports, key=lambda one: sum(stage.cpu_s for stage in one.stages))
    looks = len(report.frame_pts)
    differences = [abs(example["looks"][str(score.pts)] - score.logit) for score in report.scores if score.logit is not None]
    return {
        "table": "looks",
        "clip": name,
        "looks": looks,
        "example_ms": round(1000 * example["spent_s"] / looks, 3),
        "analyse_ms": round(1000 * sum(stage.cpu_s for stage in report.stages) / looks, 3),
        "example_start_ms": round(1000 * example["start_s"], 1),
        "example_peak_mb": round(example["peak_kb"] * 1024 / 1e6, 1),
        "largest_difference": max(differences),
    }


def _steps(model: Model) -> list[dict[str, Any]]:
    """Warm is a loop; cold comes after other work has pushed everything out of the caches, as between two pictures of a real walk."""
    head = model.temporal
    x, dt, state = torch.randn((1, head.inputs)), torch.full((1, 1), 1 / 30), head.init(1)
    compiled = CompiledStep(head)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(step_bytes(head), options, providers=["CPUExecutionProvider"])
    feed = {name: part.numpy() for name, part in zip(INPUTS, (x, *state, dt), strict=True)}
    ways: dict[str, Callable[[], object]] = {
        "TemporalHead.step, torch": lambda: head.step(x, state, dt),
        "CompiledStep": lambda: compiled(x, state, dt),
        "memory.onnx in a bare session": lambda: session.run(None, feed),
    }
    sweep = np.zeros(SWEEP_BYTES, np.uint8)
    with torch.inference_mode():
        return [
            {"table": "step", "step": name, "warm_us": _us(way), "cold_us": _us(way, lambda: np.add(sweep, 1, out=sweep))}
            for name, way in ways.items()
        ]


def _us(way: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    for _ in range(50):
        way()
    spent = []
    for _ in range(REPEATS):
        before()
        start = time.perf_counter()
        way()
        spent.append(time.perf_counter() - start)
    return round(1e6 * float(np.median(spent)), 1)
