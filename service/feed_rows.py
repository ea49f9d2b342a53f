"""Rows of feeds and of their alerts: facts come in, rows of SQLite or PostgreSQL go out. Written by `feeds.py` and `feed_keeper.py`.

A feed's row is also its lease: of several replicas one watches it, and says so every few seconds. The database's clock says how long
(`shared_clock.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.alert_rule import EndCause
from service.database import DEFAULT_TENANT, Base, Database, UtcDateTime, now
from service.shared_clock import shared_now

LEASE: Final = timedelta(seconds=30)
"""A replica that has said nothing for so long watches no more."""
BLOCK: Final = 10_000
"""Event numbers that are set aside at once: after a crash numbers go on behind them, and none is used twice."""


class FeedRow(Base):
    """One camera. `id` sorts by creation, so it is the cursor as well."""

    __tablename__ = "feeds"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key", name="feeds_idempotency_key_of_tenant"),
        Index("feeds_by_tenant", "tenant", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), default=DEFAULT_TENANT, server_default=DEFAULT_TENANT)
    """Whose it is; nobody else sees it."""
    name: Mapped[str | None] = mapped_column(String(200))
    url: Mapped[str]
    """With its credentials: shown to nobody."""
    hz: Mapped[float | None] = mapped_column(Double)
    rule: Mapped[str]
    """`AlertRuleIn` as JSON."""
    paused: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(server_default="0")
    """Grows with every change of what is to be watched."""
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """No event has had a higher number."""
    alerts: Mapped[int] = mapped_column(server_default="0")
    """Number of its newest alert."""
    owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AlertRow(Base):
    """One alert of a feed. Points of media time are ticks of its `time_base`, on the timeline of its session."""

    __tablename__ = "alerts"
    __table_args__ = (CheckConstraint("(cause IS NULL) = (ended_at IS NULL)", name="cause_if_ended"),)

    feed_id: Mapped[str] = mapped_column(ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1 within its feed; none is used again."""
    session_id: Mapped[str] = mapped_column(String(64))
    track: Mapped[int] = mapped_column(BigInteger)
    base_numerator: Mapped[int] = mapped_column(BigInteger)
    base_denominator: Mapped[int] = mapped_column(BigInteger)
    began_pts: Mapped[int] = mapped_column(BigInteger)
    last_pts: Mapped[int] = mapped_column(BigInteger)
    peak_pts: Mapped[int] = mapped_column(BigInteger)
    peak: Mapped[float] = mapped_column(Double)
    longest_s: Mapped[float] = mapped_column(Double)
    cause: Mapped[EndCause | None] = mapped_column(String(16))
    told_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    still_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """0: there is none."""
    clip_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """0: there is none, or none yet."""
    clip_first_pts: Mapped[int | None] = mapped_column(BigInteger)
    clip_last_pts: Mapped[int | None] = mapped_column(BigInteger)

    def copy(self) -> AlertRow:
        """Another row with the same values, of no session."""
        return AlertRow(**_values(self))


Told = Callable[[AsyncSession, AlertRow], Awaitable[None]]


async def _nobody_is_told(_session: AsyncSession, _alert: AlertRow) -> None:
    """Where nothing but rows is wanted."""


class FeedRows:
    """Every statement about feeds, each in a transaction of its own.

    Args:
        alone: nobody else can use this database, so that what somebody holds is held by the dead.
        tell: writes down whom to tell of an alert that begins or ends, once each, in that same transaction.
    """

    def __init__(self, database: Database, *, alone: bool, tell: Told = _nobody_is_told) -> None:
        self._sessions, self._alone, self._tell = database.sessions, alone, tell

    async def add(self, row: FeedRow, *beside: Base) -> None:
        """Insert `row` and what stands `beside` it, both or neither; raises IntegrityError when its idempotency key is taken."""
        async with self._sessions.begin() as session:
            session.add_all((row, *beside))

    async def get(self, feed_id: str) -> FeedRow | None:
        """The feed with this id."""
        async with self._sessions() as session:
            return await session.get(FeedRow, feed_id)

    async def by_idempotency_key(self, tenant: str, key: str) -> FeedRow | None:
        """The feed that `tenant` created with this key."""
        async with self._sessions() as session:
            return await session.scalar(select(FeedRow).where(FeedRow.tenant == tenant, FeedRow.idempotency_key == key))

    async def page(self, *, before: str | None, limit: int, tenant: str = DEFAULT_TENANT) -> Sequence[FeedRow]:
        """At most `limit` feeds of `tenant`, created before the feed `before`, newest first."""
        query = select(FeedRow).where(FeedRow.tenant == tenant).order_by(FeedRow.id.desc()).limit(limit)
        async with self._sessions() as session:
            return (await session.scalars(query if before is None else query.where(FeedRow.id < before))).all()

    async def all(self) -> Sequence[FeedRow]:
        """Every feed, oldest first."""
        async with self._sessions() as session:
            return (await session.scalars(select(FeedRow).order_by(FeedRow.id))).all()

    async def count(self, tenant: str | None = None) -> int:
        """How many there are, of `tenant` or of all."""
        query = select(func.count()).select_from(FeedRow)
        async with self._sessions() as session:
            return await session.scalar(query if tenant is None else query.where(FeedRow.tenant == tenant)) or 0

    async def change(self, feed_id: str, values: Mapping[str, Any], *beside: Base) -> FeedRow | None:
        """Give a feed other values, and insert what stands `beside` that, both or neither; None if it is gone."""
        change = update(FeedRow).where(FeedRow.id == feed_id).values(**values, version=FeedRow.version + 1)
        async with self._sessions.begin() as session:
            row = await session.scalar(change.returning(FeedRow))
            session.add_all(beside if row is not None else ())
            return row

    async def remove(self, feed_id: str) -> None:
        """Delete a feed and its alerts; nothing happens when it is gone already."""
        async with self._sessions.begin() as session:
            await session.execute(delete(AlertRow).where(AlertRow.feed_id == feed_id))
            await session.execute(delete(FeedRow).where(FeedRow.id == feed_id))

    async def take(self, feed_id: str, owner: str) -> FeedRow | None:
        """Watch a feed that nobody watches: its row, with the number of the last event in `event_seq`; None if somebody does.

        Alerts that whoever watched it before left open are ended.
        """
        async with self._sessions.begin() as session:
            free = or_(FeedRow.owner.is_(None), FeedRow.lease_until < shared_now(session))
            take = update(FeedRow).where(FeedRow.id == feed_id).values(owner=owner, lease_until=shared_now(session, LEASE))
            row = await session.scalar((take if self._alone else take.where(free)).returning(FeedRow))
            if row is not None:
                left_open = update(AlertRow).where(AlertRow.feed_id == feed_id, AlertRow.ended_at.is_(None))
                for alert in (await session.scalars(left_open.values(cause="stopped", ended_at=now()).returning(AlertRow))).all():
                    await self._tell(session, alert)
            return row

    async def renew(self, feed_id: str, owner: str, event_seq: int) -> FeedRow | None:
        """`owner` still watches, and has told events up to `event_seq`; more are set aside. None: the feed is gone, or another's."""
        renew = update(FeedRow).where(FeedRow.id == feed_id, FeedRow.owner == owner)
        async with self._sessions.begin() as session:
            renew = renew.values(lease_until=shared_now(session, LEASE), event_seq=event_seq + BLOCK)
            return await session.scalar(renew.returning(FeedRow))

    async def release(self, feed_id: str, owner: str, event_seq: int) -> None:
        """`owner` watches no more; its last event was this."""
        values = {"owner": None, "lease_until": None, "event_seq": event_seq}
        async with self._sessions.begin() as session:
            await session.execute(update(FeedRow).where(FeedRow.id == feed_id, FeedRow.owner == owner).values(values))

    async def add_alert(self, alert: AlertRow) -> int:
        """An alert of `feed_id` began: its number; 0 if the feed is gone.

        May be called again when the answer got lost: an alert is one of a session, a track and a beginning.
        """
        feed = update(FeedRow).where(FeedRow.id == alert.feed_id)
        same = select(AlertRow.n).where(AlertRow.feed_id == alert.feed_id, AlertRow.session_id == alert.session_id)
        same = same.where(AlertRow.track == alert.track, AlertRow.began_pts == alert.began_pts)
        async with self._sessions.begin() as session:
            # Written first, so that it is held: whatever an earlier attempt left under way is over by then, and seen.
            before = await session.scalar(feed.values(alerts=FeedRow.alerts).returning(FeedRow.alerts))
            if before is None:
                return 0
            if (n := await session.scalar(same)) is None:
                n = before + 1
                await session.execute(feed.values(alerts=n))
                begun = await session.scalars(insert(AlertRow).values(_values(alert) | {"n": n}).returning(AlertRow))
                await self._tell(session, begun.one())
            return n

    async def change_alert(self, alert: AlertRow) -> bool:
        """An alert went on, or ended; False when it was forgotten meanwhile."""
        change = update(AlertRow).where(AlertRow.feed_id == alert.feed_id, AlertRow.n == alert.n).values(_values(alert))
        async with self._sessions.begin() as session:
            if alert.cause is not None:
                ended = await session.scalar(change.where(AlertRow.ended_at.is_(None)).returning(AlertRow))
                if ended is not None:
                    await self._tell(session, ended)
                    return True
            return (await session.scalar(change.returning(AlertRow.n))) is not None

    async def forget_alerts(self, feed_id: str, most: int, most_bytes: int) -> list[int]:
        """Delete all but the newest alerts, as many as may be kept with so many bytes of evidence; which they were. Open ones stay."""
        size = (AlertRow.still_bytes + AlertRow.clip_bytes).label("size")
        query = select(AlertRow.n, size).where(AlertRow.feed_id == feed_id, AlertRow.ended_at.is_not(None)).order_by(AlertRow.n.desc())
        async with self._sessions.begin() as session:
            gone, kept_bytes = [], 0
            for i, (n, octets) in enumerate(await session.execute(query)):
                kept_bytes += octets
                if i >= most or kept_bytes > most_bytes:
                    gone.append(n)
            await session.execute(delete(AlertRow).where(AlertRow.feed_id == feed_id, AlertRow.n.in_(gone)))
            return gone

    async def alert(self, feed_id: str, n: int) -> AlertRow | None:
        """One alert."""
        async with self._sessions() as session:
            return await session.get(AlertRow, (feed_id, n))

    async def alert_page(self, feed_id: str, *, before: int | None, limit: int) -> Sequence[AlertRow]:
        """At most `limit` alerts older than `before`, newest first."""
        query = select(AlertRow).where(AlertRow.feed_id == feed_id).order_by(AlertRow.n.desc()).limit(limit)
        async with self._sessions() as session:
            return (await session.scalars(query if before is None else query.where(AlertRow.n < before))).all()

    async def newest_alerts(self, tenant: str, limit: int) -> Sequence[AlertRow]:
        """At most `limit` alerts of all feeds of `tenant`, the last that was told first."""
        query = select(AlertRow).join(FeedRow, FeedRow.id == AlertRow.feed_id).where(FeedRow.tenant == tenant)
        newest = query.order_by(AlertRow.told_at.desc(), AlertRow.feed_id, AlertRow.n.desc()).limit(limit)
        async with self._sessions() as session:
            return (await session.scalars(newest)).all()


def _values(row: AlertRow) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in AlertRow.__table__.columns}
