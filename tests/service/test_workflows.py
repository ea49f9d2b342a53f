"""Durable work from within: what is kept and how, who goes first, what is lost and found again, what is given up, what leaves with time."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from service import replicas
from service.app import DataDirectoryInUse, open_rooms
from service.settings import Settings
from service.workflows import Workflows, WorkflowsInUse
from tests.service.conftest import Serve, upload
from tests.service.test_analyses import until
from tests.service.test_takeover import bookmarks, wait_for


def sql(settings: Settings, file: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Ask a database of a service that has ended, or is about to be looked at."""
    database = sqlite3.connect(settings.data_dir / file, timeout=30)
    try:
        with database:
            return database.execute(statement, values).fetchall()
    finally:
        database.close()


def test_what_is_kept_is_json_and_nothing_that_can_run(client: httpx.Client, settings: Settings, clip: Path) -> None:
    assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"
    kept = "SELECT serialization, application_version, executor_id, queue_name FROM workflow_status WHERE status = 'SUCCESS'"
    assert wait_for(lambda: sql(settings, "jobs.db", kept)) == [("portable_json", "1", settings.replica, "analyses")]
    assert sql(settings, "jobs.db", "SELECT output, serialization FROM operation_outputs") == [("{}", "portable_json")]
    for (table,) in sql(settings, "jobs.db", "SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in sql(settings, "jobs.db", f'SELECT * FROM "{table}"'):
            assert not [value for value in row if isinstance(value, bytes) or str(value).startswith("gAS")], "a pickle in base64"


def test_who_asks_and_who_writes_do_not_wait_for_each_other(client: httpx.Client, settings: Settings) -> None:
    assert sql(settings, "jobs.db", "PRAGMA journal_mode") == [("wal",)]


def test_steps_keep_keys_not_bookmarks(serve: Serve, settings: Settings, clip: Path) -> None:
    with serve(settings.model_copy(update={"segment_s": 1.0})) as client:
        path = upload(client, clip, wait_s=60).headers["Location"]
        steps = wait_for(lambda: sql(settings, "jobs.db", "SELECT length(output) FROM operation_outputs"))
        assert len(steps) >= 3
        assert max(int(str(size)) for (size,) in steps) < 100
        assert bookmarks(settings.data_dir, path) == 0, "what has ended needs none"


def test_no_thread_outlives_the_service(serve: Serve, settings: Settings, clip: Path) -> None:
    before = set(threading.enumerate())
    with serve(settings) as client:
        assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"
    wait_for(lambda: not (set(threading.enumerate()) - before))


def test_the_lower_number_goes_first(client: httpx.Client, clip: Path, endless: Path) -> None:
    busy = upload(client, endless).headers["Location"]
    until(client, busy, "running")
    paths = []
    for priority in (9, 5, 0):
        with clip.open("rb") as file:
            paths.append(client.post("/v1/analyses", params={"priority": priority}, files={"file": file}).headers["Location"])
    client.post(f"{busy}/cancel")
    began = [until(client, path, "succeeded")["started_at"] for path in paths]
    assert began == sorted(began, reverse=True)
    assert client.post("/v1/analyses", params={"priority": 10}, content=b"").status_code == 422


def test_several_run_at_once_where_there_are_several_workers(serve: Serve, settings: Settings, endless: Path) -> None:
    with serve(settings.model_copy(update={"workers": 2})) as client:
        paths = [upload(client, endless).headers["Location"] for _ in range(3)]
        wait_for(lambda: client.get("/readyz").json()["running"] == 2)
        assert client.get("/readyz").json()["queued"] == 1
        for path in paths:
            client.post(f"{path}/cancel")


def unreachable(*_: object) -> None:
    raise OperationalError("enqueue", {}, Exception("the database is away"))


def test_what_could_not_be_enqueued_is_found(serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "SWEEP_S", 0.5)
    with serve(settings) as client:
        with monkeypatch.context() as away:
            away.setattr(Workflows, "enqueue", unreachable)
            path = upload(client, clip).headers["Location"]
        assert until(client, path, "succeeded")["result"] is not None


def test_work_that_was_lost_begins_again(serve: Serve, settings: Settings, clip: Path, endless: Path) -> None:
    """As after a restore: rows are there, work is not, or has ended."""
    with serve(settings) as client:
        until(client, upload(client, endless).headers["Location"], "running")
        paths = [upload(client, clip).headers["Location"] for _ in range(3)]
        for one in client.get("/v1/analyses", params={"status": "running"}).json()["items"]:
            client.post(f"{one['links']['self']}/cancel")
        for path in paths:
            until(client, path, "succeeded")
    for path in paths:
        sql(
            settings,
            "undercurrent.db",
            "UPDATE analyses SET status = 'queued', verdict = NULL, finished_at = NULL WHERE id = ?",
            path.rpartition("/")[2],
        )
    sql(settings, "jobs.db", "DELETE FROM workflow_status WHERE workflow_uuid = ?", paths[0].rpartition("/")[2])
    # As a version left it that had one queue for all tenants.
    keyless = "UPDATE workflow_status SET status = 'ENQUEUED', queue_partition_key = NULL WHERE workflow_uuid = ?"
    sql(settings, "jobs.db", keyless, paths[1].rpartition("/")[2])
    with serve(settings) as client:
        for path in paths:
            assert until(client, path, "succeeded")["result"] is not None


def test_what_kills_whoever_takes_it_up_is_given_up(serve: Serve, settings: Settings, endless: Path, clip: Path) -> None:
    with serve(settings) as client:
        path = upload(client, endless).headers["Location"]
        until(client, path, "running")
    sql(settings, "undercurrent.db", "UPDATE analyses SET attempts = 5")
    with serve(settings) as client:
        problem = until(client, path, "failed")["problem"]
        assert (problem["type"], problem["status"], problem["got"]) == ("urn:undercurrent:problem:gave-up", 500, "6")
        assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


def spoilt(path: Path) -> None:
    path.write_bytes(b"not a bookmark")


@pytest.mark.parametrize("spoil", [spoilt, Path.unlink], ids=["damaged", "gone"])
def test_without_its_bookmarks_it_begins_anew(
    serve: Serve, settings: Settings, endless: Path, clip: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    quick = settings.model_copy(update={"segment_s": 1.0})
    with serve(quick) as client:
        path = upload(client, endless).headers["Location"]
        wait_for(lambda: bookmarks(settings.data_dir, path) >= 2)
    directory = settings.data_dir / "analyses" / path.rpartition("/")[2]
    for one in (directory / "bookmarks").iterdir():
        spoil(one)
    (directory / "media").write_bytes(clip.read_bytes())
    with serve(quick) as client:
        assert until(client, path, "succeeded", "failed")["result"]["media"]["frames_analysed"] == 16


def test_what_ended_long_ago_goes(serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "SWEEP_S", 0.5)
    with serve(settings.model_copy(update={"retention_days": 1.0})) as client:
        old, new = (upload(client, clip, wait_s=60).headers["Location"] for _ in range(2))
        long_ago = datetime(2020, 1, 1, tzinfo=UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        sql(settings, "undercurrent.db", "UPDATE analyses SET finished_at = ? WHERE id = ?", long_ago, old.rpartition("/")[2])
        wait_for(lambda: client.get(old).status_code == 404)
        wait_for(lambda: not (settings.data_dir / "analyses" / old.rpartition("/")[2]).exists())
        assert client.get(new).json()["status"] == "succeeded"
        (told,) = client.get("/v1/audit?action=analysis.expired").json()["items"]
        assert (told["subject"], told["key_id"], told["request_id"]) == (old.rpartition("/")[2], None, None)


async def test_one_process_has_one_service(client: httpx.Client, settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    with pytest.raises(WorkflowsInUse, match="Expected one service for each process"):
        async with open_rooms(other):
            pytest.fail("two in one process")
    assert client.get("/livez").status_code == 200


async def test_a_replica_s_name_is_taken_once(client: httpx.Client, settings: Settings) -> None:
    (settings.data_dir / "lock").unlink()
    named = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    with (settings.data_dir / f"{settings.replica}.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataDirectoryInUse, match="or for each replica's name"):
            async with open_rooms(named):
                pytest.fail("two replicas of one name")


def test_metrics_tell_how_long_the_queue_is_and_has_waited(client: httpx.Client, endless: Path) -> None:
    paths = [upload(client, endless).headers["Location"] for _ in range(3)]
    until(client, paths[0], "running")
    time.sleep(1.1)
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert float(lines['undercurrent_analyses{status="queued"}']) == 2
    assert float(lines['undercurrent_analyses{status="running"}']) == 1
    assert float(lines["undercurrent_queue_oldest_age_seconds"]) > 1
    for path in paths:
        client.post(f"{path}/cancel")
