"""A service over a bucket: the same answers as over a directory, and what becomes of work while the store is gone."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.app import create_app
from service.objects import BadStoreUrl
from service.settings import Settings
from tests.postgres import Cluster
from tests.s3 import S3
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.processes import serving
from tests.service.test_analyses import until
from tests.service.test_storage import in_bucket
from tests.service.test_uploads import chunks, head

WAIT_S = 60.0


@pytest.fixture
def stored(settings: Settings, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a service whose media and evidence are in the bucket; a store that was stopped is back afterwards."""
    return in_bucket(s3, settings, monkeypatch)


@pytest.fixture
def gone(s3: S3) -> Iterator[S3]:
    """A store that may be stopped."""
    yield s3
    s3.freeze(thaw=True)
    s3.stop()
    s3.start()


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.05)


def test_all_that_an_analysis_has_is_in_the_bucket(serve: Serve, stored: Settings, s3: S3, clip: Path) -> None:
    with serve(stored) as client:
        answer = upload(client, clip, wait_s=60)
        assert answer.json()["status"] == "succeeded", answer.text
        path = answer.headers["Location"]
        mine = f"some/prefix/analyses/{answer.json()['id']}"
        names = s3.names()
        assert {f"{mine}/media", f"{mine}/evidence/result.json", f"{mine}/evidence/timeline.json"} <= set(names)
        assert all(name.startswith(f"{mine}/") for name in names) and s3.half_written() == []
        whole = client.get(f"{path}/media")
        assert hashlib.sha256(whole.content).hexdigest() == hashlib.sha256(clip.read_bytes()).hexdigest()
        part = client.get(f"{path}/media", headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, clip.read_bytes()[100:200])
        assert client.get(f"{path}/report").text.count("data:image/jpeg") > 0
        crop = answer.json()["result"]["tracks"][0]["crops"][0]
        assert client.get(f"{path}/tracks/0/crops/{crop['k']}").headers["Content-Type"] == "image/jpeg"
        assert client.get(f"{path}/timeline?format=csv").text.startswith("track,")
        assert not (stored.data_dir / "analyses").exists() and list((stored.data_dir / "scratch").iterdir()) == []
        assert client.delete(path).status_code == 204
        assert s3.names() == []


def test_refused_media_leaves_nothing_in_the_bucket(serve: Serve, stored: Settings, s3: S3) -> None:
    with serve(stored) as client:
        raw = {"Content-Type": "video/mp4"}
        assert_problem(client.post("/v1/analyses", content=b"no video" * 999, headers=raw), 415, "unsupported-media")
        assert_problem(client.post("/v1/analyses", content=b"", headers=raw), 422, "empty-source")
        assert (s3.names(), s3.half_written()) == ([], [])


def test_a_client_that_goes_away_leaves_nothing_in_the_bucket(serve: Serve, stored: Settings, s3: S3) -> None:
    with serve(stored) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
            wire.sendall(head(client, 50_000_000) + b"x" * 12_000_000)
            eventually(lambda: s3.half_written() != [], "an upload that has begun")
        eventually(lambda: s3.half_written() == [], "it is given up")
        eventually(lambda: list((stored.data_dir / "scratch").iterdir()) == [], "its copy is removed")
        assert (s3.names(), client.get("/v1/analyses").json()["items"]) == ([], [])


def test_while_the_store_is_gone_nothing_is_taken_and_nothing_is_lost(
    serve: Serve, stored: Settings, gone: S3, clip: Path, endless: Path
) -> None:
    with serve(stored) as client:
        path = upload(client, endless).headers["Location"]
        until(client, path, "running")
        waiting = upload(client, clip).headers["Location"]
        gone.freeze()
        gone.stop()
        assert_problem(client.get("/readyz"), 503, "not-ready")
        problem = assert_problem(refused := upload(client, clip), 503, "store-unavailable")
        assert refused.headers["Retry-After"] == "10" and "127.0.0.1" not in str(problem)
        assert_problem(client.get(f"{waiting}/media"), 503, "store-unavailable")
        # What lists and states ask of rows alone goes on.
        assert {item["links"]["self"] for item in client.get("/v1/analyses").json()["items"]} == {path, waiting}
        assert client.get("/livez").status_code == 200
        # It is stopped, and stays in the list so that it can be deleted again.
        assert_problem(client.delete(path), 503, "store-unavailable")
        assert client.get(path).json()["status"] == "cancelled"
        assert until(client, waiting, "running")["problem"] is None, "it is not the media's fault"


def test_an_analysis_waits_for_the_store_to_come_back(serve: Serve, stored: Settings, s3: S3, clip: Path, endless: Path) -> None:
    with serve(stored) as client:
        running = upload(client, endless).headers["Location"]
        until(client, running, "running")
        waiting = upload(client, clip).headers["Location"]
        s3.freeze()
        client.post(f"{running}/cancel")
        until(client, waiting, "running")
        s3.freeze(thaw=True)
        assert until(client, waiting, "succeeded", "failed")["status"] == "succeeded"


def test_a_store_that_dies_in_the_middle_of_an_upload_is_told_to_the_client(serve: Serve, stored: Settings, gone: S3, clip: Path) -> None:
    begun = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"x" * 12_000_000
        eventually(lambda: gone.half_written() != [], "an upload that has begun")
        gone.stop()
        begun.set()
        yield b"x" * 12_000_000

    with serve(stored) as client:
        answer = client.post("/v1/analyses", content=slowly(), headers={"Content-Type": "video/mp4"})
        assert begun.is_set()
        assert_problem(answer, 503, "store-unavailable")
        assert client.get("/v1/analyses").json()["items"] == [] and list((stored.data_dir / "scratch").iterdir()) == []
        gone.start()
        eventually(lambda: client.get("/readyz").status_code == 200, "ready")
        whole = client.post("/v1/analyses", content=chunks(clip.read_bytes()), headers={"Content-Type": "video/mp4"})
        assert whole.status_code == 202


def test_a_service_starts_without_its_store_and_says_so(serve: Serve, stored: Settings, gone: S3, clip: Path) -> None:
    gone.stop()
    with serve(stored) as client:
        problem = assert_problem(client.get("/readyz"), 503, "not-ready")
        assert problem["detail"] == "Media and evidence cannot be reached."
        gone.start()
        eventually(lambda: client.get("/readyz").status_code == 200, "ready")
        assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


def test_two_services_share_what_one_has_judged(serve: Serve, stored: Settings, clip: Path, postgres: Cluster, tmp_path: Path) -> None:
    database_url = postgres.create()
    with (
        serving(tmp_path, database_url=database_url, store_url=stored.store_url, replica="first") as first,
        serve(stored.model_copy(update={"database_url": SecretStr(database_url), "replica": "second"})) as second,
    ):
        path = upload(first.client, clip, wait_s=60).headers["Location"]
        assert until(second, path, "succeeded")["result"] == first.client.get(path).json()["result"]
        assert second.get(f"{path}/media").content == clip.read_bytes()
        assert second.delete(path).status_code == 204
        assert_problem(first.client.get(f"{path}/media"), 404, "analysis-not-found")


async def test_a_store_that_cannot_be_is_refused_at_the_start(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"store_url": "s3://Not_A_Bucket"}))
    with pytest.raises(BadStoreUrl, match="s3://bucket"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")
