"""Identifiers: the clock and randomness come in, a UUID that sorts by creation goes out (RFC 9562, version 7); made for each analysis."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_id(now_ns: int | None = None) -> str:
    """A version 7 UUID: 48 bits of milliseconds, 12 bits of the fraction of one (RFC 9562 section 6.2, method 3), 62 random bits."""
    now = time.time_ns() if now_ns is None else now_ns
    milliseconds, rest = divmod(now, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return str(UUID(int=(milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62) | secrets.randbits(62)))
