"""Alerts of feeds with their evidence: stills with a face in its box, clips with the camera's times, kept over restarts, within bounds."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from fractions import Fraction
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipelines.media import Frame
from service.database import now
from service.feed_album import KEEP_S, Album, Picture, Still
from service.feed_clip import clip_of
from service.feed_store import Evidence, FeedStore
from service.objects import Objects
from service.settings import FeedTerms, Settings, StreamTerms
from tests.clips import face_frame, variable_pts
from tests.rtsp import RtspServer, rtsp_server
from tests.service.conftest import Serve, assert_problem
from tests.service.test_feeds import EAGER, Json, register
from tests.service.watching import Watcher, until
from tests.support import require
from tests.web import web_server

NEVER = {"threshold": 1.0}


@pytest.fixture
def camera(endless: Path) -> Iterator[RtspServer]:
    """Its /file shows a face."""
    require("rtsp")
    with rtsp_server(endless) as running:
        yield running


@pytest.fixture
def near_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),)})


def times(clip: bytes) -> list[Fraction]:
    """Seconds of every picture in a clip."""
    with av.open(io.BytesIO(clip), "r") as opened:
        return [frame.pts * frame.time_base for frame in opened.decode(video=0) if frame.pts is not None and frame.time_base is not None]


def _is(n: int, change: str, event: Json) -> bool:
    return bool(event["alert"]["n"] == n and event["change"] == change)


def frame(pts: int, base: Fraction = Fraction(1, 1000), *, width: int = 640, height: int = 480) -> Frame:
    return Frame(face_frame(float(pts * base), width=width, height=height), pts, base)


def pictures(n: int) -> list[Picture]:
    """As many, as an album keeps them."""
    album = Album(64 * 1024**2)
    for tick in range(n):
        album.add(frame(tick * 40))
    return album.between(Fraction(0), Fraction(100))


def test_an_alert_has_a_still_and_a_clip_that_outlive_the_service(serve: Serve, near_settings: Settings, camera: RtspServer) -> None:
    with serve(near_settings) as client:
        feed = register(client, camera.url("/file"), rule=EAGER)
        with Watcher(client, feed) as watcher:
            began = watcher.until("alert")["alert"]
            assert began["clip"] is None and client.get(began["links"]["still"]).status_code == 200
            assert client.patch(feed, json={"rule": NEVER}).status_code == 200
            kept = watcher.until("alert", lambda event: event["change"] == "clip")["alert"]
            looks = [event["at"]["pts"] for event in watcher.of("score")]
            told = client.get("/metrics").text
            assert 'undercurrent_feeds{state="running"} 1.0' in told and "undercurrent_alerts_total 1.0" in told
        assert kept["state"] == "ended" and kept["links"]["clip"] == f"{feed}/alerts/1/clip"
        client.patch(feed, json={"paused": True})
    with serve(near_settings) as client:
        assert client.get(f"{feed}/alerts/1").json() == kept
        still, clip = client.get(kept["links"]["still"]), client.get(kept["links"]["clip"])
        assert (still.headers["Content-Type"], clip.headers["Content-Type"]) == ("image/jpeg", "video/mp4")
        part = client.get(kept["links"]["clip"], headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        assert_problem(client.get(kept["links"]["clip"], headers={"Range": "bytes=99999999-"}), 416, "range-not-satisfiable")
    picture = cv2.imdecode(np.frombuffer(still.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (480, 640, 3)
    assert (abs(picture.astype(int) - (60, 60, 255)).sum(axis=2) < 60).sum() > 200, "a box is drawn"
    first, last = kept["clip"]["first"], kept["clip"]["last"]
    base = Fraction(*first["time_base"])
    shown = [round(t / base) + first["pts"] for t in times(clip.content)]
    assert shown[0] == first["pts"] and shown[-1] == last["pts"]
    assert first["pts"] <= kept["began"]["pts"] and kept["last"]["pts"] <= last["pts"] and kept["peak"]["at"]["pts"] in shown
    assert {pts for pts in looks if first["pts"] <= pts <= last["pts"]} <= set(shown), "every look is there, at its own time"
    assert len(clip.content) == kept["clip"]["bytes"]


def test_while_the_database_is_away_the_feed_goes_on_and_what_began_is_told_once(
    serve: Serve, near_settings: Settings, camera: RtspServer
) -> None:
    settings = near_settings.model_copy(update={"streams": StreamTerms(drain_s=1.0)})
    with web_server() as web, serve(settings) as client:
        webhook = client.post("/v1/webhooks", json={"url": web.give("/", b""), "events": ["alert.started", "alert.ended"]}).json()
        feed = register(client, camera.url("/file"), rule={**EAGER, "min_s": 3})
        with Watcher(client, feed) as watcher:
            first = watcher.until("score", lambda event: event["p"] is not None)
            with closing(sqlite3.connect(settings.data_dir / "undercurrent.db", isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                until(lambda: client.get(feed).json()["live"]["totals"]["alerts"] > 0)
                judged, at_s = now(), watcher.of("score")[-1]["at"]["t"]
                # A statement waits for the lock for five seconds, and is tried again.
                watcher.until("score", lambda event: event["at"]["t"] > at_s + 6)
                assert watcher.of("alert") == [] and client.get(f"{feed}/alerts").json()["items"] == []
                assert [event["session_id"] for event in watcher.of("score")] == [first["session_id"]] * len(watcher.of("score"))
            began = watcher.until("alert")["alert"]
            assert (began["n"], began["state"]) == (1, "open") and datetime.fromisoformat(began["told_at"]) <= judged
            assert client.patch(feed, json={"rule": NEVER}).status_code == 200
            kept = watcher.until("alert", lambda event: event["change"] == "clip")["alert"]
            assert [event["change"] for event in watcher.of("alert")] == ["began", "ended", "clip"]
            assert client.get(feed).json()["live"]["totals"]["sessions"] == 1
        assert client.get(f"{feed}/alerts").json()["items"] == [kept]
        for evidence in ("still", "clip"):
            assert client.get(kept["links"][evidence]).status_code == 200
        until(lambda: len(web.posted) >= 2)
        told = [json.loads(post.body) for post in web.posted]
        assert [(one["type"], one["data"]["n"], one["data"]["cause"]) for one in told] == [
            ("alert.started", 1, None),
            ("alert.ended", 1, "stopped"),
        ]
        assert len(client.get(webhook["links"]["deliveries"]).json()["items"]) == 2
        assert "undercurrent_alert_notes_lost_total 0.0" in client.get("/metrics").text


def test_a_store_that_hangs_holds_up_neither_the_feed_nor_a_change_of_its_rule(
    serve: Serve, near_settings: Settings, camera: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, begun, held = FeedStore.put, threading.Event(), threading.Event()

    def slowly(self: FeedStore, feed_id: str, n: int, evidence: Evidence, content: bytes) -> None:
        begun.set()
        held.wait(600)
        put(self, feed_id, n, evidence, content)

    monkeypatch.setattr(FeedStore, "put", slowly)
    with serve(near_settings.model_copy(update={"streams": StreamTerms(drain_s=1.0)})) as client:
        feed = register(client, camera.url("/file"), rule=EAGER)
        with Watcher(client, feed) as watcher:
            try:
                first = watcher.until("score")
                assert begun.wait(120)
                assert client.patch(feed, json={"rule": NEVER}).status_code == 200
                later = watcher.of("score")[-1]["at"]["t"] + 3
                assert watcher.until("score", lambda event: event["at"]["t"] > later)["session_id"] == first["session_id"]
                assert watcher.of("alert") == []
            finally:
                held.set()
            kept = watcher.until("alert", lambda event: event["change"] == "clip")["alert"]
        assert [event["change"] for event in watcher.of("alert")] == ["began", "ended", "clip"]
        assert client.get(f"{feed}/alerts").json()["items"] == [kept]


def test_the_oldest_alerts_go_first_and_numbers_are_not_used_again(serve: Serve, near_settings: Settings, camera: RtspServer) -> None:
    with serve(near_settings.model_copy(update={"feeds": FeedTerms(kept_alerts=1)})) as client:
        feed = register(client, camera.url("/file"), rule=EAGER)
        with Watcher(client, feed) as watcher:
            for n in (1, 2):
                watcher.until("alert", partial(_is, n, "began"))
                client.patch(feed, json={"rule": {**EAGER, "end_threshold": EAGER["threshold"] / (n + 1)}})
                watcher.until("alert", partial(_is, n, "clip"))
            until(lambda: [one["n"] for one in client.get(f"{feed}/alerts").json()["items"] if one["state"] == "ended"] == [2])
        for path in ("1", "1/still", "1/clip", "99"):
            assert_problem(client.get(f"{feed}/alerts/{path}"), 404, "alert-not-found")
        names = sorted(path.name for path in (near_settings.data_dir / "feeds").rglob("*.*"))
        assert "1.jpg" not in names and "1.mp4" not in names and {"2.jpg", "2.mp4"} <= set(names)
        client.delete(feed)
        assert list((near_settings.data_dir / "feeds").rglob("*.*")) == []


def test_a_feed_without_alerts_has_no_evidence(serve: Serve, near_settings: Settings) -> None:
    with serve(near_settings) as client:
        feed = register(client, "rtsp://127.0.0.1:1/a", paused=True)
        assert client.get(f"{feed}/alerts").json() == {"items": [], "next": None}
        assert_problem(client.get(f"{feed}/alerts/1/still"), 404, "alert-not-found")
        assert_problem(client.get(f"{feed}/alerts/0/still"), 422, "invalid-request")
        assert_problem(client.get(f"{feed}/alerts", params={"cursor": "-1"}), 422, "bad-cursor")


def test_a_clip_has_the_intervals_of_the_camera() -> None:
    album, ticks = Album(64 * 1024**2), [7_000 + tick for tick in variable_pts(4.0)]
    for tick in ticks:
        album.add(frame(tick))
    pictures = album.between(Fraction(7), Fraction(100))
    assert [round(t * 1000) for t in times(clip_of(pictures))] == [tick - ticks[0] for tick in ticks]
    assert len(times(clip_of(pictures[:1]))) == 1


def test_a_camera_that_changes_its_size_stays_in_one_clip() -> None:
    album = Album(64 * 1024**2)
    for tick, (width, height) in enumerate([(641, 481), (641, 481), (1280, 720), (321, 241)]):
        album.add(frame(tick * 40, width=max(width, 400), height=max(height, 400)))
    clip = clip_of(album.between(Fraction(0), Fraction(1)))
    with av.open(io.BytesIO(clip), "r") as opened:
        shapes = {(one.width, one.height) for one in opened.decode(video=0)}
    assert shapes == {(640, 480)} and len(times(clip)) == 4


def test_an_album_is_bounded_in_seconds_and_bytes() -> None:
    album = Album(64 * 1024**2)
    for second in range(100):
        album.add(frame(second * 1000, width=400, height=400))
        album.saw(second * 1000, {1: (0.0, 0.0, 10.0, 10.0)})
    kept = album.between(Fraction(0), Fraction(1000))
    assert [picture.pts for picture in kept] == list(range(99_000 - round(KEEP_S) * 1000, 100_000, 1000))
    assert album.still(0, 1) is None and isinstance(album.still(99_000, 1), Still) and album.still(99_000, 2) is None
    small = Album(3 * len(kept[0].jpeg))
    for second in range(100):
        small.add(frame(second * 1000, width=400, height=400))
    assert 0 < sum(len(picture.jpeg) for picture in small.between(Fraction(0), Fraction(1000))) <= 3 * len(kept[0].jpeg)
    none = Album(0)
    none.add(frame(0))
    assert none.between(Fraction(0), Fraction(1)) == []


def test_large_pictures_are_kept_small_and_their_boxes_fit() -> None:
    album = Album(64 * 1024**2)
    album.add(frame(0, width=1920, height=1080))
    album.saw(0, {5: (960.0, 540.0, 1919.0, 1079.0)})
    still = album.still(0, 5)
    assert still is not None and still.picture.image.shape == (540, 960, 3)
    drawn = cv2.imdecode(np.frombuffer(still.jpeg(), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert abs(drawn[270, 700].astype(int) - (60, 60, 255)).sum() < 90, "the upper edge of the box"


def test_what_no_feed_knows_is_removed(tmp_path: Path) -> None:
    store = FeedStore(Objects.in_directory(tmp_path / "feeds"))
    for feed_id in ("a", "b"):
        store.put(feed_id, 1, "still", b"x")
    kept = store.kept()
    store.put("c", 1, "still", b"x")  # registered meanwhile, by another replica
    assert store.remove_orphans(kept, ["a"]) == ["b"]
    store.remove("c")
    assert [path.parent.name for path in tmp_path.rglob("*.jpg")] == ["a"]
    store.remove_alerts("a", [1, 2])
    assert list(tmp_path.rglob("*.jpg")) == []
