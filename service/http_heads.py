"""How uvicorn is to read heads of requests: bytes of any client come in; a whole head in time goes on, or a problem goes out.

Whoever is one too many is told so before he has said anything.

Given to uvicorn by `app.py`. What follows a head has its pace in `intake.py`, and what becomes a WebSocket its bounds in `websocket.py`.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.doors import Doors
from service.problems import MEDIA_TYPE, HeadTooSlow, MalformedRequest, ServiceError, TooManyConnections, problem_of

HEAD_S: Final = 15.0
"""From the first byte of a connection, or of a later request on it, to the end of the head; nginx's is the same in `docker/`."""
LEAVE_S: Final = 2.0
"""How long whoever was turned away may take to ask something, and then to read why he was. What he still sends is forgotten: else TCP would
throw the answer away."""
WATCH_S: Final = 10.0
"""How long an answer to those who watch the service may take where there is no room."""
WATCHERS: Final = (b"GET /livez ", b"GET /metrics ")
"""They are answered all the same: whoever looks after a full service would take it for a dead one, and restart it. Whether it takes work
(`/readyz`) is another question, and where there is no room the answer is no."""


class BoundedHeads(H11Protocol):
    """uvicorn's protocol (0.54), which takes any number of connections, waits for a head for ever and says what is wrong with it as text.

    `heads_behind` gives one to use.
    """

    doors: ClassVar[Doors]
    _waiting: asyncio.TimerHandle | None = None
    _turned_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """As uvicorn's; there is room, and whoever connects is to say something."""
        super().connection_made(transport)
        if len(self.connections) > self.doors.most:
            self._turn_away()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head that has begun is to end."""
        if self._turned_away:
            self._hear(data)
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._no_longer()
        elif self._waiting is None and not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._no_longer()
        self.doors.leaving.pop(self.transport, None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """As uvicorn's, which reads on for ever what comes of a body that was answered; `unread_body.py` has read what is worth it."""
        if self.conn.their_state is h11.SEND_BODY or self._turned_away:
            self.transport.close()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """As uvicorn's; who was turned away gets none, wherever he asks for it."""
        if self._turned_away:
            self._send_away()
        else:
            super().handle_websocket_upgrade(event)

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

    def _turn_away(self) -> None:
        # No longer one of those that may be connected, and nobody whom a shutdown waits for.
        self.connections.discard(self)
        self._turned_away = True
        if not self.doors.make_way():
            self.doors.turned_away()
            self.transport.abort()
            return
        self.doors.leaving[self.transport] = "silent"
        self._waiting = self.loop.call_later(LEAVE_S, self._send_away)

    def _hear(self, data: bytes) -> None:
        """What one says who was turned away."""
        state = self.doors.leaving.get(self.transport)
        if state == "silent" and data.startswith(WATCHERS):
            state = self.doors.leaving[self.transport] = "watches"
            self._let_go_in(WATCH_S)
        if state == "watches":
            super().data_received(data)
        elif state == "silent":
            self._send_away()

    def _send_away(self) -> None:
        self.doors.leaving[self.transport] = "told"
        self.doors.turned_away()
        most = self.doors.most
        self._say(TooManyConnections("There is no room for another connection.", expected=f"at most {most} at once", got="one more"))
        self.transport.write_eof()
        self._let_go_in(LEAVE_S)

    def _let_go_in(self, wait_s: float) -> None:
        self._no_longer()
        self._waiting = self.loop.call_later(wait_s, self.transport.abort)

    def _refuse(self, refusal: ServiceError) -> None:
        self._no_longer()
        self._say(refusal)
        self.transport.close()

    def _say(self, refusal: ServiceError) -> None:
        body = problem_of(refusal).model_dump_json(exclude_none=True).encode()
        headers = [("Content-Type", MEDIA_TYPE), ("Content-Length", str(len(body))), ("Connection", "close"), *refusal.headers.items()]
        for event in (
            h11.Response(status_code=refusal.status, headers=headers, reason=HTTPStatus(refusal.status).phrase),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")


def heads_behind(doors: Doors) -> type[BoundedHeads]:
    """The protocol of a service with these doors; uvicorn makes one for each connection, and gives it nothing of ours."""
    return type("Heads", (BoundedHeads,), {"doors": doors})
