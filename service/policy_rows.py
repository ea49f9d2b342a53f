"""Policies: a tenant's new text comes in, the text in force or an earlier version goes out. Written and read by `policy.py`.

Versions are only ever added; the database refuses anything else. Version 0 is the text that is shipped, and has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from service.audit_rows import audited
from service.database import Base, Database, UtcDateTime, now
from service.problems import ServiceError
from service.reviewer import Reviewer

SHIPPED: Final = """\
What you are asked
Does this video show a face that somebody has manipulated? Say what you see, not what you expect of the source.

Manipulated
Choose it when you can name what you saw: traces at the edge of a face, motion that no face makes, \
a voice that does not fit, or the original.

As filmed
Choose it when you know where the video comes from, or have seen the original. Cuts, titles, \
filters of the whole picture and bad quality are not manipulation of a face.

Unsure
Choose it when there is too little to see. Nobody is measured by how few of these they have.

How
Look at every segment that the service marks, and at some it does not mark. Its number is one witness among others, \
and it can be wrong both ways.
Write a note when another reviewer would not see at once what you saw.
Skip what distresses you, or shows somebody you know. Nobody has to give a reason beyond that.
"""


class PolicyChanged(ServiceError):
    slug = "policy-changed"
    title = "Somebody else has changed the policy"
    status = 412


class UnknownPolicy(ServiceError):
    slug = "policy-not-found"
    title = "There is no such version of the policy"
    status = 404


class PolicyRow(Base):
    """One version of one tenant's policy."""

    __tablename__ = "policies"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1."""
    text: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    author: Mapped[str] = mapped_column(String(255))
    author_name: Mapped[str] = mapped_column(String(320))


@dataclass(frozen=True, slots=True)
class Policy:
    """One version; nobody wrote the shipped one."""

    version: int
    text: str
    at: datetime | None
    author: str | None


class PolicyRows:
    """The policies of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, version: int | None = None) -> Policy:
        """The version in force, or the one asked for.

        Raises:
            UnknownPolicy: there is no such version yet.
        """
        query = select(PolicyRow).where(PolicyRow.tenant == tenant).order_by(PolicyRow.version.desc()).limit(1)
        if version is not None:
            query = query.where(PolicyRow.version == version)
        row = await self._database.read(lambda session: session.scalar(query))
        if row is not None:
            return _policy(row)
        if version:
            raise UnknownPolicy("The policy has no such version.", expected="a version up to the one in force", got=str(version))
        return Policy(0, SHIPPED, None, None)

    async def write(self, tenant: str, author: Reviewer, text: str, *, after: int) -> Policy:
        """Add the version that follows `after`, and say so in the audit.

        Raises:
            PolicyChanged: `after` is not in force any more.
        """
        row = PolicyRow(tenant=tenant, version=after + 1, text=text, at=now(), author=author.id, author_name=author.name)
        try:
            async with self._database.sessions.begin() as session:
                session.add_all((row, audited(tenant, author.key_id, "policy.changed", str(after + 1))))
        except IntegrityError as error:  # the primary key: somebody was faster
            raise PolicyChanged("Read it again before you change it.", expected=f"version {after} in force", got="a later one") from error
        return _policy(row)


def _policy(row: PolicyRow) -> Policy:
    return Policy(row.version, row.text, row.at, row.author_name)
