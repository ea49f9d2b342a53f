"""The page of a lead in a real Chromium: numbers with tables beside the charts, a policy and a threshold that two leads change at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from service.connection import database_url
from service.database import Database
from service.policy_rows import SHIPPED
from service.review_rows import Decision
from service.settings import DEFAULT_TENANT, Settings
from tests.service.browsing import chromium, desk_at, violations
from tests.service.conftest import upload
from tests.service.processes import serving
from tests.service.test_reviews import ANN, BOB, FAKE, LEAD, REAL, SKIP, Desk, ended
from tests.service.test_thresholds import reviewed as noted

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


async def reviewed(settings: Settings) -> None:
    desk = await Desk.open(database_url(settings), *(ended(n, tenant=DEFAULT_TENANT) for n in range(4)))
    await desk.say(desk.rows[0], ANN, FAKE, second=True)
    await desk.say(desk.rows[0], BOB, FAKE)
    await desk.say(desk.rows[1], ANN, FAKE)
    await desk.say(desk.rows[1], LEAD, REAL)
    await desk.say(desk.rows[2], ANN, SKIP)
    await desk.database.close()


def test_a_lead_reads_the_numbers_and_changes_the_policy(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path) as service, desk_at(browser, str(service.client.base_url)) as desk:
        service.client.get("/readyz").raise_for_status()  # its tables are there
        with ThreadPoolExecutor(1) as aside:  # Playwright has an event loop in this thread
            aside.submit(lambda: asyncio.run(reviewed(Settings(data_dir=tmp_path / "data")))).result()
        page = desk.page
        page.goto("/quality")
        expect(page.get_by_role("link", name="Quality", exact=True)).to_have_attribute("aria-current", "page")
        wrong = page.get_by_role("table", name="Where people say otherwise").get_by_role("row")
        expect(wrong.nth(1)).to_contain_text("1 / 2")
        expect(page.locator(".tile", has_text="Overturned")).to_contain_text("1 of 1")
        for summary in page.get_by_text("As a table").all():
            summary.click()
        expect(page.get_by_role("table", name="Decisions and skips per day").get_by_role("row").nth(1)).to_contain_text("4")
        assert violations(page) == []
        area = page.get_by_label("What reviewers decide by")
        expect(area).to_have_value(SHIPPED)
        area.fill(HOSTILE)
        other = change(service.client, "theirs")
        page.get_by_role("button", name="Save as a new version").click()
        assert violations(page) == []
        page.get_by_role("button", name="Put in force").click()
        expect(page.get_by_text("Somebody else has changed the policy")).to_be_visible()
        expect(page.locator(".policy-theirs")).to_have_text("theirs")
        expect(area).to_have_value(HOSTILE)
        page.get_by_role("button", name="Save as a new version").click()
        page.get_by_role("button", name="Put in force").click()
        expect(page.locator(".policy").get_by_text("Version 2 is in force.")).to_be_visible()
        assert service.client.get("/v1/policy").json()["text"] == HOSTILE and other["version"] == 1
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_label("Period").select_option("7")
        expect(page).to_have_url(f"{str(service.client.base_url).rstrip('/')}/quality?days=7")
        # Chromium itself reports each answer over 399: the refused change.
        assert [said for said in desk.complaints if "status of 412" not in said] == []


def change(client: httpx.Client, text: str) -> dict[str, object]:
    """Another lead's change."""
    read = client.get("/v1/policy")
    answer = client.put("/v1/policy", json={"text": text}, headers={"If-Match": read.headers["ETag"]})
    told: dict[str, object] = answer.raise_for_status().json()
    return told


def test_what_was_reviewed_moves_the_threshold_and_the_next_upload_is_judged_by_it(browser: Browser, clip: Path, tmp_path: Path) -> None:
    """The same clip gets another word once a lead has confirmed what its like was reviewed to be; and the first one again."""
    with serving(tmp_path) as service, desk_at(browser, str(service.client.base_url)) as desk:
        before = upload(service.client, clip, wait_s=60).json()["result"]
        assert before["verdict"] != "manipulated"
        calibration_id, p = before["score"]["calibration_id"], before["score"]["p"]
        page = desk.page
        page.goto("/quality")
        card = page.locator(".threshold")
        expect(card.get_by_text("too few to show a rate of 1 %")).to_be_visible()
        expect(card.get_by_role("button", name="Put the proposed one in force")).to_have_count(0)

        async def decisions() -> None:
            database = await Database.open(database_url(Settings(data_dir=tmp_path / "data")))
            filmed = [*(p * n / 1000 for n in range(1, 297)), p * 0.6, p * 0.7, p * 0.8, p * 0.9]  # all below the clip's
            said: list[tuple[Decision, float | None]] = [("genuine", reach) for reach in filmed]
            said += [("manipulated", 0.2 + n / 100) for n in range(60)]
            await noted(database, said, calibration_id=calibration_id)
            await database.close()

        with ThreadPoolExecutor(1) as aside:
            aside.submit(lambda: asyncio.run(decisions())).result()
        page.reload()
        effects = card.get_by_role("table", name="What the present and the proposed threshold get wrong").get_by_role("row")
        expect(effects.nth(1)).to_contain_text("0 % (0 of 300;")
        expect(effects.nth(2)).to_contain_text("1 % (3 of 300;")
        expect(effects.nth(2)).to_contain_text("0 % (0 of 60;")
        expect(card.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"present one is at 0\.868, the proposed one at 0\.0"))
        card.get_by_text("As a table").click()
        assert violations(page) == []
        card.get_by_label("Wanted false-positive rate").select_option("0.001")
        expect(card.get_by_text("that takes 2995")).to_be_visible()
        card.get_by_label("Wanted false-positive rate").select_option("0.01")
        card.get_by_role("button", name="Put the proposed one in force").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Why")).to_have_value(re.compile("300 videos found as filmed and 60"))
        assert violations(page) == []
        dialog.get_by_label("Why").fill(" ")
        dialog.get_by_role("button", name="Put in force").click()
        expect(dialog.get_by_label("Why")).to_be_visible()  # not without a reason
        dialog.get_by_label("Why").fill(HOSTILE)
        dialog.get_by_role("button", name="Put in force").click()
        expect(card.get_by_text("Version 1 is in force")).to_be_visible()
        versions = card.get_by_role("table", name="Versions").get_by_role("row")
        expect(versions.nth(1)).to_contain_text("In force")
        expect(versions.nth(1)).to_contain_text(HOSTILE)
        confirmed = service.client.get("/v1/thresholds").json()
        assert confirmed["version"] == 1 and confirmed["target_fpr"] == 0.01 and confirmed["threshold"] < p
        answer = upload(service.client, clip, wait_s=60)
        after = answer.json()["result"]
        assert (after["verdict"], after["threshold"], after["threshold_version"]) == ("manipulated", confirmed["threshold"], 1)
        assert after["score"] == before["score"]
        service.client.put("/v1/thresholds", json={"threshold": 0.5, "target_fpr": 0.1, "note": "theirs"}, headers=in_force(service.client))
        card.get_by_role("button", name="Use again: version 0").click()
        dialog.get_by_role("button", name="Put in force").click()
        expect(card.get_by_text("Somebody else has changed the threshold")).to_be_visible()
        expect(versions.nth(1)).to_contain_text("theirs")
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(page) == []
        card.get_by_role("button", name="Use again: version 0").click()
        dialog.get_by_role("button", name="Put in force").click()
        expect(card.get_by_text("Version 3 is in force")).to_be_visible()
        back = upload(service.client, clip, wait_s=60).json()["result"]
        assert (back["verdict"], back["threshold"], back["threshold_version"]) == (before["verdict"], before["threshold"], 3)
        page.goto(answer.json()["links"]["page"])
        expect(page.get_by_text("chosen by what was reviewed, for 1 % of real videos")).to_be_visible()
        assert [said for said in desk.complaints if "status of 412" not in said] == []


def in_force(client: httpx.Client) -> dict[str, str]:
    """What a change of the threshold must say that it has read."""
    return {"If-Match": client.get("/v1/thresholds").headers["ETag"]}
