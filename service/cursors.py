"""Keyset cursors: the id of the last row of a page comes in, a word for `?cursor=` goes out, and back. Used by every list under `/v1`."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from service.problems import BadCursor


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
