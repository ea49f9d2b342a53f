"""Numbers with their intervals, one under the other: plain JSON in, a PNG with a dot and a bar each out. Used by `evaluation_report.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from service.evaluation_plots import known, label
from service.plot_style import DASHED, INK, JUDGED, QUIET, SUSPICIOUS, lane, new_figure, png

Json = dict[str, Any]
Row = tuple[str, Json]
"""A name and an estimate: value, low, high."""
COLUMNS: Final = 3


def forest_png(panels: Mapping[str, Sequence[Row]], *, axis: str, none: float, aim: float | None = None, log: bool = False) -> bytes | None:
    """A panel for each name. The line at `none` is no difference; an interval that is clear of it is drawn strong. Dashed: the `aim`.

    None where there is no number.
    """
    shown = {name: kept for name, rows in panels.items() if (kept := [row for row in rows if known(row[1].get("value")) is not None])}
    if not shown:
        return None
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    most = max(len(rows) for rows in shown.values())
    figure = new_figure(0.5 + lines * (0.65 + 0.24 * most))
    grid = figure.subplots(lines, columns, sharex=True, squeeze=False)
    for axes, (name, rows) in zip(grid.flat, shown.items(), strict=False):
        _panel(axes, name, rows, none=none, aim=aim)
        if log:
            axes.set_xscale("log")
            # A ratio of 0.3 reads better than 3 x 10^-1.
            axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
            axes.minorticks_off()
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(axis, color=INK, fontsize=9)
    return png(figure)


def _panel(axes: Axes, name: str, rows: Sequence[Row], *, none: float, aim: float | None) -> None:
    axes.axvline(none, color=QUIET, lw=1)
    if aim is not None:
        axes.axvline(aim, color=SUSPICIOUS, lw=1, ls=DASHED)
    for y, (_, estimate) in enumerate(rows):
        value, low, high = (known(estimate.get(end)) for end in ("value", "low", "high"))
        if low is not None and high is not None:
            clear = low > none or high < none
            axes.plot([low, high], [y, y], color=JUDGED, lw=3 if clear else 1.2, alpha=0.9 if clear else 0.6, solid_capstyle="butt")
        if value is not None:
            axes.plot([value], [y], "o", color=JUDGED, ms=5)
    lane(axes, "")
    axes.set_yticks(range(len(rows)), [label(row[0]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(label(name), fontsize=9, color=INK, loc="left")
