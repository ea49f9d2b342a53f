"""Media as a caller has it: a file, anything that can be read, or an iterable comes in, pieces to send go out. Taken by `live.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

PIECE_BYTES: Final = 64 * 1024
Piece = bytes | tuple[bytes, float]
"""Bytes of a container; or a picture and when it is shown, in seconds."""


class Readable(Protocol):
    """A file, a pipe or a socket's file; `read` gives b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


Media = str | Path | Readable | Iterable[Piece]


def pieces(media: Media) -> Iterator[Piece]:
    """What `media` consists of; a pipe gives what it has, without waiting for more."""
    if isinstance(media, str | Path):
        with Path(media).open("rb") as file:
            yield from pieces(file)
    elif isinstance(media, Iterable) and not hasattr(media, "read"):
        yield from media
    else:
        read = getattr(media, "read1", None) or media.read
        while piece := read(PIECE_BYTES):
            yield piece


async def pieces_of(media: Media | AsyncIterable[Piece]) -> AsyncIterator[Piece]:
    """The same without holding up the event loop: what blocks does so in a thread, and is left there if the caller is cancelled."""
    if isinstance(media, AsyncIterable):
        async for piece in media:
            yield piece
        return
    blocking = pieces(media)

    while True:
        following = await asyncio.to_thread(next, blocking, None)
        if following is None:
            return
        yield following
