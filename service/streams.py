"""`WS /v1/stream`: clients come in, each is led to a Session of its own; `app.py` makes the one `Streams` of a process.

How many there may be, who may go on with which, and how they end when the service does, is decided here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Final, cast

import structlog
from fastapi import APIRouter, Depends, WebSocket

from pipelines.engine import Engines
from pipelines.errors import Overloaded
from pipelines.media import Reader
from service.auth import Known
from service.media_feed import MediaFeed
from service.picture_source import FedPictures, OpenCamera, PictureSource
from service.problems import problem_of, problem_response
from service.seating import RETRY_S, take_seat
from service.settings import Settings
from service.stream_connection import Connection
from service.stream_errors import PullNotSupported, StreamDraining, UnknownSession
from service.stream_intake import Intake
from service.stream_session import Session
from service.stream_wire import PATH, Pace, ResumeOf, Start

SPARE_CONNECTIONS: Final = 256
"""Beyond one for each stream: of clients that have not said yet what they want. More are refused before their handshake."""
MAX_ENDED: Final = 32
"""Sessions that ended and can still be asked for what was not heard; each keeps 4 MiB of events at most."""

log = structlog.get_logger()
router = APIRouter()


@dataclass(slots=True)
class _Kept:
    session: Session
    tenant: str
    life: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class _Door:
    """What a tenant's connection sees of all streams; see `stream_connection.Door`."""

    streams: Streams
    tenant: str

    async def begin(self, start: Start) -> Session:
        return await self.streams.begin(start, self.tenant)

    def find(self, resume: ResumeOf) -> Session:
        return self.streams.find(resume, self.tenant)


class Streams:
    """All live streams of this process. Used on the event loop.

    Args:
        settings: its `streams` bound them.
        engines: where they are judged; warm.
        read: decodes what clients send.
        open_camera: connects to cameras; None: it cannot, and says so.
    """

    def __init__(self, settings: Settings, engines: Engines, read: Reader, open_camera: OpenCamera | None) -> None:
        self._settings, self._engines, self._read, self._open_camera = settings, engines, read, open_camera
        self._kept: dict[str, _Kept] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._draining = False

    async def serve(self, socket: WebSocket, tenant: str) -> None:
        """One connection of `tenant`'s from its handshake to its close."""
        most = self._settings.streams.max_streams + SPARE_CONNECTIONS
        if len(self._connections) >= most:
            full = Overloaded("There are too many connections.", expected=f"at most {most}", got="one more", retry_after_s=RETRY_S)
            problem = problem_of(full, instance=PATH, request_id=socket.scope.get("request_id"))
            await socket.send_denial_response(problem_response(problem, {"Retry-After": f"{RETRY_S:.0f}"}))
            return
        this = asyncio.current_task()
        assert this is not None
        self._connections.add(this)
        try:
            await Connection(socket, _Door(self, tenant), self._settings.streams.start_s).run()
        finally:
            self._connections.discard(this)

    async def begin(self, start: Start, tenant: str) -> Session:
        """A new stream of `tenant`'s.

        Raises:
            StreamDraining, Overloaded: not now.
            PullNotSupported, or what the camera's opener raises: not that URL.
        """
        terms, settings = self._settings.streams, self._settings
        self._check_running()
        mode = start.mode
        assert mode is not None
        pace: Pace = start.pace or ("every" if mode == "container" else "live")
        with ExitStack() as failed:
            live = failed.enter_context(take_seat(self._engines, terms, patient=pace == "every"))
            session = Session(
                mode, pace, live, terms, hz=settings.hz, media_s=settings.limits.max_duration_s, pixels=settings.limits.max_pixels
            )
            source, intake = await self._source(start, session, lambda: min(settings.hz, live.hz))
            self._check_running()
            failed.pop_all()
        life = asyncio.create_task(session.begin(source, intake), name=f"stream-{session.id}")
        self._kept[session.id] = _Kept(session, tenant, life)
        life.add_done_callback(lambda _: self._ended(session))
        return session

    def find(self, resume: ResumeOf, tenant: str) -> Session:
        """A stream to go on with.

        Raises:
            UnknownSession: `tenant` has none of that name and token.
        """
        kept = self._kept.get(resume.session_id)
        if kept is None or kept.tenant != tenant or not secrets.compare_digest(kept.session.token.encode(), resume.token.encode()):
            raise UnknownSession("There is no such session.", expected="session_id and token of a `ready`", got=resume.session_id)
        return kept.session

    @property
    def running(self) -> int:
        """Streams that have not ended."""
        return sum(not kept.life.done() for kept in self._kept.values())

    async def drain(self, patience_s: float) -> None:
        """End every stream with the verdict so far, and let their clients hear it; new ones are refused. May be called twice."""
        self._draining = True
        for kept in self._kept.values():
            kept.session.abort("draining", _stopping())
        if lives := [kept.life for kept in self._kept.values()]:
            await asyncio.wait(lives)
        if self._connections:
            await asyncio.wait(self._connections, timeout=patience_s)

    def _check_running(self) -> None:
        if self._draining:
            raise _stopping()

    async def _source(self, start: Start, session: Session, rate: Callable[[], float]) -> tuple[PictureSource, Intake | None]:
        if start.mode == "pull":
            assert start.url is not None
            if self._open_camera is None:
                raise PullNotSupported("This service connects to no cameras.", expected="mode container or frames", got="mode pull")
            # Who a name belongs to is asked of the network.
            return await asyncio.to_thread(self._open_camera, start.url, rate), None
        loop = asyncio.get_running_loop()
        feed = MediaFeed(lambda size: cast(None, loop.call_soon_threadsafe(session.taken, size)))
        intake = Intake(feed, start.codec)
        source = FedPictures(
            feed,
            self._read,
            self._settings.limits,
            hz=self._settings.hz,
            intake=intake if start.codec else None,
            rate=rate if session.pace == "live" else None,
        )
        return source, intake

    def _ended(self, session: Session) -> None:
        """Keep what it told for a while, for a client that comes back."""
        kept = self._kept[session.id]
        if not kept.life.cancelled() and (error := kept.life.exception()) is not None:
            log.error("stream_crashed", stream=session.id, exc_info=error)
        asyncio.get_running_loop().call_later(self._settings.streams.resume_s, self._kept.pop, session.id, None)
        ended = [name for name, kept in self._kept.items() if kept.life.done()]
        for name in ended[:-MAX_ENDED]:
            del self._kept[name]


def _stopping() -> StreamDraining:
    return StreamDraining("The service is stopping.", expected="a running service", got="a stopping one")


def _streams(socket: WebSocket) -> Streams:
    return cast(Streams, socket.app.state.rooms.streams)


@router.websocket(PATH)
async def stream(socket: WebSocket, streams: Annotated[Streams, Depends(_streams)], caller: Known) -> None:
    """See /asyncapi.json."""
    await streams.serve(socket, caller.tenant)
