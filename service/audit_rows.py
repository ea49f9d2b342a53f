"""Who did what: an action and its subject come in, a row that nobody can change goes out. Written by whoever does it, read by `audit.py`.

The database itself refuses to change or remove these rows. What removes something writes first, or with the row that goes: nothing goes
without a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog
from sqlalchemy import Index, Select, String, false, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Database, UtcDateTime, now
from service.ids import new_id

Action = Literal[
    "key.created",
    "key.revoked",
    "session.created",
    "session.ended",
    "analysis.created",
    "analysis.cancelled",
    "analysis.deleted",
    "analysis.expired",
    "feed.created",
    "feed.changed",
    "feed.deleted",
    "webhook.created",
    "webhook.changed",
    "webhook.rotated",
    "webhook.tested",
    "webhook.replayed",
    "webhook.deleted",
    "signing_key.created",
    "signing_key.retired",
    "review.opened",
    "review.given_back",
    "review.taken_over",
    "review.skipped",
    "review.decided",
    "policy.changed",
    "threshold.changed",
]


class AuditRow(Base):
    """One action. `id` sorts by time, so it is the cursor as well."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_by_tenant", "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    tenant: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(16))
    """Who did it; None: the service itself, or somebody on this machine, without a key."""
    action: Mapped[Action] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(64))
    """The id of what it was done to."""
    request_id: Mapped[str | None] = mapped_column(String(64))


def audited(tenant: str, key_id: str | None, action: Action, subject: str) -> AuditRow:
    """A row to be added, in the transaction of what it tells of where there is one."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return AuditRow(id=new_id(), at=now(), tenant=tenant, key_id=key_id, action=action, subject=subject, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Only:
    """Which rows somebody wants to see."""

    actions: tuple[Action, ...] = ()
    """Of these; empty: of all."""
    since: datetime | None = None
    who: Select[str] | None = None
    """Of the keys that this query finds; None: of anybody."""
    here: bool = False
    """With `who`: of whoever needed no key as well."""


class AuditRows:
    """The record of one database."""

    def __init__(self, database: Database) -> None:
        self._read, self._write = database.read, database.write

    async def write(self, tenant: str, key_id: str | None, action: Action, subject: str) -> None:
        """Add a row, in a transaction of its own."""
        await self._write(lambda session: session.add(audited(tenant, key_id, action, subject)))

    async def page(self, tenant: str, *, before: str | None, limit: int, only: Only = Only()) -> Sequence[AuditRow]:
        """At most `limit` rows of `tenant` that `only` lets through, from before the row `before`, newest first."""
        query = select(AuditRow).where(AuditRow.tenant == tenant).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        if only.actions:
            query = query.where(AuditRow.action.in_(only.actions))
        if only.since is not None:
            query = query.where(AuditRow.at >= only.since)
        if only.who is not None:
            query = query.where(or_(AuditRow.key_id.in_(only.who), AuditRow.key_id.is_(None) if only.here else false()))
        return await self._read(lambda session: session.scalars(query).all())
