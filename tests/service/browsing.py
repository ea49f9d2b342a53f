"""A real Chromium for tests of pages: a service's address comes in, an open page and everything that it complained about go out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserType, ConsoleMessage, Page, expect, sync_playwright

from tests.support import ROOT, require

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WAIT_MS = 60_000
AXE = ROOT / "service/dashboard/node_modules/axe-core/axe.min.js"
"""Installed with what builds the pages."""


@dataclass
class Desk:
    """One open page and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A running browser, with `flags` of the test's own."""
    require("chromium")
    expect.set_options(timeout=WAIT_MS)  # Five seconds are little on a machine that others use.
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


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is, light and dark: the rule, and the elements that break it."""
    source = AXE.read_text("utf-8")
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(source)
        told = "axe.run().then(({violations}) => violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))"
        found += [f"{scheme}: {one}" for one in page.evaluate(told)]
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return found


def eventually(page: Page, expression: str, *, wait_ms: int = WAIT_MS) -> None:
    """Wait until a JavaScript expression holds. (Playwright's own waiting compiles in the page, which the page's policy forbids.)"""
    end = time.monotonic() + wait_ms / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(30)
