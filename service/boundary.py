"""The outermost room: every request and WebSocket comes in, its response goes out with an id, security headers and a line in the log.

What no handler refused is caught here and becomes a 500 problem. Requests that another web site makes a browser send are refused: the
service may run without keys on loopback, which any page in that browser can reach (cross-site request forgery, DNS rebinding).
"""

from __future__ import annotations

import re
import secrets
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.close_codes import CloseCode
from service.problems import CrossOrigin, ForeignHost, MalformedRequest, ServiceError, internal_problem, problem_of, problem_response
from service.settings import Settings
from service.witness import SeenRequest, Witness

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SWITCHED = 101
"""Switching protocols: a WebSocket was accepted."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger()


class Boundary:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, witness: Witness) -> None:
        self._app = app
        self._witness = witness
        self._hosts = settings.allowed_hosts or ((*LOOPBACK_NAMES, settings.host) if settings.is_loopback else ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        with self._witness.request(scope, headers, request_id) as seen:
            await self._answer(scope, receive, send, seen)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, seen: SeenRequest) -> None:
        headers, request_id = Headers(scope=scope), scope["request_id"]
        method = scope["method"] if scope["type"] == "http" else "WS"

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
                seen.answered(message.get("status", SWITCHED))
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items() if seen.status != SWITCHED else ():
                    out.setdefault(name, value)
            await send(message)

        try:
            if refusal := self._refuse(method, headers):
                response = problem_response(problem_of(refusal, instance=scope["path"], request_id=request_id), refusal.headers)
                await response(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception:  # whatever it is, the client gets a problem with an id, and the log the trace under the same
            log.exception("request_crashed", method=method, path=scope["path"])
            if seen.status == SWITCHED:
                await send({"type": "websocket.close", "code": CloseCode.FAULT, "reason": f"see log, {request_id}"})
                return
            if seen.status:
                raise
            response = problem_response(internal_problem(instance=scope["path"], request_id=request_id))
            await response(scope, receive, send_with_headers)
        finally:
            took = round(seen.elapsed_s * 1000, 1)
            log.info("request", method=method, path=scope["path"], status=seen.status, ms=took, **seen.analysis)

    def _refuse(self, method: str, headers: Headers) -> ServiceError | None:
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy that believes the other one would see other requests than we do (RFC 9112, section 6.3).
            return MalformedRequest("The length of the body is said in two ways.", expected="one", got="a length, and chunks")
        host = headers.get("host", "")
        if self._hosts and _hostname(f"//{host}") not in self._hosts:
            return ForeignHost(
                "This service answers only for the hosts it knows (UNDERCURRENT_ALLOWED_HOSTS).",
                expected=f"one of {', '.join(self._hosts)}",
                got=host[:200] or "no Host header",
            )
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") == "cross-site" or (origin is not None and urlsplit(origin).netloc != host)
        if method not in SAFE_METHODS and foreign:
            return CrossOrigin(
                "A page of another site sent this request.", expected=f"the origin {host}", got=(origin or "cross-site")[:200]
            )
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
