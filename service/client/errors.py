"""What can go wrong between a client and the service: an `error`, a close code or a failed connection comes in, a typed error goes out.

One class for each close code, so that a caller can catch what it can do something about. Raised by `live.py`, `conversation.py`, `link.py`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from models.errors import Refusal
from service.close_codes import CloseCode, code_of_slug
from service.stream_wire import End, ErrorEvent


class ClientError(Refusal):
    """Base of all that a client raises."""

    slug = "client-error"
    title = "The stream did not work"
    retry_after_s: float | None = None
    """When the service says that it is worth asking again."""


class Misuse(ClientError):
    """The caller's own mistake, seen before anything was sent."""

    slug = "client-misuse"
    title = "That is not possible with this stream"


class ServiceUnreachable(ClientError):
    """No such host, nobody who listens, no valid certificate, or no answer."""

    slug = "service-unreachable"
    title = "The service cannot be reached"


class ConnectionLost(ClientError):
    """It was there, and could not be had again in time."""

    slug = "connection-lost"
    title = "The connection was lost"


class WrongProtocol(ClientError):
    """Somebody answers, but does not speak `undercurrent.v1`."""

    slug = "wrong-protocol"
    title = "The other side speaks another protocol"


class AccessDenied(ClientError):
    """HTTP 401 or 403 instead of a WebSocket."""

    slug = "access-denied"
    title = "The service does not let this client in"


class TooManyRequests(ClientError):
    """HTTP 429 instead of a WebSocket: the key, or this address, asks for too much. The service may have room for others."""

    slug = "too-many-requests"
    title = "The service lets this client ask no more now"


class ServiceUnavailable(ClientError):
    """HTTP 503 instead of a WebSocket: it can serve nobody now, for want of its database, say. For want of room it is `Overloaded`."""

    slug = "service-unavailable"
    title = "The service cannot be used now"


class StreamFailed(ClientError):
    """Base of what the service says with a close code. `problem` is its `error`; `end`, if it came so far, has the verdict until then."""

    slug = "stream-failed"
    title = "The service ended the stream"
    code: ClassVar[CloseCode]

    def __init__(self, detail: str, *, expected: str, got: str, problem: ErrorEvent | None = None, end: End | None = None) -> None:
        super().__init__(detail, expected=expected, got=got)
        self.problem, self.end = problem, end
        self.retry_after_s = problem.retry_after_s if problem else None


class TooLong(StreamFailed):
    code = CloseCode.TOO_LONG


class ServiceFault(StreamFailed):
    code = CloseCode.FAULT


class Draining(StreamFailed):
    code = CloseCode.DRAINING


class Overloaded(StreamFailed):
    code = CloseCode.OVERLOADED


class BadMessage(StreamFailed):
    code = CloseCode.BAD_MESSAGE


class KeyEnded(StreamFailed):
    """The key was revoked or has expired meanwhile. Begin another stream, with another key."""

    code = CloseCode.KEY_ENDED


class UrlRefused(StreamFailed):
    code = CloseCode.URL_REFUSED


class SessionLost(StreamFailed):
    """It was away for too long: the session, or events of it, are gone. Begin another."""

    code = CloseCode.UNKNOWN_SESSION


class Idle(StreamFailed):
    code = CloseCode.IDLE


class Conflict(StreamFailed):
    code = CloseCode.CONFLICT


class TooLarge(StreamFailed):
    code = CloseCode.TOO_LARGE


class Unsupported(StreamFailed):
    code = CloseCode.UNSUPPORTED


class NoVideo(StreamFailed):
    code = CloseCode.NO_VIDEO


class OverCredit(StreamFailed):
    code = CloseCode.OVER_CREDIT


class SourceUnreachable(StreamFailed):
    code = CloseCode.UNREACHABLE


class SourceStalled(StreamFailed):
    code = CloseCode.STALLED


OF_CODE: Final = {failure.code: failure for failure in StreamFailed.__subclasses__()}


def failure_of(problem: ErrorEvent, end: End | None = None) -> StreamFailed:
    """The error that an `error` event stands for."""
    failure = OF_CODE[code_of_slug(problem.code)]
    return failure(problem.detail, expected=problem.expected or "a stream", got=problem.got or problem.code, problem=problem, end=end)


def closed_with(code: CloseCode) -> StreamFailed:
    """The error that a close code stands for when no `error` came before it."""
    return OF_CODE[code](code.meaning, expected="`end`, or an `error`, before the close", got=f"close code {int(code)}")
