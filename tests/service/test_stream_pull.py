"""A camera that the service pulls for its client: a real RTSP server, times that are the camera's own, outages told and bridged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise

import httpx
import pytest

from pipelines.media import RtspTransport
from service.settings import Settings
from tests.rtsp import KEPT, RtspServer, rtsp_server
from tests.rtsp_server import FPS, HOLE, HOLE_EVERY, LOST
from tests.service.conftest import Serve
from tests.service.streaming import Json, Left, Talk, talk
from tests.support import require


@pytest.fixture
def camera() -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server() as running:
        yield running


def _near(settings: Settings, transport: RtspTransport = "tcp") -> Settings:
    """Of a service that may look at cameras of this machine, at every picture."""
    terms = replace(settings.streams, rtsp_transport=transport)
    return settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),), "hz": 60.0, "streams": terms})


@pytest.fixture
def near(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    with serve(_near(settings)) as client:
        yield client


@pytest.fixture(params=["tcp", "udp"])
def either(serve: Serve, settings: Settings, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """The same, by each transport."""
    with serve(_near(settings, request.param)) as client:
        yield client


async def test_every_score_has_the_time_of_the_camera(either: httpx.Client, camera: RtspServer) -> None:
    left = Left()
    async with talk(either) as it:
        await it.say("start", mode="pull", url=camera.url("/vfr"))
        ready = await it.until("ready")
        assert (ready["mode"], ready["pace"], ready["credit"]) == ("pull", "live", {"media": 0, "bytes": 0})
        # So many that the camera's pattern is in one place of them alone, however few a second the machine can look at.
        await it.until("score", lambda event: event["at"]["t"] - it.of("score")[0]["at"]["t"] > 4 and len(it.of("score")) > 20, within_s=60)
        await it.say("stop")
        end = await it.until("end")
        assert await it.closed() == 1000
    assert end["reason"] == "stopped" and left.behind() == set()
    scores = it.of("score")
    assert {event["provenance"] for event in scores} == {"rtp"}
    for event in scores:
        assert min(event["stages"].values()) >= 0 and event["stages"]["decode_s"] > 0
        assert sum(event["stages"].values()) == pytest.approx(event["latency_s"])
    times = [event["at"]["t"] for event in scores]
    numbers = [round(t * 30) for t in times]
    assert times == pytest.approx([number / 30 for number in numbers], abs=0.001)
    # RTP's zero is the picture that the camera sent first; counted from there, each is one of its pattern, in one place of it alone.
    places = [n for n in range(len(KEPT)) if all(KEPT[(n + number) % len(KEPT)] == "1" for number in numbers)]
    assert len(places) == 1


async def test_pictures_that_never_came_are_told_with_their_place(near: httpx.Client, camera: RtspServer) -> None:
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url("/loss"))
        # A stream must have been steady for a while before it owes pictures.
        await it.until("drop", lambda _: sum(event["n"] for event in _missing(it)) >= 4 * len(LOST), within_s=60)
        await it.say("stop")
        end = await it.until("end")
    missing = _missing(it)
    sinces = [event["since"] * FPS for event in missing]
    assert sinces == pytest.approx([round(since) for since in sinces], abs=0.03), "one millisecond"
    # Drops are told in sums: after a moment in which nothing was read one may stand for several holes.
    assert {event["n"] % len(LOST) for event in missing} == {0}
    holes = [event["n"] // len(LOST) for event in missing]
    apart = [FPS * n for n in holes[:-1]]
    assert [round(later - earlier) for earlier, later in pairwise(sinces)] == apart, "one hole a second, none twice"
    numbers = {round(event["at"]["t"] * FPS) for event in it.of("score")}
    begins = [round(since) + FPS * n for since, several in zip(sinces, holes, strict=True) for n in range(several)]
    assert not numbers & {begin + n for begin in begins for n in range(1, 1 + len(LOST))}
    assert end["totals"]["dropped"] == sum(event["n"] for event in it.of("drop")) and it.of("gap") == []


async def test_a_hole_of_a_second_is_a_gap_of_its_true_length(near: httpx.Client, camera: RtspServer) -> None:
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url("/holes"))
        await it.until("gap", lambda _: len(it.of("gap")) == 2, within_s=90)
        await it.say("stop")
        await it.until("end")
    gaps = it.of("gap")
    assert {event["cause"] for event in gaps} == {"missing"} and _missing(it) == []
    starts, ends = ([event[which]["t"] for event in gaps] for which in ("start", "end"))
    assert starts[1] - starts[0] == pytest.approx(HOLE_EVERY / FPS, abs=0.001)
    assert [event["seconds"] for event in gaps] == pytest.approx([(len(HOLE) + 1) / FPS] * 2, abs=0.001)
    assert not [at for event in it.of("score") for start, end in zip(starts, ends, strict=True) if start < (at := event["at"]["t"]) < end]


def _missing(it: Talk) -> list[Json]:
    return [event for event in it.of("drop") if event["cause"] == "missing"]


async def test_a_camera_that_sends_over_udp_alone(serve: Serve, settings: Settings, camera: RtspServer) -> None:
    with serve(_near(settings, "udp")) as client:
        async with talk(client) as it:
            await it.say("start", mode="pull", url=camera.url("/udp"))
            await it.until("score", lambda event: event["at"]["t"] > 2, within_s=60)
    with serve(_near(settings)) as client:
        async with talk(client) as it:
            await it.say("start", mode="pull", url=camera.url("/udp"))
            assert await it.closed() == 4502
    (error,) = it.of("error")
    assert error["code"] == "source-refused" and "TCP" in error["detail"]


async def test_an_outage_is_told_and_its_time_goes_on(either: httpx.Client, camera: RtspServer) -> None:
    began_s = time.monotonic()
    async with talk(either) as it:
        await it.say("start", mode="pull", url=camera.url("/live"))
        await it.until("score")
        camera.restart()
        await it.until("source", lambda event: event["state"] == "reconnecting")
        gap = await it.until("gap")
        await it.until("score", lambda event: event["at"]["pts"] > gap["end"]["pts"])
        took_s = time.monotonic() - began_s
        await it.say("stop")
        await it.until("end")
    states = [event["state"] for event in it.of("source")]
    assert states[:2] == ["connecting", "running"] and "reconnecting" in states and states[-2:] == ["running", "ended"]
    assert gap["cause"] == "reconnected" and 0 < gap["seconds"] < took_s
    assert gap["end"]["t"] - gap["start"]["t"] == pytest.approx(gap["seconds"], abs=1e-6)


@pytest.mark.parametrize(("mount", "code", "slug"), [("/nowhere", 4502, "source-absent"), ("/private", 4502, "source-refused")])
async def test_a_camera_that_refuses(near: httpx.Client, camera: RtspServer, mount: str, code: int, slug: str) -> None:
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url(mount, "user:secret"))
        assert await it.closed() == code
    (error,) = it.of("error")
    assert error["code"] == slug and "secret" not in str(it.events)
