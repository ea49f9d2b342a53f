"""The page: a browser comes in, one server-rendered shell and its hand-written assets go out; everything else it asks of `/v1`."""

from __future__ import annotations

from importlib.resources import files
from os import PathLike, stat_result
from typing import TYPE_CHECKING
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


class _Assets(StaticFiles):
    """Asked for again each time (and answered 304): the modules import each other by plain names, which cannot carry a version."""

    def file_response(self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def install(app: FastAPI) -> None:
    """Add the page and its assets to `app`."""
    templates = Environment(loader=PackageLoader("service.dashboard"), autoescape=True, undefined=StrictUndefined)
    template, sign_in = templates.get_template("page.html.j2"), templates.get_template("sign_in.html.j2")

    def page(rooms: Rooms) -> HTMLResponse:
        """The dashboard; what it shows is chosen by its own script from the address."""
        settings = rooms.settings
        return HTMLResponse(
            template.render(
                version=__version__,
                max_upload_bytes=settings.max_upload_bytes,
                is_loopback=settings.is_loopback,
                needs_keys=settings.needs_keys,
            )
        )

    def page_of_one(analysis_id: UUID, rooms: Rooms) -> HTMLResponse:
        """The same page, opened at one analysis."""
        return page(rooms)

    def sign_in_page() -> HTMLResponse:
        """Where a key is asked for; `api.js` leads here when there is none."""
        return HTMLResponse(sign_in.render())

    app.add_api_route("/sign-in", sign_in_page, include_in_schema=False)
    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/analyses/{analysis_id}", page_of_one, include_in_schema=False)
    app.mount("/assets", _Assets(directory=str(files("service.dashboard") / "assets")), name="assets")
