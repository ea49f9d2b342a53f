"""`undercurrent watch` as a user has it: a real camera, a real terminal, a real Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.media_sandbox import MediaSandbox
from service.schemas import Moment, TimelineRow
from service.stream_wire import Allowance, DropEvent, FaceEvent, GapEvent, LatencyStages, ScoreEvent, Source, Stats, server_message
from service.watch_view import WatchView
from tests import clips
from tests.rtsp import RtspServer, rtsp_server
from tests.service.test_cli import COMMAND, run
from tests.support import ROOT, require

PATIENT = ("--silence", "20")
"""A machine that is busy with something else is no camera that fell silent."""

pytestmark = pytest.mark.skipif(not MediaSandbox.supported(), reason="this system has no memfd, pidfd or packet sockets")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that moves, for longer than a test looks."""
    return clips.face_clip(tmp_path_factory.mktemp("watch") / "face.mp4", seconds=20.0, px=160)


@pytest.fixture
def camera(clip: Path) -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server(clip) as running:
        yield running


class Running:
    """`undercurrent watch --json` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "watch", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            self.process.wait()

    def until(self, enough: Callable[[dict[str, Any]], bool], within_s: float = 60.0) -> dict[str, Any]:
        """Read events until one is enough."""
        assert self.process.stdout is not None
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read() if self.process.stderr else ""
            self.events.append(json.loads(line))
            server_message.validate_json(line)
            if enough(self.events[-1]):
                return self.events[-1]
        raise AssertionError([event["type"] for event in self.events])

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C, and the rest; the exit status and what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        self.events += [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, err

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def test_json_is_the_wires_events_and_ctrl_c_brings_the_verdict(camera: RtspServer) -> None:
    with Running(camera.url("/file"), "--json", *PATIENT) as watch:
        watch.until(lambda event: event["type"] == "score" and event["t"] is not None and event["t"] > 4)
        status, err = watch.interrupt()
    assert (status, err) == (0, "")
    assert [event["event_seq"] for event in watch.events] == list(range(1, len(watch.events) + 1))
    assert watch.events[0]["type"] == "ready" and watch.events[-1]["type"] == "end"
    assert [event["state"] for event in watch.of("source")] == ["connecting", "running", "ended"]
    end = watch.events[-1]
    assert end["reason"] == "stopped" and end["verdict"]["coverage"]["faces_seen"] == 1 and end["verdict"]["coverage"]["duration_s"] > 3
    assert end["totals"]["looked_at"] == sum(event["stands_for"] for event in watch.of("score"))
    scores = watch.of("score")
    assert {event["provenance"] for event in scores} == {"rtp"}
    assert all(later["at"]["t"] > earlier["at"]["t"] for earlier, later in pairwise(scores))
    assert all(row["p"] is not None or row["reason"] for event in scores for row in event["faces"]) and watch.of("face")


def test_a_camera_that_restarts_is_a_gap_and_the_watch_goes_on(camera: RtspServer) -> None:
    began_s = time.monotonic()
    with Running(camera.url("/file"), "--json", *PATIENT) as watch:
        watch.until(lambda event: event["type"] == "score" and event["t"] is not None and event["t"] > 2)
        camera.restart()
        gap = watch.until(lambda event: event["type"] == "gap")
        watch.until(lambda event: event["type"] == "score")
        took_s = time.monotonic() - began_s
        status, err = watch.interrupt()
    assert (status, err) == (0, "")
    assert gap["cause"] == "reconnected" and 0 < gap["seconds"] < took_s
    assert gap["end"]["t"] - gap["start"]["t"] == pytest.approx(gap["seconds"])
    states = [event["state"] for event in watch.of("source")]
    assert states[:3] == ["connecting", "running", "reconnecting"] and "running" in states[3:]


def test_a_camera_is_asked_to_send_over_udp(camera: RtspServer) -> None:
    with Running(camera.url("/udp"), "--json", "--rtsp-transport", "udp") as watch:
        watch.until(lambda event: event["type"] == "score" and event["provenance"] == "rtp")
        status, err = watch.interrupt()
    assert (status, err) == (0, "")


def test_what_cannot_be_watched_is_one_problem_and_status_3(camera: RtspServer) -> None:
    done = subprocess.run([*COMMAND, "watch", camera.url("/private", "me:hunter2")], cwd=ROOT, capture_output=True, text=True, check=False)
    problem = json.loads(done.stderr)
    assert done.returncode == 3 and "401" in problem["got"] and problem["type"].endswith("source-refused")
    assert "hunter2" not in done.stdout + done.stderr
    assert "failed (source-refused)" in done.stdout


@pytest.mark.parametrize(("url", "slug"), [("ftp://camera/1", "unsupported-media"), ("rtsp:///live", "url-not-allowed")])
def test_what_is_no_url_of_a_camera_is_refused_at_once(url: str, slug: str) -> None:
    done = run("watch", url)
    assert done.returncode == 3 and json.loads(done.stderr)["type"].endswith(slug)


def test_a_camera_that_stays_away_is_given_up() -> None:
    done = subprocess.run(
        [*COMMAND, "watch", "rtsp://127.0.0.1:9/live", "--json", "--give-up", "2"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3 and json.loads(done.stderr)["type"].endswith("source-unreachable")
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "end"


def test_ctrl_c_before_any_picture_is_an_interruption(camera: RtspServer) -> None:
    camera.stop()
    with Running(camera.url("/file"), "--json") as watch:
        watch.until(lambda event: event["type"] == "source")
        status, err = watch.interrupt()
    assert (status, err) == (130, "")


def test_a_terminal_shows_all_of_it_and_keeps_the_verdict(camera: RtspServer) -> None:
    """In a pseudo-terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"}
    with subprocess.Popen(
        [*COMMAND, "watch", camera.url("/file", "me:hunter2"), *PATIENT], cwd=ROOT, stdin=theirs, stdout=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = _read(ours, "looks a second", "face 0", more_s=5.0)
        process.send_signal(signal.SIGINT)
        shown += _read(ours)
        assert process.wait(60) == 0
    os.close(ours)
    for part in ("running", "/file", "h264", "latency", "looks a second", "face 0", "from the camera's RTP clock", "judged", "probability"):
        assert part in shown, part
    assert "hunter2" not in shown


def _read(terminal: int, *until: str, more_s: float = 0.0) -> str:
    """What is shown until all of `until` is, and for `more_s` seconds after that; without any, until the other end is closed."""
    text, end_s = b"", time.monotonic() + 60
    while time.monotonic() < end_s:
        if select.select([terminal], [], [], 0.2)[0]:
            with suppress(OSError):  # the other end is closed
                if piece := os.read(terminal, 65536):
                    text += piece
                    continue
            break
        if until and all(part.encode() in text for part in until):
            end_s = min(end_s, time.monotonic() + more_s)
    return text.decode(errors="replace")


def _at(t: float) -> Moment:
    return Moment(t=t, pts=round(90_000 * t), time_base=(1, 90_000))


def _scored(t: float, *ps: float | None) -> ScoreEvent:
    rows = [
        TimelineRow(
            track=n, pts=0, t=t, dt=None, logit=None, p=p, surprise=1.5, box=(0, 0, 1, 1), reason=None if p else "motion_blur", flags=[]
        )
        for n, p in enumerate(ps)
    ]
    return ScoreEvent(
        session_id="x",
        at=_at(t),
        stamp=0,
        provenance="rtp",
        p=None,
        faces=rows,
        latency_s=0.02,
        stages=LatencyStages(decode_s=0.004, wait_s=0.001, look_s=0.015),
        judged_at=t,
    )


def _drawn(view: WatchView) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view.render())
    return console.export_text()


def test_an_alert_is_told_once_and_its_end_too() -> None:
    view = WatchView("rtsp://cam/live")
    view._threshold = 0.8
    said = [
        line.plain.partition(" s  ")[2] for t, p in enumerate([0.5, 0.85, 0.9, None, 0.9, 0.3, 0.95]) for line in view.take(_scored(t, p))
    ]
    assert said == [
        "ALERT face 0: 85%, threshold 80%",
        "face 0 is below the threshold again",
        "ALERT face 0: 95%, threshold 80%",
    ]
    assert "95%" in _drawn(view)


def test_the_view_tells_gaps_drops_states_and_faces_that_left() -> None:
    view = WatchView("rtsp://cam/live")
    view.take(Source(session_id="x", state="reconnecting", attempt=2, next_retry_s=1.25, code="stalled"))
    view.take(_scored(3.0, 0.2, None, *[0.1] * 8))
    assert "1 more faces" not in _drawn(view) and "2 more faces" in _drawn(view)
    view.take(FaceEvent(session_id="x", track=0, state="left", at=_at(3)))
    view.take(FaceEvent(session_id="x", track=9, state="left", at=_at(3)))
    view.take(GapEvent(session_id="x", cause="reconnected", start=_at(3), end=_at(7.5), seconds=4.5))
    view.take(DropEvent(session_id="x", cause="overtaken", n=3))
    view.take(DropEvent(session_id="x", cause="undecodable", n=2, since=7.0))
    view.take(
        Stats(
            session_id="x",
            received=Allowance(media=0, bytes=0),
            waiting_bytes=0,
            offered=99,
            looked_at=9,
            overtaken=0,
            shed=0,
            nets_failed=0,
            hz=11.96,
            latency_p95_s=12.345,
            events_waiting=0,
        )
    )
    text = _drawn(view)
    assert max(map(len, text.splitlines())) <= 80
    assert "latency 20 ms (95 % within 12345), 12.0 looks a second" in text
    for part in ("reconnecting in 1.2 s, attempt 2 (stalled)", "not judged", "gap of 4.50 s: the camera was away"):
        assert part in text, part
    for part in ("2 pictures lost or undecodable", "1 looks, 1 gaps (4.5 s), drops: 3 overtaken, 2 undecodable"):
        assert part in text, part
    assert "face 0" not in text and "face 1" in text
