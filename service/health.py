"""Health: a probe comes in, whether this process lives and can take work goes out. Asked by supervisors and load balancers."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from service.problems import NotReady, StoreUnavailable, documented
from service.rooms import Rooms
from service.schemas import Wire

STORE_S: Final = 5.0

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
    try:
        await rooms.database.ping()
    except SQLAlchemyError as error:
        raise NotReady("The database cannot be written.", expected="a write lock", got=type(error).__name__) from error
    try:
        async with asyncio.timeout(STORE_S):
            await asyncio.to_thread(rooms.storage.check)
    except (StoreUnavailable, TimeoutError) as error:
        got = error.got if isinstance(error, StoreUnavailable) else f"no answer within {STORE_S:g} s"
        raise NotReady("Media and evidence cannot be reached.", expected="a store that answers", got=got) from error
    free, least = rooms.storage.free_bytes, rooms.settings.min_free_bytes
    if free < least:
        raise NotReady("The disk is nearly full.", expected=f"{least:,} bytes free", got=f"{free:,}")
    return Ready(
        queued=await rooms.database.count("queued"),
        running=await rooms.database.count("running"),
        streams=rooms.streams.running,
        disk_free_bytes=free,
    )
