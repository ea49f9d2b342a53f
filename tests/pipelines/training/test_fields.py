"""Displacements peak where they say; noise is normal, its own for every seed, and the same whoever shares its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.training.fields import SmoothField, noise, one_noise


def test_a_displacement_field_peaks_at_its_amplitude() -> None:
    field = SmoothField.draw(np.random.default_rng(0), 192, sigma=12, amplitude=3.0).full(192)
    assert field.shape == (192, 192, 2)
    assert np.abs(field).max() == pytest.approx(3.0, rel=1e-5)


def test_noise_is_white_and_normal() -> None:
    made = noise(torch.arange(20), 96)
    assert float(made.mean()) == pytest.approx(0, abs=0.01) and float(made.std()) == pytest.approx(1, abs=0.01)
    assert float((made.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.005)
    spectrum = torch.fft.rfft2(made).abs().square().mean(0) / 96**2
    assert float(spectrum[1:, 1:].std()) < 0.4, "no direction and no distance stands out (20 periodograms scatter by 0.22)"
    neighbours = [(made[:, 1:], made[:, :-1]), (made[..., 1:], made[..., :-1]), (made[1:], made[:-1])]
    assert all(abs(float((one * other).mean())) < 0.01 for one, other in neighbours)


def test_noise_depends_on_its_seed_and_place_alone() -> None:
    many = noise(torch.tensor([5, 2**31 - 1, 7]), 40)
    np.testing.assert_array_equal(many[2].numpy(), one_noise(7, 40)[..., 0])
    np.testing.assert_array_equal(many[2, :24, :24].numpy(), one_noise(7, 24)[..., 0])
