"""`WS /v1/stream`: clients come in, each is led to a Session of its own; `app.py` makes the one `Streams` of a process.

How many there may be, who may go on with which, and how they end when the service does, is decided here. `GET /v1/stream` says beforehand
whether one would be let in: a browser is not told why a WebSocket was refused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, cast

import structlog
from fastapi import APIRouter, Depends, WebSocket
from starlette.requests import HTTPConnection

from models.errors import Refusal
from pipelines.engine import Engines
from pipelines.errors import Overloaded
from pipelines.media import Reader
from service.auth import Known, KnownKey
from service.key_watch import key_end
from service.media_feed import MediaFeed
from service.picture_source import FedPictures, OpenCamera, PictureSource
from service.problems import documented
from service.seating import RETRY_S, check_seats, take_seat
from service.settings import Settings
from service.stream_connection import Connection, KeyEnd
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


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a stream is: of a tenant, and of the key it was begun with; a browser's session counts as the key behind it.

    Whoever has another key goes on with none of these, not even with the token: the end of a key is to be the end of its streams.
    """

    tenant: str
    key: str | None
    """None: of this machine, without a key."""


@dataclass(slots=True)
class _Kept:
    session: Session
    owner: Owner
    life: asyncio.Task[None]
    shut: bool = False
    """Whether nobody may go on with it."""


@dataclass(frozen=True, slots=True)
class _Door:
    """What one connection sees of all streams; see `stream_connection.Door`."""

    streams: Streams
    owner: Owner

    async def begin(self, start: Start) -> Session:
        return await self.streams.begin(start, self.owner)

    def find(self, resume: ResumeOf) -> Session:
        return self.streams.find(resume, self.owner)

    def shut(self, session: Session, why: Refusal) -> None:
        self.streams.shut(session, why)


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

    async def serve(self, socket: WebSocket, owner: Owner, key_end: KeyEnd) -> None:
        """One connection of `owner`'s from its handshake to its close, or to the end of the key that it came with.

        Raises:
            Overloaded: there are too many; the handshake is not answered yet.
        """
        self._check_connections()
        this = asyncio.current_task()
        assert this is not None
        self._connections.add(this)
        try:
            await Connection(socket, _Door(self, owner), self._settings.streams.start_s, key_end).run()
        finally:
            self._connections.discard(this)

    def check(self, tenant: str) -> None:
        """Whether `tenant` could open a stream now, as far as that is known before it does.

        Raises:
            StreamDraining, Overloaded: not now.
        """
        self._check_connections()
        self._check_running()
        self._check_share(tenant)
        check_seats(self._engines, self._settings.streams)

    async def begin(self, start: Start, owner: Owner) -> Session:
        """A new stream of `owner`'s.

        Raises:
            StreamDraining, Overloaded: not now.
            PullNotSupported, or what the camera's opener raises: not that URL.
        """
        terms, settings = self._settings.streams, self._settings
        self._check_running()
        self._check_share(owner.tenant)
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
            self._check_share(owner.tenant)
            failed.pop_all()
        life = asyncio.create_task(session.begin(source, intake), name=f"stream-{session.id}")
        self._kept[session.id] = _Kept(session, owner, life)
        life.add_done_callback(lambda _: self._ended(session))
        return session

    def find(self, resume: ResumeOf, owner: Owner) -> Session:
        """A stream to go on with.

        Raises:
            UnknownSession: `owner` has none of that name and token.
        """
        kept = self._kept.get(resume.session_id)
        if (
            kept is None
            or kept.shut
            or kept.owner != owner
            or not secrets.compare_digest(kept.session.token.encode(), resume.token.encode())
        ):
            raise UnknownSession("There is no such session.", expected="session_id and token of a `ready`", got=resume.session_id)
        return kept.session

    def shut(self, session: Session, why: Refusal) -> None:
        """End a stream for good: what it has still to tell is told to nobody."""
        if (kept := self._kept.get(session.id)) is not None:
            kept.shut = True
        session.abort("failed", why)

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

    def _check_connections(self) -> None:
        most = self._settings.streams.max_streams + SPARE_CONNECTIONS
        if len(self._connections) >= most:
            raise Overloaded("There are too many connections.", expected=f"at most {most}", got="one more", retry_after_s=RETRY_S)

    def _check_running(self) -> None:
        if self._draining:
            raise _stopping()

    def _check_share(self, tenant: str) -> None:
        most = self._settings.tenants.max_streams
        if most is not None and sum(kept.owner.tenant == tenant and not kept.life.done() for kept in self._kept.values()) >= most:
            setting = "UNDERCURRENT_TENANTS__MAX_STREAMS"
            raise Overloaded(
                "The tenant may have no other stream.", expected=f"at most {most} ({setting})", got="one more", retry_after_s=RETRY_S
            )

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


async def _streams(connection: HTTPConnection) -> Streams:
    return cast(Streams, connection.app.state.rooms.streams)


Ours = Annotated[Streams, Depends(_streams)]


@router.get(PATH, status_code=204, tags=["streams"], responses=documented(also={204: {"description": "A stream could be opened."}}))
async def check_stream(streams: Ours, caller: Known) -> None:
    """Whether this caller could open `WS /v1/stream` now: the problem that it would be refused with, since a browser is not told.

    401 and 403 are for good; 429 and 503 say in `Retry-After` when to ask again. Whether the load leaves room is only known by who begins
    a stream: then `error` says so.
    """
    streams.check(caller.tenant)


@router.websocket(PATH)
async def stream(socket: WebSocket, streams: Ours, caller: Known, key: KnownKey) -> None:
    """See /asyncapi.json."""
    await streams.serve(
        socket, Owner(caller.tenant, None if key is None else key.root), partial(key_end, socket.app.state.rooms.keys, caller.key_id)
    )
