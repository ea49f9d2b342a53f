"""The rules of the judge: seconds add up, null is never 0, each verdict has its cause."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibrator
from pipelines.judgement import Judge, Moment, Sighting, TrackRecord
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
