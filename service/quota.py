"""How much one key may ask for: its requests come in, a place or a refusal with a time goes out. Asked by `auth.py` for each request.

Counted in this process: of N replicas each gives its own share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.problems import ServiceError
from service.settings import KeyTerms

SOON_S = 1.0
"""When a place may be free: nobody knows how long those that have one will take."""


class TooManyRequests(ServiceError):
    slug = "too-many-requests"
    title = "The key asks for too much"
    status = 429

    def __init__(self, detail: str, *, expected: str, got: str, retry_after_s: float = SOON_S) -> None:
        super().__init__(detail, expected=expected, got=got)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again."""
        return {"Retry-After": str(math.ceil(self.retry_after_s))}


@dataclass(slots=True)
class _Used:
    left: float
    """Requests that may come at once; grows to a minute's worth."""
    at: float
    under_way: int = 0


class Quota:
    """The requests of all keys. Used on the event loop.

    Args:
        terms: what each key may ask for.
        now: the monotonic clock, in seconds.
    """

    def __init__(self, terms: KeyTerms, now: Callable[[], float] = time.monotonic) -> None:
        self._terms, self._now = terms, now
        self._used: dict[str, _Used] = {}

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """A request of this key, as long as it takes; an event stream or a WebSocket takes long.

        Raises:
            TooManyRequests: it has as many under way as it may, or asked too often.
        """
        terms, now = self._terms, self._now()
        used = self._used.setdefault(key_id, _Used(terms.per_minute, now))
        used.left = min(terms.per_minute, used.left + (now - used.at) * terms.per_minute / 60)
        used.at = now
        if used.under_way >= terms.at_once:
            most = f"at most {terms.at_once} (UNDERCURRENT_KEYS__AT_ONCE)"
            raise TooManyRequests("The key has too many requests under way.", expected=most, got="one more")
        if used.left < 1:
            most = f"at most {terms.per_minute} a minute (UNDERCURRENT_KEYS__PER_MINUTE)"
            wait_s = (1 - used.left) * 60 / terms.per_minute
            raise TooManyRequests("The key asks too often.", expected=most, got="one more", retry_after_s=wait_s)
        used.left -= 1
        used.under_way += 1
        try:
            yield
        finally:
            used.under_way -= 1
