"""A connection is lost in the middle, or the service stops: no event is lost or told twice, nor a face's memory; the verdict stands."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import httpx
import pytest
from starlette.websockets import WebSocketDisconnect

from service.close_codes import CloseCode
from service.media_header import MediaKind
from service.settings import Settings
from service.stream_connection import Connection
from service.stream_session import Session
from tests.clips import face_clip
from tests.service.conftest import Serve
from tests.service.processes import serving
from tests.service.streaming import Json, Left, Talk, pieces, remuxed, talk
from tests.service.test_streams import numbered, rows_of, with_terms

SIZE = 2000


@pytest.fixture(scope="module")
def chunks(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Eight seconds with one face."""
    folder = tmp_path_factory.mktemp("resumed")
    whole = remuxed(face_clip(folder / "face.mp4", seconds=8.0), folder / "face.mkv").read_bytes()
    return pieces(whole, SIZE)


def of(ready: Json, last_event_seq: int) -> Json:
    return {"session_id": ready["session_id"], "token": ready["token"], "last_event_seq": last_event_seq}


async def go_on(it: Talk, ready: Json, before: list[Json]) -> Json:
    """Resume after the events `before`, and know from where to send."""
    await it.say("start", resume=of(ready, max(numbered(before), default=0)))
    resumed = await it.until("resumed")
    it.seq = 0 if resumed["last_media_seq"] is None else resumed["last_media_seq"] + 1
    it.sent = it.seq, resumed["received"]["bytes"]
    return resumed


async def uninterrupted(client: httpx.Client, chunks: list[bytes]) -> list[Json]:
    async with talk(client) as it:
        await it.say("start", mode="container")
        await it.feed(MediaKind.CHUNK, chunks)
        await it.say("stop")
        assert await it.closed() == 1000
    return it.events


async def test_a_stream_that_is_cut_again_and_again_tells_everything_once(client: httpx.Client, chunks: list[bytes]) -> None:
    left = Left()
    whole = await uninterrupted(client, chunks)
    events: list[Json] = []
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        await it.feed(MediaKind.CHUNK, chunks[: len(chunks) // 4])
        events += it.events
        it.socket.transport.abort()
    for cut in (2, 3, 4):
        async with talk(client) as it:
            resumed = await go_on(it, ready, events)
            assert resumed["from_event_seq"] == max(numbered(events)) + 1
            until = cut * len(chunks) // 4
            await it.feed(MediaKind.CHUNK, chunks[it.seq : until])
            if cut < 4:
                await asyncio.sleep(0.3)
                events += [event for event in it.events if event["type"] != "resumed"]
                it.socket.transport.abort()
                continue
            await it.say("stop")
            assert await it.closed() == 1000
            events += [event for event in it.events if event["type"] != "resumed"]
    assert numbered(events) == list(range(1, len(events) + 1))
    assert rows_of(events) == rows_of(whole) and len(rows_of(whole)) > 20
    assert events[-1]["verdict"] == whole[-1]["verdict"]
    assert left.behind() == set()


async def test_what_was_sent_and_never_came_is_sent_again(client: httpx.Client, chunks: list[bytes]) -> None:
    """The client knows less than the service thinks that it told."""
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        await it.feed(MediaKind.CHUNK, chunks)
        await it.until("score", lambda event: event["event_seq"] > 12)
        it.socket.transport.abort()
    for _ in range(3):
        async with talk(client) as again:
            resumed = await go_on(again, ready, it.events[:5])
            assert resumed["from_event_seq"] == 6
            await again.until("score", lambda event: event["event_seq"] > 12)
            assert again.events[0]["type"] == "resumed" and numbered(again.events)[:7] == [6, 7, 8, 9, 10, 11, 12]
            assert again.events[1] == it.events[5]
            again.socket.transport.abort()


async def test_what_is_over_can_still_be_heard(client: httpx.Client, chunks: list[bytes]) -> None:
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        await it.feed(MediaKind.CHUNK, chunks)
        await it.say("stop")
        await it.until("end")  # a cable that is cut at once may take the `stop` with it
    async with talk(client) as it:
        await it.say("start", resume=of(ready, 1))
        assert await it.closed() == 1000
    assert it.events[-1]["type"] == "end" and numbered(it.events) == list(range(2, len(it.events) + 1))


async def test_acknowledged_events_are_let_go(client: httpx.Client) -> None:
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        await it.until("stats")
        await it.say("ack", event_seq=numbered(it.events)[-1])
        await it.say("ping", t=1)
        await it.until("pong")
        it.socket.transport.abort()
    async with talk(client) as it:
        await it.say("start", resume=of(ready, 0))
        assert await it.closed() == 4404
    (failed,) = it.events
    assert failed["type"] == "resume_failed" and failed["reason"] == "missed" and failed["missed"] >= 2


async def test_another_connection_takes_over(client: httpx.Client, chunks: list[bytes]) -> None:
    async with talk(client) as one, talk(client) as two:
        await one.say("start", mode="container")
        ready = await one.until("ready")
        await one.feed(MediaKind.CHUNK, chunks[:5])
        await go_on(two, ready, one.events)
        assert await one.closed() == 4409
        assert one.events[-1]["code"] == "gone-on-elsewhere"
        await two.feed(MediaKind.CHUNK, chunks[two.seq :])
        await two.say("stop")
        assert await two.closed() == 1000
    told = numbered(two.events)
    assert told == list(range(told[0], told[-1] + 1))
    # What came to the first one while the second began is told to both.
    assert set(numbered(one.events)) | set(told) == set(range(1, told[-1] + 1))


async def test_a_connection_that_is_closed_as_another_takes_over_ends_nothing(
    client: httpx.Client, chunks: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close is read in the very turn of the event loop in which the other comes."""

    async def hear(self: Connection, session: Session, taken_over: asyncio.Event) -> None:
        await taken_over.wait()
        raise WebSocketDisconnect(CloseCode.DONE)

    async with talk(client) as one, talk(client) as two:
        with monkeypatch.context() as same_turn:
            same_turn.setattr(Connection, "_hear", hear)
            await one.say("start", mode="container")
            ready = await one.until("ready")
        await go_on(two, ready, one.events)
        assert await one.closed() == 4409
        await two.feed(MediaKind.CHUNK, chunks)
        await two.say("stop")
        assert await two.closed() == 1000
    (end,) = two.of("end")
    assert end["totals"]["received"]["media"] == len(chunks) and end["totals"]["looked_at"] > 20


@pytest.mark.parametrize("wrong", [{"session_id": "0" * 16}, {"token": "guessed"}, {"token": "gerät"}])
async def test_a_session_of_somebody_else(client: httpx.Client, wrong: Json) -> None:
    async with talk(client) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        async with talk(client) as other:
            await other.say("start", resume=of(ready, 0) | wrong)
            assert await other.closed() == 4404
        assert other.events == [{"type": "resume_failed", "reason": "unknown", "missed": None}]
        await it.say("ping", t=1)
        await it.until("pong")


async def test_whoever_does_not_come_back_in_time_is_forgotten(serve: Serve, settings: Settings, chunks: list[bytes]) -> None:
    left = Left()
    with serve(with_terms(settings, resume_s=0.5)) as client:
        async with talk(client) as it:
            await it.say("start", mode="container")
            ready = await it.until("ready")
            await it.feed(MediaKind.CHUNK, chunks[:9])
            it.socket.transport.abort()
        code = 4408  # for a while it can still be heard that nobody came back
        async with asyncio.timeout(30):
            while code == 4408:
                await asyncio.sleep(1.5)
                async with talk(client) as it:
                    await it.say("start", resume=of(ready, 0))
                    code = await it.closed()
        assert code == 4404
        assert client.get("/readyz").json()["streams"] == 0
    assert left.behind() == set()


async def test_a_service_that_stops_tells_the_verdict_so_far(tmp_path: Path, chunks: list[bytes]) -> None:
    with serving(tmp_path) as service:
        async with talk(service.client) as it:
            await it.say("start", mode="container")
            await it.feed(MediaKind.CHUNK, chunks[: len(chunks) // 2])
            await it.until("score", lambda event: event["at"]["t"] > 2)
            service.process.send_signal(signal.SIGTERM)
            end = await it.until("end")
            assert await it.closed() == 1012
        assert await asyncio.to_thread(service.process.wait, 60) == -signal.SIGTERM
    assert end["reason"] == "draining" and end["verdict"]["verdict"] is not None
    (error,) = it.of("error")
    assert error["code"] == "stream-draining" and error["retryable"]
    assert "Traceback" not in json.dumps(service.log)


async def test_streams_end_with_a_service_that_nobody_drains(serve: Serve, settings: Settings, chunks: list[bytes]) -> None:
    left = Left()
    with serve(settings) as client:
        async with talk(client) as it:
            await it.say("start", mode="container")
            await it.feed(MediaKind.CHUNK, chunks[: len(chunks) // 2])
            await it.until("score")
    assert left.behind() == set()


async def test_another_connection_takes_over_while_the_first_still_sends(client: httpx.Client, chunks: list[bytes]) -> None:
    """What of the first one's media is read after the second was told from where to go on would come twice."""
    for _ in range(5):
        async with talk(client) as one, talk(client) as two:
            await one.say("start", mode="container")
            ready = await one.until("ready")
            sending = asyncio.create_task(one.feed(MediaKind.CHUNK, chunks))
            await asyncio.sleep(0)
            await go_on(two, ready, one.events)
            await two.feed(MediaKind.CHUNK, chunks[two.seq :])
            await two.say("stop")
            assert await two.closed() == 1000, two.events[-2:]
            await asyncio.gather(sending, return_exceptions=True)
