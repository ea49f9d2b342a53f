"""The columns of timelines that somebody looks at: an analysis's id comes in, its columns go out, read once while they are looked at.

Made by `app.py`, asked by `evidence.py`, on the event loop. Columns that the store lacks, because the analysis is older than they are, are
made from its JSON and kept there for the next replica that is asked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import structlog

from service.problems import DiskFull, StoreUnavailable
from service.storage import Storage
from service.timeline_columns import Columns, columns_of, read_columns

MOST_BYTES: Final = 256 * 1024**2
"""Of all columns in memory, unless one timeline has more: four hours of four faces have 150 MB."""
KEPT_S: Final = 600.0
"""Then they are read anew: memory is given back where nobody looks, and what another replica deletes is gone here as well."""

log = structlog.get_logger()


class TimelineShelf:
    """Columns by analysis; who asks for some that are on their way waits with the others."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: OrderedDict[str, Columns] = OrderedDict()
        self._coming: dict[str, asyncio.Task[Columns]] = {}

    async def columns(self, analysis_id: str) -> Columns:
        """The columns of an analysis that has succeeded.

        Raises:
            UnknownEvidence, StoreUnavailable: its timeline is gone, or cannot be had now.
        """
        if (kept := self._kept.get(analysis_id)) is not None:
            self._kept.move_to_end(analysis_id)
            return kept
        if (task := self._coming.get(analysis_id)) is None:
            task = self._coming[analysis_id] = asyncio.create_task(self._read(analysis_id), name="columns")
        # Whoever goes away does not take them from those who wait as well.
        return await asyncio.shield(task)

    def drop(self, analysis_id: str) -> None:
        """Forget those of an analysis, which is deleted."""
        self._kept.pop(analysis_id, None)
        self._coming.pop(analysis_id, None)

    async def _read(self, analysis_id: str) -> Columns:
        try:
            columns = await self._stored(analysis_id) or await self._made(analysis_id)
        finally:
            wanted = self._coming.pop(analysis_id, None) is not None
        if wanted:
            self._keep(analysis_id, columns)
        return columns

    async def _stored(self, analysis_id: str) -> Columns | None:
        stored = await self._storage.read_columns(analysis_id)
        return None if stored is None else read_columns(stored)

    async def _made(self, analysis_id: str) -> Columns:
        content = await asyncio.to_thread(columns_of, await self._storage.read_timeline(analysis_id))
        try:
            await asyncio.to_thread(self._storage.write_columns, analysis_id, content)
        except (DiskFull, StoreUnavailable) as error:
            log.warning("columns_not_kept", analysis=analysis_id, reason=type(error).__name__)
        return read_columns(content)

    def _keep(self, analysis_id: str, columns: Columns) -> None:
        self._kept[analysis_id] = columns
        asyncio.get_running_loop().call_later(KEPT_S, self._expire, analysis_id, columns)
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)

    def _expire(self, analysis_id: str, columns: Columns) -> None:
        if self._kept.get(analysis_id) is columns:
            del self._kept[analysis_id]
