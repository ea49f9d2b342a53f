"""Re-timing says what it does and keeps true times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.retiming import CONDITIONS, Condition
from tests.pipelines.evaluation.retimed import sequence, timing


@given(st.sampled_from(CONDITIONS), st.integers(4, 200), st.floats(1.0, 120.0), st.integers(0, 5))
def test_what_is_kept_keeps_its_picture_and_but_for_two_its_time(condition: Condition, size: int, fps: float, seed: int) -> None:
    clip = sequence(size, fps=fps, seed=seed)
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
    clip = sequence(3000)
    assert len(timing("fps", "10").apply(clip).t) == pytest.approx(1000, abs=2)
    assert len(timing("dropped", "75%").apply(clip).t) == pytest.approx(750, abs=80)
    long, short = (np.diff(timing("bursts lost, mean frames", level).apply(clip).t) * 30 - 1 for level in ("15", "5"))
    assert long[long > 0.5].mean() > 2 * short[short > 0.5].mean()
    steady, wild = (np.diff(timing("jitter, cv", level).apply(clip).t) for level in ("0.2", "1.0"))
    assert wild.std() > 1.7 * steady.std()
    again = timing("shown again", "25%").apply(clip)
    assert (np.diff(again.embedding, axis=0) == 0).all(1).mean() == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(again.t, clip.t)
    assert np.diff(timing("wrong timestamps", "10 fps as 25").apply(clip).t) == pytest.approx(0.04)
    assert np.ptp(timing("speed", "x2.0").apply(clip).t) == pytest.approx(np.ptp(clip.t) / 2)


def test_a_real_clip_and_its_fake_lose_the_same_frames() -> None:
    real, fake = sequence(seed=0), sequence(seed=1, label=1)
    for condition in CONDITIONS:
        np.testing.assert_array_equal(condition.apply(real).t, condition.apply(fake).t)
