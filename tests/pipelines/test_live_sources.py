"""Cameras and URLs: time is the sender's, an outage is a real dt, and a source that fails ends in time with what came before it kept."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.errors import PipelineError, SourceError, SourceRefused, SourceUnreachable, UrlNotAllowed
from pipelines.frames import FrameSource, probe, read_frames
from pipelines.media import Frame, Limits
from tests import clips
from tests.ports import free_port
from tests.rtsp import KEPT, USER, Answering, RtspServer, rtsp_server
from tests.support import ROOT, require

LIMITS = Limits(open_timeout_s=60.0, read_timeout_s=30.0)
"""For whatever does not fall silent: a machine that is busy for some seconds does not make it so."""
HASTY = Limits(open_timeout_s=60.0, read_timeout_s=3.0)
"""For what does, and is to be noticed."""
INTERVAL = Fraction(1, 30)
TICK = Fraction(1, 90000)
# What a busy machine may add to a limit; less than the limits of LIMITS, so that within it none of those has come to its end.
MARGIN_S = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    """One for the tests that leave it running."""
    require("rtsp")
    with rtsp_server() as running:
        yield running


@pytest.fixture
def doomed() -> Iterator[RtspServer]:
    """One for a test that stops or kills it."""
    require("rtsp")
    with rtsp_server() as running:
        yield running


@pytest.fixture(scope="module")
def live(server: RtspServer) -> list[Frame]:
    """What /live shows in its first two and a half seconds."""
    with read_frames(server.url("/live"), hz=None, limits=LIMITS) as source:
        return list(islice(source, 75))


def _distances(frames: list[Frame]) -> list[Fraction]:
    return [later.pts * later.time_base - earlier.pts * earlier.time_base for earlier, later in pairwise(frames)]


def _numbers(frames: list[Frame]) -> list[int]:
    """Which of the camera's pictures these are; it started with this session, and its timestamps with it."""
    return [round(frame.pts * frame.time_base / INTERVAL) for frame in frames]


def _codes(source: FrameSource) -> set[str]:
    return {warning.code for warning in source.warnings}


def _read_to_the_end(source: FrameSource, after: int, act: Callable[[], None]) -> tuple[list[Frame], float]:
    """All frames, and the seconds from `act`, done when `after` of them were there, to the end."""
    frames, acted_s = [], 0.0
    for frame in source:
        frames.append(frame)
        if len(frames) == after:
            act()
            acted_s = time.monotonic()
    assert acted_s, f"the source ended before {after} frames came"
    return frames, time.monotonic() - acted_s


def test_a_camera_is_probed(server: RtspServer) -> None:
    media = probe(server.url("/live"), limits=LIMITS)
    assert (media.container, media.codec, media.width, media.height, media.time_base) == ("rtsp", "h264", 160, 120, TICK)
    assert (media.declared_duration_s, media.size_bytes) == (None, None)


def test_the_first_picture_without_a_timestamp_is_counted_and_given_none(live: list[Frame]) -> None:
    # Every RTSP session begins so. Were it given 0 or the time of day, the first dt would be an invention.
    assert live[0].dropped_before == 1
    assert _numbers(live) == list(range(1, 76))


def test_time_is_the_senders(live: list[Frame]) -> None:
    assert set(_distances(live)) == {INTERVAL}
    assert {frame.provenance for frame in live} == {"rtp"}
    assert {(frame.epoch, frame.flags) for frame in live} == {(0, frozenset())}


def test_a_camera_that_is_watched_has_no_faults(server: RtspServer) -> None:
    with read_frames(server.url("/live"), hz=10, limits=LIMITS) as source:
        frames = list(islice(source, 10))
        assert not source.disconnected
    assert (source.counts.no_pts, source.counts.yielded) == (1, 10)
    assert set(_distances(frames[1:])) == {3 * INTERVAL}
    report = source.report
    assert (report.provenance, report.variable, report.gap_count, report.epochs) == ("rtp", False, 0, 1)
    assert report.median_dt_s == pytest.approx(1 / 30)


def test_a_variable_rate_stays_as_it_was_filmed_however_it_arrives(server: RtspServer) -> None:
    frames, arrivals = [], []
    with read_frames(server.url("/vfr"), hz=None, limits=LIMITS) as source:
        for frame in islice(source, 45):
            frames.append(frame)
            arrivals.append(time.monotonic())
            if len(frames) == 15:
                server.stop()
                time.sleep(0.7)
                server.cont()
    distances = _distances(frames)
    assert all((distance / INTERVAL).denominator == 1 for distance in distances)
    numbers = _numbers(frames)
    assert numbers == [n for n in range(numbers[0], numbers[-1] + 1) if KEPT[n % len(KEPT)] == "1"]
    assert {frame.flags for frame in frames} == {frozenset()}, "in a variable rate a long interval is no sign of loss"
    assert source.report.variable
    between = [later - earlier for earlier, later in pairwise(arrivals)]
    assert min(between) < float(min(distances)) and max(between) > float(max(distances)), "arrival was to be unlike the time of filming"


def test_the_network_holding_its_breath_is_no_time(server: RtspServer) -> None:
    with read_frames(server.url("/live"), hz=None, limits=LIMITS) as source:
        walk = iter(source)
        frames = list(islice(walk, 10))
        server.stop()
        time.sleep(0.6)
        server.cont()
        frames += islice(walk, 40)
    assert set(_distances(frames)) == {INTERVAL}
    assert {frame.flags for frame in frames} == {frozenset()}


def test_sound_does_not_move_the_picture(server: RtspServer) -> None:
    """FFmpeg moves the stamps of several streams at every sender report, and /av sends ten of them a second (row 13)."""
    with read_frames(server.url("/av"), hz=None, limits=LIMITS) as source:
        frames = list(islice(source, 45))
    assert set(_distances(frames)) == {INTERVAL}
    assert {frame.flags for frame in frames} == {frozenset()}


def test_a_lost_picture_is_a_longer_dt_and_taints_what_is_built_on_it(server: RtspServer, live: list[Frame]) -> None:
    """The decoder says nothing (row 7), so the pictures themselves are compared with those that /live shows at the same times."""
    with read_frames(server.url("/loss"), hz=None, limits=LIMITS) as source:
        frames = list(islice(source, 65))
    numbers = _numbers(frames)
    assert numbers == [n for n in range(1, numbers[-1] + 1) if n % 30 not in (20, 21)]
    whole = dict(zip(_numbers(live), live, strict=True))
    for number, frame in zip(numbers, frames, strict=True):
        damaged = number % 30 > 21
        assert frame.flags == ({"tainted"} if damaged else frozenset()), number
        error = float(np.abs(frame.image.astype(np.int16) - whole[number].image).mean())
        assert (error > 1) == damaged, f"picture {number} differs by {error:.1f} grey levels"
    assert source.counts.tainted == sum(number % 30 > 21 for number in numbers)
    assert (source.counts.corrupt, source.counts.decode_errors, source.report.gap_count) == (0, 0, 0)


def test_a_key_picture_in_two_parts_is_one_instant_and_never_passes_for_whole(server: RtspServer) -> None:
    with read_frames(server.url("/slices"), hz=None, limits=LIMITS) as source:
        frames = list(islice(source, 45))
    assert set(_distances(frames)) == {INTERVAL}
    assert source.counts.duplicate >= 1
    assert all(frame.flags & {"corrupt", "tainted"} for frame in frames if frame.pts * frame.time_base < 1)


def test_a_file_behind_rtsp_keeps_its_variable_time(tmp_path: Path) -> None:
    require("rtsp")
    pts = clips.variable_pts(1.5, seed=3)
    clip = clips.face_clip(tmp_path / "a.mp4", pts=pts, px=120)
    with rtsp_server(clip) as camera, read_frames(camera.url("/file"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    # GStreamer carries nanoseconds, so a stamp may be a tick off.
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([t / 1000 for t in pts[1:]], abs=float(2 * TICK))
    assert source.disconnected and "disconnected" in _codes(source), "a camera that says goodbye is gone too"


def test_a_damaged_picture_taints_up_to_the_next_key_picture(tmp_path: Path) -> None:
    require("rtsp")
    with rtsp_server(_with_a_broken_slice(tmp_path, 40)) as camera, read_frames(camera.url("/file"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    flags = dict(zip(_numbers(frames), (frame.flags for frame in frames), strict=True))
    assert {number for number, flag in flags.items() if "corrupt" in flag} == {40}
    assert {number for number, flag in flags.items() if "tainted" in flag} == set(range(41, 60))
    assert "corrupt_frames" in _codes(source)


def _with_a_broken_slice(folder: Path, broken: int) -> Path:
    """Two and a half seconds at 30 fps, a key picture every second; of picture `broken` the second of four slices is noise.

    Several slices, because slice threads, PyAV's default, hide the damage of just those.
    """
    options = {"preset": "ultrafast", "g": "30", "bf": "0", "sc_threshold": "0", "slices": "4"}
    ticks = [3000 * n for n in range(75)]
    pictures = (clips.face_frame(n / 10, width=160, height=120, px=100) for n in range(75))
    whole = clips.write_clip(folder / "whole.mp4", pictures, ticks, TICK, options=options)
    with av.open(str(whole)) as read, av.open(str(folder / "broken.mp4"), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if packet.dts is None:
                continue
            content = bytearray(bytes(packet))
            if number == broken:
                start, end = _slices(content)[1]
                content[start + (end - start) // 3 : end - 2] = bytes(byte ^ 0x55 for byte in content[start + (end - start) // 3 : end - 2])
            copy = av.Packet(bytes(content))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            written.mux(copy)
    return folder / "broken.mp4"


def _slices(content: bytearray) -> list[tuple[int, int]]:
    """Where the slices of an H.264 access unit begin and end, as mp4 packs them: each behind its length."""
    found, at = [], 0
    while at + 4 < len(content):
        length = int.from_bytes(content[at : at + 4])
        if content[at + 4] & 31 in (1, 5):
            found.append((at + 4, at + 4 + length))
        at += 4 + length
    return found


def test_a_camera_that_dies_is_a_disconnection(doomed: RtspServer) -> None:
    with read_frames(doomed.url("/live"), hz=None, limits=LIMITS) as source:
        frames, took_s = _read_to_the_end(source, 20, doomed.kill)
    assert took_s < MARGIN_S
    assert len(frames) >= 20
    assert set(_distances(frames)) == {INTERVAL}
    assert source.disconnected
    assert "disconnected" in _codes(source) and "stalled" not in _codes(source)


def test_a_camera_that_falls_silent_ends_in_time(doomed: RtspServer) -> None:
    with read_frames(doomed.url("/live"), hz=None, limits=HASTY) as source:
        frames, took_s = _read_to_the_end(source, 20, doomed.stop)
    assert took_s < 2 * HASTY.read_timeout_s + MARGIN_S
    assert len(frames) >= 20
    assert source.disconnected
    assert "stalled" in _codes(source)


@pytest.mark.parametrize("fault", ["reset", "cut inside a packet", "noise"])
def test_a_connection_that_breaks_is_a_disconnection(server: RtspServer, fault: str) -> None:
    with _Middle(server.port) as middle, read_frames(f"rtsp://127.0.0.1:{middle.port}/live", hz=None, limits=HASTY) as source:
        frames, took_s = _read_to_the_end(source, 20, lambda: middle.spoil(fault))
    assert took_s < 2 * HASTY.read_timeout_s + MARGIN_S
    assert len(frames) >= 20
    assert source.disconnected
    assert _codes(source) & {"disconnected", "stalled"}


class _Middle:
    """Stands between a reader and the server, and spoils what the server says when told to."""

    def __init__(self, port: int) -> None:
        self._server_port, self._fault = port, ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._carry)

    def __enter__(self) -> _Middle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def spoil(self, fault: str) -> None:
        self._fault = fault

    def _carry(self) -> None:
        self._listener.settimeout(60)
        reader, _ = self._listener.accept()
        with suppress(OSError), reader, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            while True:
                for one in select.select([reader, server], [], [])[0]:
                    data = one.recv(65536)
                    if one is reader:
                        server.sendall(data)
                    elif self._fault == "reset":
                        # A socket that is closed with this option says that it was cut off, not that it is done.
                        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif self._fault == "cut inside a packet":
                        reader.sendall(data[: len(data) // 2])
                    elif self._fault == "noise":
                        reader.sendall(bytes(byte ^ 0x5A for byte in data))
                    else:
                        reader.sendall(data)
                    if not data or (one is server and self._fault in ("reset", "cut inside a packet")):
                        return


def test_a_frozen_camera_is_unreachable_in_time(doomed: RtspServer) -> None:
    doomed.stop()
    began_s = time.monotonic()
    with pytest.raises(SourceUnreachable):
        read_frames(doomed.url("/live"), limits=Limits(open_timeout_s=1.0))
    assert time.monotonic() - began_s < 1 + MARGIN_S


@pytest.mark.parametrize(
    ("mount", "user", "says"),
    [
        ("/nothing", "", "404"),
        ("/private", "", "401"),
        ("/private", "camera:wrongword", "401"),
        ("/udp", "", "does not send over TCP"),
        ("closed", "camera:wrongword", "refused"),
    ],
)
def test_what_a_camera_refuses_is_unreachable_at_once(server: RtspServer, mount: str, user: str, says: str) -> None:
    url = f"rtsp://{user}@127.0.0.1:{free_port()}/live?token=wrongword" if mount == "closed" else server.url(mount, user)
    began_s = time.monotonic()
    with pytest.raises(SourceUnreachable, match=says) as refusal:
        read_frames(url, limits=LIMITS)
    assert time.monotonic() - began_s < MARGIN_S
    assert refusal.value.expected and refusal.value.got
    assert "wrongword" not in f"{refusal.value} {refusal.value.expected} {refusal.value.got}"


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_no_traceback_tells_credentials(scheme: str) -> None:
    """A log takes the whole chain of causes, and FFmpeg's errors carry the URL."""
    word = "wrong" + "word"  # put together here, because a traceback quotes lines of source
    with pytest.raises(SourceUnreachable) as refusal:
        read_frames(f"{scheme}://camera:{word}@127.0.0.1:{free_port()}/live?token={word}")
    told = "".join(traceback.format_exception(refusal.value))
    assert word not in told


def test_who_knows_the_password_sees_and_nobody_reads_it(doomed: RtspServer) -> None:
    with read_frames(doomed.url("/private", USER), hz=None, limits=HASTY) as source:
        frames, _ = _read_to_the_end(source, 5, doomed.stop)
    assert len(frames) >= 5
    assert USER.partition(":")[2] not in f"{source.media} {source.warnings} {source.report}"


@pytest.mark.parametrize(("mount", "provenance", "hz"), [("/live", "arrival", None), ("/live", "arrival", 10), ("/prompt", "rtp", None)])
def test_an_outage_is_a_real_dt(doomed: RtspServer, mount: str, provenance: str, hz: int | None) -> None:
    """Told by the sender's clock where both sessions know it (/prompt says it before the first picture), else by arrival."""
    before: list[Frame] = []
    began_s = last_s = time.monotonic()
    with read_frames(doomed.url(mount), hz=hz, limits=LIMITS) as first:
        for frame in first:
            before.append(frame)
            last_s = time.monotonic()
            if len(before) == 12:
                doomed.kill()
    assert first.disconnected
    time.sleep(1.2)
    doomed.restart()
    opened_s = time.monotonic()
    with read_frames(doomed.url(mount), hz=hz, limits=LIMITS, clock=first.clock) as second:
        walk = iter(second)
        after = [next(walk)]
        shown_s = time.monotonic()
        after += islice(walk, 11)
    bridging = after[0]
    # It films while it is watched: the last picture as long after its first as they are apart, at the earliest, and before it was here.
    filmed_s = float(sum(_distances(before)))
    assert opened_s - last_s - 0.1 < float(_distances([before[-1], bridging])[0]) < shown_s - (began_s + filmed_s) + 0.1
    assert bridging.provenance == provenance
    assert "gap" in bridging.flags
    assert bridging.dropped_before == 1, "the second session's first picture has no timestamp either"
    assert {frame.epoch for frame in before} == {0} and {frame.epoch for frame in after} == {1}
    if hz is None:
        assert set(_distances(before)) == set(_distances(after)) == {INTERVAL}
    else:
        assert set(_distances(before[1:])) == set(_distances(after[1:])) == {1 / Fraction(hz)}
    assert {frame.provenance for frame in after[1:]} == {"rtp"}
    assert all(not frame.flags for frame in after[1:]) and "discontinuity" not in bridging.flags
    assert bridging.pts - bridging.shift == after[-1].pts - after[-1].shift - round(sum(_distances(after)) / TICK), "one shift for all"
    assert first.clock is second.clock
    assert second.report.epochs == 2


def test_a_camera_may_be_left_at_any_moment(doomed: RtspServer) -> None:
    for freeze in (False, True):
        with read_frames(doomed.url("/live"), limits=LIMITS) as source:
            next(iter(source))
            if freeze:
                doomed.stop()
            began_s = time.monotonic()
        assert time.monotonic() - began_s < MARGIN_S
        source.close()
    assert not source.disconnected, "we left, not the camera"


def test_closing_while_reading_ends_the_reading(server: RtspServer) -> None:
    """In a process of its own, because PyAV ends the process that asks a closed container for the next packet."""
    code = (
        "import sys\n"
        "from pipelines.frames import read_frames\n"
        "with read_frames(sys.argv[1], hz=None) as source:\n"
        "    for frame in source:\n"
        "        source.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.url("/live")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-500:] or done.returncode


def test_a_camera_whose_clock_runs_false_is_told_of(server: RtspServer) -> None:
    """Row 16: its stamps say one thing and the clock on the wall, here one that is ours to wind, another."""
    seconds = iter(range(0, 10**6, 2))  # every packet seems to take two seconds, and bears a thirtieth
    with read_frames(server.url("/live"), hz=None, limits=LIMITS, now=lambda: float(next(seconds))) as camera:
        frames = list(islice(camera, 50))
        assert "clock_skew" in {warning.code for warning in camera.warnings}
    assert all(frame.provenance == "rtp" for frame in frames)
    assert {b.pts - a.pts for a, b in pairwise(frames)} == {3000}


def test_a_redirect_to_another_camera_is_not_followed(server: RtspServer) -> None:
    """What was allowed was this address; the next one is nobody's choice but a stranger's."""
    with Answering("302 Moved Temporarily", server.url("/live")) as stranger:
        with pytest.raises(UrlNotAllowed, match="leads elsewhere"):
            read_frames(stranger.url, limits=LIMITS)
        assert len(stranger.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("403 Forbidden", SourceRefused),
        ("453 Not Enough Bandwidth", SourceUnreachable),
        ("454 Session Not Found", SourceUnreachable),
        ("503 Service Unavailable", SourceUnreachable),
    ],
)
def test_what_a_camera_cannot_give_now_it_may_give_later_unless_it_says_no(status: str, kind: type[SourceUnreachable]) -> None:
    with Answering(status) as busy, pytest.raises(kind) as refusal:
        read_frames(busy.url, limits=LIMITS)
    assert type(refusal.value) is kind


class _Shelf(ThreadingHTTPServer):
    """Serves `files`, counts what was asked for; in the middle of what `faults` names it falls silent or hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Shelved)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Shelved(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shelf = self.server
        assert isinstance(shelf, _Shelf)
        name = self.path.removeprefix("/")
        shelf.asked.append(name)
        body, fault = shelf.files.get(name), shelf.faults.get(name)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body[: len(body) // 2] if fault else body)
        if fault == "silent":
            shelf.closing.wait()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def shelf() -> Iterator[_Shelf]:
    with _Shelf() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


HLS_TICKS = [3000 * n + 250 * (n % 7) for n in range(75)]


@pytest.fixture
def hls(tmp_path: Path, shelf: _Shelf) -> _Shelf:
    """A shelf with x.m3u8: two and a half seconds of uneven times in three segments."""
    options = {"hls_time": "1", "hls_playlist_type": "vod", "hls_segment_filename": str(tmp_path / "s%d.ts")}
    pictures = (clips.empty_frame(t / 90000, width=160, height=120) for t in HLS_TICKS)
    codec = {"preset": "ultrafast", "g": "30", "bf": "0", "sc_threshold": "0"}
    clips.write_clip(tmp_path / "x.m3u8", pictures, HLS_TICKS, TICK, options=codec, container=options)
    shelf.files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(shelf.files) == ["s0.ts", "s1.ts", "s2.ts", "x.m3u8"]
    return shelf


def test_hls_gives_every_picture_at_its_time(hls: _Shelf) -> None:
    with read_frames(hls.url("x.m3u8"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    assert source.media.container == "hls"
    first = frames[0].pts
    assert [frame.pts - first for frame in frames] == HLS_TICKS
    assert {frame.time_base for frame in frames} == {TICK}
    assert {(frame.provenance, frame.flags, frame.epoch) for frame in frames} == {("container", frozenset(), 0)}
    assert source.warnings == []
    assert not source.disconnected
    assert hls.asked == ["x.m3u8", "s0.ts", "s1.ts", "s2.ts"]


def test_hls_with_another_timeline_spliced_in_stays_in_order(hls: _Shelf) -> None:
    hls.files["spliced.m3u8"] = (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\ns1.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\ns0.ts\n#EXT-X-ENDLIST\n"
    )
    with read_frames(hls.url("spliced.m3u8"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    assert all(distance > 0 for distance in _distances(frames))
    assert sum("discontinuity" in frame.flags for frame in frames) == 1
    assert {frame.epoch for frame in frames} == {0, 1}
    # One picture that goes back is late; only the second shows that there is a new timeline.
    assert (source.counts.backward, len(frames)) == (1, 59)


def test_hls_without_one_of_its_segments_has_a_gap(hls: _Shelf) -> None:
    del hls.files["s1.ts"]
    with read_frames(hls.url("x.m3u8"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    assert [frame.pts - frames[0].pts for frame in frames] == HLS_TICKS[:30] + HLS_TICKS[60:]
    assert [index for index, frame in enumerate(frames) if "gap" in frame.flags] == [30]


LOCAL_NAMES: dict[str, Callable[[Path], str]] = {
    "file://": lambda path: f"file://{path}",
    "file:": lambda path: f"file:{path}",
    "path": str,
    "sibling": lambda path: path.name,
    "subfile": lambda path: f"subfile,,start,0,end,0,,:{path}",
    "concat": lambda path: f"concat:{path}",
    "crypto": lambda path: f"crypto+file://{path}",
}
WAYS_TO_NAME: dict[str, str] = {
    "alone": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "second": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\ns0.ts\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "variant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{target}\n",
    "map": '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\ns0.ts\n#EXT-X-ENDLIST\n',
}


@pytest.mark.parametrize("way", WAYS_TO_NAME)
@pytest.mark.parametrize("name", LOCAL_NAMES)
def test_hls_reads_no_file_of_this_machine(tmp_path: Path, hls: _Shelf, monkeypatch: pytest.MonkeyPatch, name: str, way: str) -> None:
    monkeypatch.chdir(tmp_path)
    white = np.full((120, 160, 3), 255, dtype=np.uint8)
    secret = clips.write_clip(tmp_path / "secret.ts", [white] * 30, [3000 * n for n in range(30)], TICK)
    hls.files["x.m3u8"] = WAYS_TO_NAME[way].format(target=LOCAL_NAMES[name](secret)).encode()
    frames: list[Frame] = []
    with suppress(PipelineError), read_frames(hls.url("x.m3u8"), hz=None, limits=LIMITS) as source:
        frames += source
    assert all(frame.image.mean() < 200 for frame in frames), "that white is the secret"
    assert len(frames) <= 30
    if way != "second":
        assert frames == [] or way == "map", "nothing but the secret was named"


def test_a_download_that_falls_silent_keeps_what_came(tmp_path: Path, shelf: _Shelf) -> None:
    shelf.files["a.mkv"] = clips.face_clip(tmp_path / "a.mkv", seconds=6.0).read_bytes()
    shelf.faults["a.mkv"] = "silent"
    began_s = time.monotonic()
    with read_frames(shelf.url("a.mkv"), hz=None, limits=HASTY) as source:
        frames = list(source)
    assert time.monotonic() - began_s < 2 * HASTY.read_timeout_s + MARGIN_S
    assert 24 <= len(frames) < 144
    assert _codes(source) & {"stalled", "truncated"}
    assert not source.disconnected, "a download is no camera"


def test_a_download_that_is_cut_off_keeps_what_came(tmp_path: Path, shelf: _Shelf) -> None:
    shelf.files["a.mkv"] = clips.face_clip(tmp_path / "a.mkv", seconds=6.0).read_bytes()
    shelf.faults["a.mkv"] = "hangs up"
    with read_frames(shelf.url("a.mkv"), hz=None, limits=LIMITS) as source:
        frames = list(source)
    assert 24 <= len(frames) < 144
    assert "truncated" in _codes(source)


def test_a_segment_that_falls_silent_is_left_for_the_next(hls: _Shelf) -> None:
    hls.faults["s1.ts"] = "silent"
    began_s = time.monotonic()
    with read_frames(hls.url("x.m3u8"), hz=None, limits=HASTY) as source:
        frames = list(source)
    assert time.monotonic() - began_s < 2 * HASTY.read_timeout_s + MARGIN_S
    ticks = [frame.pts - frames[0].pts for frame in frames]
    assert ticks[:30] == HLS_TICKS[:30] and ticks[-15:] == HLS_TICKS[-15:] and set(ticks) < set(HLS_TICKS)


def test_a_playlist_that_calls_itself_a_video_is_refused(hls: _Shelf) -> None:
    hls.files["x.mp4"] = hls.files["x.m3u8"]
    with pytest.raises(SourceError):
        probe(hls.url("x.mp4"), limits=LIMITS)
    assert set(hls.asked) == {"x.mp4"}
