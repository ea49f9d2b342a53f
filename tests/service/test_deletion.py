"""What is deleted is gone, whoever writes meanwhile; or whoever asked is told that it is not."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.database import Database
from service.judging import Sitting
from service.settings import Settings
from service.storage import Storage
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.test_storage import put

LONG_S = 120


def eventually(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < until_s, f"{what}: it never came"
        time.sleep(0.02)


class Late:
    """Evidence that is written when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go, self.written = threading.Event(), threading.Event(), threading.Event()
        write = Storage.write_evidence

        def wait_and_write(storage: Storage, *what: object) -> None:
            self.reached.set()
            assert self.go.wait(LONG_S)
            write(storage, *what)  # type: ignore[arg-type]
            self.written.set()

        monkeypatch.setattr(Storage, "write_evidence", wait_and_write)


def test_evidence_that_comes_after_a_deletion_goes_too(
    serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a replica that hangs in a write, which nobody waits for for ever."""
    monkeypatch.setattr("service.analyses.STOP_TIMEOUT_S", 0.1)
    late = Late(monkeypatch)
    with serve(settings) as client:
        path = upload(client, clip).headers["Location"]
        assert late.reached.wait(LONG_S)
        assert client.delete(path).status_code == 204
        assert list((settings.data_dir / "analyses").iterdir()) == []
        late.go.set()
        assert late.written.wait(LONG_S)
        eventually(lambda: not list((settings.data_dir / "analyses").iterdir()), "nothing left of it")


def test_evidence_that_comes_in_the_middle_of_a_deletion_goes_too(
    serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its files, before its row: whoever wrote finds the row, and leaves the files to whoever deletes it."""
    monkeypatch.setattr("service.analyses.STOP_TIMEOUT_S", 0.1)
    late, left = Late(monkeypatch), threading.Event()
    remove, let_go = Database.remove, Sitting.__exit__

    async def once_it_is_written(database: Database, analysis_id: str) -> None:
        late.go.set()
        assert await asyncio.to_thread(left.wait, LONG_S)
        await remove(database, analysis_id)

    def leave(sitting: Sitting, *why: object) -> None:
        let_go(sitting, *why)
        left.set()

    monkeypatch.setattr(Database, "remove", once_it_is_written)
    monkeypatch.setattr(Sitting, "__exit__", leave)
    with serve(settings) as client:
        path = upload(client, clip).headers["Location"]
        assert late.reached.wait(LONG_S)
        assert client.delete(path).status_code == 204
        assert late.written.is_set()
        assert list((settings.data_dir / "analyses").iterdir()) == []


def held(monkeypatch: pytest.MonkeyPatch, number: int, name: str) -> None:
    """Let nobody remove files of that name."""
    unlink = os.unlink

    def refuse(path: str | Path, **where: int) -> None:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        unlink(path, **where)

    monkeypatch.setattr(os, "unlink", refuse)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY])
def test_what_cannot_be_removed_is_said_and_can_be_asked_for_again(
    serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with serve(settings) as client:
        path = upload(client, clip, wait_s=60).headers["Location"]
        with monkeypatch.context() as patched:
            held(patched, number, "media")
            refused = client.delete(path)
            assert_problem(refused, 503, "store-unavailable")
            assert refused.headers["Retry-After"] and errno.errorcode[number] in refused.text
            assert client.get(path).status_code == 200
        assert client.delete(path).status_code == 204
        assert list((settings.data_dir / "analyses").iterdir()) == []


async def test_whoever_removes_it_too_or_still_writes_is_no_fault(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(settings)
    for name in ("a", "b"):
        await put(storage, name)
        storage.write_bookmark(name, b"bookmark")
    rmdir, unlink = os.rmdir, os.unlink
    times: list[str | Path] = []

    def written_meanwhile(path: str | Path, **where: int) -> None:
        if not times:
            (settings.data_dir / "analyses" / "a" / "bookmarks" / "late").write_bytes(b"x")
        times.append(path)
        rmdir(path, **where)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", written_meanwhile)
        storage.remove("a")
    assert len(times) > 2 and storage.kept() == ["b"]

    def gone_meanwhile(path: str | Path, **where: int) -> None:
        unlink(path, **where)
        if Path(path).name == "media":
            raise FileNotFoundError(errno.ENOENT, "somebody was faster", str(path))

    monkeypatch.setattr(os, "unlink", gone_meanwhile)
    storage.remove("b")
    assert storage.kept() == []


async def test_one_that_cannot_be_removed_keeps_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(settings)
    await put(storage, "a")
    storage.write_bookmark("b", b"bookmark")
    held(monkeypatch, errno.EACCES, "media")
    assert storage.remove_orphans(storage.kept(), ()) == ["analyses/b"]
    assert storage.kept() == ["a"]
