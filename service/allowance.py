"""How much one tenant may have here: what comes for it goes in, a place for it goes out, or a refusal. Asked by `admission.py`.

Rows are counted in the database, what has none yet in this process: of N replicas each may let in what comes to it at the same moment.
What gets its row just now may be counted twice, so at the very limit one may be refused that fits a moment later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.database import Database, Held
from service.problems import ServiceError
from service.settings import TenantTerms

RETRY_S: Final = 10


class TooManyUnfinished(ServiceError):
    slug = "too-many-unfinished"
    title = "The tenant has too many analyses that have not ended"
    status = 429

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again: how long those that wait will take nobody knows."""
        return {"Retry-After": str(RETRY_S)}


class TenantFull(ServiceError):
    """Not 507: it is not the service that lacks room, and nobody who runs it is to be woken."""

    slug = "tenant-full"
    title = "The tenant keeps as much media as it may"
    status = 403


class Coming:
    """One video on its way in.

    Args:
        allowance: what it counts against.
        tenant: whose it is.
        size_bytes: as announced, later as it came.
    """

    def __init__(self, allowance: Allowance, tenant: str, size_bytes: int) -> None:
        self._allowance, self._tenant = allowance, tenant
        self.size_bytes = size_bytes

    async def check(self) -> None:
        """Make sure that it may be let in.

        Raises:
            TooManyUnfinished, TenantFull: it may not.
        """
        await self._allowance.check(self._tenant)


class Allowance:
    """What all tenants have. Used on the event loop."""

    def __init__(self, terms: TenantTerms, database: Database) -> None:
        self._terms, self._database = terms, database
        self._coming: defaultdict[str, list[Coming]] = defaultdict(list)

    @contextmanager
    def coming(self, tenant: str, size_bytes: int) -> Iterator[Coming]:
        """A video on its way in, counted until it has its row or was refused."""
        one = Coming(self, tenant, size_bytes)
        self._coming[tenant].append(one)
        try:
            yield one
        finally:
            self._coming[tenant].remove(one)
            if not self._coming[tenant]:
                del self._coming[tenant]

    async def check(self, tenant: str) -> None:
        """Refuse if what has come and what is coming is too much."""
        # Before the rows are counted: what gets its row meanwhile counts at least once.
        coming, more = len(self._coming[tenant]), sum(one.size_bytes for one in self._coming[tenant])
        held = await self._database.held(tenant)
        if held.unfinished + coming > self._terms.max_unfinished:
            raise TooManyUnfinished(
                "Too many analyses of the tenant wait or run.",
                expected=f"at most {self._terms.max_unfinished:,} (UNDERCURRENT_TENANTS__MAX_UNFINISHED)",
                got="one more",
            )
        if held.size_bytes + more > self._terms.max_bytes:
            raise TenantFull(
                "The tenant keeps too much media; delete analyses that are no longer needed.",
                expected=f"at most {self._terms.max_bytes:,} bytes (UNDERCURRENT_TENANTS__MAX_BYTES)",
                got=f"{held.size_bytes:,} bytes kept, and more coming",
            )

    async def held(self, tenant: str) -> Held:
        """What has its rows."""
        return await self._database.held(tenant)
