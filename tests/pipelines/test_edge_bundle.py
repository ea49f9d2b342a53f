"""The edge profile: its graphs say what torch says; its example, where no torch can be imported, what `analyse` says of the same looks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models.compiled import OPSET
from models.compiled_step import CannotCompile
from models.encoder import EncoderOutput
from models.temporal import TemporalHead
from pipelines.analysis import Model, analyse, load_model
from pipelines.edge_bundle import FILES, MTCNN_LICENCE, NETS, edge_files
from pipelines.faces import CROP_VERSION, TEMPLATE
from tests import clips
from tests.support import require

NEEDED = ("onnxruntime", "numpy", "opencv-python-headless", "av")
LOGIT = 1e-4
"""How far a look's logit may be from `analyse`'s; measured: below 1e-6."""


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("edge")
    for name, content in edge_files(model):
        (where / name).write_bytes(content)
    return where


@pytest.fixture(scope="module")
def profile(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "profile.json").read_text())
    return read


@dataclass(frozen=True)
class Bare:
    """A Python that has the four packages, what those need, and nothing else: neither torch nor anything of this house."""

    site: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # -S: no site-packages, and none of the paths that an editable install adds.
        command = [sys.executable, "-S", *map(str, arguments)]
        environment = {"PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=self.site, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    site, wanted, linked = tmp_path_factory.mktemp("site"), list(NEEDED), set[str]()
    while wanted:
        name = wanted.pop()
        if name in linked:
            continue
        linked.add(name)
        found = distribution(name)
        wanted += [
            re.split(r"[^\w.-]", need)[0] for need in found.requires or () if "extra ==" not in need and "python_version" not in need
        ]
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                # Code is copied, because OpenCV looks for its other half beside the place that a link leads to; libraries are large.
                (shutil.copyfile if file.suffix == ".py" else os.symlink)(str(found.locate_file(file)), str(site / file))
    return Bare(site)


def looks_of(bare: Bare, folder: Path, *arguments: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    done = bare.run(folder / "detect.py", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return rows[:-1], rows[-1]["conclusion"]


@pytest.mark.parametrize("module", ["torch", "torchvision", "scipy", "models", "pipelines", "service"])
def test_where_the_example_runs_nothing_else_can_be_imported(bare: Bare, module: str) -> None:
    assert bare.run("-c", "import onnxruntime, numpy, cv2, av").returncode == 0
    done = bare.run("-c", f"import {module}")
    assert done.returncode == 1 and f"No module named '{module}'" in done.stderr


def test_every_graph_is_what_the_profile_says(folder: Path, profile: dict[str, Any], model: Model) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert set(profile["nets"]) == set(NETS)
    assert "Copyright (c) 2019 Timothy Esler" in (folder / MTCNN_LICENCE).read_text()
    assert profile["weights"]["sha256"] == model.info.weights_sha256
    assert profile["crop"] == {"version": CROP_VERSION, "px": 160, "template": TEMPLATE.tolist()}
    assert "MIT" in profile["licence"] and "Apache-2.0" in profile["licence"]
    for name, net in profile["nets"].items():
        content = (folder / net["file"]).read_bytes()
        assert (len(content), sha256(content).hexdigest(), net["opset"]) == (net["bytes"], net["sha256"], OPSET)
        graph = onnx.load_from_string(content)
        onnx.checker.check_model(graph, full_check=True)
        assert [one.version for one in graph.opset_import if one.domain == ""] == [OPSET]
        for side, ports in ((graph.graph.input, net["inputs"]), (graph.graph.output, net["outputs"])):
            assert [one.name for one in side] == [port["name"] for port in ports]
            assert {port["shape"][0] for port in ports} == {"n"}, f"{name} does not take any number of rows"


def test_the_encoder_says_what_torch_says_alone_and_in_a_batch(folder: Path, model: Model) -> None:
    session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 160, 160)).astype(np.float32))
    expected = model.encoder(crops)
    together = session.run(list(EncoderOutput._fields), {"crops": crops.numpy()})
    for name, mine, theirs in zip(EncoderOutput._fields, together, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
    for i in range(5):
        alone = session.run(None, {"crops": crops[i : i + 1].numpy()})
        for name, mine, theirs in zip(EncoderOutput._fields, alone, together, strict=True):
            np.testing.assert_allclose(mine[0], theirs[i], atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(("name", "side"), [("pnet", 97), ("rnet", 24), ("onet", 48)])
def test_the_face_nets_say_what_torch_says(folder: Path, model: Model, profile: dict[str, Any], name: str, side: int) -> None:
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn((3, 3, side, side + (name == "pnet")), generator=torch.Generator().manual_seed(0))
    outputs = [port["name"] for port in profile["nets"][name]["outputs"]]
    for output, mine, theirs in zip(outputs, session.run(outputs, {"x": x.numpy()}), getattr(model.detector, name)(x), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-5, rtol=1e-4, err_msg=output)


def _eventful(path: Path) -> Path:
    """A face, nobody, a face elsewhere after a cut, one too small, one in the dark; at the times of a screen recording."""

    def picture(tick: int) -> clips.Image:
        t = tick / 1000
        if t < 2.2:
            return clips.face_frame(t)
        if t < 3.1:
            return clips.empty_frame(t)
        if t < 4.5:
            return np.asarray(255 - clips.empty_frame(t) // 4, np.uint8) if t < 3.3 else clips.face_frame(t, left=20)
        return clips.face_frame(t, px=170) if t < 5.5 else np.asarray(clips.face_frame(t) // 8, np.uint8)

    pts = clips.variable_pts(7.0, seed=5)
    return clips.write_clip(path, (picture(tick) for tick in pts), pts)


def _assert_agrees(rows: list[dict[str, Any]], source: Path, model: Model, hz: float | None) -> list[dict[str, Any]]:
    """Each look against the Score of the same face at the same PTS; gives those that were judged."""
    report = analyse(source, model, hz=hz)
    assert [row["pts"] for row in rows] == list(report.frame_pts)
    by_pts: dict[int, list[Any]] = {}
    for score in report.scores:
        by_pts.setdefault(score.pts, []).append(score)
    judged = []
    for row in rows:
        assert row["t"] == float(row["pts"] * Fraction(row["time_base"]))
        if row["box"] is None:
            assert row["reason"] == "no_face" and row["pts"] not in by_pts
            continue
        (score,) = (one for one in by_pts[row["pts"]] if np.abs(np.array(one.box) - row["box"]).max() < 0.01)
        assert (row["reason"], row["dt"]) == (score.reason, score.dt)
        for mine, theirs in ((row["logit"], score.logit), (row["p"], score.p), (row["surprise"], score.surprise)):
            assert mine == (None if theirs is None else pytest.approx(theirs, abs=LOGIT, rel=LOGIT))
        judged += [row] if row["p"] is not None else []
    return judged


@pytest.mark.parametrize(("hz", "clip"), [("12", "steady"), ("all", "steady"), ("12", "eventful"), ("7.5", "eventful")])
def test_the_example_judges_each_look_as_analyse_does(bare: Bare, folder: Path, model: Model, tmp_path: Path, hz: str, clip: str) -> None:
    if clip == "steady":
        source = clips.face_clip(tmp_path / "steady.mkv", pts=clips.variable_pts(3.0, seed=8))
    else:
        source = _eventful(tmp_path / "eventful.mp4")
    rows, end = looks_of(bare, folder, source, "--hz", hz)
    judged = _assert_agrees(rows, source, model, None if hz == "all" else float(hz))
    assert len(judged) == end["judged"] >= 8
    if clip == "eventful":
        assert {"no_face", "face_too_small", "too_dark"} <= {row["reason"] for row in rows}
        assert end["faces"] >= 2, "a cut forgets"
    else:
        score = analyse(source, model, hz=None if hz == "all" else float(hz)).verdict.score
        assert score is not None and end["p"] == pytest.approx(score.p, abs=LOGIT)
        assert end["above"] is (end["p"] >= end["threshold"])


@pytest.mark.parametrize(
    "file",
    [
        "validation/real/h0042_469.mp4",
        "validation/fake/h0002_469_481.mp4",
        "published/clips/modelscope__ClearerVoice-Studio/path_to_input_videos_tse_001.avi",
    ],
)
def test_the_example_judges_real_clips_as_analyse_does(bare: Bare, folder: Path, model: Model, file: str) -> None:
    data = require("shared")
    assert data is not None
    rows, end = looks_of(bare, folder, data / file, "--hz", "6")
    assert len(_assert_agrees(rows, data / file, model, 6)) == end["judged"] > 20
    assert end["p"] is not None


def test_people_get_a_line_a_look_and_a_sentence(bare: Bare, folder: Path, tmp_path: Path) -> None:
    done = bare.run(folder / "detect.py", clips.face_clip(tmp_path / "f.mp4", seconds=2.0), "--hz", "6")
    assert done.returncode == 0, done.stderr
    first, second, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r" +0\.000 s  p 0\.\d{3}  face 0, first look", first)
    assert re.fullmatch(r" +0\.\d{3} s  p 0\.\d{3}  face 0, after 0\.\d{3} s, surprise \d+\.\d\d", second)
    assert re.fullmatch(r"Face 0: p 0\.\d{3}, (below|at or above) the threshold of 0\.\d{3}; 12 looks judged\.", last)
    done = bare.run(folder / "detect.py", clips.empty_clip(tmp_path / "e.mp4"), "--hz", "2")
    assert done.stdout.splitlines()[-1] == "No face was seen for long enough to be judged (0 looks at 0 faces)."


def test_the_example_refuses_in_one_line(bare: Bare, folder: Path, tmp_path: Path) -> None:
    sound, text = clips.audio_only(tmp_path / "sound.mp4"), tmp_path / "text.mp4"
    text.write_text("no video")
    for source, said in ((sound, "has no video stream"), (text, "cannot be read"), (tmp_path / "none.mp4", "cannot be read")):
        done = bare.run(folder / "detect.py", source)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert bare.run(folder / "detect.py", sound, "--hz", "0").returncode == 2


def test_the_example_refuses_a_net_that_is_not_the_profiles(bare: Bare, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "memory.onnx").open("ab") as file:
        file.write(b"\0")
    done = bare.run(tmp_path / "detect.py", "video.mp4")
    assert done.returncode == 1 and "memory.onnx is damaged or of another bundle" in done.stderr


def test_a_memory_that_cannot_be_exported_is_refused_by_name(model: Model) -> None:
    other = Model(model.detector, model.encoder, TemporalHead(128, 8, "ltc"), model.calibrator, model.info, model.device)
    with pytest.raises(CannotCompile, match="got cell 'ltc'"):
        list(edge_files(other))
