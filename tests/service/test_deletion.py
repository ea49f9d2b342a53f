"""What is deleted is gone, whoever writes meanwhile; or whoever asked is told that it is not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.database import Database
from service.judging import Sitting
from service.settings import Settings
from service.storage import Storage
from tests.service.conftest import Serve, upload

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
