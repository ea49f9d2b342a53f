"""How uvicorn is to speak WebSocket: bytes of any client come in; messages of a bounded size, and an end in bounded time, go out.

Given to uvicorn by `app.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.stream_intake import MESSAGE_BYTES

LINGER_S: Final = 15.0
"""uvicorn itself waits ten seconds for the answer to a close frame."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which lacks two bounds (0.54)."""

    async def send(self, message: Any) -> None:
        """As uvicorn's; a message to a client whose connection was just closed for a fault is one to nobody, not a fault of ours."""
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """As uvicorn's; a client that does not read what is left to be sent would hold its connection for as long as it likes."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


# Media is compressed already.
OPTIONS: Final[dict[str, Any]] = {"ws": BoundedWebSocket, "ws_max_size": MESSAGE_BYTES, "ws_per_message_deflate": False}
