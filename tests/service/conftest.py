"""A real service for each test: settings and the shipped model come in, a uvicorn server on a free port of loopback goes out."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy.engine import URL

from pipelines.analysis import Model, load_model
from service.app import create_app, server_config
from service.connection import database_url
from service.database import Database
from service.settings import Settings
from tests.clips import face_clip
from tests.postgres import Cluster, cluster
from tests.s3 import S3, s3_server
from tests.service.processes import serving
from tests.support import require

Serve = Callable[[Settings], AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own; `create` gives an empty database."""
    programs = require("postgresql")
    assert programs is not None
    with cluster(programs) as running:
        yield running


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3]:
    """An S3 server of the tests' own."""
    with s3_server() as running:
        yield running


@pytest.fixture
def s3(s3_process: S3) -> S3:
    """It, and nothing in it but an empty bucket."""
    s3_process.empty()
    return s3_process


@pytest.fixture(scope="session")
def model() -> Model:
    """The shipped weights."""
    return load_model()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with one face."""
    return face_clip(tmp_path_factory.mktemp("clips") / "face.mp4", seconds=4.0)


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five minutes with one face: longer than any test waits, so that what must stop it can be seen to."""
    return face_clip(tmp_path_factory.mktemp("clips") / "long.mp4", seconds=300.0, fps=4.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data directory of the test's own; four looks a second keep it quick."""
    return Settings(data_dir=tmp_path / "data", min_free_bytes=0, hz=4.0, device="cpu")


@pytest.fixture(scope="session")
def serve(model: Model) -> Serve:
    """Start a service; the client's `base_url` is where it listens."""

    @contextmanager
    def start(settings: Settings) -> Iterator[httpx.Client]:
        server = uvicorn.Server(server_config(create_app(settings, model), settings))
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the service did not start")
                thread.join(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()

    return start


@pytest.fixture
def client(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a fresh, empty service."""
    with serve(settings) as running:
        yield running


@pytest.fixture(scope="session")
def judged(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """A service that is only read from, in a process of its own since this one may have another, and the path of its one analysis."""
    with serving(tmp_path_factory.mktemp("judged")) as service:
        answer = upload(service.client, clip, wait_s=60)
        assert answer.json()["status"] == "succeeded", answer.text
        yield service.client, answer.headers["Location"]


def upload(client: httpx.Client, path: Path, *, wait_s: int | None = None, key: str | None = None) -> httpx.Response:
    """POST a file as a form."""
    wanted = {"Prefer": wait_s and f"wait={wait_s}", "Idempotency-Key": key}
    headers = {name: value for name, value in wanted.items() if value}
    with path.open("rb") as file:
        return client.post("/v1/analyses", files={"file": (path.name, file)}, headers=headers)


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """Every refusal has one shape; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert body["type"] == f"urn:undercurrent:problem:{slug}"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert body["instance"] == response.request.url.path
    return body


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return database_url(Settings(data_dir=tmp_path))
    cluster: Cluster = request.getfixturevalue("postgres")
    return database_url(Settings(database_url=SecretStr(cluster.create())))


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    """One of each kind, open."""
    opened = await Database.open(url)
    yield opened
    await opened.close()
