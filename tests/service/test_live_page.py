"""The webcam's page in a real Chromium whose camera films a file: scores come, boxes lie on faces, and what breaks is said and mended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from tests.clips import camera_file
from tests.service.browsing import Desk, chromium, desk_at, eventually
from tests.service.relay import Relay

WAIT_MS = 90_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camera_file(tmp_path_factory.mktemp("camera") / "face.mjpeg")


@pytest.fixture(scope="module")
def browser(film: Path) -> Iterator[Browser]:
    with chromium("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}") as running:
        yield running


@pytest.fixture
def relay(client: httpx.Client) -> Iterator[Relay]:
    assert client.base_url.port is not None
    with Relay(client.base_url.port) as cable:
        yield cable


@pytest.fixture
def desk(browser: Browser, client: httpx.Client) -> Iterator[Desk]:
    with desk_at(browser, str(client.base_url), permissions=("camera",), wait_ms=WAIT_MS) as desk:
        yield desk


class Wires:
    """Every message that came to a page over its WebSockets, and how many of those there were."""

    def __init__(self, page: Page) -> None:
        self.events: list[dict[str, Any]] = []
        self.sockets = 0
        self.sent = 0
        page.on("websocket", self._opened)

    def numbered(self) -> list[int]:
        return [event["event_seq"] for event in self.events if event.get("event_seq")]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def _opened(self, socket: WebSocket) -> None:
        self.sockets += 1
        socket.on("framereceived", lambda message: self.events.append(json.loads(message)))
        socket.on("framesent", self._count)

    def _count(self, message: str | bytes) -> None:
        self.sent += isinstance(message, bytes)


def start(page: Page) -> None:
    page.goto("/live")
    page.get_by_role("button", name="Start the camera").click()


def looks_at_least(page: Page, n: int) -> None:
    eventually(page, f"Number(document.getElementById('looks').textContent) >= {n}", wait_ms=WAIT_MS)


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible(timeout=WAIT_MS)


# The portrait is not of the colour of its ground; where it is in the picture shown, and where its box is, in one and the same moment.
MEASURED = """(() => {
  const canvas = document.getElementById("picture");
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const columns = [], rows = [];
  const differs = (x, y) => [90, 110, 120].some((value, k) => Math.abs(data[4 * (y * canvas.width + x) + k] - value) > 30);
  for (let x = 0; x < canvas.width; x += 1) {
    let n = 0;
    for (let y = 0; y < canvas.height; y += 4) n += differs(x, y);
    if (n > canvas.height / 12) columns.push(x);
  }
  for (let y = 0; y < canvas.height; y += 1) {
    let n = 0;
    for (let x = 0; x < canvas.width; x += 4) n += differs(x, y);
    if (n > canvas.width / 12) rows.push(y);
  }
  const box = document.querySelector("#boxes rect");
  if (!box || !columns.length) return null;
  const {x, y, width, height} = Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, Number(box.getAttribute(name))]));
  const left = document.getElementById("mirrored").checked ? canvas.width - x - width : x;
  return {portrait: [columns[0], rows[0], columns.at(-1) + 1, rows.at(-1) + 1], box: [left, y, left + width, y + height]};
})()"""


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
    line = len(page.locator(".live-line path.score:not(.under)").get_attribute("d") or "")
    looks_at_least(page, 10)
    eventually(page, f"document.querySelector('.live-line path.score:not(.under)').getAttribute('d').length > {line}")
    eventually(page, "document.querySelector('#boxes text')?.textContent.match(/^face \\d  0\\.\\d\\d$/) !== null")
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
    until = time.monotonic() + WAIT_MS / 1000
    for mirrored in (True, False):
        page.get_by_label("mirrored").set_checked(mirrored)
        page.wait_for_timeout(200)
        enough = len(seen) + 25
        while len(seen) < enough:
            assert time.monotonic() < until
            if found := page.evaluate(MEASURED):
                seen.append(found)
            page.wait_for_timeout(70)
    stop(page)
    middles = [(one["portrait"][0] + one["portrait"][2]) / 2 for one in seen]
    beside = [(one["box"][0] + one["box"][2]) / 2 - middle for one, middle in zip(seen, middles, strict=True)]
    above = [(one["box"][1] + one["box"][3]) / 2 - (one["portrait"][1] + one["portrait"][3]) / 2 for one in seen]
    assert max(middles) - min(middles) > 50, "the portrait did not move"
    # A box of a quarter of a second ago would be up to 14 pixels beside its face, on either side; a few are, when a look comes late.
    tenths = quantiles(beside, n=10)
    assert abs(median(beside)) < 20 and abs(median(above)) < 20
    assert tenths[-1] - tenths[0] < 14, beside


def test_a_cut_cable_loses_and_doubles_nothing(browser: Browser, relay: Relay) -> None:
    with desk_at(browser, relay.url, permissions=("camera",), wait_ms=WAIT_MS) as desk:
        page, wires = desk.page, Wires(desk.page)
        start(page)
        for cut in range(1, 4):
            looks_at_least(page, 6 * cut)
            relay.whole = False
            relay.cut()
            expect(page.locator("#state")).to_contain_text("No connection")
            expect(page.locator("#why")).to_contain_text("Trying again")
            relay.whole = True
            expect(page.locator("#state")).to_contain_text("Live", timeout=WAIT_MS)
        looks_at_least(page, 24)
        stop(page)
        shown = int(page.locator("#looks").inner_text())
        end = wires.of("end")[0]
    assert wires.sockets >= 4 and len(wires.of("resumed")) == 3 and len(wires.of("ready")) == 1
    assert wires.numbered() == list(range(1, end["event_seq"] + 1))
    assert shown == sum(event["stands_for"] for event in wires.of("score")) == end["totals"]["looked_at"]
    # Chromium itself complains of connections that fail; the page does not.
    assert [text for text in desk.complaints if "WebSocket" not in text] == []
