"""Reviews: who opens an analysis, and what they say of it, come in; where it stands at the desk goes out. Written by `reviews.py`.

What was said is only ever added to; the database refuses anything else. Where an analysis stands (`ReviewItemRow`) follows from that, and
outlives the analysis. Each statement begins by writing that row, which holds it until the end of the transaction on both databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import CheckConstraint, Double, Index, String, UniqueConstraint, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.verdict import VerdictName
from service.audit_rows import Action, audited
from service.database import AnalysisRow, Base, Database, UtcDateTime, now
from service.ids import new_id
from service.problems import ServiceError, UnknownAnalysis
from service.reviewer import Reviewer

Decision = Literal["genuine", "manipulated", "unsure"]
Role = Literal["first", "second", "ruling", "skip"]
Stage = Literal["first", "second", "ruling", "done"]
"""Whose word an analysis waits for."""


class ReviewLocked(ServiceError):
    slug = "review-locked"
    title = "Somebody else has it open"
    status = 409


class ReviewNotHeld(ServiceError):
    slug = "review-not-held"
    title = "The analysis is not locked for this reviewer, or not any more"
    status = 409


class AlreadyReviewed(ServiceError):
    slug = "already-reviewed"
    title = "There is nothing left for this reviewer to decide"
    status = 409


class ReviewItemRow(Base):
    """Where one analysis stands. There is none before somebody has opened it."""

    __tablename__ = "review_items"
    __table_args__ = (
        CheckConstraint("(outcome IS NOT NULL) = (stage = 'done')", name="outcome_if_done"),
        CheckConstraint("(holder IS NOT NULL) = (held_until IS NOT NULL)", name="lease_if_held"),
        Index("review_items_by_holder", "tenant", "holder"),
    )

    analysis_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    stage: Mapped[Stage] = mapped_column(String(16))
    outcome: Mapped[Decision | None] = mapped_column(String(16))
    reviews: Mapped[int]
    """Number of the last row of `reviews`."""
    first_by: Mapped[str | None] = mapped_column(String(255))
    skips: Mapped[int]
    place: Mapped[str | None] = mapped_column(String(36))
    """Where it stands among ids of analyses, once it was skipped."""
    holder: Mapped[str | None] = mapped_column(String(255))
    """Whose it is while `held_until` has not passed."""
    holder_name: Mapped[str | None] = mapped_column(String(320))
    held_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def held(self) -> bool:
        """Whether somebody has it open now."""
        return self.held_until is not None and self.held_until > now()

    def seals(self, review: ReviewRow, reviewer: str) -> bool:
        """Whether `reviewer` may not see that review yet: the second one is to be given without knowing the first."""
        return self.stage == "second" and review.role == "first" and review.reviewer != reviewer


class ReviewRow(Base):
    """What somebody said of one analysis, and what the service had said. `id` sorts by time."""

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("(decision IS NULL) = (role = 'skip')", name="decision_unless_skipped"),
        UniqueConstraint("analysis_id", "n", name="reviews_in_order"),
        Index("reviews_by_tenant", "tenant", "id"),
        Index("reviews_by_time", "tenant", "at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    analysis_id: Mapped[str] = mapped_column(String(36))
    """Which may be deleted by now."""
    n: Mapped[int]
    """From 1 within its analysis."""
    role: Mapped[Role] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    reviewer: Mapped[str] = mapped_column(String(255))
    reviewer_name: Mapped[str] = mapped_column(String(320))
    decision: Mapped[Decision | None] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    note: Mapped[str | None]
    open_s: Mapped[float] = mapped_column(Double)
    """How long the reviewer had it open."""
    waited_s: Mapped[float] = mapped_column(Double)
    """From the end of the analysis to this."""
    verdict: Mapped[VerdictName] = mapped_column(String(16))
    p: Mapped[float | None] = mapped_column(Double)
    reach: Mapped[float | None] = mapped_column(Double)
    """As its analysis has it; None as well where that ended before anybody noted it."""
    calibration_id: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    media_sha256: Mapped[str] = mapped_column(String(64))


@dataclass(frozen=True, slots=True)
class Said:
    """What a reviewer says; without a decision it is skipped."""

    decision: Decision | None
    reason: str
    note: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What the service had said of an analysis when it was reviewed."""

    calibration_id: str
    weights_sha256: str


class ReviewRows:
    """The desk of one database.

    Args:
        lease_s: how long a lock lasts that nobody renews.
    """

    def __init__(self, database: Database, lease_s: float) -> None:
        self._sessions, self._lease = database.sessions, timedelta(seconds=lease_s)

    async def lock(self, analysis: AnalysisRow, reviewer: Reviewer, *, take_over: bool = False) -> ReviewItemRow:
        """Open it for `reviewer`, or keep it open.

        Raises:
            ReviewLocked: somebody else has it open, and it is not to be taken over.
            AlreadyReviewed: it waits for no word of this reviewer.
            UnknownAnalysis: it was deleted.
        """
        async with self._sessions.begin() as session:
            item = await _hold(session, analysis)
            _role(item, reviewer, await _said(session, item))
            mine = item.held and item.holder == reviewer.id
            if item.held and not mine and not take_over:
                raise ReviewLocked("Somebody else has the analysis open.", expected="one that nobody has open", got=_whose(item))
            if not mine:
                action: Action = "review.taken_over" if item.held else "review.opened"
                session.add(audited(analysis.tenant, reviewer.key_id, action, analysis.id))
                item.holder, item.holder_name, item.held_since = reviewer.id, reviewer.name, now()
            item.held_until = now() + self._lease
            return item

    async def give_back(self, analysis: AnalysisRow, reviewer: Reviewer) -> None:
        """Close it without a word; nothing happens when `reviewer` has it not open."""
        async with self._sessions.begin() as session:
            item = await _hold(session, analysis)
            if item.holder == reviewer.id:
                session.add(audited(analysis.tenant, reviewer.key_id, "review.given_back", analysis.id))
                _release(item)

    async def say(self, analysis: AnalysisRow, reviewer: Reviewer, said: Said, shown: Shown, *, second: bool) -> tuple[ReviewRow, bool]:
        """Decide or skip what `reviewer` has open; `second`: somebody else is to decide it as well. False: it was said already.

        Raises:
            ReviewNotHeld: it is not open, or somebody else's by now.
            AlreadyReviewed: it waits for no word of this reviewer.
            UnknownAnalysis: it was deleted.
        """
        async with self._sessions.begin() as session:
            item = await _hold(session, analysis)
            before = await _said(session, item)
            if before and before[-1].reviewer == reviewer.id and _same(before[-1], said) and not item.held:
                return before[-1], False
            role = _role(item, reviewer, before) if said.decision else "skip"
            if not item.held or item.holder != reviewer.id:
                raise ReviewNotHeld("The analysis is not open for you.", expected="a lock of your own, renewed in time", got=_whose(item))
            assert item.held_since is not None and analysis.verdict is not None and analysis.finished_at is not None
            moment = now()
            item.reviews += 1
            review = ReviewRow(
                id=new_id(),
                tenant=analysis.tenant,
                analysis_id=analysis.id,
                n=item.reviews,
                role=role,
                at=moment,
                reviewer=reviewer.id,
                reviewer_name=reviewer.name,
                decision=said.decision,
                reason=said.reason,
                note=said.note,
                open_s=(moment - item.held_since).total_seconds(),
                waited_s=(moment - analysis.finished_at).total_seconds(),
                verdict=analysis.verdict,
                p=analysis.p,
                reach=analysis.reach,
                calibration_id=shown.calibration_id,
                weights_sha256=shown.weights_sha256,
                media_sha256=analysis.sha256,
            )
            _advance(item, review, before, second=second)
            session.add(review)
            action: Action = "review.decided" if said.decision else "review.skipped"
            session.add(audited(analysis.tenant, reviewer.key_id, action, analysis.id))
            _release(item)
            return review, True

    async def get(self, analysis: AnalysisRow) -> tuple[ReviewItemRow, Sequence[ReviewRow]]:
        """Where it stands, and what was said of it, oldest first, sealed or not."""
        async with self._sessions() as session:
            item = await session.get(ReviewItemRow, analysis.id)
            reviews = await session.scalars(select(ReviewRow).where(ReviewRow.analysis_id == analysis.id).order_by(ReviewRow.n))
            return item or fresh_item(analysis), reviews.all()


def fresh_item(analysis: AnalysisRow) -> ReviewItemRow:
    """Where an analysis stands that nobody has opened."""
    return ReviewItemRow(analysis_id=analysis.id, tenant=analysis.tenant, stage="first", reviews=0, skips=0)


async def _hold(session: AsyncSession, analysis: AnalysisRow) -> ReviewItemRow:
    """The item's row, which nobody else can write until the transaction ends."""
    insert = (postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert)(ReviewItemRow)
    blank = {"analysis_id": analysis.id, "tenant": analysis.tenant, "stage": "first", "reviews": 0, "skips": 0}
    upsert = insert.values(blank).on_conflict_do_update(index_elements=["analysis_id"], set_={"tenant": analysis.tenant})
    item = (await session.scalars(upsert.returning(ReviewItemRow), execution_options={"populate_existing": True})).one()
    if await session.scalar(select(AnalysisRow.id).where(AnalysisRow.id == analysis.id)) is None:
        raise UnknownAnalysis("The analysis was deleted.", expected="an analysis that was not deleted", got=analysis.id)
    return item


async def _said(session: AsyncSession, item: ReviewItemRow) -> Sequence[ReviewRow]:
    return (await session.scalars(select(ReviewRow).where(ReviewRow.analysis_id == item.analysis_id).order_by(ReviewRow.n))).all()


def _role(item: ReviewItemRow, reviewer: Reviewer, before: Sequence[ReviewRow]) -> Role:
    """As what `reviewer` would speak now. Who spoke first may correct that until somebody else has decided."""
    decided = [review for review in before if review.decision is not None]
    if item.stage == "first" or (item.first_by == reviewer.id and decided[-1].role == "first"):
        return "first"
    if item.stage == "second":
        return "second"
    if reviewer.lead:
        return "ruling"
    if item.stage == "ruling":
        raise AlreadyReviewed("Two reviewers disagree about it.", expected="a lead, who resolves it", got="a reviewer")
    got = f"{item.outcome}, by {decided[-1].reviewer_name} at {decided[-1].at.isoformat(timespec='seconds')}"
    raise AlreadyReviewed("It is decided.", expected="an analysis that waits for a decision", got=got)


def _advance(item: ReviewItemRow, review: ReviewRow, before: Sequence[ReviewRow], *, second: bool) -> None:
    """Where an analysis stands after that review."""
    match review.role:
        case "skip":
            item.skips, item.place = item.skips + 1, review.id
        case "first":
            item.first_by = review.reviewer
            item.stage, item.outcome = ("second", None) if second else ("done", review.decision)
        case "second":
            first = next(earlier for earlier in reversed(before) if earlier.role == "first")
            item.stage, item.outcome = ("done", review.decision) if first.decision == review.decision else ("ruling", None)
        case "ruling":
            item.stage, item.outcome = "done", review.decision


def _same(last: ReviewRow, said: Said) -> bool:
    return (last.decision, last.reason, last.note) == (said.decision, said.reason, said.note)


def _whose(item: ReviewItemRow) -> str:
    if not item.held or item.held_until is None:
        return "one that nobody has open"
    return f"{item.holder_name}, until {item.held_until.isoformat(timespec='seconds')}"


def _release(item: ReviewItemRow) -> None:
    item.holder = item.holder_name = item.held_since = item.held_until = None
