"""API keys: a name, a tenant and scopes come in, a secret goes out once; later a secret comes in, and whose it is goes out.

Only a hash of each secret is kept: SHA-256 is enough for 256 random bits, which no dictionary holds. Asked by `auth.py`, `key_watch.py`
and `keys.py`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from sqlalchemy import ColumnElement, Index, Select, String, func, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from service.audit_rows import audited
from service.database import DEFAULT_TENANT, Base, Database, UtcDateTime, now
from service.problems import ServiceError
from service.settings import SCOPES as SCOPES
from service.settings import Scope as Scope

MARK: Final = "uc"
"""What every key begins with, so that whoever scans a repository for leaked secrets can know one."""
FIRST: Final = "first"
"""The id of the key that a service makes for its operator: whichever replica inserts it first has made it."""


class LastAdminKey(ServiceError):
    slug = "last-admin-key"
    title = "The last key that may make others"
    status = 409


class KeyRow(Base):
    """One key; or a session, which is what a browser holds after somebody has signed in."""

    __tablename__ = "keys"
    __table_args__ = (Index("keys_by_tenant", "tenant", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(320))
    """For people: what the key is for, or who has signed in."""
    tenant: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(200))
    """Separated by blanks."""
    parent: Mapped[str | None] = mapped_column(String(16))
    """Of a session: the key that it was begun with, and ends with."""
    subject: Mapped[str | None] = mapped_column(String(255))
    """Of a session: what the issuer calls whoever signed in through it (`oidc.py`)."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def granted(self) -> frozenset[Scope]:
        """What it may do."""
        return cast(frozenset[Scope], frozenset(self.scopes.split()))

    @property
    def root(self) -> str:
        """The key that it is, or was begun with: what may be asked for, and whose streams these are, goes by that."""
        return self.parent or self.id

    @property
    def is_session(self) -> bool:
        """Whether a browser holds it."""
        return self.parent is not None or self.subject is not None

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
        self._sessions, self._read, self._glance = database.sessions, database.read, database.glance

    async def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        tenant: str = DEFAULT_TENANT,
        expires_at: datetime | None = None,
        parent: str | None = None,
        subject: str | None = None,
        key_id: str | None = None,
        by: str | None = None,
    ) -> NewKey:
        """Make one; `by` a key, or (None) by somebody on this machine. Raises IntegrityError when `key_id` is taken."""
        key_id = key_id or secrets.token_hex(6)
        secret = f"{MARK}_{key_id}_{secrets.token_urlsafe(32)}"
        row = KeyRow(
            id=key_id,
            secret_sha256=_digest(secret),
            name=name,
            tenant=tenant,
            scopes=" ".join(sorted(set(scopes))),
            parent=parent,
            subject=subject,
            created_at=now(),
            expires_at=expires_at,
        )
        async with self._sessions.begin() as session:
            session.add(row)
            session.add(audited(tenant, by or _holder(row), "session.created" if row.is_session else "key.created", key_id))
        return NewKey(row, secret)

    async def first(self) -> NewKey | None:
        """The operator's key, if this is the first time that anybody asks and there is no other."""
        if await self._read(lambda session: session.scalar(select(func.count()).select_from(KeyRow))):
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

        def found(session: Session) -> tuple[KeyRow | None, KeyRow | None]:
            row = session.get(KeyRow, key_id)
            return row, None if row is None or row.parent is None else session.get(KeyRow, row.parent)

        row, parent = await self._glance(found)
        if row is None or not secrets.compare_digest(row.secret_sha256, _digest(secret)):
            return None
        return parent if parent is not None and parent.why_not else row

    async def why_not(self, key_id: str) -> str | None:
        """Why this key or session, or what it was derived from, cannot be used any more; None: it can."""
        parent = select(KeyRow.parent).where(KeyRow.id == key_id).scalar_subquery()
        query = select(KeyRow).where(or_(KeyRow.id == key_id, KeyRow.id == parent))
        rows = await self._read(lambda session: session.scalars(query).all())
        if not any(row.id == key_id for row in rows):
            return "a key that is gone"
        return next((why_not for row in rows if (why_not := row.why_not)), None)

    async def all(self) -> Sequence[KeyRow]:
        """Every key, oldest first; no sessions."""
        query = select(KeyRow).where(*_KEYS).order_by(KeyRow.created_at, KeyRow.id)
        return await self._read(lambda session: session.scalars(query).all())

    async def get(self, key_id: str) -> KeyRow | None:
        """The key or session with this id."""
        return await self._read(lambda session: session.get(KeyRow, key_id))

    async def page(self, tenant: str, *, before: KeyRow | None, limit: int) -> Sequence[KeyRow]:
        """At most `limit` keys of `tenant` from before the key `before`, newest first; no sessions."""
        query = select(KeyRow).where(KeyRow.tenant == tenant, *_KEYS).order_by(KeyRow.created_at.desc(), KeyRow.id.desc())
        if before is not None:
            query = query.where(tuple_(KeyRow.created_at, KeyRow.id) < (before.created_at, before.id))
        return await self._read(lambda session: session.scalars(query.limit(limit)).all())

    async def names(self, key_ids: Iterable[str]) -> dict[str, str]:
        """What people call these; a key that has ended keeps its name."""
        query = select(KeyRow.id, KeyRow.name).where(KeyRow.id.in_(set(key_ids)))
        return {key_id: name for key_id, name in await self._read(lambda session: session.execute(query).all())}

    @staticmethod
    def called(tenant: str, who: str) -> Select[str]:
        """A query for the ids of the keys and sessions of `tenant` whose id is `who`, or whose name has that in it, in any case."""
        return select(KeyRow.id).where(KeyRow.tenant == tenant, or_(KeyRow.id == who, KeyRow.name.icontains(who, autoescape=True)))

    async def revoke(self, key_id: str, *, last_admin: bool, by: str | None = None) -> bool:
        """It cannot be used from now on, nor what was derived from it; False if there is none that could.

        Raises:
            LastAdminKey: its tenant would have no key left that may make others, and `last_admin` does not allow that.
        """
        change = update(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None)).values(revoked_at=now())
        async with self._sessions.begin() as session:
            tenant = select(KeyRow.tenant).where(KeyRow.id == key_id).scalar_subquery()
            keys = select(KeyRow).where(KeyRow.tenant == tenant, KeyRow.revoked_at.is_(None), *_KEYS).order_by(KeyRow.id)
            # Of two that revoke each other, the second waits here on PostgreSQL, and at the change on SQLite.
            await session.execute(keys.with_for_update())
            row = await session.scalar(change.returning(KeyRow))
            if row is None:
                return False
            others = (await session.scalars(keys)).all()
            if _may_make_keys(row) and not last_admin and not any(_may_make_keys(one) for one in others):
                raise LastAdminKey(
                    "Without this key nobody could make another for its tenant through the service.",
                    expected="another key with `admin` that is valid, or `last_admin=true`",
                    got="the last one",
                )
            session.add(audited(row.tenant, by or _holder(row), "session.ended" if row.is_session else "key.revoked", key_id))
            return True


def _may_make_keys(row: KeyRow) -> bool:
    """Whether it did until now."""
    return "admin" in row.granted and not row.is_session and (row.expires_at is None or row.expires_at > now())


_KEYS: Final[tuple[ColumnElement[bool], ...]] = (KeyRow.parent.is_(None), KeyRow.subject.is_(None))


def _holder(row: KeyRow) -> str | None:
    """On whose behalf a session begins and ends; None: a key's row does not tell."""
    return row.root if row.is_session else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
