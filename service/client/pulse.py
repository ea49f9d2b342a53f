"""A wait for anything: conditions come in, waiters go on when one holds. For one event loop; made by `live.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pulse:
    """Whoever changes something beats; whoever waits for something looks again."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Something may have changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Come back when it holds."""
        while not holds():
            await self._next.wait()
