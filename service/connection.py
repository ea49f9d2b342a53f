"""Where rows are kept: the settings come in, an engine on an up-to-date schema goes out. Opened by `database.py`.

SQLite in the data directory, or the PostgreSQL that `UNDERCURRENT_DATABASE_URL` names. `migrations/` runs on both, at start-up.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from service.problems import ServiceError
from service.settings import Settings, SettingsError

MIGRATION_LOCK = 0x756E6465
"""PostgreSQL's name for the turn to migrate: of replicas that start together, one does and the others find it done."""


CONNECT_S: Final = 3
TURN_S: Final = 0.05
PATIENCE_S: Final = 5.0
"""How long a statement waits for a SQLite that somebody else keeps locked."""
PATIENCE: Final = {
    "connect_timeout": str(CONNECT_S),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""How soon a PostgreSQL counts as away that says nothing (libpq's names); the URL may say otherwise. Without them a host that vanished is
waited for two minutes before a connection, and a quarter of an hour on one."""


IDLE_S: Final = 60.0
"""How long a replica that was paused in the middle of a transaction may keep others from the rows that it locks; DBOS has the same."""


class DatabaseError(ServiceError):
    """The database cannot be used."""

    slug = "bad-database"
    title = "The database cannot be used"
    status = 500


def database_url(settings: Settings) -> URL:
    """The database that these settings choose.

    Raises:
        SettingsError: it is no PostgreSQL URL. What came is not repeated: it may hold a password.
    """
    if settings.database_url is None:
        return URL.create("sqlite+aiosqlite", database=str(settings.data_dir / "undercurrent.db"))
    try:
        url = make_url(settings.database_url.get_secret_value())
    except (ArgumentError, ValueError):
        url = URL.create("nothing")
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingsError(
            "UNDERCURRENT_DATABASE_URL names no database that can be used.",
            expected="postgresql://user:password@host:port/name, or nothing for SQLite in the data directory",
            got=f"{url.get_backend_name()}://…",
        )
    return url.set(drivername="postgresql+psycopg")


def jobs_url(settings: Settings) -> URL:
    """Where work is kept: a file of its own beside the rows, or a schema of its own in the same PostgreSQL. SettingsError as above."""
    url = database_url(settings)
    if settings.database_url is None:
        return URL.create("sqlite", database=str(settings.data_dir / "jobs.db"))
    return url.update_query_dict(_patience(url))


async def open_engine(url: URL) -> AsyncEngine:
    """Connect, and create or migrate the schema.

    Raises:
        DatabaseError: it cannot be reached, or was written by a newer version.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # The other end of a pooled connection may have restarted meanwhile; a file has no other end.
    # What goes into rows (a camera's password) is not for logs.
    connect_args = {} if sqlite else _patience(url)
    engine = create_async_engine(url, pool_pre_ping=not sqlite, hide_parameters=True, connect_args=connect_args)
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare)
    else:
        _watch(engine.sync_engine)
    where = url.render_as_string(hide_password=True)
    try:
        async with _turn(url), engine.begin() as connection:
            await connection.run_sync(_migrate)
    except CommandError as error:
        await engine.dispose()
        raise DatabaseError(f"{where} was written by another version.", expected="a schema this version knows", got=str(error)) from error
    except SQLAlchemyError as error:
        await engine.dispose()
        raise DatabaseError(f"{where} cannot be opened.", expected="a database that answers", got=_brief(error)) from error
    return engine


def threaded_engine(url: URL, connections: int, *, changes: bool, patience_s: float = PATIENCE_S) -> Engine:
    """Another way to the same SQLite file, for so many threads; without `changes` it takes none. Waits so long where it is locked."""
    engine = create_engine(url.set(drivername="sqlite"), hide_parameters=True, pool_size=connections)
    event.listen(engine, "connect", _prepare)
    if not changes:
        event.listen(engine, "connect", _hold_still)
    if patience_s != PATIENCE_S:
        event.listen(engine, "connect", lambda connection, _record: _set(connection, f"busy_timeout = {1000 * patience_s:.0f}"))
    return engine


def jobs_engine(url: URL, connections: int) -> Engine | None:
    """A way to where work is kept, for so many at once, that whoever asked for it disposes of; None where that is SQLite, which needs none.

    Without it DBOS takes a server that only lets itself be read for a fault of the work, and ends it.
    """
    if url.get_backend_name() == "sqlite":
        return None
    url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True, hide_parameters=True)
    _watch(engine)
    return engine


def _watch(engine: Engine) -> None:
    event.listen(engine, "connect", _be_let_go)
    event.listen(engine, "handle_error", _as_absence, retval=True)


def _patience(url: URL) -> dict[str, str]:
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def _be_let_go(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    connection.autocommit = True  # or it would be undone with the first transaction
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {1000 * IDLE_S:.0f}")
    cursor.close()
    connection.autocommit = False


def _as_absence(context: ExceptionContext) -> BaseException | None:
    # psycopg counts them among its own faults; to whoever asks, the database was away.
    cause = context.original_exception
    if isinstance(cause, ReadOnlySqlTransaction):
        # A server that follows another, or whose disk is watched, stays as it is for connections that it has; a new one finds who writes.
        context.is_disconnect = True
    elif not isinstance(cause, IdleInTransactionSessionTimeout):
        return None
    return OperationalError(
        context.statement, context.parameters, cause, hide_parameters=True, connection_invalidated=context.is_disconnect
    )


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # NORMAL syncs no commit of a WAL: a power cut would take back what was said to be kept.
    _set(connection, "journal_mode = WAL", "synchronous = FULL", f"busy_timeout = {1000 * PATIENCE_S:.0f}", "foreign_keys = ON")


def _hold_still(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    _set(connection, "query_only = ON")


def _set(connection: DBAPIConnection, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@asynccontextmanager
async def _turn(url: URL) -> AsyncIterator[None]:
    """One process at a time makes a SQLite its own: it waits for nobody who turns its journal to a WAL. The lock goes with the process."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with ExitStack() as stack:
        try:
            directory = os.open(Path(url.database or "").parent, os.O_RDONLY)
            stack.callback(os.close, directory)
            # Asked again and again: a thread that waits for it could not be called off.
            while not _locked(directory):
                await asyncio.sleep(TURN_S)
        except OSError as error:
            raise DatabaseError(f"{url} cannot be opened.", expected="a directory of yours", got=error.strerror or str(error)) from error
        yield


def _locked(directory: int) -> bool:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    else:
        # The driver begins none for DDL: whoever was killed in between would leave half a schema, which nobody could open again.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    with as_file(files("service") / "migrations") as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _brief(error: SQLAlchemyError) -> str:
    """The driver's own words, without the statement."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
