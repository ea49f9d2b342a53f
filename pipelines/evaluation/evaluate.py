"""How good is it? Labelled videos or held-out people in, video-level numbers with their intervals out. Called by `undercurrent evaluate`.

The unit is a video, the primary number its ROC-AUC with a bootstrap over scenes or people. Beside it stands the trivial control, minus the
mean sharpness of the face (no learning at all): a detector that does not beat it has learnt to see blur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import probability
from pipelines.analysis import analyse
from pipelines.errors import PipelineError
from pipelines.evaluation.makes import Makes
from pipelines.evaluation.metrics import (
    Estimate,
    Ranking,
    Reliability,
    area_under_risk_coverage,
    auc_difference,
    auc_interval,
    bootstrap,
    calibration_error_by_chance,
    clustered_rate,
    expected_calibration_error,
    log_losses,
    mean_of,
    one_by_one,
    per_hour,
    reliability,
    roc_points,
    squared_errors,
    tpr_interval,
    without,
)
from pipelines.evaluation.slices import SliceResult, slices
from pipelines.frames import read_frames
from pipelines.media import Reader
from pipelines.model import Model
from pipelines.quality import sharpness
from pipelines.training.calibration_fit import TrackEvidence
from pipelines.training.manifest import Record
from pipelines.verdict import Score


@dataclass(frozen=True, slots=True)
class VideoScore:
    """One judged video. `logit` is None when nothing was judged; it then counts as undecided (0) in the AUC and is listed."""

    file: str
    label: int
    method: str
    group: str
    verdict: str
    logit: float | None
    sharpness: float | None
    judged_s: float
    duration_s: float
    problem: str | None
    source: str = ""
    tier: str = ""
    face_px: float | None = None
    """Median over the judged moments."""
    luma: float | None = None
    codec: str = ""
    width: int = 0
    fps: float | None = None
    decision_s: float | None = None
    """Media seconds until the mean log-odds of a face crossed the shipped threshold for good; None where it is below at the end."""
    track_logits: tuple[float, ...] = ()
    frame_logits: tuple[float, ...] = ()
    """Of every judged moment, for units smaller than a video."""


@dataclass(frozen=True, slots=True)
class MethodResult:
    """All fakes of one make, against all reals and against the reals of their own scenes."""

    method: str
    fakes: int
    reals: int
    auc: Estimate
    auc_own_scene: Estimate
    """NaN where no real shares a scene with them."""
    control_auc: Estimate
    above_control: Estimate
    """AUC less that of the control, on the same draws."""
    accused: Estimate
    """Share of these fakes with the verdict `manipulated`."""


@dataclass(frozen=True, slots=True)
class SourceResult:
    """The real videos of one source."""

    source: str
    tier: str
    reals: int
    accused: Estimate


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that one run measured; NaN where it cannot be resolved, and `note` says why."""

    videos: int
    unjudged: int
    note: str
    units: dict[str, tuple[int, Estimate]]
    """video, track, frame: how many, and their AUC."""
    auc: Estimate
    macro_auc: Estimate
    """Mean over the makes, each against all reals."""
    macro_auc_own_scene: Estimate
    """Mean over the makes that have reals of their own scenes, each against those."""
    control_auc: Estimate
    """Of minus the face's sharpness, which has learnt nothing."""
    above_control: Estimate
    """AUC less that of the control, both on the same people in every draw: clear of 0, the detector sees more than blur."""
    control_macro_auc: Estimate
    control_macro_auc_own_scene: Estimate
    macro_above_control: Estimate
    auc_without_sharpness: Estimate
    """Of the score less what sharpness explains of it among the reals."""
    pair_accuracy: Estimate
    """How often a fake scores above a real of its own scene."""
    average_precision: Estimate
    equal_error_rate: Estimate
    tpr_at_fpr: dict[str, Estimate]
    true_positive_rate: Estimate
    false_positive_rate: Estimate
    false_positives_per_hour: Estimate
    """Real videos called manipulated for each hour of real video that was judged."""
    balanced_accuracy: Estimate
    coverage: Estimate
    abstained: Estimate
    """Share of videos with a verdict that decides nothing."""
    decision_s: Estimate
    """Median over the fakes called manipulated."""
    calibration_error: Estimate
    """Its interval lies high where videos are few: a draw adds its own chance to that of the videos, and neither is ever negative."""
    calibration_error_by_chance: float
    """What so few videos would measure if every probability were true."""
    brier: Estimate
    negative_log_likelihood: Estimate
    area_under_risk_coverage: Estimate
    reliability: tuple[Reliability, ...]
    roc: tuple[tuple[float, ...], tuple[float, ...]]
    methods: tuple[MethodResult, ...]
    sources: tuple[SourceResult, ...]
    slices: tuple[SliceResult, ...]
    scores: tuple[VideoScore, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null. `problems` are the files that were refused, with the slug of why."""
        plain: dict[str, Any] = _nulls(asdict(self))
        plain["problems"] = [{"file": score.file, "problem": score.problem} for score in self.scores if score.problem]
        plain["units"] = {name: {"n": n, "auc": auc} for name, (n, auc) in plain["units"].items()}
        plain["roc"] = dict(zip(("fpr", "tpr"), plain["roc"], strict=True))
        return plain


def judge_video(record: Record, model: Model, *, hz: float | None, read: Reader = read_frames) -> VideoScore:
    """Run the walk over one labelled video; a refused one is a result too."""
    known = said_of(record)
    try:
        report = analyse(record.path, model, hz=hz, read=read)
    except PipelineError as error:
        return VideoScore(
            verdict="refused",
            logit=None,
            sharpness=None,
            judged_s=0.0,
            duration_s=0.0,
            problem=error.slug,
            **known,
        )
    verdict = report.verdict
    judged = {track.id for track in verdict.tracks if track.score is not None}
    crops = [crop.image for track in verdict.tracks if track.id in judged for crop in track.crops]
    rows = [score for score in report.scores if score.logit is not None and score.track in judged]
    by_track = {track: np.array([row.logit for row in rows if row.track == track], dtype=np.float64) for track in judged}
    return VideoScore(
        verdict=verdict.verdict,
        logit=None if verdict.score is None else _logit(verdict.score.p),
        sharpness=float(np.mean([sharpness(crop) for crop in crops])) if crops else None,
        judged_s=verdict.coverage.judged_s,
        duration_s=verdict.coverage.duration_s,
        problem=None,
        face_px=float(np.median([np.sqrt((row.box[2] - row.box[0]) * (row.box[3] - row.box[1])) for row in rows])) if rows else None,
        luma=float(np.mean([crop.mean() for crop in crops])) if crops else None,
        codec=report.media.codec,
        width=report.media.width,
        fps=report.media.nominal_fps,
        decision_s=_decided(rows, by_track, model.calibrator.shipped.track),
        track_logits=tuple(float(logits.mean()) for logits in by_track.values()),
        frame_logits=tuple(float(row.logit) for row in rows if row.logit is not None),
        **known,
    )


def said_of(record: Record) -> dict[str, Any]:
    """The fields of a VideoScore that are the record's word, and not the detector's."""
    known = {"file": record.file, "label": int(record.label == "fake"), "method": record.method or record.label, "group": record.identity}
    return {**known, "source": record.source or record.tier, "tier": record.tier}


def _logit(p: float) -> float:
    return float(np.log(max(p, 1e-12)) - np.log(max(1 - p, 1e-12)))


def _decided(rows: list[Score], by_track: dict[int, NDArray[np.float64]], threshold: float) -> float | None:
    """Seconds from a track's first moment to the one from which its running mean stays at or above the threshold; the earliest track's."""
    found = []
    for track, logits in by_track.items():
        below = np.flatnonzero(np.cumsum(logits) / np.arange(1, len(logits) + 1) < threshold)
        at = int(below[-1]) + 1 if len(below) else 0
        if at < len(logits):
            times = [row.t for row in rows if row.track == track]
            found.append(times[at] - times[0])
    return min(found, default=None)


def evaluate(
    records: list[Record], model: Model, *, hz: float | None = 12.0, on_video: Callable[[int, VideoScore], None] | None = None
) -> Evaluation:
    """Judge every record and sum up."""
    scores = []
    for number, record in enumerate(records, start=1):
        scores.append(judge_video(record, model, hz=hz))
        if on_video is not None:
            on_video(number, scores[-1])
    return summarise(scores)


def summarise(scores: list[VideoScore]) -> Evaluation:
    """Numbers over judged videos."""
    label = np.array([score.label for score in scores])
    logit = np.array([0.0 if score.logit is None else score.logit for score in scores])
    # A video without a usable face says as little about sharpness as about anything: it stands in the middle.
    known = [score.sharpness for score in scores if score.sharpness is not None]
    blur = -np.array([np.median(known) if score.sharpness is None else score.sharpness for score in scores]) if known else 0 * logit
    group = np.array([score.group for score in scores])
    accused = np.array([score.verdict == "manipulated" for score in scores])
    p = np.array([probability(float(value)) for value in logit])
    makes = Makes(label, np.array([score.method for score in scores]), group)
    pairs = [
        (float(a > b), ga)
        for a, la, ga in zip(logit, label, group, strict=True)
        if la
        for b, lb, gb in zip(logit, label, group, strict=True)
        if not lb and ga == gb
    ]
    fpr, tpr = roc_points(logit, label)
    judged, duration = (np.array([getattr(score, name) for score in scores]) for name in ("judged_s", "duration_s"))
    decided = [score for score in scores if score.label and score.verdict == "manipulated" and score.decision_s is not None]
    decision_s = np.array([score.decision_s for score in decided], dtype=np.float64)

    ranking = Ranking(logit, label)
    real, fake = 1.0 - label, 1.0 * label
    found, false = mean_of(accused * fake, fake), mean_of(accused * real, real)

    return Evaluation(
        videos=len(scores),
        unjudged=sum(score.logit is None for score in scores),
        note=_note(label),
        units={
            "video": (len(scores), auc_interval(logit, label, group)),
            "track": _unit(scores, lambda score: score.track_logits),
            "frame": _unit(scores, lambda score: score.frame_logits),
        },
        auc=auc_interval(logit, label, group),
        macro_auc=makes.macro(logit),
        macro_auc_own_scene=makes.macro(logit, own_scene=True),
        control_auc=auc_interval(blur, label, group),
        above_control=auc_difference(logit, blur, label, group),
        control_macro_auc=makes.macro(blur),
        control_macro_auc_own_scene=makes.macro(blur, own_scene=True),
        macro_above_control=makes.macro(logit, less=blur),
        auc_without_sharpness=auc_interval(without(logit, blur, label), label, group),
        pair_accuracy=clustered_rate([won for won, _ in pairs], [scene for _, scene in pairs]),
        average_precision=bootstrap(ranking.average_precision, group),
        equal_error_rate=bootstrap(ranking.equal_error_rate, group),
        tpr_at_fpr={f"{fpr:g}": tpr_interval(logit, label, group, fpr) for fpr in (0.01, 0.05)},
        true_positive_rate=clustered_rate(accused[label == 1], group[label == 1]),
        false_positive_rate=clustered_rate(accused[label == 0], group[label == 0]),
        false_positives_per_hour=per_hour(accused[label == 0], judged[label == 0] / 3600, group[label == 0]),
        balanced_accuracy=bootstrap(lambda counts: (found(counts) + 1 - false(counts)) / 2, group),
        coverage=bootstrap(mean_of(judged, duration), group),
        abstained=clustered_rate([score.verdict not in ("manipulated", "no_evidence") for score in scores], group),
        decision_s=bootstrap(one_by_one(lambda rows: float(np.median(decision_s[rows]))), [score.group for score in decided]),
        calibration_error=bootstrap(one_by_one(lambda rows: expected_calibration_error(p[rows], label[rows])), group),
        calibration_error_by_chance=calibration_error_by_chance(p),
        brier=bootstrap(mean_of(squared_errors(p, label)), group),
        negative_log_likelihood=bootstrap(mean_of(log_losses(p, label)), group),
        area_under_risk_coverage=bootstrap(one_by_one(lambda rows: area_under_risk_coverage(logit[rows], label[rows])), group),
        reliability=reliability(p, label),
        roc=(tuple(fpr.tolist()), tuple(tpr.tolist())),
        methods=tuple(_method(makes, make, logit, blur, accused) for make in makes.names),
        sources=_sources(scores),
        slices=slices(scores),
        scores=tuple(scores),
    )


def _method(makes: Makes, make: str, score: NDArray[np.float64], blur: NDArray[np.float64], accused: NDArray[np.bool_]) -> MethodResult:
    rows, own = makes.rows(make), makes.rows(make, own_scene=True)
    fakes = rows & (makes.label == 1)
    return MethodResult(
        method=make,
        fakes=int(fakes.sum()),
        reals=int((makes.label == 0).sum()),
        auc=auc_interval(score[rows], makes.label[rows], makes.group[rows]),
        auc_own_scene=auc_interval(score[own], makes.label[own], makes.group[own]),
        control_auc=auc_interval(blur[rows], makes.label[rows], makes.group[rows]),
        above_control=auc_difference(score[rows], blur[rows], makes.label[rows], makes.group[rows]),
        accused=clustered_rate(accused[fakes], makes.group[fakes]),
    )


def _note(label: NDArray[np.int64]) -> str:
    if not len(label):
        return "Nothing was judged."
    if label.all():
        return "There is no real video among them: only how many fakes are found can be told, and no AUC."
    if not label.any():
        return "There is no fake among them: only false positives can be told, and no AUC."
    return ""


def _unit(scores: list[VideoScore], values_of: Callable[[VideoScore], tuple[float, ...]]) -> tuple[int, Estimate]:
    values = [value for score in scores for value in values_of(score)]
    labels = [score.label for score in scores for _ in values_of(score)]
    groups = [score.group for score in scores for _ in values_of(score)]
    return len(values), auc_interval(values, labels, groups, resamples=200)


def _sources(scores: list[VideoScore]) -> tuple[SourceResult, ...]:
    reals: dict[tuple[str, str], list[VideoScore]] = {}
    for score in scores:
        if not score.label:
            reals.setdefault((score.source, score.tier), []).append(score)
    found = [
        SourceResult(source, tier, len(own), clustered_rate([one.verdict == "manipulated" for one in own], [one.group for one in own]))
        for (source, tier), own in reals.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.reals, one.source)))


def summarise_tracks(tracks: list[TrackEvidence], model: Model) -> Estimate:
    """AUC of whole tracks (pseudo-fakes of held-out people), resampled by person."""
    logit = [model.calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks]
    return auc_interval(logit, [track.label for track in tracks], [track.identity for track in tracks])


def _nulls(value: Any) -> Any:  # noqa: ANN401  # JSON is any of these
    if isinstance(value, dict):
        return {key: _nulls(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_nulls(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
