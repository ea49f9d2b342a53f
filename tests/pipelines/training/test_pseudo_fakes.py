"""Pseudo-fakes: changed inside the mask, untouched outside, labelled frame by frame, reproducible from their seed."""

from __future__ import annotations

from itertools import groupby

import cv2
import numpy as np
import pytest

from pipelines.training.masks import EYES, MOUTH, MaskRecipe, template_points
from pipelines.training.pseudo_fakes import (
    KINDS,
    Clip,
    FakeRecipe,
    Kind,
    SourceRecipe,
    attempts,
    draw_kind,
    fitted,
    make_fake,
    nearest,
    usable_points,
)
from tests.pipelines.training.portrait import clip


@pytest.mark.parametrize("kind", KINDS)
def test_a_fake_differs_inside_its_mask_and_nowhere_else(kind: Kind) -> None:
    made = make_fake(clip(), np.random.default_rng(5), kind=kind, other=clip())
    difference = np.abs(made.fake.astype(int) - made.real.astype(int)).max(axis=3)
    assert difference[made.masks > 0.5 * made.masks.max()].mean() > 1.0
    reach = 40  # px: blending in two bands lets slow changes of colour out of the mask, and detail not
    far = np.stack([cv2.dilate(mask, np.ones((2 * reach + 1,) * 2)) == 0 for mask in made.masks])
    assert difference[far].max(initial=0) == 0
    assert made.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_fake(kind: Kind) -> None:
    first, second = (make_fake(clip(), np.random.default_rng(9), kind=kind, other=clip()) for _ in range(2))
    np.testing.assert_array_equal(first.fake, second.fake)


def test_a_partial_fake_says_which_frames_are_real() -> None:
    made = make_fake(clip(24), np.random.default_rng(1), kind="static", partial=True)
    labels = made.frame_labels
    assert 0 < labels.sum() < len(labels)
    assert (made.fake[labels == 0] == made.real[labels == 0]).all()
    changes = np.flatnonzero(np.diff(labels))
    assert len(changes) <= 2, "the faked part is one stretch"


def test_kinds_come_in_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_kind(rng) for _ in range(4000)]
    assert drawn.count("static") / 4000 == pytest.approx(0.40, abs=0.03)
    assert drawn.count("flicker") / 4000 <= 0.07, "frame-wise flicker is an easy shortcut that real fakes do not have"


def test_holes_between_dense_points_are_filled_linearly() -> None:
    dense = np.full((5, 478, 2), np.nan, dtype=np.float32)
    dense[1], dense[3] = 10.0, 20.0
    filled = usable_points(dense)
    np.testing.assert_allclose(filled[:, 0, 0], [10, 10, 15, 20, 20])


def test_families_may_be_left_out() -> None:
    for seed in range(10):
        made = make_fake(clip(2), np.random.default_rng(seed), kind="static", recipe=FakeRecipe(families=("full", "eye_band")))
        assert made.family in ("full", "eye_band")


def test_without_sharpness_the_donor_is_as_sharp_as_its_target() -> None:
    for seed in range(20):
        recipe = SourceRecipe.draw(np.random.default_rng(seed), 192, strength=1.0, residue=False, sharpness=False)
        assert (recipe.scale_down, recipe.blur, recipe.sharpen) == (1.0, 0.0, 0.0)


def test_a_donor_is_fitted_to_the_features_of_its_target() -> None:
    target = template_points()
    turn = np.array([[0.9, -0.2], [0.25, 1.1]], dtype=np.float32)
    donor = target @ turn.T + np.array([8, -20], dtype=np.float32)
    picture = np.zeros((192, 192, 3), dtype=np.uint8)
    for x, y in donor[MOUTH]:
        cv2.circle(picture, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
    moved, face = fitted(picture, donor, target)
    mouth = np.round(target[MOUTH]).astype(int)
    assert moved[mouth[:, 1], mouth[:, 0]].mean() > 150
    assert face[mouth[:, 1], mouth[:, 0]].min() > 0.99 and face[:8].max() == 0


def test_the_donor_of_the_same_shape_is_chosen() -> None:
    points = template_points()
    narrow = (points - 96) * np.array([0.7, 1.0], dtype=np.float32) + 96
    turned = (points - 96) @ np.array([[0.98, -0.2], [0.2, 0.98]], dtype=np.float32).T + 96
    clips = [Clip(clip(1).crops, clip(1).t, shape[None].astype(np.float32)) for shape in (narrow, turned)]
    target = Clip(clip(1).crops, clip(1).t, points[None])
    assert nearest(clips, target) is clips[1], "turning is not a difference of shape"
    grey = np.repeat(clip(1).crops.mean(axis=3, keepdims=True).astype(np.uint8), 3, axis=3)
    clips[1] = Clip(grey, clips[1].t, clips[1].points)
    assert nearest(clips, target) is clips[0], "a grey face in a picture in colour is no swap"


def test_a_grey_picture_stays_grey() -> None:
    grey = np.repeat(clip(1).crops[0].mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    for seed in range(10):
        made = SourceRecipe.draw(np.random.default_rng(seed), 192, strength=1.0, residue=False).apply(grey)
        assert np.ptp(made, axis=2).max() < 6


def test_a_time_shift_goes_on_and_does_not_freeze() -> None:
    still = clip(40)
    held = 0
    for seed in range(20):
        drawn = next(attempts(still, np.random.default_rng(seed), kind="time_shift"))
        assert drawn.donor_rows is not None
        shown = drawn.donor_rows.tolist()
        held += max(len(list(same)) for _, same in groupby(shown)) > 4
        assert shown != list(range(40))
    assert 0 < held < 10, "about a third are held on purpose"


def test_every_part_of_the_components_is_there() -> None:
    points, picture = template_points(), clip(1).crops[0]
    for seed in range(30):
        mask = MaskRecipe.draw(np.random.default_rng(seed), 192, families=("components",)).apply(points, picture)
        for part in (EYES[0], EYES[1], MOUTH):
            x, y = points[part].mean(0).round().astype(int)
            assert mask[y - 4 : y + 5, x - 6 : x + 7].max() > 0.35 * mask.max()


def test_a_swap_takes_no_background_along() -> None:
    other = clip(4)
    far = Clip(other.crops, other.t, (other.points - 96) * 0.6 + 96)
    made = make_fake(clip(4), np.random.default_rng(3), kind="identity_swap", other=far)
    assert made.masks[:, :6].max() == 0 and made.masks.max() >= 0.5
