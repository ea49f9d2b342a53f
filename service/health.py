"""Health: a probe comes in, whether this process lives and can take work goes out. Asked by supervisors and load balancers."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from service.database import Backlog
from service.problems import NotReady, StoreUnavailable, documented
from service.rooms import Rooms, ServiceRooms
from service.schemas import Wire

ANSWER_S: Final = 5.0
"""How long the database, and then the store, may take to say that they are there."""

router = APIRouter(tags=["health"])


class Alive(Wire):
    """The event loop turns."""

    status: Literal["alive"] = "alive"


class Ready(Wire):
    """The service takes work."""

    status: Literal["ready"] = "ready"
    queued: int
    running: int
    streams: int
    disk_free_bytes: int


@router.get("/livez")
async def livez() -> Alive:
    """Whether the process answers at all."""
    return Alive()


@router.get("/readyz", responses=documented(503))
async def readyz(rooms: Rooms) -> Ready:
    """Whether the database can be written, the store answers, the disk has room and the service is not stopping.

    The model is loaded and warm before the port answers.
    """
    if rooms.drain.begun or rooms.jobs.draining:
        raise NotReady("The service is stopping.", expected="a running service", got="a stopping one")
    waiting = await check_database(rooms)
    await check_store(rooms)
    free, least = rooms.storage.free_bytes, rooms.settings.min_free_bytes
    if free < least:
        raise NotReady("The disk is nearly full.", expected=f"{least:,} bytes free", got=f"{free:,}")
    return Ready(
        queued=waiting.queued,
        running=waiting.running,
        streams=rooms.streams.running,
        disk_free_bytes=free,
    )


async def check_database(rooms: ServiceRooms) -> Backlog:
    """What waits and runs, once it is sure that rows can be written; raises NotReady when they cannot."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await rooms.database.ping()
            return await rooms.database.backlog()
    except (SQLAlchemyError, TimeoutError) as error:
        raise NotReady("The database cannot be written.", expected="a write lock", got=type(error).__name__) from error


async def check_store(rooms: ServiceRooms) -> None:
    """Make sure that media and evidence can be reached; raises NotReady when they cannot."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await asyncio.to_thread(rooms.storage.check)
    except (StoreUnavailable, TimeoutError) as error:
        got = error.got if isinstance(error, StoreUnavailable) else f"no answer within {ANSWER_S:g} s"
        raise NotReady("Media and evidence cannot be reached.", expected="a store that answers", got=got) from error
