"""What the service takes before anybody uses it: seconds until it is ready, memory while idle, and what its packages take on disk.

Started as `make run` starts it, in an environment that is set up.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import httpx
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.benchmarks.bench_load import MIB, children
from tests.ports import free_port
from tests.support import ROOT

TIMES: Final = 3
IDLE_S: Final = 20.0
MAKE_S: Final = 180.0
GPU: Final = re.compile(r"(nvidia|cuda|triton)")
"""Packages, and libraries within torch, that its wheels for a CPU come without."""


def run() -> list[dict[str, Any]]:
    """One row; times are the median of three."""
    starts = [_started() for _ in range(TIMES)]
    on_disk, for_gpus = _on_disk()
    return [
        {
            "ready_s": round(statistics.median(ready_s for ready_s, _ in starts), 1),
            "import_s": round(statistics.median(_imported_s() for _ in range(TIMES)), 1),
            "idle": starts[-1][1],
            "packages": len(on_disk),
            "packages_mib": on_disk.total() // MIB,
            "for_gpus_mib": for_gpus // MIB,
            "largest_mib": {name: size // MIB for name, size in on_disk.most_common(6)},
        }
    ]


def _started() -> tuple[float, dict[str, Any]]:
    """From the command to the first /readyz that says yes; then what it holds when nothing has happened for a while."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "UNDERCURRENT_DATA_DIR": folder, "UNDERCURRENT_DEVICE": "cpu"}
        began = time.monotonic()
        command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(port)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                while not _ready(port):
                    if process.poll() is not None or time.monotonic() > began + MAKE_S:
                        raise RuntimeError(f"expected a service that is ready, got status {process.poll()}")
                    time.sleep(0.02)
                ready_s = time.monotonic() - began
                time.sleep(IDLE_S)
                return ready_s, _held(process.pid)
            finally:
                process.terminate()


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _held(pid: int) -> dict[str, Any]:
    below = children(pid)
    return {
        "resident_mib": _rollup(pid, "Rss"),
        "proportional_mib": _rollup(pid, "Pss"),
        "children": len(below),
        "children_resident_mib": sum(_rollup(child, "Rss") for child in below),
        "children_proportional_mib": sum(_rollup(child, "Pss") for child in below),
    }


def _rollup(pid: int, what: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) // 1024
    raise ValueError(f"expected {what} in smaps_rollup, got none")


def _imported_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import service.app"], cwd=ROOT, check=True)
    return time.monotonic() - began


def _on_disk() -> tuple[Counter[str], int]:
    """Bytes of each package that the service needs, as the disk has them, and those of them that are for GPUs."""
    sizes: Counter[str] = Counter()
    for_gpus = 0
    for name, package in _needed("undercurrent").items():
        for file in package.files or ():
            with suppress(FileNotFoundError):
                size = Path(str(file.locate())).stat().st_blocks * 512
                sizes[name] += size
                for_gpus += size if GPU.search(name) or (name == "torch" and GPU.search(file.name)) else 0
    return sizes, for_gpus


def _needed(name: str) -> dict[str, Distribution]:
    """A package with all that it needs on this machine."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    asked = [(name, "")]
    while asked:
        name, extra = asked.pop()
        key = canonicalize_name(name)
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        with suppress(PackageNotFoundError):
            found[key] = distribution(name)
            for wanted in map(Requirement, found[key].requires or ()):
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    asked += [(wanted.name, one) for one in ("", *wanted.extras)]
    return found
