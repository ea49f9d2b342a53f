"""What the pictures over media time share: colours, lanes, lines that break at gaps, and the PNG itself. Used by `plot.py` and its like."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

# Okabe and Ito's palette, which the colour-blind tell apart; reds and greens never carry the meaning alone.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK: Final = "#22313f"
QUIET: Final = "#8a97a3"
JUDGED: Final = "#0072B2"
MISSING: Final = "#e3e8ec"
HATCH: Final = "#b7c1c9"
SUSPICIOUS: Final = "#D55E00"
DASHED: Final = (0, (5, 4))
# A line is drawn between two moments of a face only if they are this close; longer is a gap, and a gap is shown.
BREAK_S: Final = 1.0
NORMAL_SURPRISE: Final = "1: what real faces do"


def new_figure(height: float) -> matplotlib.figure.Figure:
    """An empty page 11 inches wide. No pyplot: it keeps every figure, and the service draws for days."""
    return matplotlib.figure.Figure(figsize=(11, height), dpi=120, layout="constrained", facecolor="white")


def png(figure: matplotlib.figure.Figure) -> bytes:
    """The figure as a file."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def broken(times: Iterable[float], values: Iterable[float | None]) -> tuple[list[float], list[float]]:
    """x and y with NaN where the face was not judged or not seen for BREAK_S."""
    xs: list[float] = []
    ys: list[float] = []
    for time, value in zip(times, values, strict=True):
        if xs and time - xs[-1] > BREAK_S:
            xs.append(time)
            ys.append(float("nan"))
        xs.append(time)
        ys.append(float("nan") if value is None else value)
    return xs, ys


def scale_surprise(axes: Axes, top: float) -> None:
    """From 0 to above `top`, straight up to 1 and logarithmic from there, with the line of what real faces do."""
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(0, max(4.0, 1.2 * top))
    axes.yaxis.set_major_locator(FixedLocator([0, 1, 3, 10, 30, 100, 1000]))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    axes.minorticks_off()
    axes.axhline(1.0, color=INK, lw=1, ls=DASHED)
    note(axes, NORMAL_SURPRISE, 1.0, right=False)
    lane(axes, "surprise")


def note(axes: Axes, text: str, y: float, *, right: bool) -> None:
    """A word on a horizontal line, at one end of it."""
    halo(
        axes.annotate(
            text,
            (1 if right else 0, y),
            xycoords=("axes fraction", "data"),
            xytext=(-4 if right else 4, 3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            color=INK,
        )
    )


def halo(text: Text) -> None:
    """A white edge, so that a word on a line can be read."""
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def lane(axes: Axes, name: str) -> None:
    """Name it, and leave of its frame only what carries numbers."""
    axes.set_ylabel(name, color=INK, fontsize=9)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis="x", color="#eef1f4", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c8d0d6")
