"""Keys that sign evidence packs: a database and, if the operator has one, a key file come in; the Signer of now and all public keys go out.

One key signs at a time, for all replicas. Its private half is in the database, made at first use, or in a file that
`UNDERCURRENT_SIGNING_KEY` names, and then nowhere else. The next key takes its place for good: of a retired one only the public half is
kept, by which its packs are verified. Asked by `packs.py`, `signing_keys.py` and `cli_signing_key.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import CheckConstraint, String, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from service.audit_rows import audited
from service.database import DEFAULT_TENANT, Base, Database, UtcDateTime, now
from service.pack_signing import Signer, UnusableKey
from service.problems import ServiceError

NOW: Final = "now"


class SigningKeyAway(ServiceError):
    """This process does not have the key that signs now."""

    slug = "signing-key-away"
    title = "Evidence packs cannot be signed here"
    status = 503


class SigningKeyRow(Base):
    """One key."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        CheckConstraint("(turn IS NULL) = (retired_at IS NOT NULL)", name="one_key_signs"),
        CheckConstraint("retired_at IS NULL OR private_pem IS NULL", name="retired_keys_are_public"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    public_pem: Mapped[str]
    private_pem: Mapped[str | None]
    """Null: it is in a file of the operator's, or retired."""
    turn: Mapped[str | None] = mapped_column(String(8), unique=True)
    """NOW of the one that signs; the database allows no second."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SigningKeys:
    """All of one database.

    Args:
        database: theirs.
        own: the key that signs if the operator named a file; it takes its turn when it is first asked for.
    """

    def __init__(self, database: Database, own: Signer | None) -> None:
        self._sessions = database.sessions
        self._own = own

    async def signer(self) -> Signer:
        """The key that signs now.

        Raises:
            SigningKeyAway: it is in a file that this process was not given, or the one that it was given is retired.
        """
        own = self._own
        async with self._sessions() as session:
            row = await session.scalar(select(SigningKeyRow).where(SigningKeyRow.turn == NOW))
            known = own is not None and await session.get(SigningKeyRow, own.public.id) is not None
        if own is not None:
            if row is not None and row.id == own.public.id:
                return own
            if known:
                raise SigningKeyAway(
                    "The key of this process was retired.", expected=f"the key {row and row.id}, or a new one", got=own.public.id
                )
        elif row is not None:
            if row.private_pem is None:
                raise SigningKeyAway(
                    "The key that signs is in a file that this process was not given (UNDERCURRENT_SIGNING_KEY).",
                    expected=f"the key {row.id}",
                    got="none",
                )
            return Signer.from_pem(row.private_pem.encode(), "The database")
        return await self._succeed(own or Signer.new(), row)

    async def rotate(self) -> Signer:
        """A new key signs from now on, and the private half of the last one is gone.

        Raises:
            UnusableKey: the key is a file of the operator's, who puts another one there.
        """
        if self._own is not None:
            raise UnusableKey(
                "The key that signs is a file of yours.", expected="another key in that file and a restart", got="UNDERCURRENT_SIGNING_KEY"
            )
        async with self._sessions() as session:
            row = await session.scalar(select(SigningKeyRow).where(SigningKeyRow.turn == NOW))
        return await self._succeed(Signer.new(), row)

    async def all(self) -> Sequence[SigningKeyRow]:
        """Every key, the one that signs first."""
        newest = select(SigningKeyRow).order_by(SigningKeyRow.turn.is_(None), SigningKeyRow.created_at.desc(), SigningKeyRow.id)
        async with self._sessions() as session:
            return (await session.scalars(newest)).all()

    async def _succeed(self, signer: Signer, last: SigningKeyRow | None) -> Signer:
        """`signer` takes the turn of `last`; whoever does so at the same time and comes second goes with the first."""
        try:
            async with self._sessions.begin() as session:
                if last is not None:
                    await _retire(session, last.id)
                    session.add(audited(DEFAULT_TENANT, None, "signing_key.created", signer.public.id))
                private = None if signer is self._own else signer.pem()
                row = SigningKeyRow(id=signer.public.id, public_pem=signer.public.pem, private_pem=private, turn=NOW, created_at=now())
                session.add(row)
        except IntegrityError:
            return await self.signer()
        return signer


async def _retire(session: AsyncSession, key_id: str) -> None:
    change = update(SigningKeyRow).where(SigningKeyRow.id == key_id, SigningKeyRow.turn == NOW)
    if await session.scalar(change.values(turn=None, retired_at=now(), private_pem=None).returning(SigningKeyRow.id)) is not None:
        session.add(audited(DEFAULT_TENANT, None, "signing_key.retired", key_id))
        await session.flush()


def key_file(path: Path | None) -> Signer | None:
    """The operator's key, where one is named.

    Raises:
        UnusableKey: it cannot be read, or is none.
    """
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableKey(
            f"{path} cannot be read (UNDERCURRENT_SIGNING_KEY).", expected="a PEM file", got=error.strerror or str(error)
        ) from error
    return Signer.from_pem(content, f"{path} (UNDERCURRENT_SIGNING_KEY)")
