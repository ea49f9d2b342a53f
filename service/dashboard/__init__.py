"""The pages: a browser comes in, a server-rendered shell and its islands go out; everything else they ask of `/v1`.

To add a page: a template that extends `base.html.j2`, an island in `islands/pages/` and a style in `styles/` if it needs them, its words in
a section of `text/en.json`, a function here or in a file beside this one that ends in `shell.page(...)`, and a line in `shell.PLACES`.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from service import oidc_sign_in
from service.dashboard import settings as settings_pages
from service.dashboard.assets import MANIFEST, Assets
from service.dashboard.shell import page
from service.problems import ServiceError, problem_of, problem_response
from service.rooms import Rooms, ServiceRooms
from service.settings import Settings

DESK: Final = ("desk", "decisions", "decision_reasons", "skip_reasons", "review_roles")
"""What the decision panel says."""
RESULT: Final = (
    "result",
    "evidence",
    "ledger",
    "facts",
    "credentials",
    "credential_actions",
    "credential_sources",
    "provenance",
    "keyboard",
    "rendition",
)
"""What a result says."""
QUEUE: Final = ("queue", "item_states", "levels")
"""What the queue says besides."""
CAMERA_HERE: Final = "camera=(self), microphone=(), geolocation=()"

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Add the pages and their assets to `app`."""
    oidc_sign_in.install(app, sign_in_trouble)
    app.add_api_route("/sign-in", sign_in, include_in_schema=False)
    app.add_api_route("/", videos, include_in_schema=False)
    app.add_api_route("/analyses/{analysis_id}", one_video, include_in_schema=False)
    app.add_api_route("/queue", queue, include_in_schema=False)
    app.add_api_route("/quality", quality, include_in_schema=False)
    app.add_api_route("/live", live, include_in_schema=False)
    app.add_api_route("/wall", wall, include_in_schema=False)
    settings_pages.install(app)
    app.mount("/assets", Assets(), name="assets")
    if not MANIFEST.exists():
        log.warning("assets_not_built", expected="make assets", got=f"no {MANIFEST}")


async def sign_in(rooms: Rooms) -> HTMLResponse:
    """Where a key is asked for; `api.ts` leads here when there is none."""
    return page("sign_in", rooms, place="", speaks=("sign_in",), issuer=_issuer_name(rooms.settings), trouble=None)


def sign_in_trouble(request: Request, error: ServiceError) -> Response:
    """The same page, which says why nobody was let in; a program that asks gets the problem alone."""
    problem = problem_of(error, instance=request.url.path, request_id=request.scope.get("request_id"))
    if "text/html" not in request.headers.get("accept", ""):
        return problem_response(problem, error.headers)
    rooms: ServiceRooms = request.app.state.rooms
    kept = {"Cache-Control": "no-store"}
    html = page("sign_in", rooms, place="", speaks=("sign_in",), headers=kept, issuer=_issuer_name(rooms.settings), trouble=problem)
    html.status_code = error.status
    return html


async def videos(rooms: Rooms) -> HTMLResponse:
    """The list and one result; what is shown is chosen by its island from the address."""
    return page("videos", rooms, place="videos", speaks=(*DESK, *RESULT, "videos"), max_upload_bytes=rooms.settings.max_upload_bytes)


async def one_video(analysis_id: UUID, rooms: Rooms) -> HTMLResponse:
    """The same page, opened at one analysis."""
    return await videos(rooms)


async def queue(rooms: Rooms) -> HTMLResponse:
    """The reviewers' queue, and what they said."""
    return page("queue", rooms, place="queue", speaks=(*DESK, *QUEUE))


async def quality(rooms: Rooms) -> HTMLResponse:
    """What a lead watches, and the policy."""
    return page("quality", rooms, place="quality", speaks=("settings", "quality", "skip_reasons"))


async def live(rooms: Rooms) -> HTMLResponse:
    """The webcam's page, the only one that may ask for a camera."""
    speaks = ("live", "result", "live_states", "drops", "gaps", "hints")
    return page("live", rooms, place="live", speaks=speaks, headers={"Permissions-Policy": CAMERA_HERE})


async def wall(rooms: Rooms) -> HTMLResponse:
    """All cameras that the service watches by itself."""
    return page("wall", rooms, place="wall", speaks=("shell", "wall", "wall_link", "feed_states", "feed_codes", "drops"))


def _issuer_name(settings: Settings) -> str | None:
    return None if settings.oidc.issuer is None else settings.oidc.name
