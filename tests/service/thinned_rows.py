"""The reference that thinned timelines are held against: JSON and a window come in, JSON goes out, row by row and with no array.

It says in plain Python what `service.timeline_part` and `service.timeline_bands` are to say with columns.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from service.timeline_bands import GAP_S, Band, _merged, _nobody
from service.timeline_columns import MOST_BANDS
from service.timeline_part import PER_STRETCH, Window

Row = dict[str, Any]


def timeline_part(body: bytes, window: Window) -> bytes:
    """The part of `Timeline.model_dump_json()` that the window asks for."""
    timeline = from_json(body)
    numerator, denominator = timeline["time_base"]
    frames = timeline["frame_pts"]
    begin = frames[0] if frames else 0
    low = begin if window.from_s is None else window.from_s * denominator / numerator
    high = (frames[-1] if frames else 0) if window.to_s is None else window.to_s * denominator / numerator
    rows = [row for row in timeline["rows"] if low <= row["pts"] <= high]
    inside = frames[bisect_left(frames, low) : bisect_right(frames, high)]
    total = len(rows)
    everywhere = _bands(_by_track(timeline["rows"]), [pts * numerator / denominator for pts in frames], MOST_BANDS)
    begin_s, end_s = (ticks * numerator / denominator for ticks in (low, high))
    inside_bands = [band._asdict() for band in everywhere if band.end_s >= begin_s and band.start_s <= end_s]
    if window.points is not None:
        stretches = max(window.points // PER_STRETCH, 1)
        width = max((high - low) / stretches, 1e-9)
        tracks = _by_track(rows)
        rows = [row for track in tracks.values() for row in (track if len(track) <= window.points else _thinned(track, low, width))]
        rows.sort(key=itemgetter("pts", "track"))
        if len(inside) > window.points:
            seen = {row["pts"] for row in rows}
            ends = {pts for _, some in groupby(inside, lambda pts: (pts - low) // width) for pts in _ends(list(some))}
            inside = sorted(seen | ends)
    part = {**timeline, "frame_pts": inside, "rows": rows, "total_rows": total, "bands": inside_bands}
    return to_json(part)


def _by_track(rows: list[Row]) -> dict[int, list[Row]]:
    tracks: dict[int, list[Row]] = {}
    for row in rows:
        tracks.setdefault(row["track"], []).append(row)
    return tracks


def _thinned(track: list[Row], low: float, width: float) -> list[Row]:
    kept: list[Row] = []
    for _, some in groupby(track, lambda row: (row["pts"] - low) // width):
        stretch = list(some)
        chosen = {0, len(stretch) - 1}
        judged = [n for n, row in enumerate(stretch) if row["p"] is not None]
        if judged:
            chosen |= {max(judged, key=lambda n: stretch[n]["p"]), min(judged, key=lambda n: stretch[n]["p"])}
        surprised = [n for n, row in enumerate(stretch) if row["surprise"] is not None]
        if surprised:
            chosen.add(max(surprised, key=lambda n: stretch[n]["surprise"]))
        reasons: dict[str | None, int] = {}
        for n, row in enumerate(stretch):
            reasons.setdefault(row["reason"], n)
        kept += [stretch[n] for n in sorted(chosen | set(reasons.values()))]
    return kept


def _ends(stretch: list[int]) -> tuple[int, int]:
    return stretch[0], stretch[-1]


def _bands(tracks: Mapping[int, Sequence[Mapping[str, Any]]], looks_s: Sequence[float], most: int) -> list[Band]:
    times = {track: np.array([row["t"] for row in rows], np.float64) for track, rows in tracks.items()}
    empty = _nobody(np.unique(np.concatenate([*times.values(), np.empty(0)])), np.asarray(looks_s, np.float64))
    found = empty + [band for track, rows in tracks.items() for band in _of_track(track, rows, times[track], empty)]
    apart_s = 0.0
    least = len({(band.track, band.reason) for band in found})
    while len(found) > max(most, least):
        apart_s = max(2 * apart_s, 0.25)
        found = _merged(found, apart_s)
    return sorted(found, key=lambda band: (band.start_s, -1 if band.track is None else band.track))


def _of_track(track: int, rows: Sequence[Mapping[str, Any]], t: NDArray[np.float64], empty: Sequence[Band]) -> list[Band]:
    found = []
    pauses = np.diff(t) > GAP_S
    for n in np.flatnonzero(pauses).tolist():
        start, end = float(t[n]), float(t[n + 1])
        if not any(band.start_s <= start and band.end_s >= end for band in empty):
            found.append(Band(track, start, end, "absent"))
    begin = 0
    for n, row in enumerate(rows):
        why = row["reason"] if row["p"] is None else None
        before = rows[n - 1]["reason"] if n and rows[n - 1]["p"] is None and not pauses[n - 1] else None
        if why is None:
            continue
        if why != before:
            begin = n
        held = n + 1 < len(rows) and not pauses[n]
        goes_on = held and rows[n + 1]["p"] is None and rows[n + 1]["reason"] == why
        if not goes_on:
            found.append(Band(track, float(t[begin]), float(t[n + 1] if held else t[n]), why))
    return found
