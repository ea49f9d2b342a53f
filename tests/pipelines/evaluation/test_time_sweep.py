"""The time sweep tells steady arms from unsteady ones and blind from seeing; its sequences are what serving saw."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibration import Calibrator
from models.temporal import TemporalHead
from pipelines.analysis import Analysis
from pipelines.evaluation.baselines import BASELINES, Trained, scorers
from pipelines.evaluation.retiming import AS_IT_IS, CONDITIONS, Condition
from pipelines.evaluation.time_sweep import TimeSweep, sequences_of, sweep_time
from pipelines.frames import read_frames
from pipelines.model import Model
from pipelines.training.evidence import of_sequences
from pipelines.training.manifest import Record
from pipelines.training.sequences import Sequence
from tests import clips as videos
from tests.pipelines.evaluation.retimed import sequence, timing

RATES = tuple(one for one in CONDITIONS if one.name == "fps" and one.level in ("30", "15", "10", "5"))


def _clips(n: int = 12, size: int = 60) -> list[Sequence]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        for label in (0, 1):
            x = rng.normal(size=(size, 4)).astype(np.float32)
            frames = np.full(size, label, np.float32)
            kind = ("drift", "static")[i % 2] if label else "real"
            found.append(
                Sequence(f"p{i}", label, kind, np.arange(size) / 30, x, frames + rng.normal(0, 1, size).astype(np.float32), frames)
            )
    return found


def _moved(clips: list[Sequence], share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A score that tells the classes well and moves by `share` for each halving of the rate."""
    base = np.array([clip.label + 0.01 * (i % 7) for i, clip in enumerate(clips)])
    rate = np.array([len(clip.t) / max(float(np.ptp(clip.t)), 1e-9) for clip in clips])
    return np.asarray(base + share * np.abs(np.log2(rate / 30.508)))


def _sweep(clips: list[Sequence], conditions: tuple[Condition, ...] = RATES) -> TimeSweep:
    arms = {
        "mean frame logit": lambda seen: np.array([float(clip.artefact.mean()) for clip in seen]),
        "steady": lambda seen: _moved(seen, 0.02),
        "unsteady": lambda seen: _moved(seen, 0.08),
    }
    return sweep_time(clips, arms, conditions=conditions, resamples=60)


def test_how_steady_an_arm_is_is_a_share_of_how_steady_another_is() -> None:
    found = {(one.arm, one.other): one.ratio for one in _sweep(_clips()).steadiness}
    assert set(found) == {("steady", "unsteady"), ("unsteady", "steady")}, "an average over frames is in no comparison"
    ratio = found["steady", "unsteady"]
    assert ratio.value == pytest.approx(0.25, rel=0.02)
    assert ratio.low <= ratio.value <= ratio.high < 0.5


def test_drift_in_probability_is_between_zero_and_one_and_zero_as_it_is() -> None:
    found = _sweep(_clips())
    for row in found.rows:
        assert 0 <= row.drift_p <= 1
        if row.condition == "as it is":
            assert row.drift == row.drift_p == row.lost == row.lost_interval.high == 0
        else:
            assert row.lost_interval.low <= row.lost == row.lost_interval.value <= row.lost_interval.high
    by = {(row.arm, row.level): row for row in found.rows if row.condition == "fps"}
    assert by["unsteady", "5"].drift_p > by["steady", "5"].drift_p > 0
    assert by["unsteady", "5"].drift > by["unsteady", "10"].drift > by["unsteady", "15"].drift


def test_scales_of_arms_change_no_number() -> None:
    """A score counted in other units is the same arm."""
    clips = _clips()
    arms = {"a": lambda seen: _moved(seen, 0.05), "b": lambda seen: 40 * _moved(seen, 0.05) - 7}
    rows = sweep_time(clips, arms, conditions=RATES, resamples=20).rows
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        assert (a.drift, a.drift_p, a.auc.value) == pytest.approx((b.drift, b.drift_p, b.auc.value), abs=1e-4)


def test_kinds_are_compared_one_by_one_and_a_partial_fake_is_temporal() -> None:
    clips = _clips()
    clips[3] = replace(clips[3], frame_label=np.r_[np.zeros(30), np.ones(30)].astype(np.float32))  # a static fake, half of the clip
    found = {(one.among, one.arm) for one in _sweep(clips).differences}
    assert {among for among, _ in found} == {"all", "temporal", "drift", "partial"}
    assert not [one for one in found if one[1] == "mean frame logit"]
    only_reals = [clip for clip in clips if not clip.label]
    assert _sweep(only_reals, ()).differences == ()
    assert _sweep(only_reals, ()).as_json()["rows"][0]["auc"]["value"] is None


def test_nothing_that_is_no_number_reaches_the_json() -> None:
    found = sweep_time(_clips(2), {"constant": lambda seen: np.zeros(len(seen))}, conditions=RATES[:1], resamples=5).as_json()

    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for inner in value.values() for number in numbers(inner)]
        if isinstance(value, list | tuple):
            return [number for inner in value for number in numbers(inner)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(number) for number in numbers(found))
    assert found["rows"][0]["drift"] is None, "a score that is always the same has no unit"


def test_sequences_are_what_serving_saw(model: Model, tmp_path: Path) -> None:
    """The head and the running mean, folded over the sequence, say what `Analysis` said at each frame."""
    path = videos.face_clip(tmp_path / "a.mp4", pts=videos.variable_pts(3.0, seed=2))
    record = Record("a.mp4", path, "video", "validation", "fake", "p", "", "", "swap", 1)
    (clip,) = sequences_of([record], model)
    assert (clip.identity, clip.label, clip.kind) == ("p", 1, "swap")
    analysis = Analysis(model)
    with read_frames(path, hz=None) as source:
        for frame in source:
            analysis.push(frame)
    told = [(score.t, score.logit) for score in analysis.scores if score.logit is not None]
    np.testing.assert_array_equal(clip.t, [t for t, _ in told])
    (track,) = of_sequences(model.temporal, model.calibrator, [clip], hz=None)
    logits = [model.calibrator.logit(a, b) for a, b in zip(track.artefact, track.temporal, strict=True)]
    np.testing.assert_allclose(logits, [logit for _, logit in told], atol=1e-5)


def test_a_video_without_a_face_is_left_out_and_still_counted_on_the_way(model: Model, tmp_path: Path) -> None:
    path = videos.empty_clip(tmp_path / "e.mp4")
    seen: list[int] = []
    record = Record("e.mp4", path, "video", "validation", "real", "p", "", "", None, 1)
    assert sequences_of([record], model, on_video=seen.append) == [] and seen == [1]


def test_a_head_blind_to_time_does_not_notice_wrong_timestamps_and_the_others_do() -> None:
    torch.manual_seed(0)
    head = TemporalHead(inputs=8)
    trained = [Trained(name, make(8), 0.5, 1e-3, 1) for name, make in BASELINES.items()]
    clips = [sequence(seed=seed, label=seed % 2) for seed in range(4)]
    found = sweep_time(clips, scorers(head, Calibrator(), trained), conditions=(timing("speed", "x2.0"),), resamples=20)
    drift = {row.arm: row.drift for row in found.rows if row.condition == "speed"}
    assert drift["GRU without dt"] == drift["top tenth of frame logits"] == 0
    assert min(drift[name] for name in ("liquid", "GRU with dt", "LSTM with dt", "CfC")) > 1e-4


def test_a_sweep_tells_what_was_lost_and_who_is_better_among_temporal_fakes() -> None:
    clips = [sequence(seed=seed, label=seed % 2, kind="drift" if seed % 2 else "real") for seed in range(12)]
    arms = {
        "none": lambda seen: np.array([float(one.t[-1]) for one in seen]) * 0,
        "oracle": lambda seen: np.array([float(one.label) for one in seen]),
        "count": lambda seen: np.array([float(len(one.t)) for one in seen]) + np.arange(len(seen)),
    }
    found = sweep_time(clips, arms, conditions=(timing("fps", "15"),), resamples=50)
    assert {(row.arm, row.condition) for row in found.rows} == {(arm, name) for arm in arms for name in (AS_IT_IS.name, "fps")}
    by = {(row.arm, row.condition): row for row in found.rows}
    assert by["oracle", "fps"].auc.value == 1.0 and by["oracle", "fps"].drift == 0
    assert by["count", "fps"].drift > 1, "a score that counts frames drifts"
    best = {(d.arm, d.among): d.auc.value for d in found.differences}
    assert best["oracle", "all"] == best["oracle", "temporal"] == 0.5
    assert found.as_json()["sweep"] == "time"
    with pytest.raises(ValueError, match="0 clips"):
        sweep_time([], arms)
