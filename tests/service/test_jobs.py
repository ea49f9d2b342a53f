"""Work that survives: a stopped, killed or restarted service loses no analysis and keeps no half of one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.app import DataDirectoryInUse, UnusableDataDirectory, open_rooms
from service.settings import Settings
from tests.ports import free_port
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.test_analyses import events, until
from tests.support import ROOT

# A shell that starts the tests in the background makes them ignore SIGINT, and children inherit that.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from service.app import run
from service.settings import read_settings
run(read_settings())
"""


@contextmanager
def process(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The service as a process of its own, as `undercurrent serve` starts it."""
    port = free_port()
    chosen = {"PORT": str(port), "DATA_DIR": str(settings.data_dir), "HZ": str(settings.hz), "MIN_FREE_BYTES": "0", "DEVICE": "cpu"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{f"UNDERCURRENT_{name}": value for name, value in chosen.items()}}
    with (
        subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            if not _listens(port, running):
                pytest.fail(running.communicate()[1])
            yield running, client
        finally:
            running.kill()


def _listens(port: int, running: subprocess.Popen[str]) -> bool:
    while running.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return True
    return False


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_ends_the_service_and_keeps_its_work(
    settings: Settings, serve: Serve, endless: Path, sign: signal.Signals, status: int
) -> None:
    with process(settings) as (running, client):
        path = upload(client, endless).headers["Location"]
        with client.stream("GET", f"{path}/events") as stream:
            assert any(name == "progress" for name, _ in events(stream.iter_lines()))
            running.send_signal(sign)
            # The listener is let go: its stream ends without an `end` event, which makes a browser ask again.
            assert running.wait(timeout=120) == status
    with serve(settings) as client:
        assert until(client, path, "running")["started_at"] is not None
        client.post(f"{path}/cancel")


def test_a_killed_service_leaves_work_that_the_next_one_takes_up(settings: Settings, serve: Serve, endless: Path, clip: Path) -> None:
    with process(settings) as (running, client):
        first = upload(client, endless).headers["Location"]
        second = upload(client, clip).headers["Location"]
        until(client, first, "running")
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=120)
    orphan = settings.data_dir / "analyses" / "half-an-upload"
    orphan.mkdir()
    with serve(settings) as client:
        assert until(client, first, "running")["finished_at"] is None
        assert not orphan.exists()
        client.post(f"{first}/cancel")
        assert until(client, second, "succeeded")["result"] is not None


def test_an_analysis_that_fails_says_why_and_the_next_one_runs(settings: Settings, client: httpx.Client, clip: Path, endless: Path) -> None:
    running, path = upload(client, endless).headers["Location"], upload(client, clip).headers["Location"]
    _directory(settings, path).joinpath("media").write_bytes(b"not a video any more")
    client.post(f"{running}/cancel")
    body = until(client, path, "failed", "succeeded")
    assert body["problem"]["type"] == "urn:undercurrent:problem:unsupported-media"
    assert body["problem"]["instance"] == path
    assert (body["result"], body["verdict"]) == (None, None)
    assert_problem(client.get(f"{path}/report"), 409, "no-result")
    assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


def test_a_crash_inside_an_analysis_is_recorded_and_the_next_one_runs(
    client: httpx.Client, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("service.judging.crop_images", lambda _report: 1 / 0)
        path = upload(client, clip).headers["Location"]
        body = until(client, path, "failed", "succeeded")
    assert body["problem"]["type"] == "urn:undercurrent:problem:internal-error"
    assert body["problem"]["status"] == 500
    assert upload(client, clip, wait_s=60).json()["status"] == "succeeded"


async def test_one_data_directory_has_one_service(settings: Settings, client: httpx.Client) -> None:
    with pytest.raises(DataDirectoryInUse, match=r"is in use\. Expected one service for each data directory"):
        async with open_rooms(settings):
            pytest.fail("a second service took the directory")
    assert client.get("/livez").status_code == 200


async def test_a_data_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnusableDataDirectory, match=r"cannot be written.* got Not a directory"):
        async with open_rooms(Settings(data_dir=tmp_path / "file" / "data")):
            pytest.fail("it was opened")


def test_a_port_in_use_is_said_as_such(settings: Settings, client: httpx.Client) -> None:
    environment = {**os.environ, "UNDERCURRENT_PORT": str(client.base_url.port), "UNDERCURRENT_DATA_DIR": str(settings.data_dir / "other")}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {client.base_url.port}." in ended.stderr
    assert not (settings.data_dir / "other").exists()


def test_readiness_tells_the_queue_and_the_disk(client: httpx.Client, endless: Path) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    for _ in range(2):
        path = upload(client, endless).headers["Location"]
    until(client, client.get("/v1/analyses").json()["items"][1]["links"]["self"], "running")
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["queued"], ready["running"]) == ("ready", 1, 1)
    client.post(f"{path}/cancel")
    assert client.get("/readyz").json()["queued"] == 0


def test_a_service_without_disk_is_not_ready(serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"min_free_bytes": 2**60})) as client:
        problem = assert_problem(client.get("/readyz"), 503, "not-ready")
        assert problem["detail"] == "The disk is nearly full."


def _directory(settings: Settings, path: str) -> Path:
    return settings.data_dir / "analyses" / path.rpartition("/")[2]
