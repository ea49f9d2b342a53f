"""Own footage: a folder becomes a manifest that training takes, with both sides of a split and every leftover named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import ManifestError, SourceNotFound
from pipelines.training.manifest import for_training, present, read_manifest, split_of
from pipelines.training.manifest_checks import check
from pipelines.training.own_footage import manifest_of
from tests import clips
from tests.pipelines.training.manifests import name_on, write_manifest


def test_own_footage_becomes_a_manifest_that_training_takes(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    for person in ("ann", "ben", "cat"):
        (footage / person).mkdir(parents=True)
        clips.face_clip(footage / person / "a.mp4", seconds=0.3)
    clips.still(footage / "ann" / "b.jpg")
    (footage / "ann" / "notes.txt").write_text("not media")
    (footage / "ben" / "empty.mp4").touch()
    clips.audio_only(footage / "ben" / "sound.mp4")
    (footage / "ben" / "broken.png").write_bytes((footage / "ann" / "b.jpg").read_bytes()[:200])
    out = tmp_path / "lists" / "my.json"
    out.parent.mkdir()
    made = manifest_of(footage, out, identity_from="parent")
    assert [name for name, _ in made.skipped] == ["ann/notes.txt", "ben/broken.png", "ben/empty.mp4", "ben/sound.mp4"]
    assert all(reason for _, reason in made.skipped)
    records = read_manifest(write_manifest(out, [dict(row) for row in made.rows]))
    assert [(record.identity, record.kind) for record in records] == [
        ("ann", "video"),
        ("ann", "image"),
        ("ben", "video"),
        ("cat", "video"),
    ]
    assert {row["licence"] for row in made.rows} == {"yours"}
    assert len(for_training(records, tiers=("own",))) == 4
    assert for_training(records) == [], "what we ship never learns from it"
    assert present(records) == records
    faults = check(records, hashes=True).faults
    assert {fault.kind for fault in faults} == {"duplicate"}, "the three clips are the same bytes, and nothing else is wrong"


def test_own_footage_of_few_people_still_has_both_sides(tmp_path: Path) -> None:
    same_side = [name_on("train"), name_on("train", " b")]
    for name in same_side:
        (tmp_path / "f" / name).mkdir(parents=True)
        clips.still(tmp_path / "f" / name / "a.png")
    made = manifest_of(tmp_path / "f", tmp_path / "my.json", identity_from="parent")
    records = read_manifest(write_manifest(tmp_path / "my.json", [dict(row) for row in made.rows]))
    assert {split_of(record) for record in records} == {"train", "holdout"}
    assert "names the split itself" in made.notes[0]
    alone = manifest_of(tmp_path / "f" / same_side[0], tmp_path / "one.json", identity_from="parent")
    assert "one person only" in alone.notes[0]
    stems = manifest_of(tmp_path / "f" / same_side[0], tmp_path / "one.json", identity_from="stem")
    assert stems.people == ("a",)


def test_a_folder_without_media_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no folder"):
        manifest_of(tmp_path / "none", tmp_path / "m.json", identity_from="parent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="an empty folder"):
        manifest_of(tmp_path / "empty", tmp_path / "m.json", identity_from="parent")
    (tmp_path / "empty" / "a.txt").write_text("hello")
    with pytest.raises(ManifestError, match=r"a.txt \("):
        manifest_of(tmp_path / "empty", tmp_path / "m.json", identity_from="parent")
