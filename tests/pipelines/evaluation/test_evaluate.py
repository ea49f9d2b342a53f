"""An evaluation counts what it should: makes against their own scenes, sources, slices, one class, moments of decision."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.calibration import Calibrator
from models.encoder import FaceEncoder
from models.face_detector import FaceDetector
from models.temporal import TemporalHead
from pipelines.evaluation.evaluate import Evaluation, VideoScore, _decided, evaluate, summarise
from pipelines.evaluation.metrics import Estimate
from pipelines.model import Model
from pipelines.training.manifest import Record
from pipelines.verdict import ModelInfo, Score
from tests import clips

PLAIN = VideoScore(
    "f.mp4", 0, "real", "g", "no_evidence", 0.0, 7.0, 9.0, 10.0, None, "source", "validation", 130.0, 100.0, "h264", 640, 30.0
)


def _videos() -> list[VideoScore]:
    """Two scenes of make A, told apart within a scene but not across; make B without reals of its own, always told."""
    rows: list[dict[str, Any]] = []
    for scene, level in (("a1", 0.0), ("a2", 5.0)):
        rows.append({"group": scene, "logit": level, "track_logits": (level,), "frame_logits": (level, level)})
        rows.append(
            {"group": scene, "logit": level + 1, "label": 1, "method": "A", "track_logits": (level + 1,), "frame_logits": (level + 1,)}
        )
    rows += [
        {"group": f"b{i}", "logit": 9.0 + i, "label": 1, "method": "B", "verdict": "manipulated", "decision_s": 2.0 + i} for i in range(2)
    ]
    return [replace(PLAIN, file=f"{i}.mp4", **row) for i, row in enumerate(rows)]


def test_each_make_is_held_against_all_reals_and_against_those_of_its_scenes() -> None:
    found = summarise(_videos())
    a, b = found.methods
    assert (a.method, a.auc.value, a.auc_own_scene.value) == ("A", 0.75, 0.75)
    assert b.auc.value == 1.0 and math.isnan(b.auc_own_scene.value)
    assert found.macro_auc.value == pytest.approx((0.75 + 1) / 2)
    assert found.macro_auc_own_scene.value == pytest.approx(0.75), "a make without reals of its scenes has no part in it"
    assert found.pair_accuracy.value == 1.0
    assert found.true_positive_rate.value == 0.5 and found.false_positive_rate.value == 0.0
    assert found.decision_s.value == 2.5
    assert found.units["frame"][0] == 6 and found.units["track"][0] == 4


def test_a_video_that_could_not_be_judged_counts_as_undecided_and_is_listed() -> None:
    videos = [
        *_videos(),
        replace(PLAIN, file="bad.mp4", label=1, method="A", verdict="refused", logit=None, sharpness=None, problem="no-video"),
    ]
    found = summarise(videos)
    assert found.unjudged == 1
    assert next(make for make in found.methods if make.method == "A").fakes == 3
    assert [score.problem for score in found.scores if score.problem] == ["no-video"]
    assert found.as_json()["problems"] == [{"file": "bad.mp4", "problem": "no-video"}]


def test_one_class_has_rates_and_no_auc_and_says_why() -> None:
    reals = summarise(
        [replace(PLAIN, file=f"{i}", source="s1" if i else "s2", verdict="manipulated" if i == 1 else "no_evidence") for i in range(4)]
    )
    assert "no fake" in reals.note and math.isnan(reals.auc.value)
    assert [(one.source, one.reals, one.accused.value) for one in reals.sources] == [("s1", 3, pytest.approx(1 / 3)), ("s2", 1, 0.0)]
    assert reals.false_positives_per_hour.value == pytest.approx(1 / (4 * 9 / 3600))
    assert reals.as_json()["auc"]["value"] is None
    assert "no real" in summarise([replace(PLAIN, label=1)]).note


def test_the_control_is_beside_and_regressed_out() -> None:
    rng = np.random.default_rng(0)
    blur = rng.normal(size=60)
    videos = [
        replace(
            PLAIN,
            file=f"{i}",
            group=f"g{i}",
            label=i % 2,
            method="A" if i % 2 else "real",
            sharpness=float(7 - b - i % 2),
            logit=float(b + i % 2),
        )
        for i, b in enumerate(blur)
    ]
    found = summarise(videos)
    assert found.control_auc.value == pytest.approx(found.auc.value), "this detector sees blur and nothing else"
    assert abs(found.auc_without_sharpness.value - 0.5) < 0.12


def _crowd(*, people: int = 40, each: int = 1, blurred: bool = False) -> list[VideoScore]:
    """`people` with `each` reals and fakes that are told fairly well; the score is sharpness itself where `blurred`."""
    rng, videos = np.random.default_rng(0), []
    for number in range(people):
        blur, score, accused = rng.normal(size=2), rng.normal([0, 1.5]), rng.random(2) < (0.2, 0.8)
        for label in (0, 1):
            one = replace(
                PLAIN,
                label=label,
                group=f"p{number}",
                method="A" if label else "real",
                logit=float(blur[label] + label if blurred else score[label]),
                sharpness=float(-blur[label] - label),
                verdict="manipulated" if accused[label] else "no_evidence",
                decision_s=float(2 + score[label] ** 2),
            )
            videos += [replace(one, file=f"{number}-{label}-{copy}") for copy in range(each)]
    return videos


def _intervals(found: Evaluation) -> dict[str, Estimate]:
    plain = {field.name: getattr(found, field.name) for field in fields(found)}
    single = {name: value for name, value in plain.items() if isinstance(value, Estimate)}
    return single | {f"TPR at {fpr}": one for fpr, one in found.tpr_at_fpr.items()}


def test_every_number_has_an_interval_that_holds_it_and_counts_people() -> None:
    """Five copies of a video are one vote: every interval is as wide as that of one copy, where counted videos would make it narrower."""
    once, five = _intervals(summarise(_crowd())), _intervals(summarise(_crowd(each=5)))
    certain = {name for name, one in once.items() if one.low == one.high or math.isnan(one.low)}
    assert certain == {"coverage", "TPR at 0.01"}, "9 of 10 s of each video; 40 reals do not resolve 1 %"
    for name in once.keys() - certain:
        a, b = once[name], five[name]
        assert a.low <= a.value <= a.high, name
        if name in ("calibration_error", "area_under_risk_coverage"):
            continue  # what is cut into bins, or summed up in order, cuts copies apart
        assert b.value == pytest.approx(a.value), name
        assert (b.low, b.high) == pytest.approx((a.low, a.high), rel=0.02, abs=0.01), name
    assert once["coverage"].value == pytest.approx(0.9)


def test_what_the_detector_sees_beyond_blur_is_drawn_on_the_same_people() -> None:
    seeing, blurred = summarise(_crowd(people=120)), summarise(_crowd(people=120, blurred=True))
    same = blurred.above_control
    assert same.low == same.value == same.high == 0, "one and the same ranking, in every draw"
    assert blurred.methods[0].above_control == blurred.macro_above_control == same
    assert seeing.above_control.value == pytest.approx(seeing.auc.value - seeing.control_auc.value)
    assert seeing.above_control.low <= seeing.above_control.value <= seeing.above_control.high


def test_a_decision_falls_when_the_running_mean_has_crossed_for_good() -> None:
    rows = [Score(1, i * 100, Fraction(1, 100), None, (0, 0, 1, 1), float(v), 0.5, None) for i, v in enumerate((5, -9, 8, 8, 8))]
    logits = {1: np.array([row.logit for row in rows], dtype=np.float64)}
    assert _decided(rows, logits, 1.5) == 3.0
    assert _decided(rows, logits, 50.0) is None


def test_numbers_at_the_shipped_threshold_by_hand() -> None:
    # Two of three fakes and one of two reals are called manipulated; one real is undecided. 9 of 10 s of each are judged.
    verdicts = (("manipulated", 1), ("manipulated", 1), ("no_evidence", 1), ("manipulated", 0), ("inconclusive", 0))
    videos = [replace(PLAIN, file=f"{i}", group=f"{i}", label=label, verdict=name) for i, (name, label) in enumerate(verdicts)]
    found = summarise(videos)
    assert found.true_positive_rate.value == pytest.approx(2 / 3) and found.false_positive_rate.value == 0.5
    assert found.balanced_accuracy.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.coverage.value == pytest.approx(0.9) and found.abstained.value == pytest.approx(1 / 5)
    assert found.false_positives_per_hour.value == pytest.approx(3600 / 18)
    assert found.brier.value == pytest.approx(0.25) and found.negative_log_likelihood.value == pytest.approx(math.log(2)), (
        "log-odds 0 claim one half"
    )


def test_the_plain_form_holds_every_number_and_no_nan() -> None:
    plain = summarise(_videos()).as_json()
    assert set(plain) >= {"units", "auc", "problems", "tpr_at_fpr", "methods", "sources", "slices", "reliability", "roc", "scores", "note"}
    assert {one["value"] for one in plain["tpr_at_fpr"].values()} == {None}, "two reals resolve neither"
    unscaled = ("videos", "unjudged", "calibration_error_by_chance")
    assert [name for name, value in plain.items() if isinstance(value, int | float) and name not in unscaled] == [], "each has its interval"
    assert plain["units"]["video"]["n"] == 6 and plain["auc"].keys() == {"value", "low", "high"}
    assert set(plain["roc"]) == {"fpr", "tpr"} and plain["roc"]["tpr"][-1] == 1.0
    json.dumps(plain, allow_nan=False)


def test_a_judged_video_knows_what_it_is_and_a_refused_one_why(tmp_path: Path) -> None:
    info = ModelInfo("test", "0", "", 2, "")
    untrained = Model(FaceDetector(), FaceEncoder().eval(), TemporalHead().eval(), Calibrator(), info, torch.device("cpu"))
    good, bad = clips.face_clip(tmp_path / "a.mp4", seconds=1.6, fps=15), tmp_path / "b.mp4"
    bad.write_bytes(b"no video")
    records = [
        Record("a.mp4", good, "video", "validation", "fake", "scene 1", "films", "", "swap", 1),
        Record("b.mp4", bad, "video", "study", "real", "scene 2", "", "", None, 1),
    ]
    heard: list[int] = []
    judged, refused = evaluate(records, untrained, on_video=lambda number, _: heard.append(number)).scores
    assert heard == [1, 2]
    assert (judged.label, judged.method, judged.group, judged.source, judged.tier) == (1, "swap", "scene 1", "films", "validation")
    assert judged.problem is None and judged.logit is not None and len(judged.track_logits) == 1
    assert judged.codec == "h264" and judged.width > 0 and judged.fps == pytest.approx(15, abs=0.5)
    assert judged.face_px is not None and judged.face_px >= 80 and judged.luma is not None and 28 < judged.luma < 230
    assert judged.track_logits[0] == pytest.approx(np.mean(judged.frame_logits))
    assert judged.logit == pytest.approx(max(judged.track_logits), abs=1e-6), "a video is its strongest face"
    assert 0 < judged.judged_s <= judged.duration_s
    assert refused.verdict == "refused" and refused.problem and refused.logit is None and refused.source == "study"
