"""The judge: a stream's moments in, one Verdict with tracks, segments and coverage out. Fed by `analysis.py`.

Two statistics accuse, each at half the target false-positive rate (Bonferroni): the mean log-odds of a whole track, and the mean of any
one-second stretch of it, which finds a fake that was spliced into real footage.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibrator, Thresholds, probability
from pipelines.verdict import (
    Coverage,
    CoverageReason,
    EvidenceCrop,
    Ledger,
    LedgerShare,
    Probability,
    ReasonCode,
    Segment,
    TrackReport,
    Verdict,
    VerdictName,
)

MIN_MOMENTS: Final = 8
MIN_TRACK_S: Final = 1.0
STRETCH_S: Final = 1.0
MIN_SEGMENT_S: Final = 0.5
# A picture speaks for the time until the next one, as a player shows it, but not for longer than this.
HOLD_S: Final = 2.0
# Below both of these a verdict of "no evidence" would rest on too little.
MIN_COVERAGE: Final = 0.2
MIN_JUDGED_S: Final = 3.0
ROUNDING: Final = 1e-9
"""Log-odds: a limit that was put at a value, and moved there by adding, may lie an ulp above it."""
MAX_CROPS: Final = 4
CROP_SPACING_S: Final = 1.0
MAX_SHARES: Final = 12
"""Stretches of a track's ledger: as many as somebody reads."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One judged observation of one track."""

    pts: int
    artefact: float
    """Running mean of the encoder's logit."""
    temporal: float
    logit: float
    tau_s: tuple[float, float, float]


@dataclass(slots=True)
class TrackRecord:
    """All that is remembered of one track until the verdict."""

    id: int
    first_pts: int
    last_pts: int
    observations: int = 0
    moments: list[Moment] = field(default_factory=list)
    refused: Counter[ReasonCode] = field(default_factory=Counter)
    crops: list[EvidenceCrop] = field(default_factory=list)

    def forget(self, oldest_pts: int) -> None:
        """Let go of what was before; refusals, whose times are not kept, are counted anew."""
        self.first_pts = max(self.first_pts, oldest_pts)
        self.moments = [moment for moment in self.moments if moment.pts >= oldest_pts]
        self.refused.clear()
        self.observations = len(self.moments)
        self.crops = [crop for crop in self.crops if crop.pts >= oldest_pts]

    def keep(self, crop: EvidenceCrop) -> None:
        """Keep the first crop and the most suspicious others, at least a second apart."""
        near = [old for old in self.crops[1:] if abs(float((old.pts - crop.pts) * crop.time_base)) < CROP_SPACING_S]
        if near:
            if (crop.p or 0) > max(old.p or 0 for old in near):
                self.crops = [old for old in self.crops if old not in near] + [crop]
        else:
            self.crops.append(crop)
        if len(self.crops) > MAX_CROPS:
            self.crops.remove(min(self.crops[1:], key=lambda old: old.p or 0))


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one analysed frame showed: its tracks, and why the largest face was refused if none was judged."""

    pts: int
    judged: tuple[int, ...]
    reason: ReasonCode | None
    sparse: bool = False
    """Whether what was filmed between this frame and the next was left out on purpose."""


class Judge:
    """Applies one Calibrator and the rules above.

    Args:
        calibrator: fuses.
        thresholds: decide; None: those that the calibrator was fitted with.
    """

    def __init__(self, calibrator: Calibrator, thresholds: Thresholds | None = None) -> None:
        self.calibrator = calibrator
        self.thresholds = thresholds or calibrator.shipped

    def verdict(
        self, tracks: list[TrackRecord], sightings: list[Sighting], time_base: Fraction, *, duration_s: float | None = None
    ) -> Verdict:
        """The Verdict over everything seen; `time_base` is that of every PTS in it. See `Analysis.finish` for `duration_s`."""
        reports = [self._report(track, time_base) for track in tracks]
        counted = {report.id for report in reports if report.score is not None}
        coverage = _coverage(sightings, counted, len(tracks), time_base, duration_s)
        judged = [track for track in tracks if track.id in counted]
        segments = self._segments(judged, time_base)
        scores = [report.score for report in reports if report.score is not None]
        strongest = max(scores, key=lambda score: score.p) if scores else None
        name, reasons = self._decide(strongest, segments, coverage, bool(tracks))
        return Verdict(
            verdict=name,
            score=strongest,
            threshold=self.thresholds.p,
            target_fpr=self.thresholds.target_fpr,
            reasons=reasons,
            coverage=coverage,
            segments=segments if name == "manipulated" else (),
            tracks=tuple(reports),
            reach=None if strongest is None else max(strongest.p, *(self._reach(track, time_base) for track in judged)),
        )

    def _decide(
        self, score: Probability | None, segments: tuple[Segment, ...], coverage: Coverage, faces: bool
    ) -> tuple[VerdictName, tuple[ReasonCode, ...]]:
        missing = tuple(reason.code for reason in sorted(coverage.reasons, key=lambda r: -r.duration_s))
        if not faces:
            return "not_applicable", ("no_face",)
        if score is None:
            return "inconclusive", tuple(code for code in missing if code != "no_face") or ("too_short",)
        if segments or score.p >= self.thresholds.p:
            return "manipulated", ()
        if score.p >= probability(self.thresholds.doubt):
            return "inconclusive", ("weak_evidence",)
        if coverage.judged_s < MIN_JUDGED_S and coverage.judged_s < MIN_COVERAGE * coverage.duration_s:
            return "inconclusive", missing or ("too_short",)
        return "no_evidence", ()

    def _report(self, track: TrackRecord, time_base: Fraction) -> TrackReport:
        lasted = float((track.last_pts - track.first_pts) * time_base)
        enough = len(track.moments) >= MIN_MOMENTS and lasted >= MIN_TRACK_S
        reason: ReasonCode | None = None
        if not enough:
            reason = track.refused.most_common(1)[0][0] if track.refused.total() > len(track.moments) else "too_short"
        return TrackReport(
            id=track.id,
            first_pts=track.first_pts,
            last_pts=track.last_pts,
            time_base=time_base,
            observations=track.observations,
            judged=len(track.moments),
            score=self._probability(track.moments, time_base) if enough else None,
            reason=reason,
            time_constants_s=_median_taus(track.moments),
            crops=tuple(sorted(track.crops, key=lambda crop: crop.pts)),
            ledger=self._ledger(track.moments, time_base) if enough else None,
        )

    def _ledger(self, moments: list[Moment], time_base: Fraction) -> Ledger:
        """The mean of the moments' log-odds, each moment's part of it given to the stretch of time that it lies in."""
        pts = np.array([moment.pts for moment in moments])
        seconds = (pts - pts[0]) * float(time_base)
        # Of whole seconds, so that a stretch is what a viewer calls one.
        length = max(1.0, math.ceil((seconds[-1] + 1e-9) / MAX_SHARES))
        stretch = np.minimum(seconds // length, MAX_SHARES - 1)
        starts = np.flatnonzero(np.diff(stretch, prepend=-1.0))
        ends = np.append(starts[1:], len(pts))
        parts = np.array([self.calibrator.terms(moment.artefact, moment.temporal) for moment in moments]) / len(moments)
        given = np.add.reduceat(parts, starts)
        return Ledger(
            base=self.calibrator.terms(0.0, 0.0)[2],
            shares=tuple(
                LedgerShare(int(pts[a]), int(pts[b - 1]), int(b - a), float(appearance), float(motion))
                for a, b, (appearance, motion, _) in zip(starts, ends, given, strict=True)
            ),
        )

    def _probability(self, moments: list[Moment], time_base: Fraction) -> Probability:
        """Of a stretch of one track: the mean evidence, and how much that mean would vary from second to second."""
        artefact = float(np.mean([moment.artefact for moment in moments]))
        temporal = float(np.mean([moment.temporal for moment in moments]))
        seconds = np.floor([float(moment.pts * time_base) for moment in moments])
        logits = np.array([moment.logit for moment in moments])
        means = np.array([logits[seconds == second].mean() for second in np.unique(seconds)])
        variance = float(means.var(ddof=1) / len(means)) if len(means) > 1 else float(logits.var())
        low, high = self.calibrator.interval(artefact, temporal, variance)
        return Probability(probability(self.calibrator.logit(artefact, temporal)), probability(low), probability(high))

    def _segments(self, tracks: list[TrackRecord], time_base: Fraction) -> tuple[Segment, ...]:
        """Stretches of media time in which some track's running mean is high; overlapping ones of several tracks are one."""
        found: list[tuple[int, int, int]] = []
        limits = self.thresholds
        for track in tracks:
            level = np.mean([moment.logit for moment in track.moments])
            start = limits.track if level >= limits.track else limits.stretch
            pts, smooth = _smoothed(track, time_base)
            stretches = _stretches(smooth, pts, time_base, start, min(start, limits.doubt))
            found += [(int(pts[a]), int(pts[b]), track.id) for a, b in stretches]
        by_id = {track.id: track for track in tracks}
        return tuple(self._segment(group, by_id, time_base) for group in _merged(found))

    def _reach(self, track: TrackRecord, time_base: Fraction) -> float:
        """Up to which threshold a stretch of the track would be a segment, the others moved along; 0 if there is none at any."""
        on, off = self.thresholds.stretch, min(self.thresholds.stretch, self.thresholds.doubt)
        pts, smooth = _smoothed(track, time_base)
        # Stretches only change where a limit passes a value, and the higher the limits are, the fewer there are.
        moves = np.unique(np.concatenate([smooth - on, smooth - off])) - ROUNDING
        n = bisect_left(moves, True, key=lambda by: not _stretches(smooth, pts, time_base, on + by, off + by))
        return probability(self.thresholds.track + float(moves[n - 1])) if n else 0.0

    def _segment(self, group: list[tuple[int, int, int]], tracks: dict[int, TrackRecord], time_base: Fraction) -> Segment:
        start, end = min(a for a, _, _ in group), max(b for _, b, _ in group)
        ids = sorted({track for _, _, track in group})
        scores = [self._probability([m for m in tracks[i].moments if start <= m.pts <= end], time_base) for i in ids]
        return Segment(start, end, time_base, max(scores, key=lambda score: score.p), tuple(ids))


def running_mean(pts: NDArray[np.int64], values: NDArray[np.float64], time_base: Fraction) -> NDArray[np.float64]:
    """Mean of the values within half a second either side of each moment, by media time."""
    half = float(STRETCH_S / 2 / time_base)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first, last = np.searchsorted(pts, pts - half, side="left"), np.searchsorted(pts, pts + half, side="right")
    return np.asarray((total[last] - total[first]) / (last - first))


def _smoothed(track: TrackRecord, time_base: Fraction) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    pts = np.array([moment.pts for moment in track.moments])
    return pts, running_mean(pts, np.array([moment.logit for moment in track.moments]), time_base)


def _stretches(values: NDArray[np.float64], pts: NDArray[np.int64], time_base: Fraction, on: float, off: float) -> list[tuple[int, int]]:
    """Index ranges that reach `on`, last until they fall below `off` (hysteresis), and long enough."""
    ranges: list[tuple[int, int]] = []
    above = values >= off
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(int)))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if values[a:b].max() >= on and float((int(pts[b - 1]) - int(pts[a])) * time_base) >= MIN_SEGMENT_S:
            ranges.append((int(a), int(b) - 1))
    return ranges


def _merged(found: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    groups: list[list[tuple[int, int, int]]] = []
    for stretch in sorted(found):
        if groups and stretch[0] <= max(b for _, b, _ in groups[-1]):
            groups[-1].append(stretch)
        else:
            groups.append([stretch])
    return groups


def _median_taus(moments: list[Moment]) -> tuple[float, float, float] | None:
    if not moments:
        return None
    low, middle, high = np.median(np.array([moment.tau_s for moment in moments]), axis=0)
    return float(low), float(middle), float(high)


def _coverage(sightings: list[Sighting], counted: set[int], faces: int, time_base: Fraction, duration_s: float | None) -> Coverage:
    """Every second from the first frame to the last goes to `judged` or to one reason; the last frame lasts as long as the median one."""
    if not sightings:
        return Coverage(0.0, 0.0, 0, 0, ())
    spans = [float((b.pts - a.pts) * time_base) for a, b in pairwise(sightings)]
    last = float(np.median(spans)) if spans else 0.0
    if sightings[-1].sparse and duration_s is not None:
        last = max(last, duration_s - sum(spans))
    spans.append(last)
    judged, lost = 0.0, Counter[ReasonCode]()
    for sighting, span in zip(sightings, spans, strict=True):
        held = min(span, HOLD_S)
        if counted.intersection(sighting.judged):
            judged += held
        else:
            lost[sighting.reason or "too_short"] += held  # type: ignore[assignment]  # Counter's values are typed int; seconds add alike
        if span > held:
            lost["triage" if sighting.sparse else "gap"] += span - held  # type: ignore[assignment]
    reasons = tuple(
        CoverageReason(code, float(seconds)) for code, seconds in sorted(lost.items(), key=lambda item: -item[1]) if seconds > 0
    )
    return Coverage(sum(spans), judged, faces, len(counted), reasons)
