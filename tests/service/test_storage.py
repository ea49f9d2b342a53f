"""Files: evidence is there whole or not at all, orphans go, and nothing leaves the root."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.report import CropImages
from service.schemas import AnalysisResult, Timeline
from service.storage import Storage

CROPS = {(0, 0): CropImages(jpeg=b"jpeg", boundary_png=b"png")}


def parts(judged: tuple[httpx.Client, str]) -> tuple[AnalysisResult, Timeline]:
    client, path = judged
    result = AnalysisResult.model_validate(client.get(path).json()["result"])
    return result, Timeline.model_validate(client.get(f"{path}/timeline").json())


def test_evidence_is_written_whole_and_replaced_whole(tmp_path: Path, judged: tuple[httpx.Client, str]) -> None:
    result, timeline = parts(judged)
    storage = Storage(tmp_path)
    storage.create("a")
    storage.write_evidence("a", result, timeline, CROPS, by="one")
    storage.write_evidence("a", result, timeline, {}, by="two")
    assert AnalysisResult.model_validate_json(storage.result("a").read_bytes()) == result
    assert Timeline.model_validate_json(storage.timeline("a").read_bytes()) == timeline
    assert not storage.crop("a", 0, 0, "face").exists()


def test_evidence_that_fails_half_way_is_not_there(tmp_path: Path, judged: tuple[httpx.Client, str]) -> None:
    result, timeline = parts(judged)
    storage = Storage(tmp_path)
    storage.create("a")
    broken = {(0, 0): CropImages(jpeg=b"jpeg", boundary_png=None)}  # type: ignore[arg-type]  # fails after result.json was written
    with pytest.raises(TypeError, match="bytes-like"):
        storage.write_evidence("a", result, timeline, broken, by="one")
    assert not storage.result("a").exists()
    storage.write_evidence("a", result, timeline, CROPS, by="one")
    assert storage.crop("a", 0, 0, "boundary").read_bytes() == b"png"


def test_only_directories_without_a_row_are_removed(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for name in ("kept", "orphan"):
        storage.create(name).write_bytes(b"media")
    assert storage.remove_orphans({"kept", "elsewhere"}, older_than_s=3600) == [], "it may be an upload to another replica"
    assert storage.remove_orphans({"kept", "elsewhere"}, older_than_s=0) == ["orphan"]
    assert storage.media("kept").read_bytes() == b"media"
    storage.remove("orphan")
    assert not storage.media("orphan").exists()


def test_bookmarks_are_kept_under_keys_of_their_own_until_it_has_ended(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.create("a")
    keys = [storage.write_bookmark("a", data) for data in (b"one", b"two", b"two")]
    assert len(set(keys)) == 3
    assert [storage.read_bookmark("a", key) for key in keys] == [b"one", b"two", b"two"]
    storage.remove_bookmarks("a")
    storage.remove_bookmarks("a")
    with pytest.raises(FileNotFoundError):
        storage.read_bookmark("a", keys[0])


def test_one_analysis_has_one_directory(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.create("a")
    with pytest.raises(FileExistsError, match="a"):
        storage.create("a")
