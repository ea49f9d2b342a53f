"""`undercurrent keys`: names and scopes come in, keys of the service's database go out. Works while the service runs. Used by `cli.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from service.key_store import KeyRow, KeyStore

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option(help="As the service's (UNDERCURRENT_DATA_DIR).")]
SCOPE_NAMES = "analyses:read, analyses:write, streams, feeds, webhooks, reviews, reviews:lead, admin"

keys_app = typer.Typer(help="API keys: who may use the service, and for what.", no_args_is_help=True)


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.", metavar="NAME")],
    scope: Annotated[list[str], typer.Option(help=f"One of {SCOPE_NAMES}; may be given several times.")],
    tenant: Annotated[str, typer.Option(help="Whose analyses and streams it sees.")] = "default",
    days: Annotated[float | None, typer.Option(min=0, help="After which it expires.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key. Its secret is printed once, and kept nowhere."""
    from service.database import now
    from service.key_store import SCOPES

    known = {str(one): one for one in SCOPES}
    if unknown := sorted(set(scope) - set(known)):
        raise typer.BadParameter(f"--scope is one of {SCOPE_NAMES}; got {', '.join(unknown)}")
    if not 1 <= len(name) <= 100 or not 1 <= len(tenant) <= 64:
        raise typer.BadParameter("NAME has 1 to 100 characters, --tenant 1 to 64")
    expires_at = None if days is None else now() + timedelta(days=days)
    made = _with_keys(data_dir, lambda keys: keys.create(name, [known[one] for one in scope], tenant=tenant, expires_at=expires_at))
    typer.echo(made.secret)


@keys_app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """Every key, one a line; no secrets, which nobody has."""
    for row in _with_keys(data_dir, lambda keys: keys.all()):
        typer.echo("  ".join((row.id, row.tenant, _state(row), row.scopes.replace(" ", ","), row.name)))


@keys_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The part between the first two underscores.", metavar="ID")], data_dir: DataDir = None
) -> None:
    """End a key, at once and for good."""
    # Whoever can do this can make another.
    if not _with_keys(data_dir, lambda keys: keys.revoke(key_id, last_admin=True)):
        raise typer.BadParameter(f"no key that could be used has the id {key_id}")


def _state(row: KeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "for ever" if row.expires_at is None else f"{'expired' if row.why_not else 'until'} {row.expires_at:%Y-%m-%d}"


def _with_keys(data_dir: Path | None, use: Callable[[KeyStore], Awaitable[T]]) -> T:
    from service.connection import database_url
    from service.database import Database
    from service.key_store import KeyStore
    from service.settings import read_settings

    settings = read_settings(data_dir=data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def used() -> T:
        database = await Database.open(database_url(settings))
        try:
            return await use(KeyStore(database))
        finally:
            await database.close()

    return asyncio.run(used())
