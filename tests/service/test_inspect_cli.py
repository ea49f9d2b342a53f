"""`undercurrent train sheet | play | check | manifest` as a user has them: files, tables, exit status and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from pipelines.faces import CROP_VERSION
from pipelines.frames import read_frames
from pipelines.training.manifest import for_training, read_manifest
from pipelines.training.pseudo_fakes import KINDS
from tests import clips
from tests.pipelines.training.portrait import portrait
from tests.service.test_cli import Done, run
from tests.support import require

T = 3.0 + np.array(clips.variable_pts(3.0, seed=4)) / 1000


def _store(folder: Path, people: dict[str, str], *, frames: int = len(T)) -> Path:
    """A store of the astronaut under several names: {identity: split}."""
    for number, (identity, split) in enumerate(people.items()):
        track = folder / "tracks" / f"{number}-00"
        track.mkdir(parents=True)
        one = portrait(identity, frames=frames)
        np.save(track / "crops.npy", one.crops)
        np.save(track / "dense.npy", one.dense)
        np.save(track / "t.npy", T[:frames])
        meta = {"file": f"{identity}.mp4", "identity": identity, "source": "", "split": split, "kind": "video", "face_px": 200.0}
        (track / "meta.json").write_text(json.dumps({**meta, "tier": "open", "crop_version": CROP_VERSION}))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _store(tmp_path_factory.mktemp("faces"), {"ann": "train", "ben": "train", "cat": "holdout"})


def _problem(done: Done) -> dict[str, str]:
    assert done.returncode == 3, done.stderr
    problem: dict[str, str] = json.loads(done.stderr)
    return problem


def test_sheet_writes_a_picture_and_counts(store: Path, tmp_path: Path) -> None:
    done = run("train", "sheet", "--store", store, "--out", tmp_path / "s.png", "--rows", "7", "--worn", COLUMNS="120", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None
    assert picture.shape[0] > 7 * 192
    for kind in KINDS:
        assert re.search(rf"│ {kind} +│ +\d+ +│ 1 +│ \d+\.\d", done.stdout), kind
    assert "7 fakes in" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_sheet_shows_only_the_kind_and_family_of_the_side_asked_for(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.png"
    chosen = ["--kind", "static", "--kind", "residue", "--family", "full", "--split", "holdout", "--rows", "2"]
    done = run("train", "sheet", "--store", store, "--out", out, *chosen, COLUMNS="120", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "static" in done.stdout and "residue" in done.stdout and "flicker" not in done.stdout
    alone = run("train", "sheet", "--store", store, "--out", out, "--kind", "identity_swap", "--split", "holdout")
    assert "at least two people" in _problem(alone)["expected"]


@pytest.mark.parametrize("command", ["sheet", "play"])
def test_a_wrong_kind_lists_the_right_ones(store: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / ("a.png" if command == "sheet" else "a.mp4")
    done = run("train", command, "--store", store, "--out", out, "--kind", "drfit", COLUMNS="200", NO_COLOR="1")
    assert done.returncode == 2
    assert f"expected one of {', '.join(KINDS)}; got drfit" in " ".join(done.stderr.replace("│", " ").split())
    assert not out.exists()


def test_wrong_families_suffixes_and_places_are_refused_before_the_work(store: Path, tmp_path: Path) -> None:
    family = run("train", "sheet", "--store", store, "--out", tmp_path / "a.png", "--family", "nose", COLUMNS="200", NO_COLOR="1")
    assert (family.returncode, "no such family" in family.stderr) == (2, True)
    for command, out in (("sheet", "a.jpg"), ("play", "a.avi"), ("play", "a")):
        done = run("train", command, "--store", store, "--out", tmp_path / out, COLUMNS="200", NO_COLOR="1")
        assert (done.returncode, "ends in" in done.stderr) == (2, True)
    assert "no such directory" in _problem(run("train", "play", "--store", store, "--out", tmp_path / "no" / "a.mp4"))["got"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("sheet", "a.png"), ("play", "a.mp4")], ids=lambda command: command[0])
def test_an_empty_store_says_what_fills_it(tmp_path: Path, command: tuple[str, str]) -> None:
    for place, got in ((tmp_path, "no track"), (tmp_path / "none", "no such folder")):
        problem = _problem(run("train", command[0], "--store", place, "--out", tmp_path / command[1]))
        assert problem["type"].endswith("nothing-to-show")
        assert "train crops" in problem["expected"]
        assert problem["got"] == got


def test_stills_cannot_show_what_takes_time(tmp_path: Path) -> None:
    stills = _store(tmp_path / "stills", {"ann": "train", "ben": "train"}, frames=1)
    problem = _problem(run("train", "play", "--store", stills, "--out", tmp_path / "a.mp4", "--kind", "drift"))
    assert problem["detail"] == "No clip is long enough for drift."
    sheet = run("train", "sheet", "--store", stills, "--out", tmp_path / "a.png", "--rows", "3", COLUMNS="120")
    assert sheet.returncode == 0, sheet.stderr
    assert "drift is left out" in sheet.stdout


@pytest.mark.parametrize(("suffix", "slow", "within"), [(".mp4", 1.0, 6e-6), (".webm", 2.0, 0.00051)])
def test_play_keeps_the_times_of_the_source(store: Path, tmp_path: Path, suffix: str, slow: float, within: float) -> None:
    out = tmp_path / f"a{suffix}"
    done = run("train", "play", "--store", store, "--out", out, "--kind", "static", "--identity", "ben", "--slow", str(slow))
    assert done.returncode == 0, done.stderr
    assert re.search(rf"static, \w+, of ben: {len(T)} frames over", done.stdout)
    with read_frames(out, hz=None) as source:
        found = [float(frame.pts * frame.time_base) for frame in source]
    np.testing.assert_allclose(found, slow * (T - T[0]), atol=within)


def test_an_unknown_person_is_answered_with_those_of_like_names(store: Path, tmp_path: Path) -> None:
    problem = _problem(run("train", "play", "--store", store, "--out", tmp_path / "a.mp4", "--identity", "bem"))
    assert problem["expected"] == "one of 3 people, such as ben"
    assert problem["got"] == "bem"


def test_a_person_alone_borrows_a_donor_from_the_rest_of_the_store(store: Path, tmp_path: Path) -> None:
    done = run("train", "play", "--store", store, "--out", tmp_path / "a.mp4", "--identity", "cat", "--kind", "identity_swap")
    assert done.returncode == 0, done.stderr


def test_the_page_holds_all_it_needs_and_every_true_time(tmp_path: Path) -> None:
    named = _store(tmp_path / "faces", {"<b>ann</b></script>": "train"})
    page = tmp_path / "a.html"
    done = run("train", "play", "--store", named, "--out", tmp_path / "a.mp4", "--kind", "drift", "--html", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "http://" not in text and "https://" not in text
    assert "&lt;b&gt;ann" in text and "<b>ann" not in text
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', text)
    assert found is not None
    facts = json.loads(found[1])
    assert facts["t"] == T.tolist()
    np.testing.assert_allclose(facts["written"], T - T[0], atol=6e-6)
    assert len(facts["tampered"]) == len(T)


def test_the_page_steps_from_picture_to_picture(store: Path, tmp_path: Path) -> None:
    program = require("chromium")
    page_file = tmp_path / "a.html"
    run("train", "play", "--store", store, "--out", tmp_path / "a.mp4", "--kind", "static", "--html", page_file)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function("document.getElementById('clip').readyState >= 2")
        page.evaluate("document.getElementById('clip').pause(); document.getElementById('clip').currentTime = 0")
        page.wait_for_function("document.getElementById('where').textContent.startsWith('frame 1 ')")
        seen = []
        for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
            page.wait_for_function("!document.getElementById('clip').seeking")
            before = page.inner_text("#where")
            page.keyboard.press(key)
            page.wait_for_function("before => document.getElementById('where').textContent !== before", arg=before)
            seen.append(page.inner_text("#where"))
        browser.close()
    assert [int(text.split()[1]) for text in seen] == [2, 3, 4, 3, 2, 1, len(T)]
    assert f"t = {T[1]:.3f} s" in seen[0]
    assert faults == []


def test_check_lists_by_name_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a")
    rows = [{"file": name, "kind": "video", "tier": "open", "sha256": "0"} for name in ("a.mp4", "[red]gone.mp4")]
    path = tmp_path / "m.json"
    path.write_text(json.dumps([*rows, {"file": "c.mp4", "kind": "video", "tier": "open", "label": "maybe"}]))
    done = run("train", "check", "--manifest", path, "--hashes", COLUMNS="120", NO_COLOR="1")
    assert done.returncode == 1
    for part in (
        "malformed record: 1",
        "row 3 (c.mp4): label 'maybe', expected real or fake",
        "missing file: 1",
        "[red]gone.mp4",
        "wrong sha256: 1",
        "All is real",
    ):
        assert part in done.stdout, part
    found = json.loads(run("train", "check", "--manifest", path, "--json").stdout)
    assert (found["ok"], found["records"]) == (False, 3)
    assert {fault["name"] for fault in found["faults"]} >= {"row 3 (c.mp4)", "[red]gone.mp4"}
    assert _problem(run("train", "check", "--manifest", tmp_path / "none.json"))["type"].endswith("source-not-found")


def test_check_of_a_sound_manifest_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a")
    (tmp_path / "m.csv").write_text("path,label,identity\na.mp4,real,ann\n")
    done = run("train", "check", "--manifest", tmp_path / "m.csv", COLUMNS="120", NO_COLOR="1")
    assert done.returncode == 0, done.stdout
    assert "Nothing is wrong." in done.stdout


def test_manifest_of_own_footage_is_written_and_its_leftovers_named(tmp_path: Path) -> None:
    for person in ("ann", "ben"):
        (tmp_path / "f" / person).mkdir(parents=True)
        clips.face_clip(tmp_path / "f" / person / "a.mp4", seconds=0.3)
    (tmp_path / "f" / "readme.md").write_text("mine")
    out = tmp_path / "my.json"
    done = run("train", "manifest", tmp_path / "f", "--out", out, COLUMNS="120", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "skipped readme.md: " in done.stdout
    assert "2 videos and 0 pictures of 2 people, 1 files skipped" in done.stdout
    records = for_training(read_manifest(out), tiers=("own",))
    assert [(record.file, record.identity) for record in records] == [("f/ann/a.mp4", "ann"), ("f/ben/a.mp4", "ben")]
    assert all(record.path.is_file() for record in records)
    none = run("train", "manifest", tmp_path / "nothing", "--out", out)
    assert "no folder" in _problem(none)["detail"]
    assert run("train", "manifest", tmp_path / "f", "--out", tmp_path / "my.csv").returncode == 2
