"""Comparison heads: each the best of as many trainings as the liquid head has, and on disk as tensors; what is none is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.calibration import Calibrator
from models.heads import Head
from models.temporal import TemporalHead
from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.evaluation.baselines import (
    BASELINES,
    RATES,
    Trained,
    load_baselines,
    save_baselines,
    scorers,
    train_baselines,
)
from pipelines.evaluation.metrics import roc_auc
from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import TemporalRecipe, clip_logits

E = 16


def _pairs(n: int, seed: int) -> list[Sequence]:
    """Faces that wander; a fake wanders three times as fast."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        for label in (0, 1):
            t = np.cumsum(rng.uniform(1 / 30, 1 / 20, 40))
            x = np.cumsum(rng.normal(size=(40, E)) * (0.3 if label else 0.1), axis=0) + rng.normal(size=E)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            still = np.zeros(40, np.float32)
            found.append(Sequence(f"p{i}", label, "drift" if label else "real", t, x.astype(np.float32), still, still + label))
    return found


RECIPE = TemporalRecipe(steps=8, batch=8, validate_every=8, seed=3, seeds=4)


@pytest.fixture(scope="module")
def trained() -> list[Trained]:
    return train_baselines(_pairs(10, 0), _pairs(6, 1), RECIPE)


def test_an_arm_is_the_best_of_as_many_trainings_as_the_liquid_head_has(trained: list[Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.name for one in trained] == list(BASELINES)
    tried: list[tuple[float, int]] = []

    def noted(head: Head, train: list[Sequence], holdout: list[Sequence], recipe: TemporalRecipe) -> tuple[Head, float]:
        tried.append((recipe.learning_rate, recipe.seed))
        return head, 0.7 if tried[-1] == (RATES[1], 3) else 0.6

    monkeypatch.setattr("pipelines.evaluation.baselines.train_head", noted)
    found = train_baselines(_pairs(2, 0), _pairs(2, 1), RECIPE)
    assert tried == [(rate, seed) for _ in BASELINES for rate in RATES for seed in (3, 4)], "four, as the recipe's seeds are four"
    assert {(one.learning_rate, one.seed) for one in found} == {(RATES[1], 3)}


def test_the_held_out_number_is_that_of_the_weights_that_were_kept(trained: list[Trained]) -> None:
    held = _pairs(6, 1)
    for one in trained:
        assert one.holdout_auc == pytest.approx(roc_auc(clip_logits(one.head, held), [clip.label for clip in held]))


def test_heads_come_back_bit_by_bit_with_what_is_known_of_them(trained: list[Trained], tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_baselines(path, trained)
    assert [file.name for file in tmp_path.iterdir()] == ["b.safetensors"]
    for one, back in zip(trained, load_baselines(path), strict=True):
        assert (one.name, one.seed, one.learning_rate, one.holdout_auc) == (back.name, back.seed, back.learning_rate, back.holdout_auc)
        assert one.parameters == back.parameters and not any(p.requires_grad for p in back.head.parameters())
        for key, tensor in one.head.state_dict().items():
            assert torch.equal(tensor, back.head.state_dict()[key])


def test_what_holds_no_heads_is_refused_by_name(trained: list[Trained], tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    with pytest.raises(SourceNotFound, match="comparison heads"):
        load_baselines(path)
    for data in (b"", b"no tensors", safetensors.torch.save({"a": torch.zeros(1)})):
        path.write_bytes(data)
        with pytest.raises(UnsupportedMedia, match="holds no comparison heads"):
            load_baselines(path)
    save_baselines(path, trained)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnsupportedMedia, match="holds no comparison heads"):
        load_baselines(path)
    torch.save({"GRU": {}}, path)
    with pytest.raises(UnsupportedMedia, match="holds no comparison heads"):
        load_baselines(path)


def test_every_arm_scores_by_its_own_head_and_heads_of_another_eye_are_refused(trained: list[Trained]) -> None:
    arms = scorers(TemporalHead(inputs=E), Calibrator(), trained)
    clips = _pairs(3, 2)
    for one in trained:
        np.testing.assert_allclose(arms[one.name](clips), clip_logits(one.head, clips), atol=1e-5)
    with pytest.raises(UnsupportedMedia, match="embeddings of 8"):
        scorers(TemporalHead(inputs=8), Calibrator(), trained)
