"""The walk: pushing frames and reading a file agree to the last bit, time is checked, faces do not disturb each other."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipelines.analysis import Analysis, Model, Progress, analyse
from pipelines.errors import AnalysisCancelled, TimestampError
from pipelines.frames import read_frames
from pipelines.media import Frame, FrameFlag
from pipelines.verdict import Score
from tests import clips
from tests.support import require

MS = Fraction(1, 1000)


@pytest.fixture(scope="module")
def vfr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.face_clip(tmp_path_factory.mktemp("vfr") / "vfr.mkv", pts=clips.variable_pts(3.0, seed=8))


def _pushed(path: Path, model: Model, hz: float | None) -> tuple[list[Score], Analysis]:
    analysis = Analysis(model)
    scores: list[Score] = []
    with read_frames(path, hz=hz) as frames:
        for frame in frames:
            scores += analysis.push(frame)
    return scores, analysis


@pytest.mark.parametrize("hz", [12.0, 4.0, None])
def test_a_file_is_a_stream_that_ends(vfr: Path, model: Model, hz: float | None) -> None:
    report = analyse(vfr, model, hz=hz)
    scores, analysis = _pushed(vfr, model, hz)
    assert list(report.scores) == scores
    again = analysis.finish()
    assert (report.verdict.verdict, report.verdict.score, report.verdict.coverage) == (again.verdict, again.score, again.coverage)


def test_dt_is_the_exact_difference_of_ticks(vfr: Path, model: Model) -> None:
    scores = analyse(vfr, model, hz=None).scores
    assert scores[0].dt is None and scores[0].surprise is None
    for before, after in pairwise(scores):
        assert after.dt == float((after.pts - before.pts) * after.time_base)
        assert after.surprise is not None and after.surprise >= 0


def test_an_outage_reaches_the_model_as_one_real_dt(model: Model) -> None:
    analysis = Analysis(model)
    scores = [analysis.push(Frame(clips.face_frame(min(t, 400) / 1000), t, MS))[0] for t in (0, 100, 200, 300, 400, 5400)]
    assert [score.track for score in scores] == [0] * 6
    assert scores[-1].dt == 5.0


def test_a_damaged_picture_is_not_judged_and_breaks_no_track(model: Model) -> None:
    """Half a green picture looks like a cut and moves as no face does; what was filmed then is covered by nothing."""
    analysis = Analysis(model)
    green = np.zeros_like(clips.face_frame(0))
    green[..., 1] = 135
    rows = []
    for t in range(0, 3000, 100):
        damaged = 1000 <= t < 1500
        frame = Frame(green if damaged else clips.face_frame(t / 1000), t, MS, flags=frozenset({"tainted"} if damaged else ()))
        rows.append(analysis.push(frame))
    assert [len(row) for row in rows] == [1] * 10 + [0] * 5 + [1] * 15
    assert {score.track for row in rows for score in row} == {0}
    assert rows[15][0].dt == 0.6
    reasons = {reason.code: reason.duration_s for reason in analysis.finish().coverage.reasons}
    assert reasons == {"decode_error": pytest.approx(0.5)}


def test_a_break_of_the_timeline_forgets_even_if_its_first_picture_is_damaged(model: Model) -> None:
    analysis = Analysis(model)
    flags: dict[int, frozenset[FrameFlag]] = {400: frozenset({"discontinuity", "corrupt"})}
    tracks = [
        [s.track for s in analysis.push(Frame(clips.face_frame(0), t, MS, flags=flags.get(t, frozenset())))] for t in range(0, 800, 100)
    ]
    assert tracks == [[0]] * 4 + [[]] + [[1]] * 3


def test_time_may_not_go_back_or_change_its_base(model: Model) -> None:
    analysis = Analysis(model)
    analysis.push(Frame(clips.empty_frame(0), 100, MS))
    with pytest.raises(TimestampError, match="pts >= 100; got 99"):
        analysis.push(Frame(clips.empty_frame(0), 99, MS))
    with pytest.raises(TimestampError, match="time base changed"):
        analysis.push(Frame(clips.empty_frame(0), 200, Fraction(1, 25)))


def test_who_else_is_in_the_picture_changes_no_bit_of_a_score(model: Model) -> None:
    def alone(t: float) -> clips.Image:
        return np.concatenate([clips.face_frame(t, width=440), clips.empty_frame(0, width=440)], axis=1)

    def together(t: float) -> clips.Image:
        return np.concatenate([clips.face_frame(t, width=440), clips.face_frame(t + 2, width=440)], axis=1)

    one, two = Analysis(model), Analysis(model)
    for i in range(8):
        first = [s for s in one.push(Frame(alone(i / 12), round(1000 * i / 12), MS)) if s.box[0] < 440]
        second = [s for s in two.push(Frame(together(i / 12), round(1000 * i / 12), MS)) if s.box[0] < 440]
        if first[0].box == second[0].box:
            assert (first[0].logit, first[0].surprise) == (second[0].logit, second[0].surprise)
    assert two.faces == 2 and first[0].box == second[0].box, "the crops were equal, so the comparison was one"


def test_progress_tells_and_cancel_stops_within_a_frame(vfr: Path, model: Model) -> None:
    seen: list[Progress] = []
    report = analyse(vfr, model, on_progress=seen.append)
    assert len(seen) == len(report.frame_pts)
    assert seen[-1].frames_decoded >= seen[-1].frames_analysed > 0
    seen.clear()
    with pytest.raises(AnalysisCancelled):
        analyse(vfr, model, on_progress=seen.append, cancelled=lambda: len(seen) >= 3)
    assert len(seen) == 3


def test_every_stage_is_accounted_for(vfr: Path, model: Model) -> None:
    stages = {stage.stage: stage for stage in analyse(vfr, model).stages}
    assert set(stages) == {"decode", "faces", "crops", "encoder", "memory", "verdict"}
    assert all(stage.cpu_s >= 0 and stage.calls > 0 for stage in stages.values())


def test_finish_may_be_asked_at_any_moment(model: Model) -> None:
    analysis = Analysis(model)
    assert analysis.finish().verdict == "not_applicable"
    for i in range(20):
        analysis.push(Frame(clips.face_frame(i / 10), 100 * i, MS))
    first, second = analysis.finish(), analysis.finish()
    assert first.score == second.score is not None


@pytest.mark.parametrize(
    "file",
    [
        "validation/real/h0042_469.mp4",
        "validation/fake/h0002_469_481.mp4",
        "published/clips/modelscope__ClearerVoice-Studio/path_to_input_videos_tse_001.avi",
    ],
)
def test_real_clips_are_judged_the_same_way_twice(model: Model, file: str) -> None:
    data = require("shared")
    assert data is not None
    report = analyse(data / file, model, hz=6)
    scores, analysis = _pushed(data / file, model, 6)
    assert list(report.scores) == scores
    assert report.verdict.verdict == analysis.finish().verdict
    assert report.verdict.coverage.faces_judged >= 1
