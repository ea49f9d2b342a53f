"""Masks: soft, bounded, inside the face, and different from family to family."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training.masks import FAMILIES, MaskRecipe, template_points
from tests.pipelines.training.portrait import clip


@pytest.mark.parametrize("seed", range(24))
def test_a_mask_is_soft_bounded_and_over_the_face(seed: int) -> None:
    image = clip().crops[0]
    recipe = MaskRecipe.draw(np.random.default_rng(seed), image.shape[0])
    mask = recipe.apply(template_points(), image)
    assert mask.shape == image.shape[:2]
    assert mask.min() >= 0
    assert mask.max() <= recipe.ratio + 1e-5
    assert mask[:8].max() < 0.05 and mask[:, :8].max() < 0.05, "a seam at the rim of the crop is not a seam of a face"


def test_every_family_is_drawn_and_has_its_own_shape() -> None:
    image = clip().crops[0]
    areas: dict[str, list[float]] = {}
    for seed in range(200):
        recipe = MaskRecipe.draw(np.random.default_rng(seed), 192)
        mask = recipe.apply(template_points(), image)
        areas.setdefault(recipe.family, []).append(float((mask > 0.2 * recipe.ratio).mean()))
    assert set(areas) == set(FAMILIES)
    assert np.median(areas["full"]) > np.median(areas["no_forehead"]) > max(np.median(areas[part]) for part in ("lower_face", "components"))


def test_the_same_recipe_keeps_its_seam_along_a_clip() -> None:
    recipe = MaskRecipe.draw(np.random.default_rng(3), 192)
    first, second = (recipe.apply(template_points(), clip().crops[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
