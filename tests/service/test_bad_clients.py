"""Clients that lie, trickle, flood and race: each is told by a problem or closed in time, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import pytest

from service.settings import Settings
from tests.service.conftest import Serve, assert_problem
from tests.service.processes import serving
from tests.service.test_keys import made
from tests.service.test_uploads import head, left_behind
from tests.service.watching import until

HEAD_S = 2.0


@dataclass(frozen=True)
class Door:
    """A service, and what it keeps."""

    client: httpx.Client
    settings: Settings

    @property
    def port(self) -> int:
        return self.client.base_url.port or 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    @property
    def kept(self) -> list[str]:
        """Rows and directories."""
        return sorted(left_behind(self.client, self.settings))


@pytest.fixture(scope="module")
def door(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("door"), min_free_bytes=0, hz=4.0, device="cpu")
    with serve(settings) as client:
        yield Door(client, settings)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are waited for no longer than HEAD_S."""
    monkeypatch.setattr("service.http_heads.HEAD_S", HEAD_S)


@pytest.fixture
def closed(door: Door) -> Iterator[Door]:
    """A door through which nothing may come."""
    before = door.kept
    yield door
    assert door.kept == before


def to_the_end(wire: socket.socket) -> bytes:
    """All that is said until the service hangs up."""
    said = b""
    while piece := wire.recv(4096):
        said += piece
    return said


def answered(said: bytes) -> tuple[int, dict[str, object]]:
    """Status and problem of an answer."""
    start, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in start
    return int(start.split()[1]), json.loads(body)


def post(port: int, *lines: str) -> bytes:
    """The head of an upload with these headers."""
    start = ("POST /v1/analyses HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: video/mp4")
    return "\r\n".join((*start, *lines, "", "")).encode()


LIES = {
    "negative": ("Content-Length: -1",),
    "no number": ("Content-Length: many",),
    "with a sign": ("Content-Length: +5",),
    "two": ("Content-Length: 5", "Content-Length: 6"),
    "in a list": ("Content-Length: 5, 6",),
    "beyond all numbers": (f"Content-Length: {'9' * 40}",),
    "another coding": ("Transfer-Encoding: gzip, chunked",),
    "a name with a blank": ("Content-Length : 5",),
    "a folded line": ("X-Note: a", " b: c\r\nContent-Length: 5\r\nContent-Length: 6"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_length_that_is_none_is_refused(closed: Door, lie: tuple[str, ...]) -> None:
    with closed.connect() as wire:
        wire.sendall(post(closed.port, *lie, "Connection: close") + b"abcdef")
        status, problem = answered(to_the_end(wire))
    assert status in (400, 413, 501) and problem["status"] == status and problem["title"]


def test_a_length_beside_chunks_smuggles_nothing(closed: Door) -> None:
    """Whoever sits in front may believe the length; what follows the chunks must not become a request then."""
    smuggled = b"5\r\nabcde\r\n0\r\n\r\nGET /v1/audit HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with closed.connect() as wire:
        wire.sendall(post(closed.port, f"Content-Length: {len(smuggled)}", "Transfer-Encoding: chunked") + smuggled)
        said = to_the_end(wire)
    assert said.count(b"HTTP/1.1 ") == 1, said
    assert answered(said)[1]["type"] == "urn:undercurrent:problem:malformed-request"


@pytest.mark.usefixtures("hurried")
def test_a_head_that_trickles_is_given_up_and_nobody_waits_for_it(closed: Door) -> None:
    """Slow loris: a byte now and then keeps no connection, nor does silence."""
    with ExitStack() as stack:
        loris = [stack.enter_context(closed.connect()) for _ in range(100)]
        for wire in loris[1:]:
            wire.sendall(b"GET /livez HTTP/1.1\r\nX-")
        assert closed.client.get("/livez").status_code == 200
        for wire in loris:
            status, problem = answered(to_the_end(wire))
            assert (status, problem["type"]) == (408, "urn:undercurrent:problem:head-too-slow")


@pytest.mark.usefixtures("hurried")
def test_a_second_head_is_waited_for_no_longer(closed: Door) -> None:
    ask = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{closed.port}\r\n".encode()
    with closed.connect() as wire:
        wire.sendall(ask + b"\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 200 ")
        wire.sendall(ask)
        assert b"HTTP/1.1 408 " in to_the_end(wire)


@pytest.mark.usefixtures("hurried")
def test_whoever_has_said_what_he_wants_has_time(door: Door, clip: Path) -> None:
    body = clip.read_bytes()
    with door.connect() as wire:
        wire.sendall(head(door.client, len(body)) + body[:1000])
        time.sleep(1.5 * HEAD_S)
        wire.sendall(body[1000:])
        assert wire.recv(64).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("connection", ("keep-alive", "close"))
def test_a_refusal_reaches_a_client_that_reads_after_its_last_byte(closed: Door, connection: str) -> None:
    """As httpx does: what is refused at once still comes for a second, and more of it than the buffers between hold."""
    pieces = 12

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield bytes(1024**2)
            await asyncio.sleep(0.1)

    async def refused() -> httpx.Response:
        headers = {"Content-Length": str(pieces * 1024**2), "Content-Type": "text/plain", "Connection": connection}
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(closed.client.base_url.join("/v1/analyses"), content=slowly(), headers=headers)

    assert_problem(asyncio.run(refused()), 415, "unsupported-content-type")
    assert closed.client.get("/livez").status_code == 200


def test_a_refusal_is_there_before_the_body_has_ended(closed: Door) -> None:
    with closed.connect() as wire:
        wire.sendall(post(closed.port, "Content-Length: 9000000", "Idempotency-Key: " + "x" * 300) + b"abc")
        assert wire.recv(4096).startswith(b"HTTP/1.1 422 ")
        wire.sendall(bytes(8_999_997))
        wire.sendall(f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{closed.port}\r\n\r\n".encode())
        said = b""
        while b"HTTP/1.1 200 " not in said:  # the same connection, as if the body had been wanted
            piece = wire.recv(4096)
            assert piece
            said += piece


def test_a_refused_body_without_an_end_is_cut_off(closed: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.unread_body.LINGER_S", 1.0)
    sent = 0
    with closed.connect() as wire, suppress(ConnectionError):
        wire.sendall(post(closed.port, "Transfer-Encoding: chunked", "Idempotency-Key: " + "x" * 300))
        while sent < 1000:
            wire.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
            sent += 1
            time.sleep(0.01)
    assert 0 < sent < 1000


def test_who_waits_to_be_told_to_go_on_is_answered_and_let_go(closed: Door) -> None:
    """`Expect: 100-continue`: nothing comes before the service reads, and after a refusal nothing will."""
    with closed.connect() as wire:
        wire.sendall(post(closed.port, "Content-Length: 1000000", "Expect: 100-continue", "Idempotency-Key: " + "x" * 300))
        status, problem = answered(to_the_end(wire))
    assert (status, problem["status"]) == (422, 422)


def test_a_head_without_an_end_is_cut_off(closed: Door) -> None:
    sent = 0
    with closed.connect() as wire, suppress(ConnectionError):
        wire.sendall(b"GET /livez HTTP/1.1\r\n")
        while sent < 64 * 1024**2:
            sent += wire.send(b"X-Long: x\r\n" * 1000)
    assert sent < 64 * 1024**2
    assert closed.client.get("/livez").status_code == 200


def test_what_is_no_http_is_refused(closed: Door) -> None:
    with closed.connect() as wire:
        wire.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        status, problem = answered(to_the_end(wire))
    assert (status, problem["type"]) == (400, "urn:undercurrent:problem:malformed-request")


SMALL: tuple[tuple[str, str, dict[str, str], bytes, int], ...] = (
    ("GET", "/livez", {}, b"", 200),
    ("GET", "/v1/analyses", {}, b"", 200),
    ("GET", "/nothing", {}, b"", 404),
    ("POST", "/v1/analyses", {"Content-Type": "video/mp4"}, b"x", 415),
    ("POST", "/v1/analyses", {"Content-Type": "application/json"}, b"{}", 422),
    ("DELETE", "/v1/analyses/00000000-0000-7000-8000-000000000000", {}, b"", 404),
)


async def flood(port: int, requests: int, at_once: int = 64) -> dict[int, int]:
    """Small requests of several kinds, a connection each; how often each status was answered."""
    statuses: dict[int, int] = {}
    turn = iter(range(requests))

    async def ask() -> None:
        for number in turn:
            method, path, headers, body, expected = SMALL[number % len(SMALL)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said_too = {"Host": f"127.0.0.1:{port}", "Connection": "close", "Content-Length": str(len(body)), **headers}
            lines = (f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said_too.items()), "", "")
            writer.write("\r\n".join(lines).encode() + body)
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            status = int(said.split(b" ", 2)[1])
            assert status == expected, said
            statuses[status] = statuses.get(status, 0) + 1

    await asyncio.gather(*(ask() for _ in range(at_once)))
    return statuses


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_flood_of_small_requests_is_answered_one_by_one(closed: Door) -> None:
    asyncio.run(flood(closed.port, 600))  # threads of a pool stay
    before, threads = resident_bytes(), threading.active_count()
    assert sum(asyncio.run(flood(closed.port, 600)).values()) == 600
    assert resident_bytes() - before < 64 * 1024**2
    until(lambda: threading.active_count() <= threads + 2)


def held_by(process: int) -> tuple[int, int]:
    """Open files and threads of a process."""
    threads = re.search(r"^Threads:\s+(\d+)$", Path(f"/proc/{process}/status").read_text(), flags=re.MULTILINE)
    assert threads is not None
    return len(list(Path(f"/proc/{process}/fd").iterdir())), int(threads[1])


async def kept_alive_flood(base_url: str, requests: int, connections: int, authorizations: tuple[str | None, ...]) -> Counter[int]:
    """Small requests of all kinds over connections that are kept; asserts each answer, and counts them by status."""
    statuses: Counter[int] = Counter()
    turn = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(base_url, connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:

        async def ask() -> None:
            for number in turn:
                method, path, headers, body, expected = SMALL[number % len(SMALL)]
                authorization = authorizations[number // len(SMALL) % len(authorizations)]
                is_stranger = authorization is None and path.startswith("/v1/")
                given = headers if authorization is None else {**headers, "Authorization": authorization}
                async with session.request(method, path, data=body, headers=given) as answer:
                    said = await answer.read()
                    assert answer.status == (401 if is_stranger else expected), (method, path, answer.status, said)
                    json.loads(said)
                    statuses[answer.status] += 1

        await asyncio.gather(*(ask() for _ in range(connections)))
    return statuses


@pytest.mark.slow
async def test_ten_thousand_tiny_requests_are_answered_and_leave_nothing(tmp_path: Path) -> None:
    """Every other round without the key that is needed."""
    authorizations = (f"Bearer {made(Settings(data_dir=tmp_path / 'data'), 'admin')}", None)
    with serving(tmp_path, require_keys=True, keys__per_minute=1_000_000, keys__at_once=1000) as service:
        base_url, process = str(service.client.base_url), service.process.pid
        await kept_alive_flood(base_url, 600, 200, authorizations)  # threads and database connections of a pool stay
        files, threads = held_by(process)
        statuses = await kept_alive_flood(base_url, 10_000, 200, authorizations)
        assert statuses.total() == 10_000 and max(statuses) < 500, statuses
        end = time.monotonic() + 120
        while (held := held_by(process))[0] > files + 2 or held[1] > threads + 2:
            assert time.monotonic() < end, f"files and threads: {held}, before {(files, threads)}"
            await asyncio.sleep(0.1)
        assert service.process.poll() is None
        assert [line for line in service.log if line["level"] in ("error", "critical")] == []


def test_of_two_bodies_with_one_key_at_once_one_is_taken(door: Door, clip: Path) -> None:
    """The other is told that the key is used, whichever was first; neither leaves what has no row."""
    start, before = threading.Barrier(6), door.kept

    def send(number: int) -> httpx.Response:
        body = clip.read_bytes() + bytes([number % 3]) * 10
        start.wait(120)
        return door.client.post("/v1/analyses", content=body, headers={"Content-Type": "video/mp4", "Idempotency-Key": "one"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    taken = [answer for answer in answers if answer.status_code < 300]
    for answer in answers:
        if answer not in taken:
            assert_problem(answer, 422, "idempotency-key-reused")
    assert len(taken) == 2 and len({answer.json()["id"] for answer in taken}) == 1, [answer.text for answer in answers]
    assert door.kept == sorted([*before, *[taken[0].json()["id"]] * 2])
