"""Keys over the wire: a name and scopes come in, a secret goes out once; then their list, and their end. The router of `/v1/keys`.

An admin is one of a tenant: it makes, sees and revokes that tenant's keys. For any other, a key is made where the service runs
(`cli_keys.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime, Field, field_validator

from service.auth import Caller, Known, KnownKey, NotPermitted
from service.database import now
from service.feeds import link_next
from service.key_store import KeyRow, Scope
from service.problems import BadCursor, ServiceError, documented
from service.rooms import Rooms, ServiceRooms
from service.schemas import Wire

ID: Final = r"^[0-9A-Za-z]{1,16}$"
LONGEST: Final = timedelta(days=36_525)

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class UnknownKey(ServiceError):
    slug = "key-not-found"
    title = "There is no such key"
    status = 404


class KeyWish(Wire):
    """A key to make."""

    name: str = Field(min_length=1, max_length=100, description="Whose it is, or what for; in printable characters.")
    scopes: list[Scope] = Field(min_length=1, max_length=20, description="What it may do; `admin` includes all.")
    expires_at: AwareDatetime | None = Field(default=None, description="Null: when the key that makes it does, or never.")

    @field_validator("name")
    @classmethod
    def _can_be_shown(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("expected printable characters")
        return name

    @field_validator("expires_at")
    @classmethod
    def _is_ahead(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and not now() < moment < now() + LONGEST:
            raise ValueError("expected a moment in the next hundred years")
        return moment


class KeyOut(Wire):
    """A key; its secret is nowhere any more."""

    id: str
    name: str
    tenant: str
    scopes: list[Scope]
    state: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKeyOut(KeyOut):
    """A key as it is only once."""

    secret: str = Field(description="`uc_...`, shown in this answer alone.")


class KeyPage(Wire):
    """Some of the keys."""

    items: list[KeyOut]
    next: str | None


@router.post("", status_code=201, responses=documented(422))
async def create_key(wish: KeyWish, response: Response, rooms: Rooms, caller: Known, key: KnownKey) -> NewKeyOut:
    """Make a key of this tenant, which ends no later than the one that makes it. Its secret is in this answer and never again."""
    latest = await _end_of(key, rooms)
    expires_at = wish.expires_at or latest
    if latest is not None and expires_at is not None and expires_at > latest:
        raise NotPermitted("A key makes none that outlives it.", expected=f"expires_at by {latest.isoformat()}", got=expires_at.isoformat())
    made = await rooms.keys.create(wish.name, wish.scopes, tenant=caller.tenant, expires_at=expires_at, by=caller.key_id)
    response.headers["Location"] = f"/v1/keys/{made.row.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyOut(**_fields(made.row), secret=made.secret)


@router.get("", responses=documented(422))
async def list_keys(
    request: Request,
    response: Response,
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(pattern=ID, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> KeyPage:
    """The keys of this tenant, newest first, those that ended among them; not what browsers hold."""
    before = None
    if cursor is not None:
        before = await _found(cursor, rooms, caller)
        if before is None:
            raise BadCursor("The cursor is damaged.", expected="`next` of an earlier page, unchanged", got=cursor)
    rows = await rooms.keys.page(caller.tenant, before=before, limit=limit + 1)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return KeyPage(items=[KeyOut(**_fields(row)) for row in rows[:limit]], next=following)


async def _existing(key_id: Annotated[str, Path(pattern=ID)], rooms: Rooms, caller: Known) -> KeyRow:
    row = await _found(key_id, rooms, caller)
    if row is None:
        raise UnknownKey(f"No key has the id {key_id}.", expected="the id of a key", got=key_id)
    return row


Existing = Annotated[KeyRow, Depends(_existing)]


@router.get("/{key_id}", responses=documented(404, 422))
async def get_key(row: Existing) -> KeyOut:
    """One key, or one session: `GET /v1/audit` tells the ids of those."""
    return KeyOut(**_fields(row))


@router.delete("/{key_id}", status_code=204, responses=documented(404, 409, 422))
async def revoke_key(
    row: Existing,
    rooms: Rooms,
    caller: Known,
    last_admin: Annotated[bool, Query(description="Even if no other key of the tenant may make keys then.")] = False,
) -> None:
    """End a key and the sessions begun with it, or one session, at once and for good. Revoking twice is no error."""
    await rooms.keys.revoke(row.id, last_admin=last_admin, by=caller.key_id)


async def _found(key_id: str, rooms: ServiceRooms, caller: Caller) -> KeyRow | None:
    row = await rooms.keys.get(key_id)
    # Of another tenant: not even that it exists is told.
    return row if row is not None and row.tenant == caller.tenant else None


async def _end_of(key: KeyRow | None, rooms: ServiceRooms) -> datetime | None:
    """When what somebody was given ends; a session ends sooner than the right of whoever has signed in."""
    if key is not None and key.parent is not None:
        key = await rooms.keys.get(key.parent)
    return None if key is None or key.is_session else key.expires_at


def _fields(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "tenant": row.tenant,
        "scopes": sorted(row.granted),
        "state": "revoked" if row.revoked_at is not None else "expired" if row.why_not else "valid",
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }
