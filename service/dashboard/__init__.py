"""The pages: a browser comes in, a server-rendered shell and its hand-written assets go out; everything else they ask of `/v1`."""

from __future__ import annotations

from importlib.resources import files
from os import PathLike, stat_result
from typing import TYPE_CHECKING, Final
from uuid import UUID

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from service import __version__
from service.rooms import Rooms

if TYPE_CHECKING:
    from starlette.types import Scope

CAMERA_HERE: Final = "camera=(self), microphone=(), geolocation=()"


class _Assets(StaticFiles):
    """Asked for again each time (and answered 304): the modules import each other by plain names, which cannot carry a version."""

    def file_response(self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the pages and their assets to `app`."""
    templates = Environment(loader=PackageLoader("service.dashboard"), autoescape=True, undefined=StrictUndefined)
    dashboard, webcam, sign_in = (templates.get_template(f"{name}.html.j2") for name in ("page", "live", "sign_in"))

    def page(rooms: Rooms) -> HTMLResponse:
        """The dashboard; what it shows is chosen by its own script from the address."""
        settings = rooms.settings
        return HTMLResponse(
            dashboard.render(
                place="videos",
                version=__version__,
                max_upload_bytes=settings.max_upload_bytes,
                is_loopback=settings.is_loopback,
                needs_keys=settings.needs_keys,
            )
        )

    def page_of_one(analysis_id: UUID, rooms: Rooms) -> HTMLResponse:
        """The same page, opened at one analysis."""
        return page(rooms)

    def live(rooms: Rooms) -> HTMLResponse:
        """The webcam's page, the only one that may ask for a camera."""
        settings = rooms.settings
        html = webcam.render(place="live", version=__version__, is_loopback=settings.is_loopback, needs_keys=settings.needs_keys)
        return HTMLResponse(html, headers={"Permissions-Policy": CAMERA_HERE})

    def sign_in_page() -> HTMLResponse:
        """Where a key is asked for; `api.js` leads here when there is none."""
        return HTMLResponse(sign_in.render())

    app.add_api_route("/sign-in", sign_in_page, include_in_schema=False)
    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/analyses/{analysis_id}", page_of_one, include_in_schema=False)
    app.add_api_route("/live", live, include_in_schema=False)
    app.mount("/assets", _Assets(directory=str(files("service.dashboard") / "assets")), name="assets")
