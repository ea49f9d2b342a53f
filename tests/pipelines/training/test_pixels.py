"""Batched picture operations against OpenCV's, one picture at a time; rows of different strength in one batch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.media import Image
from pipelines.training import pixels
from pipelines.training.degradations import through_jpeg
from pipelines.training.device_jpeg import through_jpeg as batched_jpeg
from pipelines.training.fields import SmoothField
from pipelines.training.pseudo_fakes import _generator_residue
from tests.pipelines.training.portrait import clip

SIZE = 192
PICTURE: Image = clip(1).crops[0]


def _batch(*pictures: NDArray[np.generic]) -> Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(one)).float().view(*one.shape[:2], -1) for one in pictures]).permute(
        0, 3, 1, 2
    )


def _apart(expected: NDArray[np.generic], row: Tensor) -> NDArray[np.float64]:
    """|difference| of a picture (H, W, C) from the corner of a row (C, S, S)."""
    corner = row.permute(1, 2, 0)[: expected.shape[0], : expected.shape[1]].numpy()
    return np.asarray(np.abs(expected.reshape(corner.shape).astype(np.float64) - corner))


def test_an_affine_map_mirrors_at_the_rim() -> None:
    matrix = np.array([[0.9, -0.2, 30.0], [0.25, 1.0, -20.0]])
    inverse = torch.from_numpy(cv2.invertAffineTransform(matrix)).float()[None]
    expected = cv2.warpAffine(PICTURE, matrix, (160, 160), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    apart = _apart(expected, pixels.levels(pixels.warped(_batch(PICTURE), inverse, 160))[0])
    assert apart.max() <= 1 and apart.mean() < 0.01


def test_each_row_is_seen_through_its_own_field() -> None:
    fields = [SmoothField.draw(np.random.default_rng(seed), SIZE, sigma=10, amplitude=seed + 1.5) for seed in range(3)]
    coarse, amplitude = np.stack([one.coarse for one in fields]), torch.tensor([one.amplitude for one in fields])
    seen = pixels.displaced(_batch(*[PICTURE] * 3), pixels.smooth_fields(torch.from_numpy(coarse), amplitude, SIZE))
    for field, row in zip(fields, seen, strict=True):
        assert _apart(field.moved(PICTURE.astype(np.float32)), row).max() < 0.05


@pytest.mark.parametrize("eight_bit", [True, False])
def test_each_row_is_blurred_by_its_own_sigma(eight_bit: bool) -> None:
    sigmas = (0.3, 0.7, 1.6, 5.0, 9.0)
    picture = PICTURE if eight_bit else PICTURE.astype(np.float32)
    made = pixels.blurred(_batch(*[PICTURE] * len(sigmas)), torch.tensor(sigmas), eight_bit=eight_bit)
    for sigma, row in zip(sigmas, made, strict=True):
        apart = _apart(cv2.GaussianBlur(picture, (0, 0), sigma), pixels.levels(row) if eight_bit else row)
        assert apart.max() <= (1 if eight_bit else 0.01)


def test_each_row_shrinks_and_grows_to_its_own_size() -> None:
    scales = (1.4, 2.77, 3.5)
    scale = torch.tensor(scales)
    small = pixels.levels(pixels.separable(_batch(*[PICTURE] * 3), pixels.area(SIZE, torch.round(SIZE / scale), scale, SIZE)))
    side = torch.round(SIZE / scale)
    ways = ((pixels.cubic(side, SIZE, SIZE), cv2.INTER_CUBIC), (pixels.linear(side, SIZE, SIZE), cv2.INTER_LINEAR))
    for row, one in enumerate(scales):
        shrunk = cv2.resize(PICTURE, None, fx=1 / one, fy=1 / one, interpolation=cv2.INTER_AREA)
        assert _apart(shrunk, small[row]).max() <= 1
        for up, way in ways:
            grown = pixels.levels(pixels.separable(small[row : row + 1], up[row : row + 1]))[0]
            assert _apart(cv2.resize(shrunk, (SIZE, SIZE), interpolation=way), grown).max() <= 1


@pytest.mark.parametrize("px", [-6, -1, 1, 4])
def test_a_mask_grows_and_shrinks_by_an_ellipse(px: int) -> None:
    mask = cv2.GaussianBlur((PICTURE[..., 0] > 120).astype(np.float32), (0, 0), 1.0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(px) + 1,) * 2)
    expected = cv2.dilate(mask, kernel) if px > 0 else cv2.erode(mask, kernel)
    assert _apart(expected, pixels.grown(_batch(mask), px)[0]).max() == 0


def test_colours_go_to_lab_and_back() -> None:
    lab = cv2.cvtColor(PICTURE.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    made = pixels.to_lab(_batch(PICTURE))
    assert _apart(lab, made[0]).max() < 0.6, "OpenCV reads the curve of sRGB from a table"
    assert _apart(PICTURE, pixels.to_rgb(made)[0]).max() < 0.1


def test_a_generators_residue_is_the_same() -> None:
    apart = _apart(_generator_residue(PICTURE), pixels.residue(_batch(PICTURE))[0])
    assert apart.max() <= 2 and apart.mean() < 0.3


def test_each_row_has_its_own_quality_and_size_of_jpeg() -> None:
    cases = ((35, 192), (50, 100), (91, 116), (70, 32))
    rng = np.random.default_rng(0)
    canvas = _batch(*[PICTURE] * len(cases))
    for row, (_, side) in enumerate(cases):  # what lies beside a small picture must not be seen
        noise = torch.from_numpy(rng.integers(0, 256, (3, SIZE, SIZE))).float()
        noise[:, :side, :side] = canvas[row, :, :side, :side]
        canvas[row] = noise
    made = batched_jpeg(canvas, torch.tensor([quality for quality, _ in cases]), torch.tensor([side for _, side in cases]))
    for row, (quality, side) in zip(made, cases, strict=True):
        picture = np.ascontiguousarray(PICTURE[:side, :side])
        expected = through_jpeg(picture, quality)
        apart, lost = _apart(expected, row), np.abs(expected.astype(float) - picture).mean()
        # A coefficient on the edge between two steps falls to either side, as between any two coders.
        assert apart.mean() < min(0.6, 0.25 * lost) and np.percentile(apart, 99) < 6
