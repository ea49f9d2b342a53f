"""Comparison heads: trained alike from several seeds, and on disk as tensors that anything but themselves is refused as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.calibration import Calibrator
from models.temporal import TemporalHead
from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.evaluation.baselines import (
    BASELINES,
    LIQUID,
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


@pytest.fixture(scope="module")
def trained() -> list[Trained]:
    recipe = TemporalRecipe(steps=8, batch=8, validate_every=8, seed=3)
    return train_baselines(_pairs(10, 0), _pairs(6, 1), recipe, seeds=2)


def test_every_arm_has_every_seed_at_the_rate_that_the_first_seed_chose(trained: list[Trained]) -> None:
    assert [(one.name, one.seed) for one in trained] == [(name, seed) for name in BASELINES for seed in (3, 4)] + [(LIQUID, 4)]
    for first, second in zip(trained[0:8:2], trained[1:8:2], strict=True):
        assert first.learning_rate == second.learning_rate and first.learning_rate in RATES
        assert not all(torch.equal(a, b) for a, b in zip(first.head.parameters(), second.head.parameters(), strict=True))
    assert all(0 <= one.holdout_auc <= 1 for one in trained)


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


def test_arms_of_further_seeds_are_named_and_heads_of_another_eye_refused(trained: list[Trained]) -> None:
    arms = scorers(TemporalHead(inputs=E), Calibrator(), trained)
    assert {"liquid", "liquid, seed 4", "GRU with dt", "GRU with dt, seed 4"} <= set(arms)
    clips = _pairs(3, 2)
    for one in trained:  # each arm is its own head and not the last of the loop
        name = one.name if one.seed == 3 else f"{one.name}, seed {one.seed}"
        np.testing.assert_allclose(arms[name](clips), clip_logits(one.head, clips), atol=1e-5)
    with pytest.raises(UnsupportedMedia, match="embeddings of 8"):
        scorers(TemporalHead(inputs=8), Calibrator(), trained)
    with pytest.raises(ValueError, match="got 0"):
        train_baselines(clips, clips, TemporalRecipe(steps=1), seeds=0)
