"""The result page in a real Chromium: what is under the pointer is what is shown, to the frame, whatever the frame rate."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, FloatRect, Page, Route, expect

from service.settings import Settings
from tests.clips import face_clip, variable_pts
from tests.service.browsing import WAIT_MS, Desk, chromium, desk_at, eventually, violations
from tests.service.conftest import Serve, upload

PLAYHEAD = "Number(document.querySelector('.playhead').getAttribute('aria-valuenow'))"
VIDEO = "document.querySelector('video')"
ROUNDED_S = 0.006
"""The slider's value has two digits."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pts(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return [tick / 1000 for tick in variable_pts(5.0, seed=7)]


@pytest.fixture
def desk(browser: Browser, serve: Serve, settings: Settings, tmp_path: Path, pts: list[float]) -> Iterator[Desk]:
    """A judged screen recording, open in the browser."""
    recording = face_clip(tmp_path / "recording.mp4", pts=[round(1000 * t) for t in pts])
    with serve(settings) as client, desk_at(browser, str(client.base_url)) as opened:
        opened.page.goto(upload(client, recording, wait_s=100).json()["links"]["page"])
        expect(opened.page.locator("article.result")).to_be_visible(timeout=WAIT_MS)
        eventually(opened.page, f"{VIDEO}.readyState >= 2")
        yield opened


def judged_times(page: Page) -> list[float]:
    """When each judged frame is, of the only face."""
    read = "fetch('/v1' + location.pathname + '/timeline').then((answer) => answer.json())"
    timeline = page.evaluate(read)
    numerator, denominator = timeline["time_base"]
    return [one * numerator / denominator for one in timeline["frame_pts"]]


def lane(page: Page) -> FloatRect:
    box = page.locator(".timeline .lane .u-over").first.bounding_box()
    assert box is not None
    return box


def test_a_click_seeks_to_the_nearest_judged_frame_and_its_box_is_drawn(desk: Desk, pts: list[float]) -> None:
    page, frames = desk.page, judged_times(desk.page)
    page.evaluate(
        "window.onScreen = []; const video = document.querySelector('video');"
        "const note = (_, frame) => { onScreen.push(frame.mediaTime); video.requestVideoFrameCallback(note); };"
        "video.requestVideoFrameCallback(note)"
    )
    box = lane(page)
    for share in (0.13, 0.71, 0.38):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        wanted = min(frames, key=lambda t: abs(t - share * max(5.0, pts[-1])))
        near = [t for t in frames if abs(t - wanted) < 0.2]
        eventually(page, f"{json.dumps(near)}.some((t) => Math.abs(t - {PLAYHEAD}) < {ROUNDED_S})")
        shown = page.evaluate(PLAYHEAD)
        eventually(page, f"onScreen.length && Math.abs(onScreen.at(-1) - {shown}) < {ROUNDED_S}")
        # The frame that is there by the file's own timestamps, no other.
        assert abs(pts[bisect_right(pts, shown + ROUNDED_S) - 1] - shown) < ROUNDED_S
        row = next(row for row in rows(page) if abs(row["t"] - shown) < ROUNDED_S)
        drawn = page.evaluate(
            "[...document.querySelectorAll('.boxes rect')].map((one) => ['x', 'y', 'width'].map((name) => Number(one.getAttribute(name))))"
        )
        x0, y0, x1, _ = row["box"]
        assert drawn == [pytest.approx([x0, y0, x1 - x0])]
    assert desk.complaints == []


def rows(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("fetch('/v1' + location.pathname + '/timeline').then((answer) => answer.json())")["rows"]
    return found


def test_keys_go_frame_by_frame_look_closer_and_tell_what_they_are(desk: Desk) -> None:
    page, frames = desk.page, judged_times(desk.page)
    for expected in (*frames[1:4], frames[2]):
        page.keyboard.press("ArrowRight" if expected != frames[2] or page.evaluate(PLAYHEAD) < frames[2] else "ArrowLeft")
        eventually(page, f"Math.abs({PLAYHEAD} - {expected}) < {ROUNDED_S}")
    expect(page.locator(".move")).to_be_hidden()
    for _ in range(3):
        page.keyboard.press("+")
    expect(page.locator(".move")).to_be_visible()
    expect(page.locator(".shown-range")).to_contain_text("to")
    box = lane(page)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    eventually(page, f"{json.dumps(frames)}.some((t) => Math.abs(t - {PLAYHEAD}) < {ROUNDED_S})")
    page.keyboard.press("0")
    expect(page.locator(".move")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next and previous segment")
    before = page.evaluate(PLAYHEAD)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate(PLAYHEAD) == before, "while it is open no key moves the video"
    assert desk.complaints == []


def test_who_looks_elsewhere_is_left_there_until_the_playhead_moves(desk: Desk) -> None:
    page = desk.page
    for _ in range(3):
        page.keyboard.press("+")
    expect(page.locator(".move")).to_be_visible()
    before = page.evaluate(PLAYHEAD)
    page.locator(".move").evaluate("(move) => { move.value = 1000; move.dispatchEvent(new Event('input')); }")
    eventually(page, "document.querySelector('.playhead').hidden")
    assert page.evaluate(PLAYHEAD) == before
    page.keyboard.press("ArrowRight")
    eventually(page, "!document.querySelector('.playhead').hidden")
    assert page.evaluate(PLAYHEAD) > before and desk.complaints == []


def test_it_reads_as_a_table_and_axe_finds_nothing(desk: Desk) -> None:
    page = desk.page
    page.get_by_text("The scores as a table").click()
    expect(page.locator(".table-place tbody tr")).to_have_count(len(rows(page)))
    expect(page.get_by_role("link", name="All rows as CSV")).to_be_visible()
    page.get_by_text("Media, model and how to reproduce this").click()
    expect(page.locator("details dl")).to_contain_text("Times are the container's own")
    assert violations(page) == []
    assert desk.complaints == []


def test_the_sum_behind_a_score_adds_up_and_leads_to_its_moments(desk: Desk) -> None:
    page = desk.page
    (track,) = page.evaluate("fetch('/v1' + location.pathname).then((answer) => answer.json())")["result"]["tracks"]
    ledger = track["ledger"]
    page.get_by_text("Show the sum").click()
    table = page.get_by_role("region", name="The sum behind the score of face 0").get_by_role("table")
    shown = [[told(cell) for cell in row.get_by_role("cell").all_inner_texts()] for row in table.get_by_role("row").all()[1:]]
    base, *stretches, (appearance, motion, whole) = shown
    assert len(stretches) == len(ledger["shares"]) >= 5
    for column, total in enumerate((appearance, motion)):
        assert sum(row[column] for row in stretches) == total, "what is shown adds up to what is shown"
    assert all(look + move == together for look, move, together in stretches)
    assert base[-1] + appearance + motion == whole == sum(row[-1] for row in (base, *stretches))
    for row, share in zip(stretches, ledger["shares"], strict=True):
        assert [float(one) for one in row[:2]] == pytest.approx([share["appearance"], share["motion"]], abs=0.0011)
    assert float(whole) == pytest.approx(ledger["logit"], abs=0.0016), "three numbers are rounded"
    assert 1 / (1 + math.exp(-ledger["logit"])) == pytest.approx(track["score"]["p"], abs=1e-9)
    expect(page.locator(".ledger > .fine").last).to_contain_text(f"a probability of {track['score']['p']:.2f}")
    start = ledger["shares"][2]["start"]["t"]
    table.get_by_role("button").nth(2).click()
    eventually(page, f"Math.abs({PLAYHEAD} - {start}) < {ROUNDED_S}")
    assert violations(page) == []
    assert desk.complaints == []


def told(number: str) -> Decimal:
    """What a cell says, exactly; an empty one says nothing."""
    return Decimal(number.replace("\u2212", "-") or 0)


LONG_S = 4 * 3600.0


def test_a_long_timeline_is_asked_for_in_parts_and_shows_its_peak(desk: Desk) -> None:
    """What the service would send of four hours is put in its place; the page asks for detail where somebody looks closely."""
    page = desk.page
    asked: list[str] = []
    path = page.url.rpartition("/")[2]

    def answer(route: Route) -> None:
        url = httpx.URL(route.request.url)
        asked.append(url.query.decode())
        begin, end = float(url.params.get("from", 0)), float(url.params.get("to", LONG_S))
        times = [begin + n * (end - begin) / 2000 for n in range(2001)]
        times = [max(0.0, min(LONG_S, t)) for t in times]
        row = {"track": 0, "dt": None, "logit": 0.0, "surprise": 1.0, "box": [0, 0, 9, 9], "reason": None, "flags": []}
        told = {"time_base": [1, 1000], "threshold": 0.9, "frame_pts": [round(1000 * t) for t in times], "total_rows": 172_800}
        told |= {"rows": [{**row, "pts": round(1000 * t), "t": t, "p": 0.5} for t in times]}
        route.fulfill(json=told)

    page.route(f"**/v1/analyses/{path}/timeline?*", answer)
    page.reload()
    expect(page.locator("article.result")).to_be_visible(timeout=WAIT_MS)
    eventually(page, f"Number(document.querySelector('.playhead').getAttribute('aria-valuemax')) >= {LONG_S}")
    assert asked[0] == "points=4000"
    for _ in range(12):
        page.keyboard.press("+")
    eventually(page, "document.querySelector('.shown-range').textContent.length > 0")

    def spans() -> list[float]:
        parts = [httpx.QueryParams(one) for one in asked[1:]]
        return [float(one["to"]) - float(one["from"]) for one in parts if one["points"] == "4000"]

    for _ in range(WAIT_MS // 50):
        if spans() and min(spans()) < LONG_S / 100:
            break
        page.wait_for_timeout(50)
    assert min(spans()) < LONG_S / 100, "two hundred and eighty times closer is more than what the first answer can show"
    assert desk.complaints == []
