"""Looking at pseudo-fakes: rows in order, panels that are what they say, files whose times are the source's, refusals that help."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import NothingToShow
from pipelines.frames import read_frames
from pipelines.training.inspection import (
    MIN_FRAMES,
    STILL_KINDS,
    Example,
    draw_contact_sheet,
    draw_example,
    draw_sheet,
    encode_clip,
    side_by_side,
)
from pipelines.training.masks import FAMILIES
from pipelines.training.pseudo_fakes import KINDS, Kind
from tests import clips
from tests.pipelines.training.portrait import portrait

PEOPLE = [portrait("ann"), portrait("ben")]
STILLS = [portrait("ann", frames=1), portrait("ben", frames=1)]


def _example(kind: Kind, seed: int = 0, *, moving: bool = True, partial: bool = False) -> Example:
    return draw_example(PEOPLE, np.random.default_rng(seed), kind=kind, moving=moving, partial=partial)


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
    monkeypatch.setattr("pipelines.training.inspection.TRIES", 2)
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


def test_the_share_on_the_face_tells_a_stray_mask() -> None:
    one = _example("static")
    assert one.on_face > 0.6
    away = replace(one, made=replace(one.made, masks=np.roll(one.made.masks, 96, axis=2)))
    assert away.on_face < one.on_face / 2


def test_who_was_altered_is_told() -> None:
    altered = {_example("static", seed).altered for seed in range(12)}
    assert altered == {"donor", "target"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in STILL_KINDS])
def test_a_kind_of_time_needs_a_clip_and_says_how_long(kind: Kind) -> None:
    with pytest.raises(NothingToShow, match=rf"No clip is long enough for {kind}.*at least {MIN_FRAMES} frames.*longest of 1 frame"):
        draw_example(STILLS, np.random.default_rng(0), kind=kind)
    with pytest.raises(NothingToShow, match="long enough"):
        draw_sheet(STILLS, rows=3, seed=0, kinds=[kind])


def test_stills_alone_make_a_sheet_of_what_stills_can_show() -> None:
    sheet = draw_sheet(STILLS, rows=6, seed=0)
    assert {one.made.kind for one in sheet.examples} == STILL_KINDS
    assert len(sheet.notes) == len(KINDS) - len(STILL_KINDS)
    assert all("is left out: No clip is long enough" in note for note in sheet.notes)


def test_a_swap_takes_another_person_or_says_that_there_is_none() -> None:
    with pytest.raises(NothingToShow, match=r"needs a donor.*at least two people"):
        draw_example(PEOPLE[:1], np.random.default_rng(0), kind="identity_swap")
    one = draw_example(PEOPLE[:1], np.random.default_rng(0), kind="identity_swap", donors=PEOPLE)
    assert (one.identity, one.made.kind) == ("ann", "identity_swap")


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


@pytest.mark.parametrize(("suffix", "codec", "within"), [(".mp4", "h264", 6e-6), (".webm", "vp9", 0.00051)])
def test_a_written_clip_has_the_times_of_its_source(tmp_path: Path, suffix: str, codec: str, within: float) -> None:
    t = 7.3 + np.array(clips.variable_pts(2.0, seed=3)) / 1000
    pictures = [clips.empty_frame(float(one), width=96, height=64) for one in t]
    content, written = encode_clip(pictures, t, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with read_frames(path, hz=None) as source:
        found = [(frame.pts * frame.time_base, frame.image.shape) for frame in source]
        assert source.media.codec == codec
    assert len(found) == len(t)
    assert {shape for _, shape in found} == {(64, 96, 3)}
    np.testing.assert_allclose([float(stamp) for stamp, _ in found], t - t[0], atol=within)
    assert written == [float(stamp) for stamp, _ in found]


def test_slow_stretches_time_and_two_pictures_of_one_stamp_both_stay(tmp_path: Path) -> None:
    t = np.array([0.0, 0.04, 0.04, 0.2])
    content, written = encode_clip([np.full((64, 64, 3), 50 * i, dtype=np.uint8) for i in range(4)], t, ".mp4", slow=4)
    (tmp_path / "a.mp4").write_bytes(content)
    assert written == pytest.approx([0, 0.16, 0.16 + 1 / 90_000, 0.8])
    with read_frames(tmp_path / "a.mp4", hz=None) as source:
        assert len([frame.pts for frame in source]) == 4
        assert source.media.time_base == Fraction(1, 90_000)


def test_any_player_takes_the_clip(tmp_path: Path) -> None:
    import av

    one = _example("drift")
    content, _ = encode_clip(side_by_side(one), one.clip.t, ".mp4")
    (tmp_path / "a.mp4").write_bytes(content)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.has_b_frames) == ("h264", "yuv420p", False)
        assert context.width % 2 == context.height % 2 == 0


def test_the_marker_and_the_panels_follow_the_labels() -> None:
    one = next(one for seed in range(40) if 0 < (one := _example("static", seed, partial=True)).made.frame_labels.sum() < len(one.clip.t))
    pictures = list(side_by_side(one))
    assert len(pictures) == len(one.clip.t)
    orange = [(picture[:64, -400:] == (213, 94, 0)).all(axis=-1).any() for picture in pictures]
    assert orange == [bool(label) for label in one.made.frame_labels]
    for picture, label in zip(pictures, one.made.frame_labels, strict=True):
        change = picture[110:440, 3 * 384 + 8 :].astype(int)  # below the panel's name
        assert (np.abs(change - 128).max() > 4) == bool(label)
