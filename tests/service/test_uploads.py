"""The door for bytes: what is counted, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.uploads import MAX_OVERHEAD_BYTES, basename
from tests.service.conftest import Serve, assert_problem, upload

BOUNDARY = "line"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, body: bytes, filename: str | None = None) -> bytes:
    where = f'name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--" + BOUNDARY.encode() + f"\r\nContent-Disposition: form-data; {where}\r\n\r\n".encode() + body + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def left_behind(client: httpx.Client, settings: Settings) -> list[str]:
    """Rows and directories of refused uploads."""
    rows = [row["id"] for row in client.get("/v1/analyses").json()["items"]]
    return rows + [path.name for path in (settings.data_dir / "analyses").iterdir()]


def head(client: httpx.Client, length: int) -> bytes:
    """The start of an upload that announces `length` bytes."""
    lines = (
        "POST /v1/analyses HTTP/1.1",
        f"Host: 127.0.0.1:{client.base_url.port}",
        "Content-Type: video/mp4",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


def test_a_form_and_a_raw_body_store_the_same_bytes(client: httpx.Client, settings: Settings, clip: Path) -> None:
    form = upload(client, clip)
    raw = client.post("/v1/analyses?filename=a%2Fb.mp4&external_id=case", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"})
    assert (form.status_code, raw.status_code) == (202, 202)
    assert (raw.json()["filename"], raw.json()["external_id"], form.json()["filename"]) == ("b.mp4", "case", clip.name)
    for answer in (form, raw):
        stored = settings.data_dir / "analyses" / answer.json()["id"] / "media"
        assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(clip.read_bytes()).digest()


def test_a_form_cut_anywhere_is_put_together(client: httpx.Client, clip: Path) -> None:
    body = part("external_id", "Fall 7 ü".encode()) + part("file", clip.read_bytes(), "ünï.mp4") + END
    answer = client.post("/v1/analyses", content=(body[i : i + 997] for i in range(0, len(body), 997)), headers=FORM)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["external_id"], answer.json()["filename"]) == ("Fall 7 ü", "ünï.mp4")


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (part("file", b"x" * 50, "a.mp4"), "the end of the body"),
        (part("external_id", b"case") + END, "the fields \\['external_id'\\]"),
        (part("file", b"x", "a") + part("file", b"y", "b") + END, "two"),
        (part("files", b"x", "a") + END, "`files`"),
        (part("external_id", b"a") + part("external_id", b"b") + END, "`external_id`"),
        (part("external_id", b"a" * 5000) + END, "a longer one"),
        (part("external_id", b"a" * 300) + part("file", b"x", "a") + END, "300"),
        (b"--other\r\n" + END, "boundary"),
        (b"", "the end of the body"),
    ],
)
def test_a_form_that_is_not_one_file_is_refused(client: httpx.Client, settings: Settings, body: bytes, got: str) -> None:
    problem = assert_problem(client.post("/v1/analyses", content=body, headers=FORM), 422, "malformed-upload")
    assert re.search(got, str(problem["got"]))
    assert left_behind(client, settings) == []


def test_a_form_without_a_boundary_is_refused(client: httpx.Client, settings: Settings) -> None:
    assert_problem(client.post("/v1/analyses", content=b"x", headers={"Content-Type": "multipart/form-data"}), 422, "malformed-upload")
    assert left_behind(client, settings) == []


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "audio/mpeg", ""])
def test_what_is_neither_form_nor_video_is_refused(client: httpx.Client, settings: Settings, kind: str) -> None:
    problem = assert_problem(client.post("/v1/analyses", content=b"x", headers={"Content-Type": kind}), 415, "unsupported-content-type")
    assert problem["got"] == (kind or "no content type")
    assert left_behind(client, settings) == []


@pytest.fixture
def small(settings: Settings, clip: Path) -> Settings:
    """A service that takes exactly the clip."""
    return settings.model_copy(update={"max_upload_bytes": clip.stat().st_size})


def test_the_limit_is_the_last_size_that_passes(serve: Serve, small: Settings, clip: Path) -> None:
    with serve(small) as client:
        assert upload(client, clip).status_code == 202
        assert client.post("/v1/analyses", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}).status_code == 202


def test_one_byte_more_is_refused_announced_or_not(serve: Serve, small: Settings, clip: Path) -> None:
    body = clip.read_bytes() + b"x"
    raw = {"Content-Type": "video/mp4"}
    form = part("file", body, "a.mp4") + END
    with serve(small) as client:
        assert_problem(client.post("/v1/analyses", content=body, headers=raw), 413, "upload-too-large")
        assert_problem(client.post("/v1/analyses", content=chunks(body), headers=raw), 413, "upload-too-large")
        assert_problem(client.post("/v1/analyses", content=form, headers=FORM), 413, "upload-too-large")
        assert_problem(client.post("/v1/analyses", content=chunks(form), headers=FORM), 413, "upload-too-large")
        assert left_behind(client, small) == []


def test_a_form_may_not_hide_its_bytes_around_the_file(serve: Serve, small: Settings) -> None:
    preamble = b"x" * (2 * MAX_OVERHEAD_BYTES)
    with serve(small) as client:
        answer = client.post("/v1/analyses", content=chunks(preamble + part("file", b"x", "a") + END), headers=FORM)
        assert_problem(answer, 422, "malformed-upload")
        assert left_behind(client, small) == []


def test_an_announced_giant_is_refused_before_it_is_sent(client: httpx.Client, settings: Settings) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        wire.sendall(head(client, 10**12))
        assert wire.recv(64).startswith(b"HTTP/1.1 413 ")
    assert left_behind(client, settings) == []


def test_a_full_disk_is_said_as_such(serve: Serve, settings: Settings, clip: Path) -> None:
    full = settings.model_copy(update={"min_free_bytes": 2**60})
    with serve(full) as client:
        assert_problem(upload(client, clip), 507, "insufficient-storage")
        answer = client.post("/v1/analyses", content=chunks(clip.read_bytes()), headers={"Content-Type": "video/mp4"})
        assert_problem(answer, 507, "insufficient-storage")
        assert left_behind(client, full) == []


def test_a_client_that_goes_away_leaves_nothing(client: httpx.Client, settings: Settings) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        wire.sendall(head(client, 5_000_000) + b"x" * 2_000_000)
        until = time.monotonic() + 60
        while not any((settings.data_dir / "analyses").iterdir()) and time.monotonic() < until:
            time.sleep(0.01)
        assert any((settings.data_dir / "analyses").iterdir())
    until = time.monotonic() + 60
    while left_behind(client, settings) and time.monotonic() < until:
        time.sleep(0.02)
    assert left_behind(client, settings) == []


@pytest.fixture
def impatient(settings: Settings) -> Settings:
    """A service that waits half a second for a client."""
    return settings.model_copy(update={"upload_stall_s": 0.5})


def answer_to(wire: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and problem of what came back until the service hung up."""
    said = b""
    while piece := wire.recv(4096):
        said += piece
    start, _, body = said.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(body)


@pytest.mark.parametrize("sent", [0, 1, 100_000])
def test_a_client_that_stops_sending_is_told_so_and_leaves_nothing(serve: Serve, impatient: Settings, sent: int) -> None:
    with serve(impatient) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
            wire.sendall(head(client, 5_000_000) + b"x" * sent)
            status, problem = answer_to(wire)
        assert (status, problem["type"]) == (408, "urn:undercurrent:problem:upload-too-slow")
        assert "within 0.5 s" in str(problem["expected"])
        assert left_behind(client, impatient) == []


def test_a_client_that_trickles_is_no_better(serve: Serve, impatient: Settings) -> None:
    """Slow loris: always one more byte, never an end."""
    with serve(impatient) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
            wire.sendall(head(client, 5_000_000))
            wire.settimeout(0.01)
            said, until = b"", time.monotonic() + 60
            while not said and time.monotonic() < until:
                # It may have answered, and hung up, since it was listened to last.
                with contextlib.suppress(ConnectionError):
                    wire.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    said = wire.recv(64)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert left_behind(client, impatient) == []


def test_everything_has_an_end(serve: Serve, settings: Settings) -> None:
    """A client that keeps its pace for ever is stopped as well."""
    hurried = settings.model_copy(update={"upload_timeout_s": 1.0})

    def endlessly() -> Iterator[bytes]:
        for _ in range(600):
            yield b"x" * 100_000
            time.sleep(0.1)

    with serve(hurried) as client:
        answer = client.post("/v1/analyses", content=endlessly(), headers={"Content-Type": "video/mp4"})
        assert "all of it within 1 s" in str(assert_problem(answer, 408, "upload-too-slow")["expected"])
        assert left_behind(client, hurried) == []


def test_a_slow_client_that_keeps_going_is_served(serve: Serve, impatient: Settings, clip: Path) -> None:
    """Time that this service takes itself is not counted against it."""

    def steadily() -> Iterator[bytes]:
        for piece in chunks(clip.read_bytes()):
            time.sleep(0.002)
            yield piece

    with serve(impatient.model_copy(update={"upload_stall_s": 20.0})) as client:
        answer = client.post("/v1/analyses", content=steadily(), headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 202, answer.text


def test_a_body_that_is_shorter_than_it_said_is_no_upload(client: httpx.Client, settings: Settings, clip: Path) -> None:
    whole = clip.read_bytes()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        wire.sendall(head(client, len(whole) + 1) + whole)
        wire.shutdown(socket.SHUT_WR)
        wire.recv(64)
    until = time.monotonic() + 60
    while left_behind(client, settings) and time.monotonic() < until:
        time.sleep(0.02)
    assert left_behind(client, settings) == []


def test_what_follows_the_announced_length_is_no_part_of_the_upload(client: httpx.Client, clip: Path) -> None:
    whole = clip.read_bytes()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        wire.sendall(head(client, len(whole)) + whole + b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        said = b""
        while piece := wire.recv(4096):
            said += piece
    assert said.startswith(b"HTTP/1.1 202 ") and b'"alive"' in said
    (row,) = client.get("/v1/analyses").json()["items"]
    assert client.get(row["links"]["media"]).content == whole


def test_two_lengths_are_refused(client: httpx.Client, settings: Settings) -> None:
    """Request smuggling: whoever sits in front must not see other requests than we do."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        wire.sendall(head(client, 5)[:-2] + b"Content-Length: 6\r\n\r\nabcdef")
        assert wire.recv(64).startswith(b"HTTP/1.1 400 ")
    assert left_behind(client, settings) == []


def test_the_same_media_is_judged_once_if_that_is_asked_for(serve: Serve, client: httpx.Client, settings: Settings, clip: Path) -> None:
    raw = {"Content-Type": "video/mp4"}
    first = client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers={**raw, "Prefer": "wait=60"}).json()
    assert first["status"] == "succeeded"
    again = client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers=raw)
    assert (again.status_code, again.json()) == (200, first)
    with clip.open("rb") as file:
        form = client.post("/v1/analyses?dedupe=true", files={"file": ("other.mp4", file)})
    assert (form.status_code, form.json()["id"]) == (200, first["id"])
    assert left_behind(client, settings) == [first["id"]] * 2
    assert client.post("/v1/analyses", content=clip.read_bytes(), headers=raw).json()["id"] != first["id"]
    assert client.post("/v1/analyses?dedupe=true", content=clip.read_bytes() + b"x", headers=raw).json()["id"] != first["id"]


def test_what_was_judged_otherwise_is_not_the_same(serve: Serve, settings: Settings, clip: Path) -> None:
    raw = {"Content-Type": "video/mp4", "Prefer": "wait=60"}
    ids = []
    for hz in (4.0, 5.0, 4.0):
        with serve(settings.model_copy(update={"hz": hz})) as client:
            ids.append(client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers=raw).json()["id"])
    assert ids[0] == ids[2] != ids[1]


@given(st.text(max_size=400))
def test_a_basename_is_no_path(name: str) -> None:
    shown = basename(name)
    assert shown is None or (0 < len(shown) <= 255 and shown.isprintable() and "/" not in shown and "\\" not in shown)


@pytest.mark.parametrize(
    ("name", "shown"), [("../../etc/passwd", "passwd"), ("C:\\clips\\a.mp4", "a.mp4"), ("a\nb.mp4", "ab.mp4"), ("", None), (None, None)]
)
def test_the_last_part_of_a_name_is_kept(name: str | None, shown: str | None) -> None:
    assert basename(name) == shown
