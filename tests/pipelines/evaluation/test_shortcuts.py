"""The shortcut audit finds a shortcut where there is one, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.calibration import Calibrator
from models.encoder import EncoderOutput, FaceEncoder
from models.face_detector import FaceDetector
from models.temporal import TemporalHead
from pipelines.errors import PipelineError
from pipelines.evaluation.shortcuts import _between, _probe, audit_shortcuts
from pipelines.model import Model
from pipelines.verdict import ModelInfo
from tests.pipelines.training.portrait import portrait


class _SharpnessDetector(FaceEncoder):
    """An eye that takes detail for a fake, and nothing else."""

    def forward(self, crops: torch.Tensor) -> EncoderOutput:
        seen = super().forward(crops)
        residual = self.high_pass((crops.float() - 127.5) / 127.5).abs().mean((1, 2, 3))
        return seen._replace(logit=80 * residual - 8)


def _model(encoder: FaceEncoder) -> Model:
    torch.manual_seed(0)
    calibrator = Calibrator()
    calibrator.weight.copy_(torch.tensor([1.0, 0.0, 0.0]))
    info = ModelInfo("test", "0", "", 2, "")
    return Model(FaceDetector(), encoder.eval(), TemporalHead().eval(), calibrator, info, torch.device("cpu"))


def test_a_score_that_follows_detail_is_found_out() -> None:
    people = [replace(portrait(f"p{i}", frames=16), source=f"s{i % 2}") for i in range(3)]
    found = audit_shortcuts(_model(_SharpnessDetector()), people)
    rows = {row.name: row for row in found.rows}
    assert rows["size"].moved > 0.1, "a smaller picture has less detail"
    assert list(rows["size"].logit) == sorted(rows["size"].logit, reverse=True)
    assert rows["rate"].moved < 0.02, "a lower rate has not"
    assert found.clips == 3 and found.as_json()["rows"][0]["separates"].keys() == {"value", "low", "high"}


def test_a_probe_reads_what_is_there_and_not_what_is_not() -> None:
    rng = np.random.default_rng(0)
    people = np.array([f"p{i // 2}" for i in range(60)])
    told = rng.normal(size=(3, 60, 8)).astype(np.float32)
    blind = told.copy()
    told[:, :, 0] += 6 * np.arange(3)[:, None]
    assert min(_probe(told, told, people)) > 0.95
    assert max(_probe(blind, blind, people)) < 0.5


def test_sources_that_say_nothing_have_no_share() -> None:
    rng = np.random.default_rng(0)
    group = np.array([f"s{i % 6}" for i in range(60)])
    value = rng.normal(size=60)
    assert abs(_between(value, group)) < 0.15
    assert _between(value + 5 * (group == "s1"), group) > 0.6


def test_stills_are_left_out() -> None:
    with pytest.raises(PipelineError, match="two people"):
        audit_shortcuts(_model(FaceEncoder()), [portrait("still", frames=1)])
