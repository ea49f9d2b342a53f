"""What goes over the wire at the reviewers' desk: words, what a reviewer says, where an analysis stands, what was said of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pipelines.verdict import VerdictName
from service.review_queue import ItemState, Queued, state_of
from service.review_rows import Decision, ReviewItemRow, ReviewRow, Role, Stage
from service.reviewer import Reviewer
from service.schemas import AnalysisOut, Wire
from service.severity import Level, level

DecisionReason = Literal[
    "visible_traces",
    "motion_contradicts",
    "voice_contradicts",
    "source_confirms",
    "original_known",
    "looks_as_filmed",
    "edited_but_not_a_face",
    "too_little_to_see",
    "other",
]
"""Why a reviewer decides so."""
SkipReason = Literal["too_distressing", "cannot_play", "not_my_language", "knows_the_person", "needs_time", "other"]
"""Why a reviewer leaves it to others."""


def plain(text: str) -> str:
    """Text of people: line ends are one character, and nothing is in it that no text has. What looks like HTML is text."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if odd := next((c for c in text if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff"), None):
        raise ValueError(f"expected text without control characters, got U+{ord(odd):04X}")
    return text


Note = Annotated[str, Field(max_length=4000), AfterValidator(plain)]


class NewReview(Wire):
    """What a reviewer decides; its lock goes with it."""

    decision: Decision = Field(
        description="`genuine`: to this person's knowledge it shows what was filmed. The service never says so itself."
    )
    reason: DecisionReason
    note: Note | None = Field(default=None, description="Plain text; needed beside the reason `other`.")

    @model_validator(mode="after")
    def _explained(self) -> NewReview:
        if self.reason == "other" and not (self.note or "").strip():
            raise ValueError("expected a note beside the reason `other`")
        return self


class NewSkip(Wire):
    """Why a reviewer leaves it to others."""

    reason: SkipReason
    note: Note | None = Field(default=None, description="Plain text.")


class SeverityOut(Wire):
    """How soon a person should look: six tenths how sure the service is (mean of p and the interval's low end), three tenths how much of
    what was judged lies in segments, one tenth what could not be judged."""

    value: float = Field(description="0 to 1.")
    level: Level = Field(description="`high` from .6 on, `medium` from .3 on.")


class LockOut(Wire):
    """Who has it open."""

    holder: str
    mine: bool
    since: datetime
    until: datetime = Field(description="When it falls open by itself, unless it is renewed (POST again).")


class ReviewItemOut(Wire):
    """Where one analysis stands at the desk."""

    analysis: AnalysisOut = Field(description="Without its result.")
    state: ItemState
    waits_for: Stage = Field(
        description="Whose word: `first`, `second` (of somebody else, who does not see the first), `ruling` (a lead's)."
    )
    severity: SeverityOut
    skips: int
    lock: LockOut | None
    outcome: Decision | None = Field(description="What is decided; null until it is, and while a second reviewer is awaited.")


class ReviewOut(Wire):
    """What one reviewer said, and what the service had said then. Nobody can change or remove it."""

    id: str
    n: int = Field(description="From 1 within its analysis.")
    analysis_id: str
    role: Role
    at: datetime
    reviewer: str
    mine: bool
    decision: Decision | None = Field(description="Null: skipped.")
    reason: str
    note: str | None
    open_s: float = Field(description="How long the reviewer had it open.")
    waited_s: float = Field(description="From the end of the analysis.")
    verdict: VerdictName
    p: float | None
    calibration_id: str
    weights_sha256: str


class ReviewsOut(Wire):
    """What was said of one analysis, as far as the caller may see it."""

    item: ReviewItemOut
    sealed: int = Field(description="Reviews that are not shown before the caller's own is in.")
    reviews: list[ReviewOut] = Field(description="Oldest first.")


class QueuePage(Wire):
    """Some of the queue."""

    items: list[ReviewItemOut]
    next: str | None


def item_out(queued: Queued, analysis: AnalysisOut, reviewer: Reviewer) -> ReviewItemOut:
    """Where an analysis stands, as `reviewer` sees it."""
    item, value = queued.item, queued.analysis.severity or 0.0
    return ReviewItemOut(
        analysis=analysis,
        state=state_of(item),
        waits_for=item.stage,
        severity=SeverityOut(value=round(value, 4), level=level(value)),
        skips=item.skips,
        lock=lock_out(item, reviewer),
        outcome=item.outcome,
    )


def lock_out(item: ReviewItemRow, reviewer: Reviewer) -> LockOut | None:
    """Who has it open now."""
    if not item.held or item.holder_name is None or item.held_since is None or item.held_until is None:
        return None
    return LockOut(holder=item.holder_name, mine=item.holder == reviewer.id, since=item.held_since, until=item.held_until)


def review_out(review: ReviewRow, reviewer: Reviewer) -> ReviewOut:
    """What was said, as `reviewer` sees it; whether it may be seen is asked before."""
    shown: dict[str, Any] = {name: getattr(review, name) for name in ReviewOut.model_fields if hasattr(review, name)}
    return ReviewOut(**shown | {"reviewer": review.reviewer_name, "mine": review.reviewer == reviewer.id})
