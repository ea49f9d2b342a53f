"""What was accepted outlives a power cut: files and their folders are on the disk before a row speaks of them, and so is every commit."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from service.connection import database_url
from service.database import Database
from service.durability import sync
from service.problems import DiskFull, StoreUnavailable
from service.settings import Settings
from service.storage import Storage
from tests.service.conftest import Serve, upload
from tests.service.test_storage import pieces, put

FULL = 2


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done one after the other: a path when it is synced, a statement with what it writes when it is made."""
    happened: list[str] = []
    fsync = os.fsync

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        happened.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def made(_c: object, _u: object, statement: str, values: object, _x: object, _m: bool) -> None:
        happened.append(f"{statement} {values}")

    monkeypatch.setattr(os, "fsync", synced)
    event.listen(Engine, "before_cursor_execute", made)
    yield happened
    event.remove(Engine, "before_cursor_execute", made)


async def test_every_connection_that_writes_syncs_what_it_commits(tmp_path: Path) -> None:
    database = await Database.open(database_url(Settings(data_dir=tmp_path)))
    pragma = text("PRAGMA synchronous")
    try:
        assert await database.write(lambda session: session.scalar(pragma)) == FULL
        async with database.sessions() as session:
            assert await session.scalar(pragma) == FULL
    finally:
        await database.close()


def test_files_are_on_the_disk_before_their_row(serve: Serve, settings: Settings, clip: Path, done: list[str]) -> None:
    with serve(settings) as client:
        answer = upload(client, clip, wait_s=60)
        assert answer.json()["status"] == "succeeded", answer.text
    folder = settings.data_dir / "analyses" / answer.json()["id"]
    row = next(n for n, what in enumerate(done) if what.startswith("INSERT INTO analyses "))
    ended = next(n for n, what in enumerate(done) if n > row and what.startswith("UPDATE analyses ") and "'succeeded'" in what)
    kept = done[:row]
    for parent in (folder, folder.parent, settings.data_dir):
        assert str(folder / "media") in kept and str(parent) in kept[kept.index(str(folder / "media")) :]
    evidence = sorted(str(file) for file in (folder / "evidence").iterdir())
    assert len(evidence) > 3 and set(evidence) <= set(done[row:ended])
    last = max(done.index(file) for file in evidence)
    assert {str(folder / "evidence"), str(folder)} <= set(done[last:ended])


@pytest.mark.parametrize(("number", "becomes"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull)])
async def test_a_disk_that_does_not_sync_has_not_taken_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int, becomes: type[Exception]
) -> None:
    storage = Storage.open(settings)

    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(becomes):
        async with storage.receive("a", pieces(b"media")):
            pytest.fail("it was taken")
    with pytest.raises(becomes):
        storage.write_bookmark("a", b"bookmark")


async def test_where_folders_cannot_be_synced_files_are(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, synced = Storage.open(settings), []

    def only_files(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        synced.append(path.name)

    monkeypatch.setattr(os, "fsync", only_files)
    await put(storage, "a")
    assert synced == ["media"]


def test_what_was_removed_meanwhile_needs_no_disk(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    sync(tmp_path, ["there", "gone", "gone/too"])
