"""JSON that has one form: a value comes in, its only bytes go out; bytes come in, and are refused if a value has others.

Keys sorted, no blanks, UTF-8, floats as the shortest text that reads back as the same number (Python's `repr`), no NaN or infinity. Since
the form is unique, what differs from it (a key twice, a number that overflows) cannot mean one thing to one reader and another to the next.
Used by `evidence_pack.py` and `pack_check.py`.
"""

from __future__ import annotations

import json
from typing import Final

from service.pack_container import PackRefused

MOST_BYTES: Final = 512 * 1024**2
MOST_VALUES: Final = 40_000_000
"""Some 3 GB as Python's objects; ten faces over four hours at 12 looks a second are 35 million."""


def canonical(value: object) -> bytes:
    """The only form of a JSON value.

    Raises:
        ValueError: it holds what no JSON can.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parsed(name: str, content: bytes) -> object:
    """The value of a file of a pack.

    Raises:
        PackRefused: it is too large, no JSON, or not in its only form.
    """
    values = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    if len(content) > MOST_BYTES or values > MOST_VALUES:
        expected = f"at most {MOST_BYTES:,} bytes and {MOST_VALUES:,} values"
        raise PackRefused(
            f"{name} is too large to be looked into.", expected=expected, got=f"{len(content):,} bytes, some {values:,} values"
        )
    try:
        value: object = json.loads(content)
        again = canonical(value)
    except (ValueError, RecursionError) as error:
        raise PackRefused(f"{name} cannot be read.", expected="JSON", got=f"{type(error).__name__}: {str(error)[:120]}") from error
    if again != content:
        raise PackRefused(
            f"{name} is not in the form that packs have.", expected="keys sorted and once, no blanks, finite numbers", got="another"
        )
    return value
