"""Rows of webhooks: where a tenant wants to be told of what come in, and go out with the secrets that sign now. Written by `webhooks.py`.

Secrets lie here as they are, since a hash cannot sign: whoever reads the database can sign as this service. `webhook_deliveries.py` has
what is to be told.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from sqlalchemy import CheckConstraint, Index, String, delete, func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Database, UtcDateTime, now
from service.problems import TooManySecrets, UnknownWebhook

Disabled = Literal["asked", "gone", "failing"]
"""Why a webhook is told nothing: somebody asked for it, it answered 410, or nothing could be delivered for days."""
MOST_SECRETS: Final = 5
"""That sign at once."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One that signs."""

    value: str = field(repr=False)
    until: datetime | None
    """None: until another takes its place."""


_SECRETS: Final = TypeAdapter(list[Secret])


class WebhookRow(Base):
    """One place to tell. `id` sorts by creation, so it is the cursor as well."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("disabled IN ('asked', 'gone', 'failing')", name="disabled_is_known"),
        Index("webhooks_by_tenant", "tenant", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    """Whose it is; nobody else sees it, and it is told of nobody else's."""
    url: Mapped[str]
    """Whole: shown to nobody."""
    description: Mapped[str | None] = mapped_column(String(200))
    events: Mapped[str] = mapped_column(String(200))
    """Separated by blanks; empty: all of them."""
    secrets: Mapped[str]
    """Newest first, as JSON."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When something was given up first, and nothing has been delivered since."""
    disabled: Mapped[Disabled | None] = mapped_column(String(16))

    def wants(self, event: str) -> bool:
        """Whether it is to be told of such an event."""
        return not self.events or event in self.events.split()

    def signing(self, moment: datetime) -> tuple[str, ...]:
        """The secrets that sign then, newest first."""
        return tuple(one.value for one in _SECRETS.validate_json(self.secrets) if one.until is None or moment < one.until)

    @property
    def previous_until(self) -> datetime | None:
        """Until when an earlier secret signs as well, if one does."""
        ends = [one.until for one in _SECRETS.validate_json(self.secrets) if one.until is not None and one.until > now()]
        return max(ends, default=None)


def new_secret() -> str:
    """One that nobody knows, as Standard Webhooks writes them."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def only(secret: str) -> str:
    """`WebhookRow.secrets` where there is but one."""
    return _SECRETS.dump_json([Secret(secret, None)]).decode()


class WebhookRows:
    """Every statement about webhooks themselves, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions

    async def add(self, row: WebhookRow, *beside: Base) -> None:
        """Insert `row` and what stands `beside` it, both or neither."""
        async with self._sessions.begin() as session:
            session.add_all((row, *beside))

    async def get(self, webhook_id: str) -> WebhookRow | None:
        """The webhook with this id."""
        async with self._sessions() as session:
            return await session.get(WebhookRow, webhook_id)

    async def page(self, tenant: str, *, before: str | None, limit: int) -> Sequence[WebhookRow]:
        """At most `limit` webhooks of `tenant`, created before the webhook `before`, newest first."""
        query = select(WebhookRow).where(WebhookRow.tenant == tenant).order_by(WebhookRow.id.desc()).limit(limit)
        async with self._sessions() as session:
            return (await session.scalars(query if before is None else query.where(WebhookRow.id < before))).all()

    async def count(self, tenant: str) -> int:
        """How many `tenant` has."""
        async with self._sessions() as session:
            return await session.scalar(select(func.count()).where(WebhookRow.tenant == tenant)) or 0

    async def change(self, webhook_id: str, values: Mapping[str, Any], *beside: Base) -> WebhookRow | None:
        """Give a webhook other values, and insert what stands `beside` that, both or neither; None if it is gone."""
        async with self._sessions.begin() as session:
            change = update(WebhookRow).where(WebhookRow.id == webhook_id).values(**values)
            row = await session.scalar(change.returning(WebhookRow))
            session.add_all(beside if row is not None else ())
            return row

    async def rotate(self, webhook_id: str, secret: str, overlap: timedelta, *beside: Base) -> WebhookRow:
        """`secret` signs from now on; those before it sign for `overlap` at most. Inserts what stands `beside` that, both or neither.

        Raises:
            UnknownWebhook: it is gone.
            TooManySecrets: so many still sign.
        """
        while (row := await self.get(webhook_id)) is not None:
            end = now() + overlap
            earlier = [Secret(one.value, min(one.until or end, end)) for one in _SECRETS.validate_json(row.secrets)]
            earlier = [one for one in earlier if one.until is not None and one.until > now()]
            if len(earlier) >= MOST_SECRETS:
                raise TooManySecrets(
                    "Too many earlier secrets still sign.",
                    expected=f"at most {MOST_SECRETS} at once, or overlap_s 0, which ends all earlier ones",
                    got="one more",
                )
            told = _SECRETS.dump_json([Secret(secret, None), *earlier]).decode()
            change = update(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.secrets == row.secrets).values(secrets=told)
            async with self._sessions.begin() as session:
                changed: WebhookRow | None = await session.scalar(change.returning(WebhookRow))
                session.add_all(beside if changed is not None else ())
            if changed is not None:
                return changed
            # Somebody else has rotated it meanwhile, and that secret was told as well.
        raise UnknownWebhook(f"No webhook has the id {webhook_id}.", expected="the id of a webhook that was not deleted", got=webhook_id)

    async def remove(self, webhook_id: str) -> None:
        """Delete a webhook and all that was to be told there; nothing happens when it is gone already."""
        async with self._sessions.begin() as session:
            await session.execute(delete(WebhookRow).where(WebhookRow.id == webhook_id))
