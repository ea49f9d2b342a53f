"""Where a timeline says nothing: the looks at each face and all looks come in, stretches with reasons go out to `timeline_columns.py`.

They are found in all rows before any is left out: of a thinned timeline nobody can tell a pause from a gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

GAP_S: Final = 1.0
"""Looks that are farther apart than this do not speak for what lies between them."""


class Looks(NamedTuple):
    """The looks at one face, in order: when (media seconds), and why it was not judged then; None where it was."""

    t: NDArray[np.float64]
    why: NDArray[np.object_]


class Band(NamedTuple):
    """A stretch without a judgement; `track` is None when no face was there at all."""

    track: int | None
    start_s: float
    end_s: float
    reason: str


def bands(tracks: Mapping[int, Looks], looks_s: NDArray[np.float64], most: int) -> list[Band]:
    """Stretches in which a face was not judged or away, or in which no face was there or no look was taken.

    Above `most`, neighbours of one face with one reason become one, nearest first, so that a flicker is a band and not thousands.
    """
    empty = _nobody(np.unique(np.concatenate([*(looks.t for looks in tracks.values()), np.empty(0)])), looks_s)
    found = empty + [band for track, looks in tracks.items() for band in _of_track(track, looks, empty)]
    apart_s = 0.0
    least = len({(band.track, band.reason) for band in found})
    while len(found) > max(most, least):
        apart_s = max(2 * apart_s, 0.25)
        found = _merged(found, apart_s)
    return sorted(found, key=lambda band: (band.start_s, -1 if band.track is None else band.track))


def _nobody(seen: NDArray[np.float64], looks: NDArray[np.float64]) -> list[Band]:
    if len(looks) < 2:
        return []
    if not len(seen):
        return [Band(None, float(looks[0]), float(looks[-1]), "no_face")]
    edges = np.concatenate([looks[:1], seen, looks[-1:]])
    last = len(edges) - 2
    found = []
    for n in np.flatnonzero(np.diff(edges) > GAP_S).tolist():
        start, end = float(edges[n]), float(edges[n + 1])
        inside = np.searchsorted(looks, end - 1e-6) > np.searchsorted(looks, start + 1e-6)
        # The first and the last look found nobody, or they would be no edges.
        found.append(Band(None, start, end, "no_face" if inside or n in (0, last) else "gap"))
    return found


def _of_track(track: int, looks: Looks, empty: Sequence[Band]) -> list[Band]:
    t, why = looks
    found = []
    pauses = np.diff(t) > GAP_S
    for n in np.flatnonzero(pauses).tolist():
        start, end = float(t[n]), float(t[n + 1])
        if not any(band.start_s <= start and band.end_s >= end for band in empty):
            found.append(Band(track, start, end, "absent"))
    # Runs of looks with one reason and no pause within; each lasts until the look that follows it, if one does before a pause.
    begins = np.flatnonzero(np.concatenate([[True], pauses | (why[1:] != why[:-1])]))
    ends = np.concatenate([begins[1:], [len(t)]]) - 1
    until = t[np.where(np.concatenate([pauses, [True]])[ends], ends, np.minimum(ends + 1, len(t) - 1))]
    missed = np.flatnonzero(why[begins] != None)  # noqa: E711  each of an array
    found += [Band(track, *edges) for edges in zip(t[begins[missed]].tolist(), until[missed].tolist(), why[begins[missed]], strict=True)]
    return found


def _merged(found: Sequence[Band], apart_s: float) -> list[Band]:
    merged: list[Band] = []
    for band in sorted(found, key=lambda band: (-1 if band.track is None else band.track, band.reason, band.start_s)):
        last = merged[-1] if merged else None
        if last and (last.track, last.reason) == (band.track, band.reason) and band.start_s - last.end_s <= apart_s:
            merged[-1] = last._replace(end_s=max(last.end_s, band.end_s))
        else:
            merged.append(band)
    return merged
