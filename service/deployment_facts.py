"""What can be looked up about this deployment: settings come in, Facts go out; nothing is changed, made or connected to but the database.

Made by `doctor.py` and `system.py`, judged by `deployment_findings.py`.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.connection import PATIENCE, database_url
from service.database import now
from service.key_store import KeyRow
from service.media_sandbox import MediaSandbox
from service.settings import Settings

Decoding = Literal["no child", "no answer", "child"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the settings do not say. None: it could not be found out, or is not there yet."""

    is_root: bool = False
    data_dir_mode: int | None = None
    """Permission bits of the data directory."""
    free_bytes: int | None = None
    store_endpoint: str | None = None
    """Where the S3 store is; None: where the provider has it, over TLS."""
    store_allows_http: bool = False
    sslmode: str = "prefer"
    """How PostgreSQL is connected to, by libpq's own default if nobody says."""
    decoding: Decoding = "child"
    network_gone: bool = True
    """Whether a decode child has none."""
    files_gone: bool = True
    endless_admin_keys: tuple[str, ...] | None = ()
    """The ids of admin keys that can be used for ever."""


def decode_child(sandbox: MediaSandbox) -> tuple[Decoding, bool, bool]:
    """Whether untrusted media can be kept away from this process, and what its child is without: network, files."""
    if not sandbox.supported():
        return "no child", False, False
    started = sandbox.isolation()
    return ("no answer", False, False) if started is None else ("child", started.network_gone, started.files_gone)


def look_up(
    settings: Settings, decoding: Decoding, *, network_gone: bool, files_gone: bool, environ: Mapping[str, str] = os.environ
) -> Facts:
    """Facts about this process and this machine; whoever runs it should be whoever serves."""
    directory = settings.data_dir
    return Facts(
        is_root=os.geteuid() == 0,
        data_dir_mode=stat.S_IMODE(directory.stat().st_mode) if directory.is_dir() else None,
        free_bytes=_free_bytes(directory),
        store_endpoint=_first(environ, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        store_allows_http=environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
        sslmode=_sslmode(settings, environ),
        decoding=decoding,
        network_gone=network_gone,
        files_gone=files_gone,
        endless_admin_keys=_endless_admin_keys(settings),
    )


def _first(environ: Mapping[str, str], *names: str) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _free_bytes(directory: Path) -> int | None:
    there = next((one for one in (directory, *directory.parents) if one.is_dir()), None)
    return None if there is None else shutil.disk_usage(there).free


def _sslmode(settings: Settings, environ: Mapping[str, str]) -> str:
    given = None if settings.database_url is None else database_url(settings).query.get("sslmode")
    return given if isinstance(given, str) else environ.get("PGSSLMODE") or "prefer"


def _endless_admin_keys(settings: Settings) -> tuple[str, ...] | None:
    """Read only: a doctor makes no database, and brings none up to date."""
    if settings.database_url is None and not (settings.data_dir / "undercurrent.db").is_file():
        return ()
    engine = _engine(settings)
    endless = select(KeyRow).where(KeyRow.revoked_at.is_(None), KeyRow.parent.is_(None), KeyRow.expires_at.is_(None))
    try:
        with Session(engine) as session:
            return tuple(
                row.id for row in session.scalars(endless.where(KeyRow.created_at <= now()).order_by(KeyRow.id)) if "admin" in row.granted
            )
    except SQLAlchemyError:
        return None
    finally:
        engine.dispose()


def _engine(settings: Settings) -> Engine:
    if settings.database_url is not None:
        return create_engine(database_url(settings), connect_args=dict(PATIENCE), hide_parameters=True)
    where = (settings.data_dir / "undercurrent.db").absolute().as_uri()
    return create_engine(f"sqlite:///{where}?mode=ro&uri=true", hide_parameters=True)
