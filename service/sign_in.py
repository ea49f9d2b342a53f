"""Sign-in of a browser: a key comes in once, a cookie that no script can read goes out. The router of `/v1/session`.

What the cookie holds is derived from the key: it may do the same, ends after twelve hours, and ends with the key. The key itself stays with
its owner.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from service.auth import COOKIE, Known, KnownKey, known_key
from service.database import now
from service.key_store import Scope
from service.problems import documented
from service.rooms import Rooms
from service.schemas import Wire

LASTS: Final = timedelta(hours=12)

router = APIRouter(prefix="/v1/session", tags=["session"])


class SignIn(Wire):
    """Who wants in."""

    key: Annotated[SecretStr, Field(min_length=1, max_length=200, description="`uc_...`")]


class SessionOut(Wire):
    """Who is in, and what for."""

    tenant: str
    scopes: list[Scope]
    expires_at: datetime | None = Field(description="Null: as long as the key, or on loopback without one.")


@router.post("", status_code=201, responses=documented(401, 422))
async def create_session(given: SignIn, request: Request, response: Response, rooms: Rooms) -> SessionOut:
    """Sign a browser in with a key. The cookie is for this site alone, and not for scripts."""
    key = await known_key(rooms.keys, given.key.get_secret_value())
    latest = now() + LASTS
    expires_at = latest if key.expires_at is None else min(latest, key.expires_at)
    derived = await rooms.keys.create(
        f"a browser, by {key.id}", key.granted, tenant=key.tenant, expires_at=expires_at, parent=key.parent or key.id
    )
    response.set_cookie(
        COOKIE,
        derived.secret,
        max_age=int((expires_at - now()).total_seconds()),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return SessionOut(tenant=key.tenant, scopes=sorted(key.granted), expires_at=expires_at)


@router.get("", responses=documented())
async def get_session(caller: Known, key: KnownKey) -> SessionOut:
    """Who this is."""
    return SessionOut(tenant=caller.tenant, scopes=sorted(caller.scopes), expires_at=None if key is None else key.expires_at)


@router.delete("", status_code=204, responses=documented())
async def delete_session(key: KnownKey, response: Response, rooms: Rooms) -> None:
    """Sign out: the cookie is forgotten, and what it held opens nothing any more."""
    if key is not None and key.parent is not None:
        await rooms.keys.revoke(key.id)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
