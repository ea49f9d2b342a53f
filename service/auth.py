"""Who asks: a request or WebSocket with its key comes in, a Caller goes out, or a refusal. The one place that decides; see `app.py`.

A service that listens on loopback lets whoever needs no key do everything: only programs of its own machine can reach it, and pages of
other sites are kept out by `boundary.py`. Every other service wants a key for all below /v1
but `/v1/signing-keys`, where public keys are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import structlog
from fastapi import Depends, Security
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.openapi.models import SecurityBase as SecurityBaseModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from service.database import DEFAULT_TENANT
from service.key_store import SCOPES, KeyRow, KeyStore, Scope
from service.problems import CrossOrigin, ServiceError

if TYPE_CHECKING:
    from service.rooms import ServiceRooms

REALM: Final = 'Bearer realm="undercurrent"'
COOKIE: Final = "undercurrent_session"
READING: Final = ("GET", "HEAD")

log = structlog.get_logger()


class Unauthenticated(ServiceError):
    """No key, or none that can be used."""

    slug = "unauthenticated"
    title = "A key is needed"
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750, section 3."""
        return {"WWW-Authenticate": REALM if self.got == "none" else f'{REALM}, error="invalid_token"'}


class NotPermitted(ServiceError):
    """The key may not do that."""

    slug = "not-permitted"
    title = "The key may not do that"
    status = 403

    @property
    def headers(self) -> dict[str, str]:
        """RFC 6750, section 3."""
        return {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{self.expected}"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks."""

    tenant: str
    """Whose analyses and streams are seen."""
    scopes: frozenset[Scope]
    key_id: str | None
    """Of the key or the session; None: of this machine, without a key."""
    name: str
    """For people: what the key is for, or the e-mail of whoever has signed in."""

    def check(self, scope: Scope) -> None:
        """Raises NotPermitted unless this may be done; `admin` may do all."""
        if not self.scopes & {scope, "admin"}:
            raise NotPermitted("The key may not do that.", expected=scope, got=" ".join(sorted(self.scopes)) or "no scope")


AT_HOME: Final = Caller(DEFAULT_TENANT, frozenset(SCOPES), None, "this machine")


async def known_key(keys: KeyStore, secret: str) -> KeyRow:
    """The key of this secret.

    Raises:
        Unauthenticated: there is none, or it has ended.
    """
    row = await keys.owner(secret)
    if row is None:
        raise Unauthenticated("The key is not known.", expected="a key of this service", got="another")
    if why_not := row.why_not:
        raise key_ended(why_not)
    return row


def key_ended(why_not: str) -> Unauthenticated:
    """The refusal of a key that was one."""
    return Unauthenticated("The key cannot be used any more.", expected="a key that is valid", got=why_not)


class _Way(SecurityBase):
    """How a key comes, for the OpenAPI document alone: FastAPI's own ways take no WebSocket."""

    def __init__(self, name: str, model: SecurityBaseModel) -> None:
        self.scheme_name = name
        self.model = model

    async def __call__(self) -> None:
        """`_key` looks itself."""


_BEARER: Final = _Way("key", HTTPBearer(description="A key, `uc_...`. Not needed where the service is bound to loopback and wants none."))
_SESSION: Final = _Way(
    "session",
    APIKey.model_validate(
        {"in": APIKeyIn.cookie, "name": COOKIE, "description": "What `POST /v1/session` gives a browser; with an Origin."}
    ),
)


async def _key(
    connection: HTTPConnection, _bearer: Annotated[None, Security(_BEARER)], _session: Annotated[None, Security(_SESSION)]
) -> KeyRow | None:
    """The key that came with a request; None where none came and none is needed."""
    rooms: ServiceRooms = connection.app.state.rooms
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Unauthenticated("The authorization is of another kind.", expected="Authorization: Bearer uc_...", got=scheme[:20])
    if not scheme and (secret := connection.cookies.get(COOKIE, "")):
        _check_own_page(connection)
    if not scheme and not secret:
        if rooms.settings.needs_keys:
            raise Unauthenticated("This service wants a key.", expected="Authorization: Bearer uc_...", got="none")
        return None
    row = await known_key(rooms.keys, secret.strip())
    structlog.contextvars.bind_contextvars(key=row.id)
    return row


def _check_own_page(connection: HTTPConnection) -> None:
    """A browser sends its cookies by itself, so what changes something must say whose page asked; `boundary.py` refuses other sites."""
    named = connection.headers.get("origin") or connection.headers.get("sec-fetch-site")
    if connection.scope.get("method", "WS") not in READING and not named:
        raise CrossOrigin("With a cookie, a request that changes something names its page.", expected="an Origin header", got="none")


KnownKey = Annotated[KeyRow | None, Depends(_key)]


async def _caller(connection: HTTPConnection, key: KnownKey) -> AsyncIterator[Caller]:
    """Until the answer, or the WebSocket, is over."""
    # For `unread_body.py`, which is outside of all routes.
    connection.scope["caller_known"] = True
    if key is None:
        yield AT_HOME
        return
    rooms: ServiceRooms = connection.app.state.rooms
    with rooms.quota.place(key.root):
        yield Caller(key.tenant, key.granted, key.id, key.name)


Known = Annotated[Caller, Depends(_caller)]


def needs(subject: Literal["analyses"] | Scope) -> Callable[..., Coroutine[Any, Any, None]]:
    """A dependency of all routes of a router: its caller has the scope; `analyses` is read, or written by methods that change something."""

    async def check(connection: HTTPConnection, caller: Known) -> None:
        if subject == "analyses":
            caller.check("analyses:read" if connection.scope.get("method") in READING else "analyses:write")
        else:
            caller.check(subject)

    return check
