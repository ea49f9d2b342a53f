"""Encoders are compared on the crops that serving would judge, and each make has one voice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluation.learning_curve import CutVideo, cut_videos, macro_auc
from pipelines.media import Frame
from pipelines.training.manifest import Record
from tests import clips

RECORD = Record("a.mp4", Path("a.mp4"), "video", "validation", "fake", "p", "", "", "swap", 1)


def test_damaged_pictures_are_cut_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four looks a second for three seconds, of which one second shows what no camera filmed."""

    @contextmanager
    def read(_path: Path, *, hz: float | None) -> Iterator[list[Frame]]:
        damaged = range(4, 8)
        yield [
            Frame(
                clips.face_frame(n / 4)[::-1].copy() if n in damaged and n % 2 else clips.face_frame(n / 4),
                n,
                Fraction(1, 4),
                flags=frozenset({"tainted"} if n in damaged else ()),
            )
            for n in range(12)
        ]

    monkeypatch.setattr("pipelines.evaluation.learning_curve.read_frames", read)
    (video,) = cut_videos([RECORD])
    assert [len(track) for track in video.tracks] == [8], "one face, followed through the damage, seen in what is whole"
    assert (video.label, video.method, video.group) == (1, "swap", "p")


def test_the_mean_over_makes_has_its_own_interval() -> None:
    videos = [CutVideo(0, "real", f"p{i}", ()) for i in range(8)]
    videos += [CutVideo(1, make, f"p{i}", ()) for make in ("often", "often", "once") for i in range(8)]
    score = np.array([*(i % 4 for i in range(16)), *((i + 1) % 4 for i in range(8)), *[9] * 8], dtype=np.float64)
    macro, by_method = macro_auc(score, videos)
    assert by_method == {"often": 0.5, "once": 1.0}
    assert macro.value == pytest.approx(0.75) and macro.low < 0.75 < macro.high < 1
