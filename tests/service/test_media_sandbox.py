"""The decode child: the same Frames as in process, nothing to steal or reach, and a death that harms nobody else."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import (
    DecodeError,
    DecoderCrashed,
    DecoderStalled,
    FeedFailed,
    MediaTooLarge,
    PipelineError,
    SourceError,
    UnsupportedMedia,
)
from pipelines.frames import read_frames
from pipelines.media import Frame, Frames, Limits, MediaInfo
from service.decode_children import ChildCounts, DecodeChildren
from service.media_sandbox import MediaSandbox
from service.media_wire import FRAME_SLOTS, Alive, Message, Opened, Shown, Started
from tests.clips import face_clip, one_frame_clip, variable_pts
from tests.support import ROOT, require
from tests.zoo import steady

# Longer than anything takes that ends by itself.
LONG_S = 60.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MediaSandbox]:
    if not MediaSandbox.supported():
        pytest.skip("this system has no memfd, pidfd or packet sockets")
    with MediaSandbox() as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_clip(tmp_path_factory.mktemp("media") / "a.mp4", pts=variable_pts(4.0, seed=2))


class _Chunks:
    """A byte feed of 64 kB pieces that cannot go back."""

    def __init__(self, path: Path) -> None:
        self._file = io.BytesIO(path.read_bytes())

    def read(self, n: int, /) -> bytes:
        del n
        return self._file.read(64 * 1024)


def _all(frames: Frames) -> list[Frame]:
    with frames:
        return list(frames)


def _facts(frame: Frame) -> tuple[object, ...]:
    return (
        frame.pts,
        frame.time_base,
        frame.provenance,
        frame.flags,
        frame.dropped_before,
        (frame.missing_before, frame.missing_since, frame.gap_since),
        frame.epoch,
        frame.shift,
        frame.image.shape,
        frame.image.tobytes(),
    )


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_child_process_and_chunks_give_identical_frames_and_times(sandbox: MediaSandbox, tmp_path: Path, suffix: str) -> None:
    path = face_clip(tmp_path / f"a.{suffix}", pts=variable_pts(3.0, seed=5))
    here = [_facts(frame) for frame in _all(read_frames(path, hz=None))]
    assert len(here) > 20
    assert [_facts(frame) for frame in _all(sandbox.read_frames(path, hz=None))] == here
    if suffix != "mp4":  # this mp4's index stands at its end, and a feed cannot go there
        assert [_facts(frame) for frame in _all(read_frames(_Chunks(path), hz=None))] == here
        assert [_facts(frame) for frame in _all(sandbox.read_frames(_Chunks(path), hz=None))] == here


def test_real_clips_are_identical_too(sandbox: MediaSandbox) -> None:
    data = require("shared")
    assert data is not None
    for path in sorted((data / "published" / "clips").rglob("*.mp4"))[:3]:
        here = _all(read_frames(path, hz=12))
        child = _all(sandbox.read_frames(path, hz=12))
        with path.open("rb") as file:
            fed = _all(read_frames(file, hz=12))
        assert len(here) == len(child) == len(fed) > 0
        for a, b, c in zip(here, child, fed, strict=True):
            assert a.pts == b.pts == c.pts
            assert np.array_equal(a.image, b.image) and np.array_equal(a.image, c.image)


def test_counts_warnings_and_report_come_along(sandbox: MediaSandbox, clip: Path) -> None:
    with read_frames(clip, hz=10) as here, sandbox.read_frames(clip, hz=10) as there:
        list(here), list(there)
        assert there.media == here.media
        assert there.counts == here.counts
        assert there.warnings == here.warnings
        assert there.report == here.report
        assert there.cpu_s > 0 == here.cpu_s


def test_a_report_before_the_end_is_refused(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip) as frames, pytest.raises(PipelineError, match="not read to its end"):
        _ = frames.report


@pytest.mark.parametrize(
    ("number", "patience_s", "error", "says"),
    [
        (signal.SIGSEGV, LONG_S, DecoderCrashed, "SIGSEGV"),
        (signal.SIGKILL, LONG_S, DecoderCrashed, "SIGKILL"),
        (signal.SIGSTOP, 1.0, DecoderStalled, "within 1 s"),
    ],
)
def test_a_child_that_dies_in_the_middle_is_a_typed_error_and_the_next_file_works(
    sandbox: MediaSandbox, clip: Path, number: signal.Signals, patience_s: float, error: type[PipelineError], says: str
) -> None:
    began = time.monotonic()
    with sandbox.read_frames(clip, hz=None, limits=Limits(read_timeout_s=patience_s)) as frames, pytest.raises(error, match=says):
        for seen, _frame in enumerate(frames):
            if seen == 3:
                os.kill(frames.pid, number)
    assert time.monotonic() - began < LONG_S
    _wait_for(lambda: not Path(f"/proc/{frames.pid}").exists())
    assert len(_all(sandbox.read_frames(clip, hz=None))) > 20


def test_a_dead_zygote_is_replaced(clip: Path) -> None:
    with MediaSandbox() as sandbox:
        assert sandbox.probe(clip).codec == "h264"
        assert sandbox._children._zygote is not None
        sandbox._children._zygote.kill()
        sandbox._children._zygote.wait()
        assert sandbox.probe(clip).codec == "h264"


def test_children_end_with_the_sandbox(clip: Path) -> None:
    with MediaSandbox() as sandbox:
        frames = sandbox.read_frames(clip, hz=None)
        os.kill(frames.pid, signal.SIGSTOP)
    _wait_for(lambda: not Path(f"/proc/{frames.pid}").exists())
    with pytest.raises(DecoderCrashed):
        list(frames)
    frames.close()


def test_children_are_counted_and_those_that_fail_twice_over(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not a video")
    with MediaSandbox() as sandbox:
        with sandbox.read_frames(clip, hz=None) as frames:
            next(iter(frames))
            assert sandbox.counts == ChildCounts(alive=1, started=1, crashed=0, stalled=0)
        with pytest.raises(UnsupportedMedia):
            sandbox.read_frames(tmp_path / "text")
        assert sandbox.counts == ChildCounts(alive=0, started=2, crashed=0, stalled=0), "a refusal is no crash"
        for sign, patience_s, error in ((signal.SIGSEGV, LONG_S, DecoderCrashed), (signal.SIGSTOP, 0.2, DecoderStalled)):
            with sandbox.read_frames(clip, hz=None, limits=Limits(read_timeout_s=patience_s)) as frames, pytest.raises(error):
                for _ in frames:
                    os.kill(frames.pid, sign)
        assert sandbox.counts == ChildCounts(alive=0, started=4, crashed=1, stalled=1)


def test_closing_early_ends_the_child_and_closing_twice_is_no_error(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip, hz=None) as frames:
        assert next(iter(frames)).pts == 0
    frames.close()
    _wait_for(lambda: not Path(f"/proc/{frames.pid}").exists())


def test_many_sources_at_once_keep_apart(sandbox: MediaSandbox, tmp_path: Path) -> None:
    paths = [face_clip(tmp_path / f"{n}.mkv", pts=variable_pts(2.0, seed=n)) for n in range(6)]
    expected = [[_facts(frame) for frame in _all(read_frames(path, hz=None))] for path in paths]
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(lambda path: [_facts(frame) for frame in _all(sandbox.read_frames(path, hz=None))], paths)
        assert list(found) == expected


def test_nothing_of_the_service_leaks_into_the_child(clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDERCURRENT_SECRET", "hunter2")
    with (tmp_path / "database").open("w") as secret, MediaSandbox() as sandbox, sandbox.read_frames(clip, hz=None) as frames:
        os.set_inheritable(secret.fileno(), True)
        proc = Path(f"/proc/{frames.pid}")
        assert b"hunter2" not in (proc / "environ").read_bytes()
        opened = sorted(f"{link.name} {link.readlink()}" for link in (proc / "fd").iterdir())
        assert [name for name in opened if "database" in name] == []
        assert len(opened) == 7, opened  # null, null, stderr; socket, frames, media; the duplicate that mmap keeps
        limits = {line[:26].strip(): line[26:].split()[0] for line in (proc / "limits").read_text().splitlines()[1:]}
        assert limits["Max file size"] == "0"
        assert limits["Max open files"] == "7"
        assert limits["Max core file size"] == "0"
        assert int(limits["Max cpu time"]) == Limits().max_cpu_s
        assert int(limits["Max address space"]) < 8 * 1024**3


def test_a_child_for_a_file_has_no_network(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip, hz=None) as frames:
        if not frames.started.network_gone:
            pytest.skip("this system does not let a process give up its network")
        devices = Path(f"/proc/{frames.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    started = sandbox.isolation()
    assert started is not None and started.network_gone


def test_a_url_is_read_in_a_child_too(sandbox: MediaSandbox, tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mkv", seconds=1.0)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: Quiet(*a, directory=str(tmp_path), **k)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetched = _all(sandbox.read_frames(f"http://127.0.0.1:{server.server_port}/a.mkv", hz=None))
        server.shutdown()
    assert [frame.pts for frame in fetched] == [frame.pts for frame in _all(read_frames(path, hz=None))]


def test_refusals_keep_their_type_and_the_files_name(sandbox: MediaSandbox, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("this is not a video\n" * 20)
    with pytest.raises(UnsupportedMedia, match=r"a\.mp4 is not a video.*text file") as refusal:
        sandbox.probe(tmp_path / "a.mp4")
    assert str(tmp_path) not in str(refusal.value)


def test_a_source_is_read_once(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip) as frames:
        assert list(frames)
        with pytest.raises(SourceError, match="can be read once"):
            list(frames)


def test_one_frame_is_enough_for_an_answer(sandbox: MediaSandbox, tmp_path: Path) -> None:
    path = one_frame_clip(tmp_path / "a.mp4")
    for _ in range(20):  # the child is gone before its last messages are read
        assert len(_all(sandbox.read_frames(path))) == 1


def test_a_child_that_used_up_its_cpu_seconds_is_refused(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip, hz=None) as frames, pytest.raises(MediaTooLarge, match="s of CPU time"):
        os.kill(frames.pid, signal.SIGXCPU)  # what the kernel sends then
        list(frames)


def test_a_child_that_asks_for_too_much_memory_is_refused(sandbox: MediaSandbox, clip: Path) -> None:
    with pytest.raises(PipelineError) as refusal, sandbox.read_frames(clip, hz=None, limits=Limits(max_memory_bytes=1024**2)) as frames:
        list(frames)
    assert isinstance(refusal.value, MediaTooLarge | UnsupportedMedia | DecodeError), refusal.value


def test_too_large_a_picture_is_refused_before_it_is_decoded(sandbox: MediaSandbox, clip: Path) -> None:
    with pytest.raises(MediaTooLarge, match="picture is too large"):
        sandbox.read_frames(clip, limits=Limits(max_pixels=1000))


def test_a_feeds_own_error_comes_back(sandbox: MediaSandbox, tmp_path: Path) -> None:
    data = face_clip(tmp_path / "a.mkv", seconds=3.0).read_bytes()

    class Breaks:
        at = 0

        def read(self, n: int, /) -> bytes:
            if self.at >= len(data) // 2:
                raise ValueError("the uplink broke")
            piece = data[self.at : self.at + min(n, 4096)]
            self.at += len(piece)
            return piece

    seen = 0
    with sandbox.read_frames(Breaks(), hz=None) as frames, pytest.raises(FeedFailed, match="the uplink broke"):
        for _frame in frames:
            seen += 1
    assert seen > 10


def test_a_slow_feed_is_waited_for(sandbox: MediaSandbox, tmp_path: Path) -> None:
    """A camera that pauses is no decoder that hangs: only the child's own silence counts."""
    data = face_clip(tmp_path / "a.mkv", seconds=2.0).read_bytes()

    class Slow:
        at = 0
        paused = False

        def read(self, n: int, /) -> bytes:
            if self.at > len(data) // 2 and not self.paused:
                self.paused = True
                time.sleep(5.0)
            piece = data[self.at : self.at + min(n, 4096)]
            self.at += len(piece)
            return piece

    assert len(_all(sandbox.read_frames(Slow(), hz=None, limits=Limits(read_timeout_s=4.0)))) == 48


def test_an_answer_that_makes_no_sense_is_a_crash(sandbox: MediaSandbox, clip: Path) -> None:
    """The child may have been taken over: what it says is checked, and never unpickled."""
    with sandbox.read_frames(clip, hz=None) as frames:
        frames._child._slot_bytes = 10
        with pytest.raises(DecoderCrashed, match="makes no sense"):
            list(frames)


def _wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < until, f"it did not happen within {LONG_S:g} s"
        time.sleep(0.05)


def test_a_file_that_really_makes_ffmpeg_abort_harms_nobody(sandbox: MediaSandbox, clip: Path) -> None:
    """Found by `tests.fuzz` and cut to 15 packets: a failed assertion in FFmpeg 8.1's demuxer (demux.c:765), which no caller can catch."""
    with pytest.raises(DecoderCrashed, match="SIGABRT"):
        _all(sandbox.read_frames(ROOT / "tests" / "golden" / "aborts_ffmpeg.ts", hz=None))
    assert sandbox.probe(clip).codec == "h264"


# --- a child that was taken over


class _TakenChildren(DecodeChildren):
    """Forks as the zygote does, but the child runs what it is given; nothing of the parent's side is replaced."""

    def __init__(self, does: Callable[[socket.socket, int], None]) -> None:
        super().__init__()
        self._does = does

    def fork(self, descriptors: list[int]) -> subprocess.Popen[bytes] | None:
        talk, memory, *_, exit_writer = (os.dup(descriptor) for descriptor in descriptors)
        pid = os.fork()
        if pid == 0:
            try:
                os.closerange(3, min(talk, memory))
                self._does(socket.socket(fileno=talk), memory)
            finally:
                os._exit(1)
        os.write(exit_writer, f"{pid}\n".encode())
        os.close(talk)
        os.close(memory)
        threading.Thread(target=self._reap, args=(pid, exit_writer), daemon=True).start()
        return None

    def _reap(self, pid: int, exit_writer: int) -> None:
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(BrokenPipeError):
            os.write(exit_writer, f"{status}\n".encode())
        os.close(exit_writer)


class _Taken(MediaSandbox):
    """Its children do what it is given."""

    def __init__(self, does: Callable[[socket.socket, int], None]) -> None:
        super().__init__()
        self._children = _TakenChildren(does)


def _say(talk: socket.socket, *messages: Message) -> None:
    for message in messages:
        talk.send(message.model_dump_json().encode())


def _greets(talk: socket.socket) -> None:
    media = MediaInfo("mp4", "h264", 64, 64, Fraction(1, 1000), None, None, None)
    _say(talk, Started(network_gone=True, files_gone=True), Opened(media=media))


def _shows(talk: socket.socket, pts: int, *, side: int = 64) -> None:
    zero = {"slot": 0, "dropped_before": 0, "epoch": 0, "shift": 0}
    shown = {"kind": "shown", "height": side, "width": side, "pts": pts, "provenance": "container", "flags": [], "decoded": pts}
    _say(talk, Shown.model_validate(zero | shown))


def _cuts_memory(talk: socket.socket, memory: int) -> None:
    _greets(talk)
    with contextlib.suppress(PermissionError):  # sealed
        os.ftruncate(memory, 0)
    _shows(talk, 1)


def _hangs_up_and_lives(talk: socket.socket, memory: int) -> None:
    del memory
    _greets(talk)
    talk.close()
    time.sleep(2 * LONG_S)


def _never_reads(talk: socket.socket, memory: int) -> None:
    del memory
    _greets(talk)
    for pts in range(1, 10**6):
        _shows(talk, pts)


def _babbles(talk: socket.socket, memory: int) -> None:
    del memory
    _greets(talk)
    while True:
        _say(talk, Alive(decoded=1))


def _boasts(talk: socket.socket, memory: int) -> None:
    del memory
    _greets(talk)
    _shows(talk, 1, side=60_000)


@pytest.mark.parametrize(
    ("does", "most_s", "error"),
    [
        (_cuts_memory, LONG_S, DecoderCrashed),
        (_hangs_up_and_lives, LONG_S, DecoderCrashed),
        (_never_reads, LONG_S, DecoderCrashed),
        (_babbles, 2.0, DecoderStalled),
        (_boasts, LONG_S, DecoderCrashed),
    ],
)
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_that_was_taken_over_ends_as_a_typed_error(
    clip: Path, does: Callable[[socket.socket, int], None], most_s: float, error: type[PipelineError]
) -> None:
    """It cannot make its parent hang, read where there is no memory, or take more than the limits."""
    limits = Limits(open_timeout_s=LONG_S, read_timeout_s=LONG_S, max_wall_s=most_s)
    began = time.monotonic()
    with _Taken(does).read_frames(clip, hz=None, limits=limits) as frames, pytest.raises(error):
        list(frames)
    assert time.monotonic() - began < LONG_S


TRIES = """
import os, signal, socket, sys
from pipelines.media import Limits
from service.media_lock import lock_up
from service.media_wire import Request
victim = int(sys.argv[1])
started, _ = lock_up(Request(url=None, name="x", hz=None, limits=Limits(), closely=None), files=64)
def can(what):
    try:
        what()
    except OSError:
        return False
    return True
print(started.network_gone, started.files_gone, *(can(one) for one in (
    lambda: open("/etc/passwd").close(),
    lambda: open(f"/proc/{victim}/environ").close(),
    lambda: open(sys.argv[2], "w").close(),
    lambda: os.unlink(sys.argv[3]),
    lambda: os.kill(victim, signal.SIGTERM),
    lambda: socket.create_connection(("127.0.0.1", int(sys.argv[4])), timeout=1).close(),
)))
"""


def test_what_is_locked_up_can_open_make_remove_signal_and_reach_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with socket.create_server(("127.0.0.1", 0)) as listener, subprocess.Popen(["sleep", "600"]) as victim:
        port = str(listener.getsockname()[1])
        arguments = [str(victim.pid), str(tmp_path / "new"), str(tmp_path / "there"), port]
        done = subprocess.run([sys.executable, "-c", TRIES, *arguments], capture_output=True, text=True, check=True, cwd=ROOT)
        killed = victim.poll() is not None
        victim.kill()
    network_gone, files_gone, *can = (word == "True" for word in done.stdout.split())
    if network_gone:
        assert not can[5]
    if not files_gone:
        pytest.skip("this kernel has no Landlock")
    assert can[:5] == [False] * 5
    assert not killed and (tmp_path / "there").exists() and not (tmp_path / "new").exists()


def test_closing_from_another_thread_ends_the_iteration(sandbox: MediaSandbox) -> None:
    for _ in range(3):
        with sandbox.read_frames(EndlessVideo(), hz=None) as frames:
            threading.Timer(0.2, frames.close).start()
            for _frame in frames:
                pass


def test_a_childs_descriptor_is_open_while_a_signal_is_sent_by_it(
    sandbox: MediaSandbox, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two who close at once, one may be about to kill; a number that was let go of may be another process' by then."""
    sends, about_to, go_on = signal.pidfd_send_signal, threading.Event(), threading.Event()
    told: list[str] = []

    def slowly(process: int, number: int) -> None:
        if not about_to.is_set():
            about_to.set()
            assert go_on.wait(60)
            with contextlib.suppress(OSError):
                told.extend(Path(f"/proc/self/fdinfo/{process}").read_text().splitlines())
        sends(process, number)

    with sandbox.read_frames(clip, hz=None) as frames:
        monkeypatch.setattr(signal, "pidfd_send_signal", slowly)
        first, second = (threading.Thread(target=frames.close) for _ in range(2))
        first.start()
        assert about_to.wait(60)
        second.start()
        second.join(1.0)  # it has to wait; one that did not would be through by now
        go_on.set()
        first.join()
        second.join()
    assert f"Pid:\t{frames.pid}" in told


class EndlessVideo:
    """A transport stream that pauses for ever after its first seconds."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._data = io.BytesIO(face_clip(Path(folder) / "a.ts", seconds=1.0, px=100).read_bytes())
        self._over = threading.Event()

    def read(self, n: int, /) -> bytes:
        piece = self._data.read(n)
        if not piece:
            self._over.wait(20)
        return piece


@pytest.mark.parametrize("ahead", [b"", b"something that was read before"])
def test_a_feed_that_can_go_back_reads_an_index_at_the_end(sandbox: MediaSandbox, clip: Path, tmp_path: Path, ahead: bytes) -> None:
    whole = [frame.pts for frame in _all(read_frames(clip, hz=None))]
    (tmp_path / "a.bin").write_bytes(ahead + clip.read_bytes())
    memory = io.BytesIO(ahead + clip.read_bytes())
    memory.seek(len(ahead))
    assert [frame.pts for frame in _all(sandbox.read_frames(memory, hz=None))] == whole
    with (tmp_path / "a.bin").open("rb") as file:
        file.read(len(ahead))  # the descriptor stands further on than the reader says
        assert [frame.pts for frame in _all(sandbox.read_frames(file, hz=None))] == whole


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_handed_over_read_only_and_stays_where_its_owner_left_it(sandbox: MediaSandbox, clip: Path) -> None:
    with io.FileIO(clip, "r+") as file:
        with sandbox.read_frames(file, hz=None) as frames:
            flags = Path(f"/proc/{frames.pid}/fdinfo/6").read_text().split("flags:")[1].split()[0]
            assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
            assert len(list(frames)) > 20
        assert file.tell() == 0


def test_what_a_reader_makes_of_its_file_is_what_is_read(sandbox: MediaSandbox, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(clip.read_bytes()))
    with gzip.open(tmp_path / "a.gz") as file, io.BufferedReader(file) as reader:
        assert len(_all(sandbox.read_frames(reader, hz=None))) > 20


def test_a_feed_that_breaks_while_it_is_copied_leaves_nothing_open(sandbox: MediaSandbox, clip: Path) -> None:
    class Breaks(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            raise ValueError("the disk broke")

    sandbox.probe(clip)
    before = _open_descriptors()
    for _ in range(3):
        with pytest.raises(FeedFailed, match="the disk broke"):
            sandbox.read_frames(Breaks(clip.read_bytes()))
    assert _open_descriptors() == before


def test_a_feed_that_drips_is_not_what_a_child_is_blamed_for(sandbox: MediaSandbox, tmp_path: Path) -> None:
    whole = steady(tmp_path / "a.ts", 400).read_bytes()
    data = io.BytesIO(whole)

    class Drips:
        def read(self, n: int, /) -> bytes:
            del n
            time.sleep(0.08)
            return data.read(len(whole) // 100)

    assert len(_all(sandbox.read_frames(Drips(), hz=None, limits=Limits(max_wall_s=6)))) == 400


def test_a_death_without_a_name_is_a_crash(sandbox: MediaSandbox, clip: Path) -> None:
    with sandbox.read_frames(clip, hz=None) as frames, pytest.raises(DecoderCrashed, match="signal 40"):
        os.kill(frames.pid, 40)
        list(frames)


def test_a_fork_that_fails_harms_no_other_source(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen
    fails = """
import os
real, forks = os.fork, []
def fork():
    forks.append(1)
    if len(forks) == 2:
        raise BlockingIOError(11, "no room")
    return real()
os.fork = fork
"""

    def popen(arguments: list[str], **options: object) -> object:
        return start([*arguments[:-1], fails + arguments[-1]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with MediaSandbox() as sandbox, sandbox.read_frames(clip, hz=None) as first:
        frames = iter(first)
        next(frames)
        assert sandbox.probe(clip).codec == "h264"
        assert len(list(frames)) > 20


def test_a_stopped_zygote_is_replaced_once_for_all_who_wait(clip: Path) -> None:
    with MediaSandbox() as sandbox, ThreadPoolExecutor(6) as threads:
        sandbox.probe(clip)
        assert sandbox._children._zygote is not None
        os.kill(sandbox._children._zygote.pid, signal.SIGSTOP)
        probes = [threads.submit(sandbox.probe, clip, limits=Limits(open_timeout_s=5)) for _ in range(6)]
        assert {probe.result(LONG_S).codec for probe in probes} == {"h264"}


def test_a_stopped_zygote_does_not_keep_the_service_from_ending(clip: Path) -> None:
    with MediaSandbox() as sandbox:
        sandbox.probe(clip)
        assert sandbox._children._zygote is not None
        pid = sandbox._children._zygote.pid
        os.kill(pid, signal.SIGSTOP)
        resumes = threading.Timer(LONG_S, os.kill, (pid, signal.SIGCONT))
        resumes.start()
        began = time.monotonic()
    resumes.cancel()
    assert time.monotonic() - began < LONG_S


def test_what_cannot_be_found_out_is_unknown_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(subprocess, "Popen", refuses)
    with MediaSandbox() as sandbox:
        assert sandbox.isolation() is None


def test_a_child_takes_another_rate_in_the_middle(sandbox: MediaSandbox, tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mp4", seconds=6.0, fps=24.0)
    with sandbox.read_frames(path, hz=4) as frames:
        times = []
        for frame in frames:
            times.append(frame.t)
            if len(times) == 4:
                frames.look(None)
        steps = np.diff(times)
        with pytest.raises(ValueError, match="hz must be positive"):
            frames.look(-1)
        frames.look(4)
    # A child is ahead by as many frames as there are slots.
    assert steps[:3] == pytest.approx(0.25) and steps[-24:] == pytest.approx(1 / 24, abs=1e-3)
    assert (steps > 0.2).sum() <= 3 + FRAME_SLOTS + 1
    frames.look(4)
