"""The contact sheet: rows in the order of the code, tiles that are what their column says, and all that was drawn is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.errors import NothingToShow
from pipelines.training.contact_sheet import draw_contact_sheet, draw_sheet
from pipelines.training.example import STILL_KINDS
from pipelines.training.masks import FAMILIES
from pipelines.training.pseudo_fakes import KINDS
from tests.pipelines.training.examples import PEOPLE, STILLS
from tests.pipelines.training.portrait import portrait


def test_a_sheet_shows_every_kind_in_the_order_of_the_code() -> None:
    sheet = draw_sheet(PEOPLE, rows=2 * len(KINDS), seed=0)
    shown = [one.made.kind for one in sheet.examples]
    assert shown == [kind for kind in KINDS for _ in range(2)]
    for kind in KINDS:
        families = [FAMILIES.index(one.made.family) for one in sheet.examples if one.made.kind == kind]
        assert families == sorted(families)
        assert len(set(families)) == 2, "a kind meets another family each round"
    assert not sheet.notes


def test_only_what_was_asked_for_is_shown_and_everything_drawn_is_counted() -> None:
    sheet = draw_sheet(PEOPLE, rows=4, seed=1, kinds=["static", "residue"], families=["eye_band", "full"])
    assert {(one.made.kind, one.made.family) for one in sheet.examples} == {
        (kind, family) for kind in ("static", "residue") for family in ("eye_band", "full")
    }
    kinds, families = sheet.counts("kind"), sheet.counts("family")
    assert sum(row.draws for row in kinds) == sum(row.draws for row in families) == len(sheet.draws) > 4
    assert {row.name: row.shown for row in kinds} == {"static": 2, "residue": 2}
    assert {row.name: row.shown for row in families if row.shown} == {"eye_band": 2, "full": 2}
    weighted = sum(row.change * row.draws for row in kinds) / len(sheet.draws)
    assert weighted == pytest.approx(np.mean([change for _, _, change in sheet.draws]))


def test_a_family_that_never_comes_is_said_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.training.contact_sheet.TRIES", 2)
    sheet = draw_sheet(PEOPLE, rows=1, seed=0, kinds=["static"], families=["a shape of tomorrow"])
    assert len(sheet.draws) == 2
    assert "static never came with a shape of tomorrow in 2 draws" in sheet.notes[0]


def test_the_same_seed_draws_the_same_sheet() -> None:
    first, second = (draw_contact_sheet(draw_sheet(PEOPLE, rows=3, seed=4), worn=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (draw_contact_sheet(draw_sheet(PEOPLE, rows=3, seed=5), worn=True) != first).any()


def test_the_tiles_of_a_row_are_what_their_column_says() -> None:
    sheet = draw_sheet(PEOPLE, rows=1, seed=2, kinds=["static"])
    one, picture = sheet.examples[0], draw_contact_sheet(sheet, worn=False)
    size, at = one.clip.crops.shape[1], one.at
    rows = slice(picture.shape[0] - size - 6, picture.shape[0] - 6)
    tiles = [picture[rows, x : x + size].astype(int) for x in range(250, picture.shape[1], size + 6)]
    assert len(tiles) == 4
    np.testing.assert_array_equal(tiles[0], one.made.real[at])
    np.testing.assert_array_equal(tiles[1], one.made.fake[at])
    np.testing.assert_array_equal(tiles[3], np.clip(128 + 4 * (tiles[1] - tiles[0]), 0, 255))
    outside = one.made.masks[at] == 0
    assert tiles[2][one.made.masks[at] > 0.9 * one.opacity].mean() > tiles[2][outside].mean()
    wide = draw_contact_sheet(sheet, worn=True)
    assert wide.shape[1] == picture.shape[1] + 2 * (size + 6)
    assert (picture[rows, :250] < 100).any(), "there is a label"


def test_stills_alone_make_a_sheet_of_what_stills_can_show() -> None:
    sheet = draw_sheet(STILLS, rows=6, seed=0)
    assert {one.made.kind for one in sheet.examples} == STILL_KINDS
    assert len(sheet.notes) == len(KINDS) - len(STILL_KINDS)
    assert all("is left out: No clip is long enough" in note for note in sheet.notes)


def test_nothing_to_look_at_is_said() -> None:
    with pytest.raises(NothingToShow, match="no face that fits"):
        draw_sheet([], rows=3, seed=0)


def test_a_long_track_is_sampled_at_times_that_it_has() -> None:
    long = portrait("ann", frames=200)
    t = np.cumsum(np.random.default_rng(0).choice([0.017, 0.033, 0.4], 200))
    sheet = draw_sheet([replace(long, t=t), PEOPLE[1]], rows=7, seed=0)
    for one in sheet.examples:
        if one.identity == "ann":
            assert np.isin(one.clip.t, t).all()
            assert (np.diff(one.clip.t) > 0).all()
            assert one.clip.t[-1] - one.clip.t[0] <= 2.0
