"""`undercurrent signing-key show | rotate`: the keys of evidence packs; PEM goes out. Works while the service runs. Used by `cli.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from service.signing_key_store import SigningKeys

T = TypeVar("T")
DataDir = Annotated[Path | None, typer.Option(help="As the service's (UNDERCURRENT_DATA_DIR).")]

signing_key_app = typer.Typer(help="The key that signs evidence packs.", no_args_is_help=True)


@signing_key_app.command()
def show(every: Annotated[bool, typer.Option("--all", help="Those that signed before, too.")] = False, data_dir: DataDir = None) -> None:
    """Print the public key, for `undercurrent verify --key`."""

    async def shown(keys: SigningKeys) -> list[str]:
        now = (await keys.signer()).public
        return [row.public_pem for row in await keys.all()] if every else [now.pem]

    typer.echo("".join(with_signing_keys(data_dir, shown)), nl=False)


@signing_key_app.command()
def rotate(data_dir: DataDir = None) -> None:
    """Sign with a new key from now on; the last one's private half is erased, and its packs stay valid. Prints the new public key."""

    async def rotated(keys: SigningKeys) -> str:
        return (await keys.rotate()).public.pem

    typer.echo(with_signing_keys(data_dir, rotated), nl=False)


def with_signing_keys(data_dir: Path | None, use: Callable[[SigningKeys], Awaitable[T]]) -> T:
    """Use the keys of the database that the settings name."""
    from service.connection import database_url
    from service.database import Database
    from service.settings import read_settings
    from service.signing_key_store import SigningKeys, key_file

    settings = read_settings(data_dir=data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def used() -> T:
        database = await Database.open(database_url(settings))
        try:
            return await use(SigningKeys(database, key_file(settings.signing_key)))
        finally:
            await database.close()

    return asyncio.run(used())
