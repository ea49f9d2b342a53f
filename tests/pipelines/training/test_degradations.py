"""Wear: the same draw does the same to both of a pair; codecs keep order and count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.training.degradations import Distractor, Strip, Wear
from pipelines.training.reencode import reencode
from tests.pipelines.training.portrait import clip


@pytest.mark.parametrize("seed", range(8))
def test_one_draw_wears_equal_clips_equally(seed: int) -> None:
    wear = Wear.draw(np.random.default_rng(seed), heavy_share=1.0)
    crops, t = clip().crops, clip().t
    first, second = wear.clip(crops, t, 160), wear.clip(crops.copy(), t, 160)
    assert first.shape == (len(t), 160, 160, 3)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("seed", range(12))
def test_one_draw_wears_equal_stills_equally_whatever_their_place_in_the_strip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wear = replace(Wear.draw(rng, heavy_share=1.0), codec=None)
    crop = clip().crops[0][:160, :160]
    first, second = wear.still([crop, crop.copy()], Strip.draw(rng, 2, shake=wear.shake))
    assert first.shape == crop.shape
    np.testing.assert_array_equal(first, second)


def test_a_strip_gives_each_crop_back_in_its_own_place() -> None:
    dark, light = np.full((96, 96, 3), 40, np.uint8), np.full((96, 96, 3), 210, np.uint8)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        wear = replace(Wear.draw(rng), codec=("libx264", 30), capture=1.5, distractor=None, brightness=0.0, contrast=1.0)
        first, second = wear.still([dark, light], Strip.draw(rng, 2, shake=wear.shake))
        assert first.mean() < 90 < 160 < second.mean()


def test_neutral_wear_changes_nothing_but_the_margin() -> None:
    crops, t = clip().crops, clip().t
    np.testing.assert_array_equal(Wear.neutral().clip(crops, t, 160), crops[:, 16:176, 16:176])


def test_a_distractor_leaves_the_face_alone() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (160, 160, 3)).astype(np.float32)
    changed = np.zeros((160, 160))
    for seed in range(40):
        changed += np.abs(Distractor.draw(np.random.default_rng(seed)).apply(picture) - picture).max(axis=2) > 1
    assert changed[60:100, 60:100].max() == 0
    assert changed.max() > 0


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
