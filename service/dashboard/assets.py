"""What the pages load: files that `build.mjs` made come in, addresses and cacheable answers go out. Used by `shell.py`."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.staticfiles import StaticFiles

from service.problems import ServiceError

if TYPE_CHECKING:
    from os import PathLike, stat_result

    from starlette.responses import Response
    from starlette.types import Scope

FOLDER: Final = Path(str(files("service.dashboard"))) / "assets"
MANIFEST: Final = FOLDER / "built" / "manifest.json"
FOREVER: Final = "public, max-age=31536000, immutable"
"""For names with a hash in them: what changes has another name."""


class AssetsNotBuilt(ServiceError):
    """The API works without them; the pages do not."""

    slug = "assets-not-built"
    title = "The pages were not built"
    status = 503


@cache
def manifest() -> dict[str, str]:
    """What was built, by the name of its entry."""
    try:
        built: dict[str, str] = json.loads(MANIFEST.read_text("utf-8"))
    except FileNotFoundError as error:
        raise AssetsNotBuilt(
            "The scripts and styles of the dashboard are missing; the API works without them.",
            expected="what `make assets` builds in service/dashboard/assets/built",
            got="nothing there",
        ) from error
    return built


def asset(name: str) -> str:
    """The address of an entry (`result.js`, `page.css`).

    Raises:
        AssetsNotBuilt: nothing was built, or before there was such an entry.
    """
    if (built := manifest().get(name)) is None:
        raise AssetsNotBuilt(
            "The scripts and styles of the dashboard are older than it; the API works without them.",
            expected=f"{name} in service/dashboard/assets/built (`make assets`)",
            got="an earlier build",
        )
    return f"/assets/built/{built}"


class Assets(StaticFiles):
    """Built files are kept for ever and sent packed; the others are asked for again each time (and answered 304)."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    def file_response(self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200) -> Response:
        """Serve the `.gz` beside a file to whoever takes it."""
        path = Path(full_path)
        packed = path.with_name(f"{path.name}.gz")
        headers: dict[str, str] = {"Cache-Control": FOREVER if path.parent == MANIFEST.parent and path != MANIFEST else "no-cache"}
        if packed.exists():
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in Headers(scope=scope).get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
                full_path, stat_result = packed, packed.stat()
        response = super().file_response(full_path, stat_result, scope, status_code)
        if "Content-Encoding" in headers:
            # By the name without `.gz`, which is not what the bytes are once unpacked.
            response.headers["Content-Type"] = "text/css; charset=utf-8" if path.suffix == ".css" else "text/javascript; charset=utf-8"
        response.headers.update(headers)
        return response
