"""How uvicorn is to speak WebSocket: bytes of any client come in; messages of a bounded size, few on their way, and an end in time go out.

Given to uvicorn by `app.py`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, TypedDict

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.stream_intake import MESSAGE_BYTES

ON_THE_WAY_BYTES: Final = 32 * 1024
"""Of events, in the kernel and again in front of it: scores that wait there cannot give way to newer ones, and Linux would take megabytes
of them (ten minutes) from whoever reads slowly."""
LINGER_S: Final = 15.0
"""uvicorn itself waits ten seconds for the answer to a close frame."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol with three bounds that it lacks (0.54)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As uvicorn's, with little room for what is not read."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=ON_THE_WAY_BYTES)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ON_THE_WAY_BYTES)

    async def send(self, message: ASGISendEvent) -> None:
        """As uvicorn's; a message to a client whose connection was just closed for a fault is one to nobody, not a fault of ours."""
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """As uvicorn's; a client that does not read what is left to be sent would hold its connection for as long as it likes."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)


class Options(TypedDict):
    """What `uvicorn.Config` takes."""

    ws: type[asyncio.Protocol]
    ws_max_size: int
    ws_per_message_deflate: bool
    ws_ping_interval: float
    ws_ping_timeout: float


OPTIONS: Final[Options] = {
    "ws": BoundedWebSocket,
    "ws_max_size": MESSAGE_BYTES,
    # Media is compressed already.
    "ws_per_message_deflate": False,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
}
