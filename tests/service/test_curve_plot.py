"""The picture of a training shows the interval of what it draws, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

from pipelines.evaluation.learning_curve import CurvePoint
from pipelines.evaluation.metrics import Estimate
from service.curve_plot import curve_png

POINTS = [
    CurvePoint(10_000 * n, 112, 0.8, 0.9, Estimate(0.7, 0.6, 0.8), Estimate(0.65, 0.55, 0.75), {"swap": 0.6, "reenacted": 0.7}, 0.6)
    for n in (1, 2, 3)
]


def test_the_band_is_the_interval_of_the_line_that_it_surrounds() -> None:
    drawn = curve_png(POINTS)
    assert curve_png(POINTS) == drawn
    narrower = [replace(point, macro_auc=Estimate(0.65, 0.63, 0.67)) for point in POINTS]
    assert curve_png(narrower) != drawn, "the mean over makes is the line, so its interval is the band"
    others = [replace(point, auc=Estimate(0.7, 0.69, 0.71)) for point in POINTS]
    assert curve_png(others) == drawn, "the AUC of all fakes in one is no line here, so its interval is no band"
