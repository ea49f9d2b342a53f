"""Worn copies keep true times; every perturbation does what its level says, the same for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import UnsupportedMedia
from pipelines.evaluation.evaluate import VideoScore
from pipelines.evaluation.matched import Worn, worn_records
from pipelines.evaluation.robustness import PERTURBATIONS, Encoded, perturbed, sweep_robustness
from pipelines.frames import read_frames
from pipelines.training.manifest import Record
from pipelines.training.reencode import reencode_file
from tests import clips

NO_MODEL: Any = None  # the judge below needs none
PIXEL_KINDS = [
    kind
    for kind, levels in PERTURBATIONS.items()
    if kind != "long side, px" and not any(isinstance(one, Encoded) for one in levels.values())  # the odd one changes the size
]


def _times(path: Path) -> list[float]:
    with read_frames(path, hz=None) as source:
        return [frame.t for frame in source]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wear") / "a.mp4"
    clips.face_clip(path, seconds=1.2, fps=15)
    return path


def test_a_copy_keeps_its_true_times(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.mkv"
    assert reencode_file(clip, out, quality=35, scale=0.5) == len(_times(clip))
    before, after = np.array(_times(clip)), np.array(_times(out))
    np.testing.assert_allclose(after, before - before[0], atol=1e-3)  # Matroska counts in milliseconds
    with read_frames(clip, hz=None) as a, read_frames(out, hz=None) as b:
        assert b.media.width == a.media.width // 2


def test_dropping_leaves_gaps_and_not_another_rate(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.mkv"
    kept = reencode_file(clip, out, drop=0.5, seed=3)
    before, after = np.array(_times(clip)), np.array(_times(out))
    assert len(after) == kept < len(before)
    assert np.abs(after[:, None] + before[0] - before[None]).min(1).max() < 1e-3


def test_wear_is_read_from_words_and_refused_by_name(clip: Path, tmp_path: Path) -> None:
    assert Worn.parse("crf=35,scale=0.5,drop=0.5") == Worn(35, 0.5, 0.5)
    for text in ("", "crf", "crf=x", "crf=99", "scale=0", "drop=1", "fps=5", "crf=1,crf=2"):
        with pytest.raises(UnsupportedMedia, match="This wear"):
            Worn.parse(text)
    broken = tmp_path / "no.mp4"
    broken.write_bytes(b"no video")
    records = [Record(path.name, path, "video", "user", "real", path.name, "", "", None, 1) for path in (clip, broken)]
    worn = worn_records(records, Worn(30), tmp_path / "..")
    assert worn[0].path != clip and worn[1].path == broken, "what cannot be read is judged, and counted, as it is"


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_a_perturbation_grows_with_its_level_and_is_the_same_twice(kind: str) -> None:
    picture = clips.face_frame(0.0, width=320, height=240, px=180)
    distances = []
    for level in PERTURBATIONS[kind].values():
        assert not isinstance(level, Encoded)
        first, second = (level(picture, np.random.default_rng(1)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        distances.append(float(np.abs(first.astype(float) - picture).mean()))
    assert distances == sorted(distances) and distances[0] > 0


def test_pictures_are_changed_and_times_are_not(clip: Path) -> None:
    dark = PERTURBATIONS["contrast"]["0.35"]
    assert not isinstance(dark, Encoded)
    with read_frames(clip, hz=None) as a, perturbed(dark, 0)(clip, hz=None, limits=None, closely=None) as b:
        for before, after in zip(a, b, strict=True):
            assert (before.pts, before.time_base, before.flags) == (after.pts, after.time_base, after.flags)
            assert after.image.mean() == pytest.approx(0.35 * before.image.mean(), abs=1)
        assert b.media == a.media


def test_a_sweep_holds_every_wear_against_the_clean_videos(clip: Path) -> None:
    records = [Record(f"{i}.mp4", clip, "video", "user", "fake" if i else "real", "g", "", "", None, 1) for i in range(2)]

    def judge(record: Record, _model: object, *, hz: float | None, read: Any = read_frames) -> VideoScore:  # noqa: ANN401  # either reader
        with read(record.path, hz=hz, limits=None, closely=None) as source:
            light = float(np.mean([frame.image.mean() for frame in source]))
        label = int(record.label == "fake")
        verdict = "manipulated" if light < 40 else "no_evidence"
        return VideoScore(record.file, label, "m", f"g{label}", verdict, light / 10 + label, None, 1.0, 1.0, None)

    told: list[str] = []
    found = sweep_robustness(
        records,
        NO_MODEL,
        hz=4.0,
        kinds=("contrast", "H.264, CRF"),
        levels=(1, 5),
        judge=judge,
        on_progress=told.append,
    )
    assert [(row.condition, row.level) for row in found.rows] == [
        ("as it is", ""),
        ("contrast", "0.85"),
        ("contrast", "0.35"),
        ("H.264, CRF", "30"),
        ("H.264, CRF", "40"),
    ]
    assert [row.auc.value for row in found.rows] == [1.0] * 5
    assert found.rows[2].drift > found.rows[1].drift > found.rows[0].drift == 0
    assert len(told) == 4 and found.as_json()["rows"][0]["fpr"]["value"] is not None
    with pytest.raises(UnsupportedMedia, match="got rust"):
        sweep_robustness(records, NO_MODEL, kinds=("rust",), judge=judge)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx", "libvpx-vp9", "mjpeg"])
def test_every_codec_writes_whole_files(clip: Path, tmp_path: Path, codec: str) -> None:
    out = tmp_path / "b.mkv"
    kept = reencode_file(clip, out, codec=codec, quality=20)
    assert kept == len(_times(out)) == len(_times(clip))
