"""Cameras that the service watches by itself: a real RTSP server and a real service, through outages, refusals and restarts of either."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from pipelines.live import LiveStream
from service import feed_keeper
from service.feed_rows import FeedRows
from service.feed_store import FeedStore
from service.settings import FeedTerms, Settings, StreamTerms
from service.stream_session import Session
from tests.rtsp import USER, RtspServer, rtsp_server
from tests.service.conftest import Serve, assert_problem
from tests.service.processes import serving
from tests.service.streaming import Left
from tests.service.watching import Watcher, until
from tests.support import require

Json = dict[str, Any]
LOOPBACK = (ip_network("127.0.0.0/8"),)
EAGER = {"threshold": 1e-9, "min_s": 0.5, "cooldown_s": 0}
"""A rule by which every face is worth an alert."""


@pytest.fixture
def camera(endless: Path) -> Iterator[RtspServer]:
    """Its /file shows a face."""
    require("rtsp")
    with rtsp_server(endless) as running:
        yield running


@pytest.fixture
def near_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"camera_networks": LOOPBACK})


@pytest.fixture
def near(serve: Serve, near_settings: Settings) -> Iterator[httpx.Client]:
    """A service that may look at cameras of this machine."""
    with serve(near_settings) as client:
        yield client


def register(client: httpx.Client, url: str, **fields: object) -> str:
    """Register a camera; returns the path of its feed."""
    answer = client.post("/v1/feeds", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    path: str = answer.headers["Location"]
    assert path == answer.json()["links"]["self"]
    return path


def shown(client: httpx.Client, feed: str) -> Json:
    answer = client.get(feed)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_a_registered_camera_is_watched_and_all_watchers_hear_the_same(near: httpx.Client, camera: RtspServer) -> None:
    feed = register(near, camera.url("/live"), name="door", hz=4)
    with Watcher(near, feed) as one, Watcher(near, feed) as other:
        for watcher in (one, other):
            watcher.until("score")
        last = one.until("score", lambda event: event["event_seq"] > other.of("score")[0]["event_seq"] + 4)
        other.until("score", lambda event: event["event_seq"] >= last["event_seq"])
    heard = [{event["id"]: event for event in watcher.events if event["type"] != "state"} for watcher in (one, other)]
    both = heard[0].keys() & heard[1].keys()
    assert len(both) >= 3 and all(heard[0][n] == heard[1][n] for n in both)
    assert one.events[0]["type"] == other.events[0]["type"] == "state", "the present state comes first"
    numbers = [event["id"] for event in one.events]
    assert numbers == sorted(numbers)
    found = shown(near, feed)
    assert (found["name"], found["state"], found["hz"]) == ("door", "running", 4)
    live = found["live"]
    assert live["media"]["codec"] == "h264" and live["last_score"]["latency_s"] > 0 and live["totals"]["looks"] >= 5
    assert live["totals"]["sessions"] == 1 and live["event_seq"] >= numbers[-1]
    assert live["last_score"]["p"] is None, "nobody is there, and null is not 0"


def test_a_watcher_that_comes_back_has_missed_nothing(near: httpx.Client, camera: RtspServer) -> None:
    feed = register(near, camera.url("/live"), hz=4)
    with Watcher(near, feed) as whole:
        with Watcher(near, feed) as first:
            first.until("score")
        last = first.events[-1]["id"]
        whole.until("score", lambda event: event["id"] > last + 3)
        with Watcher(near, feed, last=last) as second:
            second.until("score", lambda event: event["id"] > last + 3)
        whole.until("score", lambda event: event["id"] >= second.events[-1]["id"])
    told = [event["id"] for event in second.events]
    wanted = [event["id"] for event in whole.events if last < event["id"] <= told[-1] and event["type"] != "stats"]
    assert [event["id"] for event in second.events if event["type"] != "stats"] == wanted and told[0] > last


def test_an_outage_is_a_gap_and_the_session_goes_on(near: httpx.Client, camera: RtspServer) -> None:
    feed = register(near, camera.url("/live"))
    with Watcher(near, feed) as watcher:
        before = watcher.until("score")
        camera.restart()
        watcher.until("state", lambda event: event["state"] == "reconnecting")
        gap = watcher.until("gap", lambda event: event["cause"] == "reconnected")
        after = watcher.until("score", lambda event: event["at"]["pts"] > gap["end"]["pts"])
    assert after["session_id"] == before["session_id"]
    assert shown(near, feed)["live"]["totals"]["gaps"] >= 1


def test_an_alert_begins_ends_and_is_kept(near: httpx.Client, camera: RtspServer) -> None:
    feed = register(near, camera.url("/file"), rule=EAGER)
    with Watcher(near, feed) as watcher:
        began = watcher.until("alert")["alert"]
        assert began["state"] == "open" and began["n"] == 1 and began["seconds"] >= 0.5 and began["peak"]["p"] > 0
        assert near.patch(feed, json={"rule": {"threshold": 1.0}}).status_code == 200
        watcher.until("alert", lambda event: event["change"] == "ended")
        ended = watcher.until("alert", lambda event: event["change"] == "clip")["alert"]
    assert (ended["state"], ended["cause"], ended["began"]) == ("ended", "stopped", began["began"])
    (kept,) = near.get(f"{feed}/alerts").json()["items"]
    assert kept == ended
    assert shown(near, feed)["live"]["totals"]["alerts"] == 1 and shown(near, feed)["rule"]["threshold"] == 1.0


def test_a_camera_that_says_no_fails_and_a_change_tries_again(near: httpx.Client, camera: RtspServer) -> None:
    feed = register(near, camera.url("/private", "user:secret"))
    with Watcher(near, feed) as watcher:
        failed = watcher.until("state", lambda event: event["state"] == "failed")
        assert failed["code"] == "source-refused" and failed["problem"]["instance"] == feed
        assert shown(near, feed)["live"]["problem"] == failed["problem"] and shown(near, feed)["live"]["totals"]["sessions"] == 1
        near.patch(feed, json={"name": "again"})
        watcher.until("state", lambda event: event["state"] == "failed" and event["id"] > failed["id"])
    assert shown(near, feed)["live"]["totals"]["sessions"] == 2
    assert "secret" not in json.dumps(watcher.events) + near.get("/v1/feeds").text + near.get(feed).text


def test_a_camera_that_is_not_there_yet_is_tried_again(near: httpx.Client) -> None:
    require("rtsp")
    with rtsp_server() as camera:
        camera.kill()
        feed = register(near, camera.url("/live"))
        with Watcher(near, feed) as watcher:
            watcher.until("state", lambda event: event["attempt"] >= 1)
            camera.restart()
            watcher.until("score")


def test_a_camera_that_its_relay_does_not_know_yet_is_tried_again_and_says_why(near: httpx.Client) -> None:
    require("rtsp")
    with rtsp_server() as camera:
        camera.restart(without="/live")
        feed = register(near, camera.url("/live"))
        with Watcher(near, feed) as watcher:
            absent = watcher.until("state", lambda event: event["attempt"] >= 1)
            assert (absent["state"], absent["code"]) == ("connecting", "source-absent") and absent["next_retry_s"] is not None
            camera.restart()
            watcher.until("score")


def test_a_session_that_dies_without_its_end_is_followed_by_another(
    near: httpx.Client, camera: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes = Session._close
    feed = register(near, camera.url("/live"))
    with Watcher(near, feed) as watcher:
        watcher.until("score")

        def fails(self: Session, verdict: object) -> None:
            monkeypatch.setattr(Session, "_close", closes)
            raise LookupError

        monkeypatch.setattr(Session, "_close", fails)
        monkeypatch.setattr(LiveStream, "offer", lambda self, frame: False)
        watcher.until("state", lambda event: event["code"] == "internal-error")
        monkeypatch.undo()
        watcher.until("score", lambda event: event["id"] > watcher.of("state")[-1]["id"])


def test_a_feed_whose_row_could_not_be_written_is_free_and_is_watched_at_a_later_look(
    near: httpx.Client, near_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: FeedRows, feed_id: str, owner: str, event_seq: int) -> None:
        raise OperationalError("UPDATE feeds", {}, sqlite3.OperationalError("database is locked"))

    def holders() -> list[tuple[str | None, str | None]]:
        with closing(sqlite3.connect(near_settings.data_dir / "undercurrent.db")) as database:
            return database.execute("SELECT owner, lease_until FROM feeds").fetchall()

    with monkeypatch.context() as locked:
        locked.setattr(FeedRows, "renew", fails)
        feed = register(near, "rtsp://127.0.0.1:1/a", paused=True)
        assert shown(near, feed)["state"] == "elsewhere"
        until(lambda: holders() == [(None, None)])
    register(near, "rtsp://127.0.0.1:1/b", paused=True)  # looks at all of them
    until(lambda: shown(near, feed)["state"] == "paused")


def test_slow_work_costs_no_lease(near: httpx.Client, near_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_keeper, "LOOK_S", 0.2)
    held, begun = threading.Event(), threading.Event()
    gone, stays = (register(near, "rtsp://127.0.0.1:1/a", paused=True) for _ in range(2))

    def slowly(self: FeedStore, feed_id: str) -> None:
        begun.set()
        held.wait(600)

    def lease() -> str:
        with closing(sqlite3.connect(near_settings.data_dir / "undercurrent.db")) as database:
            ((until_when,),) = database.execute("SELECT lease_until FROM feeds WHERE id = ?", [stays.rpartition("/")[2]])
        return str(until_when)

    monkeypatch.setattr(FeedStore, "remove", slowly)
    deleting = threading.Thread(target=near.delete, args=[gone])
    deleting.start()
    try:
        assert begun.wait(120)
        before = lease()
        # The loop may have begun its first wait before LOOK_S was shortened.
        until(lambda: lease() > before)
    finally:
        held.set()
        deleting.join()


def test_what_is_deleted_leaves_nothing(near: httpx.Client, camera: RtspServer) -> None:
    left = Left()
    feed = register(near, camera.url("/file"), rule=EAGER)
    with Watcher(near, feed) as watcher:
        watcher.until("alert")
        assert near.delete(feed).status_code == 204
        watcher.until_ended()
    assert left.behind() == set()
    assert "undercurrent_engine_seats 0" in near.get("/metrics").text
    for path in (feed, f"{feed}/events", f"{feed}/alerts"):
        assert_problem(near.get(path), 404, "feed-not-found")
    assert_problem(near.delete(feed), 404, "feed-not-found")
    assert near.get("/v1/feeds").json() == {"items": [], "next": None}


def test_a_paused_feed_has_no_seat_and_goes_on_when_asked(near: httpx.Client, camera: RtspServer) -> None:
    left = Left()
    feed = register(near, camera.url("/live"), paused=True)
    assert shown(near, feed)["state"] == "paused" and left.behind() == set()
    with Watcher(near, feed) as watcher:
        assert near.patch(feed, json={"paused": False}).json()["paused"] is False
        watcher.until("score")
        near.patch(feed, json={"paused": True})
        watcher.until("state", lambda event: event["state"] == "paused" and event["id"] > watcher.of("score")[-1]["id"])
    assert left.behind() == set()


def test_a_feed_waits_for_a_seat(serve: Serve, near_settings: Settings, camera: RtspServer) -> None:
    with serve(near_settings.model_copy(update={"streams": StreamTerms(max_streams=1)})) as client:
        first = register(client, camera.url("/live"))
        until(lambda: shown(client, first)["state"] == "running")
        second = register(client, camera.url("/live"))
        with Watcher(client, second) as watcher:
            waiting = watcher.until("state", lambda event: event["state"] == "waiting")
            assert waiting["code"] == "overloaded" and waiting["next_retry_s"] > 0
            client.delete(first)
            watcher.until("score")


def test_feeds_outlive_the_service(tmp_path: Path, camera: RtspServer) -> None:
    """The real process: stopped in order, then killed; the same feed, and numbers that go on."""
    url = camera.url("/private", USER)
    places = {"camera_networks": '["127.0.0.0/8"]'}
    with serving(tmp_path, **places) as service:
        feed = register(service.client, url, name="gate")
        with Watcher(service.client, feed) as watcher:
            watcher.until("score")
            service.ended(signal.SIGTERM, 60)
        heard = watcher.events[-1]["id"]
        logged = service.log_file.read_text("utf-8")
    with serving(tmp_path, **places) as service:
        with Watcher(service.client, feed, last=heard) as watcher:
            watcher.until("score")
            assert min(event["id"] for event in watcher.events) > heard
            service.ended(signal.SIGKILL)
        killed_at = watcher.events[-1]["id"]
        logged += service.log_file.read_text("utf-8")
    with serving(tmp_path, **places) as service:
        with Watcher(service.client, feed, last=killed_at) as watcher:
            missed = watcher.until("missed")
            assert missed["after"] == killed_at
            assert watcher.until("score")["id"] > missed["until"]
        found = shown(service.client, feed)
        assert (found["id"], found["name"], found["url"]) == (feed.rpartition("/")[2], "gate", camera.url("/private"))
        logged += service.log_file.read_text("utf-8") + json.dumps(watcher.events) + json.dumps(found)
        service.ended(signal.SIGTERM, 60)
    assert "hunter2" not in logged and "feed_state" in logged


@pytest.mark.parametrize(
    ("fields", "status", "slug"),
    [
        ({"url": "ftp://user:hunter2@127.0.0.1/a"}, 415, "unsupported-media"),
        ({"url": "file:///etc/passwd"}, 415, "unsupported-media"),
        ({"url": "rtsp://user:hunter2@10.1.2.3/a"}, 403, "url-not-allowed"),
        ({"url": "rtsp://user:hunter2@"}, 403, "url-not-allowed"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/a b"}, 403, "url-not-allowed"),
        ({"url": ""}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/" + 3000 * "a"}, 422, "invalid-request"),
        ({"url": ["rtsp://user:hunter2@127.0.0.1/"]}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "speed": 3}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "hz": 0}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "name": "a\0b"}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": {"threshold": 1.5}}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": {"threshold": 0.5, "end_threshold": 0.6}}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": {"end_threshold": 0.6}}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": {"min_s": -1}}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": {"cooldown_s": "soon"}}, 422, "invalid-request"),
        ({"url": "rtsp://user:hunter2@127.0.0.1/", "rule": None}, 422, "invalid-request"),
    ],
)
def test_what_may_not_be_watched_is_refused_without_its_password(near: httpx.Client, fields: Json, status: int, slug: str) -> None:
    problem = assert_problem(near.post("/v1/feeds", json=fields), status, slug)
    assert "hunter2" not in json.dumps(problem)
    assert near.get("/v1/feeds").json()["items"] == []


def test_a_change_that_makes_no_sense_changes_nothing(near: httpx.Client) -> None:
    feed = register(near, "rtsp://127.0.0.1:1/a", paused=True, hz=2)
    before = shown(near, feed)
    for change in ({"hz": -1}, {"url": "rtsp://127.0.0.1/b"}, {"rule": {"threshold": 0}}, {"name": "\0"}):
        assert_problem(near.patch(feed, json=change), 422, "invalid-request")
    assert shown(near, feed) == before
    assert near.patch(feed, json={"hz": None, "name": None}).json()["hz"] == 4, "as often as the service looks"


def test_a_key_registers_once(near: httpx.Client) -> None:
    body = {"url": "rtsp://user:hunter2@127.0.0.1:1/a", "paused": True}
    first = near.post("/v1/feeds", json=body, headers={"Idempotency-Key": "a"})
    again = near.post("/v1/feeds", json=body, headers={"Idempotency-Key": "a"})
    assert (first.status_code, again.status_code) == (201, 200) and first.json()["id"] == again.json()["id"]
    other = near.post("/v1/feeds", json={**body, "hz": 1}, headers={"Idempotency-Key": "a"})
    assert "hunter2" not in json.dumps(assert_problem(other, 422, "idempotency-key-reused"))
    assert len(near.get("/v1/feeds").json()["items"]) == 1


def test_pages_give_every_feed_once_and_there_is_a_most(serve: Serve, near_settings: Settings) -> None:
    with serve(near_settings.model_copy(update={"feeds": FeedTerms(max_feeds=5)})) as client:
        made = [register(client, "rtsp://127.0.0.1:1/a", paused=True).rpartition("/")[2] for _ in range(5)]
        seen, cursor = [], None
        while True:
            answer = client.get("/v1/feeds", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            page = answer.json()
            seen += [one["id"] for one in page["items"]]
            assert ("Link" in answer.headers) == (page["next"] is not None)
            if (cursor := page["next"]) is None:
                break
        assert seen == made[::-1]
        assert_problem(client.post("/v1/feeds", json={"url": "rtsp://127.0.0.1:1/a"}), 409, "too-many-feeds")
        assert_problem(client.get("/v1/feeds", params={"cursor": "%%%"}), 422, "bad-cursor")
        assert_problem(client.get(f"/v1/feeds/{made[0]}/alerts", params={"cursor": "-1"}), 422, "bad-cursor")
