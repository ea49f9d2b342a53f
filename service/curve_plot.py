"""The picture of a training: CurvePoints in, a PNG over the pairs seen out. Used by `undercurrent train curve`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pipelines.evaluation.learning_curve import CurvePoint
from service.plot_style import COLOURS, DASHED, INK, QUIET, SUSPICIOUS, new_figure, png


def curve_png(points: Sequence[CurvePoint]) -> bytes:
    """Two panels: how pseudo-fakes of held-out people and genuine deepfakes were told over the training, and each make by itself."""
    figure = new_figure(5.2)
    both, makes = figure.subplots(1, 2, sharex=True)
    pairs = [point.pairs / 1000 for point in points]
    both.plot(
        pairs, [point.holdout_pair_accuracy for point in points], color=QUIET, ls=DASHED, label="a pseudo-fake above its own original"
    )
    both.plot(pairs, [point.holdout_auc for point in points], color=COLOURS[0], label="pseudo-fakes of held-out people, single pictures")
    macro = [point.macro_auc for point in points]
    both.plot(
        pairs, [one.value for one in macro], color=SUSPICIOUS, marker="o", ms=3, label="genuine deepfakes, mean over makes; band: its 95 %"
    )
    both.fill_between(pairs, [one.low for one in macro], [one.high for one in macro], color=SUSPICIOUS, alpha=0.12, lw=0)
    both.axhline(points[0].control, color=INK, lw=1, ls=DASHED, label="control: minus sharpness, mean over makes")
    for number, make in enumerate(sorted(points[0].by_method)):
        makes.plot(
            pairs,
            [point.by_method[make] for point in points],
            color=COLOURS[number % len(COLOURS)],
            marker="os^"[number // len(COLOURS)],
            ms=3,
            label=make,
        )
    for axes in (both, makes):
        axes.axhline(0.5, color=QUIET, lw=0.8)
        axes.set_ylim(0.3, 1)
        axes.set_xlabel("thousand pairs of pictures seen", color=INK)
        axes.legend(fontsize=7, frameon=False, loc="lower right")
        for grown in (a.pairs / 1000 for a, b in pairwise(points) if a.crop_px != b.crop_px):
            axes.axvline(grown, color=QUIET, lw=0.8, ls=DASHED)
    both.set_ylabel("AUC", color=INK)
    figure.suptitle(
        "Never choose a snapshot by the right panel: it says whether more training would help, and no more", fontsize=9, color=QUIET
    )
    return png(figure)
