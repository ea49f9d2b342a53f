"""The page of videos in a real Chromium: ways in, what is seen while a video is judged, the list, and what the browser cannot play."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from pipelines.frames import read_frames
from pipelines.media import Limits
from service.connection import database_url
from service.content_credentials import can_be_read
from service.database import AnalysisRow, Database, now
from service.ids import new_id
from service.problems import UnknownEvidence, problem_of
from service.settings import Settings
from tests import zoo
from tests.clips import face_frame, variable_pts
from tests.service.broken_network import BrokenNetwork
from tests.service.browsing import Desk, chromium, desk_at, eventually, violations
from tests.service.conftest import Serve, upload
from tests.service.test_keys import made
from tests.web import web_server

PATIENT_MS = 120_000
"""What waits for an analysis waits for a machine that may run everything else at once."""
VIDEO = "document.querySelector('video')"
HOSTILE = "'><img src=x onerror=alert(1)>.mp4"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        expect.set_options(timeout=PATIENT_MS)  # instead of that of `chromium`
        yield running


@pytest.fixture
def desk(browser: Browser, client: httpx.Client) -> Iterator[Desk]:
    with desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        yield desk


@pytest.fixture(scope="module")
def hevc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face in HEVC at uneven times, with more lines than a rendition has."""
    ticks = variable_pts(2.5, seed=3)
    pictures = (face_frame(tick / 1000, width=1280, height=960, px=560) for tick in ticks)
    options = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}
    return zoo.encode(tmp_path_factory.mktemp("hevc") / "phone.mp4", pictures, ticks, zoo.MILLISECOND, codec="libx265", options=options)


def paste(page: Page, text: str) -> None:
    """As Ctrl-V does where nothing is being typed."""
    page.evaluate(
        """(text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        text,
    )


def test_hevc_is_played_through_its_rendition_and_boxes_fit(desk: Desk, client: httpx.Client, hevc: Path) -> None:
    page = desk.page
    analysis = upload(client, hevc, wait_s=60).json()
    assert analysis["result"]["media"]["codec"] == "hevc"
    page.goto(analysis["links"]["page"])
    expect(page.locator(".player .notice")).to_contain_text("Shown as H.264")
    eventually(page, f"{VIDEO}.readyState >= 2 && {VIDEO}.currentSrc.endsWith('/media?rendition=h264')", wait_ms=PATIENT_MS)
    assert page.evaluate(f"[{VIDEO}.videoWidth, {VIDEO}.videoHeight]") == [960, 720]
    page.evaluate(
        f"""() => {{
          window.seen = [];
          const video = {VIDEO};
          const onFrame = (_now, frame) => {{ window.seen.push(frame.mediaTime); video.requestVideoFrameCallback(onFrame); }};
          video.requestVideoFrameCallback(onFrame);
        }}"""
    )
    for _ in range(20):  # however many pictures a busy machine leaves out
        page.evaluate(f"() => {{ {VIDEO}.currentTime = 0; }}")
        page.keyboard.press("Space")
        eventually(page, f"{VIDEO}.ended", wait_ms=PATIENT_MS)
        if len(set(seen := page.evaluate("window.seen"))) > 5:
            break
    with read_frames(hevc, hz=None) as frames:
        times = [float(frame.pts * frame.time_base) for frame in frames]
    assert len(set(seen)) > 5 and len({round(b - a, 4) for a, b in pairwise(times)}) > 2
    assert [t for t in seen if min(abs(t - one) for one in times) > 0.0011] == []
    # The box is in the original's pixels, at the last judged moment.
    assert page.locator(".boxes").get_attribute("viewBox") == "0 0 1280 960"
    x0, y0, x1, _ = client.get(analysis["links"]["timeline"]).json()["rows"][-1]["box"]
    eventually(page, f"Math.abs(document.querySelector('.boxes rect').x.baseVal.value - {x0}) < 0.5", wait_ms=PATIENT_MS)
    over = page.locator(".boxes").bounding_box()
    drawn = page.locator(".boxes rect").bounding_box()
    assert over is not None and drawn is not None
    assert drawn["width"] == pytest.approx((x1 - x0) / 1280 * over["width"], abs=4)
    assert drawn["y"] - over["y"] == pytest.approx(y0 / 960 * over["height"], abs=4)
    assert desk.complaints == []


def test_what_the_browser_plays_is_played_as_it_is(desk: Desk, client: httpx.Client, clip: Path) -> None:
    desk.page.goto(upload(client, clip, wait_s=60).json()["links"]["page"])
    eventually(desk.page, f"{VIDEO}?.readyState >= 2 && {VIDEO}.currentSrc.endsWith('/media')", wait_ms=PATIENT_MS)
    expect(desk.page.locator(".player .notice")).to_be_hidden()
    started = 2 + can_be_read()  # to probe it, to judge it, to read its credentials; none for a rendition
    assert f"undercurrent_decode_children_started_total {started}.0" in client.get("/metrics").text


def test_a_video_that_begins_late_is_shown_at_its_own_times(desk: Desk, client: httpx.Client, tmp_path: Path) -> None:
    ticks = [5000 + tick for tick in variable_pts(1.5, seed=4)]
    pictures = (face_frame(tick / 1000) for tick in ticks)
    late = zoo.encode(tmp_path / "late.mp4", pictures, ticks, zoo.MILLISECOND, codec="mpeg4", container={"movie_timescale": "1000"})
    analysis = upload(client, late, wait_s=60).json()
    first = analysis["result"]["tracks"][0]["first"]["t"]
    assert first == pytest.approx(5.0, abs=0.2)
    desk.page.goto(analysis["links"]["page"])
    eventually(desk.page, f"{VIDEO}?.readyState >= 2 && {VIDEO}.currentSrc.endsWith('=h264')", wait_ms=PATIENT_MS)
    desk.page.keyboard.press("ArrowRight")
    eventually(desk.page, f"{VIDEO}.currentTime >= {first}", wait_ms=PATIENT_MS)


def test_why_there_is_no_rendition_is_said_in_the_player(browser: Browser, serve: Serve, settings: Settings, hevc: Path) -> None:
    with serve(settings) as client, desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        analysis = upload(client, hevc, wait_s=60).json()
        (media,) = (settings.data_dir / "analyses").glob("*/media")
        media.write_bytes(b"no video\n" * 999)
        desk.page.goto(analysis["links"]["page"])
        note = desk.page.locator(".player .notice")
        expect(note).to_contain_text("cannot play hevc")
        expect(note).to_contain_text("not a supported video")
        expect(desk.page.get_by_role("heading", level=1)).to_have_text(analysis["sentence"])


def test_a_pasted_address_is_offered_and_enter_has_it_fetched(browser: Browser, serve: Serve, settings: Settings, clip: Path) -> None:
    near = settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),)})
    with serve(near) as client, web_server() as web, desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        page, field, problem = desk.page, desk.page.locator("#url"), desk.page.locator("#url-problem")
        page.goto("/")
        expect(page.locator("#list")).to_contain_text("Nothing here yet.")
        paste(page, "some words about https://example.com")
        expect(field).to_have_value("")
        url = web.give("/films/one.mp4", clip.read_bytes(), Content_Type="video/mp4")
        paste(page, f" {url}\n")
        expect(field).to_have_value(url)
        expect(field).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("article.result")).to_be_visible(timeout=PATIENT_MS)
        expect(page.locator("#list a")).to_contain_text("one.mp4")
        # What is wrong is said at the field, which keeps what was typed.
        field.fill("no address")
        field.press("Enter")
        expect(problem).to_contain_text("begins with https://")
        expect(field).to_have_attribute("aria-invalid", "true")
        missing = web.url("/nothing.mp4")
        field.fill(missing)
        field.press("Enter")
        expect(problem).to_contain_text("The URL gives no media.")
        expect(field).to_have_value(missing)
        field.fill("http://192.0.2.1/a.mp4")
        field.press("Enter")
        expect(problem).to_contain_text("Download the video yourself")
        page_of_video = web.give("/watch", b"<!doctype html><p>Sign in to watch", Content_Type="text/html")
        field.fill(page_of_video)
        field.press("Enter")
        expect(problem).to_contain_text("its host calls it text/html")
        assert page.locator("#list a").count() == 1
        assert all("Failed to load resource" in complaint for complaint in desk.complaints)


def test_several_files_wait_in_line_and_show_how_far_they_are(desk: Desk, client: httpx.Client, clip: Path, tmp_path: Path) -> None:
    page = desk.page
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")

    def bytes_a_second(most: int) -> None:
        wire = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": most}
        network.send("Network.emulateNetworkConditions", wire)

    files: list[FilePayload] = [
        {"name": name, "mimeType": "video/mp4", "buffer": clip.read_bytes()} for name in ("a.mp4", HOSTILE, "c.mp4")
    ]
    page.goto("/")
    expect(page.locator("#list")).to_contain_text("Nothing here yet.")
    bytes_a_second(clip.stat().st_size // 40)  # longer than all of what is looked at meanwhile takes
    page.set_input_files("#file", files)
    rows = page.locator("#queue li")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("% of")
    expect(rows.nth(0)).to_contain_text(re.compile(r"about \d+ s left"))
    eventually(
        page,
        "0 < document.querySelector('#queue progress').value && document.querySelector('#queue progress').value < 1",
        wait_ms=PATIENT_MS,
    )
    expect(rows.nth(1)).to_contain_text(HOSTILE)
    expect(rows.nth(2)).to_contain_text("waits in line")
    page.get_by_role("button", name="Stop sending c.mp4").click()
    expect(rows).to_have_count(2)
    bytes_a_second(-1)
    expect(page.locator("#queue")).to_be_hidden()
    expect(page.locator("#list a")).to_have_count(2)
    expect(page.locator("#list")).to_contain_text(HOSTILE)
    assert page.locator("img[src='x']").count() == 0
    expect(page).to_have_url(re.compile("/$"))
    expect(page.locator("#list .chip.no_evidence, #list .chip.inconclusive, #list .chip.manipulated")).to_have_count(2, timeout=PATIENT_MS)
    assert desk.complaints == []


def test_an_upload_that_broke_off_says_what_to_do(browser: Browser, client: httpx.Client, clip: Path) -> None:
    with BrokenNetwork(client.base_url.port or 80) as network, desk_at(browser, network.url, wait_ms=PATIENT_MS) as desk:
        page = desk.page
        page.goto("/")
        expect(page.locator("#list")).to_contain_text("Nothing here yet.")
        network.up = False
        network.cut()
        page.set_input_files("#file", clip)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("The connection broke off while it was sent")
        expect(alert).to_contain_text(clip.name)
        network.up = True
        page.get_by_role("button", name="Try again").first.click()
        expect(page.locator("article.result")).to_be_visible(timeout=PATIENT_MS)
        assert len(client.get("/v1/analyses").json()["items"]) == 1


def test_progress_goes_on_after_a_lost_connection(browser: Browser, client: httpx.Client, endless: Path) -> None:
    with BrokenNetwork(client.base_url.port or 80) as network, desk_at(browser, network.url, wait_ms=PATIENT_MS) as desk:
        page = desk.page
        page.goto(upload(client, endless).json()["links"]["page"])
        line, lost = page.locator(".underway .line"), page.locator(".underway .lost")
        expect(line).to_contain_text(re.compile(r"of \d:\d\d\.\d looked at, \d+ frames, 1 face, about \d+ (s|min) left"))
        network.up = False
        network.cut()
        expect(lost).to_contain_text("The connection is lost.")
        before = line.inner_text()
        network.up = True
        expect(lost).to_be_hidden()
        expect(line).not_to_have_text(before)
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("It was stopped before its end")


def test_an_ended_session_leads_to_sign_in_and_back(browser: Browser, serve: Serve, settings: Settings, clip: Path) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client, desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        key = made(locked, "admin")
        client.headers["Authorization"] = f"Bearer {key}"
        answer = upload(client, clip, wait_s=60).json()
        page = desk.page

        def sign_in() -> None:
            page.get_by_label("Your key").fill(key)
            page.get_by_role("button", name="Sign in").click()

        page.goto("/")
        page.wait_for_url("**/sign-in?next=%2F")
        sign_in()
        link = page.locator("#list a")
        expect(link).to_have_count(1)
        page.context.clear_cookies()
        link.click()
        page.wait_for_url(f"**/sign-in?next=%2Fanalyses%2F{answer['id']}")
        sign_in()
        expect(page.locator("article.result")).to_be_visible()
        expect(page).to_have_url(re.compile(answer["links"]["page"]))


def test_a_failed_analysis_says_what_to_do(browser: Browser, serve: Serve, settings: Settings, clip: Path) -> None:
    few = settings.model_copy(update={"limits": Limits(max_frames=20)})
    with serve(few) as client, desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        desk.page.goto(upload(client, clip, wait_s=60).json()["links"]["page"])
        shown = desk.page.locator("#view .problem")
        expect(shown).to_contain_text("The video has too many frames.")
        expect(shown.locator(".hint")).to_contain_text("cut the part you doubt")
        assert desk.complaints == []


@pytest.fixture
def many(serve: Serve, settings: Settings) -> Iterator[httpx.Client]:
    """A service with sixty analyses, one a minute."""
    gone = problem_of(UnknownEvidence("It is gone.", expected="media", got="none")).model_dump_json()

    async def fill() -> None:
        database = await Database.open(database_url(settings))
        for n in range(60):
            failed = n % 10 == 0
            row = AnalysisRow(
                id=new_id(),
                status="failed" if failed else "succeeded",
                verdict=None if failed else "manipulated" if n % 3 == 0 else "no_evidence",
                p=None if failed else 0.25,
                sentence=None if failed else "Nothing.",
                problem=gone if failed else None,
                filename=f"film {n:02}.mp4",
                media_type="video/mp4",
                size_bytes=1,
                sha256="0" * 64,
                created_at=now() - timedelta(minutes=60 - n),
            )
            await database.add(row)
        await database.close()

    settings.data_dir.mkdir(parents=True)
    with ThreadPoolExecutor(1) as aside:  # Playwright has an event loop in this thread
        aside.submit(lambda: asyncio.run(fill())).result()
    with serve(settings) as client:
        yield client


def test_the_list_is_searched_filtered_paged_and_walked_with_keys(browser: Browser, many: httpx.Client) -> None:
    with desk_at(browser, str(many.base_url), wait_ms=PATIENT_MS) as desk:
        page, links = desk.page, desk.page.locator("#list a")
        page.goto("/")
        expect(links).to_have_count(25)
        expect(links.first).to_contain_text("film 59.mp4")
        expect(links.first).to_contain_text("1 min ago")
        page.get_by_role("button", name="Show older ones").click()
        expect(links).to_have_count(50)
        # Whoever walks with keys goes on with the first of the older ones.
        expect(links.nth(25)).to_be_focused()
        page.keyboard.press("ArrowUp")
        expect(links.nth(24)).to_be_focused()
        page.keyboard.press("Home")
        expect(links.first).to_be_focused()
        page.keyboard.press("End")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(links).to_have_count(60)
        expect(page.get_by_role("button", name="Show older ones")).to_be_hidden()
        page.locator("#filter").select_option("manipulated")
        expect(links).to_have_count(18)
        page.locator("#filter").select_option("")
        page.locator("#status").select_option("failed")
        expect(links).to_have_count(6)
        page.locator("body").press("/")
        expect(page.locator("#search")).to_be_focused()
        page.keyboard.type("film 3")
        expect(links).to_have_count(1)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator("#view .problem")).to_contain_text("It is gone.")
        page.locator("#search").fill("nobody has this")
        expect(page.locator("#list")).to_contain_text("Nothing matches.")
        assert desk.complaints == []


def test_axe_finds_nothing_at_all(browser: Browser, serve: Serve, settings: Settings, hevc: Path, endless: Path, tmp_path: Path) -> None:
    with serve(settings) as client, desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        page = desk.page
        page.goto("/")
        expect(page.locator("#list")).to_contain_text("Nothing here yet.")
        assert violations(page) == []
        played = upload(client, hevc, wait_s=60).json()
        page.goto(played["links"]["page"])
        expect(page.locator(".player .notice")).to_contain_text("Shown as H.264")
        assert violations(page) == []
        text = tmp_path / "notes.mp4"
        text.write_text("This is not a video.\n" * 50)
        page.set_input_files("#file", text)
        expect(page.get_by_role("alert")).to_contain_text("notes.mp4")
        page.locator("#url").fill("nothing")
        page.locator("#url").press("Enter")
        expect(page.locator("#url-problem")).to_be_visible()
        upload(client, endless)
        page.goto(upload(client, endless).json()["links"]["page"])
        expect(page.locator(".underway")).to_be_visible()
        assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(browser: Browser, client: httpx.Client, tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    with desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        page = desk.page
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(color_scheme=scheme)
        page.goto("/")
        expect(page.locator("#list")).to_contain_text("Nothing here yet.")
        long = tmp_path / f"{'a-name-without-an-end-' * 9}.mp4"
        long.write_text("This is not a video.\n" * 50)
        page.set_input_files("#file", long)
        expect(page.get_by_role("alert")).to_contain_text("not a supported video")
        page.locator("#url").fill("https://192.0.2.1/" + "x" * 300)
        page.locator("#url").press("Enter")
        expect(page.locator("#url-problem")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        assert (tmp_path / "phone.png").stat().st_size > 20_000


def test_on_a_phone_what_is_open_stands_above_what_else_there_is(browser: Browser, client: httpx.Client, clip: Path) -> None:
    with desk_at(browser, str(client.base_url), wait_ms=PATIENT_MS) as desk:
        page = desk.page
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto("/")
        page.set_input_files("#file", clip)
        expect(page.locator(".verdict, .result").first).to_be_visible()

        def top(selector: str) -> float:
            box = page.locator(selector).bounding_box()
            assert box is not None
            return box["y"]

        assert top("#view") < top("#drop") < top("#list")
        page.locator("[data-route]").first.click()
        expect(page.locator(".welcome")).to_be_visible()
        assert top("#drop") < top("#list") < top("#view")
