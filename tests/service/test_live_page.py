"""The webcam's page in a real Chromium whose camera films a file: scores come, boxes lie on faces, and what breaks is said and mended."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from service.settings import KeyTerms, Settings
from tests.clips import camera_file
from tests.service.broken_network import BrokenNetwork
from tests.service.browsing import Desk, chromium, chromium_beside, desk_at, eventually
from tests.service.conftest import Serve
from tests.service.processes import serving
from tests.service.test_keys import bearer, made
from tests.service.test_streams import with_terms
from tests.service.watching import WallWatcher

WAIT_MS = 90_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_file(tmp_path_factory.mktemp("camera") / "face.mjpeg")


@pytest.fixture(scope="module")
def browser(film: Path) -> Iterator[Browser]:
    camera = "--use-fake-device-for-media-stream"
    with chromium(camera, f"--use-file-for-fake-video-capture={film}", "--host-resolver-rules=MAP camera.test 127.0.0.1") as running:
        yield running


@pytest.fixture
def network(client: httpx.Client) -> Iterator[BrokenNetwork]:
    assert client.base_url.port is not None
    with BrokenNetwork(client.base_url.port) as running:
        yield running


@pytest.fixture
def desk(browser: Browser, client: httpx.Client) -> Iterator[Desk]:
    with desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        yield desk


class Wires:
    """Every message that came to a page over its WebSockets, and how many of those there were."""

    def __init__(self, page: Page) -> None:
        self.events: list[dict[str, Any]] = []
        self.sockets = 0
        self.said: list[dict[str, Any]] = []
        """What the page told the service in words."""
        page.on("websocket", self._opened)

    def numbered(self) -> list[int]:
        return [event["event_seq"] for event in self.events if event.get("event_seq")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def _opened(self, socket: WebSocket) -> None:
        self.sockets += 1
        socket.on("framereceived", lambda message: self.events.append(json.loads(message)))
        socket.on("framesent", self._heard)

    def _heard(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.said.append(json.loads(message))


def start(page: Page) -> None:
    page.goto("/live")
    page.get_by_role("button", name="Start the camera").click()


def signed_in(page: Page, key: str) -> None:
    page.goto("/sign-in?next=/live")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"^[^?]*/live$"))  # not /sign-in?next=/live


def looks_at_least(page: Page, n: int) -> None:
    eventually(page, f"Number(document.getElementById('looks').textContent) >= {n}", wait_ms=WAIT_MS)


def live_again(page: Page) -> None:
    expect(page.locator("#state")).to_contain_text("Live", timeout=WAIT_MS)


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible(timeout=WAIT_MS)


# How long the lines of all faces are, as they are written.
DRAWN = "[...document.querySelectorAll('.live-line path.score')].reduce((n, line) => n + line.getAttribute('d').length, 0)"
# The portrait is not of the colour of its ground; where it is in the picture shown, and where its box is, in one and the same moment.
MEASURED = """(() => {
  const canvas = document.getElementById("picture");
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const columns = [], rows = [];
  const differs = (x, y) => [90, 110, 120].some((value, k) => Math.abs(data[4 * (y * canvas.width + x) + k] - value) > 30);
  for (let x = 0; x < canvas.width; x += 1) {
    let n = 0;
    for (let y = 0; y < canvas.height; y += 4) n += differs(x, y);
    if (n > canvas.height / 24) columns.push(x);
  }
  for (let y = 0; y < canvas.height; y += 1) {
    let n = 0;
    for (let x = 0; x < canvas.width; x += 4) n += differs(x, y);
    if (n > canvas.width / 24) rows.push(y);
  }
  const box = document.querySelector("#boxes rect");
  if (!box || !columns.length) return null;
  const {x, y, width, height} = Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, Number(box.getAttribute(name))]));
  const left = document.getElementById("mirrored").checked ? canvas.width - x - width : x;
  return {portrait: [columns[0], rows[0], columns.at(-1) + 1, rows.at(-1) + 1], box: [left, y, left + width, y + height]};
})()"""

# How often the camera itself showed nothing for about a second, as on a machine that does something else.
WATCH_CAMERA = """() => {
  const video = document.getElementById("camera");
  let before = null;
  window.halts = 0;
  const see = (_now, {mediaTime}) => {
    if (before !== null && mediaTime - before > 0.9) window.halts += 1;
    before = mediaTime;
    video.requestVideoFrameCallback(see);
  };
  video.requestVideoFrameCallback(see);
}"""


def test_a_person_looks_into_the_camera_and_gets_a_verdict(desk: Desk, client: httpx.Client) -> None:
    page, wires = desk.page, Wires(desk.page)
    page.goto("/")
    page.get_by_role("link", name="Try it with your webcam").click()
    expect(page.get_by_role("link", name="Webcam")).to_have_attribute("aria-current", "page")
    expect(page.locator("#view")).to_contain_text("Nothing is stored")
    page.get_by_role("button", name="Start the camera").click()
    looks_at_least(page, 3)
    expect(page.locator("#state")).to_contain_text("Live")
    expect(page.locator("#faces")).to_contain_text("Face ")
    drawn = page.evaluate(DRAWN)
    looks_at_least(page, 10)
    eventually(page, f"{DRAWN} > {drawn}", wait_ms=WAIT_MS)
    eventually(page, "/^face \\d+: /.test(document.querySelector('#boxes text')?.textContent)", wait_ms=WAIT_MS)
    assert page.evaluate("document.getElementById('camera').srcObject.getAudioTracks().length") == 0
    stop(page)
    end = wires.of("end")[0]
    verdict = page.locator("#verdict")
    expect(verdict).to_contain_text(end["verdict"]["sentence"])
    expect(verdict).to_contain_text("could be judged")
    expect(verdict).to_contain_text(f"{end['totals']['looked_at']} looks")
    assert end["reason"] == "stopped" and end["verdict"]["coverage"]["judged_s"] > 1
    assert page.evaluate("document.getElementById('camera').srcObject") is None
    assert client.get("/v1/analyses").json()["items"] == []
    page.get_by_role("link", name="Videos").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("move the way a camera films")
    assert desk.complaints == []


def test_a_box_lies_on_the_picture_in_which_it_was_found(desk: Desk) -> None:
    page = desk.page
    start(page)
    looks_at_least(page, 8)
    seen: list[dict[str, list[float]]] = []
    middles: list[float] = []
    until = time.monotonic() + WAIT_MS / 1000
    for mirrored in (True, False):
        page.get_by_label("mirrored").set_checked(mirrored)
        page.wait_for_timeout(200)
        enough = len(seen) + 25
        # Where it turns it hardly moves, and a busy machine shows few of its ways.
        while len(seen) < enough or max(middles) - min(middles) <= 40:
            assert time.monotonic() < until, f"{len(seen)} pictures, {middles}"
            if found := page.evaluate(MEASURED):
                seen.append(found)
                middles.append((found["portrait"][0] + found["portrait"][2]) / 2)
            page.wait_for_timeout(70)
    stop(page)
    beside = [(one["box"][0] + one["box"][2]) / 2 - middle for one, middle in zip(seen, middles, strict=True)]
    above = [(one["box"][1] + one["box"][3]) / 2 - (one["portrait"][1] + one["portrait"][3]) / 2 for one in seen]
    # A box of a quarter of a second ago would be up to 11 pixels beside its face, on either side; a few are, when a look comes late.
    tenths = quantiles(beside, n=10)
    assert abs(median(beside)) < 20 and abs(median(above)) < 20
    assert tenths[-1] - tenths[0] < 12, beside


def test_a_cut_cable_loses_and_doubles_nothing(browser: Browser, network: BrokenNetwork) -> None:
    with desk_at(browser, network.url, permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, wires = desk.page, Wires(desk.page)
        start(page)
        for cut in range(1, 4):
            looks_at_least(page, 6 * cut)
            network.up = False
            network.cut()
            expect(page.locator("#state")).to_contain_text("No connection")
            expect(page.locator("#why")).to_contain_text("Trying again")
            network.up = True
            live_again(page)
        looks_at_least(page, 24)
        stop(page)
        shown = int(page.locator("#looks").inner_text())
        end = wires.of("end")[0]
    assert wires.sockets >= 4 and len(wires.of("resumed")) == 3 and len(wires.of("ready")) == 1
    assert wires.numbered() == list(range(1, end["event_seq"] + 1))
    assert shown == sum(event["stands_for"] for event in wires.of("score")) == end["totals"]["looked_at"]
    # Chromium itself complains of connections that fail; the page does not.
    assert [text for text in desk.complaints if "WebSocket" not in text] == []


def test_a_recording_is_cut_and_goes_on_and_gets_its_verdict(browser: Browser, network: BrokenNetwork) -> None:
    with desk_at(browser, network.url, permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, wires = desk.page, Wires(desk.page)
        page.goto("/live")
        page.evaluate(WATCH_CAMERA)
        page.get_by_label("Sent as").select_option("recording")
        page.get_by_role("button", name="Start the camera").click()
        looks_at_least(page, 4)
        expect(page.locator("#choice")).to_be_disabled()
        network.cut()
        live_again(page)
        looks_at_least(page, 12)
        eventually(page, "document.querySelector('#boxes rect') !== null", wait_ms=WAIT_MS)
        stop(page)
        end, halts = wires.of("end")[0], page.evaluate("window.halts")
        expect(page.locator("#verdict")).to_contain_text(end["verdict"]["sentence"])
    assert wires.of("ready")[0]["mode"] == "container" and len(wires.of("resumed")) >= 1
    assert wires.numbered() == list(range(1, end["event_seq"] + 1))
    # A WebM with a piece missing or doubled could not be decoded to its end, or had a gap where the camera filmed.
    assert end["reason"] == "stopped" and wires.of("error") == [] and len(wires.of("gap")) <= halts
    assert [text for text in desk.complaints if "WebSocket" not in text] == []


def test_whoever_says_no_is_told_how_to_say_yes(browser: Browser, client: httpx.Client) -> None:
    with desk_at(browser, str(client.base_url), wait_ms=WAIT_MS) as desk:
        page = desk.page
        start(page)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The camera may not be used")
        expect(alert).to_contain_text("Allow it for this page")
        expect(page.locator("#state")).to_contain_text("Off")
        page.context.grant_permissions(["camera"])
        page.get_by_role("button", name="Start the camera").click()
        looks_at_least(page, 1)
        expect(page.locator("#trouble")).to_be_empty()
        stop(page)
        assert desk.complaints == []


def test_a_machine_without_a_camera_says_so(browser: Browser, client: httpx.Client) -> None:
    with chromium_beside(browser) as blind, desk_at(blind, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        start(desk.page)
        expect(desk.page.get_by_role("alert")).to_contain_text("There is no camera")
        expect(desk.page.get_by_role("button", name="Start the camera")).to_be_enabled()
        assert desk.complaints == []


def test_whoever_has_no_key_signs_in_and_comes_back(
    browser: Browser, serve: Serve, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve(settings.model_copy(update={"require_keys": True})) as client:
        key = re.findall(r"shown this once: (\S+)", capfd.readouterr().out)[0]
        with desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
            page = desk.page
            start(page)
            page.wait_for_url("**/sign-in?next=%2Flive")
            page.get_by_label("Your key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/live")
            page.get_by_role("button", name="Start the camera").click()
            looks_at_least(page, 2)
            stop(page)
            expect(page.locator("#verdict")).to_be_visible()
            assert all("401" in text for text in desk.complaints)


def test_a_key_that_may_not_stream_is_told_so_before_the_camera_is_opened(browser: Browser, serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client, desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page = desk.page
        signed_in(page, made(locked, "analyses:read"))
        desk.complaints.clear()  # the sign-in page asks whether somebody is signed in, and Chromium reports the 401
        start(page)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The key may not do that")
        expect(alert).to_contain_text("Expected streams; got")
        expect(page.locator("#state")).to_contain_text("Off")
        assert page.evaluate("document.getElementById('camera').srcObject") is None
        assert all("403" in text for text in desk.complaints)


def test_a_refused_upgrade_is_asked_for_its_reason_and_a_final_one_ends_it(browser: Browser, serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client, desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, wires = desk.page, Wires(desk.page)
        signed_in(page, made(locked, "analyses:read"))
        desk.complaints.clear()  # the sign-in page asks whether somebody is signed in, and Chromium reports the 401
        # As if the key had lost its scope after the page had asked.
        page.route("**/v1/me", lambda route: route.fulfill(json={"scopes": ["streams"]}))
        start(page)
        expect(page.get_by_role("alert")).to_contain_text("The key may not do that")
        expect(page.locator("#state")).to_contain_text("Off")
        expect(page.get_by_role("button", name="Start the camera")).to_be_enabled()
        page.wait_for_timeout(1500)
        assert wires.sockets == 1, "it tries no more"
        assert all("403" in text for text in desk.complaints)


def test_who_asks_too_much_waits_for_as_long_as_it_is_told(browser: Browser, serve: Serve, settings: Settings) -> None:
    busy = settings.model_copy(update={"require_keys": True, "keys": KeyTerms(at_once=2)})
    with serve(busy) as client, desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, key = desk.page, made(busy, "admin")
        signed_in(page, key)
        desk.complaints.clear()
        with WallWatcher(client, headers=bearer(key)) as one, WallWatcher(client, headers=bearer(key)) as two:
            for watcher in (one, two):
                watcher.until("hello")
            start(page)
            expect(page.locator("#state")).to_contain_text("The service is busy")
            expect(page.locator("#why")).to_contain_text("The key has too many requests under way.")
            expect(page.locator("#why")).to_contain_text("Trying again in")
        looks_at_least(page, 2)
        stop(page)
        assert all("429" in text for text in desk.complaints)


def test_an_insecure_address_says_what_would_be_secure(browser: Browser, serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"allowed_hosts": ("camera.test",)})) as client, desk_at(browser, "http://camera.test") as desk:
        desk.page.goto(f"http://camera.test:{client.base_url.port}/live")
        desk.page.get_by_role("button", name="Start the camera").click()
        alert = desk.page.get_by_role("alert")
        expect(alert).to_contain_text("This address may not use a camera")
        expect(alert).to_contain_text("http://localhost")


def test_a_busy_service_is_waited_for_and_a_page_that_is_left_gives_its_place_back(
    browser: Browser, serve: Serve, settings: Settings
) -> None:
    with serve(with_terms(settings, max_streams=1, resume_s=3600.0)) as client:
        address = str(client.base_url)
        with desk_at(browser, address, permissions=("camera",)) as first, desk_at(browser, address, permissions=("camera",)) as second:
            start(first.page)
            looks_at_least(first.page, 2)
            wires = Wires(second.page)
            start(second.page)
            expect(second.page.locator("#state")).to_contain_text("The service is busy", timeout=WAIT_MS)
            expect(second.page.locator("#why")).to_contain_text("Trying again in")
            first.page.goto("/")
            looks_at_least(second.page, 2)
            stop(second.page)
            assert first.complaints == [] and second.complaints == []
    assert wires.of("error")[0]["code"] == "overloaded" and len(wires.of("end")) == 1


def test_a_service_that_restarts_leaves_its_verdict_and_is_gone_on_with(
    browser: Browser, client: httpx.Client, network: BrokenNetwork, tmp_path: Path
) -> None:
    assert client.base_url.port is not None
    (tmp_path / "old").mkdir()
    with serving(tmp_path / "old") as old, desk_at(browser, network.url, permissions=("camera",), wait_ms=WAIT_MS) as desk:
        network.target = old.port
        page, wires = desk.page, Wires(desk.page)
        start(page)
        looks_at_least(page, 6)
        old.process.send_signal(signal.SIGTERM)
        expect(page.locator("#verdict")).to_contain_text("The service stopped meanwhile", timeout=WAIT_MS)
        network.target = client.base_url.port
        expect(page.locator("#notes")).to_contain_text("the service restarted: a new stream begins")
        live_again(page)
        looks_at_least(page, 2)
        stop(page)
        ends = [event["reason"] for event in wires.of("end")]
        assert [text for text in desk.complaints if "WebSocket" not in text] == []
    assert ends == ["draining", "stopped"] and len({event["session_id"] for event in wires.of("ready")}) == 2


@pytest.mark.usefixtures("client")
def test_a_forgotten_stream_is_begun_anew(browser: Browser, network: BrokenNetwork, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with serving(elsewhere) as other, desk_at(browser, network.url, permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, wires = desk.page, Wires(desk.page)
        start(page)
        looks_at_least(page, 2)
        network.target = other.port
        network.cut()
        expect(page.locator("#notes")).to_contain_text("the service forgot the stream: a new one begins", timeout=WAIT_MS)
        live_again(page)
        looks_at_least(page, 2)
        stop(page)
    assert len(wires.of("resume_failed")) == 1 and len(wires.of("ready")) == 2 and [end["reason"] for end in wires.of("end")] == ["stopped"]


def test_a_hidden_tab_is_a_pause_and_then_a_gap(desk: Desk) -> None:
    page, wires = desk.page, Wires(desk.page)
    start(page)
    looks_at_least(page, 3)
    # A headless browser shows every tab: what others would tell the page, and that they give it no pictures, is done here.
    act = """(hidden) => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
      document.getElementById("camera")[hidden ? "pause" : "play"]();
    }"""
    page.evaluate(act, True)
    expect(page.locator("#state")).to_contain_text("Paused")
    expect(page.locator("#why")).to_contain_text("This tab is hidden")
    page.wait_for_timeout(1500)
    page.evaluate(act, False)
    expect(page.locator("#state")).to_contain_text("Live")
    expect(page.locator("#notes")).to_contain_text("gap of", timeout=WAIT_MS)
    stop(page)
    assert [message["type"] for message in wires.said if message["type"] in ("pause", "resume_media")] == ["pause", "resume_media"]
    assert max(gap["seconds"] for gap in wires.of("gap")) > 1
    assert desk.complaints == []


def test_another_camera_is_another_scene_in_the_same_stream(desk: Desk) -> None:
    page, wires = desk.page, Wires(desk.page)
    start(page)
    looks_at_least(page, 3)
    eventually(page, "document.querySelector('#choice option').value !== ''")
    # A file is one camera; that it was chosen again is as good as another.
    page.locator("#choice").dispatch_event("change")
    expect(page.locator("#notes")).to_contain_text(": another camera", timeout=WAIT_MS)
    stop(page)
    assert len(wires.of("ready")) == 1 and "discontinuity" in [gap["cause"] for gap in wires.of("gap")]
    assert desk.complaints == []


def test_a_camera_that_comes_when_nobody_waits_for_it_any_more_is_let_go(desk: Desk) -> None:
    """A browser may ask the reader for long, and the stream may have been stopped when the answer comes."""
    page = desk.page
    start(page)
    looks_at_least(page, 2)
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.came = [];
          navigator.mediaDevices.getUserMedia = async (wish) => {
            await new Promise((done) => { window.answer = done; });
            const stream = await ask(wish);
            window.came.push(...stream.getTracks());
            return stream;
          };
        }"""
    )
    page.locator("#choice").dispatch_event("change")
    eventually(page, "window.answer !== undefined")
    stop(page)
    page.evaluate("window.answer()")
    eventually(page, "window.came.length > 0 && window.came.every((track) => track.readyState === 'ended')")
    expect(page.locator("#state")).to_contain_text("Off")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    assert desk.complaints == []


def test_a_camera_that_is_pulled_out_ends_the_stream_with_its_verdict(desk: Desk) -> None:
    page = desk.page
    start(page)
    looks_at_least(page, 3)
    page.evaluate("document.getElementById('camera').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    expect(page.locator("#verdict")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#notes")).to_contain_text("The camera went away.")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    assert desk.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_scrolls_one_way_only(browser: Browser, client: httpx.Client, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, base_url=str(client.base_url))
    context.grant_permissions(["camera"])
    page = context.new_page()
    start(page)
    looks_at_least(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    stop(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_keys_and_names_are_enough(desk: Desk) -> None:
    page = desk.page
    page.goto("/live")
    toggle = page.get_by_role("button", name="Start the camera")
    expect(toggle).to_be_enabled()
    unnamed = (
        "[...document.querySelectorAll('button, select, input')].filter((one) => !one.textContent.trim() && !one.labels?.length).length"
    )
    assert page.evaluate(unnamed) == 0
    for _ in range(12):
        page.keyboard.press("Tab")
        if toggle.evaluate("(button) => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    looks_at_least(page, 2)
    expect(page.locator("#say")).to_contain_text("Live")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict .sentence")).to_be_focused(timeout=WAIT_MS)
    assert desk.complaints == []


def test_only_this_page_may_ask_for_a_camera_and_none_needs_another_host(client: httpx.Client) -> None:
    page = client.get("/live")
    assert page.headers["Permissions-Policy"].startswith("camera=(self), microphone=()")
    assert client.get("/").headers["Permissions-Policy"].startswith("camera=()")
    assert page.headers["Content-Security-Policy"] == client.get("/").headers["Content-Security-Policy"]
    assets = Path(str(files("service.dashboard"))) / "assets"
    texts = [page.text, *(path.read_text("utf-8") for path in assets.rglob("*") if path.suffix in (".js", ".css"))]
    for text in texts:
        assert "style=" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/|localhost|127\.0\.0\.1)\w", text)
