"""The page of threats cannot rot: every test that it names exists; and those threats that no other file has a test for."""

from __future__ import annotations

import ast
import json
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serve, assert_problem
from tests.service.test_keys import bearer, made
from tests.support import ROOT

PAGE = ROOT / "service" / "THREATS.md"
ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named() -> list[tuple[str, str]]:
    return ID.findall(PAGE.read_text("utf-8"))


def test_every_line_names_a_test_and_every_test_exists() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 25
    assert [line for line in lines if not ID.search(line)] == []
    there = {
        (file, one.name)
        for file in {file for file, _ in named()}
        for one in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert [one for one in named() if one not in there] == []


@pytest.fixture(scope="module")
def locked(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Settings]]:
    """A service that wants keys."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("locked"), min_free_bytes=0, device="cpu", require_keys=True)
    with serve(settings) as client:
        yield client, settings


WAYS_OUT = (
    "/assets/../boundary.py",
    "/assets/%2e%2e/boundary.py",
    "/assets/..%2fboundary.py",
    "/assets/live/..%2f..%2f..%2fboundary.py",
    "/assets/%5c..%5cboundary.py",
    "/assets//etc/hostname",
    "/assets/mark.svg%00.html",
    "/v1/analyses/..%2f..%2fetc%2fhostname/media",
    "/v1/analyses/%2e%2e/media",
    "/v1/analyses/00000000-0000-7000-8000-000000000000%2f../media",
    "/v1/analyses/00000000-0000-7000-8000-000000000000/tracks/0/crops/..%2fresult.json",
    "/v1/feeds/..%2f..%2fetc/alerts/1/still",
)


@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_path_leads_out(locked: tuple[httpx.Client, Settings], path: str) -> None:
    """As it is on the wire, since a client would tidy it up."""
    client, settings = locked
    secret = made(settings, "admin")
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60) as wire:
        ask = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.base_url.port}\r\nConnection: close\r\nAuthorization: Bearer {secret}\r\n\r\n"
        )
        wire.sendall(ask.encode())
        said = b""
        while piece := wire.recv(65536):
            said += piece
    assert said.split()[1] in (b"404", b"422"), said
    assert b"application/problem+json" in said and b"ASGI" not in said


def test_what_a_client_says_makes_no_header_and_no_log_line(
    locked: tuple[httpx.Client, Settings], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, settings = locked
    key = bearer(made(settings, "admin"))
    forged = 'a\r\nSet-Cookie: planted=1\r\n\r\n{"event": "forged"}'
    raw = {"Content-Type": "video/mp4", **key}
    answer = client.post("/v1/analyses", params={"filename": forged, "external_id": forged}, content=clip.read_bytes(), headers=raw)
    assert answer.status_code == 202, answer.text
    path = answer.headers["Location"]
    for answered in (answer, client.get(path, headers=key), client.get(f"{path}/media", headers=key)):
        assert "Set-Cookie" not in answered.headers and not re.search(r"[\r\n]", "".join(answered.headers.values()))
    # The cursor and the words of a search come back in a header.
    listed = client.get("/v1/analyses", params={"limit": 1, "q": forged}, headers=key)
    assert listed.status_code == 200 and "planted" not in listed.cookies and "\r" not in str(listed.headers.get("Link"))
    refused = client.get("/v1/analyses/%0d%0aSet-Cookie:x", headers=key)
    assert refused.status_code == 422 and "Set-Cookie" not in refused.headers
    assert client.get("/livez", headers={"X-Request-ID": "forged event"}).headers["X-Request-ID"] != "forged event"
    said = capsys.readouterr().out.splitlines()
    assert said and not [line for line in said if line.startswith(("{", "Set-Cookie"))]


def test_a_session_cannot_be_planted(locked: tuple[httpx.Client, Settings]) -> None:
    """A value that somebody put into a browser before its owner signed in is worth nothing, and signing in replaces it."""
    client, settings = locked
    own = {"Origin": str(client.base_url).rstrip("/")}
    planted = "uc_0123456789ab_" + "x" * 43
    with httpx.Client(base_url=client.base_url, cookies={"undercurrent_session": planted}, timeout=60) as browser:
        assert_problem(browser.get("/v1/analyses"), 401, "unauthenticated")
        key = made(settings, "analyses:read")
        signed_in = browser.post("/v1/session", json={"key": key}, headers=own)
        assert signed_in.status_code == 201
        (given,) = re.findall(r"undercurrent_session=([^;]+)", signed_in.headers["Set-Cookie"])
        assert given not in (planted, key)
        again = browser.post("/v1/session", json={"key": key}, headers=own)
        assert given not in again.headers["Set-Cookie"], "each sign-in has a session of its own"
    assert_problem(client.get("/v1/analyses", headers={"Cookie": f"undercurrent_session={planted}"}), 401, "unauthenticated")
    assert client.get("/v1/analyses", headers={"Cookie": f"undercurrent_session={given}"}).status_code == 200


def test_what_it_is_built_from_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    free = [one for one in (*project["dependencies"], *optional["traces"], *optional["credentials"]) if not re.search(r"==|<", one)]
    assert free == [], "the next major version of somebody else's is not ours"
    assert [one for one in optional["dev"] if "==" not in one and not one.startswith("undercurrent[")] == []
    lock = json.loads((ROOT / "service/dashboard/package-lock.json").read_text("utf-8"))["packages"]
    assert [name for name, one in lock.items() if name and not str(one.get("integrity", "")).startswith("sha512-")] == []
    assert "ignore-scripts=true" in (ROOT / "service/dashboard/.npmrc").read_text("utf-8"), "what is fetched to build with runs nothing"
