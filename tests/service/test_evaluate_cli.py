"""`undercurrent evaluate` end to end on small clips: rows as it goes, going on from them, wear, sweeps, a page, and refusals by name."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.evaluation.evaluate import VideoScore, said_of
from pipelines.evaluation.robustness import PERTURBATIONS
from pipelines.training.manifest import Record
from tests import clips
from tests.pipelines.evaluation.test_evaluate import PLAIN
from tests.service.test_cli import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, real and 'fake' (the same face moving otherwise)."""
    path = tmp_path_factory.mktemp("labelled")
    for number, name in enumerate(("real/a.mp4", "real/b.mp4", "fake/swap/a.mp4", "fake/swap/b.mp4")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        clips.face_clip(path / name, seconds=1.5, fps=12 + number)
    return path


def test_rows_are_written_as_it_goes_and_gone_on_from(folder: Path, tmp_path: Path) -> None:
    scores, page = tmp_path / "s.csv", tmp_path / "page.html"
    first = run("evaluate", "--videos", folder, "--scores", scores, "--report", page, "--json")
    assert first.returncode == 0, first.stderr
    rows = list(csv.reader(scores.read_text().splitlines()))
    assert len(rows) == 5 and rows[0][0] == "file" and "hz 12, wear none" in rows[1][-1]
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join([*lines[:3], lines[3][:40]]))  # as a crash in the middle of a row leaves it
    second = run("evaluate", "--videos", folder, "--scores", scores, "--resume", "--json")
    assert second.stderr.count(".mp4:") == 2, "two of four were judged already"
    assert json.loads(second.stdout)["auc"] == json.loads(first.stdout)["auc"]
    assert page.read_text().count("swap") >= 2
    assert len(list(csv.reader(scores.read_text().splitlines()))) == 5
    other = run("evaluate", "--videos", folder, "--scores", scores, "--resume", "--hz", "6")
    assert other.returncode == 3 and "all of it judged with" in other.stderr, "rows of another rate are no part of the same numbers"
    scores.write_text("file,label\n")
    assert "cannot be gone on from" in run("evaluate", "--videos", folder, "--scores", scores, "--resume").stderr


def test_worn_copies_and_timings_are_judged(folder: Path) -> None:
    done = run("evaluate", "--videos", folder, "--wear", "crf=30,scale=0.8,drop=0.2", "--sweep", "time", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["videos"] == 4 and found["scores"][0]["codec"] == "h264"
    (sweep,) = found["sweeps"]
    assert {row["arm"] for row in sweep["rows"]} == {
        "mean frame logit",
        "top tenth of frame logits",
        "liquid",
        "liquid and frame logit, fused",
    }
    assert "This wear" in run("evaluate", "--videos", folder, "--wear", "rust=1").stderr


def test_pictures_of_deepfakebench_are_judged(tmp_path: Path) -> None:
    datasets: dict[str, object] = {}
    for label in ("FF-real", "FF-DF"):
        frames = []
        for i in range(14):
            path = tmp_path / label / f"{3 * i:03d}.png"  # every third frame is kept
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.ascontiguousarray(clips.face_frame(i / 10, width=400, height=400, px=320)[..., ::-1]))
            frames.append(f"{label}/{3 * i:03d}.png")
        datasets[label] = {"test": {"c23": {"000_003": {"label": label, "frames": frames}}}}
    (tmp_path / "b.json").write_text(json.dumps({"FaceForensics++": datasets}))
    done = run("evaluate", "--deepfakebench", tmp_path / "b.json", "--root", tmp_path, "--fps", "30", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["videos"] == 2 and found["unjudged"] == 0
    assert found["scores"][0]["duration_s"] == pytest.approx(1.4, abs=0.11), "the number in a name is a time"
    assert found["methods"][0]["method"] == "FF-DF"


def test_contradictions_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    rows = [{"file": str(folder / "real/a.mp4"), "kind": "video", "tier": "validation", "label": label} for label in ("real", "fake")]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    assert "called real and fake" in run("evaluate", "--manifest", tmp_path / "m.json").stderr
    assert run("evaluate", "--videos", folder, "--sweep", "space").returncode == 2
    one_class = run("evaluate", "--videos", folder.parent / "none", "--json")
    assert one_class.returncode == 3


def test_missing_files_are_left_out_by_name_and_a_split_is_judged_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.evaluation.evaluate.judge_video", lambda record, *_, **__: replace(PLAIN, **said_of(record)))
    rows = [
        {"file": str(folder / name), "kind": "video", "tier": "validation", "label": label, "identity": name, "split": split}
        for name, label, split in (
            ("real/a.mp4", "real", "holdout"),
            ("real/b.mp4", "real", "train"),
            ("fake/swap/a.mp4", "fake", "holdout"),
            ("gone.mp4", "fake", "holdout"),
        )
    ]
    listed = tmp_path / "m.json"
    listed.write_text(json.dumps(rows))
    refused = run("evaluate", "--manifest", listed)
    assert refused.returncode == 3 and "gone.mp4" in refused.stderr
    done = run("evaluate", "--manifest", listed, "--skip-missing", "--split", "holdout", "--json")
    assert done.returncode == 0, done.stderr
    assert "missing, left out" in done.stderr and "gone.mp4" in done.stderr
    assert [Path(score["file"]).name for score in json.loads(done.stdout)["scores"]] == ["a.mp4", "a.mp4"]
    assert run("evaluate", "--manifest", listed, "--skip-missing", "--split", "test").returncode == 2
    assert run("evaluate", "--videos", folder, "--split", "holdout").returncode == 2


def test_one_class_is_measured_as_far_as_it_goes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes((folder / "real" / "a.mp4").read_bytes())
    done = run("evaluate", "--videos", tmp_path)
    assert done.returncode == 0 and "There is no fake among them" in done.stdout
    assert "false positive rate" in done.stdout


def test_ctrl_c_keeps_what_was_scored(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, calls = tmp_path / "s.csv", 0

    def stopped(record: Record, *_: object, **__: object) -> VideoScore:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return replace(PLAIN, **said_of(record))

    monkeypatch.setattr("pipelines.evaluation.evaluate.judge_video", stopped)
    done = run("evaluate", "--videos", folder, "--scores", scores, "--sweep", "time", "--json")
    assert done.returncode == 130 and "over the 3 of 4 videos" in done.stderr
    found = json.loads(done.stdout)
    assert found["videos"] == 3 and found["sweeps"] == [], "an interrupted run begins nothing more"
    rest = run("evaluate", "--videos", folder, "--scores", scores, "--resume", "--json")
    assert rest.returncode == 0 and json.loads(rest.stdout)["videos"] == 4 and calls == 5
    calls = 3
    assert run("evaluate", "--videos", folder).returncode == 130, "and nothing judged is no number"


def test_a_label_put_right_is_right_after_resuming(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluation.evaluate.judge_video", lambda record, *_, **__: replace(PLAIN, **said_of(record)))
    manifest, scores = tmp_path / "m.csv", tmp_path / "s.csv"
    for label in ("real", "fake"):
        manifest.write_text(f"path,label,tier,method\n{folder / 'real/a.mp4'},{label},validation,swap\n")
        done = run("evaluate", "--manifest", manifest, "--scores", scores, "--resume", "--json")
        assert [score["label"] for score in json.loads(done.stdout)["scores"]] == [int(label == "fake")], done.stderr


def test_matched_compression_reaches_the_judge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judge(record: Record, *_: object, **__: object) -> VideoScore:
        judged.append(record.path.suffix)
        return replace(PLAIN, **said_of(record))

    monkeypatch.setattr("pipelines.evaluation.evaluate.judge_video", judge)
    assert run("evaluate", "--videos", folder, "--matched", "28").returncode == 0
    assert judged == [".mkv"] * 4
    assert run("evaluate", "--videos", folder, "--matched", "60").returncode == 3


def test_what_cannot_be_done_is_said_before_the_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluation.evaluate.judge_video", None)
    for usage in (("--resume",), ("--matched", "23", "--wear", "crf=23"), ("--store", folder)):
        assert run("evaluate", "--videos", folder, *usage).returncode == 2, usage
    assert "cannot be written" in run("evaluate", "--videos", folder, "--report", tmp_path / "none" / "p.html").stderr
    bench = tmp_path / "b.json"
    bench.write_text("{}")
    assert run("evaluate", "--deepfakebench", bench, "--fps", "0").returncode == 2
    assert run("evaluate", "--deepfakebench", bench, "--matched", "23").returncode == 2
    assert run("evaluate", "--deepfakebench", bench, "--label-map", "swap=maybe").returncode == 2
    (tmp_path / "m.csv").write_text(f"path,label\n{folder / 'real/a.mp4'},real\n")
    refused = run("evaluate", "--manifest", tmp_path / "m.csv")
    assert refused.returncode == 3 and "video of tier own" in refused.stderr, "it says which tiers there are"


def test_a_sweep_of_wear_is_printed_beside_the_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evaluation.robustness.PERTURBATIONS", {"blur": {"7": PERTURBATIONS["blur"]["7"]}})
    done = run("evaluate", "--videos", folder, "--sweep", "robustness")
    assert done.returncode == 0, done.stderr
    assert "robustness sweep" in done.stdout and "as it is" in done.stdout and "blur" in done.stdout
    assert "blur 7: AUC" in done.stderr
