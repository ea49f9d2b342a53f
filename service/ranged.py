"""Ranges: a reader of bytes and a Range header come in, a response that streams the wanted part goes out. Used by `evidence.py`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from fastapi.responses import Response, StreamingResponse

from service.problems import RangeNotSatisfiable

ONE_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


async def ranged(
    read: Callable[[int, int], AsyncIterator[bytes]], size: int, wanted: str | None, *, media_type: str, headers: Mapping[str, str]
) -> Response:
    """What `read(start, end)` gives of `size` bytes; its first piece is awaited, so that a store that is gone is still a problem.

    What is no single range is ignored, as RFC 9110 section 14.2 allows.

    Raises:
        RangeNotSatisfiable: the range begins behind the end.
        ServiceError: the bytes cannot be had now.
    """
    part = _part(wanted, size)
    start, end = part or (0, size)
    told = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if part is not None:
        told["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    pieces = read(start, end)
    first = await anext(pieces)

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(body(), 200 if part is None else 206, told, media_type)


def _part(wanted: str | None, size: int) -> tuple[int, int] | None:
    """The first byte of a range and the one after its last; None when all are wanted."""
    found = ONE_RANGE.fullmatch(wanted or "")
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    start, end = (int(first), int(last) + 1 if last else size) if first else (max(0, size - int(last)), size)
    if first and last and int(last) < start:
        return None
    if start >= size or end == 0:
        behind = f"byte {start:,}"
        raise RangeNotSatisfiable("The range begins behind the end.", expected=f"a byte below {size:,}", got=behind, size=size)
    return start, min(end, size)
