"""Bad input ends with one typed refusal that says what was expected and what came, or with a verdict and its reason; never with a crash."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.analysis import Model, analyse
from pipelines.errors import (
    EmptySource,
    MediaTooLarge,
    NotAFile,
    NoVideoStream,
    PipelineError,
    SourceNotFound,
    SourceUnreachable,
    StillImage,
    UnsupportedMedia,
)
from pipelines.frames import probe, read_frames
from pipelines.media import Limits
from tests import clips


def _text(path: Path) -> Path:
    path.write_text("this is not a video\n" * 20)
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _directory(path: Path) -> Path:
    path.mkdir()
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(bytes(range(256)) * 400)
    return path


def _cut_moov(path: Path) -> Path:
    whole = clips.face_clip(path.with_name("whole.mp4"), seconds=1.0)
    return clips.cut_short(whole, path, 0.6)


REFUSED: list[tuple[str, Callable[[Path], Path], type[PipelineError], str]] = [
    ("text.mp4", _text, UnsupportedMedia, "got a text file or playlist"),
    ("empty.mp4", _empty, EmptySource, "got 0 bytes"),
    ("noise.mp4", _noise, UnsupportedMedia, "not a video that can be read"),
    ("picture.jpg", clips.still, StillImage, "got a still image"),
    ("picture.png", clips.still, StillImage, "got a still image"),
    ("picture.mp4", clips.still, StillImage, "got a still image"),
    ("sound.mp4", clips.audio_only, NoVideoStream, "got audio"),
    ("directory", _directory, NotAFile, "is a directory"),
    ("pipe", _fifo, NotAFile, "a pipe, socket or device"),
    ("missing.mp4", lambda path: path, SourceNotFound, "no such file"),
    ("cut.mp4", _cut_moov, UnsupportedMedia, "not a video that can be read"),
    ("bomb.mp4", clips.bomb, MediaTooLarge, "got 16384 x 8192"),
]


@pytest.mark.parametrize(("name", "make", "error", "message"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_is_no_video_is_refused_by_type(
    tmp_path: Path, model: Model, name: str, make: Callable[[Path], Path], error: type[PipelineError], message: str
) -> None:
    path = make(tmp_path / name)
    with pytest.raises(error, match=message) as refusal:
        analyse(path, model)
    assert refusal.value.expected and refusal.value.got
    assert str(tmp_path) not in str(refusal.value), "a message never tells where files lie"
    with pytest.raises(error):
        probe(path)


class _Counting(BaseHTTPRequestHandler):
    """Answers 404, or what the server was given; counts."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.requests += 1
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
        elif server.body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class _Server(ThreadingHTTPServer):
    requests = 0
    body: bytes | None = None
    redirect: str | None = None


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Counting) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", sorted(clips.PLAYLISTS))
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "sdp", "ffconcat", "mpd", "txt"])
def test_a_playlist_opens_nothing_whatever_its_name(tmp_path: Path, server: _Server, kind: str, suffix: str) -> None:
    neighbour = clips.write_clip(tmp_path / "secret.ts", [clips.empty_frame(0.0)] * 3, [0, 40, 80])
    for target in (f"http://127.0.0.1:{server.server_port}/x.ts", neighbour.name, str(neighbour), f"file://{neighbour}"):
        with pytest.raises(UnsupportedMedia):
            probe(clips.playlist(tmp_path / f"list.{suffix}", kind, target))
    assert server.requests == 0


def test_a_video_is_read_over_http(tmp_path: Path, server: _Server) -> None:
    # Matroska, because this server cannot seek and an mp4's index stands at its end.
    path = clips.face_clip(tmp_path / "a.mkv", seconds=1.0)
    server.body = path.read_bytes()
    with read_frames(f"http://127.0.0.1:{server.server_port}/a.mkv", hz=None) as source:
        assert len(list(source)) == 24


def test_a_url_may_not_send_more_bytes_than_the_limit(tmp_path: Path, server: _Server) -> None:
    server.body = clips.face_clip(tmp_path / "a.mkv", seconds=2.0).read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/a.mkv"
    with pytest.raises(MediaTooLarge, match="too many bytes"), read_frames(url, limits=Limits(max_bytes=len(server.body) // 2)) as source:
        list(source)


def test_a_url_without_a_video_is_unreachable(server: _Server) -> None:
    with pytest.raises(SourceUnreachable, match="404"):
        probe(f"http://127.0.0.1:{server.server_port}/none.mp4")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnreachable, match="refused"):
            probe(f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}/x.mp4?token=secret")


def test_credentials_of_a_url_are_not_repeated() -> None:
    with pytest.raises(SourceUnreachable) as refusal:
        probe("http://user:secret@127.0.0.1:9/x.mp4?token=secret")
    assert "secret" not in str(refusal.value)


def test_a_redirect_is_not_followed(server: _Server) -> None:
    with _Server(("127.0.0.1", 0), _Counting) as hidden:
        server.redirect = f"http://127.0.0.1:{hidden.server_port}/inside.mp4"
        with pytest.raises((SourceUnreachable, UnsupportedMedia)):
            probe(f"http://127.0.0.1:{server.server_port}/a.mp4", limits=Limits(open_timeout_s=1.0, read_timeout_s=1.0))
        assert hidden.requests == 0


def test_a_silent_server_ends_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceUnreachable):
            probe(f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4", limits=Limits(open_timeout_s=0.5, read_timeout_s=0.5))


@pytest.mark.parametrize("url", ["srt://camera/1", "ftp://host/a.mp4", "concat://a"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(UnsupportedMedia, match="is not read here"):
        probe(url)


def test_a_name_that_looks_like_a_protocol_is_a_name(tmp_path: Path) -> None:
    path = clips.face_clip(tmp_path / "concat:a|b.mp4", seconds=0.5)
    assert probe(path).codec == "h264"


def test_a_video_without_faces_is_not_applicable(tmp_path: Path, model: Model) -> None:
    verdict = analyse(clips.empty_clip(tmp_path / "a.mp4"), model).verdict
    assert (verdict.verdict, verdict.reasons, verdict.score) == ("not_applicable", ("no_face",), None)
    assert verdict.coverage.judged_s == 0


def test_one_frame_is_too_short_to_judge(tmp_path: Path, model: Model) -> None:
    verdict = analyse(clips.one_frame_clip(tmp_path / "a.mp4"), model).verdict
    assert verdict.verdict == "inconclusive"
    assert verdict.reasons == ("too_short",)
    assert verdict.score is None


def test_a_tiny_face_is_seen_and_not_judged(tmp_path: Path, model: Model) -> None:
    report = analyse(clips.face_clip(tmp_path / "a.mp4", seconds=2.0, px=150), model)
    assert report.verdict.verdict == "inconclusive"
    assert report.verdict.reasons == ("face_too_small",)
    assert all(score.p is None and score.reason == "face_too_small" for score in report.scores)


def test_a_cut_file_is_judged_as_far_as_it_goes(tmp_path: Path, model: Model) -> None:
    whole = clips.face_clip(tmp_path / "whole.mkv", seconds=6.0)
    report = analyse(clips.cut_short(whole, tmp_path / "cut.mkv", 0.5), model)
    assert report.verdict.score is not None
    assert 1.0 < report.verdict.coverage.judged_s < 5.0
    assert "truncated" in {warning.code for warning in report.warnings}
