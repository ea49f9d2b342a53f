"""What a client and the service say to each other, over as many connections as it takes: messages come in, what is to be sent goes out.

The session at the service outlives connections; so does this: after a loss it resumes with its token and the number of its last event, and
sends again what had not come. Made by `live.py`, which is what callers see.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from service.backoff import full_jitter
from service.client.errors import (
    ClientError,
    ConnectionLost,
    Draining,
    Overloaded,
    ServiceUnavailable,
    ServiceUnreachable,
    SessionLost,
    TooManyRequests,
    WrongProtocol,
    closed_with,
    failure_of,
)
from service.client.link import opened, routed
from service.client.outgoing import Outgoing
from service.client.pulse import Pulse
from service.close_codes import CloseCode
from service.media_header import MediaKind
from service.stream_wire import (
    Ack,
    Credit,
    DropEvent,
    End,
    ErrorEvent,
    Event,
    Pause,
    Ready,
    Resumed,
    ResumeFailed,
    ResumeMedia,
    ResumeOf,
    ServerMessage,
    SessionEvent,
    Start,
    Stats,
    Stop,
    server_message,
)

GREETING_S: Final = 60.0
SILENCE_S: Final = 20.0
"""A session tells its stats every two seconds; without them its connection is dead, whatever TCP says."""
KEPT_EVENTS: Final = 10_000
WORTH_TRYING_AGAIN: Final = (ServiceUnreachable, ServiceUnavailable, ConnectionLost, Overloaded, Draining, TooManyRequests)
OF_THE_SERVICE: Final = frozenset(CloseCode) - {CloseCode.DONE}


class Conversation:
    """A stream from its `start` to its `end`. Passive until `run` is a task; then for that event loop.

    Args:
        url: where the streams are.
        start: what is asked for.
        headers: of each handshake.
        patience_s: how long to try for a place at a full service, and for a connection after each loss.
    """

    def __init__(self, url: str, start: Start, headers: Mapping[str, str], patience_s: float) -> None:
        self._url, self._start, self._headers, self._patience_s = url, start, headers, patience_s
        self.out = Outgoing(MediaKind[(start.codec or "chunk").upper()])
        self.news = Pulse()
        """Beats whenever something has changed."""
        self.events: deque[SessionEvent] = deque()
        """Each once, until somebody takes it."""
        self.left_out = 0
        """Of those, the oldest beyond KEPT_EVENTS."""
        self.ready: Ready | None = None
        self.end: End | None = None
        self.resumed = 0
        self._words: deque[BaseModel] = deque()
        """To be said over the present connection."""
        self._greeted = False
        """Whether the present connection has been let in."""
        self._pausing: Pause | ResumeMedia | None = None
        self._stopping: Stop | None = None
        self._last_seq = 0
        self._problem: ErrorEvent | None = None
        """Why the session fails; its `end` follows."""
        self._refusal: ErrorEvent | None = None
        """Why the present connection is; the session, if there is one, knows nothing of it."""
        self._lost_at: float | None = None
        self._attempts = 0

    async def run(self) -> None:
        """Connect as often as needed, until the stream has ended well.

        Raises:
            ClientError: why it has not.
        """
        try:
            url = self._url
            while self.end is None:
                # Where there is no room yet, another route may lead to another replica.
                if self.ready is None:
                    url = routed(self._url)
                try:
                    async with opened(url, self._headers) as socket:
                        await self._served(socket)
                except WORTH_TRYING_AGAIN as error:
                    await asyncio.sleep(self._wait_after(error))
        except ClientError as error:
            if self._problem is None:
                raise
            # That its `end` could not be had is the lesser news.
            raise failure_of(self._problem) from error
        if self._problem is not None:
            raise failure_of(self._problem, self.end)

    def stop(self) -> None:
        """Let the service end a camera's stream."""
        self._stopping = Stop(type="stop")
        self._say(self._stopping)

    def pause(self, word: Pause | ResumeMedia) -> None:
        """Tell that nothing will come, or that it goes on."""
        self._pausing = word
        self._say(word)

    def _say(self, word: BaseModel) -> None:
        """Say it now; what matters is said again after a loss, when nobody knows whether it was heard."""
        self._words.append(word)
        self.news.beat()

    def _wait_after(self, error: ClientError) -> float:
        """Seconds before another attempt; raises `error` when there is none to be made."""
        if self.ready is None and isinstance(error, ServiceUnreachable):
            raise error
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        self._attempts += 1
        wait_s = max(full_jitter(self._attempts), error.retry_after_s or 0.0)
        if now + wait_s > self._lost_at + self._patience_s:
            raise error
        return wait_s

    async def _served(self, socket: ClientConnection) -> None:
        """One connection: returns when `end` has come, raises why it broke sooner."""
        self._greeted, self._refusal = False, None
        self._words.clear()
        self._words.append(self._start if self.ready is None else Start(type="start", resume=self._whence(self.ready)))
        tasks = (asyncio.create_task(self._hear(socket)), asyncio.create_task(self._tell(socket)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _whence(self, ready: Ready) -> ResumeOf:
        return ResumeOf(session_id=ready.session_id or "", token=ready.token, last_event_seq=self._last_seq)

    async def _tell(self, socket: ClientConnection) -> None:
        """Write what there is to say and may be sent; that nobody is there is for `_hear` to notice."""
        try:
            while True:
                await self.news.until(lambda: bool(self._words) or (self._greeted and self.out.sendable))
                if self._words:
                    await socket.send(self._words.popleft().model_dump_json(exclude_none=True))
                else:
                    await socket.send(self.out.take())
                    self.news.beat()
        except ConnectionClosed:
            await asyncio.Event().wait()

    async def _hear(self, socket: ClientConnection) -> None:
        while self.end is None:
            try:
                async with asyncio.timeout(SILENCE_S if self._greeted else GREETING_S):
                    message = await socket.recv()
            except TimeoutError:
                raise ConnectionLost("The service fell silent.", expected="`stats` every two seconds", got="nothing") from None
            except ConnectionClosed as closed:
                raise self._why(closed) from closed
            try:
                self._take(server_message.validate_json(message))
            except ValidationError as error:
                raise WrongProtocol("A message cannot be understood.", expected="one of /asyncapi.json", got=repr(message[:200])) from error
            self.news.beat()

    def _why(self, closed: ConnectionClosed) -> ClientError:
        """What the end of a connection before that of the stream means."""
        if self._refusal is not None:
            return failure_of(self._refusal)
        code = closed.rcvd.code if closed.rcvd is not None else None
        # A service that fails on one connection still has the session; 1000 and the like are not ours without an `end`.
        if code not in OF_THE_SERVICE or (code == CloseCode.FAULT and self.ready is not None):
            return ConnectionLost("The connection was lost.", expected="`end` before its close", got=f"close code {code or 'none'}")
        return closed_with(CloseCode(code))

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Resumed():
                self.out.allowance = message.credit
                if self._start.mode != "pull":
                    self.out.again_from(0 if message.last_media_seq is None else message.last_media_seq + 1)
                self._words.extend(word for word in (self._pausing, self._stopping) if word is not None)
                self.resumed += 1
                self._let_in()
            case ResumeFailed():
                missed = f"{message.missed} events of it are" if message.missed else "it is"
                raise SessionLost("The session cannot go on.", expected="to be back in time", got=f"{missed} gone")
            case ErrorEvent(event_seq=None):
                self._refusal = message
            case Event():
                self._event(message)
            case _:
                raise WrongProtocol("Nobody asked for that.", expected="an event", got=message.type)

    def _event(self, event: SessionEvent) -> None:
        if event.event_seq is None or event.event_seq > self._last_seq + 1:
            raise WrongProtocol("An event is missing.", expected=f"event_seq {self._last_seq + 1}", got=str(event.event_seq))
        if event.event_seq <= self._last_seq:
            return
        self._last_seq = event.event_seq
        match event:
            case Ready():
                self.ready, self.out.allowance = event, event.credit
                self._let_in()
            case Credit():
                self.out.allowance = event.credit
                self.out.arrived(event.received.media)
            case Stats():
                self.out.arrived(event.received.media)
                self._words.append(Ack(type="ack", event_seq=self._last_seq))
            case DropEvent(cause="client_over_credit", next_seq=int(seq)) if self._start.mode == "container":
                self.out.again_from(seq)
            case ErrorEvent():
                self._problem = event
            case End():
                self.end = event
            case _:
                pass
        self.events.append(event)
        # Whoever waits for the verdict alone takes none.
        if len(self.events) > KEPT_EVENTS:
            self.events.popleft()
            self.left_out += 1

    def _let_in(self) -> None:
        self._greeted, self._lost_at, self._attempts = True, None, 0
