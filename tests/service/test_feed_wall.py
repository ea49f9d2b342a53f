"""All feeds over one connection: looks told together hide no peak, whoever comes back has missed nothing, and no tenant hears another's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import feed_wall
from service.database import now
from service.feed_wall import HISTORY, KEPT, TOGETHER_S, Wall, WallTold
from service.feed_wire import FeedState, FeedStateEvent
from service.schemas import Moment
from service.settings import Settings
from service.stream_wire import DropEvent, LatencyStages, ScoreEvent
from tests.rtsp import RtspServer, rtsp_server
from tests.service.conftest import Serve, assert_problem
from tests.service.test_feeds import EAGER, register
from tests.service.test_keys import bearer, made
from tests.service.watching import Json, WallWatcher, until
from tests.support import require

STAGES = LatencyStages(decode_s=0.0, wait_s=0.0, look_s=0.1)
LATENCY_S = 0.25
"""Without a remainder in binary, so that times come out as they went in."""


def score(at: float = 0.0, p: float | None = None, *, seq: int = 1) -> ScoreEvent:
    """A look at a picture that came `at` seconds of the service's clock."""
    moment = Moment(t=at, pts=0, time_base=(1, 1000))
    return ScoreEvent(
        session_id="s",
        event_seq=seq,
        at=moment,
        stamp=0,
        provenance="rtp",
        p=p,
        faces=[],
        latency_s=LATENCY_S,
        stages=STAGES,
        judged_at=at + LATENCY_S,
    )


def state(name: FeedState = "running") -> FeedStateEvent:
    return FeedStateEvent(session_id="s", state=name, since=now())


async def rest(wall: Wall, last: str | None = None) -> list[WallTold]:
    """Everything that a watcher hears of a wall that is closed."""
    wall.close()
    async with aclosing(wall.follow(last)) as follower:
        return [told async for told in follower]


def of(told: list[WallTold], kind: str) -> list[Json]:
    return [json.loads(one.data) for one in told if one.kind == kind]


async def begun(wall: Wall) -> str:
    """The number from which a watcher that begins now goes on."""
    async with aclosing(wall.follow(None)) as follower:
        hello = await anext(follower)
    assert hello.id is not None and not json.loads(hello.data)["resumed"]
    return hello.id


probabilities = st.one_of(st.none(), st.floats(0, 1))
looks = st.lists(st.tuples(st.floats(0, 0.5), probabilities), min_size=1, max_size=60)


@given(looks)
async def test_looks_are_told_together_and_no_peak_is_left_out(given_looks: list[tuple[float, float | None]]) -> None:
    wall, at = Wall(), 1000.0
    start = await begun(wall)
    for n, (later_s, p) in enumerate(given_looks):
        at += later_s
        wall.put("door", score(at, p, seq=n + 1))
    wall.put("door", state())
    told = [one["event"] for one in of(await rest(wall, start), "looks")]
    assert sum(one["looks"] for one in told) == len(given_looks)
    assert sum(one["judged"] for one in told) == sum(p is not None for _, p in given_looks)
    judged = [p for _, p in given_looks if p is not None]
    assert max((one["p"] for one in told if one["p"] is not None), default=None) == max(judged, default=None)
    assert told[-1]["event_seq"] == len(given_looks), "the state came after all of them"
    apart = [later["arrived_at"] - sooner["arrived_at"] for sooner, later in pairwise(told[:-1])]
    assert all(gap >= TOGETHER_S for gap in apart)


async def test_a_clock_that_is_set_back_holds_no_look_up() -> None:
    wall = Wall()
    start = await begun(wall)
    for at in (5000.0, 1000.0, 1000.5, 1001.5):
        wall.put("door", score(at))
    assert [one["event"]["arrived_at"] for one in of(await rest(wall, start), "looks")] == [5000.0, 1000.0, 1001.5]


@given(st.lists(st.sampled_from(["look", "state", "drop"]), max_size=40), st.integers(0, 40))
async def test_whoever_comes_back_has_all_of_it_once_and_in_order(what: list[str], heard: int) -> None:
    wall = Wall()
    start = await begun(wall)
    for n, kind in enumerate(what):
        wall.put(f"feed-{n % 3}", score(2.0 * n) if kind == "look" else state() if kind == "state" else drop())
    whole = (await rest(wall, start))[1:]
    assert len(whole) == sum(kind != "drop" for kind in what)
    last = ([start] + [one.id or "" for one in whole])[min(heard, len(whole))]
    hello, *again = await rest(wall, last)
    assert json.loads(hello.data)["resumed"]
    assert again == whole[min(heard, len(whole)) :]


def drop() -> DropEvent:
    return DropEvent(session_id="s", cause="overtaken", n=1)


@pytest.mark.parametrize("last", [None, "", "elsewhere-3", "-1", "{run}-x", "{run}-9999", "{run}--1", "{run}-" + "9" * 40, "\u0663-\u0663"])
async def test_what_is_no_number_of_this_run_begins_anew_with_the_last_minutes(last: str | None) -> None:
    wall = Wall()
    run = (await begun(wall)).partition("-")[0]
    for n in range(HISTORY + 20):
        wall.put("door", score(2.0 * n, n / 1000))
    wall.put("gate", state())
    told = await rest(wall, None if last is None else last.replace("{run}", run))
    assert [one.kind for one in told] == ["hello", "history", "history"]
    door, gate = of(told, "history")
    assert not of(told, "hello")[0]["resumed"]
    assert (door["feed_id"], gate["looks"]) == ("door", [])
    assert door["looks"] == [[2.0 * n, n / 1000] for n in range(20, HISTORY + 20)]


async def test_who_falls_out_of_what_is_kept_begins_anew() -> None:
    wall = Wall()
    start = await begun(wall)
    follower = wall.follow(start)
    await anext(follower)
    for n in range(KEPT + 1):
        wall.put("door", score(2.0 * n))
    async with aclosing(follower):
        behind = [await anext(follower), await anext(follower)]
    assert [one.kind for one in behind] == ["hello", "history"] and not json.loads(behind[0].data)["resumed"]
    later = await rest(wall, behind[0].id)
    assert [one.kind for one in later] == ["hello"], "it has begun with the newest"


async def test_silence_is_said_and_a_feed_that_is_gone_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_wall, "TICK_S", 0.01)
    wall = Wall(now=lambda: 7.0)
    wall.put("door", score())
    wall.forget("door")
    async with aclosing(wall.follow(None)) as follower:
        told = [await anext(follower), await anext(follower), await anext(follower)]
    assert [one.kind for one in told] == ["hello", "tick", "tick"] and told[1].id is None
    assert json.loads(told[1].data) == {"at": 7.0}


# ---- over the wire


@dataclass(frozen=True)
class House:
    """A service with keys, and cameras of this machine: one with a face, one without."""

    client: httpx.Client
    camera: RtspServer
    ours: dict[str, str]
    theirs: dict[str, str]


@pytest.fixture(scope="module")
def house(serve: Serve, endless: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require("rtsp")
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("wall") / "data",
        min_free_bytes=0,
        hz=4.0,
        device="cpu",
        require_keys=True,
        camera_networks=(ip_network("127.0.0.0/8"),),
    )
    with rtsp_server(endless) as camera, serve(settings) as client:
        ours, theirs = (bearer(made(settings, "feeds", tenant=tenant)) for tenant in ("ours", "theirs"))
        yield House(client, camera, ours, theirs)


@pytest.fixture
def feeds(house: House) -> Iterator[tuple[str, str]]:
    """The paths of two feeds of ours: a face, and nobody."""
    house.client.headers.update(house.ours)
    made_feeds = (register(house.client, house.camera.url("/file"), rule=EAGER), register(house.client, house.camera.url("/live")))
    yield made_feeds
    for feed in made_feeds:
        house.client.delete(feed, headers=house.ours)
    until(lambda: house.client.get("/readyz").json()["streams"] == 0)


def id_of(feed: str) -> str:
    return feed.rpartition("/")[2]


def test_one_connection_tells_of_all_feeds_and_of_no_other_tenants(house: House, feeds: tuple[str, str]) -> None:
    face, nobody = map(id_of, feeds)
    with (
        WallWatcher(house.client, headers=house.ours) as watcher,
        WallWatcher(house.client, headers=house.theirs) as other,
    ):
        alert = watcher.until("alert", lambda told: told["event"]["change"] == "began")
        assert alert["feed_id"] == face == alert["event"]["alert"]["feed_id"]
        for feed in (face, nobody):
            watcher.until("looks", lambda told, feed=feed: told["feed_id"] == feed)  # type: ignore[misc]
        heard = len(watcher.events)
        last = watcher.events[heard - 1]["id"]
        watcher.until("looks", lambda told: told["id"] != last and watcher.events.index(told) > heard + 2)
        with WallWatcher(house.client, last=last, headers=house.ours) as again:
            again.until("looks", lambda told: again.events.index(told) > 3)
        other.until("tick")
    assert {told["feed_id"] for told in watcher.events if "feed_id" in told} == {face, nobody}
    assert [told["type"] for told in other.events if told["type"] != "tick"] == ["hello"]
    assert again.events[0]["resumed"] and not watcher.events[0]["resumed"]
    # The second has gone on behind what the first had heard: nothing is missing, and nothing comes twice.
    numbered = [told for told in watcher.events if told["id"] is not None]
    after = [told["id"] for told in numbered[numbered.index(watcher.events[heard - 1]) + 1 :]]
    gone_on = [told["id"] for told in again.events[1:] if told["id"] is not None]
    both = min(len(after), len(gone_on))
    assert both >= 2 and gone_on[:both] == after[:both]
    newest = house.client.get("/v1/alerts", headers=house.ours).json()["items"]
    # Where a busy machine loses sight of the face for long, it is another alert.
    assert {one["feed_id"] for one in newest} == {face}
    assert house.client.get("/v1/alerts", headers=house.theirs).json()["items"] == []


def test_the_newest_still_is_a_picture_that_was_looked_at_and_its_box_is_on_the_face(house: House, feeds: tuple[str, str]) -> None:
    still = f"{feeds[0]}/still"
    found: Json = {}

    def seen() -> bool:
        answer = house.client.get(still)
        if answer.status_code == 204:
            return False
        found.update(look=json.loads(answer.headers["Undercurrent-Look"]), answer=answer)
        return bool(found["look"]["faces"])

    until(seen)
    answer, look = found["answer"], found["look"]
    assert answer.headers["Content-Type"] == "image/jpeg" and answer.headers["Cache-Control"] == "no-store"
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None and picture.shape == (480, 640, 3)
    # The portrait is not of the colour of its ground.
    stands_out = (np.abs(picture.astype(int) - (90, 110, 120)) > 30).any(axis=2)
    portrait = np.flatnonzero(stands_out.sum(axis=0) > 20)
    left, top, right, bottom = look["faces"][0]["box"]
    assert abs((left + right) / 2 - (portrait[0] + portrait[-1]) / 2) < 30
    assert 0 < top < bottom < 480 and right - left > 60
    assert math.isclose(look["at"]["t"], look["at"]["pts"] * look["at"]["time_base"][0] / look["at"]["time_base"][1])

    def unchanged() -> bool:
        newest = house.client.get(still)
        same = house.client.get(still, headers={"If-None-Match": newest.headers["ETag"]})
        return same.status_code == 304 and same.content == b"" and same.headers["ETag"] == newest.headers["ETag"]

    until(unchanged)
    until(lambda: house.client.get(still).headers["ETag"] != answer.headers["ETag"])
    assert_problem(house.client.get(still, headers=house.theirs), 404, "feed-not-found")
    assert house.client.patch(feeds[0], json={"paused": True}).status_code == 200
    until(lambda: house.client.get(still).status_code == 204)
    assert house.client.get(still).content == b""


def test_all_of_it_wants_the_scope(house: House) -> None:
    for path in ("/v1/feeds/events", "/v1/alerts", "/v1/feeds/00000000-0000-7000-8000-000000000000/still"):
        with httpx.Client(base_url=house.client.base_url, timeout=60) as anyone:
            assert_problem(anyone.get(path), 401, "unauthenticated")
    assert_problem(house.client.get("/v1/feeds/events", headers={**house.ours, "Last-Event-ID": "9" * 200}), 422, "invalid-request")
    assert_problem(house.client.get("/v1/alerts", params={"limit": 0}, headers=house.ours), 422, "invalid-request")
