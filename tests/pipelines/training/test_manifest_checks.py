"""Checking a manifest: whatever is wrong with it is listed by its name, and people are counted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pipelines.training.manifest_checks import check, check_manifest
from tests.pipelines.training.manifests import Row, name_on, records_of, side_of, write_manifest
from tests.support import require


def test_a_person_hides_behind_no_pair(tmp_path: Path) -> None:
    held, trained = name_on("holdout"), name_on("train")
    pair = next(f"{held}+{other}" for other in (f"{trained} {i}" for i in range(99)) if side_of(f"{held}+{other}") == "train")
    records = records_of(tmp_path, {"file": "a.mp4", "identity": held}, {"file": "b.mp4", "identity": pair, "people": 2})
    assert [fault.name for fault in check(records).of("identity on both sides")] == [held]
    alone = records_of(tmp_path, {"file": "a.mp4", "identity": held}, {"file": "b.mp4", "identity": pair, "people": 1})
    assert check(alone).ok, "a plus in one person's name is part of the name"


def test_one_class_is_enough_to_train_and_gives_no_auc(tmp_path: Path) -> None:
    reals = records_of(tmp_path, {"file": "a.mp4"}, {"file": "b.mp4"})
    report = check(reals)
    assert report.ok
    assert any("right for training" in note and "no AUC" in note for note in report.notes)
    fakes = [replace(record, label="fake", tier="validation") for record in reals]
    assert any("All is fake" in note for note in check(fakes).notes)


def test_what_is_missing_changed_or_unknown_is_listed_by_name(tmp_path: Path) -> None:
    true = hashlib.sha256(b"same.mp4").hexdigest()
    records = records_of(
        tmp_path,
        {"file": "same.mp4", "sha256": true.upper()},
        {"file": "other.mp4", "sha256": "0" * 64},
        {"file": "gone.mp4"},
        {"file": "odd.mp4", "tier": "publised"},
    )
    (tmp_path / "gone.mp4").unlink()
    quick = check(records)
    assert {(fault.kind, fault.name) for fault in quick.faults} == {("missing file", "gone.mp4"), ("unknown value", "odd.mp4")}
    assert "tier 'publised', expected open or published or own or study or validation" in quick.of("unknown value")[0].detail
    seen: list[int] = []
    thorough = check(records, hashes=True, on_file=lambda number, _: seen.append(number))
    (wrong,) = thorough.of("wrong sha256")
    assert (wrong.name, seen) == ("other.mp4", [1, 2, 3, 4])
    assert wrong.detail == f"expected {'0' * 64}; got {hashlib.sha256(b'other.mp4').hexdigest()}"
    made = [replace(records[0], label="maybe", kind="audio")]  # type: ignore[arg-type]  # what a caller's own reader could bring
    assert {fault.detail.split(",")[0] for fault in check(made).of("unknown value")} == {"kind 'audio'", "label 'maybe'"}


def test_duplicates_are_listed_with_their_names_and_labels(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"file": "a.mp4", "sha256": "1"},
        {"file": "b.mp4", "sha256": "1", "label": "fake", "tier": "validation", "identity": "b"},
        {"file": "c.mp4"},
        {"file": "c.mp4"},
        {"file": "d.mp4"},
    ]
    found = {fault.name: fault.detail for fault in check(records_of(tmp_path, *rows)).of("duplicate")}
    assert found == {"a.mp4": "the same content as b.mp4, labelled fake and real", "c.mp4": "listed 2 times"}
    records = records_of(tmp_path, {"file": "e.mp4"}, {"file": "f.mp4"})
    (tmp_path / "f.mp4").write_text("e.mp4")
    assert check(records).ok, "without a hash nobody knows"
    assert [fault.name for fault in check(records, hashes=True).of("duplicate")] == ["e.mp4"]


def test_one_identity_under_both_labels_is_a_fault_unless_it_is_a_validation_pair(tmp_path: Path) -> None:
    pair: list[Row] = [
        {"file": "a.mp4", "identity": "Ann", "tier": "validation"},
        {"file": "b.mp4", "identity": "Ann", "tier": "validation", "label": "fake"},
    ]
    assert check(records_of(tmp_path, *pair)).ok
    (fault,) = check(records_of(tmp_path, {**pair[0], "tier": "open"}, pair[1])).of("identity under both labels")
    assert fault.name == "Ann"
    assert "real in a.mp4, fake in b.mp4" in fault.detail


def test_people_are_counted_and_not_files(tmp_path: Path) -> None:
    held, trained = name_on("holdout"), name_on("train")
    rows: list[Row] = [{"file": f"{i}.mp4", "identity": held} for i in range(3)]
    rows += [{"file": "t.jpg", "kind": "image", "identity": trained}, {"file": "v.mp4", "tier": "validation", "label": "fake"}]
    tallies = {(row.tier, row.label): row for row in check(records_of(tmp_path, *rows)).tallies}
    row = tallies["open", "real"]
    assert (row.videos, row.images, row.people, row.train_people, row.holdout_people) == (3, 1, 2, 1, 1)
    assert tallies["validation", "fake"].people == 1
    one_side = check(records_of(tmp_path, *rows[:3]))
    assert any("Nobody is on the side train" in note for note in one_side.notes)


def test_malformed_records_are_faults_beside_the_others(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "m.json", [{"file": "a.mp4", "kind": "video", "tier": "open"}, {"file": "b.mp4", "label": "no"}])
    report = check_manifest(path)
    assert report.records == 2
    assert {(fault.kind, fault.name) for fault in report.faults} == {("malformed record", "row 2 (b.mp4)"), ("missing file", "a.mp4")}
    assert check_manifest(write_manifest(path, [])).notes == ("There is no record.",)


def test_nothing_is_wrong_with_the_real_collection() -> None:
    data = require("shared")
    assert data is not None
    assert check_manifest(data / "manifest.json").faults == ()
