"""Where rows are kept: the settings come in, an engine on an up-to-date schema goes out. Opened by `database.py`.

SQLite in the data directory, or the PostgreSQL that `UNDERCURRENT_DATABASE_URL` names. `migrations/` runs on both, at start-up.
"""

from __future__ import annotations

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from service.problems import ServiceError
from service.settings import Settings, SettingsError

MIGRATION_LOCK = 0x756E6465
"""PostgreSQL's name for the turn to migrate: of replicas that start together, one does and the others find it done."""


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
    return url if settings.database_url is not None else URL.create("sqlite", database=str(settings.data_dir / "jobs.db"))


async def open_engine(url: URL) -> AsyncEngine:
    """Connect, and create or migrate the schema.

    Raises:
        DatabaseError: it cannot be reached, or was written by a newer version.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # The other end of a pooled connection may have restarted meanwhile; a file has no other end.
    # What goes into rows (a camera's password) is not for logs.
    engine = create_async_engine(url, pool_pre_ping=not sqlite, hide_parameters=True)
    if sqlite:
        event.listen(engine.sync_engine, "connect", _prepare)
    where = url.render_as_string(hide_password=True)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate)
    except CommandError as error:
        await engine.dispose()
        raise DatabaseError(f"{where} was written by another version.", expected="a schema this version knows", got=str(error)) from error
    except SQLAlchemyError as error:
        await engine.dispose()
        raise DatabaseError(f"{where} cannot be opened.", expected="a database that answers", got=_brief(error)) from error
    return engine


def _prepare(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    with as_file(files("service") / "migrations") as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _brief(error: SQLAlchemyError) -> str:
    """The driver's own words, without the statement."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
