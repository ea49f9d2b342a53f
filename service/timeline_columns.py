"""A timeline as columns: its JSON comes in, bytes to keep beside it go out, and of such bytes arrays that can be searched and thinned.

Four hours of four faces are 1.7 million rows: some 400 MB of JSON that take seconds to read, and 150 MB of columns of which nothing is read
but what is looked at. Written by `storage.py`, read by `timeline_shelf.py`, thinned by `timeline_part.py`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic_core import from_json

from service.timeline_bands import Band, Looks, bands
from service.timeline_text import head, pieces

MOST_BANDS: Final = 2000
_LENGTH: Final = struct.Struct("<Q")
"""What a safetensors file begins with: the bytes of its header."""
_TYPES: Final = {"I64": np.int64, "I32": np.int32, "I16": np.int16, "F64": np.float64}


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of a timeline, by face and then by time; what is null in JSON is NaN here, a reason or a set of flags is a number.

    Attributes:
        time_base: seconds of a tick, as a fraction.
        frames: (F,) PTS of every analysed frame, in order.
        bands: where nothing was judged, found in all rows; in order of time.
        spans: where the rows of each face begin and end.
        place: (N,) the row's number in the JSON.
        pts: (N,) ticks, never falling within a face.
        p, surprise: (N,) as in the JSON.
        rest: (7, N) t, dt, logit and the box.
        reason, flags: (N,) numbers of `reasons`, where 0 is none, and of `flag_sets`.
    """

    time_base: tuple[int, int]
    threshold: float
    frames: NDArray[np.int64]
    bands: tuple[Band, ...]
    spans: Mapping[int, slice]
    place: NDArray[np.int32]
    pts: NDArray[np.int64]
    p: NDArray[np.float64]
    surprise: NDArray[np.float64]
    rest: NDArray[np.float64]
    reason: NDArray[np.int16]
    flags: NDArray[np.int16]
    reasons: tuple[str | None, ...]
    flag_sets: tuple[tuple[str, ...], ...]

    @property
    def nbytes(self) -> int:
        """What it takes to keep it."""
        arrays = (self.frames, self.place, self.pts, self.p, self.surprise, self.rest, self.reason, self.flags)
        return sum(array.nbytes for array in arrays)

    def rows(self, chosen: NDArray[np.int64], tracks: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Rows as they were written, in the order in which they are `chosen`; `tracks` says whose each is."""
        numbers = (*self.rest[:, chosen], self.p[chosen], self.surprise[chosen])
        t, dt, logit, x0, y0, x1, y1, p, surprise = ([None if value != value else value for value in some.tolist()] for some in numbers)
        return [
            {
                "track": track,
                "pts": pts,
                "t": t[n],
                "dt": dt[n],
                "logit": logit[n],
                "p": p[n],
                "surprise": surprise[n],
                "box": [x0[n], y0[n], x1[n], y1[n]],
                "reason": self.reasons[reason],
                "flags": self.flag_sets[flags],
            }
            for n, (track, pts, reason, flags) in enumerate(
                zip(tracks.tolist(), self.pts[chosen].tolist(), self.reason[chosen].tolist(), self.flags[chosen].tolist(), strict=True)
            )
        ]


def columns_of(body: bytes) -> bytes:
    """What to keep of `Timeline.model_dump_json()`, for `read_columns`: one safetensors file."""
    about_all: dict[str, Any] = from_json(head(body))
    reasons: dict[str | None, int] = {None: 0}
    flag_sets: dict[tuple[str, ...], int] = {}
    whole, real = [np.empty((0, 4), np.int64)], [np.empty((0, 9))]
    for piece in pieces(body):
        rows: list[dict[str, Any]] = from_json(piece)
        whole.append(
            np.array(
                [
                    (
                        row["track"],
                        row["pts"],
                        reasons.setdefault(row["reason"], len(reasons)),
                        flag_sets.setdefault(tuple(row["flags"]), len(flag_sets)),
                    )
                    for row in rows
                ],
                np.int64,
            )
        )
        real.append(np.array([(row["p"], row["surprise"], row["t"], row["dt"], row["logit"], *row["box"]) for row in rows], np.float64))
    numbers, values = np.concatenate(whole), np.concatenate(real)
    place = np.lexsort((numbers[:, 1], numbers[:, 0]))
    (track, pts, reason, flags), (p, surprise, *rest) = numbers[place].T, values[place].T
    found_tracks = zip(*(some.tolist() for some in np.unique(track, return_index=True, return_counts=True)), strict=True)
    spans = {one: slice(first, first + count) for one, first, count in found_tracks}
    why = np.array(tuple(reasons), object)[reason]
    why[~np.isnan(p)] = None
    numerator, denominator = about_all["time_base"]
    looks_s = np.array([tick * numerator / denominator for tick in about_all["frame_pts"]], np.float64)
    found = bands({one: Looks(rest[0][span], why[span]) for one, span in spans.items()}, looks_s, MOST_BANDS)
    arrays = {
        "frames": np.array(about_all["frame_pts"], np.int64),
        "place": place.astype(np.int32),
        "pts": pts,
        "p": p,
        "surprise": surprise,
        "rest": np.array(rest),
        "reason": reason.astype(np.int16),
        "flags": flags.astype(np.int16),
    }
    about = {
        "time_base": about_all["time_base"],
        "threshold": about_all["threshold"],
        "spans": [[one, span.start, span.stop] for one, span in spans.items()],
        "bands": found,
        "reasons": list(reasons),
        "flag_sets": list(flag_sets),
    }
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"about": json.dumps(about)})


def read_columns(kept: bytes) -> Columns:
    """The columns of what `columns_of` gave. Its arrays are views: safetensors' own reader would copy them all."""
    (length,) = _LENGTH.unpack_from(kept)
    header = from_json(kept[_LENGTH.size : _LENGTH.size + length])
    about = from_json(header.pop("__metadata__")["about"])
    arrays: dict[str, NDArray[Any]] = {}
    for name, told in header.items():
        begin, end = told["data_offsets"]
        kind = np.dtype(_TYPES[told["dtype"]])
        array = np.frombuffer(kept, kind, (end - begin) // kind.itemsize, _LENGTH.size + length + begin)
        arrays[name] = array.reshape(told["shape"])
    return Columns(
        time_base=(about["time_base"][0], about["time_base"][1]),
        threshold=about["threshold"],
        bands=tuple(Band(*band) for band in about["bands"]),
        spans={track: slice(begin, end) for track, begin, end in about["spans"]},
        reasons=tuple(about["reasons"]),
        flag_sets=tuple(tuple(flags) for flags in about["flag_sets"]),
        **arrays,
    )
