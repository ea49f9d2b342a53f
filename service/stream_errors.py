"""Refusals of a live stream that belong to no single room, and how any refusal is told on it: a typed error in, an `error` event out."""

from __future__ import annotations

from models.errors import Refusal
from pipelines.errors import ModelFailed
from service.close_codes import close_code
from service.problems import ServiceError
from service.stream_wire import ErrorEvent


class BadStreamMessage(ServiceError):
    """A text message, or one that comes when it may not."""

    slug = "bad-stream-message"
    title = "A message cannot be understood here"


class PullNotSupported(ServiceError):
    slug = "pull-not-supported"
    title = "This service connects to no cameras"
    status = 422


class UnknownSession(ServiceError):
    slug = "unknown-session"
    title = "There is no such session"
    status = 404


class GoneOnElsewhere(ServiceError):
    slug = "gone-on-elsewhere"
    title = "The session goes on over another connection"
    status = 409


class StreamIdle(ServiceError):
    slug = "stream-idle"
    title = "Nothing came for too long"
    status = 408


class StreamDraining(ServiceError):
    slug = "stream-draining"
    title = "The service is stopping"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        """Another replica, or the next run of this one, may take it."""
        return {"Retry-After": "5"}


class StreamFault(ServiceError):
    """A fault of ours."""

    slug = "internal-error"
    title = "Something failed on our side"
    status = 500


def error_event(error: Refusal, session_id: str | None) -> ErrorEvent:
    """A refusal as the stream tells it."""
    return ErrorEvent(
        session_id=session_id,
        code=error.slug,
        title=error.title,
        detail=error.detail,
        expected=error.expected,
        got=error.got,
        retryable=close_code(error).retryable or isinstance(error, ModelFailed),
        retry_after_s=getattr(error, "retry_after_s", None),
    )
