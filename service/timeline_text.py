"""A timeline's JSON in pieces: the text that `storage.py` keeps comes in, its head and some thousands of rows at a time go out.

Parsing holds the interpreter to its end: read at once, the hundreds of megabytes of a long video keep every other thread, the event loop's
too, waiting for seconds. Used by `timeline_columns.py`, and by `evidence.py` and `packs.py` for whoever wants all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import TypeAdapter

from service.schemas import Timeline, TimelineRow

PIECE: Final = 4_000_000
"""Bytes of JSON that are parsed at one time."""
_ROWS: Final = b'"rows":['
_BETWEEN: Final = b"},{"
_LIST: Final = TypeAdapter(list[TimelineRow])


def head(body: bytes) -> bytes:
    """The same timeline without any row."""
    return body[: body.index(_ROWS) + len(_ROWS)] + b"]}"


def pieces(body: bytes) -> Iterator[bytes]:
    """Its rows, as lists of them. No string in a row can hold what stands between two: they are codes of ours."""
    begin, end = body.index(_ROWS) + len(_ROWS), body.rindex(b"]")
    while begin < end:
        cut = body.find(_BETWEEN, min(begin + PIECE, end), end)
        until = end if cut < 0 else cut + 1
        yield b"[" + body[begin:until] + b"]"
        begin = until + 1


def read_timeline(body: bytes) -> Timeline:
    """What `Timeline.model_dump_json()` was made of; for a thread."""
    rows = [row for piece in pieces(body) for row in _LIST.validate_json(piece)]
    return Timeline.model_validate_json(head(body)).model_copy(update={"rows": rows})
