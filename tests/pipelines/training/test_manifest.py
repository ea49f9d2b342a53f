"""The manifest: tiers are enforced, splits go by person, and a row that is no record is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import ManifestError, MissingMedia, SourceNotFound, UnsupportedMedia
from pipelines.training.manifest import TRAINING_TIERS, digest, for_training, present, read_manifest, split_of
from pipelines.training.manifest_checks import check
from tests.pipelines.training.manifests import Row, name_on, records_of
from tests.support import require


def test_only_the_training_tiers_reach_training(tmp_path: Path) -> None:
    tiers = ("open", "published", "study", "validation", "own")
    records = records_of(tmp_path, *({"file": f"{tier}.mp4", "tier": tier, "identity": tier} for tier in tiers), make=False)
    assert {record.tier for record in for_training(records)} == {"open", "published"} == set(TRAINING_TIERS)
    assert {record.tier for record in for_training(records, tiers=("own",))} == {"own"}
    assert {record.tier for record in for_training(records, tiers=(*TRAINING_TIERS, "own"))} == {"open", "published", "own"}
    for tier in ("study", "validation"):
        with pytest.raises(UnsupportedMedia, match=f"may not be trained on.*got {tier}"):
            for_training(records, tiers=("open", tier))


def test_a_fake_never_reaches_training(tmp_path: Path) -> None:
    for tier in ("open", "own"):
        records = records_of(tmp_path, {"file": "a.mp4", "tier": tier, "label": "fake"})
        assert for_training(records, tiers=(tier,)) == []


def test_the_split_goes_by_person_alone(tmp_path: Path) -> None:
    rows: list[Row] = [{"file": f"{i}-{k}.mp4", "identity": f"person {i}"} for i in range(300) for k in range(2)]
    records = records_of(tmp_path, *rows, make=False)
    by_person: dict[str, set[str]] = {}
    for record in records:
        by_person.setdefault(record.identity, set()).add(split_of(record))
    assert all(len(splits) == 1 for splits in by_person.values())
    held = sum(splits == {"holdout"} for splits in by_person.values())
    assert 30 <= held <= 90


@pytest.mark.parametrize("side", ["train", "holdout"])
def test_a_split_in_the_record_stands(tmp_path: Path, side: str) -> None:
    rows: list[Row] = [{"file": f"{i}.mp4", "identity": f"person {i}", "split": side} for i in range(40)]
    assert {split_of(record) for record in records_of(tmp_path, *rows)} == {side}
    free: list[Row] = [{**row, "split": None} for row in rows]
    assert {split_of(record) for record in records_of(tmp_path, *free)} == {"train", "holdout"}


@pytest.mark.parametrize("second", [{"split": "holdout"}, {"split": None}], ids=["named", "by lot"])
def test_a_person_on_both_sides_is_refused_by_name(tmp_path: Path, second: Row) -> None:
    name = name_on("holdout")
    records = records_of(
        tmp_path,
        {"file": "a.mp4", "identity": name, "split": "train"},
        {"file": "b.mp4", "identity": name, **second},
        {"file": "c.mp4", "identity": "somebody else"},
    )
    with pytest.raises(ManifestError, match=rf"1 identity.*{name} \(train: a.mp4, holdout: b.mp4\)"):
        for_training(records)
    assert [fault.name for fault in check(records).of("identity on both sides")] == [name]


def test_the_digest_depends_on_content_and_not_on_order(tmp_path: Path) -> None:
    records = records_of(tmp_path, *({"file": f"{i}.mp4", "sha256": str(i)} for i in range(3)))
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
        records_of(tmp_path, *rows)


def test_of_many_malformed_rows_ten_are_named_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"13 malformed.*row 10 \(9.mp4\).*and 3 more") as refusal:
        records_of(tmp_path, *({"file": f"{i}.mp4", "label": "x"} for i in range(13)))
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
    from_json = records_of(tmp_path, *rows, make=False)
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
    records = records_of(tmp_path, *({"file": f"{i:02}.mp4"} for i in range(14)))
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


def test_no_person_of_the_real_collection_is_on_both_sides() -> None:
    data = require("shared")
    assert data is not None
    records = for_training(read_manifest(data / "manifest.json"))
    train = {record.identity for record in records if split_of(record) == "train"}
    held = {record.identity for record in records if split_of(record) == "holdout"}
    assert train and held and not train & held
