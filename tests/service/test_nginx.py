"""The load balancer: Debian's nginx runs `docker/nginx/nginx.conf` before two real replicas, one of which leaves, dies, and comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import connect
from service.media_header import MediaKind
from service.objects import PART_BYTES
from tests.nginx import nginx
from tests.service.broken_network import BrokenNetwork
from tests.service.conftest import assert_problem, upload
from tests.service.processes import Serving, serving
from tests.service.streaming import Talk, pictures_of, talk
from tests.service.test_analyses import events
from tests.service.test_client import port_of
from tests.support import require


def asked(replica: Serving, route: str) -> int:
    """How many GET requests for `route` a replica has answered, as its own metrics say."""
    text = httpx.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=60).text
    found = [line for line in text.splitlines() if line.startswith("undercurrent_http_requests_total") and f'route="{route}"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Serving]]:
    require("nginx")
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    with serving(first) as one, serving(second) as other:
        yield one, other


def test_both_replicas_work_and_the_outside_sees_one_service(pair: tuple[Serving, Serving], clip: Path, tmp_path: Path) -> None:
    with nginx(tmp_path, *(replica.port for replica in pair)) as client:
        for _ in range(20):
            assert client.get("/livez").json() == {"status": "alive"}
        assert min(asked(replica, "/livez") for replica in pair) >= 8
        answer = upload(client, clip, wait_s=60)
        assert answer.json()["status"] == "succeeded"
        given = client.get("/livez", headers={"X-Request-ID": "from-outside"})
        assert given.headers["X-Request-ID"] == "from-outside" and len(answer.headers["X-Request-ID"]) == 32
        assert "nginx/" not in answer.headers["Server"]
        assert client.get("/metrics").status_code == 404
        problem = assert_problem(client.post("/v1/analyses", headers={"Origin": "http://evil.example"}), 403, "cross-origin")
        assert problem["expected"] == f"the origin {client.base_url.netloc.decode()}", "it knows by which name it was asked"


def test_a_large_upload_is_passed_on_while_it_still_comes(pair: tuple[Serving, Serving], clip: Path, tmp_path: Path) -> None:
    sent = threading.Event()

    def body() -> Iterator[bytes]:
        yield clip.read_bytes()
        yield bytes(2 * PART_BYTES)  # more than nginx takes unless told otherwise, and a part of it is kept at once
        deadline = time.monotonic() + 60
        while not any(list((replica.log_file.parent / "data" / "analyses").glob("*/media*")) for replica in pair):
            assert time.monotonic() < deadline, "no replica saw the beginning before the end was sent"
            time.sleep(0.02)
        sent.set()
        yield bytes(1000)

    for replica in pair:  # what earlier tests left
        for row in replica.client.get("/v1/analyses").json()["items"]:
            replica.client.delete(row["links"]["self"])
    with nginx(tmp_path, *(replica.port for replica in pair)) as client:
        answer = client.post("/v1/analyses", content=body(), headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 202 and sent.is_set()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 100_000] == [], "nothing was kept on the way"


def test_events_come_as_they_happen(pair: tuple[Serving, Serving], endless: Path, tmp_path: Path) -> None:
    with nginx(tmp_path, pair[0].port, pair[0].port) as client:
        path = upload(client, endless).headers["Location"]
        with client.stream("GET", f"{path}/events") as stream:
            seen = Counter(name for name, _ in _first(events(stream.iter_lines()), 8))
        assert seen["progress"] >= 3
        assert client.post(f"{path}/cancel").status_code == 200, "held back, they would come when it has ended"


def _first(found: Iterator[tuple[str, object]], n: int) -> Iterator[tuple[str, object]]:
    for _ in range(n):
        yield next(found)


def test_a_replica_that_leaves_or_dies_costs_no_request(pair: tuple[Serving, Serving], tmp_path: Path) -> None:
    second = pair[1].port
    for sign, settings in ((signal.SIGTERM, {"drain_notice_s": 2}), (signal.SIGKILL, {})):
        directory = tmp_path / sign.name
        directory.mkdir()
        with serving(directory, **settings) as leaving, nginx(directory, leaving.port, second) as client:
            statuses: Counter[int] = Counter()
            stop = threading.Event()

            def asked_more(n: int, statuses: Counter[int] = statuses) -> None:
                wanted, deadline = statuses[200] + n, time.monotonic() + 60
                while statuses[200] < wanted:
                    assert time.monotonic() < deadline, statuses
                    time.sleep(0.02)

            def ask(statuses: Counter[int] = statuses, stop: threading.Event = stop, client: httpx.Client = client) -> None:
                while not stop.is_set():
                    statuses[client.get("/livez").status_code] += 1
                    statuses[client.get("/v1/analyses").status_code] += 1
                    time.sleep(0.01)

            asking = [threading.Thread(target=ask) for _ in range(4)]
            for thread in asking:
                thread.start()
            try:
                asked_more(100)
                leaving.ended(sign, 60)
                asked_more(100)
                time.sleep(2)  # and some more, as many as there are
            finally:
                stop.set()
                for thread in asking:
                    thread.join()
            assert set(statuses) == {200}, (sign, statuses)


def test_a_stream_and_the_question_before_it_go_where_its_route_leads(pair: tuple[Serving, Serving], tmp_path: Path) -> None:
    with nginx(tmp_path, *(replica.port for replica in pair)) as client:

        def places(queries: list[str]) -> list[int]:
            """How many of these each replica has answered."""
            before = [asked(replica, "/v1/stream") for replica in pair]
            for query in queries:
                assert client.get(f"/v1/stream{query}").status_code == 204
            return [asked(replica, "/v1/stream") - n for replica, n in zip(pair, before, strict=True)]

        for n in range(8):
            assert sorted(places([f"?route={n}"] * 4)) == [0, 4], "one stream, one replica"
        assert min(places([f"?route={n}" for n in range(60)])) > 0 and min(places([""] * 60)) > 0, "all together, both of them"


async def test_whoever_lost_the_connection_goes_on_at_the_replica_that_has_the_stream(
    pair: tuple[Serving, Serving], clip: Path, tmp_path: Path
) -> None:
    images, stamps = pictures_of(clip)
    seconds, half = [stamp / 1e6 for stamp in stamps], len(images) // 2
    with nginx(tmp_path, *(replica.port for replica in pair)) as client, BrokenNetwork(port_of(client)) as network:
        for _ in range(8):  # by chance the right one half the time
            async with connect(network.url, mode="frames", codec="jpeg", pace="every") as live:
                await live.send_all(zip(images[:half], seconds[:half], strict=True))
                network.cut()
                await live.send_all(zip(images[half:], seconds[half:], strict=True))
                await live.finish()
            assert live.resumed == 1 and live.end is not None
            assert live.end.totals.received.media == len(images) + 1, "all of it and the last word, in one stream"


async def test_a_live_stream_hears_that_its_replica_leaves_and_goes_on_at_the_other(
    pair: tuple[Serving, Serving], clip: Path, tmp_path: Path
) -> None:
    images, stamps = pictures_of(clip)

    async def begin(it: Talk) -> None:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        await it.until("ready")
        await it.feed(MediaKind.JPEG, images[:24], stamps)
        await it.until("score")

    with serving(tmp_path) as leaving, nginx(tmp_path, leaving.port, leaving.port) as client:
        async with talk(client) as it:
            await begin(it)
            leaving.process.send_signal(signal.SIGTERM)
            end = await it.until("end")
            assert (end["reason"], await it.closed()) == ("draining", 1012)
            assert end["verdict"] is not None, "what was seen is not lost"
        assert leaving.process.wait(60) == -signal.SIGTERM
        (tmp_path / "after").mkdir()
        with nginx(tmp_path / "after", leaving.port, pair[1].port) as left:
            for _ in range(2):  # whichever of the two nginx would have chosen
                async with talk(left) as again:
                    await begin(again)
                    await again.say("stop")
                    await again.until("end")
                    assert await again.closed() == 1000
