"""One attempt: a signed body and a URL come in, what the host there made of it goes out. Made by `webhook_deliverer.py`.

Headers and signatures are those of Standard Webhooks. The host is looked up anew each time: one that has moved to where this service may
not go is not asked. Nothing is raised: whatever goes wrong is what came of it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic
from typing import Final

import httpx
import structlog
from standardwebhooks import Webhook

from pipelines.errors import PipelineError
from service.url_policy import UrlPolicy, redacted
from service.web_client import admitted, ask, trusted, web_client

PATIENCE_S: Final = 10.0
"""All of an attempt: looking the host up, connecting, sending, reading."""
ANSWER_CHARS: Final = 2048
ANSWER_BYTES: Final = 4 * ANSWER_CHARS
BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it."""

    at: datetime
    duration_s: float
    status_code: int | None
    """None: there was no answer."""
    answer: str
    """Its beginning."""
    error: str | None
    """Why there was no answer, or why it does not count."""
    retry_after_s: float
    """How long a host that is busy wants to be left alone; 0 if it said nothing of that."""

    @property
    def delivered(self) -> bool:
        """Whether the host took it."""
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def gone(self) -> bool:
        """Whether the host wants to hear nothing any more."""
        return self.status_code == HTTPStatus.GONE


class Sender:
    """Sends to wherever `policy` allows, as whom `clock` says it is."""

    def __init__(self, policy: UrlPolicy, clock: Callable[[], datetime]) -> None:
        self._policy, self._clock = policy, clock
        self._tls: ssl.SSLContext | None = None

    async def send(self, url: str, event_id: str, body: str, secrets: Sequence[str]) -> Attempt:
        """Send `body` once, signed with each of `secrets`."""
        moment, began = self._clock(), monotonic()
        answer: httpx.Response | None = None
        said, error = bytearray(), None
        try:
            async with asyncio.timeout(PATIENCE_S):
                target = await admitted(url, self._policy)
                self._tls = self._tls or await trusted()
                # A client of its own: another's cookies are not for this host.
                async with web_client(self._tls, PATIENCE_S) as client:
                    headers = _headers(event_id, moment, body, secrets)
                    answer = await ask(client, "POST", target, headers, PATIENCE_S, body.encode())
                    try:
                        async for piece in answer.aiter_raw():
                            said += piece
                            if len(said) >= ANSWER_BYTES:
                                break
                    finally:
                        await answer.aclose()
        except TimeoutError:
            error = f"no answer within {PATIENCE_S:g} s" if answer is None else f"no end of the answer within {PATIENCE_S:g} s"
        except PipelineError as refusal:
            error = str(refusal)
        except httpx.TransportError as failure:
            error = f"no HTTP: {type(failure).__name__}"
        except Exception:  # what a stranger's host makes of the client must not end the deliveries to all others
            log.exception("webhook_attempt_crashed", event_id=event_id)
            error = "the attempt failed in a way that nobody foresaw; the log has the cause"
        status = None if answer is None else answer.status_code
        if status is not None and 300 <= status < 400:
            error = "a redirect, which is not followed"
        return Attempt(
            at=moment,
            duration_s=monotonic() - began,
            status_code=status,
            answer=said.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")[:ANSWER_CHARS],
            error=None if error is None else redacted(error),
            retry_after_s=_retry_after_s(answer, moment) if answer is not None and status in BUSY else 0.0,
        )


def _headers(event_id: str, moment: datetime, body: str, secrets: Sequence[str]) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, moment.astimezone(UTC), body) for secret in secrets),
    }


def _retry_after_s(answer: httpx.Response, moment: datetime) -> float:
    """Seconds, or a date; what is neither is nothing."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        until = parsedate_to_datetime(said)
        return max(0.0, (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - moment.timestamp())
    except (ValueError, OverflowError):
        return 0.0
