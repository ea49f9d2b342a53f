"""A thinned timeline loses no peak, moves nothing and stays small, whatever the video."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.schemas import Timeline, TimelinePart
from service.timeline_columns import Columns, columns_of, read_columns
from service.timeline_part import PER_STRETCH, Window, timeline_part
from service.timeline_text import read_timeline
from tests.service import thinned_rows
from tests.service.conftest import assert_problem, upload

TIME_BASE = (1, 1000)
Look = tuple[int, list[tuple[int, float | None, float | None]]]
looks = st.lists(
    st.tuples(
        st.integers(1, 400),
        st.lists(
            st.tuples(st.integers(0, 3), st.none() | st.floats(0, 1), st.none() | st.floats(0, 50)),
            max_size=3,
            unique_by=lambda one: one[0],
        ),
    ),
    max_size=300,
)


def timeline(seen: list[Look]) -> dict[str, Any]:
    """What an analysis keeps: looks as (ticks since the last, faces)."""
    pts, frames, rows = -500, [], []
    for wait, faces in seen:
        pts += wait
        frames.append(pts)
        for track, p, surprise in sorted(faces):
            reason = None if p is not None else ("too_dark", "motion_blur")[track % 2]
            rows.append(
                {"track": track, "pts": pts, "t": pts / 1000, "dt": None, "logit": p, "p": p, "surprise": surprise}
                | {"box": [0.0, 0.0, 1.0, 1.0], "reason": reason, "flags": []}
            )
    return {"time_base": list(TIME_BASE), "threshold": 0.5, "frame_pts": frames, "rows": rows}


def part(whole: dict[str, Any], **asked: float) -> dict[str, Any]:
    window = Window(**asked)  # type: ignore[arg-type]
    told: dict[str, Any] = json.loads(timeline_part(columns(whole), window))
    TimelinePart.model_validate(told)
    return told


def columns(whole: dict[str, Any]) -> Columns:
    """What the store has of a timeline."""
    return read_columns(columns_of(written(whole)))


def written(whole: dict[str, Any]) -> bytes:
    """The JSON that the store has of a timeline."""
    return Timeline.model_validate(whole).model_dump_json().encode()


@settings(max_examples=60, deadline=None)
@given(looks, st.integers(4, 60))
def test_each_stretch_keeps_its_peaks_its_ends_and_its_reasons(seen: list[Look], points: int) -> None:
    whole = timeline(seen)
    thin = part(whole, points=points)
    assert thin["total_rows"] == len(whole["rows"])
    assert all(row in whole["rows"] for row in thin["rows"]) and thin["rows"] == sorted(
        thin["rows"], key=lambda row: (row["pts"], row["track"])
    )
    frames = whole["frame_pts"]
    assert set(thin["frame_pts"]) <= set(frames) and {row["pts"] for row in thin["rows"]} <= set(thin["frame_pts"])
    if frames:
        assert (thin["frame_pts"][0], thin["frame_pts"][-1]) == (frames[0], frames[-1])
    stretches = max(points // PER_STRETCH, 1)
    width = max((frames[-1] - frames[0]) / stretches, 1e-9) if frames else 1.0
    kept = {(row["track"], row["pts"]) for row in thin["rows"]}
    for track in {row["track"] for row in whole["rows"]}:
        own = [row for row in whole["rows"] if row["track"] == track]
        assert len([one for one in kept if one[0] == track]) <= max(points, (stretches + 1) * (PER_STRETCH + 3))
        stretch_of = {row["pts"]: (row["pts"] - frames[0]) // width for row in own}
        for n in set(stretch_of.values()):
            rows = [row for row in own if stretch_of[row["pts"]] == n]
            left = [row for row in thin["rows"] if row["track"] == track and stretch_of[row["pts"]] == n]
            assert rows[0] in left and rows[-1] in left
            for name in ("p", "surprise"):
                values = [row[name] for row in rows if row[name] is not None]
                assert max(values, default=None) == max((row[name] for row in left if row[name] is not None), default=None)
            assert {row["reason"] for row in rows} == {row["reason"] for row in left}


@settings(max_examples=30, deadline=None)
@given(looks, st.floats(-1, 60), st.floats(-1, 60))
def test_a_window_has_every_row_between_its_ends(seen: list[Look], begin: float, end: float) -> None:
    whole = timeline(seen)
    told = part(whole, from_s=begin, to_s=end)
    assert told["rows"] == [row for row in whole["rows"] if begin * 1000 <= row["pts"] <= end * 1000]
    assert told["frame_pts"] == [pts for pts in whole["frame_pts"] if begin * 1000 <= pts <= end * 1000]


@settings(max_examples=200, deadline=None)
@given(looks, st.none() | st.floats(-1, 60), st.none() | st.floats(-1, 60), st.none() | st.integers(4, 60), st.randoms())
def test_columns_say_byte_for_byte_what_the_rows_say(
    seen: list[Look], begin: float | None, end: float | None, points: int | None, random: Random
) -> None:
    whole = timeline(seen)
    # Faces of one frame are in any order, and rows have more in them than is looked at to thin them.
    whole["rows"].sort(key=lambda row: (row["pts"], random.random()))
    for row in whole["rows"]:
        row["dt"], row["box"] = random.choice([None, random.random()]), [random.random() * 1e-5 ** random.randrange(3) for _ in range(4)]
        row["flags"] = random.choice([[], ["gap"], ["corrupt", "gap"]])
    window = Window(begin, end, points)
    assert timeline_part(columns(whole), window) == thinned_rows.timeline_part(written(whole), window)


def test_rows_in_several_pieces_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = timeline([(40, [(0, 0.5, None), (1, None, 2.0)])] * 500)
    at_once = columns_of(written(whole))
    monkeypatch.setattr("service.timeline_text.PIECE", 1000)
    assert columns_of(written(whole)) == at_once
    for one in (written(whole), written(timeline([]))):
        assert read_timeline(one) == Timeline.model_validate_json(one)


def test_over_the_wire_a_part_is_what_was_asked_for(client: httpx.Client, clip: Path) -> None:
    path = upload(client, clip, wait_s=60).json()["links"]["timeline"]
    whole = client.get(path).json()
    assert "total_rows" not in whole
    thin = client.get(path, params={"points": 8}).json()
    assert 0 < len(thin["rows"]) < thin["total_rows"] == len(whole["rows"])
    assert max(row["p"] or 0 for row in thin["rows"]) == max(row["p"] or 0 for row in whole["rows"])
    later = client.get(path, params={"from": 2, "to": 3}).json()
    assert later["rows"] == [row for row in whole["rows"] if 2 <= row["t"] <= 3]
    csv = client.get(path, params={"from": 2, "to": 3, "format": "csv"}).text.splitlines()
    assert len(csv) == 1 + len(later["rows"])
    assert client.get(path, params={"from": 3, "to": 2}).json()["rows"] == []
    for wrong in ({"points": 3}, {"points": "many"}, {"from": "nan"}, {"to": "inf"}):
        assert_problem(client.get(path, params=wrong), 422, "invalid-request")
    etag = client.get(path, params={"points": 8}).headers["ETag"]
    assert client.get(path, params={"points": 8}, headers={"If-None-Match": etag}).status_code == 304
