"""A long result: a service's data directory comes in, an analysis of four hours with four faces lies there as if it had been judged.

What is drawn and sent has the real schema, size and density; only nobody looked at 1.7 million faces for it. Used by `bench_scroll.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.signal import lfilter

from models.calibration import probability
from pipelines.verdict import AnalysisReport, Coverage, EvidenceCrop, Probability, Segment, TrackReport
from service.connection import database_url
from service.database import AnalysisRow, Database, now
from service.ids import new_id
from service.objects import Objects
from service.report import crop_images
from service.schemas import AnalysisResult, Timeline, TimelineRow, timeline
from service.settings import DEFAULT_TENANT, Settings
from service.storage import COLUMNS, TIMELINE, Storage
from tests.service.reports import MS, make_report
from tests.service.test_storage import CONFIG

HOURS: Final = 4
FACES: Final = 4
HZ: Final = 30
LOOKS: Final = HOURS * 3600 * HZ
AWAY: Final = 37
"""Every so many minutes a face is too blurred to be judged, for one minute."""
CHUNK: Final = 20_000


def store(data_dir: Path, media: bytes) -> str:
    """Put it there; the id of the analysis. Its timeline has no columns yet, like those that are older than columns are."""
    settings = Settings(data_dir=data_dir)
    analysis_id = new_id()
    objects = Objects.in_directory(data_dir)
    report = _report()
    result = AnalysisResult.from_report(report, sha256=hashlib.sha256(media).hexdigest())
    Storage(objects, data_dir.parent / "scratch").write_evidence(analysis_id, result, timeline(report), crop_images(report), CONFIG)
    evidence = f"analyses/{analysis_id}/evidence"
    objects.put(f"{evidence}/{TIMELINE}", _timeline(report))
    objects.remove(f"{evidence}/{COLUMNS}")
    objects.put(f"analyses/{analysis_id}/media", media)
    row = AnalysisRow(
        id=analysis_id,
        tenant=DEFAULT_TENANT,
        status="succeeded",
        verdict=result.verdict,
        sentence=result.sentence,
        p=0.95,
        severity=0.9,
        filename="four hours.mp4",
        media_type="video/mp4",
        size_bytes=len(media),
        sha256=hashlib.sha256(media).hexdigest(),
        created_at=now(),
        finished_at=now(),
    )
    asyncio.run(_add(settings, row))
    return analysis_id


async def _add(settings: Settings, row: AnalysisRow) -> None:
    database = await Database.open(database_url(settings))
    await database.add(row)
    await database.close()


def _report() -> AnalysisReport:
    report = make_report()
    seconds = float(HOURS * 3600)
    score = Probability(0.95, 0.9, 0.98)
    crop = report.verdict.tracks[0].crops[0]
    ends = [(1000 * t, 1000 * t + 45_000) for t in range(600, HOURS * 3600, 1800)]
    tracks = tuple(
        TrackReport(track, 0, 1000 * (HOURS * 3600) - 33, MS, LOOKS, LOOKS, score, None, (0.03, 0.2, 0.9), _crops(crop))
        for track in range(FACES)
    )
    verdict = replace(
        report.verdict,
        score=score,
        coverage=Coverage(seconds, seconds, FACES, FACES, ()),
        segments=tuple(Segment(begin, end, MS, score, (n % FACES,)) for n, (begin, end) in enumerate(ends)),
        tracks=tracks,
    )
    return replace(report, verdict=verdict, scores=(), frame_pts=())


def _crops(crop: EvidenceCrop) -> tuple[EvidenceCrop, ...]:
    return tuple(replace(crop, pts=60_000 * n) for n in range(3))


def _timeline(report: AnalysisReport) -> bytes:
    """Logits that wander as those of a face do, a row for each face and look; written in pieces, since as objects they are gigabytes."""
    random = np.random.default_rng(9)
    pts = np.round(np.arange(LOOKS) * 1000 / HZ).astype(int).tolist()
    logits = -2 + lfilter([0.02], [1, -0.999], random.normal(0, 1, (FACES, LOOKS))) + random.normal(0, 0.3, (FACES, LOOKS))
    surprises = np.exp(random.normal(-0.1, 0.35, (FACES, LOOKS)))
    head = Timeline(time_base=(1, 1000), threshold=report.verdict.threshold, frame_pts=pts, rows=[]).model_dump_json().encode()
    write = TypeAdapter(list[TimelineRow]).dump_json
    pieces = [
        write([_row(track, n, pts, logits, surprises) for n in range(begin, min(begin + CHUNK, LOOKS)) for track in range(FACES)])[1:-1]
        for begin in range(0, LOOKS, CHUNK)
    ]
    return head[: -len(b"]}")] + b",".join(pieces) + b"]}"


def _row(track: int, n: int, pts: list[int], logits: NDArray[np.float64], surprises: NDArray[np.float64]) -> TimelineRow:
    missed = (n // (60 * HZ)) % AWAY == track
    logit = float(logits[track, n])
    return TimelineRow.model_construct(
        track=track,
        pts=pts[n],
        t=pts[n] / 1000,
        dt=(pts[n] - pts[n - 1]) / 1000 if n else None,
        logit=None if missed else logit,
        p=None if missed else probability(logit),
        surprise=None if missed else float(surprises[track, n]),
        box=(100.5 + 140 * track, 80.25, 220.125 + 140 * track, 230.0),
        reason="motion_blur" if missed else None,
        flags=[],
    )
