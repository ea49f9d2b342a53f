"""The record of who did what as a table: pages of it come in, lines of CSV go out as they are read, safe to open in a spreadsheet.

Made by `audit.py` for `GET /v1/audit?format=csv`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final

from service.audit_wire import AuditOut

COLUMNS: Final = ("at", "name", "key_id", "action", "subject", "request_id", "id")
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a cell instead of showing it (OWASP, CSV injection)."""

NextPage = Callable[[str | None], Awaitable[Sequence[AuditOut]]]
"""The entries from before the one with that id; none at the end."""


async def audit_csv(page_before: NextPage) -> AsyncIterator[str]:
    """A line of names, then one for each entry; a page is in memory at a time."""
    yield _lines([COLUMNS])
    last: str | None = None
    while entries := await page_before(last):
        yield _lines([_cell(told[column]) for column in COLUMNS] for told in (entry.model_dump(mode="json") for entry in entries))
        last = entries[-1].id


def _cell(value: str | None) -> str:
    text = value or ""
    return f"'{text}" if text.startswith(FORMULA) else text


def _lines(rows: Iterable[Sequence[str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()
