"""Who reviews: a request's key comes in, a Reviewer goes out, the same one over all browsers of one key, or of one person who signed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends

from service.auth import Known, KnownKey

LOCAL: Final = "local"
"""Whoever reviews where nobody has keys: all are one."""


@dataclass(frozen=True, slots=True)
class Reviewer:
    """One person at the desk."""

    id: str
    name: str
    lead: bool
    """Whether this one resolves what others disagree about, and may correct what is decided."""
    key_id: str | None

    @property
    def alone(self) -> bool:
        """Whether reviewers cannot be told apart, so that there is no second one."""
        return self.key_id is None


async def _reviewer(caller: Known, key: KnownKey) -> Reviewer:
    lead = bool(caller.scopes & {"reviews:lead", "admin"})
    if key is None:
        return Reviewer(LOCAL, LOCAL, lead, None)
    return Reviewer(key.subject or key.parent or key.id, caller.name, lead, key.id)


Reviewing = Annotated[Reviewer, Depends(_reviewer)]
