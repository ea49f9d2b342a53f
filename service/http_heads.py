"""How uvicorn is to read heads of requests: bytes of any client come in; a whole head in time goes on, or a problem goes out.

Given to uvicorn by `app.py`. What follows a head has its pace in `intake.py`, and what becomes a WebSocket its bounds in `websocket.py`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.problems import MEDIA_TYPE, HeadTooSlow, MalformedRequest, ServiceError, problem_of

HEAD_S: Final = 15.0
"""From the first byte of a connection, or of a later request on it, to the end of the head; nginx's is the same in `docker/`."""


class BoundedHeads(H11Protocol):
    """uvicorn's protocol (0.54), which waits for a head for ever and says what is wrong with it as text."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """As uvicorn's; whoever connects is to say something."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head that has begun is to end."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._no_longer()
        elif self._waiting is None and not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._no_longer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """As uvicorn's, which reads on for ever what comes of a body that was answered; `unread_body.py` has read what is worth it."""
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in the shape of every other refusal."""
        self._refuse(MalformedRequest("The request is not HTTP/1.1 as it should be.", expected="one that follows RFC 9112", got="another"))

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_S, self._give_up)

    def _no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        self._refuse(HeadTooSlow("The head of the request did not come in time.", expected=f"all of it within {HEAD_S:g} s", got="a part"))

    def _refuse(self, refusal: ServiceError) -> None:
        self._no_longer()
        body = problem_of(refusal).model_dump_json(exclude_none=True).encode()
        headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), ("Connection", "close")]
        for event in (
            h11.Response(status_code=refusal.status, headers=headers, reason=HTTPStatus(refusal.status).phrase),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
