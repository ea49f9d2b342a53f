"""The words of a judgement: Score per face and moment, and the Verdict with its tracks, segments and coverage.

Made by `analysis.py` and `judgement.py`; taken by the command line, the REST schemas and the pictures. Plain frozen values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pipelines.media import FrameCounts, Image, MediaInfo, MediaWarning
from pipelines.time_report import TimeReport

if TYPE_CHECKING:  # torch takes seconds to import, and most who take a verdict need no explanation
    from models.explanation import Explanation

VerdictName = Literal["manipulated", "no_evidence", "inconclusive", "not_applicable"]
ReasonCode = Literal[
    "no_face",
    "face_too_small",
    "motion_blur",
    "too_dark",
    "low_bitrate",
    "decode_error",
    "too_short",
    "profile_face",
    "out_of_distribution",
    "load_shed",
    "gap",
    "triage",
    "weak_evidence",
]


@dataclass(frozen=True, slots=True)
class Score:
    """One track at one PTS. `p` is None, never 0, when the face was seen but not judged; `reason` then says why."""

    track: int
    pts: int
    time_base: Fraction
    dt: float | None
    """Seconds since this track's previous observation; None on its first."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the frame."""
    logit: float | None
    """The judge's log-odds before the verdict's calibration."""
    p: float | None
    """Calibrated probability of manipulation at this moment."""
    surprise: float | None
    """Normalised innovation: 1 is what real faces do in `dt` seconds; None on the first observation."""
    reason: ReasonCode | None = None
    flags: tuple[str, ...] = ()
    artefact: float | None = None
    """The encoder's log-odds of this look alone, for whoever watches for a change; None if it was not judged."""

    @property
    def t(self) -> float:
        """Media time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Probability:
    """Calibrated probability of manipulation with its 95 % interval."""

    p: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceCrop:
    """An aligned face crop kept as evidence, with the encoder's map of where it saw blending."""

    pts: int
    time_base: Fraction
    p: float | None
    image: Image
    """uint8 RGB, (S, S, 3), the very pixels the encoder saw."""
    boundary: Image
    """uint8, (S/8, S/8): 255 is certain blending; draw it over `image`."""


@dataclass(frozen=True, slots=True)
class LedgerShare:
    """What one stretch of a track gave to its log-odds."""

    start_pts: int
    end_pts: int
    """PTS of its first and its last judged moment."""
    judged: int
    """How many moments it has."""
    appearance: float
    """Log-odds by the encoder, which looks for seams."""
    motion: float
    """Log-odds by the memory, which knows how faces move in dt seconds."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """A track's log-odds as a sum: `base` and all of `shares` add up to those of its score, but for the rounding of fp64."""

    base: float
    """What the calibration says of a face before any evidence."""
    shares: tuple[LedgerShare, ...]
    """In order of time; stretches of the track's life of equal length, without those in which nothing was judged."""

    @property
    def logit(self) -> float:
        """The sum."""
        return math.fsum([self.base, *(part for share in self.shares for part in (share.appearance, share.motion))])


@dataclass(frozen=True, slots=True)
class TrackReport:
    """One face over its life."""

    id: int
    first_pts: int
    last_pts: int
    time_base: Fraction
    observations: int
    judged: int
    score: Probability | None
    reason: ReasonCode | None
    """Why `score` is None."""
    time_constants_s: tuple[float, float, float] | None
    """5th, 50th and 95th percentile of the memory's effective time constants, in seconds."""
    crops: tuple[EvidenceCrop, ...]
    ledger: Ledger | None = None
    """Where `score` comes from; None where that is."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedTrack:
    """Why the memory judged one track as it did, moment by moment."""

    track: int
    first_pts: int
    """PTS of the first judged moment: second 0 of `explanation`, whose only column is this track."""
    last_pts: int
    """PTS of the last moment that is explained: an hour's worth of moments is kept, not all of a day's."""
    time_base: Fraction
    surprise_unit: float
    """The surprise of real faces as the head measures it; `Score.surprise` is in these units."""
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Segment:
    """An interval of media time judged manipulated."""

    start_pts: int
    end_pts: int
    time_base: Fraction
    score: Probability
    track_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoverageReason:
    """How many seconds could not be judged for one reason."""

    code: ReasonCode
    duration_s: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the media could be judged, and why not the rest; judged_s + the reasons' seconds = duration_s."""

    duration_s: float
    judged_s: float
    faces_seen: int
    faces_judged: int
    reasons: tuple[CoverageReason, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: one word, how sure, where, and how much was looked at. There is no word for "authentic"."""

    verdict: VerdictName
    score: Probability | None
    threshold: float
    """The probability at and above which a video counts as manipulated (set for `target_fpr` on real video)."""
    target_fpr: float
    reasons: tuple[ReasonCode, ...]
    """Why the verdict is not a plain one: for `inconclusive` and `not_applicable`."""
    coverage: Coverage
    segments: tuple[Segment, ...]
    tracks: tuple[TrackReport, ...]
    reach: float | None
    """The highest threshold by which this would be called manipulated; at least `score.p`, and more where a stretch accuses what the whole
    does not. None if nothing was judged."""

    @property
    def sentence(self) -> str:
        """What was found, how sure, and how much could be judged, in one or two plain sentences."""
        return f"{self._finding} {self._judged}"

    @property
    def _finding(self) -> str:
        sure = (
            "" if self.score is None else f" (probability {self.score.p:.0%}, 95 % interval {self.score.low:.0%} to {self.score.high:.0%})"
        )
        match self.verdict:
            case "manipulated":
                return f"The motion or texture of a face contradicts what a camera films{sure}."
            case "no_evidence":
                return f"No evidence of manipulation was found{sure}."
            case "inconclusive":
                return f"The evidence does not decide: {_words(self.reasons)}{sure}."
            case "not_applicable":
                return f"There is nothing to judge: {_words(self.reasons)}."

    @property
    def _judged(self) -> str:
        coverage = self.coverage
        if coverage.duration_s <= 0:
            return "Nothing could be judged."
        share = coverage.judged_s / coverage.duration_s
        people = "1 face" if coverage.faces_judged == 1 else f"{coverage.faces_judged} faces"
        return f"Judged {share:.0%} of {coverage.duration_s:.1f} s, {people}."


REASON_WORDS: dict[ReasonCode, str] = {
    "no_face": "no face was found",
    "face_too_small": "the face is too small",
    "motion_blur": "the face is blurred",
    "too_dark": "the face is too dark",
    "low_bitrate": "the picture is too heavily compressed",
    "decode_error": "the file is damaged",
    "too_short": "the face is visible too briefly",
    "profile_face": "the face is turned away",
    "out_of_distribution": "the picture is unlike anything the model knows",
    "load_shed": "the machine was too busy",
    "gap": "pictures are missing",
    "triage": "only its key pictures were looked at, and they show no face",
    "weak_evidence": "the traces are too weak",
}
"""Each reason code as people read it."""


def _words(reasons: tuple[ReasonCode, ...]) -> str:
    return " and ".join(REASON_WORDS[reason] for reason in reasons) or "no reason is known"


@dataclass(frozen=True, slots=True)
class StageTime:
    """CPU cost of one stage of the walk."""

    stage: str
    cpu_s: float
    calls: int


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights judged: enough to reproduce the scores."""

    name: str
    version: str
    weights_sha256: str
    crop_version: int
    calibration_id: str


@dataclass(frozen=True, slots=True)
class AnalysisReport:
    """Everything one finished analysis knows; the wire, the terminal and the pictures are drawn from this."""

    verdict: Verdict
    scores: tuple[Score, ...]
    media: MediaInfo
    counts: FrameCounts
    time: TimeReport
    warnings: tuple[MediaWarning, ...]
    stages: tuple[StageTime, ...]
    model: ModelInfo
    frame_pts: tuple[int, ...]
    """PTS of every analysed frame, faces or not, in ticks of `media.time_base`: gaps and coverage can be drawn from it."""
    explained: ExplainedTrack | None = None
    """The most suspicious track's reasons: None where nobody asked for them, or no face was judged."""
