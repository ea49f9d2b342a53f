"""The manifest: tiers are enforced, splits go by person, errors say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.errors import SourceNotFound, UnsupportedMedia
from pipelines.training.manifest import digest, for_training, read_manifest, split_of
from tests.support import require


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_only_the_training_tiers_reach_training(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"file": f"{tier}.mp4", "kind": "video", "tier": tier, "identity": tier} for tier in ("open", "published", "study", "validation")
    ]
    records = read_manifest(_write(tmp_path / "manifest.json", rows))
    assert {record.tier for record in for_training(records)} == {"open", "published"}
    with pytest.raises(UnsupportedMedia, match="may not be trained on"):
        for_training(records, tiers=("open", "study"))


def test_a_fake_never_reaches_training(tmp_path: Path) -> None:
    records = read_manifest(_write(tmp_path / "m.json", [{"file": "a.mp4", "kind": "video", "tier": "open", "label": "fake"}]))
    assert for_training(records) == []


def test_the_split_goes_by_person_alone(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"file": f"{i}-{k}.mp4", "kind": "video", "tier": "open", "identity": f"person {i}"} for i in range(300) for k in range(2)
    ]
    records = read_manifest(_write(tmp_path / "m.json", rows))
    by_person: dict[str, set[str]] = {}
    for record in records:
        by_person.setdefault(record.identity, set()).add(split_of(record))
    assert all(len(splits) == 1 for splits in by_person.values())
    held = sum(splits == {"holdout"} for splits in by_person.values())
    assert 30 <= held <= 90


def test_the_digest_depends_on_content_and_not_on_order(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"file": f"{i}.mp4", "kind": "video", "tier": "open", "sha256": str(i)} for i in range(3)]
    records = read_manifest(_write(tmp_path / "m.json", rows))
    assert digest(records) == digest(reversed(records))
    assert digest(records) != digest(records[:2])


@pytest.mark.parametrize(("content", "message"), [("not json", "is not a manifest"), ('[{"file": "a.mp4"}]', "no kind, tier")])
def test_a_bad_manifest_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(UnsupportedMedia, match=message):
        read_manifest(path)


def test_a_missing_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no manifest"):
        read_manifest(tmp_path / "none.json")


def test_no_person_of_the_real_collection_is_on_both_sides() -> None:
    data = require("shared")
    assert data is not None
    records = for_training(read_manifest(data / "manifest.json"))
    train = {record.identity for record in records if split_of(record) == "train"}
    held = {record.identity for record in records if split_of(record) == "holdout"}
    assert train and held and not train & held
