"""The live wall in a real Chromium, a real RTSP camera behind it: added, its alert comes up, looked at closely, lost and had again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from service.settings import Settings
from tests.rtsp import RtspServer, rtsp_server
from tests.service.broken_network import BrokenNetwork
from tests.service.browsing import Desk, chromium, desk_at, eventually, violations
from tests.service.conftest import Serve
from tests.service.test_feeds import EAGER, register
from tests.service.watching import until
from tests.support import require

ONCE = {**EAGER, "cooldown_s": 600}
"""Every face is worth an alert, and there is one: a busy machine that does not look for two seconds ends it, and would begin another."""
HOSTILE = '"><img src=x onerror=alert(1)><b>${7*7}'
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def camera(endless: Path) -> Iterator[RtspServer]:
    require("rtsp")
    with rtsp_server(endless) as running:
        yield running


@pytest.fixture(scope="module")
def near(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that may look at cameras of this machine."""
    directory = tmp_path_factory.mktemp("wall") / "data"
    networks = (ip_network("127.0.0.0/8"),)
    with serve(Settings(data_dir=directory, min_free_bytes=0, hz=4.0, device="cpu", camera_networks=networks)) as client:
        yield client


@pytest.fixture(autouse=True)
def no_feeds_left(near: httpx.Client) -> Iterator[None]:
    yield
    for feed in near.get("/v1/feeds?limit=100").json()["items"]:
        assert near.delete(feed["links"]["self"]).status_code == 204
    until(lambda: near.get("/readyz").json()["streams"] == 0)


@pytest.fixture
def desk(browser: Browser, near: httpx.Client) -> Iterator[Desk]:
    with desk_at(browser, str(near.base_url), wait_ms=WAIT_MS) as desk:
        yield desk


def tile(page: Page, name: str) -> Locator:
    return page.locator("#tiles .tile").filter(has=page.get_by_role("button", name=name, exact=True))


def loaded(page: Page) -> None:
    page.goto("/wall")
    eventually(page, "document.getElementById('tiles').dataset.loaded !== undefined")


# Whether a canvas shows a picture: more than one colour.
PAINTED = """(canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return canvas.width > 16 && data.some((value, n) => n % 4 !== 3 && Math.abs(value - data[n % 4]) > 40);
}"""


def painted(picture: Locator) -> None:
    until(lambda: picture.evaluate(PAINTED))


def test_a_camera_is_added_and_its_alert_comes_up_by_itself(desk: Desk, near: httpx.Client, camera: RtspServer) -> None:
    page = desk.page
    page.goto("/")
    page.get_by_role("link", name="Live wall").click()
    expect(page.get_by_role("heading", name="No camera is watched yet")).to_be_visible()
    page.get_by_role("button", name="Add the first camera").click()
    expect(page.get_by_label("Address")).to_be_focused()
    page.get_by_label("Address").fill(camera.url("/file"))
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Score from").fill("1e-9")
    page.get_by_label("for so many seconds", exact=True).fill("0.5")
    page.get_by_label("then none for so many seconds").fill("600")
    page.keyboard.press("Enter")
    mine = tile(page, HOSTILE)
    expect(mine.get_by_role("button")).to_be_focused()
    expect(mine.locator(".chip")).to_contain_text("Watching")
    alert = page.locator("#alerts .alert")
    expect(alert.first).to_contain_text("at its highest")
    expect(alert.first.get_by_role("button", name=HOSTILE)).to_be_visible()
    expect(page.locator("#say")).to_contain_text(f"Alert at {HOSTILE}: face ")
    expect(page).to_have_title(re.compile(r"^\(1\) Live wall"))
    expect(mine).to_have_class(re.compile("alerting"))
    painted(mine.locator(".tile-still"))
    until(lambda: "Highest of the last three minutes" in str(mine.locator(".wall-line").get_attribute("aria-label")))
    expect(mine.locator(".tile-foot")).to_contain_text("looks/s")
    eventually(page, "[...document.querySelectorAll('#alerts img')].every((image) => image.complete && image.naturalWidth > 0)")
    feed = near.get("/v1/feeds").json()["items"][0]
    assert near.patch(feed["links"]["self"], json={"rule": {"threshold": 1.0}}).status_code == 200
    clip = alert.first.get_by_role("link", name="Clip (")
    expect(clip).to_be_visible()
    expect(alert.first).to_contain_text("lasted")
    answer = near.get(str(clip.get_attribute("href")))
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "video/mp4"
    alert.first.get_by_role("button", name="Acknowledge").click()
    expect(alert).to_have_count(0)
    expect(page.locator("#alerts-heading")).to_be_focused()
    expect(page).to_have_title(re.compile("^Live wall"))
    loaded(page)
    expect(page.locator("#alerts .alert")).to_have_count(0)
    page.get_by_text("Acknowledged", exact=True).click()
    expect(page.locator("#acknowledged .alert")).to_have_count(1)
    # What was seen before the page was opened is on the line at once.
    until(lambda: "Highest of the last three minutes" in str(mine.locator(".wall-line").get_attribute("aria-label")))
    assert page.locator("img[src='x']").count() == 0
    assert desk.complaints == []


def test_the_camera_that_is_chosen_is_looked_at_closely_by_keyboard_alone(desk: Desk, near: httpx.Client, camera: RtspServer) -> None:
    page = desk.page
    register(near, camera.url("/file"), name="door")
    loaded(page)
    door = tile(page, "door").get_by_role("button")
    for _ in range(15):
        page.keyboard.press("Tab")
        if door.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    focus = page.locator("#focus")
    expect(focus.get_by_role("heading", name="door")).to_be_focused()
    expect(door).to_have_attribute("aria-pressed", "true")
    expect(focus.locator(".boxes text").first).to_contain_text("face ")
    picture = focus.locator(".wall-player canvas")
    painted(picture)
    shown = picture.get_attribute("data-pts")
    until(lambda: picture.get_attribute("data-pts") != shown)
    expect(focus.locator(".wall-faces")).to_contain_text("Face ")
    expect(focus.locator(".wall-facts")).to_contain_text(re.compile("640 . 480, h264"))
    focus.get_by_text("As a table").click()
    expect(focus.locator("tbody tr").first).to_contain_text("0 to 10 s ago")
    page.reload()
    expect(focus.get_by_role("heading", name="door")).to_be_visible()
    focus.get_by_role("button", name="Pause").click()
    expect(focus.locator(".chip")).to_contain_text("Paused")
    expect(picture).to_be_hidden()
    focus.get_by_role("button", name="Go on").click()
    expect(focus.locator(".chip")).to_contain_text("Watching")
    painted(picture)
    page.keyboard.press("Escape")
    expect(focus).to_be_hidden()
    expect(door).to_be_focused()
    door.click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    focus.get_by_role("button", name="Remove").click()
    assert len(near.get("/v1/feeds").json()["items"]) == 1
    page.once("dialog", lambda dialog: dialog.accept())
    focus.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="No camera is watched yet")).to_be_visible()
    assert near.get("/v1/feeds").json()["items"] == []
    assert desk.complaints == []


def test_what_is_wrong_stands_at_its_field(desk: Desk, near: httpx.Client) -> None:
    page = desk.page
    loaded(page)
    page.get_by_role("button", name="Add a camera").click()
    url, threshold = page.get_by_label("Address"), page.get_by_label("Score from")

    def refused(field: Locator, words: str) -> None:
        page.get_by_role("button", name="Watch it").click()
        error = page.locator(f"#{field.get_attribute('id')}-error")
        expect(error).to_contain_text(words)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()

    refused(url, "Where is the camera?")
    for address in ("ftp://camera/a", "rtsp://user:hunter2@10.1.2.3/a", "rtsp://"):
        url.fill(address)
        refused(url, "Expected:")
    assert "hunter2" not in page.locator("#add").inner_text()
    url.fill("rtsp://127.0.0.1:9/a")
    threshold.fill("2")
    refused(threshold, "less than or equal to 1")
    expect(url).not_to_have_attribute("aria-invalid", "true")
    assert near.get("/v1/feeds").json()["items"] == []
    page.keyboard.press("Escape")
    expect(page.locator("#add-card")).to_be_hidden()
    expect(page.get_by_role("button", name="Add a camera")).to_be_focused()
    assert all(re.search("4(03|15|22)", text) for text in desk.complaints)


def test_sixteen_cameras_are_one_connection_and_each_says_how_it_is(desk: Desk, near: httpx.Client, camera: RtspServer) -> None:
    register(near, camera.url("/live"), name="yard")
    register(near, camera.url("/private", "user:wrong"), name="locked")
    for n in range(14):
        register(near, "rtsp://127.0.0.1:9/a", name=f"{n}", paused=True)
    page = desk.page
    streams: list[Request] = []
    page.on("request", lambda request: streams.append(request) if request.url.endswith("/events") else None)
    loaded(page)
    expect(page.locator("#tiles .tile")).to_have_count(16)
    expect(tile(page, "yard").locator(".chip")).to_contain_text("Watching")
    expect(tile(page, "yard").locator(".tile-score")).to_have_text("no face")
    expect(tile(page, "locked").locator(".chip")).to_contain_text("Failed")
    expect(tile(page, "locked").locator(".tile-foot")).not_to_be_empty()
    expect(page.locator("#summary")).to_contain_text("16 cameras:")
    expect(page.locator("#summary")).to_contain_text("14 paused")
    tile(page, "yard").get_by_role("button").click()
    painted(page.locator(".wall-player canvas"))
    tile(page, "3").get_by_role("button").click()
    expect(page.locator("#focus h2")).to_have_text("3")
    assert [request.url for request in streams] == [f"{near.base_url}/v1/feeds/events"]
    camera.kill()
    expect(tile(page, "yard").locator(".chip")).to_contain_text(re.compile("Reconnecting|No pictures"))
    expect(tile(page, "yard").locator(".tile-foot")).to_contain_text("The camera")
    camera.restart()
    expect(tile(page, "yard").locator(".chip")).to_contain_text("Watching")
    assert desk.complaints == []


def test_a_cut_cable_is_said_and_what_was_missed_is_told(browser: Browser, near: httpx.Client, camera: RtspServer) -> None:
    assert near.base_url.port is not None
    with BrokenNetwork(near.base_url.port) as network, desk_at(browser, network.url, wait_ms=WAIT_MS) as desk:
        feed = register(near, camera.url("/file"), name="door", rule={"threshold": 1.0})
        page = desk.page
        asked: list[str | None] = []
        page.on("request", lambda request: asked.append(request.header_value("last-event-id")) if request.url.endswith("/events") else None)
        loaded(page)
        expect(page.locator("#link")).to_contain_text("Connected")
        expect(tile(page, "door").locator(".tile-foot")).to_contain_text("looks/s")
        network.up = False
        network.cut()
        expect(page.locator("#link")).to_contain_text("Connection lost")
        expect(page.locator("#link-why")).to_contain_text("Trying again")
        # What happens meanwhile is told afterwards.
        assert near.patch(feed, json={"rule": ONCE}).status_code == 200
        until(lambda: near.get(f"{feed}/alerts").json()["items"])
        network.up = True
        expect(page.locator("#link")).to_contain_text("Connected")
        expect(page.locator("#alerts .alert")).to_have_count(1)
    assert asked[0] is None and asked[-1] is not None and re.fullmatch(r"[0-9a-f]{8}-\d+", asked[-1])
    assert [text for text in desk.complaints if "net::ERR" not in text] == []


def test_everybody_can_read_it_and_a_telephone_scrolls_one_way_only(desk: Desk, near: httpx.Client, camera: RtspServer) -> None:
    page = desk.page
    loaded(page)
    assert violations(page) == []
    feed = register(near, camera.url("/file"), name="x" * 200, rule=ONCE)
    register(near, camera.url("/private", "user:wrong"), name=HOSTILE)
    until(lambda: near.get(f"{feed}/alerts").json()["items"])
    page.goto(f"/wall#{feed.rpartition('/')[2]}")
    expect(page.locator("#alerts .alert")).to_have_count(1)
    expect(page.locator("#focus .boxes text").first).to_be_visible()
    expect(tile(page, HOSTILE).locator(".chip")).to_contain_text("Failed")
    page.get_by_role("button", name="Add a camera").click()
    page.get_by_role("button", name="Watch it").click()
    page.locator("#focus").get_by_text("As a table").click()
    expect(page.locator("#focus tbody tr").first).to_be_visible()
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert violations(page) == []
    assert desk.complaints == []
