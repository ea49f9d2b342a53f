"""The page in a real Chromium: a person uploads a clip, sees its verdict, and moves through it; nothing is blocked, nothing is loud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, expect

from service.dashboard import assets
from service.settings import Settings
from tests.service.browsing import WAIT_MS, Desk, chromium, desk_at, eventually
from tests.service.conftest import Serve, assert_problem, upload


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def desk(browser: Browser, client: httpx.Client) -> Iterator[Desk]:
    with desk_at(browser, str(client.base_url)) as desk:
        yield desk


PLAYHEAD = "Number(document.querySelector('.playhead').getAttribute('aria-valuenow'))"
VIDEO = "document.querySelector('video')"


def test_a_person_uploads_a_clip_and_sees_its_verdict(desk: Desk, client: httpx.Client, clip: Path, tmp_path: Path) -> None:
    page = desk.page
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("move the way a camera films")
    expect(page.locator("#list")).to_contain_text("Nothing here yet.")
    page.set_input_files("#file", clip)
    result = page.locator("article.result")
    expect(result).to_be_visible(timeout=WAIT_MS)
    analysis = client.get("/v1/analyses").json()["items"][0]
    full = client.get(analysis["links"]["self"]).json()["result"]
    expect(page.get_by_role("heading", level=1)).to_have_text(analysis["sentence"])
    expect(page).to_have_url(re.compile(f"/analyses/{analysis['id']}$"))
    expect(page.locator("#list a")).to_have_attribute("aria-current", "page")
    expect(page.locator(".timeline .lane:not(.surprise)")).to_have_count(len(full["tracks"]))
    expect(page.locator(".crop")).to_have_count(sum(len(track["crops"]) for track in full["tracks"]))
    expect(page.locator(".legend")).to_contain_text("judged")
    page.locator(".crops").first.scroll_into_view_if_needed()
    eventually(page, "[...document.querySelectorAll('.crop img')].every((image) => image.complete && image.naturalWidth > 0)")
    assert not re.search(r"\bauthentic\b", page.content(), re.IGNORECASE)
    page.screenshot(path=tmp_path / "result.png", full_page=True)
    assert (tmp_path / "result.png").stat().st_size > 20_000
    assert desk.complaints == []


def test_the_playhead_follows_the_video_and_the_keys(desk: Desk, client: httpx.Client, clip: Path) -> None:
    page = desk.page
    page.goto(upload(client, clip, wait_s=60).json()["links"]["page"])
    expect(page.locator("article.result")).to_be_visible()
    eventually(page, f"{VIDEO}.readyState >= 2")
    lane = page.locator(".timeline .lane .u-over").first.bounding_box()
    assert lane is not None
    page.mouse.click(lane["x"] + lane["width"] / 2, lane["y"] + lane["height"] / 2)
    eventually(page, f"Math.abs({VIDEO}.currentTime - 2) < 0.2 && Math.abs({PLAYHEAD} - 2) < 0.2")
    before = page.evaluate(PLAYHEAD)
    page.keyboard.press("ArrowRight")
    eventually(page, f"{PLAYHEAD} > {before}")
    assert 0 < page.evaluate(PLAYHEAD) - before < 0.5
    page.keyboard.press("ArrowLeft")
    eventually(page, f"{PLAYHEAD} <= {before}")
    page.evaluate(f"{VIDEO}.playbackRate = 0.2")  # or it may have played to its end before anybody looks
    page.keyboard.press("Space")
    eventually(page, f"!{VIDEO}.paused && {PLAYHEAD} > {before + 0.3}")
    page.keyboard.press("Space")
    eventually(page, f"{VIDEO}.paused")
    expect(page.locator(".boxes text").first).to_contain_text("face")
    assert desk.complaints == []


def test_a_running_analysis_shows_its_progress_and_can_be_stopped(desk: Desk, client: httpx.Client, endless: Path) -> None:
    page = desk.page
    path = upload(client, endless).json()["links"]["page"]
    page.goto(path)
    expect(page.locator(".underway .line")).to_contain_text("looked at")
    expect(page.locator("#list progress")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("It was stopped before its end")
    expect(page.locator("#list .chip")).to_contain_text("Stopped")
    assert desk.complaints == []


def test_a_refused_file_says_what_to_do(desk: Desk, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("This is not a video.\n" * 50)
    desk.page.goto("/")
    desk.page.set_input_files("#file", text)
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text("The file is not a supported video")
    expect(alert).to_contain_text("Choose a video file")
    desk.page.get_by_role("button", name="Dismiss").click()
    expect(alert).to_be_empty()
    # Chromium itself reports each answer over 399; the page adds nothing to it.
    assert all("415" in complaint for complaint in desk.complaints)


def test_deleting_asks_first_and_leaves_an_empty_list(desk: Desk, client: httpx.Client, clip: Path) -> None:
    page = desk.page
    page.goto(upload(client, clip, wait_s=60).json()["links"]["page"], wait_until="networkidle")  # what is asked for later is gone
    eventually(page, f"{VIDEO}?.readyState >= 4")
    expect(page.locator(".desk")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete").click()
    assert len(client.get("/v1/analyses").json()["items"]) == 1
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#list")).to_contain_text("Nothing here yet.")
    assert client.get("/v1/analyses").json()["items"] == []
    assert desk.complaints == []


def test_a_hostile_file_name_is_text(desk: Desk, client: httpx.Client, clip: Path) -> None:
    name = '"><img src=x onerror=alert(1)>.mp4'
    answer = client.post("/v1/analyses", params={"filename": name}, content=clip.read_bytes(), headers={"Content-Type": "video/mp4"})
    desk.page.goto(answer.json()["links"]["page"])
    expect(desk.page.locator("#list a")).to_contain_text(name)
    assert desk.page.locator("img[src='x']").count() == 0
    assert desk.complaints == []


def test_the_report_is_shown_under_its_own_policy(desk: Desk, client: httpx.Client, clip: Path) -> None:
    desk.page.goto(upload(client, clip, wait_s=60).json()["links"]["report"])
    loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    assert desk.page.evaluate(f"document.images.length > 0 && {loaded}")
    assert desk.page.evaluate("document.styleSheets.length && document.styleSheets[0].cssRules.length") > 5
    assert desk.complaints == []


def test_where_nobody_has_keys_everybody_may_review_and_sees_what_they_dropped(desk: Desk) -> None:
    """What one may do says nothing there about what one looks at all day."""
    desk.page.goto("/queue")
    expect(desk.page.get_by_label("blur")).not_to_be_checked()
    expect(desk.page.get_by_role("link", name="Queue", exact=True)).to_be_visible()
    assert desk.page.evaluate("document.body.className") == ""
    assert desk.complaints == []


def test_an_address_of_nothing_says_so(desk: Desk) -> None:
    desk.page.goto("/analyses/00000000-0000-7000-8000-000000000000")
    expect(desk.page.locator("#view")).to_contain_text("There is no such analysis")


def test_the_page_needs_no_other_host(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    for text in (page.text, *(client.get(path).text for path in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text))):
        assert "style=" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/)\w", text)


def test_what_is_built_comes_packed_and_is_kept(client: httpx.Client) -> None:
    built = re.findall(r'(?:src|href)="(/assets/built/[^"]+)"', client.get("/").text)
    assert {Path(path).suffix for path in built} == {".js", ".css"}
    for path in built:
        packed, plain = (client.get(path, headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity"))
        assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
        assert packed.content == plain.content != b""
        assert packed.headers["Content-Type"] == plain.headers["Content-Type"]
        assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"])
        for answer in (packed, plain):
            assert "immutable" in answer.headers["Cache-Control"] and answer.headers["Vary"] == "Accept-Encoding"
    assert client.get("/assets/mark.svg").headers["Cache-Control"] == "no-cache"


def test_pages_that_were_not_built_say_so_and_the_api_works(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MANIFEST", tmp_path / "manifest.json")
    assets.manifest.cache_clear()
    try:
        problem = assert_problem(client.get("/"), 503, "assets-not-built")
        (tmp_path / "manifest.json").write_text("{}", "utf-8")
        assert_problem(client.get("/"), 503, "assets-not-built")
    finally:
        assets.manifest.cache_clear()
    assert "make assets" in str(problem["expected"])
    assert client.get("/v1/analyses").status_code == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_scrolls_one_way_only(browser: Browser, judged: tuple[httpx.Client, str], scheme: Literal["light", "dark"]) -> None:
    client, path = judged
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{client.base_url}{client.get(path).json()['links']['page']}")
    expect(page.locator("article.result")).to_be_visible(timeout=WAIT_MS)
    eventually(page, "document.querySelectorAll('.timeline .lane canvas').length > 1")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    context.close()


def test_whoever_has_no_key_signs_in(browser: Browser, serve: Serve, settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(settings.model_copy(update={"require_keys": True})) as client:
        key = re.findall(r"shown this once: (\S+)", capfd.readouterr().out)[0]
        context = browser.new_context(base_url=str(client.base_url), reduced_motion="reduce")
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        blocked: list[str] = []
        page.on("console", lambda message: blocked.append(message.text) if "Content Security Policy" in message.text else None)
        page.goto("/")
        page.wait_for_url("**/sign-in?next=%2F")
        page.get_by_label("Your key").fill("uc_wrong_key")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_label("Your key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#list")).to_contain_text("Nothing here yet.")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("link", name="Sign out").click()
        page.get_by_role("button", name="Sign out").click()
        # The address was this one already; the page that comes back has nobody to sign out.
        expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
        page.goto("/")
        page.wait_for_url("**/sign-in?next=%2F")
        # Of this origin as it stands there, and a path that names another host.
        page.goto("/sign-in?next=/.//127.0.0.2/x")
        page.get_by_label("Your key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{client.base_url}/127.0.0.2/x")
        assert blocked == []
        context.close()
