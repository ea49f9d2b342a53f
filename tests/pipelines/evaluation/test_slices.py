"""Parts of a set: every video in one level of what is known of it, in the order of the levels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines.evaluation.slices import slices
from tests.pipelines.evaluation.test_evaluate import PLAIN


def test_a_video_stands_once_in_each_slice_unless_its_property_is_unknown() -> None:
    videos = [replace(PLAIN, file=f"{i}", face_px=px, label=i % 2) for i, px in enumerate((70, 90, 130, 170, 300, None))]
    by_level = {one.level: one.reals + one.fakes for one in slices(videos) if one.slice == "face, px"}
    assert list(by_level) == ["below 80", "80 to 120", "120 to 160", "160 to 240", "240 and more"]
    assert set(by_level.values()) == {1}


def test_sharpness_is_cut_into_thirds_of_what_is_there() -> None:
    videos = [replace(PLAIN, file=f"{i}", sharpness=float(i)) for i in range(1, 10)]
    assert [(one.level, one.reals) for one in slices(videos) if one.slice == "sharpness"] == [
        ("below 3.7", 3),
        ("3.7 to 6.3", 3),
        ("6.3 and more", 3),
    ]
    same = [one for one in slices([replace(PLAIN, sharpness=5.0)] * 4) if one.slice == "sharpness"]
    assert [one.reals for one in same] == [4], "all alike are one level"
    assert not [one for one in slices([replace(PLAIN, sharpness=None)]) if one.slice == "sharpness"]


def test_numbers_of_a_level_are_those_of_its_videos_alone() -> None:
    rows = [
        ("h264", 0, 0.0, "manipulated"),
        ("h264", 1, 1.0, "manipulated"),
        ("vp9", 0, 5.0, "no_evidence"),
        ("vp9", 1, 1.0, "no_evidence"),
    ]
    videos = [
        replace(PLAIN, file=f"{i}", group=f"{i}", codec=codec, label=label, logit=logit, verdict=verdict, source=codec)
        for i, (codec, label, logit, verdict) in enumerate(rows)
    ]
    found = {one.level: one for one in slices(videos) if one.slice == "codec"}
    assert (found["h264"].auc.value, found["h264"].accused_reals.value) == (1.0, 1.0)
    assert (found["vp9"].auc.value, found["vp9"].accused_reals.value) == (0.0, 0.0)
    assert [one.level for one in slices(videos) if one.slice == "source"] == ["h264", "vp9"]


@pytest.mark.parametrize(
    ("name", "field", "value", "level"),
    [
        ("width, px", "width", 1920, "1280 and more"),
        ("frames a second", "fps", 25.0, "20 to 27"),
        ("luma", "luma", 59.9, "below 60"),
        ("tier", "tier", "study", "study"),
    ],
)
def test_each_property_has_its_levels(name: str, field: str, value: object, level: str) -> None:
    assert [one.level for one in slices([replace(PLAIN, **{field: value})]) if one.slice == name] == [level]  # type: ignore[arg-type]


def test_nothing_has_no_parts() -> None:
    assert slices([]) == ()
