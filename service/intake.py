"""The way in for media: chunks of bytes from wherever come in, a counted, hashed and stored file goes out. Used by `admission.py`.

Bytes go straight to the store as they come; no more than PIECE_BYTES wait here. What breaks off on the way leaves nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.problems import UploadTooLarge
from service.settings import MIB, Settings
from service.storage import Storage

PIECE_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class Stored:
    """Media that the store has."""

    file: Path
    """The same bytes on this machine, as long as the context lasts."""
    size_bytes: int
    sha256: str


@asynccontextmanager
async def store_media(analysis_id: str, chunks: AsyncIterable[bytes], storage: Storage, settings: Settings) -> AsyncIterator[Stored]:
    """Store media as it comes.

    Raises:
        UploadTooLarge, DiskFull: the bytes do not fit, whatever was announced.
        StoreUnavailable: the store cannot keep them now.
        Exception: what `chunks` raises.
    """
    measure = _Measure(storage, settings)
    async with storage.receive(analysis_id, measure.through(chunks)) as file:
        yield Stored(file, measure.size, measure.digest.hexdigest())


def check_announced(size: int, storage: Storage, settings: Settings) -> None:
    """Refuse media that will not fit before any of it comes.

    Raises:
        UploadTooLarge, DiskFull: it will not.
    """
    if size > settings.max_upload_bytes:
        raise _too_large(settings, f"{size:,} bytes announced")
    storage.make_sure_of_room(size)


class _Measure:
    """Counts and hashes what goes through it."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage = storage
        self._settings = settings
        self.size = 0
        self.digest = hashlib.sha256()

    async def through(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The same bytes, in pieces that are worth a thread's while."""
        waiting = bytearray()
        async for chunk in chunks:
            self.size += len(chunk)
            if self.size > self._settings.max_upload_bytes:
                raise _too_large(self._settings, f"more than {self._settings.max_upload_bytes:,} bytes")
            waiting += chunk
            if len(waiting) >= PIECE_BYTES:
                piece, waiting = bytes(waiting), bytearray()
                await asyncio.to_thread(self._note, piece)
                yield piece
        if waiting:
            self._note(bytes(waiting))
            yield bytes(waiting)

    def _note(self, piece: bytes) -> None:
        self._storage.make_sure_of_room(len(piece))
        self.digest.update(piece)


def _too_large(settings: Settings, got: str) -> UploadTooLarge:
    return UploadTooLarge("The media is larger than this service takes.", expected=f"at most {settings.max_upload_bytes:,} bytes", got=got)
