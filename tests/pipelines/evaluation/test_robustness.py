"""Wear of evaluation: small pictures, true JPEG, fewer videos, codecs that keep every moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.evaluation.robustness import PERTURBATIONS, Encoded, RobustnessSweep, _row, limited
from pipelines.frames import read_frames
from pipelines.media import Image
from pipelines.training.manifest import Record
from pipelines.training.reencode import reencode_file
from tests import clips
from tests.pipelines.evaluation.test_evaluate import PLAIN


def _worn(kind: str, level: str, picture: Image) -> Image:
    wear = PERTURBATIONS[kind][level]
    assert not isinstance(wear, Encoded)
    return wear(picture, np.random.default_rng(0))


def test_every_kind_has_five_levels_or_three_and_the_levels_of_deeperforensics_are_its_own() -> None:
    assert {len(levels) for levels in PERTURBATIONS.values()} == {3, 5}
    assert list(PERTURBATIONS["H.264, CRF"]) == ["30", "32", "35", "38", "40"]
    assert list(PERTURBATIONS["noise"]) == ["0.001", "0.002", "0.005", "0.01", "0.05"]
    assert list(PERTURBATIONS["contrast"]) == ["0.85", "0.725", "0.6", "0.475", "0.35"]


def test_a_picture_shrinks_to_its_long_side_and_never_grows() -> None:
    picture = clips.face_frame(0.0, width=640, height=480)
    assert _worn("long side, px", "224", picture).shape == (168, 224, 3)
    assert _worn("long side, px", "112", picture.transpose(1, 0, 2)).shape == (112, 84, 3)
    small = clips.face_frame(0.0, width=200, height=150, px=100)
    assert _worn("long side, px", "448", small) is small


def test_a_smaller_picture_says_less_at_every_level() -> None:
    picture = clips.face_frame(0.0, width=640, height=480)
    lost = []
    for level in PERTURBATIONS["long side, px"]:
        small = _worn("long side, px", level, picture)
        back = cv2.resize(small, (640, 480), interpolation=cv2.INTER_LINEAR)
        lost.append(float(np.abs(back.astype(float) - picture).mean()))
    assert lost == sorted(lost) and lost[0] > 0


def test_jpeg_takes_red_for_red() -> None:
    """JPEG keeps brightness better than colour, and the two are weighed by channel: a red picture with its channels swapped comes out
    another red."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = ramp  # finest detail in red alone
    picture[::2, ::2, 0] = 0
    worn = _worn("JPEG, quality", "20", picture).astype(float)
    through = cv2.imdecode(cv2.imencode(".jpg", picture[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    assert through is not None
    np.testing.assert_array_equal(worn, through[..., ::-1])


def test_noise_has_the_variance_that_its_level_says() -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    for level in ("0.001", "0.01"):
        luma = _worn("noise", level, grey).astype(float) @ np.array([0.299, 0.587, 0.114])
        assert luma.var() / 255**2 == pytest.approx(float(level), rel=0.1)


def test_fewer_videos_are_spread_over_makes_and_keep_their_order() -> None:
    makes = ["real"] * 7 + ["A"] * 5 + ["B"] * 2 + ["C"] * 1
    records = [Record(f"{i}", Path(), "video", "user", "real" if m == "real" else "fake", m, "", "", m, 1) for i, m in enumerate(makes)]
    taken = limited(records, 4)
    assert Counter(record.method for record in taken) == {"real": 4, "A": 2, "B": 1, "C": 1}
    assert [record.file for record in taken] == sorted((record.file for record in taken), key=int)
    assert limited(records, 100) == records


@pytest.mark.parametrize("kind", [kind for kind, levels in PERTURBATIONS.items() if isinstance(next(iter(levels.values())), Encoded)])
def test_a_codec_keeps_every_moment_and_does_more_harm_at_its_last_level(kind: str, tmp_path: Path) -> None:
    source = clips.face_clip(tmp_path / "a.mp4", pts=[0, 40, 70, 250, 290, 900])
    harm: list[float] = []
    mildest, *_, worst = PERTURBATIONS[kind].values()
    for wear in (mildest, worst):
        assert isinstance(wear, Encoded)
        path, scale = source, wear.scale
        for i, (codec, quality) in enumerate(wear.steps):
            out = tmp_path / f"{len(harm)}{i}.mkv"
            assert reencode_file(path, out, codec=codec, quality=quality, scale=scale) == 6
            path, scale = out, 1.0
        with read_frames(source, hz=None) as a, read_frames(path, hz=None) as b:
            away = []
            for before, after in zip(a, b, strict=True):
                assert after.t == pytest.approx(before.t, abs=1.01e-3)
                step = before.image.shape[0] // after.image.shape[0]
                away.append(float(np.abs(after.image.astype(float) - before.image[::step, ::step]).mean()))
            harm.append(float(np.mean(away)))
    assert harm[1] > harm[0] > 0


def test_what_a_wear_costs_is_measured_on_the_same_people() -> None:
    """A score that moves alike for everybody has lost nothing, in any draw; one that is worn to chance has lost what it was above it."""
    clean = [replace(PLAIN, file=f"{i}", group=f"p{i // 2}", label=i % 2, logit=float(i % 2 + i % 5)) for i in range(40)]
    moved = _row("blur", "7", [replace(one, logit=(one.logit or 0.0) - 3) for one in clean], clean)
    assert (moved.lost.value, moved.lost.low, moved.lost.high) == (0, 0, 0) and moved.drift == 3
    blind = _row("blur", "21", [replace(one, logit=1.0) for one in clean], clean)
    assert blind.lost.value == pytest.approx(_row("as it is", "", clean, clean).auc.value - 0.5)
    assert RobustnessSweep((blind,)).as_json()["rows"][0]["lost_interval"]["value"] == blind.lost.value
