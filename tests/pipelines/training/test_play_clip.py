"""The clip that plays: panels and marker follow the labels, and a file has the times of its source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.frames import read_frames
from pipelines.training.play_clip import encode_clip, side_by_side
from tests import clips
from tests.pipelines.training.examples import example


@pytest.mark.parametrize(("suffix", "codec", "within"), [(".mp4", "h264", 6e-6), (".webm", "vp9", 0.00051)])
def test_a_written_clip_has_the_times_of_its_source(tmp_path: Path, suffix: str, codec: str, within: float) -> None:
    t = 7.3 + np.array(clips.variable_pts(2.0, seed=3)) / 1000
    pictures = [clips.empty_frame(float(one), width=96, height=64) for one in t]
    content, written = encode_clip(pictures, t, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with read_frames(path, hz=None) as source:
        found = [(frame.pts * frame.time_base, frame.image.shape) for frame in source]
        assert source.media.codec == codec
    assert len(found) == len(t)
    assert {shape for _, shape in found} == {(64, 96, 3)}
    np.testing.assert_allclose([float(stamp) for stamp, _ in found], t - t[0], atol=within)
    assert written == [float(stamp) for stamp, _ in found]


def test_slow_stretches_time_and_two_pictures_of_one_stamp_both_stay(tmp_path: Path) -> None:
    t = np.array([0.0, 0.04, 0.04, 0.2])
    content, written = encode_clip([np.full((64, 64, 3), 50 * i, dtype=np.uint8) for i in range(4)], t, ".mp4", slow=4)
    (tmp_path / "a.mp4").write_bytes(content)
    assert written == pytest.approx([0, 0.16, 0.16 + 1 / 90_000, 0.8])
    with read_frames(tmp_path / "a.mp4", hz=None) as source:
        assert len([frame.pts for frame in source]) == 4
        assert source.media.time_base == Fraction(1, 90_000)


def test_any_player_takes_the_clip(tmp_path: Path) -> None:
    one = example("drift")
    content, _ = encode_clip(side_by_side(one), one.clip.t, ".mp4")
    (tmp_path / "a.mp4").write_bytes(content)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.has_b_frames) == ("h264", "yuv420p", False)
        assert context.width % 2 == context.height % 2 == 0


def test_the_marker_and_the_panels_follow_the_labels() -> None:
    one = next(one for seed in range(40) if 0 < (one := example("static", seed, partial=True)).made.frame_labels.sum() < len(one.clip.t))
    pictures = list(side_by_side(one))
    assert len(pictures) == len(one.clip.t)
    orange = [(picture[:64, -400:] == (213, 94, 0)).all(axis=-1).any() for picture in pictures]
    assert orange == [bool(label) for label in one.made.frame_labels]
    for picture, label in zip(pictures, one.made.frame_labels, strict=True):
        change = picture[110:440, 3 * 384 + 8 :].astype(int)  # below the panel's name
        assert (np.abs(change - 128).max() > 4) == bool(label)
