"""Cameras that stall, die, restart and refuse: noticed in time, told of, and the outage is a real dt."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.errors import PipelineError, SourceRefused, SourceUnreachable, UnsupportedMedia, UrlNotAllowed
from pipelines.media import Frame
from service import live_source
from service.live_source import Cameras
from service.media_sandbox import MediaSandbox
from service.picture_source import OpenCamera, SourceState
from service.url_policy import UrlPolicy
from tests import clips
from tests.rtsp import USER, Answering, RtspServer, rtsp_server
from tests.support import require

# Longer than a busy machine takes a breath; PATIENT_S where nobody is to be found silent.
SILENT_S = 5.0
PATIENT_S = 30.0
# What a busy machine may add to a limit; less than PATIENT_S.
MARGIN_S = 20.0
# Until there are pictures, or more of them, whatever else runs.
LONG_S = 120.0
OUTAGE_S = 4.0
INTERVAL = Fraction(1, 30)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MediaSandbox]:
    if not MediaSandbox.supported():
        pytest.skip("this system has no memfd, pidfd or packet sockets")
    with MediaSandbox() as running:
        yield running


@pytest.fixture
def camera() -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server() as running:
        yield running


@pytest.fixture
def cameras(sandbox: MediaSandbox) -> Cameras:
    return Cameras(sandbox, silent_s=PATIENT_S)


@pytest.fixture
def hurried(sandbox: MediaSandbox) -> Cameras:
    """Which are found silent."""
    return Cameras(sandbox, silent_s=SILENT_S)


class Watching:
    """A source that runs in a thread of its own, and what came of it."""

    def __init__(self, open_camera: OpenCamera, url: str, rate: Callable[[], float] = lambda: 30.0) -> None:
        self.frames: list[Frame] = []
        self.arrived_s: list[float] = []
        self.states: list[tuple[float, SourceState]] = []
        self.error: PipelineError | None = None
        self._source = open_camera(url, rate)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._source.stop()
        self._source.stop()
        self._thread.join(1 + MARGIN_S)
        assert not self._thread.is_alive(), "it was to stop soon"

    def until(self, what: Callable[[], object], within_s: float = LONG_S) -> None:
        with self._changed:
            assert self._changed.wait_for(what, within_s), f"waited {within_s} s in vain; {len(self.frames)} frames, {self.told}"

    def until_state(self, state: str, since: int, within_s: float) -> tuple[float, SourceState]:
        """Until `state` is told of after the first `since` states; returns when that was, and what was told."""
        self.until(lambda: state in self.told[since:], within_s)
        return next((at, told) for at, told in self.states[since:] if told.state == state)

    def ended(self) -> None:
        """Until it ends by itself."""
        self._thread.join(LONG_S)
        assert not self._thread.is_alive(), f"it goes on; {self.told}"

    @property
    def told(self) -> list[str]:
        return [state.state for _, state in self.states]

    def _run(self) -> None:
        try:
            self._source.run(self._offer, self._tell)
        except PipelineError as error:
            self.error = error

    def _offer(self, frame: Frame) -> bool:
        with self._changed:
            self.frames.append(replace(frame, image=frame.image[:1, :1]))
            self.arrived_s.append(time.monotonic())
            self._changed.notify_all()
        return True

    def _tell(self, state: SourceState) -> None:
        with self._changed:
            self.states.append((time.monotonic(), state))
            self._changed.notify_all()


def _distances(frames: list[Frame]) -> set[Fraction]:
    return {later.pts * later.time_base - earlier.pts * earlier.time_base for earlier, later in pairwise(frames)}


def _is_one_timeline_with_a_real_outage(watching: Watching, provenance: str = "arrival") -> None:
    frames = watching.frames
    at = next(n for n, frame in enumerate(frames) if frame.epoch == 1)
    bridging = frames[at]
    assert "gap" in bridging.flags and "discontinuity" not in bridging.flags and bridging.provenance == provenance
    outage_s = watching.arrived_s[at] - watching.arrived_s[at - 1]
    # What came last and first may have waited for whoever wrote down when it came.
    assert outage_s > OUTAGE_S and bridging.t - frames[at - 1].t == pytest.approx(outage_s, abs=0.75 * OUTAGE_S)
    assert _distances(frames[:at]) == _distances(frames[at:]) == {INTERVAL}
    assert {frame.provenance for frame in frames[:at] + frames[at + 1 :]} == {"rtp"}
    assert all(not frame.flags for frame in frames[at + 1 :])


@pytest.mark.parametrize(("mount", "provenance"), [("/live", "arrival"), ("/prompt", "rtp")])
def test_a_camera_that_dies_and_comes_back_goes_on_after_a_real_dt(
    cameras: Cameras, camera: RtspServer, mount: str, provenance: str
) -> None:
    with Watching(cameras.open, camera.url(mount)) as watching:
        watching.until(lambda: len(watching.frames) >= 20)
        assert watching.told[:2] == ["connecting", "running"]
        media = watching.states[1][1].media
        assert media is not None and (media.width, media.height) == (160, 120)
        camera.kill()
        _, lost = watching.until_state("reconnecting", 2, MARGIN_S)
        assert (lost.attempt, lost.code) == (1, "disconnected")
        assert lost.next_retry_s is not None and 0 <= lost.next_retry_s < 1
        time.sleep(OUTAGE_S)
        camera.restart()
        watching.until(lambda: watching.frames[-1].epoch == 1 and len(watching.frames) >= 60)
    _is_one_timeline_with_a_real_outage(watching, provenance)
    assert watching.error is None


def test_a_camera_that_freezes_in_play_is_noticed_and_left(hurried: Cameras, camera: RtspServer) -> None:
    with Watching(hurried.open, camera.url("/live")) as watching:
        watching.until(lambda: len(watching.frames) >= 20)
        since = len(watching.states)
        camera.stop()
        stopped_s = time.monotonic()
        stalled_s, _ = watching.until_state("stalled", since, SILENT_S + MARGIN_S)
        lost_s, lost = watching.until_state("reconnecting", since, 2 * SILENT_S + MARGIN_S)
        assert 0 < stalled_s - stopped_s < lost_s - stopped_s < 2 * SILENT_S + MARGIN_S
        assert lost.code == "stalled"
        # It does not answer: opening is given up too, and tried again.
        watching.until(lambda: watching.states[-1][1].attempt >= 2, 2 * SILENT_S + 1 + MARGIN_S)
        camera.cont()
        watching.until(lambda: watching.frames[-1].epoch >= 1 and watching.told[-1] == "running")
        watching.until(lambda: len(watching.frames) >= 60)
    _is_one_timeline_with_a_real_outage(watching)


def test_a_breath_held_is_told_of_and_no_reason_to_leave(cameras: Cameras, camera: RtspServer) -> None:
    with Watching(cameras.open, camera.url("/live")) as watching:
        watching.until(lambda: len(watching.frames) >= 20)
        since = len(watching.states)
        camera.stop()
        watching.until_state("stalled", since, MARGIN_S)
        camera.cont()
        watching.until_state("running", since, MARGIN_S)
        watching.until(lambda: len(watching.frames) >= 90)
    # A busy machine may hold its breath as well.
    assert watching.told[:2] == ["connecting", "running"]
    assert watching.told[2:] == ["stalled", "running"] * (len(watching.told) // 2 - 1)
    assert _distances(watching.frames) == {INTERVAL}, "what the network held back had its times"


def test_a_camera_that_is_frozen_from_the_start_is_waited_for(hurried: Cameras, camera: RtspServer) -> None:
    camera.stop()
    with Watching(hurried.open, camera.url("/live")) as watching:
        watching.until(lambda: len(watching.states) >= 2, SILENT_S + MARGIN_S)
        waits = watching.states[1][1]
        assert (waits.state, waits.attempt, waits.code) == ("connecting", 1, "source-unreachable")
        camera.cont()
        watching.until(lambda: watching.frames)
        assert watching.frames[0].epoch == 0
    assert "running" in watching.told


@pytest.mark.parametrize(("mount", "user", "says"), [("/nothing", "", "404"), ("/private", "", "401"), ("/private", "camera:wrong", "401")])
def test_what_a_camera_denies_is_the_end_at_once(cameras: Cameras, camera: RtspServer, mount: str, user: str, says: str) -> None:
    with Watching(cameras.open, camera.url(mount, user)) as watching:
        watching.ended()
    assert isinstance(watching.error, SourceRefused) and says in str(watching.error)
    assert watching.told == ["connecting"]
    assert "wrong" not in f"{watching.error} {watching.states}"


def test_a_camera_that_its_relay_misses_for_a_while_is_waited_for(cameras: Cameras, camera: RtspServer) -> None:
    with Watching(cameras.open, camera.url("/live")) as watching:
        watching.until(lambda: len(watching.frames) >= 20)
        camera.restart(without="/live")
        watching.until(lambda: watching.states[-1][1].code == "source-absent")
        assert watching.states[-1][1].state == "reconnecting" and watching.states[-1][1].next_retry_s is not None
        time.sleep(OUTAGE_S)
        camera.restart()
        watching.until(lambda: watching.frames[-1].epoch == 1 and len(watching.frames) >= 60)
    _is_one_timeline_with_a_real_outage(watching)
    assert watching.error is None


def test_a_redirect_is_the_end_at_once(cameras: Cameras, camera: RtspServer) -> None:
    with Answering("302 Moved Temporarily", camera.url("/live")) as stranger, Watching(cameras.open, stranger.url) as watching:
        watching.ended()
    assert isinstance(watching.error, UrlNotAllowed) and watching.told == ["connecting"]
    assert len(stranger.asked) == 1


@pytest.mark.parametrize("status", ["453 Not Enough Bandwidth", "503 Service Unavailable"])
def test_a_camera_that_is_busy_is_asked_again_and_ever_more_seldom(sandbox: MediaSandbox, status: str) -> None:
    cameras = Cameras(sandbox, silent_s=PATIENT_S, give_up_s=8.0)
    with Answering(status) as busy, Watching(cameras.open, busy.url) as watching:
        watching.ended()
    assert isinstance(watching.error, SourceUnreachable)
    retries = [state for _, state in watching.states[1:]]
    assert [state.attempt for state in retries] == list(range(1, len(retries) + 1)) and len(retries) >= 2
    assert {(state.state, state.code) for state in retries} == {("connecting", "source-unreachable")}
    assert len(busy.asked) == len(retries) + 1, "one question each time, and none after it gave up"


def test_only_a_healthy_while_makes_up_for_failures(cameras: Cameras, camera: RtspServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> int:
        """Which attempt follows when the camera restarts after some pictures; it may take more of them to find it back."""
        watching.until(lambda: len(watching.frames) >= 30)
        since = len(watching.states)
        camera.restart()
        _, state = watching.until_state("reconnecting", since, MARGIN_S)
        watching.frames.clear()
        return state.attempt

    with Watching(cameras.open, camera.url("/live")) as watching:
        assert lost() == 1
        assert lost() >= 2
        monkeypatch.setattr(live_source, "HEALTHY_S", 0.2)
        assert lost() == 1


def test_credentials_are_used_and_never_told(cameras: Cameras, camera: RtspServer, capfd: pytest.CaptureFixture[str]) -> None:
    with Watching(cameras.open, camera.url("/private", USER)) as watching:
        watching.until(lambda: len(watching.frames) >= 5)
        camera.kill()
        watching.until(lambda: watching.states[-1][1].attempt >= 2)
    assert USER.partition(":")[2] not in f"{watching.states} {watching.error} {capfd.readouterr()}"


def test_where_it_may_not_go_it_is_not_even_made() -> None:
    with MediaSandbox(UrlPolicy(["public"])) as sandbox:
        cameras = Cameras(sandbox)
        with pytest.raises(UrlNotAllowed):
            cameras.open("rtsp://127.0.0.1/live", lambda: 12.0)
        with pytest.raises(UnsupportedMedia):
            cameras.open("file:///etc/passwd", lambda: 12.0)
        assert cameras.open("rtsp://nowhere.invalid/live", lambda: 12.0) is not None


@pytest.mark.parametrize("moment", ["opening", "playing", "frozen", "waiting"])
def test_it_may_be_left_at_any_moment_and_leaves_nothing(cameras: Cameras, camera: RtspServer, moment: str) -> None:
    with Watching(cameras.open, camera.url("/live")) as first:
        first.until(lambda: first.frames)
    threads, descriptors = set(threading.enumerate()), _open_descriptors()
    if moment == "opening":
        camera.stop()
    with Watching(cameras.open, camera.url("/live")) as watching:
        if moment != "opening":
            watching.until(lambda: watching.frames)
        if moment == "frozen":
            camera.stop()
        if moment == "waiting":
            camera.kill()
            watching.until_state("reconnecting", 2, MARGIN_S)
    assert watching.error is None
    assert set(threading.enumerate()) <= threads
    assert _open_descriptors() <= descriptors


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # Path.iterdir opens one more


def test_the_rate_is_asked_for_as_it_goes(cameras: Cameras, camera: RtspServer) -> None:
    rates = [30.0]
    with Watching(cameras.open, camera.url("/live"), lambda: rates[-1]) as watching:
        watching.until(lambda: len(watching.frames) >= 20)
        rates.append(5.0)
        # Some were on their way.
        until = len(watching.frames) + 20
        watching.until(lambda: len(watching.frames) >= until)
    assert _distances(watching.frames[:20]) == {INTERVAL}
    assert _distances(watching.frames[-5:]) == {6 * INTERVAL}


class _Download(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_a_download_ends_where_it_ends(cameras: Cameras, tmp_path: Path) -> None:
    clip = clips.face_clip(tmp_path / "a.mkv", seconds=1.0)
    handler = type("Handler", (_Download,), {"body": clip.read_bytes()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with Watching(cameras.open, f"http://127.0.0.1:{server.server_port}/a.mkv", lambda: 100.0) as watching:
            watching.ended()
        server.shutdown()
    assert watching.error is None and watching.told[:2] == ["connecting", "running"] and "reconnecting" not in watching.told
    assert {frame.provenance for frame in watching.frames} == {"container"} and len(watching.frames) >= 20
