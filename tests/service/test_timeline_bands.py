"""Where a timeline says nothing is told from all its rows, so that a thinned one shows no gap that is none and hides none that is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.timeline_bands import GAP_S, Looks, bands
from service.timeline_part import Window, timeline_part
from tests.service.test_timeline_part import Look, columns, looks, timeline

Told = list[tuple[int | None, float, float, str]]


def told(whole: dict[str, Any], **asked: float) -> Told:
    part = json.loads(timeline_part(columns(whole), Window(**asked)))  # type: ignore[arg-type]
    return [(band["track"], band["start_s"], band["end_s"], band["reason"]) for band in part["bands"]]


def whole_of(frames: list[int], seen: dict[int, list[int]], unjudged: dict[int, dict[int, str]] | None = None) -> dict[str, Any]:
    """Frames and, for each face, the ticks at which it was seen; all judged but `unjudged`."""
    rows = []
    for pts in frames:
        for track, ticks in seen.items():
            if pts in ticks:
                why = (unjudged or {}).get(track, {}).get(pts)
                rows.append(
                    {"track": track, "pts": pts, "t": pts / 1000, "dt": None, "logit": None, "p": None if why else 0.5, "surprise": 1.0}
                    | {"box": [0.0, 0.0, 1.0, 1.0], "reason": why, "flags": []}
                )
    return {"time_base": [1, 1000], "threshold": 0.5, "frame_pts": frames, "rows": rows}


def test_bands_say_who_was_away_and_when_nobody_was_there() -> None:
    frames = [0, 500, 1000, 3000, 3500, 5000, 5500, 9000]
    whole = whole_of(frames, {0: [500, 1000, 3000, 5500], 1: [500, 1000, 3000, 3500, 5000, 5500]})
    # No look was taken from 1 to 3 s and from 3.5 to 5 s. At 9 s nobody was there. Face 0 was away while face 1 was not.
    assert told(whole, points=4) == [(None, 1.0, 3.0, "gap"), (0, 3.0, 5.5, "absent"), (None, 3.5, 5.0, "gap"), (None, 5.5, 9.0, "no_face")]


def test_a_stretch_that_was_not_judged_lasts_until_the_next_look_and_has_one_reason() -> None:
    frames = list(range(0, 3000, 500))
    whole = whole_of(frames, {0: frames}, {0: {500: "too_dark", 1000: "too_dark", 1500: "motion_blur"}})
    assert told(whole, points=4) == [(0, 0.5, 1.5, "too_dark"), (0, 1.5, 2.0, "motion_blur")]
    assert told(whole, from_s=1.8) == [(0, 1.5, 2.0, "motion_blur")], "of a window those that reach into it"


def test_a_long_video_seen_throughout_has_no_bands_however_few_points_are_left() -> None:
    frames = list(range(0, 600_000, 250))
    part = json.loads(timeline_part(columns(whole_of(frames, {0: frames, 1: frames})), Window(points=8)))
    assert part["bands"] == [] and len(part["rows"]) < 50


def test_without_a_face_all_of_it_is_one_band_and_without_looks_there_is_none() -> None:
    assert told(whole_of([0, 400, 4000], {}), points=4) == [(None, 0.0, 4.0, "no_face")]
    assert told(whole_of([], {}), points=4) == []


@settings(max_examples=60, deadline=None)
@given(looks, st.integers(4, 20))
def test_a_look_lies_in_a_band_exactly_when_it_was_not_judged(seen: list[Look], points: int) -> None:
    whole = timeline(seen)
    found = told(whole, points=points)
    for row in whole["rows"]:
        own = {why for track, start, end, why in found if track == row["track"] and start <= row["t"] <= end}
        if row["p"] is None:
            assert row["reason"] in own
    for track, start, end, why in found:
        rows = [row for row in whole["rows"] if start < row["t"] < end and track in (None, row["track"])]
        assert all(row["p"] is None and row["reason"] == why for row in rows)
        if why in ("absent", "gap", "no_face"):
            assert end - start > GAP_S or not whole["rows"]


def test_a_flicker_becomes_few_bands_that_cover_it() -> None:
    looks_s = np.arange(2000) / 10
    why = np.array([None, "motion_blur"] * 1000, object)
    found = bands({7: Looks(looks_s, why)}, looks_s, 100)
    assert 1 <= len(found) <= 100
    for n in range(1, 2000, 2):
        assert any(band.track == 7 and band.start_s <= n / 10 <= band.end_s for band in found)
