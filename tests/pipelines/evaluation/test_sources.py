"""Labelled media as people keep them; what contradicts itself is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.errors import ManifestError, MissingMedia
from pipelines.evaluation.sources import Pictures, check_labelled, read_deepfakebench, shared_identities, videos_in
from pipelines.training.manifest import Record


def _bench(tmp_path: Path, *, labels: tuple[str, ...] = ("FF-real", "FF-DF"), compressed: bool = True) -> Path:
    datasets: dict[str, object] = {}
    for number, label in enumerate(labels):
        frames = []
        for i in (0, 10, 9):
            path = tmp_path / "frames" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((64, 48, 3), 20 * number + i, np.uint8))
            frames.append(f"frames\\{label}\\{i}.png")
        video = {f"{number:03d}_{number:03d}": {"label": label, "frames": frames}}
        datasets[label] = {"test": {"c23": video} if compressed else video}
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"FaceForensics++": datasets}))
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_deepfakebench_pictures_are_read_in_order_with_their_times(tmp_path: Path, compressed: bool) -> None:
    records, pictures = read_deepfakebench(_bench(tmp_path, compressed=compressed), tmp_path, label_map={}, split="test", fps=10)
    assert [(record.label, record.method, record.identity) for record in records] == [
        ("real", "FF-real", "FaceForensics++/000"),
        ("fake", "FF-DF", "FaceForensics++/001"),
    ]
    with pictures[records[1].file].reader("ignored", hz=None, limits=None, closely=None) as source:
        seen = [(round(frame.t, 4), int(frame.image[5, 5, 0])) for frame in source]
    assert seen == [(0.0, 20), (0.9, 29), (1.0, 30)], "9.png comes before 10.png, each at its number's time, and nothing is lost"


def test_pictures_without_a_number_of_their_own_are_neighbours() -> None:
    for names, times in (
        (("a.png", "b.png"), (0.0, 0.5)),
        (("f_7.png", "f_9.png"), (0.0, 1.0)),
        (("a_1.png", "b_1.png", "c_1.png"), (0.0, 0.5, 1.0)),
        ((), ()),
    ):
        assert Pictures(tuple(Path(name) for name in names), 2.0).times == times


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("FF-F2F", "fake"),
        ("CelebDFv2_fake", "fake"),
        ("CelebDFv2_real", "real"),
        ("DFDCP_FakeA", "fake"),
        ("DFDC_Real", "real"),
        ("YouTube-real", "real"),
    ],
)
def test_names_of_deepfakebench_are_known(tmp_path: Path, label: str, expected: str) -> None:
    records, _ = read_deepfakebench(_bench(tmp_path, labels=(label,)), tmp_path, label_map={}, split="test", fps=25)
    assert records[0].label == expected


def test_an_unknown_label_is_refused_by_name_unless_it_is_mapped(tmp_path: Path) -> None:
    path = _bench(tmp_path, labels=("FF-real", "simswap"))
    with pytest.raises(ManifestError, match="got simswap"):
        read_deepfakebench(path, tmp_path, label_map={}, split="test", fps=25)
    records, _ = read_deepfakebench(path, tmp_path, label_map={"simswap": "fake"}, split="test", fps=25)
    assert [record.label for record in records] == ["real", "fake"]


def test_missing_pictures_empty_splits_and_other_files_are_named(tmp_path: Path) -> None:
    path = _bench(tmp_path)
    with pytest.raises(ManifestError, match="split train is empty"):
        read_deepfakebench(path, tmp_path, label_map={}, split="train", fps=25)
    (tmp_path / "frames" / "FF-DF" / "9.png").unlink()
    with pytest.raises(MissingMedia, match=r"FF-DF/9\.png"):
        read_deepfakebench(path, tmp_path, label_map={}, split="test", fps=25)
    path.write_text("[1, 2]")
    with pytest.raises(ManifestError, match="no JSON of DeepfakeBench"):
        read_deepfakebench(path, tmp_path, label_map={}, split="test", fps=25)


def test_a_folder_names_the_make(tmp_path: Path) -> None:
    for name in ("real/a.mp4", "fake/FaceSwap/b.mp4", "fake/c.mp4", "notes/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {(record.file, record.label, record.method) for record in videos_in(tmp_path)} == {
        ("real/a.mp4", "real", "real"),
        ("fake/FaceSwap/b.mp4", "fake", "FaceSwap"),
        ("fake/c.mp4", "fake", "fake"),
    }


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    one = Record("a.mp4", tmp_path / "a.mp4", "video", "user", "real", "a", "", "", None, 1)
    check_labelled([one])
    with pytest.raises(ManifestError, match="real and fake"):
        check_labelled([one, replace(one, label="fake")])
    with pytest.raises(ManifestError, match="twice"):
        check_labelled([one, replace(one, file="again.mp4")])
    with pytest.raises(MissingMedia, match=r"gone\.mp4"):
        check_labelled([one, replace(one, file="gone.mp4", path=tmp_path / "gone.mp4")])
    with pytest.raises(ManifestError, match=r"both sides of the split.*got a \(train: a\.mp4, holdout: b\.mp4\)"):
        (tmp_path / "b.mp4").touch()
        check_labelled([replace(one, split="train"), replace(one, file="b.mp4", path=tmp_path / "b.mp4", split="holdout")])


def test_a_person_in_company_is_on_both_sides_too(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").touch()
    one, pair = (
        Record(f"{n}.mp4", tmp_path / f"{n}.mp4", "video", "user", "real", who, "", "", None, c)
        for n, who, c in (("a", "anna", 1), ("b", "anna+ben", 2))
    )
    with pytest.raises(ManifestError, match=r"got anna \(train: a\.mp4, holdout: b\.mp4\)\.$"):
        check_labelled([replace(one, split="train"), replace(pair, split="holdout")])


def test_one_content_under_two_labels_is_refused_by_name_whatever_its_files_are_called(tmp_path: Path) -> None:
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"size")):
        (tmp_path / f"{name}.mp4").write_bytes(content)
    a, b, c = (Record(f"{n}.mp4", tmp_path / f"{n}.mp4", "video", "user", "real", n, "", "", None, 1) for n in "abc")
    check_labelled([a, b, replace(c, label="fake")])
    with pytest.raises(ManifestError, match=r"one content.*got a\.mp4 = b\.mp4\.$"):
        check_labelled([a, replace(b, label="fake"), c])


def _json(path: Path, datasets: object) -> Path:
    path.write_text(json.dumps(datasets))
    return path


def test_compressions_are_videos_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    (tmp_path / "1.png").touch()
    videos = {one: {"000": {"label": "FF-real", "frames": [f"{number}.png"]}} for number, one in enumerate(("c23", "c40"))}
    path = _json(tmp_path / "b.json", {"FF": {"FF-real": {"test": videos}}})
    records, pictures = read_deepfakebench(path, tmp_path, label_map={}, split="test", fps=25)
    assert [record.file for record in records] == ["FF/FF-real/c23/000", "FF/FF-real/c40/000"]
    assert [pictures[record.file].frames[0].name for record in records] == ["0.png", "1.png"]
    assert len({record.identity for record in records}) == 1


def test_pictures_under_two_labels_and_videos_without_any_are_refused_and_shared_people_listed(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    video = {"id0_1": {"label": "", "frames": ["0.png"]}}
    both = _json(tmp_path / "b.json", {"C": {"CelebDFv2_real": {"test": video}, "CelebDFv2_fake": {"test": video}}})
    with pytest.raises(ManifestError, match=r"real and fake.*0\.png"):
        read_deepfakebench(both, tmp_path, label_map={}, split="test", fps=25)
    none = _json(tmp_path / "n.json", {"C": {"CelebDFv2_real": {"test": {"id0_1": {"label": "", "frames": []}}}}})
    with pytest.raises(ManifestError, match=r"no pictures.*C/CelebDFv2_real/id0_1"):
        read_deepfakebench(none, tmp_path, label_map={}, split="test", fps=25)
    shared = {"test": video, "train": {"id0_2": {"label": "", "frames": []}, "id5_1": {"label": "", "frames": []}}}
    path = _json(tmp_path / "s.json", {"C": {"CelebDFv2_real": shared}})
    assert shared_identities(path, "test") == ["C/id0 (train)"]
