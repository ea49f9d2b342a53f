"""The database goes away and comes back: who asks meanwhile is told when to ask again, and nothing that was accepted is lost or doubled."""

from __future__ import annotations

import resource
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from pipelines.analysis import Model
from service.connection import DatabaseError, database_url, jobs_engine
from service.database import AnalysisRow, Database
from service.settings import Settings
from tests.clips import face_clip
from tests.postgres import Cluster
from tests.rtsp import rtsp_server
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.processes import Serving, serving
from tests.service.test_analyses import events, until
from tests.service.test_takeover import QUICK, bookmarks, exactly_judged, told, wait_for
from tests.service.watching import Watcher
from tests.support import require
from tests.web import web_server

AWAY_S = 30.0
RAW = {"Content-Type": "video/mp4"}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough that the database goes away in the middle of it."""
    return face_clip(tmp_path_factory.mktemp("clips") / "long.mp4", seconds=14.0, fps=8.0)


def told_when_to_ask_again(answer: httpx.Response) -> None:
    problem = assert_problem(answer, 503, "database-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "postgres" not in answer.text and "/" not in str(problem["got"])


def test_while_postgresql_is_gone_everybody_is_told_and_nothing_is_lost(
    postgres: Cluster, tmp_path: Path, long: Path, clip: Path, model: Model
) -> None:
    with serving(tmp_path, database_url=postgres.create(), **QUICK) as service:
        client = service.client
        first = upload(client, long, key="mine").headers["Location"]
        wait_for(lambda: bookmarks(tmp_path / "data", first) >= 1)
        followed: list[str] = []

        def follow() -> None:
            with httpx.Client(base_url=client.base_url, timeout=120) as own, own.stream("GET", f"{first}/events") as stream:
                for name, _ in events(stream.iter_lines()):
                    followed.append(name)

        following = threading.Thread(target=follow)
        following.start()
        wait_for(lambda: followed)
        postgres.stop()
        try:
            for method, path in (
                ("GET", "/v1/analyses"),
                ("GET", first),
                ("GET", f"{first}/media"),
                ("POST", f"{first}/cancel"),
                ("DELETE", first),
                ("GET", "/v1/audit"),
                ("GET", "/v1/feeds"),
            ):
                told_when_to_ask_again(client.request(method, path))
            told_when_to_ask_again(upload(client, clip))
            told_when_to_ask_again(upload(client, clip, key="another"))
            assert_problem(client.get("/readyz"), 503, "not-ready")
            assert (client.get("/livez").status_code, client.get("/metrics").status_code) == (200, 200)
            wait_for(lambda: told(service, "waiting"))
            assert [path.name for path in (tmp_path / "data" / "analyses").iterdir()] == [first.rpartition("/")[2]]
        finally:
            postgres.start()
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert upload(client, long, key="mine").headers["Location"] == first, "asking again makes no second one"
        second = upload(client, clip, key="another").headers["Location"]
        exactly_judged(client, first, long, model)
        assert until(client, second, "succeeded", "failed")["status"] == "succeeded"
        following.join(60)
        assert followed[0] == "state" and followed[-1] == "end", "whoever listened was not sent away"
        assert len(told(service, "analysis_begun")) == 2 and len(told(service, "analysis_succeeded")) == 2
        assert not told(service, "analysis_crashed") and not told(service, "request_crashed")
        assert [item["action"] for item in client.get("/v1/audit").json()["items"]] == ["analysis.created"] * 2


@pytest.mark.slow
def test_half_a_minute_without_postgresql_loses_nothing_and_doubles_nothing(
    postgres: Cluster, tmp_path: Path, long: Path, clip: Path, model: Model
) -> None:
    """A delivery waits for its second attempt, an analysis runs, and a camera is watched: longer than the lease of its feed."""
    require("rtsp")
    near = {"camera_networks": '["127.0.0.0/8"]'}
    with (
        rtsp_server(clip) as camera,
        web_server() as web,
        serving(tmp_path, database_url=postgres.create(), **near, **QUICK) as service,
    ):
        client = service.client
        wanted = ["analysis.cancelled", "analysis.succeeded"]
        webhook = client.post("/v1/webhooks", json={"url": web.give("/", b"", status=500), "events": wanted}).json()
        deliveries = webhook["links"]["deliveries"]
        feed = client.post("/v1/feeds", json={"url": camera.url("/live"), "hz": 4}).headers["Location"]
        with Watcher(client, feed) as watcher:
            watcher.until("score")
            first = upload(client, long).headers["Location"]
            wait_for(lambda: bookmarks(tmp_path / "data", first) >= 1)
            client.post(f"{upload(client, clip).headers['Location']}/cancel")
            (pending,) = wait_for(lambda: [one for one in client.get(deliveries).json()["items"] if one["attempts"]])
            postgres.stop()
            try:
                back = time.monotonic() + AWAY_S
                web.give("/", b"")
                before = watcher.events[-1]["id"]
                while time.monotonic() < back:
                    told_when_to_ask_again(client.get(first))
                    assert client.get("/livez").status_code == 200
                    time.sleep(1)
                watcher.until("score", lambda event: event["id"] > before + 4 * AWAY_S / 2)
            finally:
                postgres.start()
            wait_for(lambda: client.get("/readyz").status_code == 200)
            wait_for(lambda: client.get(first).json()["status"] == "succeeded")
            exactly_judged(client, first, long, model)
            wait_for(lambda: [one["status"] for one in client.get(deliveries).json()["items"]] == ["delivered"] * 2)
            last = watcher.events[-1]["id"]
            watcher.until("score", lambda event: event["id"] > last)
            assert client.get(feed).json()["live"]["totals"]["sessions"] == 1, "the camera was not left"
        numbers = [event["id"] for event in watcher.events]
        assert numbers == sorted(set(numbers)) and not watcher.of("missed"), "no event was lost, none came twice"
        sent = Counter(post.headers["webhook-id"] for post in web.posted)
        assert sorted(sent.values()) == [1, 2] and sent[pending["event_id"]] == 2, "once in vain, and once each"
        assert len(told(service, "analysis_succeeded")) == 1
        assert not told(service, "analysis_crashed") and not told(service, "request_crashed")
        assert len(client.get("/v1/analyses").json()["items"]) == 2


def test_a_postgresql_that_only_lets_itself_be_read_is_one_that_is_gone(
    postgres: Cluster, tmp_path: Path, long: Path, clip: Path, model: Model
) -> None:
    url = postgres.create()
    with serving(tmp_path, database_url=url, **QUICK) as service:
        client = service.client
        first = upload(client, long).headers["Location"]
        wait_for(lambda: bookmarks(tmp_path / "data", first) >= 1)
        postgres.let_only_read(url)
        wait_for(lambda: told(service, "not_done"))
        told_when_to_ask_again(upload(client, clip, key="mine"))
        told_when_to_ask_again(client.post(f"{first}/cancel"))
        told_when_to_ask_again(client.delete(first))
        assert_problem(client.get("/readyz"), 503, "not-ready")
        assert client.get(first).json()["status"] == "running", "what is only read is there"
        postgres.let_write(url)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        # A connection of the pool that was made meanwhile goes at its first write, and whoever meets it asks again as it was told.
        second = wait_for(lambda: upload(client, clip, key="mine").headers.get("Location"))
        exactly_judged(client, first, long, model)
        assert until(client, second, "succeeded", "failed")["status"] == "succeeded"
        assert len(told(service, "analysis_begun")) == 2 and len(told(service, "analysis_succeeded")) == 2
        assert not told(service, "analysis_crashed") and not told(service, "request_crashed")
        assert [item["action"] for item in client.get("/v1/audit").json()["items"]] == ["analysis.created"] * 2


def test_work_is_not_ended_where_it_can_only_be_read(postgres: Cluster) -> None:
    url = postgres.create()
    engine = jobs_engine(database_url(Settings(database_url=SecretStr(url))), 1)
    assert engine is not None

    def write() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS told (word text)")

    write()
    postgres.let_only_read(url)
    with pytest.raises(OperationalError, match="read-only") as refused:
        write()
    assert refused.value.connection_invalidated, "by which DBOS knows that it is to wait"
    postgres.let_write(url)
    write()
    engine.dispose()


def test_a_locked_database_is_one_that_is_gone(serve: Serve, settings: Settings, clip: Path) -> None:
    with serve(settings) as client:
        path = upload(client, clip, wait_s=60).headers["Location"]
        with closing(sqlite3.connect(settings.data_dir / "undercurrent.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with ThreadPoolExecutor(3) as pool:
                refused, ready = pool.submit(upload, client, clip), pool.submit(client.get, "/readyz")
                assert client.get(path).json()["status"] == "succeeded", "what is only read is not held up"
                told_when_to_ask_again(refused.result())
                assert_problem(ready.result(), 503, "not-ready")
            assert len(list((settings.data_dir / "analyses").iterdir())) == 1
        assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


@contextmanager
def full_disk(service: Serving) -> Iterator[None]:
    """No file of that process grows, whatever writes it: rows, workflows, media and evidence."""
    everything = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (0, everything[1]))
    try:
        yield
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, everything)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path, long: Path, clip: Path, model: Model) -> None:
    with serving(tmp_path, **QUICK) as service:
        client = service.client
        first = upload(client, long).headers["Location"]
        wait_for(lambda: bookmarks(tmp_path / "data", first) >= 1)
        with full_disk(service):
            assert_problem(upload(client, clip), 507, "insufficient-storage")
            told_when_to_ask_again(client.post(f"{first}/cancel"))
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/analyses").status_code == 200
        exactly_judged(client, first, long, model)
        assert [row["id"] for row in client.get("/v1/analyses").json()["items"]] == [first.rpartition("/")[2]]
        assert len(list((tmp_path / "data" / "analyses").iterdir())) == 1
        assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


def test_an_answer_that_got_lost_is_in_doubt_and_loses_nothing(
    serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is kept, and the connection breaks before the database can say so."""
    commit, lost = Session.commit, threading.Event()

    def commit_and_lose_the_answer(session: Session) -> None:
        is_it = any(isinstance(one, AnalysisRow) for one in session)
        commit(session)
        if is_it and not lost.is_set():
            lost.set()
            raise OperationalError("COMMIT", None, Exception("the server closed the connection"))

    monkeypatch.setattr("service.replicas.SWEEP_S", 0.2)
    with serve(settings) as client:
        monkeypatch.setattr(Session, "commit", commit_and_lose_the_answer)
        answer = upload(client, clip, key="mine")
        assert lost.is_set()
        assert_problem(answer, 503, "database-in-doubt")
        assert answer.headers["Retry-After"]
        again = upload(client, clip, key="mine")
        assert until(client, again.headers["Location"], "succeeded", "failed")["status"] == "succeeded"
        assert len(client.get("/v1/analyses").json()["items"]) == len(client.get("/v1/audit").json()["items"]) == 1
        assert len(list((settings.data_dir / "analyses").iterdir())) == 1


async def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = database_url(Settings(database_url=SecretStr(f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/rows")))
        with pytest.raises(DatabaseError, match="cannot be opened"):
            await Database.open(url)
