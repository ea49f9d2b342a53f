"""A camera that the service pulls for its client: a real RTSP server, times that are the camera's own, outages told and bridged."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import httpx
import pytest

from service.settings import Settings
from tests.rtsp import KEPT, RtspServer, rtsp_server
from tests.service.conftest import Serve
from tests.service.streaming import Left, talk
from tests.support import require


@pytest.fixture
def camera() -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server() as running:
        yield running


@pytest.fixture
def near(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    """A service that may look at cameras of this machine, at every picture."""
    with serve(settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),), "hz": 60.0})) as client:
        yield client


async def test_every_score_has_the_time_of_the_camera(near: httpx.Client, camera: RtspServer) -> None:
    left = Left()
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url("/vfr"))
        ready = await it.until("ready")
        assert (ready["mode"], ready["pace"], ready["credit"]) == ("pull", "live", {"media": 0, "bytes": 0})
        await it.until("score", lambda event: event["at"]["t"] - it.of("score")[0]["at"]["t"] > 4)
        await it.say("stop")
        end = await it.until("end")
        assert await it.closed() == 1000
    assert end["reason"] == "stopped" and left.behind() == set()
    scores = it.of("score")
    assert {event["provenance"] for event in scores} == {"rtp"}
    for event in scores:
        assert min(event["stages"].values()) >= 0 and event["stages"]["decode_s"] > 0
        assert sum(event["stages"].values()) == pytest.approx(event["latency_s"])
    ticks = [(event["at"]["t"] - scores[0]["at"]["t"]) * 30 for event in scores]
    assert ticks == pytest.approx([round(tick) for tick in ticks], abs=0.03), "one millisecond"
    # Some frame of the pattern was the first, and from there each is one that the server sent.
    offsets = [n for n in range(len(KEPT)) if all(KEPT[(n + round(tick)) % len(KEPT)] == "1" for tick in ticks)]
    assert offsets and len(scores) > 20


async def test_an_outage_is_told_and_its_time_goes_on(near: httpx.Client, camera: RtspServer) -> None:
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url("/live"))
        await it.until("score")
        camera.restart()
        await it.until("source", lambda event: event["state"] == "reconnecting")
        gap = await it.until("gap")
        await it.until("score", lambda event: event["at"]["pts"] > gap["end"]["pts"])
        await it.say("stop")
        await it.until("end")
    states = [event["state"] for event in it.of("source")]
    assert states[:2] == ["connecting", "running"] and "reconnecting" in states and states[-2:] == ["running", "ended"]
    assert gap["cause"] == "reconnected" and 0 < gap["seconds"] < 20
    assert gap["end"]["t"] - gap["start"]["t"] == pytest.approx(gap["seconds"], abs=1e-6)


@pytest.mark.parametrize(("mount", "code", "slug"), [("/nowhere", 4502, "source-refused"), ("/private", 4502, "source-refused")])
async def test_a_camera_that_refuses(near: httpx.Client, camera: RtspServer, mount: str, code: int, slug: str) -> None:
    async with talk(near) as it:
        await it.say("start", mode="pull", url=camera.url(mount, "user:secret"))
        assert await it.closed() == code
    (error,) = it.of("error")
    assert error["code"] == slug and "secret" not in str(it.events)
