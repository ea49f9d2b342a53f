"""How good is it? Labelled videos or held-out people in, video-level numbers with their intervals out. Called by `undercurrent evaluate`.

The unit is a video, the primary number its ROC-AUC with a bootstrap over scenes or people. Beside it stands the trivial control, minus the
mean sharpness of the face (no learning at all): a detector that does not beat it has learnt to see blur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.calibration import probability
from pipelines.analysis import Model, analyse
from pipelines.errors import PipelineError
from pipelines.evaluation.metrics import Estimate, auc_interval, brier, expected_calibration_error, rate_interval
from pipelines.quality import sharpness
from pipelines.training.calibration_fit import TrackEvidence
from pipelines.training.manifest import Record


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


@dataclass(frozen=True, slots=True)
class MethodResult:
    """All fakes of one make against all reals."""

    method: str
    fakes: int
    reals: int
    auc: Estimate
    accused: Estimate
    """Share of these fakes with the verdict `manipulated`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that one run measured."""

    videos: int
    unjudged: int
    auc: Estimate
    control_auc: Estimate
    """Of minus the face's sharpness."""
    pair_accuracy: Estimate
    """How often a fake scores above a real of its own scene."""
    true_positive_rate: Estimate
    false_positive_rate: Estimate
    calibration_error: float
    brier: float
    methods: tuple[MethodResult, ...]
    scores: tuple[VideoScore, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN (a class is missing) becomes null."""
        plain: dict[str, Any] = _nulls(asdict(self))
        return plain


def judge_video(record: Record, model: Model, *, hz: float | None) -> VideoScore:
    """Run the walk over one labelled video; a refused one is a result too."""
    label = int(record.label == "fake")
    try:
        report = analyse(record.path, model, hz=hz)
    except PipelineError as error:
        return VideoScore(record.file, label, record.method or record.label, record.identity, "refused", None, None, 0.0, 0.0, error.slug)
    verdict = report.verdict
    crops = [crop.image for track in verdict.tracks if track.score is not None for crop in track.crops]
    p = verdict.score.p if verdict.score is not None else None
    return VideoScore(
        file=record.file,
        label=label,
        method=record.method or record.label,
        group=record.identity,
        verdict=verdict.verdict,
        logit=None if p is None else float(np.log(max(p, 1e-12)) - np.log(max(1 - p, 1e-12))),
        sharpness=float(np.mean([sharpness(crop) for crop in crops])) if crops else None,
        judged_s=verdict.coverage.judged_s,
        duration_s=verdict.coverage.duration_s,
        problem=None,
    )


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
    blur = np.array([0.0 if score.sharpness is None else -score.sharpness for score in scores])
    group = np.array([score.group for score in scores])
    accused = np.array([score.verdict == "manipulated" for score in scores])
    p = np.array([probability(float(value)) for value in logit])
    methods = []
    for method in sorted({score.method for score in scores if score.label}):
        rows = np.array([score.label == 0 or score.method == method for score in scores])
        hits = accused[rows & (label == 1)]
        methods.append(
            MethodResult(
                method,
                len(hits),
                int((label == 0).sum()),
                auc_interval(logit[rows], label[rows], group[rows]),
                rate_interval(int(hits.sum()), len(hits)),
            )
        )
    wins = [
        float(a > b)
        for a, la, ga in zip(logit, label, group, strict=True)
        if la
        for b, lb, gb in zip(logit, label, group, strict=True)
        if not lb and ga == gb
    ]
    return Evaluation(
        videos=len(scores),
        unjudged=sum(score.logit is None for score in scores),
        auc=auc_interval(logit, label, group),
        control_auc=auc_interval(blur, label, group),
        pair_accuracy=rate_interval(int(sum(wins)), len(wins)),
        true_positive_rate=rate_interval(int(accused[label == 1].sum()), int((label == 1).sum())),
        false_positive_rate=rate_interval(int(accused[label == 0].sum()), int((label == 0).sum())),
        calibration_error=expected_calibration_error(p, label),
        brier=brier(p, label),
        methods=tuple(methods),
        scores=tuple(scores),
    )


def summarise_tracks(tracks: list[TrackEvidence], model: Model) -> Estimate:
    """AUC of whole tracks (pseudo-fakes of held-out people), resampled by person."""
    logit = [model.calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks]
    return auc_interval(logit, [track.label for track in tracks], [track.identity for track in tracks])


def videos_in(folder: Path) -> list[Record]:
    """Records of `real/**` and `fake/**` below `folder`; a folder below `fake` names the method."""
    records = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and len(parts) >= 2 and parts[0] in ("real", "fake"):
            method = parts[1] if parts[0] == "fake" and len(parts) > 2 else parts[0]
            records.append(Record("/".join(parts), path, "video", "user", parts[0], path.stem, "", "", method, 1))
    return records


def _nulls(value: Any) -> Any:  # noqa: ANN401  # JSON is any of these
    if isinstance(value, dict):
        return {key: _nulls(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_nulls(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
