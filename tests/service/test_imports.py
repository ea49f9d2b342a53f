"""Media from a URL: fetched from where this service may go, and from nowhere else; what goes wrong there is said, and leaves nothing."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.ports import free_port
from tests.service.conftest import Serve, assert_problem
from tests.service.processes import serving
from tests.service.test_analyses import until
from tests.service.test_uploads import left_behind
from tests.web import Web, web_server


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as running:
        yield running


@dataclass(frozen=True)
class Fetcher:
    """A service, and what it keeps."""

    client: httpx.Client
    settings: Settings

    def kept(self) -> list[str]:
        return left_behind(self.client, self.settings)


@contextmanager
def apart(folder: Path, **settings: object) -> Iterator[Fetcher]:
    """A service in a process of its own: this one has room for one only."""
    with serving(folder, **settings) as running:
        yield Fetcher(running.client, Settings(data_dir=folder / "data"))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    """A service that may go where anybody may; nothing is left in it."""
    with apart(tmp_path_factory.mktemp("public")) as running:
        yield running


@pytest.fixture
def near(settings: Settings) -> Settings:
    """Of a service that may fetch from this machine."""
    return settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),)})


@pytest.fixture(scope="module")
def fetcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    """A service that may fetch from this machine."""
    with apart(tmp_path_factory.mktemp("fetcher"), camera_networks='["127.0.0.0/8"]') as running:
        yield running


def import_(client: httpx.Client, url: str, **said: object) -> httpx.Response:
    return client.post("/v1/analyses", json={"url": url, **said})


def test_media_is_fetched_stored_and_judged(fetcher: Fetcher, web: Web, clip: Path) -> None:
    url = web.give("/a/some%20clip.mp4?token=secret", clip.read_bytes(), Content_Type="video/mp4").replace("://", "://user:word@")
    answer = import_(fetcher.client, url, external_id="case 7")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["filename"], body["external_id"]) == ("some clip.mp4", "case 7")
    assert body["source_url"] == web.url("/a/some%20clip.mp4") and "secret" not in answer.text and "word" not in answer.text
    assert until(fetcher.client, answer.headers["Location"], "succeeded", "failed")["status"] == "succeeded"
    assert hashlib.sha256(fetcher.client.get(body["links"]["media"]).content).digest() == hashlib.sha256(clip.read_bytes()).digest()
    ((path, headers),) = web.asked
    assert path == "/a/some%20clip.mp4?token=secret" and headers["Authorization"].startswith("Basic ")
    assert (headers["Accept-Encoding"], headers["Host"]) == ("identity", f"127.0.0.1:{web.port}")


def test_what_it_is_called_does_not_count(fetcher: Fetcher, web: Web, clip: Path) -> None:
    before = len(fetcher.kept())
    assert import_(fetcher.client, web.give("/page", clip.read_bytes(), Content_Type="text/html")).status_code == 202
    web.answers.clear()
    problem = assert_problem(
        import_(fetcher.client, web.give("/a.mp4", b"<html>" * 99, Content_Type="text/html")), 415, "unsupported-media"
    )
    assert "its host calls it text/html" in str(problem["got"])
    assert len(fetcher.kept()) == before + 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/clip", "http://localhost:{port}/clip", "http://127.1:{port}/clip", "http://2130706433:{port}/clip",
        "http://[::ffff:127.0.0.1]:{port}/clip", "http://0.0.0.0:{port}/clip", "https://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/", "http://[fd00::1]/", "http://[64:ff9b::7f00:1]/", "http://user@127.0.0.1:{port}/clip", "http://:80/", "http:///clip",
    ],
)  # fmt: skip
def test_a_service_of_the_public_internet_goes_nowhere_else(public: Fetcher, web: Web, clip: Path, url: str) -> None:
    web.give("/clip", clip.read_bytes())
    assert_problem(import_(public.client, url.format(port=web.port)), 403, "url-not-allowed")
    assert (web.asked, public.kept()) == ([], [])


def test_a_public_host_is_asked_on_ports_of_the_web_only(public: Fetcher) -> None:
    problem = assert_problem(import_(public.client, "http://8.8.8.8:6379/"), 403, "url-not-allowed")
    assert problem["got"] == "port 6379"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.mp4", "rtsp://example.org/a", "/etc/passwd", "", "gopher://x"])
def test_only_the_web_is_fetched_from(public: Fetcher, url: str) -> None:
    assert_problem(import_(public.client, url), 415, "unsupported-media")
    assert public.kept() == []


def test_a_redirect_is_held_to_the_same_rules(fetcher: Fetcher, web: Web, clip: Path) -> None:
    web.give("/clip", clip.read_bytes())
    web.give("/moved", b"", status=302, Location="/clip")
    assert import_(fetcher.client, web.url("/moved")).status_code == 202
    stored = fetcher.kept()
    for where in ("http://169.254.169.254/latest/meta-data/", "http://10.1.2.3/", "http://[::1]/"):
        web.give("/out", b"", status=307, Location=where)
        assert_problem(import_(fetcher.client, web.url("/out")), 403, "url-not-allowed")
    web.give("/out", b"", status=301, Location="file:///etc/passwd")
    assert_problem(import_(fetcher.client, web.url("/out")), 415, "unsupported-media")
    web.give("/out", b"", status=301, Location="http://[not-an-address/")
    assert_problem(import_(fetcher.client, web.url("/out")), 422, "import-failed")
    web.give("/round", b"", status=302, Location="/round")
    assert_problem(import_(fetcher.client, web.url("/round")), 422, "import-failed")
    assert fetcher.kept() == stored


def test_a_name_is_looked_up_once(serve: Serve, near: Settings, web: Web, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what was found allowed is what is connected to."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def rebinding(host: str, port: int, *rest: object, **more: object) -> object:
        if host != "rebinding.test":
            return look_up(host, port, *rest, **more)  # type: ignore[arg-type]  # handed through
        asked.append(host)
        return look_up("127.0.0.1" if len(asked) == 1 else "10.255.255.1", port, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    web.give("/clip", clip.read_bytes())
    with serve(near) as client:
        answer = import_(client, web.url("/clip", "rebinding.test"))
    assert answer.status_code == 202, answer.text
    assert asked == ["rebinding.test"] and web.asked[0][1]["Host"] == f"rebinding.test:{web.port}"


@pytest.mark.parametrize("status", [204, 206, 401, 404, 410, 500, 503])
def test_an_answer_that_is_no_media_is_said(fetcher: Fetcher, web: Web, status: int) -> None:
    before = fetcher.kept()
    problem = assert_problem(import_(fetcher.client, web.give("/a.mp4", b"", status=status)), 422, "import-failed")
    assert str(problem["got"]).startswith(str(status))
    assert fetcher.kept() == before


def test_nobody_there_is_said(fetcher: Fetcher) -> None:
    before = fetcher.kept()
    assert_problem(import_(fetcher.client, f"http://127.0.0.1:{free_port()}/a.mp4"), 422, "source-unreachable")
    assert_problem(import_(fetcher.client, "http://nobody.invalid/a.mp4"), 422, "source-unreachable")
    assert fetcher.kept() == before


def test_what_is_too_large_is_refused_announced_or_not(serve: Serve, near: Settings, web: Web, clip: Path) -> None:
    small = near.model_copy(update={"max_upload_bytes": clip.stat().st_size})
    more = clip.read_bytes() + b"x"

    def unannounced(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.end_headers()
        asked.wfile.write(more * 4)

    def announced(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", str(10**15))
        asked.end_headers()

    web.answers |= {"/unannounced": unannounced, "/announced": announced}
    with serve(small) as client:
        assert import_(client, web.give("/fits", clip.read_bytes())).status_code == 202
        stored = left_behind(client, small)
        for path in ("/unannounced", "/announced"):
            assert_problem(import_(client, web.url(path)), 413, "upload-too-large")
        assert left_behind(client, small) == stored


def test_a_host_that_takes_its_time_is_not_waited_for(serve: Serve, near: Settings, web: Web) -> None:
    leave = threading.Event()

    def mute(asked: BaseHTTPRequestHandler) -> None:
        leave.wait(60)

    def half(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", "1000000")
        asked.end_headers()
        asked.wfile.write(b"x" * 100)
        leave.wait(60)

    def trickle(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.end_headers()
        while not leave.wait(0.05):
            asked.wfile.write(b"x")

    web.answers |= {"/mute": mute, "/half": half, "/trickle": trickle}
    hurried = near.model_copy(update={"upload_stall_s": 0.5})
    try:
        with serve(hurried) as client:
            for path in web.answers:
                assert_problem(import_(client, web.url(path)), 504, "import-too-slow")
            assert left_behind(client, hurried) == []
    finally:
        leave.set()


def test_what_breaks_off_or_is_no_http_is_said(fetcher: Fetcher, web: Web, clip: Path) -> None:
    before = fetcher.kept()

    def cut(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", str(clip.stat().st_size))
        asked.end_headers()
        asked.wfile.write(clip.read_bytes()[:-1])

    def nonsense(asked: BaseHTTPRequestHandler) -> None:
        asked.wfile.write(b"\x00\x01\x02 good day\r\n\r\n")

    web.answers |= {"/cut": cut, "/nonsense": nonsense}
    web.give("/packed", gzip.compress(clip.read_bytes()), Content_Encoding="gzip")
    for path in ("/cut", "/nonsense", "/packed"):
        assert_problem(import_(fetcher.client, web.url(path)), 422, "import-failed")
    assert fetcher.kept() == before


def test_tls_is_held_to_the_name_and_not_to_the_address(
    serve: Serve, near: Settings, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = _certificate(tmp_path, "localhost")
    with web_server(pem) as web:
        web.give("/clip", clip.read_bytes())
        web.give("/down", b"", status=302, Location=web.url("/clip", "localhost").replace("https", "http"))
        with serve(near) as client:
            untrusted = assert_problem(import_(client, web.url("/clip", "localhost")), 422, "source-unreachable")
            assert "certificate" in str(untrusted["got"]).lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        assert ssl.create_default_context(cafile=str(pem)).cert_store_stats()["x509"] == 1
        with serve(near) as client:
            assert import_(client, web.url("/clip", "localhost")).status_code == 202
            other = assert_problem(import_(client, web.url("/clip", "127.0.0.1")), 422, "source-unreachable")
            assert "certificate" in str(other["got"]).lower()
            down = assert_problem(import_(client, web.url("/down", "localhost")), 403, "url-not-allowed")
            assert down["expected"] == "https"


def test_a_key_stands_for_the_url(fetcher: Fetcher, web: Web, clip: Path) -> None:
    def ask(url: str) -> httpx.Response:
        return fetcher.client.post("/v1/analyses", json={"url": url}, headers={"Idempotency-Key": "k"})

    url = web.give("/clip", clip.read_bytes())
    first = ask(url)
    web.answers.clear()
    # It is not fetched again, and need not be there any more.
    assert ask(url).json()["id"] == first.json()["id"] and len(web.asked) == 1
    assert_problem(ask(web.url("/other")), 422, "idempotency-key-reused")
    raw = fetcher.client.post("/v1/analyses", content=clip.read_bytes(), headers={"Content-Type": "video/mp4", "Idempotency-Key": "k"})
    assert_problem(raw, 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"url": 7}', b'{"url": "http://a", "more": 1}', b'{"link": "http://a"}', b"\xff\xfe",
        b'{"url": "http://a", "external_id": "' + b"x" * 201 + b'"}', b'{"url": "' + b"x" * 5000 + b'"}', b'{"upload": "../../etc"}',
    ],
)  # fmt: skip
def test_json_that_is_no_wish_is_refused(public: Fetcher, body: bytes) -> None:
    answer = public.client.post("/v1/analyses", content=body, headers={"Content-Type": "application/json"})
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"]
    assert public.kept() == []


def test_a_flood_of_json_is_cut_off(public: Fetcher) -> None:
    answer = public.client.post("/v1/analyses", content=(b" " * 4096 for _ in range(100)), headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "malformed-upload")


def _certificate(folder: Path, name: str) -> Path:
    """A key and a certificate of its own signing for `name`, in one file."""
    pem, key = folder / "server.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", pem),
        ],
        check=True,
        capture_output=True,
    )
    pem.write_bytes(pem.read_bytes() + key.read_bytes())
    return pem
