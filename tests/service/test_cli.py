"""The command line as a user has it: a real process, its two outputs and its exit status."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import __version__
from tests import clips

COMMAND = [sys.executable, "-c", "from service.cli import main; main()"]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.face_clip(tmp_path_factory.mktemp("cli") / "face.mp4", seconds=2.5, pts=clips.variable_pts(2.5, seed=2))


def test_json_is_one_object_on_stdout_and_every_file_is_written(clip: Path, tmp_path: Path) -> None:
    done = run("detect", clip, "--json", "--timeline", tmp_path / "t.csv", "--plot", tmp_path / "p.png", "--report", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert result["media"]["sha256"] and result["models"][0]["weights_sha256"]
    assert result["coverage"]["judged_s"] + sum(r["duration_s"] for r in result["coverage"]["reasons"]) == pytest.approx(
        result["coverage"]["duration_s"]
    )
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == sum(track["observations"] for track in result["tracks"])
    assert [float(row["t"]) for row in rows] == sorted(float(row["t"]) for row in rows)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.html").read_text()
    assert result["sentence"] in page
    assert "http://" not in page and "https://" not in page, "the page is self-contained"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "r.html", "t.csv"]


def test_people_get_a_panel_a_timeline_and_a_table(clip: Path) -> None:
    done = run("detect", clip, "--profile", COLUMNS="80", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for part in ("probability", "judged", "face 0", "over media time", "encoder", "x decoding"):
        assert part in done.stdout
    assert "authentic" not in done.stdout.lower()


@pytest.mark.parametrize(
    ("make", "slug"),
    [
        (lambda path: clips.still(path), "still-image"),
        (lambda path: clips.audio_only(path), "no-video-stream"),
        (lambda path: clips.playlist(path, "hls", "http://127.0.0.1/x.ts"), "unsupported-media"),
        (lambda path: path.touch() or path, "empty-source"),
        (lambda path: path.mkdir() or path, "not-a-file"),
        (lambda path: path, "source-not-found"),
    ],
    ids=["still", "audio", "playlist", "empty", "directory", "missing"],
)
def test_what_cannot_be_judged_ends_with_one_problem_and_status_3(tmp_path: Path, make: object, slug: str) -> None:
    assert callable(make)
    done = run("detect", make(tmp_path / "input.mp4"), "--json")
    assert done.returncode == 3
    assert done.stdout == ""
    problem = json.loads(done.stderr)
    assert problem["type"] == f"urn:undercurrent:problem:{slug}"
    assert problem["title"] and problem["detail"] and problem["expected"] and problem["got"]


def test_an_unreachable_url_ends_with_status_3() -> None:
    done = run("detect", "http://127.0.0.1:9/a.mp4")
    assert (done.returncode, json.loads(done.stderr)["type"]) == (3, "urn:undercurrent:problem:source-unreachable")


@pytest.mark.parametrize("option", ["--report", "--plot", "--timeline"])
def test_an_unwritable_output_is_refused_before_the_work(clip: Path, tmp_path: Path, option: str) -> None:
    done = run("detect", clip, option, tmp_path / "no such directory" / "out.json")
    assert done.returncode == 3
    assert json.loads(done.stderr)["type"] == "urn:undercurrent:problem:unwritable-output"


def test_damaged_weights_are_refused(clip: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"not weights")
    done = run("detect", clip, "--weights", weights)
    assert (done.returncode, json.loads(done.stderr)["type"]) == (3, "urn:undercurrent:problem:bad-weights")


@pytest.mark.parametrize(
    "arguments", [["detect"], ["detect", "a.mp4", "--hz", "never"], ["detect", "a.mp4", "--timeline", "t.txt"], ["nonsense"]]
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_fail_on_is_not_matched_by_another_verdict(tmp_path: Path) -> None:
    assert run("detect", clips.empty_clip(tmp_path / "a.mp4"), "--fail-on", "manipulated").returncode == 0


def test_interrupting_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    long = clips.face_clip(tmp_path / "long.mp4", seconds=60.0, fps=12)
    process = subprocess.Popen([*COMMAND, "detect", str(long), "--hz", "all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(6)  # past the imports and into the analysis, on a slow machine too; 720 frames take longer than that
    assert process.poll() is None, "the clip was judged before it could be interrupted"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""


def test_version_doctor_and_help() -> None:
    assert run("--version").stdout.strip() == __version__
    doctor = run("doctor")
    assert doctor.returncode == 0
    assert "weights" in doctor.stdout and "matches" in doctor.stdout
    helped = run("--help")
    for command in ("detect", "serve", "train", "evaluate", "openapi", "doctor", "bench"):
        assert command in helped.stdout


def test_the_committed_openapi_document_is_current() -> None:
    assert run("openapi", "--check").returncode == 0


def test_evaluate_names_what_is_missing(tmp_path: Path) -> None:
    assert run("evaluate").returncode == 2
    done = run("evaluate", "--videos", tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stderr)["detail"] == "There is nothing to evaluate."


def test_evaluate_judges_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "fake" / "swap").mkdir(parents=True)
    clips.face_clip(tmp_path / "real" / "a.mp4", seconds=1.5)
    clips.face_clip(tmp_path / "fake" / "swap" / "a.mp4", seconds=1.5)
    done = run("evaluate", "--videos", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["videos"] == 2
    assert [method["method"] for method in found["methods"]] == ["swap"]
    assert found["auc"]["value"] == 0.5, "the same video twice cannot be told apart"


def test_crops_are_cut_from_what_may_be_trained_on_only(tmp_path: Path) -> None:
    clips.face_clip(tmp_path / "mine.mp4", seconds=1.0)
    clips.face_clip(tmp_path / "theirs.mp4", seconds=1.0)
    rows = [{"file": "mine.mp4", "kind": "video", "tier": "open"}, {"file": "theirs.mp4", "kind": "video", "tier": "validation"}]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    done = run("train", "crops", "--manifest", tmp_path / "m.json", "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "1 tracks written" in done.stderr
    assert [json.loads(path.read_text())["file"] for path in tmp_path.glob("store/tracks/*/meta.json")] == ["mine.mp4"]
