"""The deliverer of one replica: deliveries that are due come in, attempts go out until each is delivered, or given up after days.

`app.py` makes the one there is. What it holds when it dies is sent by another, so that a receiver may hear twice of one event, with one
`webhook-id`, and never not at all.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.database import now
from service.shared_clock import NO_WAIT
from service.url_policy import UrlPolicy
from service.web_client import admitted
from service.webhook_attempt import Attempt, Sender
from service.webhook_deliveries import PING, Claim, Deliveries, DeliveryStatus
from service.webhook_rows import WebhookRow, WebhookRows

WAITS_S: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Between two attempts, as Standard Webhooks recommends: three days and three hours in all."""
JITTER: Final = 0.1
"""The share by which each is longer or shorter: receivers that fell together are not asked together."""
LONGEST_WAIT_S: Final = 86_400.0
"""However long a receiver that is busy wants to be left alone."""
FAILING_FOR: Final = timedelta(days=2)
"""So long after the first that was given up, another ends it: five days after the trouble began."""
KEPT: Final = timedelta(days=30)
SWEEP_S: Final = 3600.0
POLL_S: Final = 1.0
AT_ONCE: Final = 16
PER_WEBHOOK: Final = 4
"""At once, so that one slow receiver does not hold up all others."""
LEAVING_S: Final = 3.0

Outcome = Literal["delivered", "retried", "failed"]

log = structlog.get_logger()


class Deliverer:
    """Sends what is due. Used on the event loop.

    Args:
        webhooks, deliveries: the rows.
        policy: where it may go.
        replica: the name of this process; no two that live may have the same.
        clock: the time of this machine, for signatures; `deliveries` know what is due.
        draw: gives numbers in [0, 1).
    """

    def __init__(
        self,
        webhooks: WebhookRows,
        deliveries: Deliveries,
        policy: UrlPolicy,
        replica: str,
        *,
        clock: Callable[[], datetime] = now,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.webhooks, self.deliveries = webhooks, deliveries
        self._policy, self._replica, self._clock, self._draw = policy, replica, clock, draw
        self._sender = Sender(policy, clock)
        self._sending: dict[asyncio.Task[None], str] = {}
        self._more = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._swept_s: float | None = None
        self.counts: Counter[Outcome] = Counter()
        """What became of the attempts of this process."""

    async def start(self) -> None:
        """Take up what this replica held when it ended last, and go on sending."""
        await self.deliveries.release(self._replica)
        self._running = asyncio.create_task(self._run(), name="webhooks")

    async def close(self) -> None:
        """Begin nothing more; what is not answered soon is left to others."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._sending:
            await asyncio.wait(self._sending, timeout=LEAVING_S)
        for task in list(self._sending):
            task.cancel()
        await self.idle()
        with suppress(SQLAlchemyError):  # then others find them when their time is over
            await self.deliveries.release(self._replica)

    async def check(self, url: str) -> None:
        """Make sure that `url` may be told; raises what `web_client.admitted` raises."""
        await admitted(url, self._policy)

    async def look(self) -> None:
        """Begin to send what is due, as far as there is room."""
        while len(self._sending) < AT_ONCE:
            busy = [webhook_id for webhook_id, n in Counter(self._sending.values()).items() if n >= PER_WEBHOOK]
            if (claim := await self.deliveries.claim(self._replica, busy)) is None:
                return
            task = asyncio.create_task(self._deliver(claim), name=f"webhook-{claim.id}")
            self._sending[task] = claim.webhook_id
            task.add_done_callback(self._sent)

    async def idle(self) -> None:
        """Wait until all that was begun has ended."""
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def ping(self, webhook: WebhookRow, body: str) -> str:
        """Tell a webhook something once, now, whether it is enabled or not; the id of the delivery, which has what came of it."""
        claim = await self.deliveries.claim_ping(self._replica, webhook, body)
        await self._deliver(claim)
        return claim.id

    def _sent(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._more.set()

    async def _run(self) -> None:
        while True:
            try:
                self._more.clear()
                await self.look()
                await self._sweep()
            except SQLAlchemyError as error:
                log.warning("webhooks_not_looked_at", reason=type(error).__name__)
                await asyncio.sleep(POLL_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._more.wait()

    async def _sweep(self) -> None:
        if self._swept_s is None or monotonic() - self._swept_s > SWEEP_S:
            self._swept_s = monotonic()
            while gone := await self.deliveries.forget(self._clock() - KEPT):
                log.info("webhook_deliveries_forgotten", deliveries=gone)

    async def _deliver(self, claim: Claim) -> None:
        attempt = await self._sender.send(claim.url, claim.event_id, claim.body, claim.secrets)
        status, wait = self._decide(claim, attempt)
        try:
            webhook = await self.deliveries.record(claim, attempt, status, wait, FAILING_FOR)
        except SQLAlchemyError as error:  # it is sent again when its time is over
            log.warning("webhook_attempt_not_recorded", delivery=claim.id, reason=type(error).__name__)
            return
        self.counts["retried" if status == "pending" else status] += 1
        if webhook is None:
            log.info("webhook_delivery_not_wanted", webhook=claim.webhook_id, delivery=claim.id)
            return
        log.info("webhook_attempt", webhook=webhook.id, delivery=claim.id, code=attempt.status_code, error=attempt.error, status=status)
        if status == "failed" and claim.event != PING:
            log.warning("webhook_failing", webhook=webhook.id, since=webhook.failing_since, disabled=webhook.disabled)

    def _decide(self, claim: Claim, attempt: Attempt) -> tuple[DeliveryStatus, timedelta]:
        """What becomes of the delivery, and after what it is to be sent again if it is."""
        if attempt.delivered:
            return "delivered", NO_WAIT
        if attempt.gone or claim.event == PING or claim.tries >= len(WAITS_S):
            return "failed", NO_WAIT
        wait_s = WAITS_S[claim.tries] * (1 + JITTER * (2 * self._draw() - 1))
        return "pending", timedelta(seconds=max(wait_s, min(attempt.retry_after_s, LONGEST_WAIT_S)))
