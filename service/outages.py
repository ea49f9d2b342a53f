"""The database's absence: whatever a driver raises while it is away comes in, a 503 problem with a time to ask again goes out.

Installed by `app.py`; `judging.py`, `jobs.py` and `alert_notes.py` wait for it to come back. What contradicts the rows is no absence, and
stays a fault.
"""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from service.problems import ServiceError, problem_of, problem_response

AWAY: Final = (OperationalError, InterfaceError, TimeoutError)
"""No connection, a lock that nobody lets go of, a disk that is full or cannot be read, or more who wait than there are connections."""

log = structlog.get_logger()


class DatabaseUnavailable(ServiceError):
    slug = "database-unavailable"
    title = "The database cannot be used now"
    status = 503

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again."""
        return {"Retry-After": "5"}


def brief(error: Exception) -> str:
    """What the driver says, for the log: without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0][:300]}"


def report(event: str, error: Exception, **facts: object) -> None:
    """Log that something could not be done. While the database is away that is a line: many who try again would tell little else, and
    a traceback of each takes long to write."""
    if isinstance(error, AWAY):
        log.warning(event, reason=brief(error), **facts)
    else:
        log.error(event, exc_info=error, **facts)


def install(app: FastAPI) -> None:
    """Make every one of them a problem."""
    for kind in AWAY:
        app.add_exception_handler(kind, _unavailable)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    # What the driver says names hosts and files: it is for the log.
    log.warning("database_away", reason=brief(error))
    cause = getattr(error, "orig", None) or error
    refusal = DatabaseUnavailable(
        "The rows cannot be read or written now; nothing that was accepted is lost.",
        expected="a database that answers",
        got=type(cause).__name__,
    )
    problem = problem_of(refusal, instance=request.url.path, request_id=request.scope.get("request_id"))
    return problem_response(problem, refusal.headers)
