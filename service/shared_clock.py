"""The time by which replicas share things out: a session comes in, an expression for its statements goes out. Used by whatever is a lease.

Machines disagree about the time, by hours when one of them is set wrong. A lease that one writes and another judges is by one clock: that
of the PostgreSQL that both use. SQLite has none of its own, and whoever uses it is on one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, DateTime, Interval, func, literal, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import UtcDateTime, now

NO_WAIT: Final = timedelta()


def shared_now(
    session: AsyncSession, later: timedelta = NO_WAIT, *, clock: Callable[[], datetime] | None = None
) -> ColumnElement[datetime]:
    """The time when the transaction of `session` began, or so much `later`.

    Args:
        clock: another one, for whoever chooses the time.
    """
    if clock is None and session.get_bind().dialect.name == "postgresql":
        # Not clock_timestamp(): with it no index would lead to what is due.
        return type_coerce(func.timezone("UTC", func.now(), type_=DateTime()) + literal(later, Interval()), UtcDateTime)
    return literal((clock or now)() + later, UtcDateTime())
