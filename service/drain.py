"""Leaving in order: SIGTERM comes in; first the load balancer is told, then whoever is connected, and only then do the doors close.

`app.py` leaves, `health.py` says so, and rooms with guests (event streams, live streams) are told through `when_leaving`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

FAREWELL_S: Final = 5.0
"""How long guests may take to go, all together: a client that reads nothing must not keep the service."""

log = structlog.get_logger()


class Drain:
    """How one process leaves.

    Args:
        notice_s: seconds for which work is still taken after readiness has gone, so that whoever sends it has time to notice.
    """

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self._goodbyes: list[Callable[[], Awaitable[None]]] = []
        self.begun = False
        """Whether the service is about to stop: it is not ready, and begins nothing that lasts."""

    def when_leaving(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        """Have `goodbye` awaited when guests are to go: a stream hears its verdict so far there, and is closed with 1012 (begin again)."""
        self._goodbyes.append(goodbye)

    async def leave(self, hurry: Callable[[], bool]) -> None:
        """Announce it, wait, and see every guest off; `hurry` ends the waiting. What a goodbye raises is logged and keeps nobody."""
        self.begun = True
        log.info("draining", notice_s=self._notice_s)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._notice_s
        while (left := until - loop.time()) > 0 and not hurry():
            await asyncio.sleep(min(0.1, left))
        goodbyes = [asyncio.ensure_future(goodbye()) for goodbye in self._goodbyes]
        if not goodbyes:
            return
        gone, stayed = await asyncio.wait(goodbyes, timeout=FAREWELL_S)
        for task in stayed:
            task.cancel()
        failed = [error for task in gone if (error := task.exception()) is not None]
        for error in failed:
            log.error("goodbye_failed", exc_info=error)
        log.info("guests_gone", in_time=len(gone) - len(failed), failed=len(failed), cut_off=len(stayed))
