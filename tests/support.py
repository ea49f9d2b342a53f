"""Optional parts of a machine: a test names one, and gets it, is skipped with the reason, or fails where the part was promised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
Part = Literal["chromium", "rtsp", "postgresql", "shared", "gpu", "nginx", "prometheus", "aws", "c2pa"]

# GStreamer's bindings come with the system's Python, never with ours.
SYSTEM_PYTHON = Path("/usr/bin/python3")
IMPORT_RTSP_SERVER = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def require(part: Part) -> Path | None:
    """Give `part`, or end the calling test: skipped, or failed when UNDERCURRENT_REQUIRE (a comma list) names the part.

    Returns:
        chromium: the browser. rtsp: the Python that can serve RTSP. postgresql: the folder of its programs. shared: the data folder.
        nginx: the server. prometheus: its promtool. aws: the command line of S3. gpu, c2pa: None.
    """
    promised = _promised()
    found, reason = _look_for(part)
    if reason is None:
        return found
    if part in promised:
        pytest.fail(f"UNDERCURRENT_REQUIRE names {part}, but {reason}", pytrace=False)
    pytest.skip(reason)


def _promised() -> set[str]:
    promised = {name.strip() for name in os.environ.get("UNDERCURRENT_REQUIRE", "").split(",")} - {""}
    if unknown := promised - set(get_args(Part)):
        pytest.fail(f"UNDERCURRENT_REQUIRE: expected some of {', '.join(get_args(Part))}; got {', '.join(sorted(unknown))}", pytrace=False)
    return promised


def _look_for(part: Part) -> tuple[Path | None, str | None]:
    """The part, or the reason why there is none."""
    match part:
        case "chromium" | "nginx" | "aws":
            return _program(part)
        case "prometheus":
            return _program("promtool")
        case "rtsp":
            return (SYSTEM_PYTHON, None) if _serves_rtsp() else (None, f"{SYSTEM_PYTHON} cannot import GStreamer's RTSP server")
        case "postgresql":
            servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_major)
            return (servers[-1].parent, None) if servers else (None, "there is no PostgreSQL server under /usr/lib/postgresql")
        case "shared":
            data = Path(os.environ.get("UNDERCURRENT_SHARED") or ROOT.parent / "shared" / "data")
            return (data, None) if data.is_dir() else (None, f"there is no data folder at {data} (UNDERCURRENT_SHARED names another)")
        case "c2pa":
            return (None, None) if find_spec("c2pa") else (None, "there is no c2pa-python (the extra `credentials`)")
        case "gpu":
            return (None, None) if torch.cuda.is_available() else (None, "torch finds no CUDA GPU")


def _program(name: str) -> tuple[Path | None, str | None]:
    # Debian has servers in a folder that is not on everybody's PATH.
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return (Path(program), None) if program else (None, f"there is no `{name}` on the PATH")


def _major(server: Path) -> int:
    number = re.match(r"\d+", server.parts[-3])
    return int(number.group()) if number else 0


@cache
def _serves_rtsp() -> bool:
    return (
        SYSTEM_PYTHON.exists()
        and subprocess.run([SYSTEM_PYTHON, "-c", IMPORT_RTSP_SERVER], capture_output=True, check=False).returncode == 0
    )
