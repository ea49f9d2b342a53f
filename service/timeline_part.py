"""A part of a timeline, thinned: its columns and a window come in, JSON as of the whole goes out. Made for `evidence.py`.

A picture has fewer columns than a long video has looks. Of each track and each of so many equal stretches of time the rows stay that can
be seen in a picture: the first, the last, the highest and lowest p (Jugel et al., M4, VLDB 2014, section 4), the highest surprise, and the
first of each reason not to judge. What stays is as it was.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from service.timeline_columns import Columns

PER_STRETCH: Final = 4
"""Rows that a stretch keeps for each of `points`, as a rule."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is asked for.

    Attributes:
        from_s, to_s: media seconds; None where it has no end.
        points: about how many rows of each track; None for all.
    """

    from_s: float | None = None
    to_s: float | None = None
    points: int | None = None

    @property
    def is_whole(self) -> bool:
        """Everything is asked for."""
        return self.from_s is None and self.to_s is None and self.points is None


def timeline_part(columns: Columns, window: Window) -> bytes:
    """`part_of` as JSON."""
    # Which writes numbers as those of the whole are, and in a sixth of the time that `json` takes.
    return to_json(part_of(columns, window))


def part_of(columns: Columns, window: Window) -> dict[str, Any]:
    """The rows within the window and the frames in which they were seen; `total_rows` says how many rows the window has,
    `bands` where nothing was judged, and why, before any row was left out.

    A look with several faces is one frame and a row for each. Of the frames without a row, stretches keep their first and last.
    """
    numerator, denominator = columns.time_base
    frames = columns.frames
    begin = int(frames[0]) if len(frames) else 0
    end = int(frames[-1]) if len(frames) else 0
    low = begin if window.from_s is None else window.from_s * denominator / numerator
    high = end if window.to_s is None else window.to_s * denominator / numerator
    spans = {track: _within(columns.pts, low, high, span) for track, span in columns.spans.items()}
    inside = frames[_within(frames, low, high, slice(0, len(frames)))]
    kept = {track: np.arange(span.start, span.stop) for track, span in spans.items()}
    total = sum(len(rows) for rows in kept.values())
    if window.points is not None:
        width = max((high - low) / max(window.points // PER_STRETCH, 1), 1e-9)
        kept = {
            track: rows if len(rows) <= window.points else rows[_thinned(columns, spans[track], low, width)] for track, rows in kept.items()
        }
    chosen = np.concatenate([*kept.values(), np.empty(0, np.int64)])
    tracks = np.repeat(np.array(list(kept), np.int64), [len(rows) for rows in kept.values()])
    order = np.argsort(columns.place[chosen]) if window.points is None else np.lexsort((tracks, columns.pts[chosen]))
    chosen, tracks = chosen[order], tracks[order]
    if window.points is not None and len(inside) > window.points:
        begins = _begins(inside, low, width)
        ends = np.concatenate([inside[begins], inside[np.concatenate([begins[1:], [len(inside)]]) - 1]])
        inside = np.union1d(columns.pts[chosen], ends)
    begin_s, end_s = (ticks * numerator / denominator for ticks in (low, high))
    return {
        "time_base": columns.time_base,
        "threshold": columns.threshold,
        "frame_pts": inside.tolist(),
        "rows": columns.rows(chosen, tracks),
        "total_rows": total,
        "bands": [band._asdict() for band in columns.bands if band.end_s >= begin_s and band.start_s <= end_s],
    }


def _within(pts: NDArray[np.int64], low: float, high: float, span: slice) -> slice:
    """Those of a span that are between two times. Python's bisect compares ticks exactly, and does not make floats of them all."""
    begin = bisect_left(pts, low, span.start, span.stop)
    return slice(begin, max(begin, bisect_right(pts, high, span.start, span.stop)))


def _begins(pts: NDArray[np.int64], low: float, width: float) -> NDArray[np.int64]:
    """The first of every stretch."""
    stretches = (pts - low) // width
    return np.flatnonzero(np.concatenate([[True], stretches[1:] != stretches[:-1]]))


def _thinned(columns: Columns, span: slice, low: float, width: float) -> NDArray[np.int64]:
    """Which rows of one face stay, counted from the first of the span."""
    begins = _begins(columns.pts[span], low, width)
    lengths = np.diff(begins, append=span.stop - span.start)
    stretch = np.repeat(np.arange(len(begins), dtype=np.int32), lengths)

    def first_of_each(hits: NDArray[np.bool]) -> NDArray[np.int64]:
        found = np.flatnonzero(hits)
        return found[np.diff(stretch[found], prepend=-1) > 0]

    p, surprise, reason = columns.p[span], columns.surprise[span], columns.reason[span]
    # fmax and fmin pass over what is NaN, which is equal to nothing, itself least of all.
    peaks = [(p, np.fmax), (p, np.fmin), (surprise, np.fmax)]
    extremes = [first_of_each(values == np.repeat(extreme.reduceat(values, begins), lengths)) for values, extreme in peaks]
    reasons = [first_of_each(reason == code) for code in range(len(columns.reasons))]
    return np.unique(np.concatenate([begins, begins + lengths - 1, *extremes, *reasons]))
