"""The manifest: tiers are enforced, splits go by person, and whatever is wrong is refused or listed by its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import ManifestError, MissingMedia, SourceNotFound, UnsupportedMedia
from pipelines.training.manifest import (
    TRAINING_TIERS,
    Record,
    check,
    check_manifest,
    digest,
    for_training,
    manifest_of,
    present,
    read_manifest,
    split_of,
)
from tests import clips
from tests.support import require

Row = Mapping[str, object]


def _write(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def _records(folder: Path, *rows: Row, make: bool = True) -> list[Record]:
    """Records of `rows`, whose files hold their own names unless `make` is off."""
    whole: list[Row] = [{"kind": "video", "tier": "open", **row} for row in rows]
    for row in whole if make else ():
        (folder / str(row["file"])).write_text(str(row["file"]))
    return read_manifest(_write(folder / "m.json", whole))


def _name_on(side: str, taken: str = "") -> str:
    return next(
        name
        for name in (f"person {number}{taken}" for number in range(1000))
        if split_of(Record("", Path(), "video", "open", "real", name, "", "", None, 1)) == side
    )


def test_only_the_training_tiers_reach_training(tmp_path: Path) -> None:
    tiers = ("open", "published", "study", "validation", "own")
    records = _records(tmp_path, *({"file": f"{tier}.mp4", "tier": tier, "identity": tier} for tier in tiers), make=False)
    assert {record.tier for record in for_training(records)} == {"open", "published"} == set(TRAINING_TIERS)
    assert {record.tier for record in for_training(records, tiers=("own",))} == {"own"}
    assert {record.tier for record in for_training(records, tiers=(*TRAINING_TIERS, "own"))} == {"open", "published", "own"}
    for tier in ("study", "validation"):
        with pytest.raises(UnsupportedMedia, match=f"may not be trained on.*got {tier}"):
            for_training(records, tiers=("open", tier))


def test_a_fake_never_reaches_training(tmp_path: Path) -> None:
    for tier in ("open", "own"):
        records = _records(tmp_path, {"file": "a.mp4", "tier": tier, "label": "fake"})
        assert for_training(records, tiers=(tier,)) == []


def test_the_split_goes_by_person_alone(tmp_path: Path) -> None:
    rows: list[Row] = [{"file": f"{i}-{k}.mp4", "identity": f"person {i}"} for i in range(300) for k in range(2)]
    records = _records(tmp_path, *rows, make=False)
    by_person: dict[str, set[str]] = {}
    for record in records:
        by_person.setdefault(record.identity, set()).add(split_of(record))
    assert all(len(splits) == 1 for splits in by_person.values())
    held = sum(splits == {"holdout"} for splits in by_person.values())
    assert 30 <= held <= 90


@pytest.mark.parametrize("side", ["train", "holdout"])
def test_a_split_in_the_record_stands(tmp_path: Path, side: str) -> None:
    rows: list[Row] = [{"file": f"{i}.mp4", "identity": f"person {i}", "split": side} for i in range(40)]
    assert {split_of(record) for record in _records(tmp_path, *rows)} == {side}
    free: list[Row] = [{**row, "split": None} for row in rows]
    assert {split_of(record) for record in _records(tmp_path, *free)} == {"train", "holdout"}


@pytest.mark.parametrize("second", [{"split": "holdout"}, {"split": None}], ids=["named", "by lot"])
def test_a_person_on_both_sides_is_refused_by_name(tmp_path: Path, second: Row) -> None:
    name = _name_on("holdout")
    records = _records(
        tmp_path,
        {"file": "a.mp4", "identity": name, "split": "train"},
        {"file": "b.mp4", "identity": name, **second},
        {"file": "c.mp4", "identity": "somebody else"},
    )
    with pytest.raises(ManifestError, match=rf"1 identity.*{name} \(train: a.mp4, holdout: b.mp4\)"):
        for_training(records)
    assert [fault.name for fault in check(records).of("identity on both sides")] == [name]


def test_a_person_hides_behind_no_pair(tmp_path: Path) -> None:
    held, trained = _name_on("holdout"), _name_on("train")
    pair = next(f"{held}+{other}" for other in (f"{trained} {i}" for i in range(99)) if _side(f"{held}+{other}") == "train")
    records = _records(tmp_path, {"file": "a.mp4", "identity": held}, {"file": "b.mp4", "identity": pair, "people": 2})
    assert [fault.name for fault in check(records).of("identity on both sides")] == [held]
    alone = _records(tmp_path, {"file": "a.mp4", "identity": held}, {"file": "b.mp4", "identity": pair, "people": 1})
    assert check(alone).ok, "a plus in one person's name is part of the name"


def _side(identity: str) -> str:
    return split_of(Record("", Path(), "video", "open", "real", identity, "", "", None, 1))


def test_the_digest_depends_on_content_and_not_on_order(tmp_path: Path) -> None:
    records = _records(tmp_path, *({"file": f"{i}.mp4", "sha256": str(i)} for i in range(3)))
    assert digest(records) == digest(reversed(records))
    assert digest(records) != digest(records[:2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is not a manifest"),
        ('{"file": "a.mp4"}', "is not a manifest.*got a JSON dict"),
        ('[{"file": "a.mp4"}]', r"row 1 \(a.mp4\): no kind, tier"),
        ('[{"kind": "video", "tier": "open"}]', r"row 1 \(no file\): no file"),
        ('["a.mp4"]', r'row 1 \(no file\): expected a record, got "a.mp4"'),
        ('[{"file": "a.mp4", "kind": "vidoe", "tier": "open"}]', r"row 1 \(a.mp4\): kind 'vidoe', expected video or image"),
        ('[{"file": "a.mp4", "kind": "video", "tier": "open", "people": "two"}]', r"row 1 \(a.mp4\): people 'two'"),
        (
            '[{"file": "a.mp4", "kind": "video", "tier": "open", "split": "test"}]',
            r"row 1 \(a.mp4\): split 'test', expected train or holdout",
        ),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("label", ["Real", "FAKE", "0", "", 1, True, ["real"]])
def test_a_wrong_label_is_refused_by_row_and_file(tmp_path: Path, label: object) -> None:
    rows: list[Row] = [{"file": "good.mp4", "label": "real"}, {"file": "bad.mp4", "label": label}]
    with pytest.raises(ManifestError, match=r"1 malformed record.*got row 2 \(bad.mp4\): label .*, expected real or fake"):
        _records(tmp_path, *rows)


def test_of_many_malformed_rows_ten_are_named_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"13 malformed.*row 10 \(9.mp4\).*and 3 more") as refusal:
        _records(tmp_path, *({"file": f"{i}.mp4", "label": "x"} for i in range(13)))
    assert "row 11" not in str(refusal.value)


def test_a_missing_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no manifest"):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(ManifestError, match="readable text file"):
        read_manifest(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(tmp_path / "binary.csv")


def test_a_csv_gives_the_same_records_as_the_json(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "\ufeffpath,label,method,identity,split,source\r\n"
        'real/a.mp4,real,,"Ann, the first",train,home\r\n'
        "fake/b.PNG,fake,swap,Ben,,\r\n"
        "\r\n"
        "c.webm,real,,,,\r\n",
        encoding="utf-8",
    )
    rows: list[Row] = [
        {"file": "real/a.mp4", "label": "real", "identity": "Ann, the first", "split": "train", "repo": "home", "tier": "own"},
        {"file": "fake/b.PNG", "kind": "image", "label": "fake", "method": "swap", "identity": "Ben", "tier": "own"},
        {"file": "c.webm", "label": "real", "tier": "own"},
    ]
    from_json = _records(tmp_path, *rows, make=False)
    assert read_manifest(tmp_path / "m.csv") == from_json
    assert from_json[2].identity == "c.webm", "a file that names nobody is a person of its own"


def test_a_csv_may_name_tier_kind_hash_and_people(tmp_path: Path) -> None:
    path = tmp_path / "m.CSV"
    path.write_text("label,path,tier,kind,sha256,people\nreal,a,validation,image,ABC,3\n")
    (record,) = read_manifest(path)
    assert (record.tier, record.kind, record.sha256, record.people) == ("validation", "image", "abc", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no path; no label"),
        ("path,method\na.mp4,x\n", "got no label"),
        ("path,label,identiy\na.mp4,real,Ann\n", "column 'identiy'"),
        ("path,label,label\na.mp4,real,real\n", "column 'label twice'"),
        ("path,label\na.mp4,real\nb.mp4,genuine\n", r"row 3 \(b.mp4\): label 'genuine', expected real or fake"),
        ("path,label\na.mp4,\n", r"row 2 \(a.mp4\): label ''"),
        ("path,label\n,real\n", r"row 2 \(no file\): no file"),
        ("path,label\na.mp4,real,more\n", r"row 2 \(a.mp4\): it has not the header's 2 cells"),
        ("path,label\na.mp4\n", r"row 2 \(a.mp4\): it has not the header's 2 cells"),
        ("path,label,split\na.mp4,real,test\n", r"row 2 \(a.mp4\): split 'test'"),
        ("path,label,people\na.mp4,real,some\n", r"row 2 \(a.mp4\): people 'some'"),
        ('path,label\n"a.mp4,real\n', "is not a manifest.*line"),
    ],
)
def test_a_bad_csv_says_what_is_wrong_and_in_which_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_missing_files_are_refused_ten_by_name_or_left_out_when_asked(tmp_path: Path) -> None:
    records = _records(tmp_path, *({"file": f"{i:02}.mp4"} for i in range(14)))
    for number in range(12):
        (tmp_path / f"{number:02}.mp4").unlink()
    with pytest.raises(MissingMedia, match=r"12 of the manifest's 14 file.*got 00.mp4; 01.mp4; .*09.mp4; and 2 more") as refusal:
        present(records)
    assert "10.mp4" not in str(refusal.value)
    heard: list[str] = []
    left = present(records, skip_missing=True, on_missing=lambda record: heard.append(record.file))
    assert [record.file for record in left] == ["12.mp4", "13.mp4"]
    assert heard == [f"{i:02}.mp4" for i in range(12)]
    with pytest.raises(MissingMedia, match="1 of the manifest's 1 file"):
        present(records[:1], skip_missing=True)
    assert present(records[12:]) == records[12:]
    (tmp_path / "00.mp4").mkdir()
    with pytest.raises(MissingMedia):
        present(records[:1])


def test_one_class_is_enough_to_train_and_gives_no_auc(tmp_path: Path) -> None:
    reals = _records(tmp_path, {"file": "a.mp4"}, {"file": "b.mp4"})
    report = check(reals)
    assert report.ok
    assert any("right for training" in note and "no AUC" in note for note in report.notes)
    fakes = [replace(record, label="fake", tier="validation") for record in reals]
    assert any("All is fake" in note for note in check(fakes).notes)


def test_what_is_missing_changed_or_unknown_is_listed_by_name(tmp_path: Path) -> None:
    true = hashlib.sha256(b"same.mp4").hexdigest()
    records = _records(
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
    found = {fault.name: fault.detail for fault in check(_records(tmp_path, *rows)).of("duplicate")}
    assert found == {"a.mp4": "the same content as b.mp4, labelled fake and real", "c.mp4": "listed 2 times"}
    records = _records(tmp_path, {"file": "e.mp4"}, {"file": "f.mp4"})
    (tmp_path / "f.mp4").write_text("e.mp4")
    assert check(records).ok, "without a hash nobody knows"
    assert [fault.name for fault in check(records, hashes=True).of("duplicate")] == ["e.mp4"]


def test_one_identity_under_both_labels_is_a_fault_unless_it_is_a_validation_pair(tmp_path: Path) -> None:
    pair: list[Row] = [
        {"file": "a.mp4", "identity": "Ann", "tier": "validation"},
        {"file": "b.mp4", "identity": "Ann", "tier": "validation", "label": "fake"},
    ]
    assert check(_records(tmp_path, *pair)).ok
    (fault,) = check(_records(tmp_path, {**pair[0], "tier": "open"}, pair[1])).of("identity under both labels")
    assert fault.name == "Ann"
    assert "real in a.mp4, fake in b.mp4" in fault.detail


def test_people_are_counted_and_not_files(tmp_path: Path) -> None:
    held, trained = _name_on("holdout"), _name_on("train")
    rows: list[Row] = [{"file": f"{i}.mp4", "identity": held} for i in range(3)]
    rows += [{"file": "t.jpg", "kind": "image", "identity": trained}, {"file": "v.mp4", "tier": "validation", "label": "fake"}]
    tallies = {(row.tier, row.label): row for row in check(_records(tmp_path, *rows)).tallies}
    row = tallies["open", "real"]
    assert (row.videos, row.images, row.people, row.train_people, row.holdout_people) == (3, 1, 2, 1, 1)
    assert tallies["validation", "fake"].people == 1
    one_side = check(_records(tmp_path, *rows[:3]))
    assert any("Nobody is on the side train" in note for note in one_side.notes)


def test_malformed_records_are_faults_beside_the_others(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.json", [{"file": "a.mp4", "kind": "video", "tier": "open"}, {"file": "b.mp4", "label": "no"}])
    report = check_manifest(path)
    assert report.records == 2
    assert {(fault.kind, fault.name) for fault in report.faults} == {("malformed record", "row 2 (b.mp4)"), ("missing file", "a.mp4")}
    assert check_manifest(_write(path, [])).notes == ("There is no record.",)


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
    records = read_manifest(_write(out, [dict(row) for row in made.rows]))
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
    same_side = [_name_on("train"), _name_on("train", " b")]
    for name in same_side:
        (tmp_path / "f" / name).mkdir(parents=True)
        clips.still(tmp_path / "f" / name / "a.png")
    made = manifest_of(tmp_path / "f", tmp_path / "my.json", identity_from="parent")
    records = read_manifest(_write(tmp_path / "my.json", [dict(row) for row in made.rows]))
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


def test_no_person_of_the_real_collection_is_on_both_sides() -> None:
    data = require("shared")
    assert data is not None
    records = for_training(read_manifest(data / "manifest.json"))
    train = {record.identity for record in records if split_of(record) == "train"}
    held = {record.identity for record in records if split_of(record) == "holdout"}
    assert train and held and not train & held


def test_nothing_is_wrong_with_the_real_collection() -> None:
    data = require("shared")
    assert data is not None
    assert check_manifest(data / "manifest.json").faults == ()
