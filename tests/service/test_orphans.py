"""What no row knows is removed while a service runs, once it is a day old and the clock can be trusted; nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest

from service.ids import new_id
from service.settings import Settings
from service.steady_clock import SteadyClock
from service.storage import Storage
from tests.s3 import S3
from tests.service.conftest import Serve, upload
from tests.service.test_analyses import until
from tests.service.test_storage import in_bucket, put

DAY_S = 86_400.0


def eventually(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until_s, f"{what}: it never came"
        time.sleep(0.05)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that looks for orphans each time."""
    monkeypatch.setattr("service.replicas.SWEEP_S", 0.1)
    monkeypatch.setattr("service.replicas.ORPHANS_S", 0.0)


def days_ago(days: float) -> str:
    """An id of then."""
    return new_id(time.time_ns() - int(days * DAY_S * 1e9))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("kind", ["directory", "bucket"])
async def test_what_nobody_knows_goes_when_it_is_a_day_old(
    serve: Serve, settings: Settings, clip: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "bucket":
        settings = in_bucket(request.getfixturevalue("s3"), settings, monkeypatch)
    # Nothing is removed while it is written: what is that old, nobody writes any more.
    looking, remove = threading.Event(), Storage.remove_orphans
    looking.set()

    def when_written(
        storage: Storage, kept: Iterable[str], known: Iterable[str], *, only_old: bool = False, at_s: float | None = None
    ) -> list[str]:
        assert looking.wait(60)
        return remove(storage, kept, known, only_old=only_old, at_s=at_s)

    monkeypatch.setattr(Storage, "remove_orphans", when_written)
    with serve(settings) as client:
        path = upload(client, clip).headers["Location"]
        assert until(client, path, "succeeded", "failed")["status"] == "succeeded"
        beside = Storage.open(settings.model_copy(update={"replica": "beside"}))
        old, new = days_ago(1.01), days_ago(0.9)
        looking.clear()
        for name in (old, new, "not-ours"):
            await put(beside, name)
        looking.set()
        eventually(lambda: old not in beside.kept(), "the old one goes")
        time.sleep(1)
        assert sorted(beside.kept()) == sorted([new, "not-ours", path.rpartition("/")[2]])
        assert client.get(f"{path}/media").status_code == 200


@pytest.mark.usefixtures("often")
def test_an_upload_that_nobody_analysed_goes_when_it_is_a_day_old(
    serve: Serve, settings: Settings, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `POST /v1/uploads` says."""
    with serve(in_bucket(s3, settings, monkeypatch)) as client:
        with monkeypatch.context() as patched:
            patched.setattr("service.direct_uploads.new_id", lambda: days_ago(1.01))
            forgotten = client.post("/v1/uploads").json()
        fresh = client.post("/v1/uploads").json()
        for one in (fresh, forgotten):
            assert httpx.put(one["url"], content=b"media", timeout=60).status_code == 200
        eventually(lambda: not [name for name in s3.names() if forgotten["id"] in name], "it goes")
        time.sleep(1)
        assert [name for name in s3.names() if fresh["id"] in name]


@pytest.mark.usefixtures("often")
async def test_a_clock_that_was_just_set_removes_no_orphan(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    read, ahead, looked = time.time, [0.0], []

    class Looked(SteadyClock):
        @property
        def is_steady(self) -> bool:
            looked.append(super().is_steady)
            return looked[-1]

    monkeypatch.setattr(time, "time", lambda: read() + ahead[0])
    monkeypatch.setattr("service.replicas.SteadyClock", lambda: Looked(time.time))
    with serve(settings):
        beside = Storage.open(settings.model_copy(update={"replica": "beside"}))
        name = new_id()
        await put(beside, name)
        ahead[0] = 3 * DAY_S
        eventually(lambda: looked[-3:] == [False] * 3, "three looks after the step")
        assert beside.kept() == [name]


def test_it_is_looked_for_once_an_hour(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever sweeps; the rest of a sweep is done each time."""
    monkeypatch.setattr("service.replicas.SWEEP_S", 0.05)
    looks: list[bool] = []
    kept = Storage.kept

    def look(storage: Storage) -> list[str]:
        looks.append(True)
        return kept(storage)

    monkeypatch.setattr(Storage, "kept", look)
    with serve(settings):
        time.sleep(2)
        assert looks == [True], "at the start alone"
