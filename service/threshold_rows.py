"""Thresholds: one that a lead confirms comes in; the one in force, or the one that an analysis is judged by, goes out.

Used by `thresholds.py`, `judging.py` and `admission.py`. Versions are only ever added (the database refuses anything else), and counted for
each calibration: a probability means something by one alone, so with other weights the threshold that those came with is in force. It is
version 0, and has no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import CheckConstraint, Double, String, case, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from service.audit_rows import audited
from service.database import AnalysisRow, Base, Database, UtcDateTime, now
from service.problems import ServiceError
from service.reviewer import Reviewer


class ThresholdChanged(ServiceError):
    slug = "threshold-changed"
    title = "Somebody else has changed the threshold"
    status = 412


class ThresholdRow(Base):
    """One version of one tenant's threshold, for one calibration."""

    __tablename__ = "thresholds"
    __table_args__ = (
        CheckConstraint("threshold > 0 AND threshold < 1", name="threshold_is_a_probability"),
        CheckConstraint("(threshold IS NULL) = (target_fpr IS NULL)", name="rate_with_threshold"),
    )

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    calibration_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1."""
    threshold: Mapped[float | None] = mapped_column(Double)
    """Null: the one that the weights came with, again."""
    target_fpr: Mapped[float | None] = mapped_column(Double)
    note: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    author: Mapped[str] = mapped_column(String(255))
    author_name: Mapped[str] = mapped_column(String(320))


@dataclass(frozen=True, slots=True)
class Choice:
    """From which probability on an analysis counts as manipulated, and for which false-positive rate that was chosen."""

    threshold: float
    target_fpr: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """One version; nobody confirmed the shipped one."""

    version: int
    choice: Choice | None
    """None: what the weights came with."""
    note: str | None
    at: datetime | None
    author: str | None


SHIPPED: Final = Threshold(0, None, None, None, None)


class ThresholdRows:
    """The thresholds of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_force(self, tenant: str, calibration_id: str) -> Threshold:
        """By which analyses of `tenant` that begin now are judged."""
        (found, *_) = [*await self.page(tenant, calibration_id, limit=1), SHIPPED]
        return found

    async def page(self, tenant: str, calibration_id: str, *, before: int | None = None, limit: int) -> Sequence[Threshold]:
        """At most `limit` versions that somebody confirmed, newest first, from before the version `before`."""
        query = select(ThresholdRow).where(ThresholdRow.tenant == tenant, ThresholdRow.calibration_id == calibration_id)
        if before is not None:
            query = query.where(ThresholdRow.version < before)
        query = query.order_by(ThresholdRow.version.desc()).limit(limit)
        return [_threshold(row) for row in await self._database.read(lambda session: session.scalars(query).all())]

    async def write(self, tenant: str, calibration_id: str, author: Reviewer, choice: Choice | None, note: str, *, after: int) -> Threshold:
        """Add the version that follows `after`, and say so in the audit.

        Raises:
            ThresholdChanged: `after` is not in force any more.
        """
        row = ThresholdRow(
            tenant=tenant,
            calibration_id=calibration_id,
            version=after + 1,
            threshold=None if choice is None else choice.threshold,
            target_fpr=None if choice is None else choice.target_fpr,
            note=note,
            at=now(),
            author=author.id,
            author_name=author.name,
        )
        try:
            async with self._database.sessions.begin() as session:
                session.add_all((row, audited(tenant, author.key_id, "threshold.changed", str(after + 1))))
        except IntegrityError as error:  # the primary key: somebody was faster
            raise ThresholdChanged(
                "Read it again before you change it.", expected=f"version {after} in force", got="a later one"
            ) from error
        return _threshold(row)

    async def decide(self, analysis_id: str, calibration_id: str) -> Threshold | None:
        """By which an analysis is judged: the one in force when this is asked first, whoever goes on with it later. None: it was deleted.

        Should other weights go on with it, it is judged anew, and decided anew.
        """

        def decided(session: Session) -> Threshold | None:
            newest = select(func.max(ThresholdRow.version)).where(ThresholdRow.tenant == AnalysisRow.tenant)
            newest = newest.where(ThresholdRow.calibration_id == calibration_id)
            kept = (AnalysisRow.calibration_id == calibration_id, AnalysisRow.threshold_version)
            change = update(AnalysisRow).where(AnalysisRow.id == analysis_id).execution_options(synchronize_session=False)
            version = case(kept, else_=func.coalesce(newest.scalar_subquery(), 0))
            change = change.values(calibration_id=calibration_id, threshold_version=version)
            found = session.execute(change.returning(AnalysisRow.tenant, AnalysisRow.threshold_version)).first()
            if found is None:
                return None
            row = session.get(ThresholdRow, (found[0], calibration_id, found[1]))
            return SHIPPED if row is None else _threshold(row)

        return await self._database.write(decided)


def _threshold(row: ThresholdRow) -> Threshold:
    choice = None if row.threshold is None or row.target_fpr is None else Choice(row.threshold, row.target_fpr)
    return Threshold(row.version, choice, row.note, row.at, row.author_name)
