"""API keys: a name, a tenant and scopes come in, a secret goes out once; later a secret comes in, and whose it is goes out.

Only a hash of each secret is kept: SHA-256 is enough for 256 random bits, which no dictionary holds. Asked by `auth.py` and `keys.py`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, cast, get_args

from sqlalchemy import String, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from service.audit_rows import audited
from service.database import DEFAULT_TENANT, Base, Database, UtcDateTime, now

Scope = Literal["analyses:read", "analyses:write", "streams", "feeds", "reviews", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
MARK: Final = "uc"
"""What every key begins with, so that whoever scans a repository for leaked secrets can know one."""
FIRST: Final = "first"
"""The id of the key that a service makes for its operator: whichever replica inserts it first has made it."""


class KeyRow(Base):
    """One key; or, with a `parent`, what a browser holds after it was signed in with that key."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    tenant: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    """Separated by blanks."""
    parent: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def granted(self) -> frozenset[Scope]:
        """What it may do."""
        return cast(frozenset[Scope], frozenset(self.scopes.split()))

    @property
    def why_not(self) -> str | None:
        """Why it cannot be used any more, if it cannot."""
        if self.revoked_at is not None:
            return "a key that was revoked"
        if self.expires_at is not None and self.expires_at <= now():
            return "a key that has expired"
        return None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is only once: with its secret."""

    row: KeyRow
    secret: str


class KeyStore:
    """All keys of one database."""

    def __init__(self, database: Database) -> None:
        self._sessions = database.sessions

    async def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        tenant: str = DEFAULT_TENANT,
        expires_at: datetime | None = None,
        parent: str | None = None,
        key_id: str | None = None,
    ) -> NewKey:
        """Make one; by its parent, or by somebody on this machine. Raises IntegrityError when `key_id` is taken."""
        key_id = key_id or secrets.token_hex(6)
        secret = f"{MARK}_{key_id}_{secrets.token_urlsafe(32)}"
        row = KeyRow(
            id=key_id,
            secret_sha256=_digest(secret),
            name=name,
            tenant=tenant,
            scopes=" ".join(sorted(set(scopes))),
            parent=parent,
            created_at=now(),
            expires_at=expires_at,
        )
        async with self._sessions.begin() as session:
            session.add(row)
            session.add(audited(tenant, parent, "session.created" if parent else "key.created", key_id))
        return NewKey(row, secret)

    async def first(self) -> NewKey | None:
        """The operator's key, if this is the first time that anybody asks and there is no other."""
        async with self._sessions() as session:
            if await session.scalar(select(func.count()).select_from(KeyRow)):
                return None
        try:
            return await self.create("made at the first start", SCOPES, key_id=FIRST)
        except IntegrityError:
            return None

    async def owner(self, secret: str) -> KeyRow | None:
        """The key of this secret, whether it may still be used or not; one that was derived is revoked with its parent."""
        mark, _, rest = secret.partition("_")
        key_id = rest.partition("_")[0]
        if mark != MARK or not key_id.isalnum() or not key_id.isascii():
            return None
        async with self._sessions() as session:
            row = await session.get(KeyRow, key_id)
            parent = await session.get(KeyRow, row.parent) if row is not None and row.parent is not None else None
        if row is None or not secrets.compare_digest(row.secret_sha256, _digest(secret)):
            return None
        return parent if parent is not None and parent.why_not else row

    async def all(self) -> Sequence[KeyRow]:
        """Every key, oldest first; not what browsers hold."""
        async with self._sessions() as session:
            return (await session.scalars(select(KeyRow).where(KeyRow.parent.is_(None)).order_by(KeyRow.created_at, KeyRow.id))).all()

    async def revoke(self, key_id: str) -> bool:
        """It cannot be used from now on, nor what was derived from it; False if there is none that could."""
        change = update(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None)).values(revoked_at=now())
        async with self._sessions.begin() as session:
            row = await session.scalar(change.returning(KeyRow))
            if row is None:
                return False
            session.add(audited(row.tenant, row.parent, "session.ended" if row.parent else "key.revoked", key_id))
            return True


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
