"""What a result is made with besides media: settings and a model come in, a digest goes out, or all of it in words.

Used by `judging.py`, `admission.py`, `cli.py` and `rejudging.py`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from pipelines.analysis import Model
from pipelines.media import Limits
from pipelines.verdict import AnalysisReport
from service import __version__
from service.pack_wire import Config, MachineOut
from service.schemas import ModelOut
from service.settings import Settings

LIBRARIES: Final = ("av", "facenet-pytorch", "numpy", "onnxruntime", "opencv-python-headless", "scipy", "torch", "torchvision")
"""On whose arithmetic the numbers hang."""


def recipe(settings: Settings, model: Model) -> str:
    """Equal bytes and equal digests make equal results; the device is no part of it."""
    parts = {"version": __version__, "weights": model.info.weights_sha256, "hz": settings.hz, "limits": asdict(settings.limits)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def config(
    report: AnalysisReport, model: Model, *, hz: float | None, limits: Limits, triaged: bool = False, threshold_version: int = 0
) -> Config:
    """With what `report` was made, to be kept with it."""
    return Config(
        version=__version__,
        commit=_commit(),
        hz=hz,
        triaged=triaged,
        limits=asdict(limits),
        threshold=report.verdict.threshold,
        threshold_version=threshold_version,
        target_fpr=report.verdict.target_fpr,
        model=ModelOut.of(report.model),
        machine=machine(model.device),
    )


def machine(device: torch.device) -> MachineOut:
    """This machine, as far as numbers hang on it."""
    return MachineOut(
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
    )


@cache
def _processor() -> str:
    """Its own name: a library chooses by it how it adds."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(named or [platform.processor()])[0]}, {torch.backends.cpu.get_cpu_capability()}"


@cache
def _commit() -> str | None:
    """Of the checkout that this code lies in, `-dirty` if it was changed since; None where it is installed without one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        said = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
