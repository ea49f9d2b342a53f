"""CPU time of the walk: a 720p clip in, CPU-ms of each stage for each frame looked at out, beside decoding alone in the same run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.analysis import analyse, load_model
from pipelines.frames import read_frames
from tests.clips import face_frame, regular_pts, write_clip
from tests.support import ROOT

REAL_CLIP = ROOT.parent / "shared" / "data" / "published" / "clips" / "NVIDIA-Maxine__nim-clients" / "assets_sample_streamable.mp4"


def run() -> list[dict[str, Any]]:
    """One row a clip; the best of two runs, the first of which warms up."""
    model = load_model()
    rows = []
    for name, path in walk_clips():
        decode_ms = min(_decode_alone(path) for _ in range(2))
        reports = [analyse(path, model, hz=12) for _ in range(2)]
        report = min(reports, key=lambda one: sum(stage.cpu_s for stage in one.stages))
        looks, decoded = len(report.frame_pts), report.counts.decoded
        stages = {stage.stage: round(1000 * stage.cpu_s / looks, 3) for stage in report.stages}
        whole_ms = 1000 * sum(stage.cpu_s for stage in report.stages)
        seconds = report.verdict.coverage.duration_s
        rows.append(
            {
                "clip": name,
                "frames_decoded": decoded,
                "frames_judged": looks,
                "cpu_ms_per_judged_frame": stages,
                "cpu_ms_per_judged_frame_all": round(whole_ms / looks, 3),
                "cpu_ms_per_decoded_frame_all": round(whole_ms / decoded, 3),
                "cpu_ms_per_decoded_frame_decode_alone": round(decode_ms, 3),
                "walk_over_decode_alone": round(whole_ms / decoded / decode_ms, 2),
                "media_s_per_cpu_s": round(seconds / (whole_ms / 1000), 2),
            }
        )
    return rows


def walk_clips() -> Iterator[tuple[str, Path]]:
    """A clip made here, and a real one where the data are."""
    with tempfile.TemporaryDirectory() as folder:
        pts = regular_pts(6.0, 30)
        path = Path(folder) / "face.mp4"
        yield "made here, 720p30, one face", write_clip(path, (face_frame(t / 1000, width=1280, height=720, px=540) for t in pts), pts)
    if REAL_CLIP.is_file():
        yield "real clip, 720p30, one face", REAL_CLIP


def _decode_alone(path: Path) -> float:
    """CPU-ms per decoded frame when almost none is converted and none is judged."""
    with read_frames(path, hz=0.01) as source:
        before = time.process_time()
        for _frame in source:
            pass
        return 1000 * (time.process_time() - before) / source.counts.decoded
