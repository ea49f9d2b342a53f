"""Pseudo-fakes: changed inside the mask, untouched outside, labelled frame by frame, reproducible from their seed."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training.pseudo_fakes import KINDS, Kind, draw_kind, make_fake, usable_points
from tests.pipelines.training.portrait import clip


@pytest.mark.parametrize("kind", KINDS)
def test_a_fake_differs_inside_its_mask_and_nowhere_else(kind: Kind) -> None:
    made = make_fake(clip(), np.random.default_rng(5), kind=kind, other=clip())
    difference = np.abs(made.fake.astype(int) - made.real.astype(int)).max(axis=3)
    assert difference[made.masks > 0.3].mean() > 1.0
    assert difference[made.masks == 0].max() == 0
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
