"""A byte feed gives FFmpeg neither a byte too many nor an exception, and gives the caller every error back."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.byte_feed import ByteFeed, SeekableFeed, feed_of
from pipelines.errors import FeedFailed, MediaTooLarge
from pipelines.frames import read_frames
from pipelines.media import Limits
from tests.clips import face_clip


class _Pieces:
    """Gives the same bytes in pieces of given sizes, whatever it is asked for; can raise after some."""

    def __init__(self, data: bytes, sizes: list[int], *, fail_after: int | None = None, error: BaseException | None = None) -> None:
        self._data, self._sizes, self._at, self._calls = data, sizes, 0, 0
        self._fail_after, self._error = fail_after, error

    def read(self, n: int, /) -> bytes:
        del n
        if self._error is not None and self._fail_after is not None and self._at >= self._fail_after:
            raise self._error
        size = self._sizes[self._calls % len(self._sizes)]
        self._calls += 1
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


@given(st.binary(max_size=400), st.lists(st.integers(1, 90), min_size=1, max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_no_byte_is_lost_and_no_read_is_too_long(data: bytes, gives: list[int], asks: list[int]) -> None:
    feed, got = ByteFeed(_Pieces(data, gives), max_bytes=10**6), b""
    for i in range(len(data) + 1):
        ask = asks[i % len(asks)]
        piece = feed.read(ask)
        assert len(piece) <= ask
        got += piece
    assert got == data
    assert feed.error is None


@given(st.binary(min_size=1, max_size=200), st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=20), st.integers(0, 5))
def test_a_seekable_feed_behaves_as_the_file_from_where_it_stood(data: bytes, moves: list[tuple[bool, int]], start: int) -> None:
    start = min(start, len(data))
    source, plain = io.BytesIO(data), io.BytesIO(data[start:])
    source.seek(start)
    feed = feed_of(source, max_bytes=10**6)
    assert isinstance(feed, SeekableFeed)
    assert feed.size_bytes == len(data) - start
    for seek, n in moves:
        if seek:
            assert feed.seek(n) == plain.seek(n)
        else:
            assert feed.read(n) == plain.read(n)
        assert feed.tell() == plain.tell()


def test_a_feed_of_too_long_pieces_is_a_video_all_the_same(tmp_path: Path) -> None:
    """PyAV copies what it gets, unchecked: without the clamp this ends the process."""
    path = face_clip(tmp_path / "a.mkv", seconds=1.0)
    with read_frames(_Pieces(path.read_bytes(), [10**6]), hz=None) as fed, read_frames(path, hz=None) as read:
        assert [frame.pts for frame in fed] == [frame.pts for frame in read]


def test_the_clamp_is_needed(tmp_path: Path) -> None:
    """When this fails, PyAV checks by itself and the clamp may go."""
    path = face_clip(tmp_path / "a.mkv", seconds=1.0)
    code = (
        "import av, sys\n"
        "class Long:\n"
        "    data = open(sys.argv[1], 'rb').read() * 64\n"
        "    def read(self, n): return self.data\n"
        "av.open(Long())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)
    assert done.returncode < 0, "a read that is too long kills the process"


def test_an_error_comes_back_after_the_frames_that_were_whole(tmp_path: Path) -> None:
    data = face_clip(tmp_path / "a.mkv", seconds=3.0).read_bytes()
    source = _Pieces(data, [4096], fail_after=len(data) // 2, error=ValueError("the uplink broke"))
    frames = []
    with read_frames(source, hz=None) as feed, pytest.raises(FeedFailed, match="ValueError: the uplink broke"):
        frames += list(feed)
        pytest.fail("it ended as if nothing had happened")
    with read_frames(_Pieces(data, [4096], fail_after=len(data) // 2, error=ValueError("again")), hz=None) as feed:
        seen = 0
        with pytest.raises(FeedFailed):
            for _frame in feed:
                seen += 1
    assert seen > 10


def test_an_interrupt_inside_a_read_is_not_swallowed(tmp_path: Path) -> None:
    data = face_clip(tmp_path / "a.mkv", seconds=1.0).read_bytes()
    source = _Pieces(data, [4096], fail_after=len(data) // 2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), read_frames(source, hz=None) as feed:
        list(feed)


def test_a_source_that_gives_no_bytes_but_something_else_is_refused() -> None:
    class Wrong:
        def read(self, n: int, /) -> bytes:
            del n
            return "text"  # type: ignore[return-value]  # the mistake under test

    with pytest.raises(FeedFailed, match="TypeError"):
        read_frames(Wrong())


def test_too_many_bytes_are_refused_whether_the_size_is_known_or_not(tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mkv", seconds=2.0)
    most = Limits(max_bytes=path.stat().st_size // 2)
    with pytest.raises(MediaTooLarge, match="too many bytes"):
        read_frames(path, limits=most)
    with pytest.raises(MediaTooLarge, match="too many bytes"), read_frames(_Pieces(path.read_bytes(), [4096]), limits=most) as feed:
        list(feed)
