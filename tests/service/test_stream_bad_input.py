"""What clients do wrong on a live stream: each thing has its event or close code, and leaves no task, thread, process or seat behind."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from pipelines.live import LiveStream
from service import streams, websocket
from service.media_feed import MediaFeed
from service.media_header import NO_PTS, MediaFlag, MediaHeader, MediaKind
from service.picture_container import PictureCodec
from service.settings import Settings
from service.stream_intake import ABUSE, MESSAGE_BYTES, WINDOW_MEDIA, Intake
from service.stream_wire import SUBPROTOCOL
from tests import clips
from tests.service.conftest import Serve, upload
from tests.service.streaming import Json, Left, Talk, pictures_of, pieces, remuxed, talk
from tests.service.test_streams import with_terms


@pytest.fixture
def quiet(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    """A service that soon has nothing left of any stream after the test."""
    left = Left()
    with serve(with_terms(settings, resume_s=1.0)) as client:
        yield client
        assert left.behind() == set()
        assert running(client, within_s=20.0) == 0


def running(client: httpx.Client, *, within_s: float) -> int:
    """Streams that run, when there are none any more or at last."""
    until = time.monotonic() + within_s
    while (streams := int(client.get("/readyz").json()["streams"])) and time.monotonic() < until:
        time.sleep(0.05)
    return streams


async def refused(it: Talk, code: int, slug: str) -> Json:
    """The stream ends with this code, and its last error says why; a session also tells its end."""
    assert await it.closed() == code, it.events[-2:]
    (error,) = it.of("error")
    assert error["code"] == slug and error["detail"] and error["expected"] and error["got"]
    if error["session_id"] is not None and slug != "gone-on-elsewhere":
        assert it.of("end") == [it.events[-1]] and it.events[-1]["reason"] == "failed"
    return error


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "EOF|Invalid JSON"),
        ("[]", "object|dictionary"),
        ('{"type":"dance"}', "dance|tag"),
        ('{"type":"ack"}', "event_seq"),
        ('{"type":"ping","t":1e999}', "finite"),
        ("x" * 20_000, "20000"),
    ],
)
async def test_malformed_messages(quiet: httpx.Client, text: str, says: str) -> None:
    for begun in (False, True):
        async with talk(quiet) as it:
            if begun:
                await it.say("start", mode="container")
                await it.until("ready")
            await it.socket.send(text)
            error = await refused(it, 4400, "bad-stream-message")
            assert re.search(says, error["got"])


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"mode": "pull"},
        {"mode": "frames"},
        {"mode": "container", "url": "rtsp://user:secret@camera/"},
        {"mode": "pull", "url": "rtsp://user:secret@camera/", "pace": "every"},
        {"mode": "container", "resume": {"session_id": "x", "token": "y", "last_event_seq": 0}},
        {"mode": "container", "more": 1},
    ],
)
async def test_a_start_that_does_not_fit_together(quiet: httpx.Client, start: Json) -> None:
    async with talk(quiet) as it:
        await it.say("start", **start)
        error = await refused(it, 4400, "bad-stream-message")
        assert "secret" not in str(error)


async def test_another_version(quiet: httpx.Client) -> None:
    for protocols in ((), ("undercurrent.v2",), ("chat", "undercurrent.v0")):
        async with talk(quiet, protocols=protocols) as it:
            error = await refused(it, 4400, "bad-stream-message")
            assert error["expected"] == SUBPROTOCOL and error["got"] == (", ".join(protocols) or "none")
            assert it.socket.subprotocol is None
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.socket.send(MediaHeader.FORM.pack(2, 1, 0, 0, NO_PTS, 0) + b"media")
        error = await refused(it, 4400, "bad-media-message")
        assert (error["expected"], error["got"]) == ("version 1", "2")


async def test_what_comes_before_the_start(quiet: httpx.Client) -> None:
    async with talk(quiet) as it:
        await it.media(MediaKind.CHUNK, b"media")
        assert (await refused(it, 4400, "bad-stream-message"))["got"] == "media"
    async with talk(quiet) as it:
        await it.say("stop")
        assert (await refused(it, 4400, "bad-stream-message"))["got"] == "stop"


async def test_two_starts(quiet: httpx.Client) -> None:
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.say("start", mode="container")
        await refused(it, 4400, "bad-stream-message")


async def test_no_start(serve: Serve, settings: Settings) -> None:
    with serve(with_terms(settings, start_s=0.3)) as client:
        async with talk(client) as it:
            assert "0.3" in (await refused(it, 4400, "bad-stream-message"))["expected"]


@pytest.mark.parametrize(
    ("url", "code", "slug"),
    [
        ("rtsp://user:secret@127.0.0.1/", 4403, "url-not-allowed"),
        ("http://user:secret@[::ffff:169.254.169.254]/latest", 4403, "url-not-allowed"),
        ("file:///etc/hostname?secret", 4415, "unsupported-media"),
    ],
)
async def test_where_the_service_may_not_connect(quiet: httpx.Client, url: str, code: int, slug: str) -> None:
    async with talk(quiet) as it:
        await it.say("start", mode="pull", url=url)
        assert "secret" not in str(await refused(it, code, slug))


@pytest.fixture
def decoders_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """No decoder takes media before this is called or its feed ended: how fast one is decides nothing then."""
    go, read = threading.Event(), MediaFeed.read

    def waiting(feed: MediaFeed, n: int) -> bytes:
        while not go.wait(0.05) and not feed.ended:
            pass
        return read(feed, n)

    monkeypatch.setattr(MediaFeed, "read", waiting)
    yield go.set
    go.set()


async def test_media_beyond_the_credit_is_dropped_told_and_may_come_again(
    quiet: httpx.Client, endless: Path, tmp_path: Path, decoders_wait: Callable[[], None]
) -> None:
    clip = remuxed(endless, tmp_path / "long.mkv")
    sent = pieces(clip.read_bytes(), 2000)[: 3 * WINDOW_MEDIA]
    (tmp_path / "part.mkv").write_bytes(b"".join(sent))
    result = upload(quiet, tmp_path / "part.mkv", wait_s=60).json()["result"]
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.until("ready")
        for piece in sent[: WINDOW_MEDIA + ABUSE // 2]:  # more than may be, at once
            await it.media(MediaKind.CHUNK, piece)
        await it.until("drop", lambda _: sum(event["n"] for event in it.of("drop")) == ABUSE // 2)
        assert {(event["cause"], event["next_seq"]) for event in it.of("drop")} == {("client_over_credit", WINDOW_MEDIA)}
        decoders_wait()
        it.seq = WINDOW_MEDIA
        it.sent = it.seq, sum(map(len, sent[: it.seq]))
        await it.feed(MediaKind.CHUNK, sent[it.seq :])
        await it.say("stop")
        end = await it.until("end", within_s=60)
    assert end["totals"]["received"] == {"media": len(sent), "bytes": sum(map(len, sent))}
    assert end["totals"]["dropped"] == sum(event["n"] for event in it.of("drop")) == ABUSE // 2
    assert end["verdict"]["score"] == result["score"] and end["verdict"]["verdict"] == result["verdict"]


@pytest.mark.usefixtures("decoders_wait")
async def test_whoever_never_waits_for_credit_is_closed(quiet: httpx.Client, endless: Path, tmp_path: Path) -> None:
    sent = pieces(remuxed(endless, tmp_path / "long.mkv").read_bytes(), 200)
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        for piece in sent[: 2 * (WINDOW_MEDIA + ABUSE)]:
            await it.media(MediaKind.CHUNK, piece)
        await refused(it, 4429, "over-credit")
        assert it.of("end")[0]["totals"]["dropped"] >= ABUSE - 1


def test_a_message_of_a_gigabyte(quiet: httpx.Client) -> None:
    for begun in (False, True):
        with closing(shaken_hands(quiet)) as raw:
            if begun:
                raw.sendall(text_frame(b'{"type":"start","mode":"container"}'))
            # The head alone says how long it will be; nothing of it is waited for.
            raw.sendall(b"\x82\xff" + struct.pack(">Q", 1024**3) + b"\0\0\0\0" + b"x" * 1000)
            raw.settimeout(60)
            assert close_code_of(raw) == 1009


async def test_a_message_just_too_long(quiet: httpx.Client) -> None:
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.until("ready")
        await it.socket.send(bytes(MESSAGE_BYTES + 1))
        assert await it.closed() == 1009


async def test_chunks_out_of_order(quiet: httpx.Client, clip: Path) -> None:
    sent = pieces(remuxed(clip, clip.with_suffix(".mkv")).read_bytes(), 5000)
    for seq in (0, 2, 5):
        async with talk(quiet) as it:
            await it.say("start", mode="container")
            await it.media(MediaKind.CHUNK, sent[0])
            await it.media(MediaKind.CHUNK, sent[1], seq=seq)
            error = await refused(it, 4409, "media-out-of-order")
            assert (error["expected"], error["got"]) == ("seq 1", str(seq))


async def test_media_of_another_kind(quiet: httpx.Client, clip: Path) -> None:
    image, _ = pictures_of(clip)
    for start, kind, payload, code, slug in (
        ({"mode": "container"}, MediaKind.JPEG, image[0], 4400, "bad-media-message"),
        ({"mode": "frames", "codec": "webp"}, MediaKind.JPEG, image[0], 4400, "bad-media-message"),
        ({"mode": "frames", "codec": "webp"}, MediaKind.WEBP, image[0], 4415, "unsupported-picture"),
        ({"mode": "frames", "codec": "jpeg"}, MediaKind.JPEG, b"GIF89a", 4415, "unsupported-picture"),
    ):
        async with talk(quiet) as it:
            await it.say("start", **start)
            await it.media(kind, payload, pts_us=0)
            await refused(it, code, slug)


def _moov_missing(folder: Path) -> bytes:
    whole = remuxed(
        clips.face_clip(folder / "face.mp4", seconds=1.0), folder / "frag.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ).read_bytes()
    return whole[whole.index(b"moof") - 4 :]


def _cluster_alone(folder: Path) -> bytes:
    whole = remuxed(clips.face_clip(folder / "face.mp4", seconds=1.0), folder / "face.mkv").read_bytes()
    return whole[whole.index(b"\x1f\x43\xb6\x75") :]


CONTAINERS: dict[str, tuple[Callable[[Path], bytes], int, str]] = {
    "an mp4 without its init segment": (_moov_missing, 4415, "unsupported-media"),
    "a webm without its init segment": (_cluster_alone, 4415, "unsupported-media"),
    "noise": (lambda _: secrets.token_bytes(50_000), 4415, "unsupported-media"),
    "a text": (lambda _: b"Dear sir or madam\n" * 100, 4415, "unsupported-media"),
    "a playlist": (lambda folder: clips.playlist(folder / "list", "hls", "/etc/hostname").read_bytes(), 4415, "unsupported-media"),
    "sound only": (lambda folder: clips.audio_only(folder / "sound.mkv").read_bytes(), 4422, "no-video-stream"),
    "a bomb": (lambda folder: remuxed(clips.bomb(folder / "bomb.mp4"), folder / "bomb.mkv").read_bytes(), 4413, "media-too-large"),
    "nothing": (lambda _: b"", 4415, "empty-source"),
}


@pytest.mark.parametrize("case", CONTAINERS.values(), ids=CONTAINERS)
async def test_containers_that_are_none(quiet: httpx.Client, tmp_path: Path, case: tuple[Callable[[Path], bytes], int, str]) -> None:
    make, code, slug = case
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.feed(MediaKind.CHUNK, pieces(make(tmp_path)))
        await it.say("stop")
        await refused(it, code, slug)
    assert it.of("source")[-1]["state"] == "failed" and it.of("source")[-1]["code"] == slug


async def test_a_container_that_breaks_off_is_judged_as_far_as_it_goes(quiet: httpx.Client, clip: Path) -> None:
    whole = remuxed(clip, clip.with_suffix(".mkv")).read_bytes()
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.feed(MediaKind.CHUNK, pieces(whole[: len(whole) // 2]))
        await it.say("stop")
        assert await it.closed() == 1000
    assert 4 <= len(it.of("score")) < 12 and it.of("end")[0]["reason"] == "stopped"


async def test_stamps_below_zero_with_holes_backwards_and_missing(quiet: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    second = 1_000_000
    async with talk(quiet) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        await it.feed(MediaKind.JPEG, images[:24], [stamp - 3600 * second for stamp in stamps[:24]])
        await it.feed(MediaKind.JPEG, images[24:48], stamps[24:48])  # an hour later
        await it.feed(MediaKind.JPEG, images[48:72], [stamp - 7200 * second for stamp in stamps[48:72]])  # two hours before
        await it.feed(MediaKind.JPEG, images[72:75])
        await it.feed(MediaKind.JPEG, images[75:76], [stamps[75] - 7200 * second])
        await it.say("stop")
        end = await it.until("end")
    assert end["reason"] == "stopped"
    assert [event["at"]["t"] for event in it.of("score")] == sorted(event["at"]["t"] for event in it.of("score"))
    assert it.of("score")[0]["stamp"] == -3600 * second
    missing, discontinuity = it.of("gap")
    assert missing["cause"] == "missing" and missing["seconds"] == pytest.approx(3600, abs=0.3)
    assert discontinuity["cause"] == "discontinuity" and discontinuity["seconds"] < 0.5
    assert sum(event["n"] for event in it.of("drop") if event["cause"] == "no_pts") == 3
    assert it.of("score")[-1]["stamp"] < -7196 * second


async def test_what_is_dropped_gives_its_credit_back(quiet: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    async with talk(quiet) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        for _ in range(2 * WINDOW_MEDIA):
            await it.room(len(images[0]))
            await it.feed(MediaKind.JPEG, images[:1])
        await it.feed(MediaKind.JPEG, images[:24], stamps[:24])
        await it.say("stop")
        end = await it.until("end")
    assert end["totals"]["dropped"] == 2 * WINDOW_MEDIA and end["totals"]["received"]["media"] == it.seq
    assert it.of("credit")[-1]["received"]["media"] <= it.seq and it.of("score")


async def test_what_a_dropped_picture_says_of_the_stream_is_heard(quiet: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    async with talk(quiet) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        await it.feed(MediaKind.JPEG, images[:24], stamps[:24])
        await it.media(MediaKind.JPEG, images[24], flags=MediaFlag.DISCONTINUITY)
        it.sent = it.sent[0] + 1, it.sent[1] + len(images[24])
        await it.feed(MediaKind.JPEG, images[25:48], stamps[25:48])
        await it.media(MediaKind.JPEG, images[48], flags=MediaFlag.LAST)
        end = await it.until("end", within_s=90.0)
    assert end["reason"] == "source_ended"
    (gap,) = it.of("gap")
    assert gap["cause"] == "discontinuity" and stamps[24] < gap["end"]["t"] * 1_000_000 < stamps[29]
    assert sum(event["n"] for event in it.of("drop") if event["cause"] == "no_pts") == 2


def test_the_last_piece_ends_a_feed_beyond_the_credit_too_unless_it_may_come_again(clip: Path) -> None:
    image = memoryview(pictures_of(clip)[0][0])
    kinds: list[tuple[PictureCodec | None, MediaKind]] = [("jpeg", MediaKind.JPEG), (None, MediaKind.CHUNK)]
    for codec, kind in kinds:
        feed = MediaFeed(lambda size: None)
        intake = Intake(feed, codec)
        for n in range(WINDOW_MEDIA):
            assert intake.take(MediaHeader(kind, n, pts_us=n), image) is None
        last = MediaHeader(kind, WINDOW_MEDIA, MediaFlag.LAST | MediaFlag.DISCONTINUITY, pts_us=WINDOW_MEDIA)
        assert intake.take(last, image) == "client_over_credit"
        assert feed.ended is (codec is not None)


async def test_pictures_that_are_damaged_or_too_large(quiet: httpx.Client, clip: Path) -> None:
    images, stamps = pictures_of(clip)
    damaged = [image if i % 6 else image[: len(image) // 3] + bytes(len(image) // 2) for i, image in enumerate(images)]
    async with talk(quiet) as it:
        await it.say("start", mode="frames", codec="jpeg", pace="every")
        await it.feed(MediaKind.JPEG, damaged, stamps)
        await it.say("stop")
        end = await it.until("end")
    assert end["reason"] == "stopped" and end["totals"]["looked_at"] >= 4
    large = cv2.imencode(".jpg", np.zeros((4000, 4000, 3), np.uint8))[1].tobytes()
    async with talk(quiet) as it:
        await it.say("start", mode="frames", codec="jpeg")
        with suppress(ConnectionClosed):  # the first may be refused before the last is sent
            await it.feed(MediaKind.JPEG, [large, large, large], [0, 1_000_000, 2_000_000])
        await refused(it, 4413, "media-too-large")


async def test_a_client_that_does_not_read(serve: Serve, settings: Settings) -> None:
    left = Left()
    with serve(with_terms(settings, drain_s=1.0, resume_s=20.0)) as client:
        with closing(shaken_hands(client, receive_buffer=4096)) as raw:
            raw.settimeout(20)
            raw.sendall(text_frame(b'{"type":"start","mode":"container"}'))
            ready = await asyncio.to_thread(first_text, raw)
            # Answers that nobody reads fill the way to it; one by one, since of many questions at once only the last is answered.
            await asyncio.to_thread(asked_until_ended, raw, client)
            assert await asyncio.to_thread(running, client, within_s=20.0) == 0
        assert left.behind() == set()
        # Whoever comes back is told why.
        async with talk(client) as it:
            await it.say("start", resume={"session_id": ready["session_id"], "token": ready["token"], "last_event_seq": 1})
            assert await it.closed() == 4408
        assert it.of("error")[0]["code"] == "slow-reader" and it.of("end")


def asked_until_ended(raw: socket.socket, client: httpx.Client) -> None:
    ping = text_frame(b'{"type":"ping","t":1.7976931348623157e308}')
    for n in range(20_000):
        try:
            raw.sendall(ping)
        except ConnectionError:  # it was hung up on
            return
        time.sleep(0.0005)
        if n % 500 == 0 and not running(client, within_s=0.0):
            return


async def test_a_client_that_vanishes(serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is lost; or it is there, and answers nothing."""
    left, brief = Left(), with_terms(settings, resume_s=0.5)
    with serve(brief) as client:
        async with talk(client) as it:
            await it.say("start", mode="container")
            await it.feed(MediaKind.CHUNK, pieces(remuxed(clip, clip.with_suffix(".mkv")).read_bytes())[:3])
            it.socket.transport.abort()
            assert await it.closed() == 1006
        assert await asyncio.to_thread(running, client, within_s=20.0) == 0
    # Long enough that whoever is there, and waits for a busy machine, is not taken for gone before it has begun.
    monkeypatch.setitem(websocket.OPTIONS, "ws_ping_interval", 2.0)
    monkeypatch.setitem(websocket.OPTIONS, "ws_ping_timeout", 2.0)
    with serve(brief) as client:
        with closing(shaken_hands(client)) as raw:
            raw.sendall(text_frame(b'{"type":"start","mode":"container"}'))
            assert (await asyncio.to_thread(first_text, raw))["type"] == "ready"
            assert await asyncio.to_thread(running, client, within_s=60.0) == 0
        assert left.behind() == set()


async def test_a_hundred_connections_in_a_second(serve: Serve, settings: Settings) -> None:
    left = Left()
    # A seat that is given back is another's: those who have one keep it until everybody has been told.
    told = asyncio.Barrier(100)
    with serve(with_terms(settings, resume_s=0.5)) as client:

        async def one() -> tuple[int | None, list[str]]:
            async with talk(client) as it:
                await it.say("start", mode="container")
                while not it.events:
                    await asyncio.sleep(0.02)
                await told.wait()
                if it.events[0]["type"] == "error":
                    return await it.closed(), [it.events[0]["code"]]
                it.socket.transport.abort()
                return None, ["ready"]

        async def after(delay_s: float) -> tuple[int | None, list[str]]:
            await asyncio.sleep(delay_s)
            return await one()

        ends = await asyncio.gather(*(after(i / 100) for i in range(100)))
        accepted = [end for end in ends if end == (None, ["ready"])]
        assert len(accepted) >= 4 and len(ends) - len(accepted) == sum(end == (1013, ["overloaded"]) for end in ends) > 50
        assert await asyncio.to_thread(running, client, within_s=20.0) == 0
        assert left.behind() == set()


async def test_connections_that_say_nothing_are_bounded(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SPARE_CONNECTIONS", 3)
    with serve(with_terms(settings, max_streams=1)) as client:
        silent = [shaken_hands(client) for _ in range(4)]
        try:
            with closing(socket.create_connection((client.base_url.host, client.base_url.port))) as one_more:
                one_more.sendall(handshake(client))
                answer = await asyncio.to_thread(one_more.recv, 4096)
                assert answer.startswith(b"HTTP/1.1 503") and b"overloaded" in answer and b"retry-after: 5" in answer.lower()
        finally:
            for raw in silent:
                raw.close()


async def test_a_fault_of_ours_is_told_as_one(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    left = Left()

    class Broken:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, *_: object) -> None:
            raise ZeroDivisionError("an invariant of ours")

        def stop(self) -> None: ...

    monkeypatch.setattr(streams, "FedPictures", Broken)
    with serve(settings) as client:
        async with talk(client) as it:
            await it.say("start", mode="container")
            error = await refused(it, 1011, "internal-error")
        assert "invariant" not in str(error) and error["retryable"]
        assert client.get("/readyz").json()["streams"] == 0
    assert left.behind() == set()


async def test_a_judge_that_dies_is_told_to_a_client_that_sends_nothing(
    quiet: httpx.Client, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Left()

    def dies(self: LiveStream, tell: object) -> None:
        raise LookupError("an invariant of ours")

    monkeypatch.setattr(LiveStream, "run", dies)
    async with talk(quiet) as it:
        await it.say("start", mode="container")
        await it.media(MediaKind.CHUNK, clip.read_bytes()[:1000])
        error = await refused(it, 1011, "internal-error")
    assert "invariant" not in str(error)
    assert left.behind() == set()


def handshake(client: httpx.Client) -> bytes:
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    return (
        f"GET /v1/stream HTTP/1.1\r\nHost: {client.base_url.host}:{client.base_url.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def shaken_hands(client: httpx.Client, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection of plain bytes, for what a client library would not do."""
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.connect((client.base_url.host, client.base_url.port))
    raw.sendall(handshake(client))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return raw


def text_frame(text: bytes) -> bytes:
    """Masked with zeros, as RFC 6455 allows."""
    head = struct.pack(">BB", 0x81, 0x80 | len(text)) if len(text) < 126 else struct.pack(">BBH", 0x81, 0xFE, len(text))
    return head + b"\0\0\0\0" + text


def frames_of(raw: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Opcodes and payloads as they come."""

    def exactly(n: int) -> bytes:
        data = b""
        while len(data) < n:
            piece = raw.recv(n - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    while True:
        first, size = exactly(2)
        if size == 126:
            (size,) = struct.unpack(">H", exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", exactly(8))
        yield first & 0xF, exactly(size)


def close_code_of(raw: socket.socket) -> int:
    payload = next(payload for opcode, payload in frames_of(raw) if opcode == 8)
    (code,) = struct.unpack_from(">H", payload)
    return int(code)


def first_text(raw: socket.socket) -> Json:
    event: Json = json.loads(next(payload for opcode, payload in frames_of(raw) if opcode == 1))
    return event
