"""Rows: facts about an analysis come in, a row of SQLite or PostgreSQL goes out. Written by `judging.py` and `admission.py`, read by all.

Result, timeline and crops are files (`storage.py`); a row says `succeeded` only after they are on disk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pipelines.verdict import VerdictName
from service.connection import open_engine
from service.outages import AWAY, DatabaseUnavailable
from service.problems import ServiceError
from service.schemas import AnalysisStatus
from service.settings import DEFAULT_TENANT as DEFAULT_TENANT
from service.visits import Visits

ENDED: tuple[AnalysisStatus, ...] = ("succeeded", "failed", "cancelled")
WRITABLE: Final = "WITH none AS (DELETE FROM replicas WHERE false) SELECT pg_current_xact_id()"
"""PostgreSQL refuses it where it only lets itself be read, and where there is no transaction id left to give."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC: SQLite drops the offset, so it is put back when read."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class NameTaken(ServiceError):
    """Two replicas have one name."""

    slug = "replica-name-taken"
    title = "Another replica has this name"
    status = 500


class InDoubt(DatabaseUnavailable):
    """It may be kept: to ask again with the same Idempotency-Key tells."""

    slug = "database-in-doubt"
    title = "The database cannot be used now, and may have kept this"


class Base(DeclarativeBase):
    pass


class AnalysisRow(Base):
    """One analysis. `id` sorts by creation, so it is the cursor as well."""

    __tablename__ = "analyses"
    __table_args__ = (
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status_is_known"),
        CheckConstraint("(verdict IS NOT NULL) = (status = 'succeeded')", name="verdict_if_succeeded"),
        UniqueConstraint("tenant", "idempotency_key", name="analyses_idempotency_key_of_tenant"),
        Index("analyses_by_tenant", "tenant", "id"),
        Index("analyses_held_by_tenant", "tenant", "status", "size_bytes"),
        Index("analyses_by_status", "status", "id"),
        Index("analyses_by_verdict", "verdict", "id"),
        Index("analyses_by_media", "sha256", "recipe"),
        Index("analyses_by_end", "tenant", "finished_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), default=DEFAULT_TENANT, server_default=DEFAULT_TENANT)
    """Whose it is; nobody else sees it."""
    status: Mapped[AnalysisStatus] = mapped_column(String(16))
    verdict: Mapped[VerdictName | None] = mapped_column(String(16))
    sentence: Mapped[str | None]
    p: Mapped[float | None] = mapped_column(Double)
    severity: Mapped[float | None] = mapped_column(Double)
    """How soon a person should look at it (`severity.py`)."""
    reach: Mapped[float | None] = mapped_column(Double)
    """The highest threshold by which it would be called manipulated (`Verdict.reach`)."""
    calibration_id: Mapped[str | None] = mapped_column(String(64))
    """By which it is judged, once that has begun..."""
    threshold_version: Mapped[int | None]
    """...and by which threshold of its tenant (`threshold_rows.py`); 0 is the one that the weights came with."""
    external_id: Mapped[str | None] = mapped_column(String(200))
    filename: Mapped[str | None] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    source_url: Mapped[str | None]
    """Where the media was fetched, as it may be shown."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
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
    attempts: Mapped[int] = mapped_column(server_default="0")
    """How often it was taken up since it came further last."""
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


@dataclass(frozen=True, slots=True)
class Held:
    """What one tenant has here."""

    unfinished: int
    size_bytes: int
    """Of media."""


def now() -> datetime:
    """The wall clock, aware, for rows; never for media time."""
    return datetime.now(UTC)


Told = Callable[[AsyncSession, AnalysisRow], Awaitable[None]]


async def _nobody_is_told(_session: AsyncSession, _row: AnalysisRow) -> None:
    """Where nothing but rows is wanted, as on the command line."""


class Database:
    """Every statement of the service, each in a transaction of its own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._visits = Visits(engine)
        self.read, self.glance, self.write = self._visits.read, self._visits.glance, self._visits.write
        """For what is asked and written again and again, of another noun as well."""
        self._tell_end: Told = _nobody_is_told

    def when_ended(self, tell: Told) -> None:
        """Have `tell` write down whom to tell of an analysis that ends: in that same transaction, so that neither is without the other."""
        self._tell_end = tell

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """For the statements of another noun (`feed_rows.py`, `key_store.py`)."""
        return self._sessions

    @classmethod
    async def open(cls, url: URL) -> Database:
        """Open the database at `url` (`connection.database_url`), creating or migrating its tables.

        Raises:
            DatabaseError: it cannot be reached, or was written by a newer version.
        """
        return cls(await open_engine(url))

    async def close(self) -> None:
        """Close every connection."""
        await self._visits.close()
        await self._engine.dispose()

    async def ping(self) -> None:
        """Make sure that rows can be written, without writing any; raises SQLAlchemyError when they cannot."""
        sqlite = self._engine.dialect.name == "sqlite"
        async with self._engine.connect() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else WRITABLE)
            await connection.rollback()

    async def add(self, row: AnalysisRow, *beside: Base) -> None:
        """Insert `row`, and with it what stands `beside` it, both or neither.

        Raises:
            IntegrityError: its idempotency key is taken.
            InDoubt: the database went away while it said that they are kept, so they may be.
        """

        def inserted(session: Session) -> None:
            session.add_all((row, *beside))
            session.flush()
            try:
                session.commit()
            except AWAY as error:
                raise InDoubt(
                    "The database went away in the middle of an answer, so nobody knows whether this was kept.",
                    expected="a database that answers",
                    got=type(error).__name__,
                ) from error

        await self.write(inserted)

    async def get(self, analysis_id: str) -> AnalysisRow | None:
        """The row with this id."""
        return await self.glance(lambda session: session.get(AnalysisRow, analysis_id))

    async def by_idempotency_key(self, tenant: str, key: str) -> AnalysisRow | None:
        """The row that `tenant` created with this key."""
        query = select(AnalysisRow).where(AnalysisRow.tenant == tenant, AnalysisRow.idempotency_key == key)
        return await self.glance(lambda session: session.scalar(query))

    async def finished(self, tenant: str, sha256: str, recipe: str, threshold_version: int) -> AnalysisRow | None:
        """The newest analysis of `tenant` of the same bytes that was judged in the same way."""
        same = select(AnalysisRow).where(AnalysisRow.sha256 == sha256, AnalysisRow.recipe == recipe)
        same = same.where(AnalysisRow.threshold_version == threshold_version)
        same = same.where(AnalysisRow.tenant == tenant, AnalysisRow.status == "succeeded").order_by(AnalysisRow.id.desc()).limit(1)
        return await self.read(lambda session: session.scalar(same))

    async def page(
        self,
        *,
        before: str | None,
        limit: int,
        tenant: str = DEFAULT_TENANT,
        status: AnalysisStatus | None = None,
        verdict: VerdictName | None = None,
        text: str | None = None,
    ) -> Sequence[AnalysisRow]:
        """At most `limit` rows of `tenant`, newest first, from before the row `before`; `text` is sought in filename and external_id."""
        query = select(AnalysisRow).where(AnalysisRow.tenant == tenant).order_by(AnalysisRow.id.desc()).limit(limit)
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
        # No index leads to a text, nor to both of the others.
        find = self.read if text or (status and verdict) else self.glance
        return await find(lambda session: session.scalars(query).all())

    async def ids(self) -> set[str]:
        """Every id."""
        return await self.read(lambda session: set(session.scalars(select(AnalysisRow.id))))

    async def backlog(self) -> Backlog:
        """What waits and what runs."""
        query = select(AnalysisRow.status, func.count(), func.min(AnalysisRow.created_at)).group_by(AnalysisRow.status)
        query = query.where(AnalysisRow.status.in_(("queued", "running")))
        rows = await self.read(lambda session: session.execute(query).all())
        found = {status: (count, oldest) for status, count, oldest in rows}
        queued, oldest = found.get("queued", (0, None))
        return Backlog(queued, found.get("running", (0, None))[0], oldest)

    async def held(self, tenant: str) -> Held:
        """What `tenant` has."""
        query = select(AnalysisRow.status, func.count(), func.sum(AnalysisRow.size_bytes)).where(AnalysisRow.tenant == tenant)
        rows = await self.read(lambda session: session.execute(query.group_by(AnalysisRow.status)).all())
        return Held(sum(count for status, count, _ in rows if status not in ENDED), sum(int(size) for _, _, size in rows))

    async def begin(self, analysis_id: str, replica: str) -> AnalysisRow | None:
        """`replica` takes a row up that has not ended; the row as it is then, None if it has ended or was deleted."""
        take = update(AnalysisRow).where(AnalysisRow.id == analysis_id, AnalysisRow.status.in_(("queued", "running")))
        values = {
            "status": "running",
            "replica": replica,
            "started_at": func.coalesce(AnalysisRow.started_at, now()),
            "attempts": AnalysisRow.attempts + 1,
            "version": AnalysisRow.version + 1,
        }
        return await self.write(lambda session: session.scalar(take.values(values).returning(AnalysisRow)))

    async def move(
        self,
        analysis_id: str,
        origin: AnalysisStatus,
        target: AnalysisStatus,
        *,
        replica: str | None = None,
        **values: str | float | datetime | None,
    ) -> bool:
        """Move a row from `origin` to `target` with `values`; False when it was not (any more) in `origin`, or not that of `replica`."""
        if target in ENDED:
            values["finished_at"] = now()
        change = update(AnalysisRow).where(AnalysisRow.id == analysis_id, AnalysisRow.status == origin)
        if replica is not None:
            change = change.where(AnalysisRow.replica == replica)
        change = change.values(status=target, progress=None, version=AnalysisRow.version + 1, **values)
        async with self._sessions.begin() as session:
            row = await session.scalar(change.returning(AnalysisRow))
            if row is not None and row.ended:
                await self._tell_end(session, row)
            return row is not None

    async def note(self, analysis_id: str, replica: str, *, progress: str | None = None, further: bool = False) -> bool:
        """Write down how far a row is that `replica` works on, and whether it came further; False when it has ended or is another's."""
        mine = update(AnalysisRow).where(AnalysisRow.id == analysis_id, AnalysisRow.status == "running", AnalysisRow.replica == replica)
        values: dict[str, object] = {"version": AnalysisRow.version + 1}
        values |= {} if progress is None else {"progress": progress}
        values |= {"attempts": 0} if further else {}
        return await self.write(lambda session: session.scalar(mine.values(values).returning(AnalysisRow.id))) is not None

    async def release(self, replica: str | None) -> int:
        """Put back what a replica (None: any) has under way; how many rows that were."""
        change = update(AnalysisRow).where(AnalysisRow.status == "running")
        if replica is not None:
            change = change.where(AnalysisRow.replica == replica)
        change = change.values(status="queued", started_at=None, progress=None, version=AnalysisRow.version + 1)
        return await self.write(lambda session: len(session.scalars(change.returning(AnalysisRow.id)).all()))

    async def unfinished(self) -> dict[str, tuple[str, int]]:
        """Every row that has not ended, oldest first, with its tenant and its priority."""
        query = select(AnalysisRow.id, AnalysisRow.tenant, AnalysisRow.priority).where(AnalysisRow.status.in_(("queued", "running")))
        rows = await self.read(lambda session: session.execute(query.order_by(AnalysisRow.id)).all())
        return {row_id: (tenant, priority) for row_id, tenant, priority in rows}

    async def ended_before(self, moment: datetime, limit: int) -> dict[str, str]:
        """At most `limit` rows that ended before that, each with its tenant."""
        query = select(AnalysisRow.id, AnalysisRow.tenant).where(AnalysisRow.finished_at < moment).order_by(AnalysisRow.id).limit(limit)
        rows = await self.read(lambda session: session.execute(query).all())
        return {row_id: tenant for row_id, tenant in rows}

    async def beat(self, replica: str, seen_at: datetime | None) -> datetime:
        """`replica` lives. `seen_at`: what this gave it the last time.

        Raises:
            NameTaken: somebody else has written under that name since.
        """
        moment = now()

        def alive(session: Session) -> None:
            row = session.get(ReplicaRow, replica)
            if row is None:
                session.add(ReplicaRow(id=replica, started_at=moment, seen_at=moment))
            elif seen_at is not None and row.seen_at != seen_at:
                raise NameTaken(f"Somebody else writes as the replica {replica!r}.", expected="a name of its own", got="another process's")
            else:
                row.seen_at = moment

        await self.write(alive)
        return moment

    async def replicas(self) -> dict[str, datetime]:
        """Every replica that has not left, with its last sign of life."""
        rows = await self.read(lambda session: session.execute(select(ReplicaRow.id, ReplicaRow.seen_at)).all())
        return {name: seen_at for name, seen_at in rows}

    async def bury(self, replica: str, seen_at: datetime) -> bool:
        """Take charge of what a dead replica has left: whoever changes its last sign of life first. False: somebody else did."""
        change = update(ReplicaRow).where(ReplicaRow.id == replica, ReplicaRow.seen_at == seen_at).values(seen_at=now())
        return await self.write(lambda session: session.scalar(change.returning(ReplicaRow.id))) is not None

    async def depart(self, replica: str) -> None:
        """Nothing is left of that replica."""
        await self.write(lambda session: session.execute(delete(ReplicaRow).where(ReplicaRow.id == replica)))

    async def remove(self, analysis_id: str, *beside: Base) -> None:
        """Delete a row, and insert what is to stand `beside` it, both or neither; nothing happens when it is gone already."""

        def removed(session: Session) -> None:
            gone = delete(AnalysisRow).where(AnalysisRow.id == analysis_id).returning(AnalysisRow.id)
            if session.scalar(gone) is not None:
                session.add_all(beside)

        await self.write(removed)
