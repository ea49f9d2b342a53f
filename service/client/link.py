"""One WebSocket to the service: a URL comes in, an open connection or a typed error goes out. Used by `conversation.py`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.typing import Subprotocol

from service.client.errors import (
    AccessDenied,
    ClientError,
    ConnectionLost,
    Misuse,
    Overloaded,
    ServiceUnavailable,
    ServiceUnreachable,
    TooManyRequests,
    WrongProtocol,
)
from service.schemas import Problem
from service.stream_wire import PATH, ROUTE, SUBPROTOCOL

OPEN_S: Final = 60.0
CLOSE_S: Final = 5.0
ANSWER_BYTES: Final = 16 * 1024**2
"""A look at twenty faces is some kilobytes, a verdict on ten minutes more."""
OVERLOADED: Final = "urn:undercurrent:problem:overloaded"
SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def stream_url(service: str) -> str:
    """Where the streams of a service are: `http://host:port`, as a browser shows it, is enough.

    Raises:
        Misuse: it is no URL of a service.
    """
    parts = urlsplit(service)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise Misuse("That is no URL of a service.", expected="http(s)://host or ws(s)://host", got=service[:200])
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") or PATH, parts.query, ""))


def routed(url: str) -> str:
    """`url` with a route of its own, unless it has one: for every connection of one stream."""
    parts = urlsplit(url)
    said = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if (name, value) != (ROUTE, "")]
    if ROUTE not in dict(said):
        said.append((ROUTE, secrets.token_hex(8)))
    return urlunsplit(parts._replace(query=urlencode(said)))


@asynccontextmanager
async def opened(url: str, headers: Mapping[str, str]) -> AsyncIterator[ClientConnection]:
    """A connection that speaks our protocol; closed with 1000 on the way out, which says that nobody comes back, unless it was lost.

    Raises:
        ServiceUnreachable, ConnectionLost: nobody is there, or whoever was went away.
        Overloaded, ServiceUnavailable, TooManyRequests: somebody is, and says not now, and when it is worth asking again.
        AccessDenied, WrongProtocol: somebody is, and says no.
    """
    try:
        socket = await connect_socket(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=headers,
            compression=None,
            max_size=ANSWER_BYTES,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
        )
    except InvalidStatus as error:
        raise _refused(error) from error
    except InvalidMessage as error:
        if isinstance(error.__cause__, EOFError):
            raise ConnectionLost("The connection was closed during its handshake.", expected="an answer", got="its end") from error
        raise _no_websocket(error) from error
    except (InvalidHandshake, InvalidURI) as error:
        raise _no_websocket(error) from error
    except OSError as error:
        where = urlsplit(url).netloc.rpartition("@")[2]
        reason = error.strerror or str(error) or type(error).__name__
        raise ServiceUnreachable("The service cannot be reached.", expected=f"a service at {where}", got=reason) from error
    try:
        if socket.subprotocol != SUBPROTOCOL:
            raise WrongProtocol("The other side speaks another protocol.", expected=SUBPROTOCOL, got=socket.subprotocol or "none")
        yield socket
    except ConnectionLost:
        socket.transport.abort()
        raise
    finally:
        # Its own `async with` would close with 1011 whoever leaves by an exception, a cancelled task among them.
        await socket.close()


def _refused(error: InvalidStatus) -> ClientError:
    status = error.response.status_code
    got = f"HTTP {status} {error.response.reason_phrase}".strip()
    said = _problem(error.response)
    kind, otherwise = _kind(status, said)
    if said is None or kind is WrongProtocol:
        refusal = kind(otherwise, expected="HTTP 101", got=got)
    else:
        refusal = kind(said.detail, expected=said.expected or "HTTP 101", got=said.got or got)
    after = error.response.headers.get("Retry-After", "")
    refusal.retry_after_s = float(after) if after.isdecimal() else None
    return refusal


def _kind(status: int, said: Problem | None) -> tuple[type[ClientError], str]:
    """What a status means, and the sentence for it where nobody said one: what is in front of the service answers too."""
    match status:
        case 401 | 403 if said is not None:
            return AccessDenied, said.detail
        case 429:
            return TooManyRequests, "Too much is asked of the service, or of what is in front of it."
        case 503 if said is not None and said.type == OVERLOADED:
            return Overloaded, said.detail
        case 503:
            return ServiceUnavailable, "Whoever answers for the service cannot reach it now."
        case _:
            return WrongProtocol, "There are no streams at that URL."


def _problem(response: Response) -> Problem | None:
    """What the service said; None where somebody else did: a server without streams says 403 too."""
    try:
        return Problem.model_validate_json(response.body or b"")
    except ValidationError:
        return None


def _no_websocket(error: Exception) -> WrongProtocol:
    return WrongProtocol("The other side speaks no WebSocket of ours.", expected=SUBPROTOCOL, got=str(error)[:200])
