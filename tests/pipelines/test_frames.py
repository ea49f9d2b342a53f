"""The front door: timestamps come out exactly as they went in, whatever the container; sampling never moves one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import MediaTooLarge, SourceError
from pipelines.frames import probe, read_frames
from pipelines.media import Frame, Limits
from pipelines.sampling import Sampler
from tests.clips import cut_short, face_clip, face_frame, regular_pts, variable_pts, write_clip
from tests.support import require


def _read(path: Path, **how: float | None) -> list[Frame]:
    with read_frames(path, hz=how.get("hz")) as source:
        return list(source)


@pytest.mark.parametrize(
    ("suffix", "codec", "tolerance_s"), [("mp4", "libx264", 0), ("mkv", "libx264", 0), ("webm", "libvpx", 0), ("mov", "libx264", 0)]
)
def test_variable_timestamps_survive_every_container(tmp_path: Path, suffix: str, codec: str, tolerance_s: float) -> None:
    pts = variable_pts(3.0, seed=4)
    frames = _read(face_clip(tmp_path / f"vfr.{suffix}", pts=pts, codec=codec))
    assert [float(frame.pts * frame.time_base) for frame in frames] == pytest.approx([tick / 1000 for tick in pts], abs=tolerance_s + 1e-9)
    assert all(frame.provenance == "container" for frame in frames)


def test_a_fragmented_mp4_is_read_to_its_end(tmp_path: Path) -> None:
    pts = regular_pts(3.0, 25)
    path = write_clip(
        tmp_path / "f.mp4", (face_frame(t / 1000) for t in pts), pts, container={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    )
    frames = _read(path)
    assert len(frames) == len(pts)
    assert frames[-1].t == pytest.approx(pts[-1] / 1000, abs=1e-3)


def test_an_avi_says_that_its_times_are_a_grid(tmp_path: Path) -> None:
    path = face_clip(tmp_path / "grid.avi", seconds=1.0, fps=30, codec="mpeg4")
    assert {frame.provenance for frame in _read(path)} == {"container_cfr"}


def test_pictures_are_rgb_as_drawn(tmp_path: Path) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 200
    frame = _read(write_clip(tmp_path / "red.mp4", [red, red], [0, 40]))[0]
    assert frame.image.shape == (64, 64, 3)
    assert frame.image.dtype == np.uint8
    assert frame.image[32, 32, 0] > 150 > 60 > frame.image[32, 32, 2]


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=60),
    st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 30000)]),
    st.floats(0.5, 120),
)
def test_a_sampler_takes_at_most_one_frame_a_slot_and_the_first_of_each(gaps: list[int], base: Fraction, hz: float) -> None:
    pts = np.cumsum(gaps).tolist()
    sampler = Sampler(hz)
    kept = [tick for tick in pts if sampler.wants(tick, base)]
    rate = Fraction(hz).limit_denominator(1_000_000)
    rounded = base / 2 if base <= Fraction(1, 1000) else 0
    slots = [((tick * base + rounded) * rate).__floor__() for tick in pts]
    assert kept == [tick for i, tick in enumerate(pts) if i == 0 or slots[i] > slots[i - 1]]


RATES = [Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(50), Fraction(60_000, 1001), Fraction(60)]


@pytest.mark.parametrize("hz", [4, 5, 10, 12, 15, 24, 25, 30])
@pytest.mark.parametrize("fps", RATES, ids=lambda fps: f"{float(fps):.5g}")
def test_a_rounded_clock_takes_no_frame_away(fps: Fraction, hz: int) -> None:
    """30 fps in milliseconds (33, 67, 100) at 30 Hz is 30 a second; what a container rounds is as little before its slot as it is after."""
    exact, rounded = Sampler(hz), Sampler(hz)
    frames = range(20 * round(fps))
    by_true = [i for i in frames if exact.wants(i, 1 / fps)]
    by_ms = [i for i in frames if rounded.wants(round(i / fps * 1000), Fraction(1, 1000))]
    assert len(by_ms) == pytest.approx(20 * min(float(hz), round(fps)), abs=1)
    assert by_ms == by_true or fps.denominator != 1, "a rate that drifts against the grid passes it within a millisecond now and then"


def test_a_tick_that_counts_frames_is_not_rounded() -> None:
    sampler = Sampler(12)
    assert [i for i in range(12) if sampler.wants(i, Fraction(1, 30))] == [0, 3, 5, 8, 10]


def test_no_rate_keeps_every_frame_and_no_rate_is_zero() -> None:
    sampler = Sampler(None)
    assert all(sampler.wants(tick, Fraction(1, 7)) for tick in (0, 1, 1, 2))
    with pytest.raises(ValueError, match="hz must be positive"):
        Sampler(0)


def test_sampling_decodes_all_and_yields_about_hz(tmp_path: Path) -> None:
    with read_frames(face_clip(tmp_path / "a.mp4", seconds=2.0, fps=30), hz=10) as source:
        frames = list(source)
    assert source.counts.decoded == 60
    assert len(frames) == source.counts.yielded == 20


def test_a_file_whose_ticks_are_milliseconds_is_seen_whole_at_its_own_rate(tmp_path: Path) -> None:
    with read_frames(face_clip(tmp_path / "a.mkv", seconds=1.0, fps=30), hz=30) as source:
        assert len(list(source)) == source.counts.decoded == 30


def test_a_source_is_read_once(tmp_path: Path) -> None:
    with read_frames(face_clip(tmp_path / "a.mp4", seconds=0.5)) as source:
        assert list(source)
        with pytest.raises(SourceError, match="can be read once"):
            list(source)


def test_stopping_early_lets_the_file_go(tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mp4", seconds=1.0)
    with read_frames(path, hz=None) as source:
        assert next(iter(source)).pts == 0
    path.unlink()
    assert source.counts.yielded == 1


def test_a_cut_mkv_is_read_as_far_as_it_goes_with_a_warning(tmp_path: Path) -> None:
    whole = face_clip(tmp_path / "whole.mkv", seconds=6.0)
    with read_frames(cut_short(whole, tmp_path / "cut.mkv", 0.5), hz=None) as source:
        frames = list(source)
    assert 10 < len(frames) < 6 * 24
    assert "truncated" in {warning.code for warning in source.warnings}


def test_limits_hold_on_the_way(tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mp4", seconds=3.0)
    with read_frames(path, hz=None, limits=Limits(max_duration_s=1.0)) as source, pytest.raises(MediaTooLarge, match="too long"):
        list(source)
    with read_frames(path, hz=None, limits=Limits(max_frames=10)) as source, pytest.raises(MediaTooLarge, match="too many frames"):
        list(source)
    with pytest.raises(MediaTooLarge, match="picture is too large"):
        probe(path, limits=Limits(max_pixels=1000))


def test_probe_tells_facts_without_reading_on(tmp_path: Path) -> None:
    media = probe(face_clip(tmp_path / "a.mp4", seconds=2.0))
    assert (media.width, media.height, media.codec) == (640, 480, "h264")
    assert media.declared_duration_s == pytest.approx(2.0, abs=0.1)
    assert media.size_bytes == (tmp_path / "a.mp4").stat().st_size


def test_odd_sizes_come_out_whole(tmp_path: Path) -> None:
    picture = np.full((181, 321, 3), 128, dtype=np.uint8)
    path = write_clip(tmp_path / "odd.mkv", [picture] * 3, [0, 40, 80], codec="ffv1")
    assert _read(path)[0].image.shape == (181, 321, 3)


def test_hardware_that_is_not_there_is_replaced_and_said(tmp_path: Path) -> None:
    path = face_clip(tmp_path / "a.mp4", seconds=0.5)
    with read_frames(path, hz=None, hwaccel="qsv") as asked, read_frames(path, hz=None) as plain:
        assert [frame.pts for frame in asked] == [frame.pts for frame in plain]
    if asked.media.decode_backend == "qsv":
        pytest.skip("this machine has that hardware")
    assert asked.media.decode_backend == "software"
    assert [warning.code for warning in asked.warnings] == ["hwaccel_unavailable"]


@pytest.mark.gpu
@pytest.mark.parametrize("hz", [None, 8.0])
def test_nvdec_gives_the_same_times_and_nearly_the_same_pictures(tmp_path: Path, hz: float | None) -> None:
    require("gpu")
    path = face_clip(tmp_path / "a.mp4", pts=variable_pts(3.0, seed=6))
    with read_frames(path, hz=hz, hwaccel="cuda") as hard, read_frames(path, hz=hz) as soft:
        for a, b in zip(hard, soft, strict=True):
            assert a.pts == b.pts
            assert np.abs(a.image.astype(int) - b.image.astype(int)).mean() < 4.0
    assert hard.media.decode_backend == "cuda"


def test_another_rate_holds_from_the_next_frame_on(tmp_path: Path) -> None:
    sampler, kept = Sampler(12), []
    for i in range(90):
        if i in (30, 60):
            sampler.look(4 if i == 30 else None)
        if sampler.wants(i, Fraction(1, 30)):
            kept.append(i)
    assert kept == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 38, 45, 53, *range(60, 90)]
    path = face_clip(tmp_path / "a.mp4", seconds=2.0, fps=24.0)
    with read_frames(path, hz=4) as source:
        times = []
        for frame in source:
            times.append(frame.t)
            if len(times) == 4:
                source.look(None)
    assert len(times) == 4 + 24 + 24 - 19 and times[:4] == [0.0, 0.25, 0.5, 0.75]
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="hz must be positive"):
            sampler.look(wrong)
