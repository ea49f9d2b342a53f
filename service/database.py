"""Rows: facts about an analysis come in, a row of SQLite or PostgreSQL goes out. Written by `jobs.py` and `admission.py`, read by all.

Result, timeline and crops are files (`storage.py`); a row says `succeeded` only after they are on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Index,
    String,
    TypeDecorator,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pipelines.verdict import VerdictName
from service.connection import open_engine
from service.schemas import AnalysisStatus

ENDED: tuple[AnalysisStatus, ...] = ("succeeded", "failed", "cancelled")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC: SQLite drops the offset, so it is put back when read."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    pass


class AnalysisRow(Base):
    """One analysis. `id` sorts by creation, so it is the cursor as well."""

    __tablename__ = "analyses"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status_is_known"),
        CheckConstraint("(verdict IS NOT NULL) = (status = 'succeeded')", name="verdict_if_succeeded"),
        Index("analyses_by_status", "status", "id"),
        Index("analyses_by_verdict", "verdict", "id"),
        Index("analyses_by_media", "sha256", "recipe"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    status: Mapped[AnalysisStatus] = mapped_column(String(16))
    verdict: Mapped[VerdictName | None] = mapped_column(String(16))
    sentence: Mapped[str | None]
    p: Mapped[float | None] = mapped_column(Double)
    external_id: Mapped[str | None] = mapped_column(String(200))
    filename: Mapped[str | None] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    source_url: Mapped[str | None]
    """Where the media was fetched, as it may be shown."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    request_sha256: Mapped[str | None] = mapped_column(String(64))
    """What the key was used for."""
    recipe: Mapped[str | None] = mapped_column(String(64))
    """Digest of what its result was made with besides the media; once it has one."""
    problem: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default="0")
    """Of two that wait, the lower number goes first."""
    version: Mapped[int] = mapped_column(server_default="0")
    """Grows with every change, so that whoever follows the row sees that there is something new."""
    progress: Mapped[str | None]
    """How far it is, as JSON, while it runs."""
    replica: Mapped[str | None] = mapped_column(String(64))
    """Who took it up last."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class ReplicaRow(Base):
    """One process of the service, as long as it lives: it says so every few seconds."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Analyses that have not ended."""

    queued: int
    running: int
    oldest_queued_at: datetime | None


def now() -> datetime:
    """The wall clock, aware, for rows; never for media time."""
    return datetime.now(UTC)


class Database:
    """Every statement of the service, each in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    @classmethod
    async def open(cls, url: URL) -> Database:
        """Open the database at `url` (`connection.database_url`), creating or migrating its tables.

        Raises:
            DatabaseError: it cannot be reached, or was written by a newer version.
        """
        return cls(await open_engine(url))

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Make sure that rows can be written, without writing any; raises SQLAlchemyError when they cannot."""
        sqlite = self._engine.dialect.name == "sqlite"
        async with self._engine.connect() as connection:
            # A server that only follows another has no transaction ids to give.
            await connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "SELECT pg_current_xact_id()")
            await connection.rollback()

    async def add(self, row: AnalysisRow) -> None:
        """Insert `row`; raises IntegrityError when its idempotency key is taken."""
        async with self._sessions.begin() as session:
            session.add(row)

    async def get(self, analysis_id: str) -> AnalysisRow | None:
        """The row with this id."""
        async with self._sessions() as session:
            return await session.get(AnalysisRow, analysis_id)

    async def by_idempotency_key(self, key: str) -> AnalysisRow | None:
        """The row that was created with this key."""
        async with self._sessions() as session:
            return await session.scalar(select(AnalysisRow).where(AnalysisRow.idempotency_key == key))

    async def finished(self, sha256: str, recipe: str) -> AnalysisRow | None:
        """The newest analysis of the same bytes that was judged in the same way."""
        same = select(AnalysisRow).where(AnalysisRow.sha256 == sha256, AnalysisRow.recipe == recipe, AnalysisRow.status == "succeeded")
        async with self._sessions() as session:
            return await session.scalar(same.order_by(AnalysisRow.id.desc()).limit(1))

    async def page(
        self,
        *,
        before: str | None,
        limit: int,
        status: AnalysisStatus | None = None,
        verdict: VerdictName | None = None,
        text: str | None = None,
    ) -> Sequence[AnalysisRow]:
        """At most `limit` rows created before the row `before`, newest first; `text` is looked for in filename and external_id."""
        query = select(AnalysisRow).order_by(AnalysisRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AnalysisRow.id < before)
        if status is not None:
            query = query.where(AnalysisRow.status == status)
        if verdict is not None:
            query = query.where(AnalysisRow.verdict == verdict)
        if text and "\0" in text:
            return []  # no text has one, and PostgreSQL refuses to look for it
        if text:
            query = query.where(
                or_(AnalysisRow.filename.icontains(text, autoescape=True), AnalysisRow.external_id.icontains(text, autoescape=True))
            )
        async with self._sessions() as session:
            return (await session.scalars(query)).all()

    async def ids(self) -> set[str]:
        """Every id."""
        async with self._sessions() as session:
            return set(await session.scalars(select(AnalysisRow.id)))

    async def count(self, status: AnalysisStatus) -> int:
        """How many rows have this status."""
        async with self._sessions() as session:
            return await session.scalar(select(func.count()).where(AnalysisRow.status == status)) or 0

    async def backlog(self) -> Backlog:
        """What waits and what runs."""
        query = select(AnalysisRow.status, func.count(), func.min(AnalysisRow.created_at)).group_by(AnalysisRow.status)
        async with self._sessions() as session:
            rows = await session.execute(query.where(AnalysisRow.status.in_(("queued", "running"))))
        found = {status: (count, oldest) for status, count, oldest in rows}
        queued, oldest = found.get("queued", (0, None))
        return Backlog(queued, found.get("running", (0, None))[0], oldest)

    async def claim_next(self) -> AnalysisRow | None:
        """Move the oldest queued row to `running` and return it; None when none is queued."""
        oldest = select(func.min(AnalysisRow.id)).where(AnalysisRow.status == "queued").scalar_subquery()
        claim = update(AnalysisRow).where(AnalysisRow.id == oldest, AnalysisRow.status == "queued")
        async with self._sessions.begin() as session:
            return await session.scalar(claim.values(status="running", started_at=now()).returning(AnalysisRow))

    async def move(self, analysis_id: str, origin: AnalysisStatus, target: AnalysisStatus, **values: str | float | datetime | None) -> bool:
        """Move a row from `origin` to `target` with `values`; False when it was not (any more) in `origin`."""
        if target in ENDED:
            values["finished_at"] = now()
        change = update(AnalysisRow).where(AnalysisRow.id == analysis_id, AnalysisRow.status == origin).values(status=target, **values)
        async with self._sessions.begin() as session:
            return (await session.scalar(change.returning(AnalysisRow.id))) is not None

    async def requeue_running(self) -> int:
        """Put back the rows that a dead process left `running`; how many they were."""
        change = update(AnalysisRow).where(AnalysisRow.status == "running").values(status="queued", started_at=None)
        async with self._sessions.begin() as session:
            return len((await session.scalars(change.returning(AnalysisRow.id))).all())

    async def remove(self, analysis_id: str) -> None:
        """Delete a row; nothing happens when it is gone already."""
        async with self._sessions.begin() as session:
            await session.execute(delete(AnalysisRow).where(AnalysisRow.id == analysis_id))
