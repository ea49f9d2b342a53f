"""Settings and audit in a real Chromium: keys are made, used and ended, receivers told and told again, and the audit has all of it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from service.settings import Settings
from tests.service.browsing import WAIT_MS, chromium, desk_at
from tests.service.conftest import Serve
from tests.service.processes import Serving, serving
from tests.service.test_keys import bearer, made
from tests.support import ROOT
from tests.web import web_server

AXE = ROOT / "service" / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = '"><img src=x onerror=alert(1)>'
NARROW = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One that needs no key on this machine, and may tell this machine."""
    with serving(tmp_path_factory.mktemp("settings"), camera_networks='["127.0.0.0/8"]') as running:
        yield running


@pytest.fixture
def page(browser: Browser, service: Serving) -> Iterator[Page]:
    with desk_at(browser, str(service.client.base_url)) as desk:
        yield desk.page
        # Chromium itself reports each answer over 399.
        assert [said for said in desk.complaints if "status of 4" not in said] == []


def assert_accessible(page: Page, what: str) -> None:
    """axe finds nothing in light or dark, and a narrow screen scrolls one way only."""
    page.evaluate(f"{AXE.read_text('utf-8')};0")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = page.evaluate("axe.run()")["violations"]
        assert not found, f"{what}, {scheme}: {json.dumps([(one['id'], [node['html'] for node in one['nodes']]) for one in found])[:3000]}"
    before = page.viewport_size
    assert before is not None
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]  # Playwright's own type is not exported
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], what
    page.set_viewport_size(before)


def test_a_key_is_made_used_revoked_and_audited(page: Page, service: Serving) -> None:
    name = f"newsroom {HOSTILE}"
    page.goto("/settings")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".field-error", has_text="Give it a name.")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator(".field-error", has_text="Choose at least one.")).to_be_visible()
    page.get_by_label("analyses:read", exact=True).check()
    assert_accessible(page, "the form of a key")
    page.get_by_role("button", name="Make the key").press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This is shown once")
    assert_accessible(page, "the secret of a key")
    secret = dialog.get_by_label("The secret").input_value()
    page.keyboard.press("Escape")
    expect(dialog).to_contain_text("It was not copied yet")
    dialog.get_by_role("button", name="I have stored it").click()
    expect(dialog).to_be_hidden()
    assert secret not in page.content()
    assert service.client.get("/v1/analyses", headers=bearer(secret)).status_code == 200
    assert service.client.get("/v1/webhooks", headers=bearer(secret)).status_code == 403
    row = page.get_by_role("row").filter(has_text="newsroom")
    expect(row).to_contain_text(name)
    expect(row).to_contain_text(re.compile(r"in (90|91) days"))
    row.get_by_role("button", name="Revoke").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").press("Enter")
    assert service.client.get("/v1/analyses", headers=bearer(secret)).status_code == 200
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("Revoked")
    assert service.client.get("/v1/analyses", headers=bearer(secret)).status_code == 401
    assert_accessible(page, "keys")
    page.goto("/audit")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("Revoked a key")
    expect(rows.nth(1)).to_contain_text(secret.split("_")[1])
    expect(rows.nth(2)).to_contain_text("Made a key")
    assert page.locator("img[src='x']").count() == 0


def test_a_receiver_is_told_sees_the_ping_and_is_told_again(page: Page, service: Serving) -> None:
    with web_server() as web:
        url = web.give("/hook", f"thanks {HOSTILE}".encode())
        page.goto("/settings/webhooks")
        page.get_by_role("button", name="New webhook").click()
        page.get_by_label("URL").fill("http://10.1.2.3/hook")
        page.get_by_role("button", name="Add the webhook").click()
        # What no field of the request is wrong for is said at the one that it is about.
        expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".form")).to_contain_text("10.1.2.3")
        page.get_by_label("URL").fill(url)
        page.get_by_label("Description").fill(HOSTILE)
        page.get_by_label("alert.ended", exact=True).uncheck()
        page.get_by_role("button", name="Add the webhook").click()
        dialog = page.get_by_role("dialog")
        secret = dialog.get_by_label("The secret").input_value()
        dialog.get_by_role("button", name="I have stored it").click()
        card = page.locator(".webhook")
        expect(card).to_contain_text(HOSTILE)
        expect(card).not_to_contain_text("alert.ended")
        card.get_by_role("button", name="Test").click()
        expect(card.locator(".came")).to_contain_text("The receiver took the ping.")
        expect(card.locator(".came")).to_contain_text(f"thanks {HOSTILE}")
        assert [post.signed_by(secret) for post in web.posted] == [True]
        card.get_by_role("button", name="Deliveries").click()
        delivery = card.get_by_role("table").get_by_role("row").nth(1)
        expect(delivery).to_contain_text("Delivered")
        expect(delivery).to_contain_text("HTTP 200")
        assert_accessible(page, "webhooks")
        delivery.get_by_role("button", name="Send again").click()
        expect(delivery.locator(".attempt")).to_have_count(2)
        assert len({post.headers["webhook-id"] for post in web.posted}) == 1 and len(web.posted) == 2
        card.get_by_role("button", name="New secret").click()
        page.get_by_role("dialog").get_by_label("The old one signs as well").select_option("0")
        page.get_by_role("dialog").get_by_role("button", name="New secret").click()
        newest = page.get_by_role("dialog").get_by_label("The secret").input_value()
        page.get_by_role("dialog").get_by_role("button", name="I have stored it").click()
        card.get_by_role("button", name="Turn off").click()
        expect(card.get_by_role("button", name="Turn on")).to_be_visible()
        card.get_by_role("button", name="Test").click()
        expect(card.get_by_role("table").get_by_role("row")).to_have_count(3)
        assert web.posted[-1].signed_by(newest) and not web.posted[-1].signed_by(secret)
        assert service.client.get("/v1/webhooks").json()["items"][0]["disabled"] == "asked"
        card.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_text("Nobody is told anything yet.")).to_be_visible()
    assert page.locator("img[src='x']").count() == 0
    page.goto("/audit")
    rows = page.get_by_role("table").get_by_role("row")
    done = ["deleted", "tested", "changed", "rotated", "replayed", "tested", "created"]
    for n, action in enumerate(done, start=1):
        expect(rows.nth(n)).to_contain_text(f"webhook.{action}")


def test_the_audit_is_filtered_paged_and_downloaded(page: Page, service: Serving, tmp_path: Path) -> None:
    for n in range(60):
        service.client.post("/v1/keys", json={"name": f"=key {n}", "scopes": ["streams"]})
    page.goto("/audit?action=key.created")
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(51)
    expect(page.get_by_label("What")).to_have_value("key.created")
    page.get_by_role("button", name="Show older ones").click()
    expect(rows.nth(60)).to_contain_text("Made a key")
    assert_accessible(page, "the audit")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download CSV").click()
    saved.value.save_as(tmp_path / "audit.csv")
    told = list(csv.DictReader((tmp_path / "audit.csv").read_text("utf-8").splitlines()))
    assert len(told) >= 60 and {row["action"] for row in told} == {"key.created"}
    page.get_by_label("Who").fill("nobody at all")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"who=nobody"))
    page.get_by_role("button", name="Clear").click()
    expect(rows).to_have_count(51)


def test_the_service_says_what_is_in_force_and_what_is_unsafe(page: Page, service: Serving) -> None:
    told = service.client.get("/v1/system").json()
    page.goto("/settings/service")
    expect(page.locator(".tiles")).to_contain_text("SQLite, on this machine")
    expect(page.locator("main")).to_contain_text(told["model"]["weights_sha256"])
    expect(page.locator("main")).to_contain_text(told["model"]["calibration_id"])
    for setting in told["settings"]:
        expect(page.get_by_role("row").filter(has_text=setting["variable"])).to_have_count(1)
    expect(page.get_by_role("row").filter(has_text="UNDERCURRENT_RETENTION_DAYS")).to_contain_text("for ever")
    codes = page.locator(".findings li").evaluate_all("found => found.map((one) => one.dataset.code)")
    assert codes == [finding["code"] for finding in told["findings"]] and "wide-camera-network" in codes
    expect(page.locator(".findings li").first).to_contain_text("Unsafe")
    assert_accessible(page, "the service")


def test_a_lost_connection_is_said_and_tried_again(browser: Browser, service: Serving) -> None:
    with desk_at(browser, str(service.client.base_url)) as desk:
        page = desk.page
        page.route("**/v1/keys?*", lambda route: route.abort())
        page.goto("/settings/keys")
        expect(page.locator(".problem")).to_contain_text("The service does not answer")
        page.unroute("**/v1/keys?*")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".paged-state .problem")).to_have_count(0)
        assert all("ERR_FAILED" in complaint for complaint in desk.complaints)


def test_whoever_may_not_is_told_and_whose_session_ended_comes_back(browser: Browser, serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        teller, admin = made(locked, "webhooks"), made(locked, "admin")
        context = browser.new_context(base_url=str(client.base_url), reduced_motion="reduce")
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto("/settings/webhooks")
        page.wait_for_url("**/sign-in?next=%2Fsettings%2Fwebhooks")
        page.get_by_label("Your key").fill(teller)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="New webhook")).to_be_visible()
        places = page.get_by_role("navigation", name="Pages")
        expect(places.get_by_role("link", name="Settings")).to_be_visible()
        expect(places.get_by_role("link", name="Audit")).to_be_hidden()
        page.goto("/audit")
        expect(page.locator(".missing")).to_contain_text("This page needs the scope admin")
        expect(page.locator(".missing")).to_contain_text("which may: webhooks")
        assert_accessible(page, "what a key may not see")
        page.goto("/settings/keys")
        expect(page.locator(".missing")).to_contain_text("admin")
        page.goto("/settings/webhooks")
        expect(page.get_by_role("button", name="New webhook")).to_be_visible()
        # The session ends while the page is open.
        client.delete(f"/v1/keys/{teller.split('_')[1]}", headers=bearer(admin)).raise_for_status()
        page.get_by_role("button", name="New webhook").click()
        page.get_by_label("URL").fill("https://example.com/hook")
        page.get_by_role("button", name="Add the webhook").click()
        page.wait_for_url("**/sign-in?next=%2Fsettings%2Fwebhooks")
        page.get_by_label("Your key").fill(admin)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/settings/webhooks")
        expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name="Audit")).to_be_visible()
        context.close()


def test_the_last_key_of_its_kind_is_asked_about_twice(browser: Browser, serve: Serve, settings: Settings) -> None:
    with serve(settings) as client, desk_at(browser, str(client.base_url)) as desk:
        page = desk.page
        client.post("/v1/keys", json={"name": "only one", "scopes": ["admin"]})
        page.goto("/settings/keys")
        page.get_by_role("button", name="Revoke only one").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("dialog")).to_contain_text("the last key that may make others")
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("row").filter(has_text="only one")).to_contain_text("Revoked")
        # Chromium itself reports each answer over 399.
        assert all("409" in complaint for complaint in desk.complaints)
