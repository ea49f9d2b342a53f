"""`undercurrent export` as a user has it: a folder, a table, and refusals before anything is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from models.checkpoint import save_checkpoint
from models.temporal import TemporalHead
from pipelines.edge_bundle import FILES
from pipelines.model import load_model, shipped_weights
from tests.service.test_cli import Done, run


def _problem(done: Done) -> dict[str, str]:
    assert done.returncode == 3, done.stderr
    problem: dict[str, str] = json.loads(done.stderr)
    return problem


def test_a_folder_is_written_and_listed(tmp_path: Path) -> None:
    done = run("export", tmp_path / "edge", COLUMNS="100", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "edge").iterdir()) == sorted(FILES)
    for path in (tmp_path / "edge").iterdir():
        assert re.search(rf"^{re.escape(path.name)} +{path.stat().st_size / 1000:.1f}\s*$", done.stdout, flags=re.MULTILINE), path.name
    assert f"Try: python {tmp_path / 'edge' / 'detect.py'} VIDEO" in done.stdout
    profile = json.loads((tmp_path / "edge" / "profile.json").read_text())
    assert profile["weights"]["sha256"] == load_model().info.weights_sha256


def test_what_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    problem = _problem(run("export", tmp_path))
    assert problem["type"].endswith("unwritable-output")
    assert (problem["expected"], problem["got"]) == ("a new or empty directory, or --force", "1 entries")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "profile.json").write_text("old")
    assert run("export", tmp_path, "--force").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "mine.txt"])
    assert (tmp_path / "mine.txt").read_text() == "mine" and json.loads((tmp_path / "profile.json").read_text())["format"] == 1


@pytest.mark.parametrize(("where", "got"), [("file.txt", "a file"), ("none/edge", "no such parent directory")])
def test_where_nothing_can_be_written_is_refused(tmp_path: Path, where: str, got: str) -> None:
    (tmp_path / "file.txt").write_text("")
    for force in ((), ("--force",)):
        assert _problem(run("export", tmp_path / where, *force))["got"] == got


def test_weights_that_cannot_be_exported_leave_no_folder(tmp_path: Path) -> None:
    missing = _problem(run("export", tmp_path / "edge", "--weights", tmp_path / "none.safetensors"))
    assert missing["type"].endswith("bad-weights")
    model, head = load_model(), TemporalHead(128, 8, "cfc")
    dims = {"encoder": model.encoder.dims.as_metadata(), "temporal": head.dims}
    metadata = {"dims": dims, "crop_version": 2, "data_digest": "", "commit": "", "created": "", "version": "test"}
    nets = {"encoder": model.encoder, "temporal": head, "calibrator": model.calibrator}
    save_checkpoint(tmp_path / "cfc.safetensors", nets, metadata)
    problem = _problem(run("export", tmp_path / "edge", "--weights", tmp_path / "cfc.safetensors"))
    assert problem["type"].endswith("cannot-compile") and problem["got"] == "cell 'cfc'"
    assert not (tmp_path / "edge").exists()


def test_other_weights_go_into_the_profile(tmp_path: Path) -> None:
    for name in ("SHA256SUMS", shipped_weights().name):
        shutil.copy(shipped_weights().with_name(name), tmp_path)
    assert run("export", tmp_path / "edge", "--weights", tmp_path / shipped_weights().name).returncode == 0
    assert json.loads((tmp_path / "edge" / "profile.json").read_text())["weights"]["version"] == load_model().info.version
