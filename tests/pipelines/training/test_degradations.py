"""Wear: the same draw does the same to both of a pair; codecs keep order and count."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training.degradations import Wear
from pipelines.training.reencode import reencode
from tests.pipelines.training.portrait import clip


@pytest.mark.parametrize("seed", range(8))
def test_one_draw_wears_equal_clips_equally(seed: int) -> None:
    wear = Wear.draw(np.random.default_rng(seed), heavy_share=1.0)
    crops, t = clip().crops, clip().t
    first, second = wear.clip(crops, t, 160), wear.clip(crops.copy(), t, 160)
    assert first.shape == (len(t), 160, 160, 3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("codec", "quality"), [("libx264", 23), ("mpeg4", 5), ("libvpx", 30)])
def test_a_codec_gives_back_every_picture_in_its_place(codec: str, quality: int) -> None:
    flashes = np.full((10, 64, 64, 3), 20, dtype=np.uint8)
    flashes[[2, 7]] = 220
    back = reencode(flashes, np.array([0, 0.04, 0.08, 0.2, 0.21, 0.25, 0.5, 0.54, 0.58, 1.0]), codec, quality)
    assert back.shape == flashes.shape
    assert set(np.flatnonzero(back.mean(axis=(1, 2, 3)) > 120)) == {2, 7}


def test_a_codec_that_is_no_video_codec_is_refused() -> None:
    with pytest.raises(KeyError, match="aac"):
        reencode(clip().crops, clip().t, "aac", 1)


def test_heavier_compression_loses_more() -> None:
    crops, t = clip().crops[:, :160, :160], clip().t
    light, heavy = (np.abs(reencode(crops, t, "libx264", crf).astype(int) - crops).mean() for crf in (18, 40))
    assert heavy > light > 0
