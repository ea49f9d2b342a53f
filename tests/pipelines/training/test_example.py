"""An example of a pseudo-fake: it says what was altered and where, and refuses with help what cannot be shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import NothingToShow
from pipelines.training.contact_sheet import draw_sheet
from pipelines.training.example import MIN_FRAMES, STILL_KINDS, draw_example
from pipelines.training.pseudo_fakes import KINDS, Kind
from tests.pipelines.training.examples import PEOPLE, STILLS, example


def test_the_share_on_the_face_tells_a_stray_mask() -> None:
    one = example("static")
    assert one.on_face > 0.6
    away = replace(one, made=replace(one.made, masks=np.roll(one.made.masks, 96, axis=2)))
    assert away.on_face < one.on_face / 2


def test_who_was_altered_is_told() -> None:
    altered = {example("static", seed).altered for seed in range(12)}
    assert altered == {"donor", "target"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in STILL_KINDS])
def test_a_kind_of_time_needs_a_clip_and_says_how_long(kind: Kind) -> None:
    with pytest.raises(NothingToShow, match=rf"No clip is long enough for {kind}.*at least {MIN_FRAMES} frames.*longest of 1 frame"):
        draw_example(STILLS, np.random.default_rng(0), kind=kind)
    with pytest.raises(NothingToShow, match="long enough"):
        draw_sheet(STILLS, rows=3, seed=0, kinds=[kind])


def test_a_swap_takes_another_person_or_says_that_there_is_none() -> None:
    with pytest.raises(NothingToShow, match=r"needs a donor.*at least two people"):
        draw_example(PEOPLE[:1], np.random.default_rng(0), kind="identity_swap")
    one = draw_example(PEOPLE[:1], np.random.default_rng(0), kind="identity_swap", donors=PEOPLE)
    assert (one.identity, one.made.kind) == ("ann", "identity_swap")
