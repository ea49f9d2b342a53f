"""The live wall for whoever may not see cameras: it says so, and does not ask for ever."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from service.settings import Settings
from tests.service.browsing import chromium, desk_at
from tests.service.conftest import Serve
from tests.service.test_keys import made


def test_who_may_not_see_cameras_is_told_so_once(serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client, chromium() as browser, desk_at(browser, str(client.base_url)) as desk:
        page = desk.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/events") else None)
        page.goto("/wall")
        page.wait_for_url("**/sign-in?next=%2Fwall")
        page.get_by_label("Your key").fill(made(locked, "streams"))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/wall")
        expect(page.locator("#link")).to_contain_text("Refused")
        expect(page.locator("#trouble")).to_contain_text("The key may not do that")
        expect(page.get_by_role("link", name="Live wall")).to_be_hidden()
        before = len(asked)
        page.wait_for_timeout(1500)
        assert len(asked) == before
        assert all(re.search("40[13]", text) for text in desk.complaints)
