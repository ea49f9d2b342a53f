"""One WebSocket from its handshake to its close code: a client's messages come in and are led to a Session, whose events go out.

Made by `streams.py`. The session is the longer-lived: it outlives a connection that is lost, and goes on over the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from models.errors import Refusal
from service.auth import Unauthenticated
from service.close_codes import CloseCode, close_code
from service.media_header import MediaHeader
from service.outbox import Missed
from service.stream_errors import BadStreamMessage, GoneOnElsewhere, UnknownSession, error_event
from service.stream_session import Session
from service.stream_wire import (
    SUBPROTOCOL,
    Ack,
    ClientMessage,
    ErrorEvent,
    Pause,
    Ping,
    Pong,
    Resumed,
    ResumeFailed,
    ResumeMedia,
    ResumeOf,
    Start,
    Stop,
    client_message,
)

TEXT_CHARS: Final = 16 * 1024
FAREWELL_S: Final = 5.0
"""How long the last events of a session may take to be written; whoever does not read them can resume and hear them."""

log = structlog.get_logger()


class Door(Protocol):
    """Where sessions are to be had."""

    async def begin(self, start: Start) -> Session:
        """A new one; raises the refusal to tell."""
        ...

    def find(self, resume: ResumeOf) -> Session:
        """One to go on with; raises UnknownSession."""
        ...

    def shut(self, session: Session, why: Refusal) -> None:
        """End it; nobody goes on with it."""
        ...


KeyEnd = Callable[[], Coroutine[Any, Any, NoReturn]]
"""Raises Unauthenticated once the key that a client came with has ended."""


class Connection:
    """A client that is connected.

    Args:
        socket: not accepted yet.
        door: where sessions are to be had.
        start_s: how long `start` may take.
        key_end: begun with the connection.
    """

    def __init__(self, socket: WebSocket, door: Door, start_s: float, key_end: KeyEnd) -> None:
        self._socket, self._door, self._start_s, self._key_end = socket, door, start_s, key_end
        self._pong: Pong | None = None
        self._resumed: Resumed | None = None

    async def run(self) -> None:
        """Serve the client until it, its session or its key ends."""
        ended = asyncio.create_task(self._key_end())
        try:
            await self._run(ended)
        finally:
            ended.cancel()

    async def _run(self, ended: asyncio.Task[NoReturn]) -> None:
        spoken = self._socket.scope["subprotocols"]
        await self._socket.accept(SUBPROTOCOL if SUBPROTOCOL in spoken else None)
        # A client that went away, or does not read, is told nothing more; its session waits for it.
        with suppress(WebSocketDisconnect, TimeoutError):
            try:
                if SUBPROTOCOL not in spoken:
                    raise BadStreamMessage("The subprotocol is another.", expected=SUBPROTOCOL, got=", ".join(spoken)[:200] or "none")
                session = await self._begun()
            except UnknownSession:
                await self._close(CloseCode.UNKNOWN_SESSION, ResumeFailed(reason="unknown"))
            except Missed as missed:
                await self._close(CloseCode.UNKNOWN_SESSION, ResumeFailed(reason="missed", missed=missed.n))
            except Refusal as error:
                await self._refuse(error, None)
            else:
                await self._serve(session, ended)

    async def _begun(self) -> Session:
        """What the first message asks for."""
        try:
            async with asyncio.timeout(self._start_s):
                first = await self._heard()
        except TimeoutError:
            wanted = f"`start` within {self._start_s:g} s"
            raise BadStreamMessage("The first message did not come.", expected=wanted, got="nothing") from None
        if not isinstance(first, Start):
            came = "media" if isinstance(first, bytes) else first.type
            raise BadStreamMessage("The first message is another.", expected="`start`", got=came)
        if first.resume is None:
            return await self._door.begin(first)
        session, last = self._door.find(first.resume), first.resume.last_event_seq
        # Before its present connection, if it has one, makes way.
        from_event_seq = session.outbox.again_from(last)
        self._resumed = Resumed(
            session_id=session.id,
            from_event_seq=from_event_seq,
            last_media_seq=None if session.intake is None or not session.intake.next_seq else session.intake.next_seq - 1,
            credit=session.allowance,
            received=session.received,
        )
        return session

    async def _serve(self, session: Session, ended: asyncio.Task[NoReturn]) -> None:
        taken_over = session.attach()
        log.info("stream_attached", stream=session.id, resumed=self._resumed is not None)
        hear, tell = asyncio.create_task(self._hear(session, taken_over)), asyncio.create_task(self._tell(session, taken_over))
        away, farewell = asyncio.create_task(taken_over.wait()), asyncio.create_task(_farewell(session))
        tasks: set[asyncio.Task[Any]] = {hear, tell, away, farewell, ended}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.detach(taken_over)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        why: Unauthenticated | None = None
        for end in ends:
            if isinstance(end, WebSocketDisconnect):
                # Whoever has lost a connection closes it with nothing, or another code: this client is not coming back, unless it is here.
                if end.code == CloseCode.DONE and not taken_over.is_set():
                    session.abort("stopped", None)
            elif isinstance(end, Unauthenticated):
                why = end
            elif isinstance(end, Exception):
                raise end
        if taken_over.is_set():
            gone = GoneOnElsewhere("The session goes on over another connection.", expected="one connection", got="two")
            await self._refuse(gone, session.id)
        elif why is not None:
            self._door.shut(session, why)
            await self._refuse(why, session.id)
        elif tell.done() and not tell.cancelled() and tell.exception() is None and session.close_code is not None:
            await self._close(session.close_code)

    async def _hear(self, session: Session, taken_over: asyncio.Event) -> None:
        """Read until the client is gone; what a session does not understand ends it."""
        while True:
            try:
                message = await self._heard()
                # Media on its way when the connection broke comes again over the next: the session has told from where.
                if not session.over and not (isinstance(message, bytes) and taken_over.is_set()):
                    self._take(session, message)
            except Refusal as error:
                session.abort("failed", error)

    def _take(self, session: Session, message: ClientMessage | bytes) -> None:
        match message:
            case bytes():
                session.take(*MediaHeader.parsed(message))
            case Ack(event_seq=event_seq):
                session.outbox.ack(event_seq)
            case Pause():
                session.pause()
            case ResumeMedia():
                session.resume_media()
            case Stop():
                session.stop()
            case Ping(t=t):
                self._pong = Pong(t=t)
                session.news.set()
            case Start():
                raise BadStreamMessage("The stream has begun already.", expected="one `start`", got="another")

    async def _tell(self, session: Session, taken_over: asyncio.Event) -> None:
        """Write what there is, until the last event is written."""
        if self._resumed is not None:
            await self._socket.send_text(self._resumed.model_dump_json())
        while True:
            session.news.clear()
            # An answer to each of many pings would be a queue without a bound; the newest is enough.
            if (pong := self._pong) is not None:
                self._pong = None
                await self._socket.send_text(pong.model_dump_json())
            # What is taken is numbered and gone: never for a connection that has lost its session.
            while not taken_over.is_set() and (message := session.next_message()) is not None:
                await self._socket.send_text(message)
            if session.close_code is not None and not session.outbox:
                return
            await session.news.wait()

    async def _heard(self) -> ClientMessage | bytes:
        """The next message.

        Raises:
            BadStreamMessage: it is no message of the protocol.
            WebSocketDisconnect: there is none.
        """
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event["code"])
        if (data := event.get("bytes")) is not None:
            return bytes(data)
        text = str(event["text"])
        if len(text) > TEXT_CHARS:
            raise BadStreamMessage("A text message is too long.", expected=f"at most {TEXT_CHARS} characters", got=str(len(text)))
        try:
            return client_message.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = "/".join(map(str, first["loc"])) or "the message"
            raise BadStreamMessage(
                "A message cannot be understood.", expected="one of /asyncapi.json", got=f"{where}: {first['msg']}"[:500]
            ) from error

    async def _refuse(self, error: Refusal, session_id: str | None) -> None:
        code = close_code(error)
        log.info("stream_refused", stream=session_id, problem=error.slug, code=int(code))
        await self._close(code, error_event(error, session_id))

    async def _close(self, code: CloseCode, word: ErrorEvent | ResumeFailed | None = None) -> None:
        async with asyncio.timeout(FAREWELL_S):
            if word is not None:
                await self._socket.send_text(word.model_dump_json())
            await self._socket.close(code, code.meaning)


async def _farewell(session: Session) -> None:
    """Comes back when the client has had time enough to read the end."""
    await session.ended.wait()
    await asyncio.sleep(FAREWELL_S)
