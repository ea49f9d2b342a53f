"""The synthetic task is what it says: real and fake differ in nothing but seconds. And its benchmark makes rows, once."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import ks_2samp

from models.temporal import TemporalHead
from pipelines.evaluation.metrics import roc_auc
from tests.benchmarks import bench_seconds
from tests.benchmarks.bench_seconds import ARMS, Point, Settings, errors, least_error_threshold, main, run
from tests.benchmarks.seconds_task import (
    FAKE_TAU_S,
    FRAMES,
    NOISE,
    REAL_TAU_S,
    TESTS,
    Sampling,
    directions,
    ideal_logit,
    make_clips,
    ornstein_uhlenbeck,
    time_constants,
)

TINY = Settings(steps=5, seeds=2, held_out=60)


def test_the_same_seed_gives_the_same_clips_and_half_are_fake() -> None:
    clips, again, others = (make_clips(64, "burst", seed) for seed in (1, 1, 2))
    assert clips.x.shape == (FRAMES, 64, 16) and clips.dt.shape == (FRAMES, 64, 1)
    assert torch.equal(clips.x, again.x) and torch.equal(clips.dt, again.dt)
    assert not torch.equal(clips.x, others.x)
    assert float(clips.fake.sum()) == 32


def test_w_has_orthonormal_columns() -> None:
    torch.testing.assert_close(directions().t() @ directions(), torch.eye(6))


@pytest.mark.parametrize("sampling", ["narrow", "fps5"])
def test_a_single_frame_says_nothing(sampling: Sampling) -> None:
    """Variance of every component 1 (id) + what W gives + noise; real and fake from one distribution at the first and the last frame."""
    clips = make_clips(8000, sampling, 3)
    fake = clips.fake > 0
    expected = 1.0 + directions().square().sum(1) + NOISE**2
    for t in (0, FRAMES - 1):
        for label in (fake, ~fake):
            torch.testing.assert_close(clips.x[t, label].var(0), expected, rtol=0.1, atol=0)
        along = clips.x[t] @ directions()
        assert ks_2samp(along[fake].flatten().numpy(), along[~fake].flatten().numpy()).pvalue > 0.01
    assert roc_auc((clips.x[FRAMES - 1] @ directions()).square().sum(1).numpy(), clips.fake.numpy()) == pytest.approx(0.5, abs=0.02)


def test_processes_forget_by_exp_of_dt_over_tau_however_time_is_cut() -> None:
    generator = torch.Generator().manual_seed(5)
    n = 40_000
    dt = torch.tensor([math.inf, 0.3, 0.05, 0.0, 0.25]).unsqueeze(1).expand(-1, n)
    z = ornstein_uhlenbeck(dt, torch.tensor([0.4, 1.2]).expand(n, 2), generator)
    torch.testing.assert_close(z.var(1), torch.ones(5, 2), atol=0.03, rtol=0)
    assert torch.equal(z[3], z[2])
    for begin, end, seconds in ((0, 1, 0.3), (0, 4, 0.6), (1, 2, 0.05)):
        together = (z[begin] * z[end]).mean(0)
        torch.testing.assert_close(together, torch.exp(-seconds / torch.tensor([0.4, 1.2])), atol=0.02, rtol=0)


def test_two_of_six_processes_of_a_fake_are_fast() -> None:
    tau = time_constants(torch.arange(1000) % 2 == 1, torch.Generator().manual_seed(1))
    fast = tau < REAL_TAU_S[0]
    assert set(fast[1::2].sum(1).tolist()) == {2}
    assert not bool(fast[::2].any())
    assert bool(fast[1::2, :2].all())
    assert float(tau.max()) <= REAL_TAU_S[1] + 1e-6 and float(tau.min()) >= FAKE_TAU_S[0] - 1e-6


@pytest.mark.parametrize(("sampling", "fps"), [("fps60", 60), ("fps30", 30), ("fps15", 15), ("fps10", 10), ("fps5", 5)])
def test_a_rate_is_that_rate_with_a_fifth_of_jitter(sampling: Sampling, fps: int) -> None:
    dt = make_clips(500, sampling, 1).dt[1:]
    assert float(dt.min()) >= 0.799 / fps and float(dt.max()) <= 1.201 / fps
    assert float(dt.mean()) == pytest.approx(1 / fps, rel=0.01)


def test_half_of_the_frames_are_dropped() -> None:
    dt = make_clips(500, "drop50", 1).dt[1:]
    assert float(dt.mean()) == pytest.approx(2 / 30, rel=0.03)
    assert float((dt < 1.2 / 30).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_bursts_are_groups_with_gaps_between() -> None:
    dt = make_clips(500, "burst", 1).dt[1:, :, 0]
    gap = dt >= 0.1
    assert bool(((dt >= 0.005) & (dt <= 0.015) | gap & (dt <= 1.0)).all())
    for clip in range(50):
        ends = gap[:, clip].nonzero().flatten()
        sizes = ends.diff()
        assert int(ends[0]) + 1 in range(2, 7)
        assert set(sizes.tolist()) <= set(range(2, 7))
    assert float(dt[gap].mean()) == pytest.approx(0.55, abs=0.02)


def test_narrow_training_never_shows_a_rate_of_the_tests() -> None:
    plain = make_clips(2000, "narrow", 1, short_dt=False).dt[1:]
    assert float(plain.min()) > 0.8 / 30 - 1e-4
    assert float((plain > 1.2 / 20).float().mean()) < 0.05  # what a dropped frame leaves
    assert float(plain.mean()) == pytest.approx(math.log(1.5) / 10 / 0.95, rel=0.01)
    dt = make_clips(2000, "narrow", 1).dt[1:, :, 0]
    short = dt <= 0.012
    assert not bool(((dt > 0.0121) & (dt < 0.0266)).any())  # where 60 fps would be
    assert float(short.any(0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert 0.2 < float(short[:, short.any(0)].float().mean()) < 0.35


def test_wide_training_shows_them_all() -> None:
    dt = make_clips(2000, "wide", 1, short_dt=False).dt[1:, :, 0]
    bursts = (dt < 0.8 / 60 - 1e-4).any(0)
    assert float(bursts.float().mean()) == pytest.approx(0.25, abs=0.03)
    rates = 1 / dt[:, ~bursts].min(0).values
    assert float(rates.min()) < 7 and float(rates.max()) > 55


def test_bayes_rule_beats_chance_by_far_and_is_calibrated() -> None:
    clips = make_clips(400, "fps15", 1)
    probability = ideal_logit(clips).sigmoid()
    wrong = ((probability > 0.5) != (clips.fake > 0)).double().mean()
    assert float(wrong) < 0.06
    assert float(wrong) == pytest.approx(float(torch.minimum(probability, 1 - probability).mean()), abs=0.03)


def test_the_threshold_is_where_both_errors_are_least() -> None:
    logits, fake = torch.tensor([-2.0, -1.0, 0.5, 0.0, 1.0, 3.0]), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    threshold = least_error_threshold(logits, fake)
    assert threshold in (-0.5, 0.75)
    got = errors(logits, fake, 0.75)
    assert got == pytest.approx({"balanced_error": 1 / 6, "fpr": 0.0, "fnr": 1 / 3, "auc": 8 / 9})


@pytest.mark.parametrize("arm", ARMS)
def test_arms_are_of_one_size(arm: str) -> None:
    parameters = sum(p.numel() for p in ARMS[arm]().parameters() if p.requires_grad)
    assert parameters == pytest.approx(16_985, rel=0.1)


def test_a_run_makes_rows_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seconds.json"
    grid = (Point(4e-3, 0.0), Point(1e-3, 0.0))
    arms = ("liquid", "liquid blind to dt")
    rows = run(arms, TINY, out, grid)
    assert [row["arm"] for row in rows] == ["ideal", *arms]
    for row in rows[1:]:
        assert (row["regime"], row["seeds"], row["steps"], row["parameters"]) == ("narrow", 2, 5, 16_985)
        assert Point(row["lr"], row["weight_decay"]) in grid
        for sampling in ("narrow", *TESTS):
            assert set(row[sampling]) == {"balanced_error", "fpr", "fnr", "auc"}
            assert all(0 <= number["mean"] <= 1 and number["sd"] >= 0 for number in row[sampling].values())
    assert "min to go" in capsys.readouterr().err
    held = json.loads(out.read_text("utf-8"))
    lost = next(key for key in held if "| liquid | seed 2" in key)
    out.write_text(json.dumps({key: value for key, value in held.items() if key != lost}), "utf-8")
    trained: list[int] = []
    whole = bench_seconds.train

    def counted(arm: str, point: Point, seed: int, settings: Settings) -> bench_seconds.AnyHead:
        trained.append(seed)
        return whole(arm, point, seed, settings)

    monkeypatch.setattr(bench_seconds, "train", counted)
    assert run(arms, TINY, out, grid) == rows
    assert trained == [2]
    trained.clear()
    monkeypatch.setitem(ARMS, "liquid", lambda: TemporalHead(16, 8))
    run(arms, TINY, out, grid)
    assert trained == [0, 0, 1, 2]  # another net, and only that


def test_the_command_asks_before_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seconds.json"
    out.write_text("{}", "utf-8")
    with pytest.raises(SystemExit):
        main(["--out", str(out)])
    assert "add --resume to go on with it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--out", str(out), "--resume", "--arms", "liquid,solid"])
    assert "got solid" in capsys.readouterr().err
