"""The house stands: packages are ours, rooms keep their doors, the repository holds what it may hold."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service import __version__
from tests.support import ROOT, Part, require

PACKAGES = ("models", "pipelines", "service")
FURNITURE = {
    "pyproject.toml",
    "Dockerfile",
    "README.md",
    "Makefile",
    "CHANGELOG.md",
    "DECISIONS.md",
    "LICENSE",
    "NOTICE",
    "CONTRIBUTING.md",
}
ROOMS = {*PACKAGES, "tests", "docker"}
LARGEST_FILE = 8 * 1024**2
STANDARD_FOLDERS = frozenset({"bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr", "var"})
LINT_IMPORTS = Path(sysconfig.get_path("scripts"), "lint-imports")

# One import that must not be, for each contract of pyproject.toml: the file it is written to, and its line.
BREACHES = {
    "one way: service -> pipelines -> models": ("pipelines/breach.py", "import service.settings"),
    "models know no video and no web": ("models/breach.py", "import cv2"),
    "pipelines know no web, no rows and no terminal": ("pipelines/breach.py", "import fastapi"),
    "only the hall reads with av (frames, containers, decoding, placing, pictures), only training.video_writer and .reencode write": (
        "service/breach.py",
        "import av",
    ),
    "only models.face_detector imports facenet_pytorch": ("models/breach.py", "import facenet_pytorch"),
    "only service.workflows imports dbos": ("service/breach.py", "import dbos"),
    "the client loads no model and no server": ("service/client/breach.py", "import pipelines.model"),
    "only service.content_credentials imports c2pa": ("service/breach.py", "import c2pa"),
    "only models.compiled imports onnxruntime": ("pipelines/breach.py", "import onnxruntime"),
}


@pytest.fixture(scope="module")
def repository() -> list[Path]:
    """Every file that is committed or would be by `git add .`, relative to the root."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_the_ones_of_this_repository(package: str) -> None:
    """Another distribution with a top-level `models` overwrites ours without a word, and pip sees no conflict."""
    assert importlib.import_module(package).__file__ == str(ROOT / package / "__init__.py")
    claimed_by = set(packages_distributions().get(package, []))
    assert claimed_by <= {"undercurrent"}, f"{package} is also installed by {claimed_by - {'undercurrent'}}"


def test_every_folder_of_tests_is_a_package(repository: list[Path]) -> None:
    """Without `tests/__init__.py`, pytest imports `tests/models` as `models`."""
    folders = {parent for path in repository if path.suffix == ".py" and path.parts[0] == "tests" for parent in path.parents} - {Path()}
    assert Path("tests") in folders
    assert sorted(folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()) == []


def test_docker_is_no_package(repository: list[Path]) -> None:
    """With an `__init__.py`, our folder would hide the Docker SDK's import name."""
    assert [path for path in repository if path.parts[0] == "docker" and path.suffix == ".py"] == []


def test_top_level_holds_rooms_and_furniture_only(repository: list[Path]) -> None:
    entries = {path.parts[0] for path in repository}
    assert {entry for entry in entries if not entry.startswith(".")} - ROOMS - FURNITURE == set()
    assert entries >= ROOMS


def test_version_is_the_top_entry_of_the_changelog() -> None:
    entries = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert entries, "CHANGELOG.md has no entry like '## 0.1.0 - unreleased'"
    assert entries[0] == __version__


def _lint_imports(where: Path) -> subprocess.CompletedProcess[str]:
    # Alone on the path, so that the packages of `where` are read and not those of the checkout.
    environment = {**os.environ, "PYTHONPATH": str(where), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run([LINT_IMPORTS, "--no-cache"], cwd=where, env=environment, capture_output=True, text=True, check=False)


def test_import_contracts_hold() -> None:
    result = _lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_import_contract_has_a_breach() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert {contract["name"] for contract in contracts} == set(BREACHES)


@pytest.mark.parametrize("contract", BREACHES)
def test_import_contracts_bite(contract: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda folder, names: {n for n in names if not _is_source(folder, n)})
    file, line = BREACHES[contract]
    (tmp_path / file).write_text(f"{line}\n", "utf-8")
    result = _lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout
    assert file.removesuffix(".py").replace("/", ".") in result.stdout


def _is_source(folder: str, name: str) -> bool:
    return name.endswith(".py") or (name != "__pycache__" and Path(folder, name).is_dir())


def test_no_file_is_large(repository: list[Path]) -> None:
    assert {str(path): size for path in repository if (size := (ROOT / path).stat().st_size) > LARGEST_FILE} == {}


def test_no_file_names_the_machine_it_was_written_on(repository: list[Path]) -> None:
    """Neither a folder that only this machine has nor the index that it installs from belongs in the repository."""
    hosts = _index_hosts()
    found = []
    for path in repository:
        text = _text(ROOT / path)
        found += [f"{path}: {folder}" for folder in _folders_of_this_machine(text)]
        found += [f"{path}: {host}" for host in hosts if host in text]
    assert found == []


def test_a_folder_of_this_machine_is_noticed(tmp_path: Path) -> None:
    top = str(Path(*tmp_path.parts[:3]))
    assert _folders_of_this_machine(f"clips in {tmp_path}/x.mp4, PATH=/usr/bin", standard=frozenset({"usr"})) == {top}
    assert (
        _folders_of_this_machine(f"{tmp_path} GET /v1/analyses https://no.such.host/v1/analyses", standard=frozenset({tmp_path.parts[1]}))
        == set()
    )


def _folders_of_this_machine(text: str, standard: frozenset[str] = STANDARD_FOLDERS) -> set[str]:
    """Absolute paths in `text`, cut to two levels, that exist here outside the `standard` top-level folders every Linux has."""
    paths = {(match[1], match[2]) for match in re.finditer(r"(?<![\w.~}-])/(\w[\w.-]*)/([\w.-]+)", text)}
    return {f"/{top}/{below}" for top, below in paths if top not in standard and os.access(f"/{top}/{below}", os.F_OK)}


def _text(path: Path) -> str:
    """The file's text; empty for a binary file."""
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode("utf-8", errors="replace")


def _index_hosts() -> set[str]:
    """Hosts that pip and npm are told to install from here: environment variables and pip's files."""
    told = [value for name, value in os.environ.items() if re.search(r"(?:INDEX_URL|REGISTRY)$", name, flags=re.IGNORECASE)]
    pip = subprocess.run([Path(sysconfig.get_path("scripts"), "pip"), "config", "list"], capture_output=True, text=True, check=True)
    told += re.findall(r"\w+://[^\s'\"]+", pip.stdout)
    return {host for url in told if (host := urlsplit(url).hostname)}


@pytest.mark.parametrize(("promised", "outcome"), [("", pytest.skip.Exception), ("gpu, shared", pytest.fail.Exception)])
def test_a_missing_part_skips_and_a_promised_one_fails(
    promised: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCURRENT_REQUIRE", promised)
    monkeypatch.setenv("UNDERCURRENT_SHARED", str(tmp_path / "missing"))
    with pytest.raises(outcome, match=r"there is no data folder at .*missing"):
        require("shared")


def test_a_part_that_is_there_is_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCURRENT_SHARED", str(tmp_path))
    assert require("shared") == tmp_path


def test_a_misspelt_part_fails_instead_of_promising_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCURRENT_REQUIRE", "chromium,postgres")
    with pytest.raises(
        pytest.fail.Exception, match="expected some of chromium, rtsp, postgresql, shared, gpu, nginx, prometheus, aws, c2pa; got postgres"
    ):
        require("shared")


@pytest.mark.parametrize("part", ["chromium", "rtsp", "postgresql", "shared", "gpu", "nginx", "prometheus", "aws"])
def test_every_promised_part_is_there(part: Part) -> None:
    """Fails at once in CI when a part is missing, whether or not a test uses it yet."""
    require(part)


def test_no_request_is_taken_to_a_thread_for_what_it_depends_on() -> None:
    """FastAPI does that with whatever is not `async`, and beside analyses each way there and back waits for its turn."""
    for path in sorted((ROOT / "service").rglob("*.py")):
        text = path.read_text("utf-8")
        for name in re.findall(r"Depends\((\w+)\)", text):
            elsewhere = re.search(rf"^from ([\w.]+) import .*\b{name}\b", text, re.MULTILINE)
            home = text if elsewhere is None else (ROOT / f"{elsewhere[1].replace('.', '/')}.py").read_text("utf-8")
            assert re.search(rf"^async def {name}\(", home, re.MULTILINE), f"{path.name}: {name}"
