"""Connections have a bound: one too many is told so and let go, who is in stays, whoever has no key is not listened to for long."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from service.doors import FEWEST, MOST, Doors
from service.http_heads import LEAVE_S
from service.settings import Settings
from tests.service.conftest import Serve
from tests.service.test_bad_clients import answered, to_the_end
from tests.service.test_client import port_of
from tests.service.test_keys import made
from tests.service.test_metrics import one, scrape

ROOM = 12
PATIENCE_S = 60.0


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def asked(wire: socket.socket) -> bytes:
    """What one answers over a connection that stays open."""
    wire.sendall(b"GET /v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    said = b""
    while not said.endswith(b"}"):
        piece = wire.recv(4096)
        assert piece, said
        said += piece
    return said


def open_sockets() -> int:
    """Of this process; files come and go, with another connection to the database at any moment."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found += str(descriptor.readlink()).startswith("socket:")
    return found


@pytest.fixture
def small(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    """A service with room for few, one of whom is the client."""
    with serve(settings.model_copy(update={"max_connections": ROOM})) as client:
        assert client.get("/livez").status_code == 200
        yield client


def test_one_too_many_is_told_so_and_whoever_is_in_stays(small: httpx.Client) -> None:
    port = port_of(small)
    with ExitStack() as stack:
        inside = [stack.enter_context(connected(port)) for _ in range(ROOM - 1)]
        for wire in inside:
            assert asked(wire).startswith(b"HTTP/1.1 200 ")
        for said_before in (b"", b"POST /v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)):
            with connected(port) as outside:
                with suppress(ConnectionError):
                    outside.sendall(said_before)
                said = to_the_end(outside)
            status, problem = answered(said)
            assert (status, problem["type"], problem["status"]) == (503, "urn:undercurrent:problem:too-many-connections", 503)
            assert b"\r\nRetry-After: 5\r\n" in said and problem["expected"] == f"at most {ROOM} at once"
        assert all(asked(wire).startswith(b"HTTP/1.1 200 ") for wire in inside)
        assert one(scrape(small), "undercurrent_connections_refused_total") == 2
        inside[0].close()
        until = time.monotonic() + PATIENCE_S
        while True:
            with connected(port) as next_one, suppress(ConnectionError, AssertionError):
                if asked(next_one).startswith(b"HTTP/1.1 200 "):
                    break
            assert time.monotonic() < until, "nobody got the place that is free"
            time.sleep(0.05)


def test_who_watches_a_full_service_sees_that_it_lives(small: httpx.Client) -> None:
    port = port_of(small)
    with ExitStack() as stack:
        for _ in range(ROOM - 1):
            asked(stack.enter_context(connected(port)))
        # More than are told at once, so none of them keeps a place.
        for _ in range(2 * FEWEST):
            for path, part in (("/livez", b'"alive"'), ("/metrics", b"undercurrent_connections_refused_total")):
                with connected(port) as watcher:
                    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
                    watcher.sendall(head[:-2])
                    time.sleep(0.01)  # what comes in two pieces is one question
                    watcher.sendall(head[-2:] + b"GET /v1/analyses HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    said = to_the_end(watcher)
                assert said.startswith(b"HTTP/1.1 200 ") and part in said, said
                assert said.count(b"HTTP/1.1 ") == 1, "a second question is none of a watcher's"
        assert one(scrape(small), "undercurrent_connections_refused_total") == 0, "nobody was refused"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        for n, (path, more) in enumerate((("/livez", upgrade), ("/livezz", ""), ("/readyz", ""))):
            with connected(port) as outside:
                outside.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode())
                assert answered(to_the_end(outside))[0] == 503
            assert one(scrape(small), "undercurrent_connections_refused_total") == n + 1
        # A crowd that says nothing makes way.
        for _ in range(4 * FEWEST):
            stack.enter_context(connected(port))
        with connected(port) as watcher:
            watcher.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert to_the_end(watcher).startswith(b"HTTP/1.1 200 ")


def test_a_crowd_that_was_turned_away_keeps_nothing_open(small: httpx.Client) -> None:
    port = port_of(small)
    with ExitStack() as stack:
        for _ in range(ROOM - 1):
            asked(stack.enter_context(connected(port)))
        before = open_sockets()
        crowd = [stack.enter_context(connected(port)) for _ in range(300)]  # nobody of whom reads or goes
        until = time.monotonic() + PATIENCE_S
        while one(scrape(small), "undercurrent_connections_refused_total") < len(crowd):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert open_sockets() - before <= len(crowd) + FEWEST, "of the service's own ends few are left"
        while open_sockets() - before > len(crowd):
            assert time.monotonic() < until, f"whoever does not go is let go after {LEAVE_S:g} s"
            time.sleep(0.05)
        assert small.get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("wanted", "files", "most"),
    [(None, 2**20, MOST), (None, 1024, 256), (None, 64, FEWEST), (100, 1024, 100), (10_000, 2**20, 10_000), (10_000, 1024, 256)],
)
def test_connections_leave_files_for_the_work(wanted: int | None, files: int, most: int) -> None:
    doors = Doors(wanted, files, lambda: None)
    assert doors.most == most
    if files >= 1024:
        assert 2 * doors.most + doors.at_once + doors.told < files


def test_whoever_has_no_key_is_soon_not_listened_to(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.unread_body.STRANGER_S", 1.0)
    locked = settings.model_copy(update={"require_keys": True})
    reader, writer = made(locked, "analyses:read"), made(locked, "analyses:write")

    def heard(client: httpx.Client, key: str, path: str, for_s: float) -> tuple[int, bool]:
        """The refusal, and whether somebody who is refused in the middle of an upload can go on for so long."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n{key}\r\n"
        with connected(port_of(client)) as wire:
            wire.sendall(head.encode() + b"3\r\nabc\r\n")
            said = wire.recv(4096)
            until = time.monotonic() + for_s
            with suppress(ConnectionError):
                while time.monotonic() < until:
                    wire.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
                    time.sleep(0.02)
                return int(said.split()[1]), True
        return int(said.split()[1]), False

    with serve(locked) as client:
        for key, path, status in (
            ("", "/v1/analyses", 401),
            ("Authorization: Bearer uc_0_0\r\n", "/v1/analyses", 401),
            ("Origin: http://evil.example\r\n", "/v1/analyses", 403),
            ("", "/nothing", 404),
        ):
            assert heard(client, key, path, PATIENCE_S) == (status, False), (key, path)
        for secret, status in ((reader, 403), (writer, 415)):
            key = f"Authorization: Bearer {secret}\r\n"
            assert heard(client, key, "/v1/analyses", 4.0) == (status, True), "whoever has a key hears a refusal to the end"
        assert json.loads(client.get("/livez").content) == {"status": "alive"}
