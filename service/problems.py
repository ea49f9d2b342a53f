"""Refusals: a typed error of any room comes in, an RFC 9457 problem goes out; made by `app.py`'s handlers and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from models.errors import Refusal
from pipelines.errors import Overloaded
from service.schemas import Problem, ProblemError
from service.url_policy import without_keys

MEDIA_TYPE = "application/problem+json"
STATUS_OF_SLUG = {
    "source-not-found": 404,
    "source-unreachable": 422,
    "url-not-allowed": 403,
    "unsupported-media": 415,
    "still-image": 415,
    "media-too-large": 413,
    "cancelled": 409,
    "unwritable-output": 507,
    "bad-weights": 500,
    "device-missing": 500,
    "cannot-compile": 500,
    "overloaded": 503,
}


class ServiceError(Refusal):
    """Base of the refusals that only a server can make; each subclass names its status."""

    slug: ClassVar[str] = "service-error"
    title: ClassVar[str] = "The request cannot be served"
    status: ClassVar[int] = 400

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its problem."""
        return {}


class UnknownAnalysis(ServiceError):
    slug = "analysis-not-found"
    title = "There is no such analysis"
    status = 404


class UnknownEvidence(ServiceError):
    slug = "evidence-not-found"
    title = "The analysis has no such evidence"
    status = 404


class NoResultYet(ServiceError):
    slug = "no-result"
    title = "The analysis has no result"
    status = 409


class AlreadyEnded(ServiceError):
    slug = "already-ended"
    title = "The analysis has already ended"
    status = 409


class NotStopped(ServiceError):
    slug = "not-stopped"
    title = "The analysis did not stop in time"
    status = 409


class UploadTooLarge(ServiceError):
    slug = "upload-too-large"
    title = "The upload exceeds the limit"
    status = 413


class UploadTooSlow(ServiceError):
    slug = "upload-too-slow"
    title = "The upload did not come in time"
    status = 408


class UnsupportedContentType(ServiceError):
    slug = "unsupported-content-type"
    title = "The request body has an unsupported content type"
    status = 415


class ImportFailed(ServiceError):
    slug = "import-failed"
    title = "The URL gives no media"
    status = 422


class ImportTooSlow(ServiceError):
    slug = "import-too-slow"
    title = "The URL did not give its media in time"
    status = 504


class NoDirectUploads(ServiceError):
    slug = "no-direct-uploads"
    title = "This service has no store that takes uploads"
    status = 409


class UnknownUpload(ServiceError):
    slug = "upload-not-found"
    title = "There is no such upload"
    status = 404


class MalformedUpload(ServiceError):
    slug = "malformed-upload"
    title = "The upload cannot be read"
    status = 422


class MalformedRequest(ServiceError):
    slug = "malformed-request"
    title = "The request cannot be read"
    status = 400

    @property
    def headers(self) -> dict[str, str]:
        """Where the next request would begin is not known either."""
        return {"Connection": "close"}


class HeadTooSlow(ServiceError):
    slug = "head-too-slow"
    title = "The head of the request did not come in time"
    status = 408


class TooManyConnections(ServiceError):
    slug = "too-many-connections"
    title = "There are as many connections as there may be"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


class BadCursor(ServiceError):
    slug = "bad-cursor"
    title = "The cursor cannot be read"
    status = 422


class IdempotencyKeyReused(ServiceError):
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key was used with another request"
    status = 422


class UnknownFeed(ServiceError):
    slug = "feed-not-found"
    title = "There is no such feed"
    status = 404


class UnknownAlert(ServiceError):
    slug = "alert-not-found"
    title = "There is no such alert, or no such evidence of it"
    status = 404


class FeedElsewhere(ServiceError):
    slug = "feed-elsewhere"
    title = "Another replica watches this feed"
    status = 409


class TooManyFeeds(ServiceError):
    slug = "too-many-feeds"
    title = "There are as many feeds as there may be"
    status = 409


class UnknownWebhook(ServiceError):
    slug = "webhook-not-found"
    title = "There is no such webhook"
    status = 404


class UnknownDelivery(ServiceError):
    slug = "delivery-not-found"
    title = "The webhook has no such delivery"
    status = 404


class TooManyWebhooks(ServiceError):
    slug = "too-many-webhooks"
    title = "There are as many webhooks as there may be"
    status = 409


class TooManySecrets(ServiceError):
    slug = "too-many-secrets"
    title = "Too many secrets sign at once"
    status = 409


class MediaChanged(ServiceError):
    slug = "media-changed"
    title = "The media is not what was judged"
    status = 409


class DiskFull(ServiceError):
    slug = "insufficient-storage"
    title = "There is not enough disk space"
    status = 507


class RangeNotSatisfiable(ServiceError):
    slug = "range-not-satisfiable"
    title = "The range lies outside of the media"
    status = 416

    def __init__(self, detail: str, *, expected: str, got: str, size: int | None = None) -> None:
        super().__init__(detail, expected=expected, got=got)
        self._size = size

    @property
    def headers(self) -> dict[str, str]:
        return {} if self._size is None else {"Content-Range": f"bytes */{self._size}"}


class StoreUnavailable(ServiceError):
    slug = "store-unavailable"
    title = "Media and evidence cannot be reached now"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "10"}


class ForeignHost(ServiceError):
    slug = "unknown-host"
    title = "The request names a host that this service does not answer for"
    status = 400


class CrossOrigin(ServiceError):
    slug = "cross-origin"
    title = "Another site may not change anything here"
    status = 403


class NotReady(ServiceError):
    slug = "not-ready"
    title = "The service cannot take work now"
    status = 503


class GaveUp(ServiceError):
    slug = "gave-up"
    title = "The analysis was begun several times and never came further"
    status = 500


def problem_of(error: Refusal, *, instance: str | None = None, request_id: str | None = None) -> Problem:
    """The problem that says why `error` was raised, with what was expected and what came."""
    return Problem(
        type=_urn(error.slug),
        title=error.title,
        status=error.status if isinstance(error, ServiceError) else STATUS_OF_SLUG.get(error.slug, 422),
        detail=without_keys(error.detail),
        expected=error.expected,
        got=without_keys(error.got),
        instance=instance,
        request_id=request_id,
    )


def internal_problem(*, instance: str | None = None, request_id: str | None = None) -> Problem:
    """A fault of ours. The cause is in the log under the same id, not on the wire."""
    return Problem(
        type=_urn("internal-error"),
        title="Something failed on our side",
        status=500,
        detail="The service failed in a way it did not foresee; its log has the cause under this request_id.",
        instance=instance,
        request_id=request_id,
    )


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """`problem` on the wire, as `application/problem+json`."""
    body = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def documented(*statuses: int, also: Mapping[int, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` of one route: what it answers besides its model (`also`), and the statuses that are problems."""
    described: dict[int | str, dict[str, Any]] = {status: answer for status, answer in (also or {}).items()}
    for status in statuses:
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        described[status] = {"description": HTTPStatus(status).phrase, "content": content}
    return described


def install(app: FastAPI) -> None:
    """Make every refusal of `app` a problem; what is not refused on purpose is caught by `boundary.Boundary`."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _disconnected)


def _urn(slug: str) -> str:
    return f"urn:undercurrent:problem:{slug}"


def _id(request: Request) -> str | None:
    return request.scope.get("request_id")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refusal):
        raise error
    return problem_response(problem_of(error, instance=request.url.path, request_id=_id(request)), _headers(error))


def _headers(error: Refusal) -> dict[str, str]:
    """What the answer says beside its problem."""
    if isinstance(error, ServiceError):
        return error.headers
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else None
    return {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    problem = Problem(
        type=_urn(phrase.lower().replace(" ", "-")),
        title=phrase,
        status=error.status_code,
        detail=f"{request.method} {request.url.path}: {error.detail}.",
        instance=request.url.path,
        request_id=_id(request),
    )
    return problem_response(problem, dict(error.headers or {}))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = error.errors()
    problem = Problem(
        type=_urn("invalid-request"),
        title="The request has invalid fields",
        status=422,
        detail=f"{len(faults)} field(s) of the request are invalid.",
        expected="what /openapi.json describes",
        got="; ".join(f"{_pointer(fault['loc'])}: {without_keys(_echo(fault['input'], fault['loc'])):.80}" for fault in faults),
        errors=[ProblemError(pointer="/" + _pointer(fault["loc"]), detail=fault["msg"]) for fault in faults],
        instance=request.url.path,
        request_id=_id(request),
    )
    return problem_response(problem)


def _echo(given: object, where: tuple[int | str, ...]) -> str:
    """What came, as it may be repeated: a URL, and whatever may hold one, can have a password in it."""
    if isinstance(given, dict | list | bytes):
        return "an object" if isinstance(given, dict) else "a list" if isinstance(given, list) else "bytes"
    return "a URL" if isinstance(given, str) and (where[-1:] == ("url",) or _is_url(given)) else repr(given)


def _pointer(where: tuple[int | str, ...]) -> str:
    return without_keys("/".join("(a URL)" if isinstance(part, str) and _is_url(part) else str(part) for part in where))


def _is_url(text: str) -> bool:
    """Or nearly one."""
    return "//" in text or ":/" in text or "@" in text


async def _disconnected(request: Request, error: Exception) -> JSONResponse:
    problem = Problem(
        type=_urn("client-disconnected"),
        title="The client went away",
        status=400,
        detail="The connection closed before the whole body had come; nothing was kept.",
        instance=request.url.path,
        request_id=_id(request),
    )
    return problem_response(problem)
