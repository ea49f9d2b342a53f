"""An analysis that explains itself: it explains what was really judged, at its true seconds, and keeps no more than it says."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import pipelines.analysis
from models.checkpoint import WeightsError
from models.explanation import Explanation
from models.temporal import TemporalHead
from pipelines.analysis import Analysis, Model, analyse
from pipelines.media import Frame
from pipelines.verdict import ExplainedTrack
from tests import clips

MS = Fraction(1, 1000)
COMPILED = 1e-5
"""What a compiled step may differ by from the fold that explains."""


@pytest.fixture(scope="module")
def vfr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.face_clip(tmp_path_factory.mktemp("explained") / "vfr.mkv", pts=clips.variable_pts(3.0, seed=8))


def reasons(analysis: Analysis) -> ExplainedTrack:
    explained = analysis.explained()
    assert explained is not None
    return explained


def temporal_logits(analysis: Analysis, track: int) -> list[float]:
    return [moment.temporal for moment in analysis._records[track].moments]


def adds_up(explanation: Explanation) -> None:
    torch.testing.assert_close(explanation.ledger.sum(0), explanation.clip_logit, atol=1e-4, rtol=1e-4)


def test_the_moments_explained_are_the_moments_judged(vfr: Path, model: Model) -> None:
    plain, report = analyse(vfr, model, hz=None), analyse(vfr, model, hz=None, explain=True)
    assert plain.explained is None
    assert report.scores == plain.scores, "to be explained changes no score"
    assert report.explained is not None
    found = report.explained.explanation
    judged = [score for score in report.scores if score.track == report.explained.track and score.p is not None]
    assert report.explained.first_pts == judged[0].pts
    assert report.explained.last_pts == judged[-1].pts
    times = found.seconds()[:, 0] + float(report.explained.first_pts * report.explained.time_base)
    np.testing.assert_allclose(times, [score.t for score in judged], atol=1e-9)
    surprise = found.outputs.surprise[1:, 0] / report.explained.surprise_unit
    np.testing.assert_allclose(surprise, [score.surprise or 0.0 for score in judged[1:]], rtol=1e-5)
    adds_up(found)


def test_the_clip_that_is_explained_is_the_stream(model: Model) -> None:
    analysis = Analysis(model, explain=True)
    for t in (5000, 5040, 5040, 5200, 5900, 8000, 8033):
        analysis.push(Frame(clips.face_frame(t / 9000), t, MS))
    explained = reasons(analysis)
    assert explained.explanation.outputs.logit[:, 0].tolist() == pytest.approx(temporal_logits(analysis, 0), abs=COMPILED)
    assert (explained.track, explained.first_pts, explained.last_pts) == (0, 5000, 8033)
    assert explained.explanation.dt[1:, 0, 0].tolist() == [0.04, 0.0, 0.16, 0.7, 2.1, 0.033]


def test_without_being_asked_nothing_is_kept(model: Model) -> None:
    analysis = Analysis(model)
    for t in range(0, 500, 100):
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS))
    assert all(memory.kept is None for memory in analysis._memories.values())
    with pytest.raises(ValueError, match="explained: expected an Analysis made with explain=True, got one that kept nothing"):
        analysis.explained()


def test_a_memory_that_forgot_is_explained_from_where_it_began_again(model: Model) -> None:
    """A break of the timeline ends every track: the same face is another one then, and each has its own first moment."""
    analysis = Analysis(model, explain=True)
    for t in range(0, 4000, 100):
        flags = frozenset({"discontinuity"} if t == 2000 else ())
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS, flags=flags))  # type: ignore[arg-type]
    verdict = analysis.finish()
    assert [track.judged for track in verdict.tracks] == [20, 20]
    explained = reasons(analysis)
    strongest = max(verdict.tracks, key=lambda track: track.score.p if track.score else -1.0)
    assert explained.track == strongest.id
    assert explained.first_pts == (0 if explained.track == 0 else 2000)
    assert explained.explanation.outputs.logit[:, 0].tolist() == pytest.approx(temporal_logits(analysis, explained.track), abs=COMPILED)
    assert float(explained.explanation.dt[0]) == float("inf")
    adds_up(explained.explanation)


def test_a_memory_that_is_emptied_in_the_middle_of_a_track_starts_its_explanation_anew(model: Model) -> None:
    analysis = Analysis(model, explain=True)
    for t in range(0, 2000, 100):
        if t == 1000:
            analysis._memories.clear()
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS))
    explained = reasons(analysis)
    assert (explained.first_pts, explained.last_pts) == (1000, 1900)
    assert explained.explanation.outputs.logit[:, 0].tolist() == pytest.approx(temporal_logits(analysis, 0)[10:], abs=COMPILED)


def test_of_those_that_left_only_the_most_suspicious_is_kept(model: Model) -> None:
    analysis = Analysis(model, explain=True)
    for t in range(0, 6000, 100):
        flags = frozenset({"discontinuity"} if t % 1500 == 0 and t else ())
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS, flags=flags))  # type: ignore[arg-type]
    assert analysis.faces == 4
    assert len(analysis._memories) == 1 and analysis._left is not None
    verdict = analysis.finish()
    best = max(verdict.tracks, key=lambda track: track.score.p if track.score else -1.0)
    assert reasons(analysis).track == best.id
    assert analysis._left[1].track == max(verdict.tracks[:3], key=lambda track: track.score.p if track.score else -1.0).id


def test_a_face_too_brief_for_a_score_is_explained_where_there_is_no_better(model: Model) -> None:
    analysis = Analysis(model, explain=True)
    for t in (0, 100, 200):
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS))
    assert analysis.finish().score is None
    assert len(reasons(analysis).explanation.dt) == 3


def test_no_face_no_reasons(model: Model, tmp_path: Path) -> None:
    assert Analysis(model, explain=True).explained() is None
    assert analyse(clips.empty_clip(tmp_path / "a.mp4"), model, explain=True).explained is None


def test_what_is_kept_has_a_cap(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.analysis, "KEPT_MOMENTS", 6)
    analysis = Analysis(model, explain=True)
    for t in range(0, 1000, 100):
        analysis.push(Frame(clips.face_frame(t / 1000), t, MS))
    explained = reasons(analysis)
    assert (explained.first_pts, explained.last_pts, len(explained.explanation.dt)) == (0, 500, 6)
    assert explained.explanation.outputs.logit[:, 0].tolist() == pytest.approx(temporal_logits(analysis, 0)[:6], abs=COMPILED)


def test_weights_whose_evidence_is_no_sum_are_refused_before_the_work(model: Model) -> None:
    other = dataclasses.replace(model, temporal=TemporalHead(cell="cfc"))
    with pytest.raises(WeightsError, match="Expected a temporal head with cell 'liquid' or 'resonator'; got cell 'cfc'"):
        Analysis(other, explain=True)
    Analysis(other)
