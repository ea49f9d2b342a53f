"""The picture of a judgement's reasons: one track's Explanation in, a PNG over media seconds out, and the same in words. For `--explain`.

Five lanes, one axis: what each moment said, which moments made the mean of it, how surprising they were, how fast the memory was, and
when there was anything to judge.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from models.explanation import Explanation
from pipelines.verdict import AnalysisReport
from service.plot_style import (
    BREAK_S,
    COLOURS,
    DASHED,
    HATCH,
    INK,
    JUDGED,
    MISSING,
    QUIET,
    SUSPICIOUS,
    broken,
    halo,
    lane,
    new_figure,
    note,
    png,
    scale_surprise,
)

Floats = NDArray[np.float64]

REAL: Final = COLOURS[0]
SURPRISE: Final = COLOURS[2]
COUNTERFACTUAL: Final = COLOURS[3]
TAU_BAND: Final = "#cfe6f5"
LANES_INCH: Final = (2.3, 2.3, 1.6, 1.6, 0.6)
LINE_HEIGHT: Final = 1.55
BARS_AT_MOST: Final = 300
"""More would be thinner than three pixels; then a bar stands for several moments."""
NO_MATTER: Final = 0.005
"""A difference of the logit that its two printed digits do not show."""
NOTHING_JUDGED: Final = "no face was judged"
TAU_TICKS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def explanation_png(
    explanation: Explanation,
    *,
    track: int = 0,
    start_s: float = 0.0,
    surprise_unit: float = 1.0,
    refused_s: Sequence[float] = (),
    heading: str = "",
    remark: str = "",
) -> bytes:
    """Five lanes over the seconds of one track; a plain page that says so where nothing was judged.

    Args:
        explanation: of one track or of many.
        track: which of its columns.
        start_s: media seconds of the track's first judged moment.
        surprise_unit: the surprise of real faces as the head measures it.
        refused_s: media seconds at which the face was seen and not judged.
        heading: what the picture is about.
        remark: what it leaves out.

    Raises:
        ValueError: there is no such track, or `surprise_unit` is not above 0.
    """
    if not surprise_unit > 0.0:
        raise ValueError(f"surprise_unit: expected more than 0, got {surprise_unit:g}")
    seen = _seen(explanation, track, start_s)
    sentences = _sentences(explanation, track, seen, start_s)
    above = " ".join(filter(None, (heading, remark)))
    if len(seen.times) == 0:
        return blank_png(sentences, above)
    figure, grid = _page(sentences, above, LANES_INCH)
    first = figure.add_subplot(grid[0])
    axes = (first, *(figure.add_subplot(grid[i], sharex=first) for i in range(1, 5)))
    logit, ledger, surprise, tau, moments = axes
    window = _window(explanation, track, start_s)
    for one in axes:
        if window is not None:
            _shade(one, window, seen)
    _draw_logit(logit, explanation, track, seen)
    _draw_ledger(ledger, explanation, track, seen)
    _draw_surprise(surprise, seen, surprise_unit)
    _draw_tau(tau, seen)
    _draw_moments(moments, seen, refused_s)
    begin, end = min([seen.times[0], *refused_s]), max([seen.times[-1], *refused_s])
    margin = max(0.012 * (end - begin), 0.05)
    moments.set_xlim(begin - margin, end + margin)
    moments.set_xlabel("media time, seconds", color=INK)
    for one in axes[:-1]:
        one.tick_params(labelbottom=False)
    if window is not None:
        _name_window(logit, window, seen)
    return png(figure)


def explanation_sentence(explanation: Explanation, track: int = 0, *, start_s: float = 0.0) -> str:
    """What the motion of one track says, when it said it, and how much of that is due to the timing, in two or three plain sentences.

    Raises:
        ValueError: there is no such track.
    """
    return " ".join(_sentences(explanation, track, _seen(explanation, track, start_s), start_s))


def explained_png(report: AnalysisReport) -> bytes:
    """The picture of an analysis that was told to explain; a plain page with its verdict where no face was judged."""
    explained = report.explained
    if explained is None:
        return blank_png([report.verdict.sentence])
    second = float(explained.time_base)
    (track,) = (one for one in report.verdict.tracks if one.id == explained.track)
    judged = sum(one.judged > 0 for one in report.verdict.tracks)
    who = f"Face {track.id}" + (f", the most suspicious of {judged} judged" if judged > 1 else "")
    sure = "too briefly visible for a score" if track.score is None else f"probability of manipulation {track.score.p:.0%}"
    kept = int(explained.explanation.outputs.judged.sum())
    left_out = f"Explained are {kept:,} of {track.judged:,} judged moments, up to {explained.last_pts * second:.1f} s; no more were kept."
    return explanation_png(
        explained.explanation,
        start_s=explained.first_pts * second,
        surprise_unit=explained.surprise_unit,
        refused_s=[score.t for score in report.scores if score.track == track.id and score.p is None],
        heading=f"{who}: {sure}, from texture and motion together. This is what its motion says.",
        remark=left_out if kept < track.judged else "",
    )


def blank_png(sentences: Sequence[str], heading: str = "") -> bytes:
    """A page that only says that no face was judged, and why."""
    figure, grid = _page(sentences, heading, (2.0,))
    axes = figure.add_subplot(grid[0])
    axes.axis("off")
    axes.text(0.5, 0.5, NOTHING_JUDGED, transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=14)
    return png(figure)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The judged moments of one track."""

    rows: NDArray[np.int64]
    """Which of the explanation's T they are."""
    times: Floats
    """Media seconds."""
    logit: Floats
    evenly: Floats
    ledger: Floats
    alone: Floats
    surprise: Floats
    """NaN on a first observation, which can surprise nobody."""
    tau: Floats
    """(moments, D) seconds."""


def _seen(explanation: Explanation, track: int, start_s: float) -> _Seen:
    outputs = explanation.outputs
    tracks = outputs.judged.shape[1]
    if not 0 <= track < tracks:
        raise ValueError(f"track: expected 0 to {tracks - 1}, a column of the explanation, got {track}")
    judged = outputs.judged[:, track].cpu().numpy()
    times = explanation.seconds()[:, track].cpu().numpy() + start_s
    every = (outputs.logit, explanation.evenly, explanation.ledger, explanation.alone, outputs.surprise, explanation.compared, outputs.tau)
    logit, evenly, ledger, alone, surprise, compared, tau = (part[:, track].double().cpu().numpy()[judged] for part in every)
    surprise = np.where(compared > 0.0, surprise, np.nan)  # a first sight's is 1 by convention
    return _Seen(np.flatnonzero(judged), times[judged], logit, evenly, ledger, alone, surprise, tau)


def _sentences(explanation: Explanation, track: int, seen: _Seen, start_s: float) -> list[str]:
    if len(seen.times) == 0:
        return [f"There is nothing to explain: {NOTHING_JUDGED}."]
    clip, timing = float(explanation.clip_logit[track]), float(explanation.timing[track])
    said = [f"The motion speaks {'for' if clip >= 0.0 else 'against'} manipulation (mean logit {clip:+.2f})."]
    if len(seen.times) == 1:
        return [*said, f"Only one moment was judged, at {seen.times[0]:.2f} s."]
    window = _window(explanation, track, start_s)
    if window is not None:
        said.append(f"{_window_words(window)} (of {_stretch(seen.times[0], seen.times[-1])} judged).")
    return [*said, _timing_words(clip, timing)]


_Window = tuple[float, float, float]


def _window(explanation: Explanation, track: int, start_s: float) -> _Window | None:
    found = explanation.window(track)
    return None if found is None else (found[0] + start_s, found[1] + start_s, found[2])


def _stretch(start: float, end: float) -> str:
    """`5.0-5.9 s`, with as many digits as tell its ends apart."""
    digits = 1 if end - start >= 0.5 else 2
    return f"{start:.{digits}f}-{end:.{digits}f} s" if end > start else f"one moment at {start:.2f} s"


def _window_words(window: _Window) -> str:
    start, end, share = window
    return f"{share:.0%} of the evidence lies in {_stretch(start, end)}"


def _timing_words(clip: float, timing: float) -> str:
    evenly = clip - timing
    if abs(timing) < NO_MATTER:
        return "Timing plays no part: evenly spaced, the same pictures say the same."
    if evenly * clip < 0.0:
        return f"Timing decides it: evenly spaced, the same pictures say the opposite ({evenly:+.2f})."
    if timing * clip < 0.0:
        return f"Timing weakens it by {abs(timing):.2f}: evenly spaced, the same pictures say {evenly:+.2f}."
    return f"{timing / clip:.0%} of it ({timing:+.2f}) is due to timing: evenly spaced, the same pictures say {evenly:+.2f}."


def _page(sentences: Sequence[str], heading: str, lanes_inch: Sequence[float]) -> tuple[Figure, GridSpec]:
    """A page with words at its top, the first sentence in bold, and a grid of lanes below them."""
    first, *others = sentences
    words = [(line, 9.5, QUIET, "normal") for line in textwrap.wrap(heading, 140)]
    words += [(line, 14.0, INK, "bold") for line in textwrap.wrap(first, 85)]
    words += [(line, 11.0, INK, "normal") for line in textwrap.wrap(" ".join(others), 128)]
    head = 0.12 + sum(size for _, size, _, _ in words) * LINE_HEIGHT / 72
    height = head + sum(lanes_inch) + 0.8
    figure = new_figure(height)
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, 1.0 - head / height))
    down = 0.1
    for line, size, colour, weight in words:
        figure.text(0.01, 1.0 - down / height, line, va="top", fontsize=size, color=colour, fontweight=weight)
        down += size * LINE_HEIGHT / 72
    return figure, figure.add_gridspec(len(lanes_inch), 1, height_ratios=lanes_inch)


def _colour(way: float) -> str:
    return SUSPICIOUS if way >= 0.0 else REAL


def _shade(axes: Axes, window: _Window, seen: _Seen) -> None:
    start, end, _ = window
    half = 0.002 * max(seen.times[-1] - seen.times[0], 0.1)  # a window of one moment is still to be seen
    axes.axvspan(start - half, end + half, color=_colour(seen.logit.mean()), alpha=0.10, lw=0, zorder=0)


def _name_window(axes: Axes, window: _Window, seen: _Seen) -> None:
    """The sentence above the shade, inside the page."""
    start, end, _ = window
    low, high = axes.get_xlim()
    place = ((start + end) / 2 - low) / (high - low)
    at = "left" if place < 0.2 else "right" if place > 0.8 else "center"
    x = {"left": start, "right": end, "center": (start + end) / 2}[at]
    axes.annotate(
        _window_words(window),
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha=at,
        fontsize=9,
        color=_colour(seen.logit.mean()),
        fontweight="bold",
    )


def _ways(axes: Axes) -> None:
    """Which way is up, in words: colour alone tells it to nobody who cannot see it."""
    for text, y, va, colour in (("towards manipulated", 0.97, "top", SUSPICIOUS), ("towards real", 0.03, "bottom", REAL)):
        axes.text(0.006, y, text, transform=axes.transAxes, ha="left", va=va, fontsize=8, color=colour)
    axes.axhline(0.0, color=INK, lw=0.8)


def _alone(times: Floats) -> NDArray[np.bool_]:
    """Which moments no line joins to another."""
    far = np.concatenate([[True], np.diff(times) > BREAK_S, [True]])
    return np.asarray(far[:-1] & far[1:])


def _line(
    axes: Axes, times: Floats, values: Floats, colour: str, width: float, *, label: str = "", ls: str | tuple[int, tuple[int, int]] = "-"
) -> Line2D:
    """A line that breaks at gaps, and a dot for what lies between two of them."""
    dots = _alone(times)
    axes.plot(times[dots], values[dots], ls="", marker="o", ms=2.5 * width, color=colour)
    (line,) = axes.plot(*broken(times, values), color=colour, lw=width, ls=ls, label=label)
    return line


def _draw_logit(axes: Axes, explanation: Explanation, track: int, seen: _Seen) -> None:
    handles = [
        _line(axes, seen.times, seen.logit, INK, 1.5, label="as its pictures came"),
        _line(axes, seen.times, seen.evenly, COUNTERFACTUAL, 1.4, label="the same pictures, evenly spaced", ls=(0, (3, 2))),
    ]
    clip = float(explanation.clip_logit[track])
    axes.axhline(clip, color=_colour(clip), lw=1, ls=DASHED)
    note(axes, f"mean {clip:+.2f}", clip, right=True)
    _room(axes, np.concatenate([seen.logit, seen.evenly]))
    _ways(axes)
    _legend(axes, handles)
    lane(axes, "logit of\neach moment")


def _legend(axes: Axes, handles: Sequence[Artist]) -> None:
    axes.legend(handles=handles, loc="upper right", fontsize=8, frameon=False, ncols=len(handles), labelcolor=INK, borderaxespad=0.1)


def _room(axes: Axes, values: Floats) -> None:
    """From the least to the largest value and zero, with room for words above and below."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    spread = max(high - low, 1e-3)
    axes.set_ylim(low - 0.16 * spread, high + 0.22 * spread)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _draw_ledger(axes: Axes, explanation: Explanation, track: int, seen: _Seen) -> None:
    """Two tones on each bar: what the moment says alone, and what it adds through the memory, now and later."""
    together = -(-len(seen.times) // BARS_AT_MOST)
    firsts = np.arange(0, len(seen.times), together)
    alone, total = np.add.reduceat(seen.alone, firsts), np.add.reduceat(seen.ledger, firsts)
    memory = total - alone
    times, widths = _places(seen.times, firsts)
    colours = [_colour(value) for value in memory]
    # Side by side where they disagree, one on the other where they agree.
    base = np.where(alone * memory > 0.0, alone, 0.0)
    axes.bar(times, alone, widths, color=[_colour(value) for value in alone], alpha=0.35, lw=0)
    axes.bar(times, memory, widths, bottom=base, color=colours, alpha=0.9, lw=0)
    disagree = alone * memory < 0.0
    axes.hlines(total[disagree], (times - widths / 2)[disagree], (times + widths / 2)[disagree], color=INK, lw=1.0)
    _room(axes, np.concatenate([alone, base + memory]))
    _ways(axes)
    each = "one moment" if together == 1 else f"{together} moments"
    words = f"each bar: {each}; they add up to {seen.ledger.sum():+.2f}"
    axes.text(0.995, 0.03, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=INK)
    handles: list[Artist] = [
        Patch(color=INK, alpha=0.75, label="said through the memory"),
        Patch(color=INK, alpha=0.25, label="needs no memory"),
    ]
    if disagree.any():
        handles.append(Line2D([], [], color=INK, lw=1.0, label="their sum, where they disagree"))
    _legend(axes, handles)
    lane(axes, "ledger: share\nof the mean")


def _places(times: Floats, firsts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Middle and width of the bars of groups of moments that begin at `firsts`: as wide as the time they speak for, but no gap."""
    span = max(times[-1] - times[0], 0.1)
    lasts = np.append(firsts[1:], len(times)) - 1
    middles = (times[firsts] + times[lasts]) / 2
    if len(middles) == 1:
        return middles, np.array([0.1 * span])
    apart = np.diff(middles)
    nearest = np.minimum(np.append(apart, np.inf), np.insert(apart, 0, np.inf))
    return middles, 0.8 * np.clip(nearest, 0.002 * span, 2.0 * np.median(apart))


def _draw_surprise(axes: Axes, seen: _Seen, unit: float) -> None:
    surprise = seen.surprise / unit
    _line(axes, seen.times, surprise, SURPRISE, 1.3)
    known = surprise[~np.isnan(surprise)]
    scale_surprise(axes, float(known.max()) if len(known) else 1.0)


def _draw_tau(axes: Axes, seen: _Seen) -> None:
    low, middle, high = np.percentile(seen.tau, [5, 50, 95], axis=1)
    times, bottom = broken(seen.times, low)
    _, top = broken(seen.times, high)
    axes.fill_between(times, bottom, top, color=TAU_BAND, lw=0)
    dots = _alone(seen.times)
    axes.vlines(seen.times[dots], low[dots], high[dots], color=TAU_BAND, lw=4)
    _line(axes, seen.times, middle, JUDGED, 1.5)
    axes.set_yscale("log")
    axes.set_ylim(low.min() / 1.6, high.max() * 3.0)
    axes.yaxis.set_major_locator(FixedLocator(TAU_TICKS))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g} s")
    axes.minorticks_off()
    for value, name in ((low, "5 %"), (middle, "50 %"), (high, "95 %")):
        axes.annotate(
            name,
            (1.0, value[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    words = f"percentiles of the memory's {seen.tau.shape[1]} units"
    axes.text(0.995, 0.96, words, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=INK)
    lane(axes, "time constants")


def _draw_moments(axes: Axes, seen: _Seen, refused_s: Sequence[float]) -> None:
    """A stroke for each judged moment, a cross for each refused one, hatches over gaps."""
    for a, b in zip(seen.times[:-1], seen.times[1:], strict=True):
        if b - a > BREAK_S:
            axes.axvspan(a, b, fc=MISSING, hatch="///", ec=HATCH, lw=0)
            if b - a > 0.1 * (seen.times[-1] - seen.times[0]):
                halo(axes.text((a + b) / 2, 0.5, f"nothing for {b - a:.1f} s", ha="center", va="center", fontsize=8, color=INK))
    axes.vlines(seen.times, 0.12, 0.88, color=JUDGED, lw=0.9)
    refused = np.asarray(refused_s, dtype=np.float64)
    if len(refused):
        axes.plot(refused, np.full(len(refused), 0.5), ls="", marker="x", ms=5, mew=1.3, color=SUSPICIOUS)
        words = "x: seen, but not fit to judge"
        axes.annotate(
            words, (1.0, 1.0), xycoords="axes fraction", xytext=(0, 2), textcoords="offset points", ha="right", fontsize=8, color=SUSPICIOUS
        )
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    lane(axes, "moments")
