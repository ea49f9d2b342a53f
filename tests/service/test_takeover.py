"""Whoever dies, work is done once and to its end: killed, paused, drained and crowded-out replicas, on SQLite and on PostgreSQL."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
import pytest

from pipelines.analysis import Model, analyse
from service.replicas import Watch
from service.schemas import timeline
from tests.clips import face_clip
from tests.postgres import Cluster
from tests.s3 import S3
from tests.service.conftest import upload
from tests.service.processes import Serving, serving
from tests.service.test_analyses import until

T = TypeVar("T")
WAIT_S = 120.0
QUICK = {"segment_s": 1.0, "replica_lost_s": 8.0}
"""Short, but longer than a machine that does too much at once keeps a replica from showing that it lives."""


@pytest.fixture(scope="session")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be interrupted, whatever the machine: 80 looks at 4 a second."""
    return face_clip(tmp_path_factory.mktemp("clips") / "minute.mp4", seconds=20.0, fps=8.0)


def wait_for(what: Callable[[], T]) -> T:
    """Ask until it is true."""
    end = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def bookmarks(data: Path, path: str) -> int:
    """How many segments of an analysis are kept."""
    return len([one for one in (data / "analyses" / path.rpartition("/")[2]).glob("bookmarks/*") if "#" not in one.name])


def told(service: Serving, event: str) -> list[dict[str, Any]]:
    return [line for line in service.log if line["event"] == event]


def exactly_judged(client: httpx.Client, path: str, source: Path, model: Model) -> None:
    """It succeeded, and says to the last bit what an analysis says that nobody interrupted."""
    assert until(client, path, "succeeded", "failed")["status"] == "succeeded"
    whole = timeline(analyse(source, model, hz=4.0)).model_dump(mode="json")
    assert client.get(f"{path}/timeline").json() == whole


@pytest.fixture
def pair(postgres: Cluster, tmp_path: Path) -> Iterator[tuple[Serving, Serving, str, Path]]:
    """Two replicas, a and b, the URL of their database, and the data directory that they share."""
    url, data = postgres.create(), tmp_path / "data"
    with ExitStack() as stack:
        services = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            services.append(stack.enter_context(serving(tmp_path / name, data_dir=data, replica=name, database_url=url, **QUICK)))
        yield services[0], services[1], url, data


def owner(url: str, path: str) -> str:
    """Which replica took an analysis up last."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT replica FROM analyses WHERE id = %s", [path.rpartition("/")[2]]).fetchone()
    assert row is not None
    return str(row[0])


def test_a_killed_service_goes_on_from_its_last_segment(tmp_path: Path, minute: Path, model: Model) -> None:
    with serving(tmp_path, **QUICK) as first:
        path = upload(first.client, minute).headers["Location"]
        wait_for(lambda: bookmarks(tmp_path / "data", path) >= 2)
        first.process.kill()
        first.process.wait()
    with serving(tmp_path, **QUICK) as second:
        exactly_judged(second.client, path, minute, model)
        (resumed,) = told(second, "analysis_resumed")
        assert resumed["segments"] >= 1 and resumed["frames"] >= 4
        assert len(told(second, "analysis_succeeded")) == 1
        assert bookmarks(tmp_path / "data", path) == 0


def test_a_drained_service_keeps_what_it_judged_of_a_segment(tmp_path: Path, minute: Path, model: Model) -> None:
    with serving(tmp_path, segment_s=3600) as first:
        path = upload(first.client, minute).headers["Location"]
        wait_for(lambda: (first.client.get(path).json()["progress"] or {"frames_analysed": 0})["frames_analysed"] >= 5)
        assert first.ended(signal.SIGTERM, WAIT_S) == -signal.SIGTERM
    assert bookmarks(tmp_path / "data", path) == 1
    with serving(tmp_path) as second:
        exactly_judged(second.client, path, minute, model)
        (resumed,) = told(second, "analysis_resumed")
        assert resumed["frames"] >= 5


def test_what_a_replica_that_died_for_good_had_begun_ends_on_another(
    pair: tuple[Serving, Serving, str, Path], minute: Path, model: Model
) -> None:
    a, b, url, data = pair
    path = upload(a.client, minute).headers["Location"]
    wait_for(lambda: bookmarks(data, path) >= 2)
    name = owner(url, path)
    dead, alive = (a, b) if name == "a" else (b, a)
    dead.process.kill()
    exactly_judged(alive.client, path, minute, model)
    (lost,) = wait_for(lambda: told(alive, "replica_lost"))
    assert (lost["replica"], lost["handed_over"]) == (name, 1)
    assert told(alive, "analysis_resumed")[0]["segments"] >= 1
    assert len(told(alive, "analysis_succeeded")) == 1 and not told(dead, "analysis_succeeded")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM replicas").fetchall() == [(owner(url, path),)]


def test_it_ends_on_another_that_shares_nothing_but_the_database_and_a_bucket(
    postgres: Cluster, s3: S3, tmp_path: Path, minute: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    shared = {"database_url": postgres.create(), "store_url": "s3://media", **QUICK}
    with ExitStack() as stack:
        services = {}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            services[name] = stack.enter_context(serving(tmp_path / name, replica=name, **shared))
        path = upload(services["a"].client, minute).headers["Location"]
        wait_for(lambda: len([name for name in s3.names() if "/bookmarks/" in name]) >= 2)
        dead = services.pop(owner(str(shared["database_url"]), path))
        dead.process.kill()
        (alive,) = services.values()
        exactly_judged(alive.client, path, minute, model)
        assert told(alive, "analysis_resumed")[0]["segments"] >= 1
        wait_for(lambda: not [name for name in s3.names() if "/bookmarks/" in name])


def test_a_replica_that_only_slept_ends_nothing_twice(pair: tuple[Serving, Serving, str, Path], minute: Path, model: Model) -> None:
    a, b, url, data = pair
    path = upload(a.client, minute).headers["Location"]
    wait_for(lambda: bookmarks(data, path) >= 2)
    asleep, awake = (a, b) if owner(url, path) == "a" else (b, a)
    asleep.process.send_signal(signal.SIGSTOP)
    exactly_judged(awake.client, path, minute, model)
    ended = awake.client.get(path).json()
    asleep.process.send_signal(signal.SIGCONT)
    # It is there again, and free: two that are begun at once need both.
    again = [upload(asleep.client, minute).headers["Location"] for _ in range(2)]
    for one in again:
        assert until(asleep.client, one, "succeeded", "failed")["status"] == "succeeded"
    assert awake.client.get(path).json() == ended
    assert not [line for line in told(asleep, "analysis_succeeded") if line["analysis"] == ended["id"]]
    assert not told(asleep, "analysis_crashed")


def test_what_a_drained_replica_had_begun_goes_on_at_once_elsewhere(
    pair: tuple[Serving, Serving, str, Path], minute: Path, model: Model
) -> None:
    a, b, url, data = pair
    path = upload(a.client, minute).headers["Location"]
    wait_for(lambda: bookmarks(data, path) >= 1)
    left, stayed = (a, b) if owner(url, path) == "a" else (b, a)
    assert left.ended(signal.SIGTERM, WAIT_S) == -signal.SIGTERM
    exactly_judged(stayed.client, path, minute, model)
    assert told(stayed, "analysis_resumed") and not told(stayed, "replica_lost"), "nobody had to notice that it had gone"


def test_an_analysis_can_be_followed_and_cancelled_through_another_replica(
    pair: tuple[Serving, Serving, str, Path], endless: Path, clip: Path
) -> None:
    a, b, url, data = pair
    path = upload(a.client, endless).headers["Location"]
    wait_for(lambda: bookmarks(data, path) >= 1)
    runs, other = (a, b) if owner(url, path) == "a" else (b, a)
    assert wait_for(lambda: other.client.get(path).json()["progress"])["frames_analysed"] > 0
    assert other.client.post(f"{path}/cancel").json()["status"] == "cancelled"
    wait_for(lambda: told(runs, "analysis_stopped"))
    assert other.client.delete(path).status_code == 204
    for service in (a, b):
        assert upload(service.client, clip, wait_s=100).json()["status"] == "succeeded"
    assert runs.client.get(path).status_code == 404


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_who_shows_no_sign_for_too_long_is_dead_whatever_the_signs_say() -> None:
    clock, day = Clock(), datetime(2026, 1, 1, tzinfo=UTC)
    watch = Watch(10.0, clock)
    signs = {"a": day, "b": day - timedelta(days=1)}
    assert watch.saw(signs) == {}, "whoever has just begun to watch knows nothing yet"
    clock.now = 9.0
    assert watch.saw({**signs, "a": day - timedelta(hours=1)}) == {}, "a clock that was set back is a sign of life"
    clock.now = 11.0
    assert watch.saw({**signs, "a": day - timedelta(hours=1)}) == {"b": signs["b"]}
    assert watch.saw({"a": day - timedelta(hours=1)}) == {}
    clock.now = 30.0
    assert watch.saw({"a": day}) == {}
    assert watch.saw(signs) == {}, "one that came back is watched anew"
