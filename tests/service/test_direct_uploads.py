"""Uploads straight into the store: a presigned URL of a real S3 server takes them, and an analysis claims them once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from service.settings import Settings
from tests.s3 import S3
from tests.service.conftest import Serve, assert_problem
from tests.service.test_analyses import until
from tests.service.test_keys import bearer, made
from tests.service.test_storage import in_bucket

DEFAULT = hashlib.sha256(b"default").hexdigest()[:16]
"""Where the uploads of whoever has no other tenant are."""


@pytest.fixture
def client(serve: Serve, settings: Settings, s3: S3, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A service that keeps media in the bucket, and takes nothing larger than the clip."""
    with serve(in_bucket(s3, settings, monkeypatch).model_copy(update={"max_upload_bytes": clip.stat().st_size})) as running:
        yield running


def put(client: httpx.Client, content: bytes) -> str:
    """Upload around the service; the id."""
    made = client.post("/v1/uploads")
    assert (made.status_code, made.headers["Cache-Control"], made.json()["method"]) == (201, "no-store", "PUT")
    assert httpx.put(made.json()["url"], content=content, timeout=60).status_code == 200
    name: str = made.json()["id"]
    return name


def analyse(client: httpx.Client, upload: str, key: str | None = None) -> httpx.Response:
    return client.post("/v1/analyses", json={"upload": upload, "filename": "a/b.mp4"}, headers={"Idempotency-Key": key} if key else {})


def test_what_was_put_there_is_judged_and_claimed(client: httpx.Client, s3: S3, clip: Path) -> None:
    upload = put(client, clip.read_bytes())
    assert s3.names() == [f"some/prefix/uploads/{DEFAULT}/{upload}/media"]
    answer = analyse(client, upload, "k")
    assert (answer.status_code, answer.json()["filename"]) == (202, "b.mp4"), answer.text
    assert until(client, answer.headers["Location"], "succeeded", "failed")["status"] == "succeeded"
    assert client.get(answer.json()["links"]["media"]).content == clip.read_bytes()
    assert not [name for name in s3.names() if "/uploads/" in name]
    assert_problem(analyse(client, upload), 404, "upload-not-found")
    assert analyse(client, upload, "k").json()["id"] == answer.json()["id"]
    assert_problem(analyse(client, str(uuid4()), "k"), 422, "idempotency-key-reused")


def test_an_upload_may_be_repeated_until_it_is_claimed(client: httpx.Client, clip: Path) -> None:
    made = client.post("/v1/uploads").json()
    assert_problem(analyse(client, made["id"]), 404, "upload-not-found")
    for content in (b"half of it", clip.read_bytes()):
        assert httpx.put(made["url"], content=content, timeout=60).status_code == 200
    claimed = analyse(client, made["id"])
    # Whoever still has the URL cannot change what is judged.
    assert httpx.put(made["url"], content=b"something else", timeout=60).status_code == 200
    assert client.get(claimed.json()["links"]["media"]).content == clip.read_bytes()


def test_another_tenant_finds_nothing(serve: Serve, settings: Settings, s3: S3, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the right id either; and it is still there for its own, with any key of theirs."""
    locked = in_bucket(s3, settings, monkeypatch).model_copy(update={"require_keys": True})
    first, second, other = (
        bearer(made(locked, "analyses:write", "analyses:read", tenant=tenant)) for tenant in ("films", "films", "elsewhere")
    )
    with serve(locked) as client:
        client.headers.update(first)
        upload = put(client, clip.read_bytes())
        client.headers.update(other)
        assert_problem(analyse(client, upload), 404, "upload-not-found")
        assert client.get("/v1/analyses").json()["items"] == []
        client.headers.update(second)
        assert analyse(client, upload).status_code == 202


def test_what_cannot_be_judged_leaves_no_analysis(client: httpx.Client, s3: S3, clip: Path) -> None:
    assert_problem(analyse(client, put(client, clip.read_bytes() + b"x")), 413, "upload-too-large")
    assert_problem(analyse(client, put(client, b"no video" * 99)), 415, "unsupported-media")
    assert_problem(analyse(client, put(client, b"")), 422, "empty-source")
    assert_problem(analyse(client, str(uuid4())), 404, "upload-not-found")
    assert client.get("/v1/analyses").json()["items"] == []
    assert [name for name in s3.names() if "/analyses/" in name] == []


def test_the_url_leads_to_where_clients_reach_the_store(serve: Serve, settings: Settings, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = in_bucket(s3, settings, monkeypatch).model_copy(update={"store_public_url": "https://media.example.org"})
    with serve(outside) as client:
        made = client.post("/v1/uploads").json()
    url = urlsplit(made["url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"https://media.example.org/media/some/prefix/uploads/{DEFAULT}/{made['id']}/media"
    said = parse_qs(url.query)
    assert said["X-Amz-Expires"] == ["3600"] and "not-a-secret" not in made["url"]


def test_a_service_with_a_directory_says_that_it_has_none(serve: Serve, settings: Settings) -> None:
    with serve(settings) as client:
        assert_problem(client.post("/v1/uploads"), 409, "no-direct-uploads")
        assert_problem(analyse(client, str(uuid4())), 404, "upload-not-found")
