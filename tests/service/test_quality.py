"""Quality and policy: numbers against ones computed by hand, on both databases and over the wire; versions that only grow."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from scipy.stats import binomtest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from service.audit_rows import AuditRows
from service.database import Database, now
from service.policy_rows import SHIPPED, PolicyChanged, PolicyRows, UnknownPolicy
from service.review_quality import ReviewQuality, kappa, psi, share
from service.settings import Settings
from tests.service.conftest import Serve, assert_problem
from tests.service.test_keys import bearer, made
from tests.service.test_reviews import ANN, BOB, FAKE, LEAD, REAL, SKIP, UNSURE, Desk, ended


def test_the_wilson_interval_is_that_of_the_formula() -> None:
    # (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2), z = 1.959964
    found = share(2, 20)
    assert [found.share, found.low, found.high] == pytest.approx([0.1, 0.027867, 0.301034], abs=1e-5)
    for k, n in ((0, 5), (3, 9), (5, 5), (100, 1000)):
        expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert [share(k, n).low, share(k, n).high] == pytest.approx([expected.low, expected.high], abs=1e-12)
    assert share(0, 0).share is share(0, 0).low is None
    assert share(0, 10).low == pytest.approx(0, abs=1e-12) and share(10, 10).high == pytest.approx(1)


def test_kappa_is_that_of_the_textbook() -> None:
    """Twenty times yes-yes, five yes-no, ten no-yes, fifteen no-no: .7 agree, .5 by chance."""
    assert kappa({("a", "a"): 20, ("a", "b"): 5, ("b", "a"): 10, ("b", "b"): 15}) == pytest.approx(0.4)
    assert kappa({("a", "a"): 7}) is None and kappa({}) is None
    assert kappa({("a", "b"): 1, ("b", "a"): 1}) == pytest.approx(-1)


def test_the_index_is_nothing_without_drift_and_chance_is_told_of_few() -> None:
    index, chance = psi((5, 5), (5, 5))
    assert index == 0 and chance == pytest.approx(3.841459 * 0.2)
    # shares of 9.5/11 and 1.5/11 against the reverse: 2 * (8/11) ln(9.5/1.5)
    assert psi((9, 1), (1, 9))[0] == pytest.approx(2 * 8 / 11 * 1.8458266, rel=1e-6)
    assert psi((0, 0), (1, 1)) == (None, None)


async def test_numbers_of_a_desk_counted_by_hand(url: URL) -> None:
    """Ten videos: pairs, a dispute, an overturn, skips, and what only waits for a second word."""
    rows = [ended(n) for n in range(8)] + [ended(n, verdict="no_evidence") for n in (8, 9)]
    for n, row in enumerate(rows):
        row.p = n / 10 + 0.05
    desk = await Desk.open(url, *rows, ended(11, tenant="others"))
    for row in desk.rows[:3]:  # three pairs that agree
        await desk.say(row, ANN, FAKE, second=True)
        await desk.say(row, BOB, FAKE)
    await desk.say(desk.rows[3], ANN, FAKE, second=True)  # a dispute, after a correction, and a ruling
    await desk.say(desk.rows[3], ANN, REAL, second=True)
    await desk.say(desk.rows[3], BOB, FAKE)
    await desk.say(desk.rows[3], LEAD, REAL)
    await desk.say(desk.rows[4], ANN, FAKE)  # stood, then overturned
    await desk.say(desk.rows[4], LEAD, REAL)
    await desk.say(desk.rows[5], ANN, UNSURE)
    await desk.say(desk.rows[6], ANN, REAL, second=True)  # waits for a second word: counts as nothing
    await desk.say(desk.rows[7], ANN, SKIP)
    await desk.say(desk.rows[8], ANN, FAKE)
    await desk.say(desk.rows[9], ANN, REAL)
    await desk.say(desk.rows[10], ANN, REAL)
    moment = now() + timedelta(minutes=1)
    quality = ReviewQuality(desk.database)
    found = await quality.of("films", moment - timedelta(days=1), moment)
    assert (sum(day.decided for day in found.days), sum(day.skipped for day in found.days)) == (16, 1)
    assert found.skips == {"needs_time": 1}
    assert (found.to_decision.n, found.open.n) == (9, 16)
    # the fifth and the ninth of 8.1, 8.2, 8.4, 8.5, 8.6, 8.7, 8.8, 8.9 and 9 hours
    assert found.to_decision.median_s == pytest.approx(3600 * 8.6, abs=120)
    assert found.to_decision.p90_s == pytest.approx(3600 * 9, abs=120)
    assert (found.agreement.same.k, found.agreement.same.n) == (3, 4)
    assert found.agreement.kappa == pytest.approx(0)  # BOB always says the same: nothing beyond chance
    assert (found.rulings.disputes, found.rulings.overturned.k, found.rulings.overturned.n) == (1, 1, 1)
    assert (found.false_positives.k, found.false_positives.n) == (2, 5)
    assert (found.false_negatives.k, found.false_negatives.n) == (1, 2)
    assert found.drift.histogram == (1,) * 10 and found.drift.n_before == 0 and found.drift.psi is None
    nothing = await quality.of("nobody", moment - timedelta(days=1), moment)
    assert nothing.days == () and nothing.to_decision.median_s is None and nothing.agreement.kappa is None
    later = await quality.of("films", moment, moment + timedelta(days=1))
    assert (later.drift.n, later.drift.n_before, later.open.n) == (0, 10, 0)
    await desk.database.close()


async def test_a_policy_only_grows_and_two_leads_do_not_overwrite_each_other(url: URL) -> None:
    database = await Database.open(url)
    policies = PolicyRows(database)
    shipped = await policies.get("films")
    assert (shipped.version, shipped.text, shipped.author) == (0, SHIPPED, None)
    told = await asyncio.gather(*(policies.write("films", LEAD, f"by {n}", after=0) for n in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in told) == ["Policy", *["PolicyChanged"] * 3]
    with pytest.raises(PolicyChanged, match="Read it again"):
        await policies.write("films", LEAD, "late", after=0)
    await policies.write("films", LEAD, "second", after=1)
    assert (await policies.get("films")).text == "second" and (await policies.get("films", 0)).text == SHIPPED
    assert (await policies.get("films", 1)).text.startswith("by ") and (await policies.get("others")).version == 0
    with pytest.raises(UnknownPolicy):
        await policies.get("films", 3)
    for statement in ("UPDATE policies SET text = 'x'", "DELETE FROM policies"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.sessions.begin() as session:
                await session.execute(text(statement))
    assert [row.action for row in await AuditRows(database).page("films", before=None, limit=9)] == ["policy.changed"] * 2
    await database.close()


def test_policy_and_quality_over_the_wire(serve: Serve, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", min_free_bytes=0, device="cpu", require_keys=True)
    ann, bea = bearer(made(settings, "reviews", tenant="f")), bearer(made(settings, "reviews", tenant="g"))
    lead = bearer(made(settings, "reviews", "reviews:lead", tenant="f"))
    nobody = bearer(made(settings, "analyses:read", tenant="f"))
    with serve(settings) as client:
        first = client.get("/v1/policy", headers=ann)
        tag = {"If-Match": first.headers["ETag"]}
        assert first.json()["text"] == SHIPPED and first.json()["author"] is None
        assert client.get("/v1/policy", headers=ann | {"If-None-Match": first.headers["ETag"]}).status_code == 304
        assert_problem(client.get("/v1/policy", headers=nobody), 403, "not-permitted")
        new = {"text": "<b>look</b>\r\ntwice"}
        assert_problem(client.put("/v1/policy", json=new, headers=ann | tag), 403, "not-permitted")
        assert_problem(client.put("/v1/policy", json=new, headers=lead), 428, "if-match-needed")
        assert_problem(client.put("/v1/policy", json=new, headers=lead | {"If-Match": '"no"'}), 412, "policy-changed")
        for bad in ("", " \n", "a\0b", "x" * 20_001):
            assert client.put("/v1/policy", json={"text": bad}, headers=lead | tag).status_code == 422
        kept = client.put("/v1/policy", json=new, headers=lead | tag)
        assert kept.status_code == 200 and (kept.json()["version"], kept.json()["text"]) == (1, "<b>look</b>\ntwice")
        again = client.get("/v1/policy", headers=ann)
        assert again.json() == kept.json() and again.headers["ETag"] == kept.headers["ETag"]
        assert client.get("/v1/policy?version=0", headers=ann).json()["text"] == SHIPPED
        assert client.get("/v1/policy", headers=bea).json()["version"] == 0
        assert_problem(client.put("/v1/policy", json=new, headers=lead | tag), 412, "policy-changed")
        assert_problem(client.get("/v1/policy?version=7", headers=ann), 404, "policy-not-found")
        assert_problem(client.get("/v1/reviews/quality", headers=ann), 403, "not-permitted")
        told = client.get("/v1/reviews/quality", headers=lead).json()
        assert told["days"] == [] and told["false_positives"] == {"k": 0, "n": 0, "share": None, "low": None, "high": None}
        span = "since=2026-01-01T00:00:00Z&until={}"
        for until in ("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
            assert_problem(client.get(f"/v1/reviews/quality?{span.format(until)}", headers=lead), 422, "bad-period")
        assert client.get("/v1/reviews/quality?until=0001-01-01T00:00:00Z", headers=lead).status_code == 422
        assert client.get("/v1/reviews/quality?since=2026-01-01", headers=lead).status_code == 422
