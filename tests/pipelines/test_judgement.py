"""The rules of the judge: seconds add up, null is never 0, each verdict has its cause."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibrator, log_odds, probability
from pipelines.judgement import MAX_SHARES, Judge, Moment, Sighting, TrackRecord
from pipelines.verdict import EvidenceCrop, ReasonCode, Verdict

MS = Fraction(1, 1000)
REASONS: list[ReasonCode] = ["no_face", "face_too_small", "motion_blur"]


def _judge() -> Judge:
    calibrator = Calibrator()
    calibrator.weight.copy_(torch.tensor([1.0, 0.0, 0.0]))
    calibrator.thresholds.copy_(torch.tensor([2.0, 3.0, 1.0]))
    return Judge(calibrator)


def _track(logits: list[float], *, start: int = 0, step: int = 100, number: int = 0) -> TrackRecord:
    pts = [start + step * i for i in range(len(logits))]
    record = TrackRecord(number, pts[0], pts[-1], observations=len(pts))
    record.moments = [Moment(t, logit, 0.0, logit, (0.1, 0.2, 0.3)) for t, logit in zip(pts, logits, strict=True)]
    return record


def _judged(record: TrackRecord) -> Verdict:
    return _judge().verdict([record], [Sighting(moment.pts, (record.id,), None) for moment in record.moments], MS)


@given(st.lists(st.tuples(st.integers(1, 6000), st.sampled_from([None, *REASONS])), min_size=1, max_size=60))
def test_every_second_is_judged_or_has_a_reason(steps: list[tuple[int, ReasonCode | None]]) -> None:
    pts = np.cumsum([step for step, _ in steps]).tolist()
    sightings = [Sighting(t, (0,) if reason is None else (), reason) for t, (_, reason) in zip(pts, steps, strict=True)]
    coverage = _judge().verdict([_track([0.0] * 30)], sightings, MS).coverage
    assert coverage.judged_s + sum(reason.duration_s for reason in coverage.reasons) == pytest.approx(coverage.duration_s)
    assert all(reason.duration_s > 0 for reason in coverage.reasons)


@given(st.lists(st.floats(-6, 6), min_size=8, max_size=80))
def test_a_verdict_is_consistent_with_itself(logits: list[float]) -> None:
    verdict = _judged(_track(logits, step=200))
    assert verdict.score is not None
    assert 0 <= verdict.score.low <= verdict.score.p <= verdict.score.high <= 1
    if verdict.score.p >= verdict.threshold:
        assert verdict.verdict == "manipulated"
    for segment in verdict.segments:
        assert 0 <= segment.start_pts < segment.end_pts <= 200 * (len(logits) - 1)
        assert segment.track_ids == (0,)
    if verdict.segments:
        assert verdict.verdict == "manipulated"
    assert "authentic" not in verdict.sentence


@given(
    st.lists(st.tuples(st.integers(1, 9000), st.floats(-6, 6), st.floats(-6, 6)), min_size=8, max_size=80),
    st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-3, 3)),
)
def test_a_ledger_adds_up_to_the_score_in_stretches_of_equal_length(
    moments: list[tuple[int, float, float]], weight: tuple[float, float, float]
) -> None:
    judge = _judge()
    judge.calibrator.weight.copy_(torch.tensor(weight, dtype=torch.float64))
    pts = np.cumsum([step for step, _, _ in moments]).tolist()
    record = TrackRecord(0, pts[0], max(pts[-1], pts[0] + 1000), observations=len(pts))
    record.moments = [
        Moment(t, eye, memory, judge.calibrator.logit(eye, memory), (0.1, 0.2, 0.3))
        for t, (_, eye, memory) in zip(pts, moments, strict=True)
    ]
    (report,) = judge.verdict([record], [], MS).tracks
    assert report.score is not None and report.ledger is not None
    ledger = report.ledger
    assert probability(ledger.logit) == pytest.approx(report.score.p, abs=1e-12)
    assert sum(share.judged for share in ledger.shares) == len(moments)
    assert 1 <= len(ledger.shares) <= MAX_SHARES
    assert [share.start_pts for share in ledger.shares] == sorted({share.start_pts for share in ledger.shares})
    length = max(1.0, math.ceil((pts[-1] - pts[0]) / 1000 / MAX_SHARES))
    assert all(share.end_pts - share.start_pts <= 1000 * length for share in ledger.shares)
    assert ledger.base == weight[2]
    for share in ledger.shares:
        own = [(eye, memory) for t, (_, eye, memory) in zip(pts, moments, strict=True) if share.start_pts <= t <= share.end_pts]
        assert share.appearance == pytest.approx(weight[0] * sum(eye for eye, _ in own) / len(moments), abs=1e-9)
        assert share.motion == pytest.approx(weight[1] * sum(memory for _, memory in own) / len(moments), abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.floats(-6, 6)), min_size=1, max_size=14),
    st.lists(st.floats(-8, 8), min_size=1, max_size=9),
    st.floats(-3, 3),
)
def test_a_verdict_is_manipulated_up_to_its_reach_and_by_no_higher_threshold(
    parts: list[tuple[int, float]], asked: list[float], drawn: float
) -> None:
    """Whatever the three are: the others move along with the one that is asked for."""
    record = _track([level for n, level in parts for _ in range(n)] + [-1.0] * 8, step=150)
    calibrator = _judge().calibrator
    calibrator.thresholds.copy_(torch.tensor([2.0, 2.0 + drawn, 1.0]))
    sightings = [Sighting(moment.pts, (0,), None) for moment in record.moments]
    found = Judge(calibrator).verdict([record], sightings, MS)
    assert found.reach is not None and found.score is not None and found.reach >= found.score.p
    for logit in [*asked, log_odds(found.reach) - 1e-6, log_odds(found.reach) + 1e-6]:
        again = Judge(calibrator, calibrator.thresholds_at(probability(logit), 0.2)).verdict([record], sightings, MS)
        if abs(again.threshold - found.reach) > 1e-8:
            assert (again.verdict == "manipulated") == (again.threshold <= found.reach)
        assert (again.score, again.target_fpr) == (found.score, 0.2)
        assert again.reach == pytest.approx(found.reach, abs=1e-9)


def test_what_moves_a_threshold_moves_all_three_and_changes_no_calibrator() -> None:
    calibrator = _judge().calibrator
    before = calibrator.shipped
    moved = calibrator.thresholds_at(0.25, 0.05)
    assert (moved.p, moved.target_fpr) == (0.25, 0.05) and probability(moved.track) == pytest.approx(0.25)
    assert moved.stretch - moved.track == pytest.approx(before.stretch - before.track)
    assert moved.doubt - moved.track == pytest.approx(before.doubt - before.track)
    assert calibrator.shipped == before
    for bad in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrator.thresholds_at(bad, 0.05)


@pytest.mark.parametrize(("level", "word"), [(-2.0, "no_evidence"), (1.5, "inconclusive"), (2.5, "manipulated")])
def test_the_level_of_a_track_decides(level: float, word: str) -> None:
    verdict = _judged(_track([level] * 50))
    assert verdict.verdict == word
    assert verdict.reasons == (("weak_evidence",) if word == "inconclusive" else ())
    assert bool(verdict.segments) == (word == "manipulated")


def test_a_spliced_fake_is_found_in_a_real_video() -> None:
    verdict = _judged(_track([-3.0] * 100 + [4.0] * 20 + [-3.0] * 100))
    assert verdict.verdict == "manipulated"
    assert len(verdict.segments) == 1
    start, end = verdict.segments[0].start_pts, verdict.segments[0].end_pts
    assert 9000 <= start <= 10500 and 11500 <= end <= 13000
    assert verdict.score is not None and verdict.score.p < verdict.threshold, "the whole is below the threshold, the stretch is not"


def test_the_most_suspicious_face_speaks_for_the_video() -> None:
    calm, fake = _track([-3.0] * 40), _track([3.5] * 40, number=1)
    sightings = [Sighting(moment.pts, (0, 1), None) for moment in calm.moments]
    verdict = _judge().verdict([calm, fake], sightings, MS)
    assert verdict.verdict == "manipulated"
    assert verdict.segments[0].track_ids == (1,)
    assert [track.id for track in verdict.tracks] == [0, 1]


def test_overlapping_segments_of_two_faces_are_one() -> None:
    tracks = [_track([3.5] * 40), _track([3.5] * 40, start=1000, number=1)]
    verdict = _judge().verdict(tracks, [Sighting(100 * i, (0, 1), None) for i in range(50)], MS)
    assert len(verdict.segments) == 1
    assert verdict.segments[0].track_ids == (0, 1)


def test_too_little_is_not_judged_and_null_is_not_zero() -> None:
    verdict = _judged(_track([5.0] * 5))
    assert (verdict.verdict, verdict.reasons, verdict.score) == ("inconclusive", ("too_short",), None)
    assert verdict.tracks[0].score is None and verdict.tracks[0].reason == "too_short"
    assert verdict.coverage.judged_s == 0


def test_nothing_at_all_is_not_applicable() -> None:
    verdict = _judge().verdict([], [], MS)
    assert (verdict.verdict, verdict.score) == ("not_applicable", None)
    assert "Nothing could be judged" in verdict.sentence


def test_more_evidence_narrows_the_interval() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for length in (20, 200, 2000):
        score = _judged(_track(rng.normal(0, 1, length).tolist())).score
        assert score is not None
        widths.append(score.high - score.low)
    assert widths[0] > widths[1] > widths[2]


def test_crops_are_few_spread_and_the_most_suspicious() -> None:
    record = TrackRecord(0, 0, 0)
    picture = np.zeros((160, 160, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    p = rng.uniform(0, 0.8, 100)
    p[50] = 0.99
    for i in range(100):
        record.keep(EvidenceCrop(100 * i, MS, float(p[i]), picture, picture[:20, :20, 0]))
    assert len(record.crops) <= 4
    assert record.crops[0].pts == 0
    assert 5000 in {crop.pts for crop in record.crops}
    later = sorted(crop.pts for crop in record.crops[1:])
    assert all(b - a >= 1000 for a, b in pairwise(later))
