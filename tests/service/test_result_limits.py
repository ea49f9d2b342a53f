"""The result page at its limits, in a real Chromium: nobody in the picture, a crowd in it, and a video that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from service.settings import Settings
from tests.clips import Image, empty_clip, face_clip, face_frame, regular_pts, write_clip
from tests.service.browsing import WAIT_MS, Desk, chromium, desk_at, eventually, violations
from tests.service.conftest import Serve, upload

PLAYHEAD = "Number(document.querySelector('.playhead').getAttribute('aria-valuenow'))"
CHOSEN = "document.querySelector('[aria-pressed=true]').getBoundingClientRect().top"
WIDTHS = (1280, 390)
ACROSS, DOWN = 4, 3
CROWD = ACROSS * DOWN


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def shown(browser: Browser, client: httpx.Client, clip: Path) -> Iterator[Desk]:
    """The result of a clip, open in the browser."""
    body = upload(client, clip, wait_s=100).json()
    assert body["status"] == "succeeded", body
    with desk_at(browser, str(client.base_url)) as desk:
        desk.page.goto(body["links"]["page"])
        expect(desk.page.locator("article.result")).to_be_visible(timeout=WAIT_MS)
        yield desk


def fits(desk: Desk, width: int) -> None:
    """At this width it scrolls one way only, and axe finds nothing."""
    desk.page.set_viewport_size({"width": width, "height": 844})
    eventually(desk.page, f"document.documentElement.scrollWidth === {width}")
    assert violations(desk.page) == []


def crowd(t: float) -> Image:
    """Twelve people, each swaying at a time of their own."""
    cells = [[face_frame(t + 0.4 * (ACROSS * row + n), width=320, height=320, px=280) for n in range(ACROSS)] for row in range(DOWN)]
    return np.asarray(np.block([[[cell] for cell in row] for row in cells]), dtype=np.uint8)


def test_a_video_without_a_face_says_so_everywhere(browser: Browser, client: httpx.Client, tmp_path: Path) -> None:
    with shown(browser, client, empty_clip(tmp_path / "empty.mp4")) as desk:
        page = desk.page
        expect(page.locator("h1")).to_contain_text("There is nothing to judge: no face was found.")
        expect(page.locator(".verdict .number")).to_have_text("Probability: not judged (no face to be seen)")
        expect(page.locator(".no-lane")).to_have_text("No face was found in this video.")
        expect(page.get_by_role("heading", name="What it rests on")).to_have_count(0)
        expect(page.get_by_role("heading", name="Faces", exact=True)).to_have_count(0)
        expect(page.locator(".legend")).to_contain_text("no face to be seen")
        eventually(page, "document.querySelector('video').readyState >= 2")
        page.keyboard.press("ArrowRight")
        eventually(page, f"{PLAYHEAD} > 0")
        for key in ("n", "p"):
            page.keyboard.press(key)
        page.get_by_text("The scores as a table").click()
        expect(page.locator(".table-place")).to_have_text("No face was found in this video.")
        for width in WIDTHS:
            fits(desk, width)
        assert desk.complaints == []


def test_twelve_faces_can_be_looked_through_by_keys_and_on_a_telephone(browser: Browser, client: httpx.Client, tmp_path: Path) -> None:
    ticks = regular_pts(2.5, 6)
    with shown(browser, client, write_clip(tmp_path / "crowd.mp4", (crowd(tick / 1000) for tick in ticks), ticks)) as desk:
        page = desk.page
        names = page.locator("button.lane-name")
        expect(names).to_have_count(CROWD)
        expect(page.locator(".face")).to_have_count(CROWD)
        expect(page.locator(".evidence > ul > li")).to_have_count(CROWD)
        eventually(page, "document.querySelector('video').readyState >= 2")
        # A face is chosen by keys, brought into view, and drawn apart from the others.
        names.last.focus()
        page.keyboard.press("Enter")
        expect(names.last).to_have_attribute("aria-pressed", "true")
        eventually(page, f"{CHOSEN} >= document.querySelector('.lanes').getBoundingClientRect().top - 1")
        eventually(page, f"{CHOSEN} <= document.querySelector('.lanes').getBoundingClientRect().bottom")
        eventually(page, "document.querySelectorAll('.boxes .selected').length === 1")
        eventually(page, f"document.querySelectorAll('.boxes rect').length === {CROWD}")
        before = page.evaluate(PLAYHEAD)
        page.keyboard.press("ArrowRight")
        eventually(page, f"{PLAYHEAD} > {before}")
        page.get_by_text("The scores as a table").click()
        told = set(page.locator(".table-place tbody tr td:nth-child(2)").all_inner_texts())
        assert told == {str(n) for n in range(CROWD)}
        expect(page.locator(".readout")).to_contain_text("…")
        page.get_by_text("Show the sum").first.click()
        for width in WIDTHS:
            fits(desk, width)
        assert desk.complaints == []


def test_a_video_that_is_gone_is_told_and_everything_else_stays(browser: Browser, serve: Serve, settings: Settings, tmp_path: Path) -> None:
    with serve(settings) as client:
        body = upload(client, face_clip(tmp_path / "face.mp4", seconds=2.0), wait_s=100).json()
        (media,) = settings.data_dir.rglob(f"analyses/{body['id']}/media")
        media.unlink()
        with desk_at(browser, str(client.base_url)) as desk:
            page = desk.page
            page.goto(body["links"]["page"])
            expect(page.locator(".player .notice")).to_contain_text("The video itself is not kept any more.")
            expect(page.locator(".player .notice")).not_to_contain_text("This browser")
            expect(page.get_by_role("button", name="Play")).to_be_hidden()
            page.keyboard.press("ArrowRight")
            eventually(page, f"{PLAYHEAD} > 0")
            expect(page.locator(".evidence li")).to_have_count(1)
            eventually(page, "[...document.querySelectorAll('.crop img')].some((one) => one.complete && one.naturalWidth > 0)")
            page.get_by_text("The scores as a table").click()
            expect(page.locator(".table-place tbody tr")).not_to_have_count(0)
            for width in WIDTHS:
                fits(desk, width)
            assert all("404" in complaint for complaint in desk.complaints)
