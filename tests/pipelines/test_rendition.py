"""A rendition shows every picture at its own time, whatever the source's clock did, and is what browsers play."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.errors import MediaTooLarge, RenditionFailed
from pipelines.frames import read_frames
from pipelines.media import Frame, MediaInfo
from pipelines.rendition import RenditionTerms, encode
from pipelines.training.video_writer import VideoWriter
from tests import zoo
from tests.clips import variable_pts

SMALL = RenditionTerms(max_height=96)


def rendered(path: Path, terms: RenditionTerms = SMALL) -> io.BytesIO:
    """The rendition of a file."""
    out = io.BytesIO()
    with read_frames(path, hz=None) as frames:
        encode(frames, frames.media, out, terms, pixel_aspect=frames.pixel_aspect)
    out.seek(0)
    return out


def shown(source: Path | io.BytesIO) -> list[tuple[Fraction, int]]:
    """When each picture is shown, exactly, and which one it is."""
    with read_frames(source, hz=None) as frames:
        return [(frame.pts * frame.time_base, zoo.number_of(frame.image)) for frame in frames]


def of_pattern(pattern: str, container: str) -> Callable[[Path], Path]:
    return lambda folder: zoo.mux(folder, pattern, container).path


SOURCES: dict[str, Callable[[Path], Path]] = {
    "hevc_vfr_mp4": lambda folder: uneven_hevc(folder / "a.mp4"),
    "hevc_vfr_ts": lambda folder: uneven_hevc(folder / "a.ts"),
    "b_frames_mp4": lambda folder: zoo.b_frames(folder, "mp4").path,
    "late_start_mp4": of_pattern("offset", "mp4"),
    "late_start_mkv": of_pattern("offset", "mkv"),
    "stamps_wrap_ts": of_pattern("wrap", "ts"),
    "gaps_mkv": of_pattern("gaps", "mkv"),
    "mpeg4_avi": lambda folder: zoo.avi(folder / "a.avi").path,
    "mpeg4_mp4": lambda folder: numbered(folder / "a.mp4", variable_pts(2.0), "mpeg4"),
    "mpeg2_ts": lambda folder: numbered(folder / "a.ts", list(range(50)), "mpeg2video", base=Fraction(1, 25)),
    "prores_mov": lambda folder: numbered(folder / "a.mov", variable_pts(2.0), "prores_ks", pix_fmt="yuv422p10le"),
    "ntsc_mov": lambda folder: numbered(folder / "n.mov", list(range(40)), "mpeg4", base=Fraction(1001, 30_000)),
}


def uneven_hevc(path: Path) -> Path:
    """A second of H.265 that begins late, its times a phone's."""
    ticks = [round((1 + Fraction(i, 25) + Fraction(i % 3, 200)) / zoo.TICK) for i in range(24)]
    options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"}
    return zoo.encode(path, (zoo.numbered(i) for i in range(24)), ticks, zoo.TICK, codec="libx265", options=options)


def numbered(path: Path, ticks: list[int], codec: str, *, base: Fraction = zoo.MILLISECOND, pix_fmt: str = "yuv420p") -> Path:
    return zoo.encode(path, (zoo.numbered(i) for i in range(len(ticks))), ticks, base, codec=codec, pix_fmt=pix_fmt)


@pytest.mark.parametrize("source", SOURCES)
def test_every_picture_is_shown_when_it_was(tmp_path: Path, source: str) -> None:
    path = SOURCES[source](tmp_path)
    # No player shows what is before 0.
    there = [(t, number) for t, number in shown(path) if t >= 0]
    made = rendered(path)
    assert len(there) > 20 and shown(made) == there
    made.seek(0)
    with av.open(made, "r") as container:
        assert len(container.streams) == 1
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_a_picture_is_shown_until_the_next_and_the_last_one_too(tmp_path: Path) -> None:
    path = zoo.encode(tmp_path / "a.mkv", (zoo.numbered(i) for i in range(3)), [0, 40, 240], zoo.MILLISECOND, codec="mpeg4")
    with av.open(rendered(path), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [float((packet.duration or 0) * packet.time_base) for packet in packets] == [0.04, 0.2, 0.2]


def test_it_has_as_many_lines_as_it_may_and_keeps_its_shape(tmp_path: Path) -> None:
    path = zoo.steady(tmp_path / "a.ts", 3, width="640", height="480")
    for lines, size in ((720, (640, 480)), (240, (320, 240)), (101, (134, 100))):
        with read_frames(rendered(path, RenditionTerms(max_height=lines)), hz=None) as frames:
            assert next(iter(frames)).image.shape[1::-1] == size


def test_odd_turned_deep_and_interlaced_pictures_are_what_was_judged(tmp_path: Path) -> None:
    odd = zoo.odd_size(tmp_path / "odd.mkv")
    turned = zoo.turned(tmp_path / "turned.mp4", 90)
    deep = zoo.hdr(tmp_path / "deep.mp4", "smpte2084")
    fields = zoo.interlaced(tmp_path / "fields.ts", "mpeg2video")
    for path in (odd, turned, deep, fields):
        with read_frames(path, hz=None) as frames:
            before = [frame.image.astype(int) for frame in frames]
        with read_frames(rendered(path, RenditionTerms()), hz=None) as frames:
            after = [frame.image.astype(int) for frame in frames]
        assert len(before) == len(after)
        for a, b in zip(before, after, strict=True):
            height, width = (side // 2 * 2 for side in a.shape[:2])
            assert b.shape[:2] == (height, width)
            assert np.abs(a[:height, :width].mean(axis=(0, 1)) - b.mean(axis=(0, 1))).max() < 4


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    wide = tmp_path / "wide.mkv"
    with VideoWriter(wide, "libx264", zoo.QUICK, tick=zoo.MILLISECOND, pixel_aspect=Fraction(16, 11)) as writer:
        for i in range(5):
            writer.write(zoo.numbered(i), 40 * i)
    with read_frames(wide, hz=None) as frames:
        assert frames.pixel_aspect == Fraction(16, 11)
    with read_frames(rendered(wide), hz=None) as frames:
        assert frames.pixel_aspect == Fraction(16, 11)


def test_a_size_that_changes_on_the_way_is_fitted(tmp_path: Path) -> None:
    specimen = zoo.size_change(tmp_path / "a.ts")
    there = shown(specimen.path)
    assert shown(rendered(specimen.path, RenditionTerms())) == there


def test_a_rendition_that_grows_too_large_is_given_up(tmp_path: Path) -> None:
    path = zoo.steady(tmp_path / "a.ts", 60)
    with pytest.raises(MediaTooLarge, match="at most 5,000 bytes"):
        rendered(path, RenditionTerms(max_bytes=5_000))


def test_times_that_no_mp4_can_say_are_refused() -> None:
    base = Fraction(1, 10**9)
    media = MediaInfo("matroska", "hevc", 160, 96, base, None, None, None)
    frames = [Frame(zoo.numbered(i), pts, base) for i, pts in enumerate((0, 10**9, 6 * 10**9))]
    with pytest.raises(RenditionFailed, match="further apart"):
        encode(frames, media, io.BytesIO(), SMALL)


def test_what_was_over_before_0_cannot_be_shown() -> None:
    media = MediaInfo("mpegts", "hevc", 160, 96, zoo.TICK, None, None, None)
    with pytest.raises(RenditionFailed, match="before it begins"):
        encode([Frame(zoo.numbered(i), -9 + i, zoo.TICK) for i in range(3)], media, io.BytesIO(), SMALL)


def test_a_picture_that_h264_cannot_hold_is_refused() -> None:
    media = MediaInfo("matroska", "hevc", 40_000, 2, zoo.MILLISECOND, None, None, None)
    frames = [Frame(np.zeros((2, 40_000, 3), dtype=np.uint8), 40 * i, zoo.MILLISECOND) for i in range(3)]
    with pytest.raises(RenditionFailed):
        encode(frames, media, io.BytesIO(), SMALL)


def test_whatever_ends_the_frames_ends_it() -> None:
    def broken() -> Iterator[Frame]:
        yield Frame(zoo.numbered(0), 0, zoo.MILLISECOND)
        yield Frame(zoo.numbered(1), 40, zoo.MILLISECOND)
        raise MediaTooLarge("The video is too long.", expected="less", got="more")

    media = MediaInfo("matroska", "hevc", 160, 96, zoo.MILLISECOND, None, None, None)
    with pytest.raises(MediaTooLarge, match="too long"):
        encode(broken(), media, io.BytesIO(), SMALL)
