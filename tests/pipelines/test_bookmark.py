"""Bookmarks: an analysis that was interrupted anywhere, and went on elsewhere, is the uninterrupted one to the last bit."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.analysis import Analysis, Model, Walk, analyse
from pipelines.bookmark import PAGE
from pipelines.errors import AnalysisCancelled, BookmarkUnusable
from pipelines.frames import read_frames
from pipelines.verdict import AnalysisReport
from tests import clips, zoo

HZ = 8.0


def _scenes(path: Path) -> Path:
    """Somebody, nobody, somebody elsewhere, and a face that flickers: cuts, lost tracks, tracks that end and that begin."""

    def frame(t: float) -> clips.Image:
        if 1.0 <= t < 1.6 or (t > 2.6 and round(t * 24) % 5 == 0):
            return clips.empty_frame(t)
        return clips.face_frame(t, px=300, left=30.0 if t < 1.0 else 280.0)

    pts = clips.regular_pts(4.0, 24.0)
    return clips.write_clip(path, (frame(tick / 1000) for tick in pts), pts)


CLIPS: dict[str, Callable[[Path], Path]] = {
    "a face": lambda folder: clips.face_clip(folder / "face.mp4", seconds=3.0),
    "at a variable rate": lambda folder: clips.face_clip(folder / "vfr.mkv", pts=clips.variable_pts(3.0, seed=3)),
    "scenes": lambda folder: _scenes(folder / "scenes.mp4"),
    "a small face": lambda folder: clips.face_clip(folder / "small.mp4", seconds=2.0, px=60),
    "nobody": lambda folder: clips.empty_clip(folder / "nobody.mp4"),
    "one picture": lambda folder: clips.one_frame_clip(folder / "one.mp4"),
    "B pictures": lambda folder: zoo.b_frames(folder, "mp4").path,
    "an edit list": lambda folder: zoo.edit_list(folder / "edited.mp4").path,
    "several timelines": lambda folder: zoo.joined_ts(folder / "joined.ts", [0, 5000]).path,
    "gaps": lambda folder: zoo.mux(folder, "gaps", "mkv").path,
    "avi": lambda folder: zoo.avi(folder / "a.avi").path,
    "damage": lambda folder: zoo.damaged(zoo.steady(folder / "whole.mkv"), folder / "damaged.mkv", [10, 11, 30]),
}


@pytest.fixture(scope="module", params=CLIPS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CLIPS[request.param](tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.face_clip(tmp_path_factory.mktemp("clips") / "face.mp4", seconds=2.0)


def exact(report: AnalysisReport) -> tuple[object, ...]:
    """All of a report but what it cost, pictures as bytes."""
    crops = [
        (track.id, crop.pts, crop.p, crop.image.tobytes(), crop.boundary.tobytes())
        for track in report.verdict.tracks
        for crop in track.crops
    ]
    verdict = dataclasses.replace(report.verdict, tracks=tuple(dataclasses.replace(track, crops=()) for track in report.verdict.tracks))
    return repr(dataclasses.replace(report, verdict=verdict, stages=())), crops


def interrupted(source: Path, model: Model, stops: list[int]) -> tuple[AnalysisReport, int]:
    """Walk, and begin anew from bookmarks after each of so many frames; the report, and how many bookmarks it took."""
    bookmarks: list[bytes] = []
    for stop in stops:
        seen: list[object] = []
        with Walk(source, model, hz=HZ, bookmarks=bookmarks) as walk:
            try:
                walk.on(on_progress=seen.append, cancelled=partial(_reached, seen, stop))
            except AnalysisCancelled:
                bookmarks.append(walk.bookmark())
            else:
                return walk.report(), len(bookmarks)
    with Walk(source, model, hz=HZ, bookmarks=bookmarks) as walk:
        walk.on()
        return walk.report(), len(bookmarks)


def _reached(seen: list[object], stop: int) -> bool:
    return len(seen) >= stop


def test_interrupted_anywhere_it_is_the_same_to_the_last_bit(source: Path, model: Model) -> None:
    draw = random.Random(source.name)
    whole = exact(analyse(source, model, hz=HZ))
    for _ in range(2):
        report, bookmarks = interrupted(source, model, [draw.randint(1, 9) for _ in range(4)])
        assert exact(report) == whole
        assert bookmarks >= 1 or len(report.frame_pts) <= 1


def test_stretches_of_media_time_are_the_same_as_one(face: Path, model: Model) -> None:
    with Walk(face, model, hz=HZ) as walk:
        more = [walk.on(0.5)]
        while more[-1]:
            more.append(walk.on(0.5))
        assert len(more) >= 3
        assert exact(walk.report()) == exact(analyse(face, model, hz=HZ))


def test_a_bookmark_holds_what_is_new_alone(face: Path, model: Model) -> None:
    sizes, walked = [], 0
    with Walk(face, model, hz=None) as walk:
        while walk.on(0.25):
            given = safetensors.numpy.load(walk.bookmark())
            sizes.append(len(given[PAGE].tobytes()))
            walked = len(walk.analysis.scores)
    assert walked > 30
    assert max(sizes[1:]) < 1.5 * min(sizes), sizes


def test_the_second_walk_looks_only_at_what_is_new(face: Path, model: Model) -> None:
    with Walk(face, model, hz=HZ) as walk:
        walk.on(1.0)
        assert walk.came_further
        bookmark, walked = walk.bookmark(), walk.analysis.frames
        assert not walk.came_further
    seen: list[object] = []
    with Walk(face, model, hz=HZ, bookmarks=[bookmark]) as walk:
        walk.on(on_progress=seen.append)
        assert len(seen) == walk.analysis.frames - walked > 0


def _bookmarks(face: Path, model: Model) -> list[bytes]:
    found = []
    with Walk(face, model, hz=HZ) as walk:
        while walk.on(0.4):
            found.append(walk.bookmark())
    assert len(found) >= 3
    return found


def test_bookmarks_of_other_weights_crops_or_order_are_refused(face: Path, model: Model) -> None:
    first, second, *_ = _bookmarks(face, model)
    infos = {
        "another weights": dataclasses.replace(model.info, weights_sha256="0" * 64),
        "another crop version": dataclasses.replace(model.info, crop_version=99),
    }
    for match, info in infos.items():
        other = dataclasses.replace(model, info=info)
        with pytest.raises(BookmarkUnusable, match=match):
            Analysis(other).resume([first])
    for wrong in ([second], [second, first], [first, first]):
        with pytest.raises(BookmarkUnusable, match="another bookmark number"):
            Analysis(model).resume(wrong)


def test_bookmarks_of_another_source_are_refused(face: Path, model: Model, tmp_path: Path) -> None:
    bookmarks = _bookmarks(face, model)
    other = clips.face_clip(tmp_path / "other.mp4", seconds=2.0, fps=10.0)
    with (
        Walk(other, model, hz=HZ, bookmarks=bookmarks) as walk,
        pytest.raises(BookmarkUnusable, match="another source"),
    ):
        walk.on()
    shorter = clips.one_frame_clip(tmp_path / "shorter.mp4")
    with Walk(shorter, model, hz=HZ, bookmarks=bookmarks) as walk, pytest.raises(BookmarkUnusable, match="longer source"):
        walk.on()


def test_another_format_is_refused_by_its_number(face: Path, model: Model) -> None:
    arrays = safetensors.numpy.load(_bookmarks(face, model)[0])
    text = arrays[PAGE].tobytes().replace(b'"format":1', b'"format":2')
    arrays[PAGE] = np.frombuffer(text, dtype=np.uint8)
    with pytest.raises(BookmarkUnusable, match=r"Expected format 1; got format: .*2"):
        Analysis(model).resume([safetensors.numpy.save(arrays)])


@pytest.fixture(scope="module")
def bookmark(face: Path, model: Model) -> bytes:
    return _bookmarks(face, model)[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(data: st.DataObject, bookmark: bytes, model: Model) -> None:
    kind = data.draw(st.sampled_from(["flip", "cut", "drop"]))
    if kind == "flip":
        at = data.draw(st.integers(0, len(bookmark) - 1))
        damaged = bookmark[:at] + bytes([bookmark[at] ^ data.draw(st.integers(1, 255))]) + bookmark[at + 1 :]
    elif kind == "cut":
        damaged = bookmark[: data.draw(st.integers(0, len(bookmark) - 1))]
    else:
        arrays = safetensors.numpy.load(bookmark)
        del arrays[data.draw(st.sampled_from(sorted(arrays)))]
        damaged = safetensors.numpy.save(arrays)
    analysis = Analysis(model)
    try:
        analysis.resume([damaged])
    except BookmarkUnusable as refused:
        assert refused.expected and refused.got
    else:
        analysis.finish()


def test_what_cannot_be_kept_says_so(face: Path, model: Model) -> None:
    for analysis in (Analysis(model, explain=True), Analysis(model, horizon_s=10.0)):
        with pytest.raises(ValueError, match="bookmark: expected an Analysis of its own"):
            analysis.bookmark()
        with pytest.raises(ValueError, match="resume: expected a new Analysis"):
            analysis.resume([])
    used = Analysis(model)
    with read_frames(face, hz=HZ) as frames:
        used.push(next(iter(frames)))
    with pytest.raises(ValueError, match="resume: expected a new Analysis"):
        used.resume([])
