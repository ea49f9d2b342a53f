"""Does judging cost more the longer it lasts? A clip in a loop for 10, 100 and 1,000 s, and one live analysis for a day of media.

The day has a look every two seconds, so that it takes minutes; what grows with time (timestamps, memories, what a verdict keeps) does not
know. Every hour nobody is there for a while, and the same eight seconds are judged at the end as at the start.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.analysis import Analysis, analyse, load_model
from pipelines.frames import read_frames
from pipelines.inference import Inference
from pipelines.media import Frame, Image
from pipelines.model import Model
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped

LENGTHS_S: Final = (10, 100, 1000)
DAY_S: Final = int(os.environ.get("DAY_SECONDS", str(24 * 3600)))
TICK: Final = Fraction(1, 90_000)
HORIZON_S: Final = 600.0
AWAY_S: Final = 60
EVERY_S: Final = 2
SAMPLE_S: Final = 600


def run() -> list[dict[str, Any]]:
    """One row a length."""
    if not REAL_CLIP.is_file():
        return []
    model = load_model()
    analyse(REAL_CLIP, model)  # warms up
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in LENGTHS_S:
            report = analyse(looped(REAL_CLIP, Path(folder) / f"{seconds}.mp4", seconds), model)
            lasted = report.verdict.coverage.duration_s
            cpu_ms = 1000 * sum(stage.cpu_s for stage in report.stages) / lasted
            rows.append({"what": f"{seconds:,} s", "media_s": round(lasted), "cpu_ms_per_media_s": round(cpu_ms, 1)})
    return rows


def day() -> list[dict[str, Any]]:
    """One row: a camera that is watched for a day."""
    return [_day(load_model())] if REAL_CLIP.is_file() else []


def _day(model: Model) -> dict[str, Any]:
    with read_frames(REAL_CLIP, hz=12) as source:
        pictures = [frame.image for frame in source]
    seat = Inference(model)
    analysis = Analysis(model, seat=seat, horizon_s=HORIZON_S)
    first = _once(analysis, pictures, 0.0)
    nobody = np.zeros_like(pictures[0])
    resident, slots, cpu = [], [], time.process_time()
    n = 0
    for t in range(20, DAY_S, EVERY_S):
        picture = nobody if t % 3600 < AWAY_S else pictures[t % len(pictures)]
        analysis.push(Frame(picture, round(t / TICK), TICK))
        n += 1
        if t % SAMPLE_S == 0:
            gc.collect()
            resident.append(_resident())
            slots.append(len(seat))
    cpu_s = time.process_time() - cpu
    last = _once(analysis, pictures, float(DAY_S))
    analysis.close()
    quarter = max(1, len(resident) // 4)
    return {
        "what": "live, a day of media",
        "media_s": DAY_S,
        "looks": n,
        "cpu_ms_per_look": round(1000 * cpu_s / n, 2),
        "memory_grew": round(float(np.mean(resident[-quarter:]) / np.mean(resident[:quarter]) - 1), 4),
        "slots_most": max(slots),
        "slots_left": len(seat),
        "tracks": analysis.faces,
        "looks_kept": analysis.frames,
        "p_moved_most": float(np.abs(np.array(first) - np.array(last)).max()),
    }


def _once(analysis: Analysis, pictures: list[Image], start_s: float) -> list[float]:
    """The same pictures after a break of the timeline: the same scores, whenever it is."""
    found = []
    for i, picture in enumerate(pictures):
        flags = frozenset({"discontinuity"} if i == 0 else ())
        scores = analysis.push(Frame(picture, round((start_s + 10 + i / 12) / TICK), TICK, flags=flags))  # type: ignore[arg-type]
        found += [score.p for score in scores if score.p is not None]
    return found


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
