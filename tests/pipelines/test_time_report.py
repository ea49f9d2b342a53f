"""A TimeReport says what numpy says of the same stamps, in bounded memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.time_report import MAX_GAPS, TimeKeeper, TimeReport

MS = Fraction(1, 1000)
NONE: dict[str, int] = dict.fromkeys(
    ("duplicates", "no_pts", "backward", "wraps", "epochs", "corrupt", "tainted", "partial", "decode_errors"), 0
)


def _report(pts: list[int], *, fps: float | None = 30.0, base: Fraction = MS, complete: bool = True) -> TimeReport:
    keeper = TimeKeeper(base, fps)
    for i, tick in enumerate(pts):
        keeper.saw(tick, i, gap=i > 0 and tick - pts[i - 1] > 1000)
    return keeper.report(provenance="container", complete=complete, counts=NONE)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=200))
def test_it_agrees_with_numpy(steps: list[int]) -> None:
    pts = [0, *np.cumsum(steps).tolist()]
    report = _report(pts)
    dt = np.diff(pts) / 1000
    assert report.frames == len(pts)
    assert report.span_s == pytest.approx(pts[-1] / 1000)
    assert report.true_fps == pytest.approx(len(dt) / (pts[-1] / 1000))
    assert report.min_dt_s == pytest.approx(dt.min())
    assert report.max_dt_s == pytest.approx(dt.max())
    low, high = np.percentile(dt, 50, method="lower"), np.percentile(dt, 50, method="higher")
    assert report.median_dt_s is not None
    assert low * 0.99 - 1e-9 <= report.median_dt_s <= high * 1.01 + 1e-9
    error = np.abs(np.array(pts) / 1000 - np.arange(len(pts)) / 30.0).max()
    assert report.index_error_s == pytest.approx(error)


@pytest.mark.parametrize("pts", [[round(1000 * i / 30) for i in range(90)], [40 * i for i in range(90)]])
def test_a_steady_rate_is_steady_in_a_coarse_time_base_too(pts: list[int]) -> None:
    report = _report(pts)
    assert (report.variable, report.variability) == (False, 0.0)


def test_one_interval_in_fifty_makes_a_rate_variable() -> None:
    pts = [40 * i + (15 if i % 50 == 0 else 0) for i in range(200)]
    assert _report(pts).variable


def test_the_longest_gaps_are_kept_in_order_and_all_are_counted() -> None:
    steps = [40 if i % 2 else 1001 + i for i in range(100)]
    pts = [0, *np.cumsum(steps).tolist()]
    report = _report(pts)
    assert report.gap_count == 50
    assert len(report.gaps) == MAX_GAPS
    assert list(report.gaps) == sorted(report.gaps)
    assert min(gap.end_s - gap.start_s for gap in report.gaps) == pytest.approx((1001 + 98 - 2 * (MAX_GAPS - 1)) / 1000)


def test_memory_is_bounded_by_the_width_of_the_bins() -> None:
    keeper = TimeKeeper(Fraction(1, 90_000), None)
    pts = 0
    for i in range(20_000):
        pts += 1 + (i * i) % 900_001
        keeper.saw(pts, i, gap=False)
    assert len(keeper._bins) < 1400  # 100 bins for each factor e up to 900,000 ticks


@pytest.mark.parametrize("pts", [[], [7]])
def test_too_few_frames_measure_nothing(pts: list[int]) -> None:
    report = _report(pts)
    assert (report.true_fps, report.median_dt_s, report.max_dt_s, report.variable) == (None, None, None, False)


def test_no_rate_is_claimed_of_key_pictures_alone_or_without_a_nominal_rate() -> None:
    assert _report([0, 40, 80], complete=False).true_fps is None
    assert _report([0, 40, 80], complete=False).index_error_s is None
    assert _report([0, 40, 80], fps=None).index_error_s is None
