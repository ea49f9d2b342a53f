"""`python -m tests.benchmarks`: runs every benchmark on one thread, writes results.json, prints the table that the README shows."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks import bench_walk
from tests.support import ROOT

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Measure, write, print."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    walk = bench_walk.run()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    results = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "machine": {"processor": _processor(), "threads": 1, "system": platform.platform()},
        "versions": {name: version(name) for name in ("torch", "av", "opencv-python-headless", "numpy")},
        "walk": walk,
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for row in walk:
        table = Table("stage", "CPU-ms per frame judged", title=row["clip"])
        for stage, spent in row["cpu_ms_per_judged_frame"].items():
            table.add_row(stage, f"{spent:.2f}")
        table.add_row("all", f"{row['cpu_ms_per_judged_frame_all']:.2f}")
        table.add_row("all, per frame decoded", f"{row['cpu_ms_per_decoded_frame_all']:.2f}")
        table.add_row("decoding alone, per frame", f"{row['cpu_ms_per_decoded_frame_decode_alone']:.2f}")
        table.add_row("walk over decoding alone", f"{row['walk_over_decode_alone']:.1f} x")
        table.add_row("media seconds per CPU second", f"{row['media_s_per_cpu_s']:.1f}")
        Console().print(table)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    main()
