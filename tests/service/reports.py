"""A hand-made but plausible report: two faces, a gap, unjudged seconds, a segment, crops. For tests of what is drawn from one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from models.calibration import probability
from pipelines.media import FrameCounts, MediaInfo, MediaWarning
from pipelines.time_report import Gap, TimeReport
from pipelines.verdict import (
    AnalysisReport,
    Coverage,
    CoverageReason,
    EvidenceCrop,
    ModelInfo,
    Probability,
    Score,
    Segment,
    StageTime,
    TrackReport,
    Verdict,
)

MS = Fraction(1, 1000)


def make_report(*, faces: bool = True) -> AnalysisReport:
    """Ten seconds at 10 looks a second without pictures from 6 to 9 s; face 0 is manipulated from 2 to 4 s, face 1 is too small."""
    pts = [t for t in range(0, 10_000, 100) if not 6000 < t < 9000]
    scores, tracks, segments = [], [], []
    if faces:
        logits = {t: 3.0 if 2000 <= t <= 4000 else -2.0 for t in pts}
        gaps = dict(zip(pts[1:], np.diff(pts) / 1000, strict=True))
        scores = [
            Score(0, t, MS, gaps.get(t), (100, 80, 260, 280), logits[t], probability(logits[t]), 2.5 if logits[t] > 0 else 0.9) for t in pts
        ] + [Score(1, t, MS, gaps.get(t), (400, 90, 440, 140), None, None, None, "face_too_small") for t in pts[:30]]
        scores.sort(key=lambda score: (score.pts, score.track))
        crop = np.full((160, 160, 3), 140, dtype=np.uint8)
        heat = np.zeros((20, 20), dtype=np.uint8)
        heat[5:15, 6:14] = 220
        crops = tuple(EvidenceCrop(t, MS, 0.95, crop, heat) for t in (0, 2500))
        tracks = [
            TrackReport(0, 0, pts[-1], MS, len(pts), len(pts), Probability(0.61, 0.4, 0.78), None, (0.03, 0.2, 0.9), crops),
            TrackReport(1, 0, 2900, MS, 30, 0, None, "face_too_small", None, ()),
        ]
        segments = [Segment(2000, 4000, MS, Probability(0.95, 0.9, 0.98), (0,))]
    verdict = Verdict(
        verdict="manipulated" if faces else "not_applicable",
        score=Probability(0.61, 0.4, 0.78) if faces else None,
        threshold=0.8,
        target_fpr=0.01,
        reasons=() if faces else ("no_face",),
        coverage=Coverage(
            10.0,
            9.0 if faces else 0.0,
            2 if faces else 0,
            int(faces),
            (CoverageReason("gap" if faces else "no_face", 1.0 if faces else 10.0),),
        ),
        segments=tuple(segments),
        tracks=tuple(tracks),
        reach=0.9 if faces else None,
    )
    return AnalysisReport(
        verdict=verdict,
        scores=tuple(scores),
        media=MediaInfo("matroska,webm", "vp9", 640, 480, MS, 30.0, 10.0, 123_456),
        counts=FrameCounts(decoded=240, yielded=len(pts), duplicate=2),
        time=TimeReport(
            provenance="container",
            frames=240,
            span_s=9.9,
            nominal_fps=30.0,
            true_fps=24.1,
            median_dt_s=1 / 30,
            min_dt_s=0.016,
            max_dt_s=3.0,
            variability=0.31,
            variable=True,
            index_error_s=1.9,
            gaps=(Gap(6.0, 9.0),),
            gap_count=1,
            duplicates=2,
            no_pts=0,
            backward=0,
            wraps=0,
            epochs=1,
            corrupt=0,
            tainted=0,
            partial=0,
            decode_errors=0,
        ),
        warnings=(MediaWarning("timestamps_repaired", "Dropped 2 repeated, 0 backward and 0 missing timestamps."),),
        stages=(StageTime("decode", 0.4, 240), StageTime("faces", 1.2, len(pts)), StageTime("encoder", 0.6, len(pts))),
        model=ModelInfo("undercurrent", "1", "ab" * 32, 1, "1-abababab"),
        frame_pts=tuple(pts),
    )
