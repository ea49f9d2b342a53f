"""The wire: pydantic models of a result, and the one place that converts an AnalysisReport into them.

Taken by the command line (`--json`), REST, the dashboard, the plot and the HTML report alike. Every time is media seconds beside its
exact `pts` and `time_base`; a probability that was not judged is null, never 0.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from fractions import Fraction
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from pipelines.time_report import Provenance
from pipelines.verdict import (
    AnalysisReport,
    Coverage,
    Ledger,
    ModelInfo,
    Probability,
    ReasonCode,
    Score,
    Segment,
    StageTime,
    TrackReport,
    Verdict,
    VerdictName,
)

AnalysisStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Wire(BaseModel):
    """Base of every wire model: unknown fields are refused, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Moment(Wire):
    """A point of media time."""

    t: float = Field(description="Media seconds.")
    pts: int = Field(description="Presentation timestamp in ticks.")
    time_base: tuple[int, int] = Field(description="Seconds per tick as [numerator, denominator].")


class ScoreOut(Wire):
    """Calibrated probability of manipulation with its 95 % interval; `p` is null when nothing was judged."""

    p: float | None
    low: float | None
    high: float | None
    calibration_id: str


class CoverageReasonOut(Wire):
    code: ReasonCode
    duration_s: float


class CoverageOut(Wire):
    """`judged_s` and the reasons' seconds add up to `duration_s`."""

    duration_s: float
    judged_s: float
    faces_seen: int
    faces_judged: int
    reasons: list[CoverageReasonOut]


class SegmentOut(Wire):
    """An interval of media time judged manipulated."""

    start: Moment
    end: Moment
    score: ScoreOut
    track_ids: list[int]


class CropOut(Wire):
    """An evidence crop; its JPEG is at `/v1/analyses/{id}/tracks/{track}/crops/{k}` (boundary map: `?layer=boundary`)."""

    k: int
    at: Moment
    p: float | None


class LedgerShareOut(Wire):
    """What one stretch of a face's life gave to its log-odds; above 0 speaks for manipulation."""

    start: Moment
    end: Moment
    judged: int = Field(description="How many moments were judged in it.")
    appearance: float = Field(description="Log-odds by how each picture looks.")
    motion: float = Field(description="Log-odds by how the face moves from picture to picture.")


class LedgerOut(Wire):
    """The log-odds of a face's score as a sum: `base` and every number of `shares` add up to `logit`, but for the rounding of fp64."""

    logit: float = Field(description="Log-odds of the score: p = 1 / (1 + exp(-logit)).")
    base: float = Field(description="What the calibration says before any evidence.")
    shares: list[LedgerShareOut] = Field(
        description="In order of time, of equal length, at most 12; those without a judged moment are missing."
    )


class TrackOut(Wire):
    """One face over its life."""

    id: int
    first: Moment
    last: Moment
    observations: int
    judged: int
    score: ScoreOut
    reason: ReasonCode | None
    time_constants_s: tuple[float, float, float] | None = Field(description="5th, 50th, 95th percentile of the memory's time constants.")
    crops: list[CropOut]
    ledger: LedgerOut | None = Field(
        None, description="Where the score comes from; null where it is, and in results from before there were ledgers."
    )


class MediaOut(Wire):
    sha256: str | None
    container: str
    codec: str
    width: int
    height: int
    nominal_fps: float | None = Field(description="What the container claims; no computation here uses it.")
    declared_duration_s: float | None
    size_bytes: int | None
    frames_decoded: int
    frames_analysed: int
    decode_backend: str = Field(description="`software`, or the hardware that decoded.")


class GapOut(Wire):
    """A stretch of media time without pictures."""

    start_s: float
    end_s: float


class CredentialAction(Wire):
    """What a manifest says was done."""

    action: str = Field(max_length=200, description="A code of C2PA, as `c2pa.edited`.")
    agent: str | None = Field(max_length=200, description="With what.")
    source_type: str | None = Field(max_length=200, description="What came of it, as IPTC names kinds of sources.")


class ContentCredentials(Wire):
    """What the content credentials (C2PA) inside the media say: claims of whoever signed them, whom nobody here vouches for."""

    state: Literal["none", "valid", "invalid", "unreadable"] = Field(
        description="`valid`: signed, and not changed since; `invalid`: it was changed, or the signature does not hold."
    )
    claim_generator: str | None = Field(None, max_length=200, description="What program says that it made the media.")
    issuer: str | None = Field(None, max_length=200, description="Whose certificate signed, as the certificate says.")
    signer: str | None = Field(None, max_length=200, description="The name on that certificate.")
    signed_at: str | None = Field(None, max_length=200, description="When, as a time stamp in it says.")
    actions: list[CredentialAction] = Field([], max_length=16, description="What was done, as it says; the first 16.")
    problems: list[str] = Field([], max_length=8, description="What does not hold, as codes of C2PA; the first 8.")


class TimeOut(Wire):
    """How the media keeps time: measured on every decoded frame, analysed or not."""

    provenance: Provenance = Field(description="Who said when: the container, a container that knows only a grid, RTP, a client.")
    frames: int
    span_s: float
    nominal_fps: float | None = Field(description="What the container claims; no computation here uses it.")
    true_fps: float | None = Field(description="Frames divided by time; null when not every picture was decoded.")
    median_dt_s: float | None
    min_dt_s: float | None
    max_dt_s: float | None
    variable: bool = Field(description="Whether more than 1 % of the intervals differ from the median by more than a tick and 2 %.")
    variability: float = Field(description="The share that does.")
    index_error_s: float | None = Field(description="How wrong a timeline of frame index / nominal rate would have been at its worst.")
    gaps: list[GapOut] = Field(description="The longest ones, in order of time.")
    gap_count: int
    duplicates: int
    no_pts: int
    backward: int
    wraps: int
    epochs: int = Field(description="1 for an unbroken timeline.")
    corrupt: int = Field(description="Pictures that the decoder had to mend.")
    tainted: int = Field(description="Pictures built on damage, up to the next key picture.")
    partial: int = Field(description="Analysed pictures that were partly never filled.")
    decode_errors: int


class WarningOut(Wire):
    code: str
    detail: str


class ModelOut(Wire):
    name: str
    version: str
    weights_sha256: str
    crop_version: int
    calibration_id: str

    @classmethod
    def of(cls, model: ModelInfo) -> ModelOut:
        """Convert what a model says of itself."""
        return cls(
            name=model.name,
            version=model.version,
            weights_sha256=model.weights_sha256,
            crop_version=model.crop_version,
            calibration_id=model.calibration_id,
        )


class StageOut(Wire):
    stage: str
    cpu_s: float
    calls: int


class TimelineRow(Wire):
    """One face at one moment. `p` and `logit` are null when the face was seen but not judged (see `reason`)."""

    track: int
    pts: int
    t: float
    dt: float | None = Field(description="Seconds since this track's previous observation; null on its first.")
    logit: float | None
    p: float | None
    surprise: float | None
    box: tuple[float, float, float, float]
    reason: ReasonCode | None
    flags: list[str]


class Timeline(Wire):
    """Everything that can be drawn over media time."""

    time_base: tuple[int, int]
    threshold: float
    frame_pts: list[int] = Field(
        description="Every analysed frame, faces or not; of a thinned part those in which a row was seen, and more."
    )
    rows: list[TimelineRow]


class TimelineBand(Wire):
    """A stretch without a judgement."""

    track: int | None = Field(description="The face that it is about; null when no face was there at all.")
    start_s: float
    end_s: float
    reason: ReasonCode | Literal["absent"] = Field(description="`absent`: other faces were there, this one was not.")


class TimelinePart(Timeline):
    """A timeline, or as much of it as was asked for."""

    total_rows: int | None = Field(default=None, description="How many rows a part has in truth; absent where all are given.")
    bands: list[TimelineBand] | None = Field(default=None, description="Where nothing was judged; absent where all rows are given.")


class VerdictOut(Wire):
    """What was found, and on what."""

    verdict: VerdictName
    sentence: str
    score: ScoreOut
    threshold: float
    threshold_version: int = Field(default=0, description="Of the tenant's, for this calibration; 0: the one that the weights came with.")
    target_fpr: float
    reasons: list[ReasonCode]
    coverage: CoverageOut
    segments: list[SegmentOut]
    tracks: list[TrackOut]

    @classmethod
    def of(cls, verdict: Verdict, calibration_id: str, threshold_version: int = 0) -> VerdictOut:
        """Convert a verdict that was reached by that calibration and that version of a tenant's threshold."""
        return VerdictOut(
            verdict=verdict.verdict,
            sentence=verdict.sentence,
            score=_score(verdict.score, calibration_id),
            threshold=verdict.threshold,
            threshold_version=threshold_version,
            target_fpr=verdict.target_fpr,
            reasons=list(verdict.reasons),
            coverage=_coverage(verdict.coverage),
            segments=[_segment(segment, calibration_id) for segment in verdict.segments],
            tracks=[_track(track, calibration_id) for track in verdict.tracks],
        )


class AnalysisResult(VerdictOut):
    """The judgement of one piece of media."""

    models: list[ModelOut]
    media: MediaOut
    time: TimeOut
    warnings: list[WarningOut]
    stages: list[StageOut]
    content_credentials: ContentCredentials | None = Field(None, description="Null where nobody looked: without the extra `credentials`.")

    @classmethod
    def from_report(
        cls,
        report: AnalysisReport,
        *,
        sha256: str | None = None,
        threshold_version: int = 0,
        credentials: ContentCredentials | None = None,
    ) -> AnalysisResult:
        """Convert a finished analysis; `sha256` is the digest of the media's bytes, `credentials` what they say, where the caller knows."""
        media, counts, model = report.media, report.counts, report.model
        return cls(
            **dict(VerdictOut.of(report.verdict, model.calibration_id, threshold_version)),
            models=[ModelOut.of(model)],
            media=MediaOut(
                sha256=sha256,
                container=media.container,
                codec=media.codec,
                width=media.width,
                height=media.height,
                nominal_fps=media.nominal_fps,
                declared_duration_s=media.declared_duration_s,
                size_bytes=media.size_bytes,
                frames_decoded=counts.decoded,
                frames_analysed=len(report.frame_pts),
                decode_backend=media.decode_backend,
            ),
            time=TimeOut.model_validate(asdict(report.time)),
            warnings=[WarningOut(code=warning.code, detail=warning.detail) for warning in report.warnings],
            stages=[_stage(stage) for stage in report.stages],
            content_credentials=credentials,
        )


def timeline(report: AnalysisReport) -> Timeline:
    """The per-face, per-moment rows of a finished analysis."""
    base = report.media.time_base
    return Timeline(
        time_base=(base.numerator, base.denominator),
        threshold=report.verdict.threshold,
        frame_pts=list(report.frame_pts),
        rows=[timeline_row(score) for score in report.scores],
    )


class FromUrl(Wire):
    """Media that the service is to fetch."""

    url: str = Field(max_length=4096, description="http(s), at an address where this service may go.")
    external_id: str | None = Field(default=None, max_length=200, description="Your own name for it; the list can be searched by it.")
    filename: str | None = Field(default=None, max_length=255, description="A name to show; the last part of the URL if there is none.")


class FromUpload(Wire):
    """Media that was put into the store with a URL of `POST /v1/uploads`."""

    upload: UUID = Field(description="The `id` of the upload.")
    external_id: str | None = Field(default=None, max_length=200, description="Your own name for it; the list can be searched by it.")
    filename: str | None = Field(default=None, max_length=255, description="A name to show.")


class AnalysisOut(Wire):
    """One analysis as REST shows it: its state, and its `result` or its `problem` when it has ended."""

    id: str
    external_id: str | None = None
    filename: str | None = Field(default=None, description="The name the client gave; never used as a path.")
    source_url: str | None = Field(default=None, description="Where the media was fetched, without credentials and query.")
    status: AnalysisStatus
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: ProgressOut | None = None
    verdict: VerdictName | None = Field(default=None, description="Of the result; here so that a list can show it.")
    sentence: str | None = Field(default=None, description="Of the result; here so that a list can show it.")
    p: float | None = Field(default=None, description="Of the result's score; null when nothing was judged.")
    result: AnalysisResult | None = Field(default=None, description="Left out of lists; `links.self` has it.")
    problem: Problem | None = None
    links: dict[str, str]


class ProgressOut(Wire):
    """How far a running analysis is."""

    frames_decoded: int
    frames_analysed: int
    media_s: float
    duration_s: float | None
    faces: int


class ProblemError(Wire):
    """One faulty field of a request."""

    pointer: str
    detail: str


class Problem(Wire):
    """RFC 9457 problem details, with what was expected and what came."""

    type: str
    title: str
    status: int
    detail: str
    expected: str | None = None
    got: str | None = None
    instance: str | None = None
    request_id: str | None = None
    errors: list[ProblemError] | None = None


class AnalysisPage(Wire):
    """One page of analyses, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[AnalysisOut]
    next: str | None


def moment(pts: int, base: Fraction) -> Moment:
    """Convert a point of media time."""
    return Moment(t=float(pts * base), pts=pts, time_base=(base.numerator, base.denominator))


def _score(score: Probability | None, calibration_id: str) -> ScoreOut:
    if score is None:
        return ScoreOut(p=None, low=None, high=None, calibration_id=calibration_id)
    return ScoreOut(p=score.p, low=score.low, high=score.high, calibration_id=calibration_id)


def _coverage(coverage: Coverage) -> CoverageOut:
    return CoverageOut(
        duration_s=coverage.duration_s,
        judged_s=coverage.judged_s,
        faces_seen=coverage.faces_seen,
        faces_judged=coverage.faces_judged,
        reasons=[CoverageReasonOut(code=reason.code, duration_s=reason.duration_s) for reason in coverage.reasons],
    )


def _segment(segment: Segment, calibration_id: str) -> SegmentOut:
    return SegmentOut(
        start=moment(segment.start_pts, segment.time_base),
        end=moment(segment.end_pts, segment.time_base),
        score=_score(segment.score, calibration_id),
        track_ids=list(segment.track_ids),
    )


def _track(track: TrackReport, calibration_id: str) -> TrackOut:
    return TrackOut(
        id=track.id,
        first=moment(track.first_pts, track.time_base),
        last=moment(track.last_pts, track.time_base),
        observations=track.observations,
        judged=track.judged,
        score=_score(track.score, calibration_id),
        reason=track.reason,
        time_constants_s=track.time_constants_s,
        crops=[CropOut(k=k, at=moment(crop.pts, crop.time_base), p=crop.p) for k, crop in enumerate(track.crops)],
        ledger=None if track.ledger is None else _ledger(track.ledger, track.time_base),
    )


def _ledger(ledger: Ledger, base: Fraction) -> LedgerOut:
    shares = [
        LedgerShareOut(
            start=moment(share.start_pts, base),
            end=moment(share.end_pts, base),
            judged=share.judged,
            appearance=share.appearance,
            motion=share.motion,
        )
        for share in ledger.shares
    ]
    return LedgerOut(logit=ledger.logit, base=ledger.base, shares=shares)


def _stage(stage: StageTime) -> StageOut:
    return StageOut(stage=stage.stage, cpu_s=stage.cpu_s, calls=stage.calls)


def timeline_row(score: Score) -> TimelineRow:
    """Convert one face at one moment."""
    return TimelineRow(
        track=score.track,
        pts=score.pts,
        t=score.t,
        dt=score.dt,
        logit=score.logit,
        p=score.p,
        surprise=score.surprise,
        box=score.box,
        reason=score.reason,
        flags=list(score.flags),
    )
