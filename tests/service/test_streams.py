"""Live streams over a real WebSocket: what a client sends is judged as a file is, every event comes once, and nothing stays behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.media_header import MediaFlag, MediaKind
from service.settings import Settings
from service.stream_wire import SUBPROTOCOL
from tests.clips import empty_clip, face_clip
from tests.service.conftest import Serve, upload
from tests.service.streaming import Json, Left, pictures_of, pieces, remuxed, stream_url, talk

# Numbers that a wrong verdict could not have by chance.
COMPARED = ("t", "pts", "dt", "logit", "p", "surprise", "box", "reason", "flags", "track")


@pytest.fixture(scope="module")
def clips(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same pictures in what a client may send."""
    folder = tmp_path_factory.mktemp("containers")
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    return {
        "fmp4": remuxed(clip, folder / "face.frag.mp4", fragments),
        "ts": remuxed(clip, folder / "face.ts"),
        "mkv": remuxed(clip, folder / "face.mkv"),
        "webm": face_clip(folder / "face.webm", seconds=3.0, fps=12.0, codec="libvpx"),
    }


def timeline_of(client: httpx.Client, path: Path) -> tuple[Json, list[Json]]:
    """Verdict and timeline of an uploaded file."""
    answer = upload(client, path, wait_s=60)
    assert answer.json()["status"] == "succeeded", answer.text
    return answer.json()["result"], client.get(answer.headers["Location"] + "/timeline").json()["rows"]


def rows_of(events: list[Json]) -> list[Json]:
    return [face for event in events if event["type"] == "score" for face in event["faces"]]


def only(rows: list[Json], names: tuple[str, ...] = COMPARED) -> list[Json]:
    return [{name: row[name] for name in names} for row in rows]


def numbered(events: list[Json]) -> list[int]:
    return [event["event_seq"] for event in events if event.get("event_seq") is not None]


@pytest.mark.parametrize("container", ["fmp4", "ts", "mkv", "webm"])
async def test_a_container_is_judged_as_the_same_file(client: httpx.Client, clips: dict[str, Path], container: str) -> None:
    left = Left()
    result, rows = timeline_of(client, clips[container])
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        assert (it.socket.subprotocol, ready["mode"], ready["pace"], ready["hz"]) == (SUBPROTOCOL, "container", "every", 4.0)
        await it.feed(MediaKind.CHUNK, pieces(clips[container].read_bytes(), 5000))
        await it.say("stop")
        end = await it.until("end")
        assert await it.closed() == 1000
    assert only(rows_of(it.events)) == only(rows) and len(rows) > 8
    assert (end["verdict"]["verdict"], end["verdict"]["score"]) == (result["verdict"], result["score"])
    assert end["reason"] == "stopped" and end["totals"]["dropped"] == 0
    assert numbered(it.events) == list(range(1, len(it.events) + 1))
    states = [event["state"] for event in it.of("source")]
    assert states == ["connecting", "running", "ended"]
    media = it.of("source")[1]["media"]
    assert (media["width"], media["height"]) == (640, 480)
    assert left.behind() == set()


@pytest.mark.parametrize(("kind", "suffix"), [("jpeg", ".jpg"), ("webp", ".webp")])
async def test_single_pictures_are_judged_as_the_same_file(client: httpx.Client, clip: Path, kind: str, suffix: str) -> None:
    left = Left()
    result, rows = timeline_of(client, clip)
    images, stamps = pictures_of(clip, suffix)
    async with talk(client) as it:
        await it.say("start", mode="frames", codec=kind, pace="every")
        await it.until("ready")
        await it.feed(MediaKind[kind.upper()], images, stamps)
        await it.say("stop")
        end = await it.until("end")
        assert await it.closed() == 1000
    assert end["verdict"]["verdict"] == result["verdict"]
    assert end["verdict"]["score"]["p"] == pytest.approx(result["score"]["p"], abs=0.05)
    told = rows_of(it.events)
    assert [row["t"] for row in told] == pytest.approx([row["t"] for row in rows], abs=1e-9)
    assert {event["provenance"] for event in it.of("score")} == {"client"}
    assert {event["stamp"] for event in it.of("score")} <= set(stamps)
    assert left.behind() == set()


async def test_what_a_picture_says_of_its_making_comes_back_with_its_score(client: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    async with talk(client) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        for image, stamp in zip(images[:24], stamps, strict=False):
            await it.room(len(image))
            await it.media(MediaKind.JPEG, image, pts_us=stamp, capture_epoch_us=1_700_000_000_000_000 + stamp)
        await it.media(MediaKind.JPEG, b"", flags=MediaFlag.LAST)
        end = await it.until("end")
    assert end["reason"] == "source_ended" and len(it.of("score")) >= 4
    assert all(event["capture_epoch_us"] == 1_700_000_000_000_000 + event["stamp"] for event in it.of("score"))


async def test_a_live_stream_looks_at_the_newest_and_tells_what_it_left_out(client: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    async with talk(client) as it:
        await it.say("start", mode="frames", codec="jpeg")
        assert (await it.until("ready"))["pace"] == "live"
        await it.feed(MediaKind.JPEG, images, stamps)
        await it.say("stop")
        end = await it.until("end")
    totals = end["totals"]
    stamps_told = [event["stamp"] for event in it.of("score")]
    assert stamps_told == sorted(set(stamps_told))
    told = sum(event["n"] for event in it.of("drop") if event["cause"] == "overtaken")
    assert told == totals["shed"] and totals["looked_at"] == sum(event["stands_for"] for event in it.of("score"))
    assert totals["received"]["media"] == len(images)


async def test_faces_come_and_go(client: httpx.Client, tmp_path: Path) -> None:
    clip = face_clip(tmp_path / "face.mkv", seconds=2.0, fps=12.0)
    images, stamps = pictures_of(clip)
    images_empty, _ = pictures_of(empty_clip(tmp_path / "empty.mkv", seconds=4.0))
    async with talk(client) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        await it.feed(MediaKind.JPEG, images + images_empty, stamps + [2_000_000 + i * 1_000_000 // 12 for i in range(len(images_empty))])
        await it.say("stop")
        await it.until("end")
    faces = [(event["state"], event["track"]) for event in it.of("face")]
    assert faces == [("appeared", 0), ("left", 0)] or faces == [("appeared", 1), ("left", 1)]
    seen = [face["t"] for event in it.of("score") for face in event["faces"]]
    appeared, gone = it.of("face")
    assert (appeared["at"]["t"], gone["at"]["t"]) == (seen[0], seen[-1])


async def test_a_pause_is_no_silence_and_a_real_distance(serve: Serve, settings: Settings, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    with serve(with_terms(settings, idle_s=1.0)) as client:
        async with talk(client) as it:
            await it.say("start", mode="frames", codec="jpeg", pace="every")
            await it.feed(MediaKind.JPEG, images[:24], stamps[:24])
            await it.say("pause")
            await asyncio.sleep(2.0)
            await it.say("resume_media")
            await it.feed(MediaKind.JPEG, images[24:48], [stamp + 2_000_000 for stamp in stamps[24:48]])
            await it.say("stop")
            end = await it.until("end")
        assert end["reason"] == "stopped"
        (gap,) = it.of("gap")
        assert gap["cause"] == "missing" and 2.0 <= gap["seconds"] < 2.5
        async with talk(client) as it:
            await it.say("start", mode="frames", codec="jpeg")
            await it.feed(MediaKind.JPEG, images[:2], stamps[:2])
            assert await it.closed() == 4408
        assert it.of("end")[0]["reason"] == "idle" and it.of("error")[0]["code"] == "stream-idle"


async def test_whoever_asks_is_answered(client: httpx.Client) -> None:
    async with talk(client) as it:
        await it.say("start", mode="container")
        await it.say("ping", t=12.5)
        assert (await it.until("pong"))["t"] == 12.5
        stats = await it.until("stats")
        assert (stats["looked_at"], stats["waiting_bytes"]) == (0, 0)


async def test_streams_beyond_the_bound_are_turned_away_with_a_time(serve: Serve, settings: Settings, clip: Path) -> None:
    with serve(with_terms(settings, max_streams=2)) as client:
        async with talk(client) as one, talk(client) as two, talk(client) as three:
            for it in (one, two):
                await it.say("start", mode="container")
                await it.until("ready")
            await three.say("start", mode="container")
            assert await three.closed() == 1013
            (error,) = three.of("error")
            assert error["code"] == "overloaded" and error["retryable"] and error["retry_after_s"] > 0
            await one.feed(MediaKind.CHUNK, pieces(remuxed(clip, clip.with_suffix(".mkv")).read_bytes()))
            await one.say("stop")
            assert await one.closed() == 1000
            async with talk(client) as four:
                await four.say("start", mode="container")
                await four.until("ready")


async def test_a_page_of_another_site_may_not_connect(client: httpx.Client) -> None:
    for origin, status in (("http://evil.example", 403), (f"http://{client.base_url.host}:{client.base_url.port}", 101)):
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
            "Origin": origin,
        }
        with client.stream("GET", stream_url(client).replace("ws", "http", 1), headers=handshake) as answer:
            assert answer.status_code == status
            if status == 403:
                assert answer.read() and answer.json()["type"].endswith("cross-origin")


def with_terms(settings: Settings, **terms: Any) -> Settings:  # noqa: ANN401  # of StreamTerms
    return settings.model_copy(update={"streams": replace(settings.streams, **terms)})
