"""Triage: key pictures first, whole groups only around faces, and what was left out is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.analysis import Model, analyse
from pipelines.errors import AnalysisCancelled
from pipelines.frames import read_frames
from pipelines.media import Image
from pipelines.triage import triage
from tests.clips import empty_frame, face_frame, regular_pts, write_clip

GROUP_S = 2
FPS = 12


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of nobody, but for a face from 9 to 13 s; a key picture every two seconds."""
    pts = regular_pts(20.0, FPS)

    def picture(t: float) -> Image:
        return face_frame(t, width=320, height=240, px=230) if 9 <= t < 13 else empty_frame(t, width=320, height=240)

    options = {"preset": "ultrafast", "crf": "20", "g": str(GROUP_S * FPS), "bf": "2", "x264-params": "scenecut=0"}
    return write_clip(tmp_path_factory.mktemp("archive") / "a.mp4", (picture(t / 1000) for t in pts), pts, options=options)


def test_only_key_pictures_are_decoded_and_each_says_that_it_stands_alone(archive: Path) -> None:
    with read_frames(archive, hz=None, closely=()) as frames:
        keys = list(frames)
    assert [frame.t for frame in keys] == pytest.approx([float(s) for s in range(0, 20, GROUP_S)])
    assert all(frame.flags == {"sparse"} for frame in keys)
    assert frames.report.true_fps is None
    assert frames.counts.decoded == 10


def test_wanted_groups_come_whole_and_equal_to_a_full_read(archive: Path) -> None:
    with read_frames(archive, hz=None) as frames:
        full = {frame.pts: frame for frame in frames}
    stamps = sorted(full)
    wanted = [tick for tick in stamps if 4 <= full[tick].t < 6 or 6 <= full[tick].t < 8 or 12 <= full[tick].t < 14]
    keys = {tick for tick in wanted if full[tick].t in (4.0, 6.0, 12.0)}
    with read_frames(archive, hz=None, closely=keys) as frames:
        read = list(frames)
    whole = [frame for frame in read if "sparse" not in frame.flags]
    assert [frame.pts for frame in whole] == wanted
    assert all(np.array_equal(frame.image, full[frame.pts].image) for frame in read)
    assert not any("gap" in frame.flags or "tainted" in frame.flags for frame in read)


def test_groups_with_a_face_and_the_one_before_are_worth_a_look(archive: Path, model: Model) -> None:
    with read_frames(archive) as frames:
        base = frames.media.time_base
    stamps, cpu_s = triage(archive, model.detector, read=read_frames)
    assert cpu_s == 0
    assert sorted(float(stamp * base) for stamp in stamps) == [8.0, 10.0, 12.0]


def test_a_triaged_verdict_judges_the_face_and_says_what_was_left_out(archive: Path, model: Model) -> None:
    whole, triaged = analyse(archive, model), analyse(archive, model, triaged=True)
    assert triaged.counts.decoded < whole.counts.decoded / 2
    assert triaged.verdict.verdict == whole.verdict.verdict
    assert triaged.verdict.score is not None and whole.verdict.score is not None
    assert triaged.verdict.score.p == pytest.approx(whole.verdict.score.p, abs=0.02)
    assert triaged.verdict.coverage.judged_s == pytest.approx(whole.verdict.coverage.judged_s, abs=0.3)
    assert triaged.verdict.coverage.duration_s == pytest.approx(whole.verdict.coverage.duration_s, abs=0.2)
    assert not triaged.time.variable and triaged.time.max_dt_s == pytest.approx(1 / FPS, abs=1e-3)
    assert {stage.stage for stage in triaged.stages} - {stage.stage for stage in whole.stages} == {"triage"}


def test_long_groups_without_a_face_are_counted_as_triage(tmp_path: Path, model: Model) -> None:
    pts = regular_pts(18.0, 6)
    options = {"preset": "ultrafast", "g": "36", "bf": "0", "x264-params": "scenecut=0"}
    path = write_clip(tmp_path / "a.mkv", (empty_frame(t / 1000, width=160, height=120) for t in pts), pts, options=options)
    coverage = analyse(path, model, triaged=True).verdict.coverage
    seconds = {reason.code: reason.duration_s for reason in coverage.reasons}
    assert seconds == {"no_face": pytest.approx(6.0), "triage": pytest.approx(12.0)}


def test_triage_can_be_cancelled(archive: Path, model: Model) -> None:
    with pytest.raises(AnalysisCancelled):
        analyse(archive, model, triaged=True, cancelled=lambda: True)
