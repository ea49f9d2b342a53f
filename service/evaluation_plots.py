"""The pictures of an evaluation: its plain JSON in, PNG files out. Used by `evaluation_report.py`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from service.plot_style import COLOURS, DASHED, INK, JUDGED, MISSING, QUIET, SUSPICIOUS, halo, lane, new_figure, note, png

Json = dict[str, Any]
MEASURED: Final = {
    "auc": "AUC",
    "fpr": "reals called\nmanipulated",
    "drift": "drift",
    "unjudged": "share of videos\nnot judged",
}
AS_IT_IS: Final = "as it is"
COLUMNS: Final = 4
BANDS_AT_MOST: Final = 2
LABEL_AT_MOST: Final = 26
Z: Final = 1.96


def known(value: object) -> float | None:
    """A finite number, or None: neither null nor NaN is drawn or printed."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def label(text: object) -> str:
    """Anybody's name as a word on a picture: no formula, no line break, no glyph that the font lacks, and not long."""
    word = "".join(one if one.isprintable() and _drawn(one) else "?" for one in str(text))
    word = word if len(word) <= LABEL_AT_MOST else word[: LABEL_AT_MOST - 1] + "…"
    # A legend leaves out what begins with an underscore.
    return (f" {word}" if word.startswith("_") else word).replace("$", r"\$")


@cache
def _drawn(one: str) -> bool:
    return bool(get_font(findfont(FontProperties())).get_char_index(ord(one)))


def threshold_between(scores: list[Json]) -> tuple[float, float] | None:
    """Log-odds between which the threshold lies: the highest that was let pass and the lowest that was accused.

    None where the verdicts do not tell: nobody was accused or let pass, or they were not decided by this score alone.
    """
    judged = [(value, score["verdict"]) for score in scores if (value := known(score["logit"])) is not None]
    passed = max((value for value, verdict in judged if verdict == "no_evidence"), default=None)
    accused = min((value for value, verdict in judged if verdict == "manipulated"), default=None)
    return (passed, accused) if passed is not None and accused is not None and passed <= accused else None


def curves_png(found: Json) -> bytes:
    """ROC, and the same where it matters: few false positives, on a logarithmic axis. The shipped threshold is a cross."""
    figure = new_figure(4.2)
    roc, few = figure.subplots(1, 2)
    fpr, tpr = np.array(found["roc"]["fpr"], dtype=float), np.array(found["roc"]["tpr"], dtype=float)
    reals = sum(not score["label"] for score in found["scores"])
    least = 1 / max(reals, 2)
    left = min(least, 0.01) / 2
    roc.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=DASHED, label="guessing")
    guessed = np.geomspace(left, 1, 100)
    few.plot(guessed, guessed, color=QUIET, lw=1, ls=DASHED)
    roc.step(fpr, tpr, where="post", color=COLOURS[0], lw=1.6, label="detector")
    few.step(np.maximum(fpr, left), tpr, where="post", color=COLOURS[0], lw=1.6)
    for axes in (roc, few):
        _operating_point(axes, found, left if axes is few else 0.0)
        axes.set_ylim(-0.02, 1.02)
        lane(axes, "share of fakes found")
    roc.set_xlim(-0.02, 1.02)
    roc.set_xlabel("share of real videos called fake", color=INK, fontsize=9)
    roc.legend(fontsize=8, frameon=False, loc="lower right")
    few.set_xscale("log")
    few.set_xlim(left, 1)
    few.xaxis.set_major_formatter(lambda value, _position: f"{100 * value:g} %")
    few.set_xlabel("the same, logarithmic", color=INK, fontsize=9)
    few.axvspan(left, least, color=MISSING, lw=0, zorder=0)
    few.set_title(f"grey: below 1 of {reals} real videos, nothing can be resolved", fontsize=8, color=INK, loc="left")
    return png(figure)


def _operating_point(axes: Axes, found: Json, floor: float) -> None:
    """The shipped threshold with the intervals of both of its rates, where they are known."""
    rates = [found[name] or {} for name in ("false_positive_rate", "true_positive_rate")]
    at = [known(rate.get("value")) for rate in rates]
    if at[0] is None or at[1] is None:
        return
    x, y = max(at[0], floor), at[1]
    ends = [(known(rate.get("low")), known(rate.get("high"))) for rate in rates]
    for along, (low, high) in enumerate(ends):
        if low is not None and high is not None:
            span = [max(low, floor), max(high, floor)] if along == 0 else [low, high]
            axes.plot(*((span, [y, y]) if along == 0 else ([x, x], span)), color=SUSPICIOUS, lw=1.4)
    axes.plot([x], [y], "D", ms=5, color=SUSPICIOUS, label="shipped threshold, 95 %", clip_on=False)


def reliability_png(bins: list[Json]) -> bytes:
    """What was claimed against what was so, each bin with its count and Wilson interval, over a histogram of the counts."""
    figure = new_figure(4.6)
    sure, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    sure.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=DASHED, label="what was claimed is so")
    for one in bins:
        low, high = _wilson(one["observed"], one["videos"])
        sure.plot([one["claimed"]] * 2, [low, high], color=JUDGED, lw=1.2, alpha=0.6)
    claimed = [one["claimed"] for one in bins]
    sure.plot(claimed, [one["observed"] for one in bins], "o", color=JUDGED, ms=6, label="videos given about this probability, 95 %")
    sure.set_xlim(-0.02, 1.02)
    sure.set_ylim(-0.04, 1.04)
    lane(sure, "share that were fakes")
    sure.legend(fontsize=8, frameon=False, loc="upper left")
    counts.vlines(claimed, 0, [one["videos"] for one in bins], color=JUDGED, lw=5)
    counts.set_ylim(0, 1.5 * max(max(one["videos"] for one in bins), 1))
    # Neighbours share one number's room; a number that would lie on another is left to the axis.
    last = -1.0
    for one in sorted(bins, key=lambda one: one["claimed"]):
        if one["claimed"] - last > 0.02:
            counts.annotate(
                str(one["videos"]), (one["claimed"], one["videos"]), (0, 2), textcoords="offset points", ha="center", fontsize=8
            )
            last = one["claimed"]
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    lane(counts, "videos")
    counts.set_xlabel("probability of manipulation that was claimed", color=INK, fontsize=9)
    return png(figure)


def _wilson(share: float, count: int) -> tuple[float, float]:
    if count < 1:
        return 0.0, 1.0
    middle, spread = share + Z**2 / (2 * count), Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, (middle - spread) / (1 + Z**2 / count)), min(1.0, (middle + spread) / (1 + Z**2 / count))


def scores_png(scores: list[Json]) -> bytes:
    """A dot a video: the reals on top, below them the fakes of each make, with the median and the threshold."""
    judged = [score for score in scores if known(score["logit"]) is not None]
    makes = sorted({str(score["method"]) for score in judged if score["label"]})
    rows = [("real videos", [one["logit"] for one in judged if not one["label"]])]
    rows += [(make, [one["logit"] for one in judged if one["label"] and str(one["method"]) == make]) for make in makes]
    figure = new_figure(1.3 + 0.5 * max(len(rows), 2))
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for y, (_name, logits) in enumerate(rows):
        marker, colour = ("o", JUDGED) if y == 0 else ("^", SUSPICIOUS)
        axes.plot(logits, y + rng.uniform(-0.22, 0.22, len(logits)), marker, ms=4.5, color=colour, alpha=0.6, mew=0)
        if logits:
            axes.plot([np.median(logits)] * 2, [y - 0.34, y + 0.34], color=INK, lw=2)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    if (between := threshold_between(scores)) is not None:
        axes.axvspan(*between, color=MISSING, lw=0, zorder=0)
        axes.axvline(sum(between) / 2, color=INK, lw=1, ls=DASHED, zorder=1)
        halo(
            axes.annotate(
                "called manipulated →",
                (sum(between) / 2, 1),
                (4, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )
        )
    lane(axes, "")
    axes.set_yticks(range(len(rows)), [f"{label(name)} ({len(logits)})" for name, logits in rows])
    axes.set_xlabel("log-odds of manipulation, 0 is even; tick: median", color=INK, fontsize=9)
    return png(figure)


def sweep_png(rows: list[Json], measured: str) -> bytes | None:
    """A panel a condition, a line an arm with its band over the levels, dashed what the arm did on the files as they are.

    None where the sweep did not measure it at all.
    """
    if not any(_point(row, measured)[0] is not None for row in rows):
        return None
    arms = list(dict.fromkeys(str(row.get("arm") or "") for row in rows))
    conditions = [name for name in dict.fromkeys(str(row["condition"]) for row in rows) if name != AS_IT_IS] or [AS_IT_IS]
    columns = min(COLUMNS, len(conditions))
    lines = math.ceil(len(conditions) / columns)
    figure = new_figure(0.7 + 1.75 * lines + 0.2 * math.ceil(len(arms) / 4))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for number, axes in enumerate(panels.flat):
        if number >= len(conditions):
            axes.set_visible(False)
            continue
        own = [row for row in rows if str(row["condition"]) == conditions[number]]
        levels = list(dict.fromkeys(str(row["level"]) for row in own))
        for place, arm in enumerate(arms):
            _arm(axes, rows, own, levels, measured, arm, place, len(arms))
        axes.set_xticks(range(len(levels)), [label(level) for level in levels])
        axes.set_xlim(-0.4, len(levels) - 0.6)
        axes.set_title(label(conditions[number]), fontsize=9, color=INK, loc="left")
        lane(axes, MEASURED[measured] if number % columns == 0 else "")
    _scale(panels[0, 0], rows, measured)
    for axes in panels.flat[: len(conditions)]:
        if measured == "auc":
            axes.axhline(0.5, color=QUIET, lw=0.8)
    if measured == "auc":
        note(panels[0, 0], "guessing", 0.5, right=False)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, frameon=False, ncols=4, loc="outside upper left")
    return png(figure)


def _point(row: Json, measured: str) -> tuple[float | None, float | None, float | None]:
    """Value and interval; a plain number has no interval."""
    value = row.get(measured)
    if isinstance(value, dict):
        return known(value.get("value")), known(value.get("low")), known(value.get("high"))
    return known(value), None, None


def _arm(axes: Axes, rows: list[Json], own: list[Json], levels: list[str], measured: str, arm: str, place: int, arms: int) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], "os^Dv"[place // len(COLOURS) % 5]
    at = {str(row["level"]): _point(row, measured) for row in own if str(row.get("arm") or "") == arm}
    points = [at.get(level, (None, None, None)) for level in levels]
    values, lows, highs = (np.array([math.nan if value is None else value for value in column]) for column in zip(*points, strict=True))
    whole = [row for row in rows if str(row["condition"]) == AS_IT_IS and str(row.get("arm") or "") == arm]
    # More bands and dashes than two hide each other: then the first arm, which is ours, keeps its own.
    shaded = place == 0 or arms <= BANDS_AT_MOST
    if shaded and measured != "drift" and whole and (clean := _point(whole[0], measured)[0]) is not None:
        axes.axhline(clean, color=colour, lw=1, ls=DASHED, label="files as they are" if place == 0 else None)
    axes.plot(range(len(levels)), values, color=colour, marker=marker, ms=4, lw=1.4, label=label(arm) if arm else "detector")
    if shaded and np.isfinite(lows).any():
        axes.fill_between(range(len(levels)), lows, highs, color=colour, alpha=0.16, lw=0, label="95 %" if place == 0 else None)
        # A band needs two neighbours; a lone level has its interval as a line.
        axes.vlines(range(len(levels)), lows, highs, color=colour, lw=0.8, alpha=0.5)


def _scale(axes: Axes, rows: list[Json], measured: str) -> None:
    """From 0, or for AUC from where it may be worse than guessing; all panels share it."""
    ends = [end for row in rows for end in _point(row, measured) if end is not None]
    if measured == "auc":
        axes.set_ylim(min(0.4, min(ends) - 0.02), 1.02)
    else:
        axes.set_ylim(0, 1.15 * max(*ends, 0.02 if measured != "drift" else 0.1))
