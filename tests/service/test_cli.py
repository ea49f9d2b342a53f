"""The command line as a user has it: its two outputs, its files and its exit status."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.temporal import TemporalHead
from pipelines.analysis import load_model
from pipelines.training.manifest import Record, split_of
from service import __version__
from service.cli import main
from tests import clips

COMMAND = [sys.executable, "-c", "from service.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str | Path, **environment: str) -> Done:
    """`undercurrent ARGUMENTS` in this process, which saves importing torch for every case; `test_a_real_process...` starts real ones."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["undercurrent", *map(str, arguments)])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
            status: object = 0
        except SystemExit as end:
            status = end.code or 0
    assert isinstance(status, int)
    return Done(status, out.getvalue(), err.getvalue())


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
    for part in ("timestamps", "from the container; decoded by software", "measured", "variable", "gaps", "repairs", "damage"):
        assert part in done.stdout
    assert "authentic" not in done.stdout.lower()


def test_explain_writes_a_picture_and_changes_nothing_else(clip: Path, tmp_path: Path) -> None:
    plain, explained = run("detect", clip, "--json"), run("detect", clip, "--json", "--explain", tmp_path / "why.png")
    assert explained.returncode == 0, explained.stderr
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["why.png"]

    def told(done: Done) -> dict[str, object]:
        result: dict[str, object] = json.loads(done.stdout)
        stages = result.pop("stages")
        assert isinstance(stages, list)
        # Two runs differ in when they were made and in the CPU time that they took.
        return {**{k: v for k, v in result.items() if k not in ("id", "created_at")}, "stages": [stage["stage"] for stage in stages]}

    assert told(explained) == told(plain)


def test_explain_says_when_there_is_no_face(tmp_path: Path) -> None:
    done = run("detect", clips.empty_clip(tmp_path / "a.mp4"), "--json", "--explain", tmp_path / "why.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_triage_gives_the_same_answer(clip: Path) -> None:
    plain, triaged = (json.loads(run("detect", clip, "--json", *more).stdout) for more in ((), ("--triage",)))
    assert triaged["verdict"] == plain["verdict"]
    assert {stage["stage"] for stage in triaged["stages"]} - {stage["stage"] for stage in plain["stages"]} == {"triage"}


def test_hardware_that_is_missing_is_said_and_nothing_else_changes(clip: Path) -> None:
    result = json.loads(run("detect", clip, "--json", "--hwaccel", "cuda").stdout)
    if result["media"]["decode_backend"] == "cuda":
        pytest.skip("this machine has an NVIDIA decoder")
    assert result["media"]["decode_backend"] == "software"
    assert "hwaccel_unavailable" in {warning["code"] for warning in result["warnings"]}


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


@pytest.mark.parametrize("option", ["--report", "--plot", "--timeline", "--explain"])
def test_an_unwritable_output_is_refused_before_the_work(clip: Path, tmp_path: Path, option: str) -> None:
    name = "out.png" if option == "--explain" else "out.json"
    done = run("detect", clip, option, tmp_path / "no such directory" / name)
    assert done.returncode == 3
    assert json.loads(done.stderr)["type"] == "urn:undercurrent:problem:unwritable-output"


def test_damaged_weights_are_refused(clip: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"not weights")
    done = run("detect", clip, "--weights", weights)
    assert (done.returncode, json.loads(done.stderr)["type"]) == (3, "urn:undercurrent:problem:bad-weights")


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect"],
        ["detect", "a.mp4", "--hz", "never"],
        ["detect", "a.mp4", "--timeline", "t.txt"],
        ["detect", "a.mp4", "--explain", "why.jpg"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_fail_on_is_not_matched_by_another_verdict(tmp_path: Path) -> None:
    assert run("detect", clips.empty_clip(tmp_path / "a.mp4"), "--fail-on", "manipulated").returncode == 0


def _imports(pid: int) -> bool:
    """Whether a process has begun to import torch, which takes it seconds."""
    return b"libtorch" in Path(f"/proc/{pid}/maps").read_bytes()


def _decodes(pid: int) -> bool:
    """Whether a process has a grandchild: those decode."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return any(parents.get(parent) == pid for parent in parents.values())


@pytest.mark.parametrize("busy", [_imports, _decodes], ids=["among the imports", "in the analysis"])
def test_interrupting_ends_with_130_and_no_traceback(tmp_path: Path, busy: Callable[[int], bool]) -> None:
    long = clips.face_clip(tmp_path / "long.mp4", seconds=150.0, fps=12)
    process = subprocess.Popen([*COMMAND, "detect", str(long), "--hz", "all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not busy(process.pid):
        assert process.poll() is None and time.monotonic() < until, "there was nothing to interrupt"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""


def test_a_real_process_keeps_its_outputs_apart(clip: Path, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "detect", str(clip), "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verdict"]
    assert done.stderr == ""
    refused = subprocess.run([*COMMAND, "detect", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert json.loads(refused.stderr)["title"] == "The source is not a file"


def test_version_doctor_and_help(tmp_path: Path) -> None:
    assert run("--version").stdout.strip() == __version__
    doctor = run("doctor", UNDERCURRENT_DATA_DIR=str(tmp_path))
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "decoded in a child of its own" in doctor.stdout
    assert "weights" in doctor.stdout and "matches" in doctor.stdout
    helped = run("--help")
    for command in ("detect", "serve", "train", "evaluate", "openapi", "asyncapi", "doctor", "bench"):
        assert command in helped.stdout


@pytest.mark.parametrize("document", ["openapi", "asyncapi"])
def test_the_committed_documents_are_current(document: str) -> None:
    assert run(document, "--check").returncode == 0


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
    with (tmp_path / "fake" / "swap" / "a.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")  # another file of the same pictures; the same file under two labels is refused
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


def _named(split: str, taken: str = "") -> str:
    """The name of a person whom the split puts on that side."""
    for number in range(1000):
        name = f"person {number}{taken}"
        if split_of(Record("", Path(), "video", "open", "real", name, "", "", None, 1)) == split:
            return name
    raise AssertionError("the split puts everybody on one side")


def test_training_goes_from_a_manifest_to_weights_that_judge(tmp_path: Path) -> None:
    rows = []
    for file, split in (("a.mp4", "train"), ("b.mp4", "holdout")):
        clips.face_clip(tmp_path / file, seconds=1.6, fps=15)
        rows.append({"file": file, "kind": "video", "tier": "open", "identity": _named(split), "sha256": file})
    clips.still(tmp_path / "c.png")
    rows.append({"file": "c.png", "kind": "image", "tier": "open", "identity": _named("train", " c"), "sha256": "c"})
    clips.face_clip(tmp_path / "d.mp4", seconds=1.6, fps=15)
    rows.append({"file": "d.mp4", "kind": "video", "tier": "study", "identity": "calibrates only", "sha256": "d"})
    manifest, work, out = (tmp_path / name for name in ("m.json", "run", "weights.safetensors"))
    store = work / "store"
    manifest.write_text(json.dumps(rows))
    small: list[str | Path] = ["--pairs", "24", "--groups", "6", "--clips", "2", "--steps", "4"]
    done = run("train", "run", "--manifest", manifest, "--run", work, "--out", out, *small)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 pairs" in done.stderr
    measured = json.loads(done.stdout)
    assert measured["threshold_people"] == 2, "the hold-out and the one who only calibrates"
    model = load_model(out)
    assert model.info.version == "1"
    assert sum(parameter.numel() for parameter in model.temporal.parameters()) == sum(p.numel() for p in TemporalHead().parameters())
    pseudo = run("evaluate", "--store", store, "--pairs", "2", "--weights", out, "--json")
    assert json.loads(pseudo.stdout)["people"] == 1
    assert "2 pseudo-fakes of 1 held-out people" in run("evaluate", "--store", store, "--pairs", "2", "--weights", out).stdout
    judged = run("detect", tmp_path / "a.mp4", "--weights", out, "--json")
    assert json.loads(judged.stdout)["models"][0]["weights_sha256"] == model.info.weights_sha256


def test_a_training_goes_on_from_what_is_there_and_again_from_a_stage(tmp_path: Path) -> None:
    manifest, work, out = tmp_path / "m.json", tmp_path / "run", tmp_path / "w.safetensors"
    rows = []
    for file, name in (("a.mp4", _named("train")), ("b.mp4", _named("holdout")), ("c.mp4", _named("holdout", " c"))):
        clips.face_clip(tmp_path / file, seconds=1.6, fps=15)
        rows.append({"file": file, "kind": "video", "tier": "own", "identity": name, "sha256": file})
    manifest.write_text(json.dumps(rows))
    command = ("train", "run", "--manifest", manifest, "--run", work, "--out", out, "--pairs", "24", "--clips", "2", "--steps", "4")
    own = ("--tier", "own")
    assert "nothing to train on" in run(*command).stderr, "`own` must be asked for"
    assert run(*command, *own).returncode == 0
    first = (work / "encoder.pt").stat().st_mtime_ns
    assert "24 of 24 pairs" not in (same := run(*command, *own)).stderr and same.returncode == 0
    assert (work / "encoder.pt").stat().st_mtime_ns == first
    redone = run(*command, *own, "--again", "encoder", "--init", out)
    assert redone.returncode == 0, redone.stderr
    assert (work / "encoder.pt").stat().st_mtime_ns > first
    assert "expected one of crops, encoder" in run(*command, *own, "--again", "eye").stderr
