"""The pages of whoever runs a tenant: an address comes in, the shell of its settings or of its audit goes out. Installed by `__init__.py`.

What a key may not see is not in the shell: all of it comes from `/v1`, and the island says what is missing.
"""

from __future__ import annotations

from typing import Final, Literal

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse

from service.dashboard.shell import page
from service.rooms import Rooms

Section = Literal["keys", "webhooks", "service"]
SECTIONS: Final[tuple[Section, ...]] = ("keys", "webhooks", "service")
SPEAKS: Final = {
    "keys": ("settings", "keys", "scopes"),
    "webhooks": ("settings", "webhooks", "events", "delivery_states"),
    "service": ("settings", "service", "setting_names", "setting_groups"),
}
"""Of each section: what its island may say beside the shared words."""


def install(app: FastAPI) -> None:
    """Add both pages to `app`."""
    app.add_api_route("/settings", first_section, include_in_schema=False)
    app.add_api_route("/settings/{section}", settings, include_in_schema=False)
    app.add_api_route("/audit", audit, include_in_schema=False)


def first_section() -> RedirectResponse:
    """Settings are read a section at a time."""
    return RedirectResponse(f"/settings/{SECTIONS[0]}")


async def settings(section: Section, rooms: Rooms) -> HTMLResponse:
    """One section of the settings."""
    return page("settings", rooms, place="settings", speaks=SPEAKS[section], section=section, sections=SECTIONS)


async def audit(rooms: Rooms) -> HTMLResponse:
    """Who did what."""
    return page("audit", rooms, place="audit", speaks=("settings", "audit", "actions"))
