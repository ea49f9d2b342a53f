"""Visits to the database: a function of a Session comes in, what it found or changed goes out. Made by `database.py`, for all.

SQLite's asyncio driver takes each part of a statement (a cursor, execute, fetch, close, roll back) to a thread of its own and back, and at
each end of each way somebody waits until the interpreter is free, beside analyses that compute; meanwhile a transaction that writes keeps
all others out. Here a whole transaction is one visit to a thread, and whoever waits is served in the order in which they came; what takes
less than the way to a thread is done where it is asked. PostgreSQL's driver needs no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Final, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from service.connection import threaded_engine

READERS: Final = 4
"""So that one who searches a long list holds nobody up. There is one who writes: SQLite lets no two."""

T = TypeVar("T")


class Visits:
    """The ways to one database.

    Args:
        engine: the one that is open already.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        lite = engine.dialect.name == "sqlite"
        self._reading = threaded_engine(engine.url, READERS, changes=False) if lite else None
        self._writing = threaded_engine(engine.url, 1, changes=True) if lite else None
        self._glancing = threaded_engine(engine.url, 1, changes=False, patience_s=0) if lite else None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reads")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writes")

    async def read(self, find: Callable[[Session], T]) -> T:
        """What `find` returns: rows and values, nothing that would still ask its session.

        Raises:
            SQLAlchemyError: the database does not answer, or `find` wanted to change something (on SQLite).
        """
        return await self._visit(find, self._reading, self._readers)

    async def glance(self, find: Callable[[Session], T]) -> T:
        """As `read`, for a few rows that an index leads to: a tenth of a millisecond of the event loop, on SQLite.

        Raises:
            SQLAlchemyError: as `read`.
        """
        if self._glancing is not None:
            with suppress(OperationalError), Session(self._glancing, expire_on_commit=False) as session:  # somebody keeps it locked
                return find(session)
        return await self.read(find)

    async def write(self, change: Callable[[Session], T]) -> T:
        """What `change` returns, once it is kept. It ends, one way or the other, also when nobody waits for it any more.

        Raises:
            SQLAlchemyError: nothing was changed; or, should it have been raised by the commit, perhaps all was.
        """

        def kept(session: Session) -> T:
            found = change(session)
            session.commit()
            return found

        return await self._visit(kept, self._writing, self._writer)

    async def close(self) -> None:
        """Let visits come to their end, and close every connection."""
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        for engine in (self._reading, self._writing, self._glancing):
            if engine is not None:
                engine.dispose()

    async def _visit(self, do: Callable[[Session], T], engine: Engine | None, threads: ThreadPoolExecutor) -> T:
        if engine is None:
            async with AsyncSession(self._engine, expire_on_commit=False) as session:
                return await session.run_sync(do)

        def visited() -> T:
            with Session(engine, expire_on_commit=False) as session:
                return do(session)

        # With its context: an audit line names the request that it is about.
        return await asyncio.get_running_loop().run_in_executor(threads, copy_context().run, visited)
