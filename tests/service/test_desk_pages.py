"""The reviewers' desk in a real Chromium: from the queue to a decision by keys alone, two reviewers at once, and what goes wrong midway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from service.connection import database_url
from service.database import Database
from service.key_store import Scope
from service.settings import ReviewTerms, Settings
from tests.clips import face_clip
from tests.service.browsing import WAIT_MS, Desk, chromium, desk_at, eventually, violations
from tests.service.conftest import Serve
from tests.service.test_keys import bearer, made
from tests.service.test_reviews import ended

T = TypeVar("T")
REVIEWER: tuple[Scope, ...] = ("reviews", "analyses:read", "analyses:write")
LEAD: tuple[Scope, ...] = (*REVIEWER, "reviews:lead", "admin")
HOSTILE = '"><img src=x onerror=document.title=1>'


def aside(act: Callable[[], T]) -> T:
    """In a thread: where Playwright runs there is an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


@dataclass(frozen=True)
class House:
    """A service whose every decision is made twice, and its people."""

    client: httpx.Client
    settings: Settings
    clip: Path

    def person(self, name: str, tenant: str, scopes: tuple[Scope, ...] = REVIEWER) -> str:
        return aside(lambda: made(self.settings, *scopes, tenant=tenant, name=name))

    def judged(self, key: str, name: str = "holiday.mp4") -> str:
        """The path of a new analysis that has ended."""
        headers = {**bearer(key), "Content-Type": "video/mp4", "Prefer": "wait=60"}
        sent = self.client.post("/v1/analyses", params={"filename": name}, content=self.clip.read_bytes(), headers=headers)
        assert sent.json()["status"] == "succeeded", sent.text
        return f"/v1/analyses/{sent.json()['id']}"

    def decide(self, path: str, key: str, decision: str = "genuine") -> None:
        """Open it and decide, as a program does."""
        assert self.client.post(f"{path}/review-lock", headers=bearer(key)).status_code == 200
        said = {"decision": decision, "reason": "looks_as_filmed", "note": None}
        assert self.client.post(f"{path}/reviews", json=said, headers=bearer(key)).status_code == 201

    def asked(self, path: str, key: str) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(path, headers=bearer(key)).json()
        return told

    @contextmanager
    def browser_of(self, browser: Browser, key: str) -> Iterator[Desk]:
        """A browser in which that person has signed in."""
        with desk_at(browser, str(self.client.base_url)) as desk:
            assert desk.page.context.request.post("/v1/session", data={"key": key}).status == 201
            yield desk


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def house(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("desk") / "data",
        min_free_bytes=0,
        hz=4.0,
        device="cpu",
        require_keys=True,
        reviews=ReviewTerms(verdicts=("manipulated", "inconclusive", "no_evidence"), second_share=1.0),
    )
    with serve(settings) as client:
        yield House(client, settings, face_clip(tmp_path_factory.mktemp("clips") / "short.mp4", seconds=1.5))


def panel(page: Page, path: str) -> Locator:
    """The decision panel beside a result, open for whoever looks."""
    page.goto(path.removeprefix("/v1"))
    found = page.locator(".desk")
    expect(found).to_be_visible()
    return found


def status(page: Page) -> Locator:
    return page.locator(".desk-status")


def decide(page: Page, key: str, reason: str, note: str) -> None:
    """By keys alone."""
    expect(status(page)).to_have_text("It is open for you, and locked for others.")
    page.keyboard.press(key)
    expect(page.get_by_label("Why", exact=True)).to_be_focused()
    page.keyboard.type(reason)
    page.keyboard.press("Tab")
    page.keyboard.insert_text(note)
    page.keyboard.press("Control+Enter")


def sooner_or_later(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(WAIT_MS // 30):
        if holds():
            return
        page.wait_for_timeout(30)
    pytest.fail("never true")


def test_keys_alone_lead_from_the_queue_to_a_decision_and_its_trail(browser: Browser, house: House) -> None:
    ann, lead = house.person("Ann", "keys"), house.person("Lea", "keys", LEAD)
    first, second = (house.judged(ann, name) for name in ("first.mp4", "second.mp4"))
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        page.goto("/queue")
        rows = page.locator("#rows a")
        expect(rows).to_have_text(["first.mp4", "second.mp4"])
        for key, row in (("j", 0), ("j", 1), ("ArrowDown", 1), ("k", 0)):
            page.keyboard.press(key)
            expect(rows.nth(row)).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{first.removeprefix('/v1')}")
        decide(page, "f", "Vis", "The mouth jumps at 0:02.")
        expect(status(page)).to_have_text("Noted: Fake. It waits for a second reviewer, who does not see the first decision.")
        expect(page.locator("#say")).to_contain_text("Noted: Fake.")
        expect(page.locator(".desk-entry")).to_contain_text(["Fake by Ann, first decision (you)"])
        expect(page.locator(".desk-entry")).to_contain_text(["The mouth jumps at 0:02."])
        expect(page.get_by_role("button", name="Next item")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{second.removeprefix('/v1')}")
        expect(status(page)).to_have_text("It is open for you, and locked for others.")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("a")  # into the list of keys, and not for the decision behind it
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator(".desk input[type=radio]:checked")).to_have_count(0)
        page.keyboard.press("u")
        page.keyboard.press("Escape")
        page.get_by_text("Skip it").press("Enter")
        page.get_by_label("Why you leave it").press_sequentially("I k")
        page.get_by_role("button", name="Skip", exact=True).press("Enter")
        expect(status(page)).to_contain_text("Noted: Skipped.")
        page.get_by_role("button", name="Next item").press("Enter")
        expect(status(page)).to_have_text("Nothing is left for you in the queue.")
        page.goto("/queue#mine")
        expect(page.locator("#said tr")).to_contain_text(["Skipped left to others", "Fake first decision"])
        expect(page.locator("#said tr")).to_contain_text(["I know the person", "Visible traces"])
        assert desk.complaints == []
    told = [(one["action"], one["subject"], one["name"]) for one in house.asked("/v1/audit?limit=99", lead)["items"]]
    done = ("review.skipped", "review.opened"), ("review.decided", "review.opened")
    trail = [(action, path.rpartition("/")[2], "Ann") for path, actions in zip((second, first), done, strict=True) for action in actions]
    assert [one for one in told if one[0].startswith("review.")] == trail


def test_two_reviewers_and_a_lead_at_one_video(browser: Browser, house: House) -> None:
    """One at a time, the second without knowing the first, the lead where they disagree."""
    ann, bob, lea = house.person("Ann", "pair"), house.person("Bob", "pair"), house.person("Lea", "pair", LEAD)
    path = house.judged(ann)
    with house.browser_of(browser, ann) as one, house.browser_of(browser, bob) as other:
        panel(one.page, path)
        expect(status(one.page)).to_contain_text("open for you")
        blind = panel(other.page, path)
        expect(status(other.page)).to_have_text("Ann has it open.")
        expect(other.page.locator(".desk-form")).to_have_count(0)
        other.page.keyboard.press("f")
        other.page.goto("/queue")
        expect(other.page.locator("#rows .state")).to_have_text("Locked, Ann has it open")
        panel(other.page, path)
        decide(one.page, "f", "Vis", "Only Ann knows.")
        expect(status(one.page)).to_contain_text("Noted: Fake.")
        other.page.get_by_role("button", name="Look again").click()
        expect(blind.locator(".desk-sealed")).to_have_text("1 review is sealed until yours is in.")
        expect(blind).not_to_contain_text("Only Ann knows.")
        decide(other.page, "a", "Looks", "I see nothing.")
        expect(blind.locator(".desk-disagree")).to_have_text("Ann and Bob disagree: Fake, As filmed.")
        expect(blind).to_contain_text("Only Ann knows.")
        expect(status(other.page)).to_have_text("Noted: As filmed. Two reviewers disagree. It waits for a lead.")
        assert one.complaints == [] and other.complaints == []
    with house.browser_of(browser, lea) as desk:
        panel(desk.page, path)
        decide(desk.page, "u", "Too l", "")
        expect(status(desk.page)).to_have_text("Noted: Unsure. Decided: Unsure.")
        expect(desk.page.get_by_role("button", name="Rule on it")).to_be_visible()
        assert desk.complaints == []
    assert house.asked(f"{path}/reviews", ann)["item"]["outcome"] == "unsure"


def test_a_page_that_is_left_gives_the_video_back(browser: Browser, house: House) -> None:
    ann = house.person("Ann", "left")
    path = house.judged(ann)
    with house.browser_of(browser, ann) as desk:
        panel(desk.page, path)
        expect(status(desk.page)).to_contain_text("open for you")
        desk.page.goto("/live")
        sooner_or_later(desk.page, lambda: house.asked(f"{path}/reviews", ann)["item"]["lock"] is None)
        panel(desk.page, path).get_by_role("button", name="Put back").click()
        expect(status(desk.page)).to_contain_text("Put back.")
        sooner_or_later(desk.page, lambda: house.asked(f"{path}/reviews", ann)["item"]["lock"] is None)
        assert desk.complaints == []


def test_nothing_typed_is_lost_when_the_network_or_the_session_is(browser: Browser, house: House) -> None:
    ann = house.person("Ann", "lost")
    path = house.judged(ann)
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        panel(page, path)
        page.context.set_offline(True)
        decide(page, "f", "Vis", "A long thought.")
        expect(page.locator(".desk .problem")).to_contain_text("What you typed is kept.")
        expect(page.get_by_label("Note", exact=True)).to_have_value("A long thought.")
        page.context.set_offline(False)
        page.context.clear_cookies()
        page.get_by_role("button", name="Confirm").click()
        page.wait_for_url(f"**/sign-in?next={path.removeprefix('/v1').replace('/', '%2F')}")
        expect(page.locator("#led-here")).to_have_text(re.compile("your session has ended.* kept in this tab"))
        page.get_by_label("Your key").fill(ann)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{path.removeprefix('/v1')}")
        expect(page.get_by_label("Note", exact=True)).to_have_value("A long thought.")
        expect(page.get_by_role("radio", name="Fake")).to_be_checked()
        page.get_by_role("button", name="Confirm").click()
        expect(status(page)).to_contain_text("Noted: Fake.")
        assert page.evaluate("sessionStorage.length") == 0
        assert all(re.search("401|ERR_INTERNET_DISCONNECTED", text) for text in desk.complaints)
    assert [one["note"] for one in house.asked(f"{path}/reviews", ann)["reviews"]] == ["A long thought."]


def test_a_session_that_ends_while_somebody_types_leads_back_to_the_note(browser: Browser, house: House) -> None:
    """Nobody pressed anything: the lock is renewed by itself, and then it shows."""
    ann = house.person("Ann", "ends")
    path = house.judged(ann)
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        page.clock.install()
        panel(page, path)
        expect(status(page)).to_contain_text("open for you")
        page.keyboard.press("f")
        page.get_by_label("Note", exact=True).press_sequentially("Half a thou")
        page.context.clear_cookies()
        page.clock.run_for(61_000)
        page.wait_for_url("**/sign-in?next=*")
        expect(page.locator("#led-here")).to_have_text(re.compile("your session has ended.* kept in this tab"))
        page.get_by_label("Your key").fill(ann)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Note", exact=True)).to_have_value("Half a thou")
        expect(page.get_by_role("radio", name="Fake")).to_be_checked()
        assert all("401" in complaint for complaint in desk.complaints)


def test_an_answer_that_is_lost_on_its_way_makes_no_second_decision(browser: Browser, house: House) -> None:
    ann = house.person("Ann", "answer")
    path = house.judged(ann)
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        panel(page, path)

        def lose(route: Route) -> None:
            route.fetch()
            route.abort("connectionreset")

        page.route(f"**{path}/reviews", lose, times=1)
        decide(page, "f", "Vis", "Once.")
        expect(page.locator(".desk .problem")).to_contain_text("What you typed is kept.")
        expect(page.get_by_label("Note", exact=True)).to_have_value("Once.")
        page.get_by_role("button", name="Confirm").click()
        expect(status(page)).to_contain_text("Noted: Fake.")
        expect(page.locator(".desk-entry")).to_have_count(1)
        assert all("ERR_CONNECTION_RESET" in complaint for complaint in desk.complaints)
    assert [one["note"] for one in house.asked(f"{path}/reviews", ann)["reviews"]] == ["Once."]


def test_a_lock_that_was_lost_is_told_and_what_was_typed_stays(browser: Browser, house: House) -> None:
    ann, lea = house.person("Ann", "over"), house.person("Lea", "over", LEAD)
    path = house.judged(ann)
    lock = f"{path}/review-lock"
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        panel(page, path)
        expect(status(page)).to_contain_text("open for you")
        # It ran out: given back elsewhere is the same to this page.
        assert house.client.delete(lock, headers=bearer(ann)).status_code == 204
        decide(page, "f", "Vis", "Mine.")
        expect(status(page)).to_have_text("Your lock had run out; it is yours again. Confirm once more.")
        assert house.client.post(f"{lock}?take_over=true", headers=bearer(lea)).status_code == 200
        page.get_by_role("button", name="Confirm").click()
        expect(status(page)).to_have_text("It is not yours any more: Lea has it open. What you typed is kept in this tab.")
        assert house.client.delete(lock, headers=bearer(lea)).status_code == 204
        page.get_by_role("button", name="Look again").click()
        expect(page.get_by_label("Note", exact=True)).to_have_value("Mine.")
        page.get_by_role("button", name="Confirm").click()
        expect(status(page)).to_contain_text("Noted: Fake.")
        assert [text for text in desk.complaints if "409" not in text] == []


def test_hostile_names_and_notes_are_text(browser: Browser, house: House) -> None:
    ann = house.person(f"Ann{HOSTILE}", "hostile", LEAD)
    path = house.judged(ann, f"{HOSTILE}.mp4")
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        page.goto("/queue")
        expect(page.locator("#rows a")).to_have_text(f"{HOSTILE}.mp4")
        panel(page, path)
        decide(page, "f", "Vis", f"{HOSTILE}\n<script>document.title=1</script>{{{{ 7 * 7 }}}}")
        expect(page.locator(".desk-entry blockquote")).to_contain_text("<script>document.title=1</script>{{ 7 * 7 }}")
        expect(page.locator(".desk-entry")).to_contain_text(f"by Ann{HOSTILE}")
        page.goto("/queue#mine")
        expect(page.locator("#said")).to_contain_text(f"{HOSTILE}.mp4")
        expect(page.locator("#said")).to_contain_text("<script>")
        assert page.locator("img[src=x]").count() == 0 and page.title() == "Queue · Undercurrent"
        assert desk.complaints == []


def test_the_queue_filters_sorts_pages_and_refreshes_by_itself(browser: Browser, house: House) -> None:
    ann = house.person("Ann", "queue")

    async def fill(*names: int) -> None:
        database = await Database.open(database_url(house.settings))
        for n in names:
            await database.add(
                ended(n, tenant="queue", severity=0.9 if n == 5 else 0.1, verdict="inconclusive" if n == 7 else "manipulated")
            )
        await database.close()

    aside(lambda: asyncio.run(fill(*range(30))))
    with house.browser_of(browser, ann) as desk:
        page, answers = desk.page, list[int]()
        page.on("response", lambda response: answers.append(response.status) if "/reviews/queue" in response.url else None)
        page.clock.install()
        page.goto("/queue")
        rows = page.locator("#rows a")
        expect(rows).to_have_count(25)
        expect(rows.first).to_have_text("0.mp4")
        page.get_by_role("button", name="Show more").click()
        expect(rows).to_have_count(30)
        expect(page.get_by_role("button", name="Show more")).to_be_hidden()
        page.keyboard.press("j")
        page.keyboard.press("j")
        answers.clear()
        page.clock.run_for(11_000)
        sooner_or_later(page, lambda: answers == [304, 304])
        aside(lambda: asyncio.run(fill(30)))
        page.clock.run_for(11_000)
        expect(rows).to_have_count(31)
        expect(rows.nth(1)).to_be_focused()
        page.get_by_role("combobox", name="Order", exact=True).select_option("Most severe first")
        page.clock.run_for(300)
        expect(rows.first).to_have_text("5.mp4")
        expect(page.locator("#rows .severity").first).to_contain_text("High 0.90")
        page.get_by_role("combobox", name="The service says", exact=True).select_option("Inconclusive")
        page.clock.run_for(300)
        expect(rows).to_have_text(["7.mp4"])
        page.reload()
        expect(rows).to_have_text(["7.mp4"])
        page.get_by_label("Search by name").fill("nothing of this")
        page.clock.run_for(300)
        expect(page.locator("#none")).to_have_text("Nothing matches.")
        page.get_by_role("button", name="Reset").click()
        page.clock.run_for(300)
        expect(rows).to_have_count(25)
        page.get_by_role("combobox", name="Age", exact=True).select_option("Up to 1 hour")
        page.clock.run_for(300)
        expect(page.locator("#none")).to_be_visible()
        assert desk.complaints == []


def test_eyes_are_spared_until_somebody_chooses_otherwise(browser: Browser, house: House) -> None:
    ann = house.person("Ann", "eyes")
    path = house.judged(ann)
    blurred = "getComputedStyle(document.querySelector('{}')).filter".format
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        panel(page, path)
        eventually(page, "document.querySelector('video').readyState >= 2 && document.querySelector('.crop img')")
        for what in ("video", ".crop img"):
            assert page.evaluate(blurred(what)) == "blur(14px) grayscale(1)"
        page.evaluate("document.querySelector('video').muted = false")
        eventually(page, "document.querySelector('video').muted")
        page.keyboard.down("h")
        assert page.evaluate(blurred("video")) == "none"
        page.keyboard.up("h")
        assert page.evaluate(blurred("video")) != "none"
        page.get_by_label("blur").uncheck()
        page.get_by_label("no sound").uncheck()
        assert page.evaluate(blurred("video")) == "grayscale(1)" and not page.evaluate("document.querySelector('video').muted")
        page.reload()
        eventually(page, "document.querySelector('video')")
        assert page.evaluate(blurred("video")) == "grayscale(1)"
        page.goto("/queue")
        expect(page.get_by_label("blur")).not_to_be_checked()
        assert desk.complaints == []


def test_whoever_may_not_review_is_told_what_is_missing(browser: Browser, house: House) -> None:
    guest, ann = house.person("Gus", "guests", ("analyses:read", "analyses:write")), house.person("Ann", "guests")
    path = house.judged(guest)
    with house.browser_of(browser, guest) as desk:
        desk.page.goto("/queue")
        expect(desk.page.locator("#lacking")).to_contain_text("Gus may not review: the scope reviews is missing.")
        expect(desk.page.locator("#desk")).to_be_hidden()
        expect(desk.page.get_by_role("link", name="Queue", exact=True)).to_be_hidden()
        desk.page.goto(path.removeprefix("/v1"))
        expect(desk.page.locator("article.result")).to_be_visible()
        expect(desk.page.locator(".desk")).to_have_count(0)
        assert desk.complaints == []
    with house.browser_of(browser, ann) as desk:
        desk.page.goto("/")
        expect(desk.page.get_by_role("link", name="Queue", exact=True)).to_be_visible()
        desk.page.context.clear_cookies()
        desk.page.goto("/queue")
        desk.page.wait_for_url("**/sign-in?next=%2Fqueue")


def test_everybody_can_use_it(browser: Browser, house: House, tmp_path: Path) -> None:
    """By axe's rules, light and dark, and on a telephone."""
    ann, bob = house.person("Ann", "axe"), house.person("Bob", "axe")
    path, taken = house.judged(ann), house.judged(ann, "a-long-name-" * 12 + ".mp4")
    house.decide(path, bob, "manipulated")
    assert house.client.post(f"{taken}/review-lock", headers=bearer(bob)).status_code == 200
    with house.browser_of(browser, ann) as desk:
        page = desk.page
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 844})
            page.goto("/queue")
            expect(page.locator("#rows tr")).to_have_count(2)
            assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") == width
            page.screenshot(path=tmp_path / f"queue-{width}.png", full_page=True)
            panel(page, path)
            expect(page.locator(".desk-form")).to_be_visible()
            page.get_by_text("Skip it").click()
            assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") == width
            page.screenshot(path=tmp_path / f"panel-{width}.png", full_page=True)
        decide(page, "a", "Looks", "Nothing to see.")
        expect(page.locator(".desk-disagree")).to_be_visible()
        assert violations(page) == []
        page.goto("/queue#mine")
        expect(page.locator("#said tr")).to_have_count(1)
        assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") == 390
        assert desk.complaints == []
