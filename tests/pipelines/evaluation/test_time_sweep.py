"""Re-timing says what it does and keeps true times; heads blind to time drift where those that see it do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibrator
from models.temporal import TemporalHead
from pipelines.errors import SourceNotFound
from pipelines.evaluation.baselines import BASELINES, Trained, load_baselines, save_baselines, scorers, train_baselines
from pipelines.evaluation.retiming import AS_IT_IS, CONDITIONS, Condition
from pipelines.evaluation.time_sweep import sweep_time
from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import TemporalRecipe


def _clip(size: int = 90, *, fps: float = 30.0, seed: int = 0, label: int = 0, kind: str = "real") -> Sequence:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    t = 5.0 + np.arange(size) / fps
    return Sequence(f"p{seed // 2}", label, kind, t, x, rng.normal(size=size).astype(np.float32), np.full(size, label, np.float32))


def _condition(name: str, level: str) -> Condition:
    return next(one for one in CONDITIONS if (one.name, one.level) == (name, level))


@given(st.sampled_from(CONDITIONS), st.integers(4, 200), st.floats(1.0, 120.0), st.integers(0, 5))
def test_what_is_kept_keeps_its_picture_and_but_for_two_its_time(condition: Condition, size: int, fps: float, seed: int) -> None:
    clip = _clip(size, fps=fps, seed=seed)
    seen = condition.apply(clip, seed)
    assert len(seen.t) == len(seen.embedding) == len(seen.artefact) == len(seen.frame_label) >= 4
    assert (np.diff(seen.t) > 0).all()
    own = {row.tobytes() for row in clip.embedding}
    assert all(row.tobytes() in own for row in seen.embedding)
    if condition.name not in ("wrong timestamps", "speed"):
        assert np.isin(seen.t, clip.t).all()
    if condition.name != "shown again":
        at = [int(np.flatnonzero((clip.embedding == row).all(1))[0]) for row in seen.embedding]
        assert at == sorted(at)


def test_levels_do_what_they_say() -> None:
    clip = _clip(3000)
    assert len(_condition("fps", "10").apply(clip).t) == pytest.approx(1000, abs=2)
    assert len(_condition("dropped", "75%").apply(clip).t) == pytest.approx(750, abs=80)
    long, short = (np.diff(_condition("bursts lost, mean frames", level).apply(clip).t) * 30 - 1 for level in ("15", "5"))
    assert long[long > 0.5].mean() > 2 * short[short > 0.5].mean()
    steady, wild = (np.diff(_condition("jitter, cv", level).apply(clip).t) for level in ("0.2", "1.0"))
    assert wild.std() > 1.7 * steady.std()
    again = _condition("shown again", "25%").apply(clip)
    assert (np.diff(again.embedding, axis=0) == 0).all(1).mean() == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(again.t, clip.t)
    assert np.diff(_condition("wrong timestamps", "10 fps as 25").apply(clip).t) == pytest.approx(0.04)
    assert np.ptp(_condition("speed", "x2.0").apply(clip).t) == pytest.approx(np.ptp(clip.t) / 2)


def test_a_real_clip_and_its_fake_lose_the_same_frames() -> None:
    real, fake = _clip(seed=0), _clip(seed=1, label=1)
    for condition in CONDITIONS:
        np.testing.assert_array_equal(condition.apply(real).t, condition.apply(fake).t)


def _paces(n: int, rng: np.random.Generator) -> list[Sequence]:
    """Faces that wander in time, pair by pair; a fake wanders three times as fast. Looked at 20 to 30 times a second."""
    found = []
    for i in range(n):
        for label in (0, 1):
            t = np.cumsum(rng.uniform(1 / 30, 1 / 20, 70))
            steps = rng.normal(size=(70, 16)) * np.sqrt(np.diff(t, prepend=t[0] - 0.04))[:, None] * (0.9 if label else 0.3)
            x = rng.normal(size=16) + np.cumsum(steps, axis=0)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            kind = "drift" if label else "real"
            found.append(Sequence(f"p{i}", label, kind, t, x.astype(np.float32), np.zeros(70, np.float32), np.full(70, label, np.float32)))
    return found


def test_a_head_blind_to_time_does_not_notice_wrong_timestamps_and_the_others_do() -> None:
    torch.manual_seed(0)
    head = TemporalHead(inputs=8)
    trained = [Trained(name, make(8), 0.5, 1e-3) for name, make in BASELINES.items()]
    clips = [_clip(seed=seed, label=seed % 2) for seed in range(4)]
    found = sweep_time(clips, scorers(head, Calibrator(), trained), conditions=(_condition("speed", "x2.0"),), resamples=20)
    drift = {row.arm: row.drift for row in found.rows if row.condition == "speed"}
    assert drift["GRU without dt"] == drift["top tenth of frame logits"] == 0
    assert min(drift[name] for name in ("liquid", "GRU with dt", "LSTM with dt", "CfC")) > 1e-4


def test_baselines_learn_are_saved_and_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trained = train_baselines(_paces(24, rng), _paces(12, rng), TemporalRecipe(steps=30, batch=16, validate_every=15))
    assert [one.name for one in trained] == list(BASELINES)
    assert max(one.holdout_auc for one in trained) > 0.65
    save_baselines(tmp_path / "b.pt", trained)
    clips = _paces(4, rng)
    before, after = (scorers(TemporalHead(inputs=16), Calibrator(), heads) for heads in (trained, load_baselines(tmp_path / "b.pt")))
    for name in BASELINES:
        np.testing.assert_array_equal(before[name](clips), after[name](clips))
    with pytest.raises(SourceNotFound, match="comparison heads"):
        load_baselines(tmp_path / "none.pt")


def test_a_sweep_tells_what_was_lost_and_who_is_better_among_temporal_fakes() -> None:
    clips = [_clip(seed=seed, label=seed % 2, kind="drift" if seed % 2 else "real") for seed in range(12)]
    arms = {
        "none": lambda seen: np.array([float(one.t[-1]) for one in seen]) * 0,
        "oracle": lambda seen: np.array([float(one.label) for one in seen]),
        "count": lambda seen: np.array([float(len(one.t)) for one in seen]) + np.arange(len(seen)),
    }
    found = sweep_time(clips, arms, conditions=(_condition("fps", "15"),), resamples=50)
    assert {(row.arm, row.condition) for row in found.rows} == {(arm, name) for arm in arms for name in (AS_IT_IS.name, "fps")}
    by = {(row.arm, row.condition): row for row in found.rows}
    assert by["oracle", "fps"].auc.value == 1.0 and by["oracle", "fps"].drift == 0
    assert by["count", "fps"].drift > 1, "a score that counts frames drifts"
    best = {(d.arm, d.among): d.auc.value for d in found.differences}
    assert best["oracle", "all"] == best["oracle", "temporal"] == 0.5
    assert found.as_json()["sweep"] == "time"
    with pytest.raises(ValueError, match="0 clips"):
        sweep_time([], arms)
