"""A real Chromium for tests of pages: a service's address comes in, an open page and everything that it complained about go out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page, sync_playwright

from tests.support import require

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WAIT_MS = 30_000


@dataclass
class Desk:
    """One open page and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A running browser, with `flags` of the test's own."""
    require("chromium")
    with sync_playwright() as playwright, _launched(playwright.chromium, flags) as running:
        yield running


@contextmanager
def chromium_beside(browser: Browser, *flags: str) -> Iterator[Browser]:
    """Another one while the first runs; a thread can only talk to browsers of one Playwright."""
    with _launched(browser.browser_type, flags) as running:
        yield running


@contextmanager
def desk_at(browser: Browser, base_url: str, *, permissions: tuple[str, ...] = (), wait_ms: int = WAIT_MS) -> Iterator[Desk]:
    """A page of its own, not opened anywhere yet; relative addresses are below `base_url`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=base_url, reduced_motion="reduce")
    context.grant_permissions(list(permissions))
    context.set_default_timeout(wait_ms)
    desk = Desk(context.new_page())

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            desk.complaints.append(message.text)

    desk.page.on("console", on_console)
    desk.page.on("pageerror", lambda error: desk.complaints.append(str(error)))
    yield desk
    context.close()


@contextmanager
def _launched(kind: BrowserType, flags: tuple[str, ...]) -> Iterator[Browser]:
    running = kind.launch(executable_path=str(require("chromium")), args=[*FLAGS, *flags])
    yield running
    running.close()


def eventually(page: Page, expression: str, *, wait_ms: int = WAIT_MS) -> None:
    """Wait until a JavaScript expression holds. (Playwright's own waiting compiles in the page, which the page's policy forbids.)"""
    end = time.monotonic() + wait_ms / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(30)
