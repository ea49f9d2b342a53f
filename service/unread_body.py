"""What a client still sends after it was answered: its bytes come in, nothing goes out. Wrapped around the application by `app.py`.

Many clients read an answer only after their last byte (`httpx` does). Whoever is refused in the middle of an upload would find a
closed connection instead of the refusal, since TCP throws away what was answered once more comes than is read. So what still comes is read
as an upload would be, and forgotten, while the answer is on its way; nginx calls it a lingering close.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.intake import paced
from service.problems import UploadTooSlow
from service.settings import Settings

LINGER_S: Final = 300.0
"""How long at most: no refusal is worth more of a connection."""
STRANGER_S: Final = 5.0
"""The same for whoever has shown no key where one is needed: else anybody could keep as many connections as there may be."""


class UnreadBody:
    """ASGI middleware: a response ends once its request has, or once that takes too long."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if headers is None or not _has_body(headers):
            await self._app(scope, receive, send)
            return
        # Who expects 100 (Continue) sends nothing before the application reads.
        more, answered, comes = True, False, "expect" not in headers

        async def read() -> Message:
            nonlocal more, comes
            comes = True
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal answered
            if more and comes and message["type"] == "http.response.body" and not message.get("more_body", False):
                answered, message = True, {**message, "more_body": True}
            await send(message)

        await self._app(scope, read, answer)
        if answered:

            async def rest() -> AsyncIterator[bytes]:
                while more:
                    yield (await read()).get("body", b"")

            with suppress(TimeoutError, UploadTooSlow):
                async with asyncio.timeout(LINGER_S if self._is_known(scope) else STRANGER_S):
                    async for _ in paced(rest(), self._settings, UploadTooSlow):
                        pass
            await send({"type": "http.response.body"})

    def _is_known(self, scope: Scope) -> bool:
        return not self._settings.needs_keys or scope.get("caller_known", False)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
