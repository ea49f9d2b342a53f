"""`python -m tests.benchmarks`: runs the benchmarks on one thread, writes results.json, prints the tables that the README shows."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
from rich.console import Console

from tests.benchmarks import (
    bench_ablation,
    bench_attention,
    bench_card,
    bench_crash,
    bench_decode,
    bench_edge,
    bench_faults,
    bench_footprint,
    bench_gpu,
    bench_latency,
    bench_length,
    bench_liquid,
    bench_liquid_gpu,
    bench_live,
    bench_load,
    bench_pairs,
    bench_peers,
    bench_scroll,
    bench_seconds,
    bench_soak,
    bench_takeover,
    bench_timeline,
    bench_walk,
    bench_xor,
    render,
)
from tests.support import ROOT

RESULTS = Path(__file__).with_name("results.json")
BENCHMARKS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "walk": bench_walk.run,
    "peers": bench_peers.run,
    "timeline": bench_timeline.run,
    "decode": bench_decode.run,
    "edge": bench_edge.run,
    "live": bench_live.run,
    "latency": bench_latency.run,
    "faults": bench_faults.run,
    "soak": bench_soak.run,
    "attention": bench_attention.run,
    "length": bench_length.run,
    "day": bench_length.day,
    "liquid": bench_liquid.run,
    "seconds": bench_seconds.table,
    "xor": bench_xor.run,
    "ablation": bench_ablation.run,
    "card": bench_card.run,
    "gpu": bench_gpu.run,
    "liquid_gpu": bench_liquid_gpu.run,
    "pairs": bench_pairs.run,
    "crash": bench_crash.run,
    "takeover": bench_takeover.run,
    "load": bench_load.run,
    "footprint": bench_footprint.run,
    "scroll": bench_scroll.run,
}
ON_REQUEST = frozenset(
    {
        "seconds",
        "xor",
        "ablation",
        "card",
        "gpu",
        "liquid_gpu",
        "pairs",
        "live",
        "latency",
        "faults",
        "soak",
        "attention",
        "length",
        "day",
        "crash",
        "takeover",
        "load",
        "footprint",
        "scroll",
    }
)
"""They take half an hour or more, are about a GPU or need a browser; they run only when they are asked for by name."""


def main(arguments: Sequence[str]) -> None:
    """Measure, write, print; or rewrite the README from what was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names,
        default=[name for name in BENCHMARKS if name not in ON_REQUEST],
        help="a comma list of " + ", ".join(BENCHMARKS),
    )
    parser.add_argument("--readme", action="store_true", help="measure nothing; put the tables of results.json into README.md")
    asked = parser.parse_args(arguments)
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    if asked.readme:
        readme = ROOT / "README.md"
        readme.write_text(render.rewrite(readme.read_text("utf-8"), results), "utf-8")
        card = ROOT / "models" / "weights" / "README.md"
        card.write_text(render.rewrite(card.read_text("utf-8"), results, render.IN_MODEL_CARD), "utf-8")
        return
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in asked.only:
        results[name] = BENCHMARKS[name]()
        # Each part says when and where it was measured: the others keep their earlier rows.
        results.setdefault("measured", {})[name] = _circumstances()
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        for table in render.tables(name, results[name]):
            Console().print(table.rich())


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(BENCHMARKS)}; got {', '.join(unknown)}")
    return names


def _circumstances() -> dict[str, Any]:
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "machine": {"processor": _processor(), "threads": 1, "system": platform.platform()},
        "versions": {name: version(name) for name in ("torch", "av", "opencv-python-headless", "numpy", "ncps")},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    # `undercurrent bench` runs this module too, and its own command line is none of ours.
    main(sys.argv[1:] if Path(sys.argv[0]).name == "__main__.py" else [])
