"""Deliveries: an event comes in with what it tells of, in one transaction; each webhook's share of it goes out until it has been delivered.

A delivery's row is also its lease: of several replicas one sends it, and what one holds that died is due again when its time is over, by
the database's clock (`shared_clock.py`).
Written by `webhook_events.py`, sent by `webhook_deliverer.py`, read by `webhooks.py`.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Database, UtcDateTime, now
from service.ids import new_id
from service.shared_clock import shared_now
from service.webhook_attempt import Attempt
from service.webhook_rows import WebhookRow

DeliveryStatus = Literal["pending", "delivered", "failed"]
HELD: Final = timedelta(seconds=60)
"""Whoever has begun an attempt and said nothing for so long has died; several times what an attempt may take."""
PING: Final = "ping"
"""Told when somebody asks for it, once, and nothing follows from it."""
CANDIDATES: Final = 8
"""Looked at for one that no other replica takes meanwhile."""
SWEPT_AT_ONCE: Final = 500


class DeliveryRow(Base):
    """One event that one webhook is to be told of. `id` sorts by creation, so it is the cursor as well."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status_is_known"),
        UniqueConstraint("webhook_id", "event_id", name="webhook_deliveries_once"),
        Index("webhook_deliveries_by_webhook", "webhook_id", "id"),
        Index("webhook_deliveries_due", "status", "due_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(String(36))
    """The same in every attempt and every replay: by it receivers know what they had before."""
    event: Mapped[str] = mapped_column(String(32))
    body: Mapped[str]
    """As it is signed and sent."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    status: Mapped[DeliveryStatus] = mapped_column(String(16))
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it is to be sent; of one that is being sent, when its holder counts as dead."""
    held_by: Mapped[str | None] = mapped_column(String(96))
    tries: Mapped[int] = mapped_column(server_default="0")
    """Since it was to be told, or told again."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    """All of them."""


class AttemptRow(Base):
    """What came of sending it once."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    duration_s: Mapped[float] = mapped_column(Double)
    status_code: Mapped[int | None]
    answer: Mapped[str]
    error: Mapped[str | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is this process's to send, once."""

    id: str
    webhook_id: str
    event_id: str
    event: str
    body: str
    tries: int
    """Before this one."""
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    holder: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries that somebody is still to be told."""

    count: int
    oldest_at: datetime | None
    due_at: datetime | None
    """Of whichever is due first."""


async def announce(session: AsyncSession, tenant: str, event: str, body: str) -> None:
    """Have every webhook of `tenant` that wants such events be told: with the transaction of `session`, or not at all."""
    # A webhook that is deleted meanwhile is waited for: its delivery would refer to nothing, and undo what is told of.
    query = select(WebhookRow).where(WebhookRow.tenant == tenant, WebhookRow.disabled.is_(None))
    webhooks = await session.scalars(query.with_for_update(read=True, key_share=True))
    event_id, created_at, due_at = new_id(), now(), shared_now(session)
    session.add_all(_row(webhook.id, event_id, event, body, created_at, due_at) for webhook in webhooks if webhook.wants(event))


class Deliveries:
    """Every other statement about deliveries, each in a transaction of its own.

    Args:
        clock: what is due by, for whoever chooses the time; None: the clock that all replicas share.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] | None = None) -> None:
        self._sessions, self._read = database.sessions, database.read
        self._now, self._clock = partial(shared_now, clock=clock), clock or now

    async def claim(self, replica: str, busy: Collection[str]) -> Claim | None:
        """A delivery that is due and nobody holds, for `replica` to send; not to one of the webhooks that are `busy`."""
        query = select(DeliveryRow.id).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        query = query.where(DeliveryRow.status == "pending", WebhookRow.disabled.is_(None))
        query = query.where(DeliveryRow.webhook_id.not_in(busy)).order_by(DeliveryRow.due_at)
        async with self._sessions() as session:
            due = (await session.scalars(query.where(DeliveryRow.due_at <= self._now(session)).limit(CANDIDATES))).all()
        for delivery_id in due:
            holder = _holder(replica)
            take = update(DeliveryRow).where(DeliveryRow.id == delivery_id, DeliveryRow.status == "pending")
            async with self._sessions.begin() as session:
                take = take.where(DeliveryRow.due_at <= self._now(session)).values(held_by=holder, due_at=self._now(session, HELD))
                row = await session.scalar(take.returning(DeliveryRow))
                webhook = await session.get(WebhookRow, row.webhook_id) if row is not None else None
            if row is not None and webhook is not None:
                return _claim(row, webhook, holder, self._clock())
        return None

    async def claim_ping(self, replica: str, webhook: WebhookRow, body: str) -> Claim:
        """A delivery that is to be sent now, by whoever asks; raises IntegrityError when the webhook is gone."""
        moment, holder = self._clock(), _holder(replica)
        async with self._sessions.begin() as session:
            row = _row(webhook.id, new_id(), PING, body, moment, self._now(session, HELD))
            row.held_by = holder
            session.add(row)
        return _claim(row, webhook, holder, moment)

    async def record(
        self, claim: Claim, attempt: Attempt, status: DeliveryStatus, wait: timedelta, failing_for: timedelta
    ) -> WebhookRow | None:
        """Write down what came of an attempt: its webhook as it is then, None if it is gone or somebody else holds the delivery by now.

        Args:
            wait: after which it is to be sent again, if it is still `pending`.
            failing_for: so long after something was given up first, giving up another disables it.
        """
        async with self._sessions.begin() as session:
            # First, as whoever deletes it does: in another order the two would wait for each other.
            lock = {"key_share": True}
            webhook = await session.get(WebhookRow, claim.webhook_id, with_for_update=lock)
            change = update(DeliveryRow).where(DeliveryRow.id == claim.id, DeliveryRow.held_by == claim.holder)
            change = change.values(status=status, due_at=self._now(session, wait), held_by=None)
            change = change.values(tries=claim.tries + 1, attempts=DeliveryRow.attempts + 1)
            n = await session.scalar(change.returning(DeliveryRow.attempts))
            if webhook is None or n is None:
                return None
            session.add(
                AttemptRow(
                    delivery_id=claim.id,
                    n=n,
                    at=attempt.at,
                    duration_s=attempt.duration_s,
                    status_code=attempt.status_code,
                    answer=attempt.answer,
                    error=attempt.error,
                )
            )
            if claim.event == PING:
                return webhook
            if status == "delivered":
                webhook.failing_since = None
            elif attempt.gone:
                webhook.disabled = webhook.disabled or "gone"
            elif status == "failed":
                webhook.failing_since = webhook.failing_since or attempt.at
                if attempt.at - webhook.failing_since >= failing_for:
                    webhook.disabled = webhook.disabled or "failing"
            return webhook

    async def release(self, replica: str) -> int:
        """Let somebody else send at once what `replica` holds and will not send any more; how many those were."""
        held = update(DeliveryRow).where(DeliveryRow.held_by.startswith(f"{replica}/", autoescape=True))
        async with self._sessions.begin() as session:
            again = held.values(held_by=None, due_at=self._now(session))
            return len((await session.scalars(again.returning(DeliveryRow.id))).all())

    async def get(self, webhook_id: str, delivery_id: str) -> DeliveryRow | None:
        """One delivery of a webhook."""
        async with self._sessions() as session:
            return await session.scalar(select(DeliveryRow).where(DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook_id))

    async def page(self, webhook_id: str, *, before: str | None, limit: int, status: DeliveryStatus | None = None) -> Sequence[DeliveryRow]:
        """At most `limit` deliveries of a webhook from before the delivery `before`, newest first."""
        query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id).order_by(DeliveryRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(DeliveryRow.id < before)
        if status is not None:
            query = query.where(DeliveryRow.status == status)
        async with self._sessions() as session:
            return (await session.scalars(query)).all()

    async def attempts(self, delivery_ids: Collection[str]) -> Mapping[str, Sequence[AttemptRow]]:
        """All attempts at each of these, oldest first."""
        found: defaultdict[str, list[AttemptRow]] = defaultdict(list)
        query = select(AttemptRow).where(AttemptRow.delivery_id.in_(delivery_ids)).order_by(AttemptRow.delivery_id, AttemptRow.n)
        async with self._sessions() as session:
            for attempt in await session.scalars(query):
                found[attempt.delivery_id].append(attempt)
        return found

    async def replay(self, delivery_id: str) -> None:
        """Tell it again, from the first attempt on; what is being sent just now is not sent twice for that."""
        async with self._sessions.begin() as session:
            free = or_(DeliveryRow.held_by.is_(None), DeliveryRow.due_at <= self._now(session))
            again = update(DeliveryRow).where(DeliveryRow.id == delivery_id, free)
            await session.execute(again.values(status="pending", due_at=self._now(session), held_by=None, tries=0))

    async def waiting(self) -> Waiting:
        """What is still to be told, but for what waits until its webhook is enabled again."""
        query = select(func.count(), func.min(DeliveryRow.created_at), func.min(DeliveryRow.due_at)).join(
            WebhookRow, WebhookRow.id == DeliveryRow.webhook_id
        )
        query = query.where(DeliveryRow.status == "pending", WebhookRow.disabled.is_(None))
        count, oldest_at, due_at = await self._read(lambda session: session.execute(query).one())
        return Waiting(count, oldest_at, due_at)

    async def forget(self, before: datetime) -> int:
        """Delete what was to be told before that and is not any more, SWEPT_AT_ONCE at most; how many those were."""
        enabled = exists().where(WebhookRow.id == DeliveryRow.webhook_id, WebhookRow.disabled.is_(None))
        old = select(DeliveryRow.id).where(DeliveryRow.created_at < before, or_(DeliveryRow.status != "pending", ~enabled))
        async with self._sessions.begin() as session:
            gone = (await session.scalars(old.limit(SWEPT_AT_ONCE))).all()
            await session.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(gone)))
            return len(gone)


def _row(webhook_id: str, event_id: str, event: str, body: str, created_at: datetime, due_at: ColumnElement[datetime]) -> DeliveryRow:
    return DeliveryRow(
        id=new_id(),
        webhook_id=webhook_id,
        event_id=event_id,
        event=event,
        body=body,
        created_at=created_at,
        status="pending",
        due_at=due_at,
        tries=0,
        attempts=0,
    )


def _holder(replica: str) -> str:
    """One name for each claim, so that whoever comes back late is not taken for whoever holds it by then."""
    return f"{replica}/{secrets.token_hex(8)}"


def _claim(row: DeliveryRow, webhook: WebhookRow, holder: str, moment: datetime) -> Claim:
    signing = webhook.signing(moment)
    return Claim(row.id, row.webhook_id, row.event_id, row.event, row.body, row.tries, webhook.url, signing, holder)
