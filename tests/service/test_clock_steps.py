"""A clock that is set, by hours and by days, forth and back: nothing is lost, doubled or removed, and a list stays whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import service.database
from service.settings import Settings
from service.steady_clock import STEADY_S, SteadyClock
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.test_analyses import until
from tests.service.test_keys import bearer, made

DAY_S = 86_400.0
HOUR_S = 3600.0
NAMES_OF_NOW = ("database", "admission", "replicas", "audit_rows", "key_store")


class Wall:
    """The wall clock, as somebody sets it."""

    ahead_s = 0.0


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """Every clock of this process but the monotonic one: the service's, and the job engine's."""
    set_by = Wall()
    read, read_ns, now = time.time, time.time_ns, service.database.now

    def moved() -> datetime:
        return now() + timedelta(seconds=set_by.ahead_s)

    monkeypatch.setattr(time, "time", lambda: read() + set_by.ahead_s)
    monkeypatch.setattr(time, "time_ns", lambda: read_ns() + int(set_by.ahead_s * 1e9))
    for name in NAMES_OF_NOW:
        monkeypatch.setattr(f"service.{name}.now", moved)
    return set_by


def test_a_clock_that_jumps_removes_nothing(
    serve: Serve, settings: Settings, wall: Wall, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.replicas.SWEEP_S", 0.1)
    looked: list[bool] = []

    class Looked(SteadyClock):
        @property
        def is_steady(self) -> bool:
            looked.append(super().is_steady)
            return looked[-1]

    monkeypatch.setattr("service.replicas.SteadyClock", lambda: Looked(time.time))

    def swept_again() -> None:
        seen, until_s = len(looked), time.monotonic() + 60
        while len(looked) < seen + 3 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert len(looked) >= seen + 3

    with serve(settings.model_copy(update={"retention_days": 1.0, "replica_lost_s": 1.0})) as client:
        paths = [upload(client, clip, wait_s=60).headers["Location"]]
        for ahead_s in (5 * HOUR_S, 3 * DAY_S, -5 * HOUR_S, 0.0):
            swept_again()
            wall.ahead_s = ahead_s
            paths.append(upload(client, clip).headers["Location"])
            assert until(client, paths[-1], "succeeded", "failed")["status"] == "succeeded"
        swept_again()
        assert not looked[-1] and looked[0]
        assert [client.get(path).json()["status"] for path in paths] == ["succeeded"] * 5
        # The list is by id, which is by the clock; whoever pages through it has each of them once.
        found: list[str] = []
        page = client.get("/v1/analyses?limit=2")
        while True:
            found += [item["links"]["self"] for item in page.json()["items"]]
            if "next" not in page.links:
                break
            page = client.get(page.links["next"]["url"])
        assert sorted(found) == sorted(paths) and found[0] == paths[2], "the one from the future comes first"
        assert len(client.get("/v1/audit").json()["items"]) == 5


def test_a_key_that_expires_while_its_upload_comes_has_sent_it(serve: Serve, settings: Settings, wall: Wall, clip: Path) -> None:
    """What was allowed at its beginning is done; the next thing is not."""
    locked = settings.model_copy(update={"require_keys": True})

    def slowly() -> Iterator[bytes]:
        yield clip.read_bytes()[:1000]
        until_s = time.monotonic() + 60
        while not list(settings.data_dir.glob("analyses/*")) and time.monotonic() < until_s:
            time.sleep(0.02)
        wall.ahead_s = 2 * DAY_S
        yield clip.read_bytes()[1000:]

    with serve(locked) as client:
        short, admin = made(locked, "analyses:write", "analyses:read", days=1), made(locked, "admin")
        sent = client.post("/v1/analyses", content=slowly(), headers={"Content-Type": "video/mp4", **bearer(short)})
        assert sent.status_code == 202, sent.text
        assert_problem(client.get(sent.headers["Location"], headers=bearer(short)), 401, "unauthenticated")
        client.headers.update(bearer(admin))
        assert until(client, sent.headers["Location"], "succeeded", "failed")["status"] == "succeeded"


def test_a_clock_is_steady_when_it_made_no_step_lately() -> None:
    wall, clock = [1e9], [0.0]
    steady = SteadyClock(lambda: wall[0], lambda: clock[0])

    def after(seconds: float, step_s: float = 0.0) -> bool:
        clock[0] += seconds
        wall[0] += seconds + step_s
        return steady.is_steady

    assert after(10)
    assert after(10, step_s=-30) and after(10, step_s=30), "it is only corrected"
    assert not after(10, step_s=3 * HOUR_S)
    assert not after(STEADY_S - 1)
    assert after(1)
    assert not after(10, step_s=-3 * DAY_S)
    assert not after(STEADY_S / 2) and not after(10, step_s=3 * DAY_S) and not after(STEADY_S / 2 + 20), "every step counts anew"
    assert after(STEADY_S)
