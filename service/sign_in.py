"""Sign-in of a browser: a key comes in once, a cookie that no script can read goes out. The router of `/v1/session`.

What the cookie holds is derived from the key: it may do the same, ends after twelve hours, and ends with the key. The key itself stays with
its owner.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from service.auth import COOKIE, KnownKey, known_key
from service.database import now
from service.key_store import Scope
from service.problems import documented
from service.rooms import Rooms, ServiceRooms
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
    expires_at = await begin_session(
        response,
        rooms,
        key.name,
        key.granted,
        tenant=key.tenant,
        latest=key.expires_at,
        parent=key.root,
        subject=key.subject,
        secure=request.url.scheme == "https",
    )
    return SessionOut(tenant=key.tenant, scopes=sorted(key.granted), expires_at=expires_at)


async def begin_session(
    response: Response,
    rooms: ServiceRooms,
    name: str,
    scopes: Iterable[Scope],
    *,
    tenant: str,
    latest: datetime | None = None,
    parent: str | None = None,
    subject: str | None = None,
    secure: bool,
) -> datetime:
    """Give a browser what it holds from now on, in the cookie of an answer; when that ends.

    Args:
        response: what goes to the browser.
        rooms: the service's.
        name, scopes, tenant: who has signed in, and what for.
        latest: it ends by then.
        parent: the key that it ends with; or
        subject: what the issuer calls whoever has signed in.
        secure: the browser came over TLS.
    """
    expires_at = now() + LASTS if latest is None else min(now() + LASTS, latest)
    made = await rooms.keys.create(name, scopes, tenant=tenant, expires_at=expires_at, parent=parent, subject=subject)
    response.set_cookie(
        COOKIE, made.secret, max_age=int((expires_at - now()).total_seconds()), secure=secure, httponly=True, samesite="strict"
    )
    return expires_at


@router.delete("", status_code=204, responses=documented())
async def delete_session(key: KnownKey, response: Response, rooms: Rooms) -> None:
    """Sign out: the cookie is forgotten, and what it held opens nothing any more."""
    if key is not None and key.is_session:
        await rooms.keys.revoke(key.id, last_admin=True)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
