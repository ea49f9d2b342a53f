"""The shell of every page: a template's name and its values come in, HTML with navigation, words and asset addresses goes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from service import __version__
from service.dashboard.assets import asset
from service.dashboard.text import ENGLISH, catalogue, sections
from service.key_store import Scope
from service.rooms import ServiceRooms


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the navigation; its words are `shell.<name>` of the catalogue."""

    name: str
    path: str
    needs: tuple[Scope, ...] = ()
    """Shown only to whoever has one of these; a page that is public HTML does not know its reader, so `islands/pages/shell.ts` shows it."""


PLACES: Final = (
    Place("videos", "/"),
    Place("queue", "/queue", ("reviews",)),
    Place("quality", "/quality", ("reviews:lead",)),
    Place("wall", "/wall", ("feeds",)),
    Place("live", "/live"),
    Place("audit", "/audit", ("admin",)),
    Place("settings", "/settings", ("admin", "webhooks")),
)
"""The navigation, in this order. A new page adds a line here and a word to the catalogue."""


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(asset=asset, places=PLACES, t=catalogue(), language=ENGLISH, version=__version__)
    return environment


def page(
    template: str, rooms: ServiceRooms, *, place: str, speaks: tuple[str, ...] = (), headers: dict[str, str] | None = None, **values: object
) -> HTMLResponse:
    """Render `templates/<template>.html.j2`, which extends `base.html.j2`.

    Args:
        template: its name.
        place: the entry of `PLACES` that it belongs to; "" for none.
        speaks: the sections of the catalogue that its islands need beside the shared ones.
        headers: further headers of the answer.
        values: what the template wants besides.

    Raises:
        AssetsNotBuilt: its scripts and styles are missing.
    """
    settings = rooms.settings
    html = (
        _templates()
        .get_template(f"{template}.html.j2")
        .render(place=place, text=sections(*speaks), is_loopback=settings.is_loopback, needs_keys=settings.needs_keys, **values)
    )
    return HTMLResponse(html, headers={"Cache-Control": "no-cache", **(headers or {})})
