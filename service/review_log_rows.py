"""The log of reviews: whose, and from which place on, comes in, what reviewers said of many analyses goes out, newest first.

Read by `review_log.py`; what is in it is written by `review_rows.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, not_, select

from service.database import AnalysisRow, Database
from service.review_rows import ReviewItemRow, ReviewRow
from service.reviewer import Reviewer

AT_ONCE: Final = 500
"""Rows that are held while all are written: no export is as large in memory as it is on disk."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One review, and what its analysis was called."""

    review: ReviewRow
    filename: str | None
    """None: it had none, or was deleted."""


class ReviewLog:
    """The log of one database."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions

    async def page(self, tenant: str, reader: Reviewer, *, mine: bool, before: str | None, limit: int) -> list[Logged]:
        """At most `limit` reviews of `tenant` from before the review `before`, none of them sealed for `reader` (`ReviewItemRow.seals`)."""
        sealed = and_(ReviewItemRow.stage == "second", ReviewRow.role == "first", ReviewRow.reviewer != reader.id)
        query = select(ReviewRow, AnalysisRow.filename).order_by(ReviewRow.id.desc()).limit(limit)
        query = query.join(ReviewItemRow, ReviewItemRow.analysis_id == ReviewRow.analysis_id)
        query = query.outerjoin(AnalysisRow, AnalysisRow.id == ReviewRow.analysis_id)
        query = query.where(ReviewRow.tenant == tenant, not_(sealed))
        if mine:
            query = query.where(ReviewRow.reviewer == reader.id)
        if before is not None:
            query = query.where(ReviewRow.id < before)
        async with self._sessions() as session:
            return [Logged(review, filename) for review, filename in await session.execute(query)]

    async def all(self, tenant: str, reader: Reviewer, *, mine: bool, before: str | None) -> AsyncIterator[list[Logged]]:
        """The same to the end, some at once."""
        while found := await self.page(tenant, reader, mine=mine, before=before, limit=AT_ONCE):
            yield found
            before = found[-1].review.id
