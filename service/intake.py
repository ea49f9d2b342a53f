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

from service.problems import ServiceError, UploadTooLarge
from service.settings import MIB, Settings
from service.storage import Storage

PIECE_BYTES: Final = MIB
PACE_BYTES: Final = 64 * 1024


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


def digest_of(file: Path) -> str:
    """The sha256 of media that came another way; for a thread."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def paced(chunks: AsyncIterable[bytes], settings: Settings, too_slow: type[ServiceError]) -> AsyncIterator[bytes]:
    """The same bytes from a sender that keeps sending; only time spent waiting for the sender counts.

    Raises:
        ServiceError: `too_slow`, when PACE_BYTES take longer than `upload_stall_s`, or everything longer than `upload_timeout_s`.
    """
    loop = asyncio.get_running_loop()
    source = aiter(chunks)
    left, total, brought = settings.upload_stall_s, settings.upload_timeout_s, 0
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(max(0.0, min(left, total))):
                chunk = await anext(source, None)
        except TimeoutError as error:
            if total < left:
                expected, got = f"all of it within {settings.upload_timeout_s:g} s", "only a part"
            else:
                expected, got = f"{PACE_BYTES:,} bytes, or the end, within {settings.upload_stall_s:g} s", f"{brought:,} bytes"
            raise too_slow("The media did not come in time.", expected=expected, got=got) from error
        if chunk is None:
            return
        waited = loop.time() - began
        left, total, brought = left - waited, total - waited, brought + len(chunk)
        if brought >= PACE_BYTES:
            left, brought = settings.upload_stall_s, 0
        if chunk:
            yield chunk


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
