"""The queue: what a reviewer wants to see comes in, analyses with where they stand go out, page by page or one to be opened.

Nothing is copied: an analysis that ended is in it by itself, and one that was deleted is not any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select

from pipelines.verdict import VerdictName
from service.cursors import Key
from service.database import AnalysisRow, Database, now
from service.problems import UnknownAnalysis
from service.review_rows import AlreadyReviewed, ReviewItemRow, ReviewLocked, ReviewRow, ReviewRows, fresh_item
from service.reviewer import Reviewer

ItemState = Literal["open", "skipped", "locked", "second", "disputed", "decided"]
Sort = Literal["oldest", "newest", "severity"]
UNDECIDED: Final[tuple[ItemState, ...]] = ("open", "skipped", "locked", "second", "disputed")
STATES: Final[tuple[ItemState, ...]] = get_args(ItemState)
AT_ONCE: Final = 20
"""Candidates that are looked up together by whoever wants the next one."""

_PLACE: Final = func.coalesce(ReviewItemRow.place, AnalysisRow.id)
_SKIPS: Final = func.coalesce(ReviewItemRow.skips, 0)
_SEVERITY: Final = func.coalesce(AnalysisRow.severity, 0.0)
_STAGE: Final = func.coalesce(ReviewItemRow.stage, "first")
SORTS: Final[dict[Sort, tuple[tuple[ColumnElement[Any], bool], ...]]] = {
    "oldest": ((_PLACE, False),),
    "newest": ((_SKIPS, False), (AnalysisRow.id.expression, True)),
    "severity": ((_SKIPS, False), (_SEVERITY, True), (_PLACE, False)),
}
"""What comes first, and whether downwards. What was skipped comes after the rest."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which analyses somebody wants to see. None: all the same."""

    verdicts: tuple[VerdictName, ...]
    states: tuple[ItemState, ...] = UNDECIDED
    sort: Sort = "oldest"
    min_p: float | None = None
    min_severity: float | None = None
    older_than_s: float | None = None
    younger_than_s: float | None = None
    media_type: str | None = None
    text: str | None = None
    also_reviewed: bool = field(default=True)
    """Whether what somebody has opened is in it with any verdict."""


@dataclass(frozen=True, slots=True)
class Queued:
    """One analysis in the queue."""

    analysis: AnalysisRow
    item: ReviewItemRow
    keys: tuple[Key, ...]
    """Its place in the order that was asked for."""

    @property
    def state(self) -> ItemState:
        """Where it stands, in a word."""
        return state_of(self.item)


def state_of(item: ReviewItemRow) -> ItemState:
    """Where an analysis stands, in a word."""
    if item.held:
        return "locked"
    match item.stage:
        case "first":
            return "skipped" if item.skips else "open"
        case "second":
            return "second"
        case "ruling":
            return "disputed"
        case "done":
            return "decided"


class ReviewQueue:
    """The queue of one database."""

    def __init__(self, database: Database, rows: ReviewRows) -> None:
        self._sessions, self._rows = database.sessions, rows

    async def page(self, tenant: str, wanted: Wanted, *, after: Sequence[Key] | None, limit: int) -> list[Queued]:
        """At most `limit` of them, from behind the place `after`."""
        if wanted.text and "\0" in wanted.text:
            return []  # no text has one, and PostgreSQL refuses to look for it
        query = _query(tenant, wanted, now()).limit(limit)
        if after is not None:
            query = query.where(_behind(SORTS[wanted.sort], after))
        async with self._sessions() as session:
            return [Queued(row, item or fresh_item(row), tuple(keys)) for row, item, *keys in await session.execute(query)]

    async def take(self, reviewer: Reviewer, tenant: str, wanted: Wanted) -> Queued | None:
        """Open the next one for `reviewer`, and for nobody else; or the one that `reviewer` has open; None if there is none."""
        if (mine := await self._open(reviewer, tenant)) is not None:
            return mine
        lost: list[str] = []
        while candidates := await self._candidates(reviewer, tenant, wanted, lost):
            for queued in candidates:
                try:
                    item = await self._rows.lock(queued.analysis, reviewer)
                except (ReviewLocked, AlreadyReviewed, UnknownAnalysis):
                    lost.append(queued.analysis.id)  # somebody was faster
                else:
                    return Queued(queued.analysis, item, queued.keys)
        return None

    async def _open(self, reviewer: Reviewer, tenant: str) -> Queued | None:
        query = select(AnalysisRow, ReviewItemRow).join(ReviewItemRow, ReviewItemRow.analysis_id == AnalysisRow.id)
        query = query.where(ReviewItemRow.tenant == tenant, ReviewItemRow.holder == reviewer.id, ReviewItemRow.held_until > now())
        async with self._sessions() as session:
            found = (await session.execute(query.order_by(ReviewItemRow.held_since).limit(1))).first()
        if found is None:
            return None
        return Queued(found[0], await self._rows.lock(found[0], reviewer), ())

    async def _candidates(self, reviewer: Reviewer, tenant: str, wanted: Wanted, lost: Sequence[str]) -> list[Queued]:
        """What `reviewer` may decide: neither what this one has decided already, nor what this one has skipped."""
        skipped = exists().where(ReviewRow.analysis_id == AnalysisRow.id, ReviewRow.role == "skip", ReviewRow.reviewer == reviewer.id)
        first, second = _STAGE == "first", and_(ReviewItemRow.stage == "second", ReviewItemRow.first_by != reviewer.id)
        free = or_(ReviewItemRow.held_until.is_(None), ReviewItemRow.held_until <= now())
        query = _query(tenant, wanted, now()).where(or_(first, second), free, ~skipped, AnalysisRow.id.not_in(lost))
        async with self._sessions() as session:
            found = await session.execute(query.limit(AT_ONCE))
            return [Queued(row, item or fresh_item(row), tuple(keys)) for row, item, *keys in found]


def _query(tenant: str, wanted: Wanted, moment: datetime) -> Select[Any]:
    order = SORTS[wanted.sort]
    query = select(AnalysisRow, ReviewItemRow, *(column for column, _ in order))
    query = query.outerjoin(ReviewItemRow, ReviewItemRow.analysis_id == AnalysisRow.id)
    query = query.order_by(*(column.desc() if down else column for column, down in order))
    query = query.where(AnalysisRow.tenant == tenant, AnalysisRow.status == "succeeded")
    due = AnalysisRow.verdict.in_(wanted.verdicts)
    query = query.where(or_(due, ReviewItemRow.reviews > 0) if wanted.also_reviewed else due)
    if set(wanted.states) != set(STATES):
        query = query.where(or_(*(_is(state, moment) for state in wanted.states)))
    if wanted.min_p is not None:
        query = query.where(AnalysisRow.p >= wanted.min_p)
    if wanted.min_severity is not None:
        query = query.where(wanted.min_severity <= _SEVERITY)
    if wanted.older_than_s is not None:
        query = query.where(AnalysisRow.finished_at <= moment - timedelta(seconds=wanted.older_than_s))
    if wanted.younger_than_s is not None:
        query = query.where(AnalysisRow.finished_at >= moment - timedelta(seconds=wanted.younger_than_s))
    if wanted.media_type is not None:
        query = query.where(AnalysisRow.media_type == wanted.media_type)
    if wanted.text:
        named = (column.icontains(wanted.text, autoescape=True) for column in (AnalysisRow.filename, AnalysisRow.external_id))
        query = query.where(or_(*named))
    return query


def _is(state: ItemState, moment: datetime) -> ColumnElement[bool]:
    """`state_of`, for the database."""
    if state == "locked":
        return ReviewItemRow.held_until > moment
    free = or_(ReviewItemRow.held_until.is_(None), ReviewItemRow.held_until <= moment)
    match state:
        case "open":
            return and_(free, _STAGE == "first", _SKIPS == 0)
        case "skipped":
            return and_(free, _STAGE == "first", _SKIPS > 0)
        case "second":
            return and_(free, ReviewItemRow.stage == "second")
        case "disputed":
            return and_(free, ReviewItemRow.stage == "ruling")
        case "decided":
            return and_(free, ReviewItemRow.stage == "done")


def _behind(order: Sequence[tuple[ColumnElement[Any], bool]], place: Sequence[Key]) -> ColumnElement[bool]:
    """What comes after that place: a later first key, or the same one and a later second, and so on."""
    later: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for (column, down), value in zip(order, place, strict=True):
        later.append(and_(*same, column < value if down else column > value))
        same.append(column == value)
    return or_(*later)
