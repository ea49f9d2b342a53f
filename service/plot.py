"""The picture of a judgement: AnalysisResult and Timeline in, a PNG over media time out. Used by `--plot`, the HTML report and REST."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pipelines.judgement import HOLD_S
from pipelines.verdict import REASON_WORDS
from service.plot_style import (
    COLOURS,
    DASHED,
    HATCH,
    INK,
    JUDGED,
    MISSING,
    QUIET,
    SUSPICIOUS,
    broken,
    lane,
    new_figure,
    note,
    png,
    scale_surprise,
)
from service.schemas import AnalysisResult, Timeline, TimelineRow

LEGEND_AT_MOST: Final = 6


def timeline_png(result: AnalysisResult, timeline: Timeline) -> bytes:
    """Three lanes over media seconds: probability by face with threshold and segments, surprise, and what was judged."""
    figure = new_figure(6.4)
    grid = figure.add_gridspec(3, 1, height_ratios=(5, 3, 1))
    score = figure.add_subplot(grid[0])
    surprise, coverage = figure.add_subplot(grid[1], sharex=score), figure.add_subplot(grid[2], sharex=score)
    figure.suptitle("\n".join(textwrap.wrap(result.sentence, 100)), x=0.01, ha="left", fontsize=12, color=INK, fontweight="bold")
    tracks = _by_track(timeline)
    _draw_score(score, result, timeline, tracks)
    _draw_surprise(surprise, tracks)
    _draw_coverage(coverage, result, timeline)
    start, end = _span(timeline)
    coverage.set_xlim(start, max(end, start + 0.1))
    coverage.set_xlabel("media time, seconds", color=INK)
    for axes in (score, surprise):
        axes.tick_params(labelbottom=False)
    return png(figure)


def _by_track(timeline: Timeline) -> dict[int, list[TimelineRow]]:
    tracks: dict[int, list[TimelineRow]] = {}
    for row in timeline.rows:
        tracks.setdefault(row.track, []).append(row)
    return {track: rows for track, rows in tracks.items() if any(row.p is not None for row in rows)}


def _span(timeline: Timeline) -> tuple[float, float]:
    if not timeline.frame_pts:
        return 0.0, 1.0
    second = timeline.time_base[0] / timeline.time_base[1]
    return timeline.frame_pts[0] * second, timeline.frame_pts[-1] * second


def _line(rows: list[TimelineRow], values: list[float | None]) -> tuple[list[float], list[float]]:
    return broken([row.t for row in rows], values)


def _draw_score(axes: Axes, result: AnalysisResult, timeline: Timeline, tracks: dict[int, list[TimelineRow]]) -> None:
    for segment in result.segments:
        axes.axvspan(segment.start.t, segment.end.t, color=SUSPICIOUS, alpha=0.16, lw=0)
    for (track, rows), colour in zip(tracks.items(), _cycled(len(tracks)), strict=True):
        axes.plot(*_line(rows, [row.p for row in rows]), color=colour, lw=1.6, label=f"face {track}")
    axes.axhline(timeline.threshold, color=INK, lw=1, ls=DASHED)
    note(axes, f"threshold {timeline.threshold:.0%}", timeline.threshold, right=True)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    lane(axes, "probability of\nmanipulation")
    if not tracks:
        axes.text(0.5, 0.5, "no face was judged", transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=14)
    elif len(tracks) <= LEGEND_AT_MOST:
        axes.legend(loc="upper left", fontsize=8, frameon=False, ncols=LEGEND_AT_MOST)


def _draw_surprise(axes: Axes, tracks: dict[int, list[TimelineRow]]) -> None:
    for rows, colour in zip(tracks.values(), _cycled(len(tracks)), strict=True):
        axes.plot(*_line(rows, [row.surprise for row in rows]), color=colour, lw=1.2)
    top = max([row.surprise for rows in tracks.values() for row in rows if row.surprise is not None], default=1.0)
    scale_surprise(axes, top)


def _draw_coverage(axes: Axes, result: AnalysisResult, timeline: Timeline) -> None:
    """A band of what was judged; everything else is hatched and named where there is room."""
    second = timeline.time_base[0] / timeline.time_base[1]
    counted = {track.id for track in result.tracks if track.score.p is not None}
    judged = {row.pts for row in timeline.rows if row.p is not None and row.track in counted}
    refused = {row.pts: row.reason or "too_short" for row in timeline.rows}
    runs: list[tuple[str | None, float, float]] = []
    pieces = [(a, b * second - a * second) for a, b in pairwise(timeline.frame_pts)]
    for pts, length in pieces:
        reason = None if pts in judged else REASON_WORDS[refused.get(pts) or "no_face"]
        begin, held = pts * second, min(length, HOLD_S)
        parts = [(reason, begin, begin + held)]
        if length > held:
            parts.append((REASON_WORDS["gap"], begin + held, begin + length))
        for why, start, end in parts:
            if runs and runs[-1][0] == why and abs(runs[-1][2] - start) < 1e-6:
                runs[-1] = (why, runs[-1][1], end)
            else:
                runs.append((why, start, end))
    begin, end = _span(timeline)
    room = 0.0075 * max(end - begin, 0.1)
    for why, start, stop in runs:
        axes.axvspan(start, stop, fc=JUDGED if why is None else MISSING, hatch=None if why is None else "///", ec=HATCH, lw=0)
        word = "judged" if why is None else why
        if stop - start > room * len(word):
            axes.text(
                (start + stop) / 2, 0.5, word, ha="center", va="center", fontsize=7.5, color="white" if why is None else INK, clip_on=True
            )
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    lane(axes, "coverage")


def _cycled(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
