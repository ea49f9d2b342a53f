"""Leaving: readiness goes first, guests are seen off, nobody can keep the service; and every line of the log says what it is about."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import pytest

from service.drain import FAREWELL_S, Drain
from tests.service.conftest import assert_problem, upload
from tests.service.processes import serving

# Longer than a busy machine takes for what is asked meanwhile.
NOTICE_S = 12
LONG_S = 60


def never() -> bool:
    return False


def test_readiness_goes_first_and_work_is_still_taken_until_the_notice_is_over(tmp_path: Path, clip: Path) -> None:
    with serving(tmp_path, drain_notice_s=NOTICE_S) as service:
        assert service.client.get("/readyz").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while (ready := service.client.get("/readyz")).status_code == 200:
            time.sleep(0.02)
        assert assert_problem(ready, 503, "not-ready")["got"] == "a stopping one"
        assert service.client.get("/livez").status_code == 200, "a supervisor must not kill what is leaving"
        assert upload(service.client, clip).status_code == 202
        assert "undercurrent_draining 1.0" in service.client.get("/metrics").text
        assert service.process.wait(120) == -signal.SIGTERM
        assert time.monotonic() - began >= NOTICE_S
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{service.port}/livez")


def test_every_line_of_one_request_and_of_its_analysis_can_be_found(tmp_path: Path, clip: Path) -> None:
    with serving(tmp_path) as service:
        headers = {"X-Request-ID": "my-request-7", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "Prefer": "wait=60"}
        answer = service.client.post("/v1/analyses", files={"file": ("a.mp4", clip.read_bytes())}, headers=headers)
        analysis = answer.json()["id"]
        assert service.client.get(f"/v1/analyses/{analysis}").status_code == 200
        service.ended(signal.SIGTERM)
        log = service.log
    assert {line["event"] for line in log if line.get("request_id") == "my-request-7"} == {"analysis_queued", "request"}
    assert {line["event"] for line in log if line.get("analysis") == analysis} == {
        "analysis_queued",
        "analysis_begun",
        "analysis_succeeded",
        "request",
    }
    assert all({"event", "level", "timestamp"} <= line.keys() for line in log)


async def test_guests_are_seen_off_together_and_one_that_fails_or_stays_keeps_nobody() -> None:
    drain, gone = Drain(notice_s=0), []

    async def quick() -> None:
        gone.append("quick")

    async def broken() -> None:
        raise RuntimeError("the socket was closed already")

    async def stuck() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            gone.append("stuck")

    for goodbye in (stuck, broken, quick):
        drain.when_leaving(goodbye)
    began = time.monotonic()
    await drain.leave(never)
    await asyncio.sleep(0)
    assert gone == ["quick", "stuck"] and drain.begun
    assert FAREWELL_S <= time.monotonic() - began < FAREWELL_S + LONG_S


async def test_a_second_signal_ends_the_notice() -> None:
    drain = Drain(notice_s=3600)
    leaving = asyncio.create_task(drain.leave(lambda: hurried))
    hurried = False
    await asyncio.sleep(0.05)
    assert drain.begun and not leaving.done()
    hurried = True
    await asyncio.wait_for(leaving, LONG_S)
