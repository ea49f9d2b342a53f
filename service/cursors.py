"""Keyset cursors: the id of the last row of a page, or its place in another order, comes in, a word for `?cursor=` goes out, and back.

Used by every list under `/v1`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from service.problems import BadCursor

_NO_TEXT: Final = re.compile(r"[\0\ud800-\udfff]")
Key = str | int | float
"""What rows are put in order by."""


def write_cursor(row_id: str) -> str:
    """The cursor of the page after this row."""
    return base64.urlsafe_b64encode(UUID(row_id).bytes).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """The id that `cursor` was made of.

    Raises:
        BadCursor: it was made by nobody here.
    """
    try:
        return str(UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    except (ValueError, binascii.Error) as error:
        raise BadCursor("The cursor is damaged.", expected="`next` of an earlier page, unchanged", got=cursor) from error


def write_place(order: str, keys: Sequence[Key]) -> str:
    """The cursor of the page after the row that stands at `keys` in the order of that name."""
    return base64.urlsafe_b64encode(json.dumps([order, *keys]).encode()).decode().rstrip("=")


def read_place(cursor: str, order: str, kinds: Sequence[type[Key]]) -> list[Key]:
    """The keys that `cursor` was made of, of these kinds.

    Raises:
        BadCursor: it was made by nobody here, or for another order.
    """
    try:
        named: object
        keys: list[Key]
        named, *keys = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if named != order or [type(key) for key in keys] != list(kinds) or not all(_fits(key) for key in keys):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise BadCursor("The cursor is damaged.", expected="`next` of an earlier page of the same order, unchanged", got=cursor) from error
    return keys


def _fits(key: Key) -> bool:
    """Whether both databases can compare a column with it: what JSON can say is more than UTF-8 can, and PostgreSQL takes no NUL."""
    return _NO_TEXT.search(key) is None if isinstance(key, str) else -(2**31) < key < 2**31
