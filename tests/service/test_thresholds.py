"""A threshold from decisions: proposed by what was reviewed, confirmed by a lead, and what begins then is judged by it, to its pack."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from models.calibration import log_odds, probability
from pipelines.analysis import Model, analyse
from service.audit_rows import AuditRows
from service.connection import database_url
from service.database import Database, now
from service.ids import new_id
from service.pack_check import check_pack
from service.pack_container import PackRefused
from service.rejudging import judge_again
from service.review_rows import Decision, ReviewItemRow, ReviewRow
from service.review_thresholds import ABOVE, Proposal, ReviewThresholds, needed
from service.settings import DEFAULT_TENANT, Settings
from service.threshold_rows import SHIPPED, Choice, ThresholdChanged, ThresholdRows
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.processes import serving
from tests.service.test_analyses import until
from tests.service.test_keys import bearer, made
from tests.service.test_reviews import ANN, FAKE, LEAD, REAL, Desk, ended
from tests.service.test_takeover import QUICK, bookmarks, minute, wait_for

__all__ = ["minute"]

OURS = "3-0"
"""The calibration that these were judged by."""


async def reviewed(
    database: Database,
    said: Sequence[tuple[Decision, float | None]],
    *,
    tenant: str = DEFAULT_TENANT,
    calibration_id: str = OURS,
    at: datetime | None = None,
    media_sha256: str | None = None,
    noted: bool = True,
) -> None:
    """That many analyses of as many videos (or of one), each decided so, of those reaches; `noted`: None is for nothing judged."""
    rows: list[ReviewRow | ReviewItemRow] = []
    for n, (decision, reach) in enumerate(said):
        analysis_id = new_id()
        rows.append(
            ReviewItemRow(analysis_id=analysis_id, tenant=tenant, stage="done", outcome=decision, reviews=1, first_by="ann", skips=0)
        )
        rows.append(
            ReviewRow(
                id=new_id(),
                tenant=tenant,
                analysis_id=analysis_id,
                n=1,
                role="first",
                at=at or now(),
                reviewer="ann",
                reviewer_name="Ann",
                decision=decision,
                reason="visible_traces",
                open_s=1.0,
                waited_s=1.0,
                verdict="no_evidence",
                p=reach if noted else 0.5,
                reach=reach,
                calibration_id=calibration_id,
                weights_sha256="0" * 64,
                media_sha256=media_sha256 or f"{calibration_id}-{analysis_id}-{n}"[:64],
            )
        )
    async with database.sessions.begin() as session:
        session.add_all(rows)


async def test_a_proposal_counted_by_hand(url: URL) -> None:
    """A hundred as filmed with reaches from .001 to .1 and a few fakes; what says nothing is left out, and told."""
    database = await Database.open(url)
    films = partial(reviewed, database, tenant="films")
    await films([("genuine", n / 1000) for n in range(1, 101)])
    await films([("manipulated", reach) for reach in (0.02, 0.5, 0.9)])
    await films([("unsure", 0.99), ("unsure", None)])
    await films([("genuine", None), ("manipulated", None)])
    await films([("genuine", None)], noted=False)  # reviewed before its reach was noted
    await films([("genuine", 0.99)], calibration_id="2-0")
    await reviewed(database, [("genuine", 0.99)] * 3, tenant="others")
    same = "c" * 64  # uploaded three times, and last found to be as filmed
    await films([("manipulated", 0.001), ("manipulated", 0.001), ("genuine", 0.1005)], media_sha256=same)
    rows = ReviewThresholds(database)

    async def asked(fpr: float, since: datetime | None = None, present: float = 0.8) -> Proposal:
        return await rows.of("films", OURS, present, fpr, since)

    found = await asked(0.05)
    assert (found.genuine, found.manipulated, found.needed, found.why_not) == (101, 3, 59, None)
    assert (found.left_out.unsure, found.left_out.incomparable) == (2, 2)
    assert (found.left_out.not_judged, found.left_out.repeated) == (2, 2)
    assert (found.present.false_positives.k, found.present.misses.k) == (0, 2)
    assert found.proposed is not None
    # of 101 five may be accused: .1005, .1, .099, .098 and .097, so the next, .096, is the one to be spared
    assert found.proposed.threshold == pytest.approx(probability(log_odds(0.096) + ABOVE)) and 0.096 < found.proposed.threshold < 0.097
    assert (found.proposed.false_positives.k, found.proposed.false_positives.n) == (5, 101)
    assert (found.proposed.misses.k, found.proposed.misses.n) == (1, 3)
    assert found.proposed.false_positives.low == pytest.approx(0.02135, abs=1e-4)  # Wilson
    assert found.proposed.false_positives.high == pytest.approx(0.11072, abs=1e-4)
    assert [point.threshold for point in found.curve] == sorted(point.threshold for point in found.curve)
    assert (found.curve[0].false_positives, found.curve[0].misses) == (101, 0)
    assert (found.curve[-1].false_positives, found.curve[-1].misses) == (0, 3)
    few = await asked(0.01)
    assert (few.proposed, few.why_not, few.needed, few.present.threshold) == (None, "too_few", 299, 0.8)
    assert (await asked(0.05, since=now() + timedelta(minutes=1))).genuine == 0
    assert (await asked(0.05, since=now() - timedelta(minutes=9))).genuine == 101
    await films([("genuine", 1.0)] * 8)
    assert (await asked(0.05)).why_not == "nothing_above"
    await database.close()


def test_the_rule_of_three() -> None:
    for fpr in (0.0001, 0.01, 0.05, 0.3, 0.5):
        n = needed(fpr)
        assert (1 - fpr) ** n <= 0.05 < (1 - fpr) ** (n - 1)
        assert n <= 3 / fpr


async def test_a_review_keeps_how_far_its_analysis_reached(url: URL) -> None:
    """What was said last counts, once it stands; the analysis may be gone by then."""
    rows = [ended(n) for n in range(3)]
    for n, row in enumerate(rows):
        row.reach, row.sha256 = 0.3 + n / 10, str(n) * 64
    desk = await Desk.open(url, *rows)
    await desk.say(rows[0], ANN, FAKE)
    await desk.say(rows[0], LEAD, REAL)
    await desk.say(rows[1], ANN, FAKE, second=True)  # waits for a second word
    await desk.say(rows[2], ANN, FAKE)
    await desk.database.remove(rows[0].id)
    found = await ReviewThresholds(desk.database).of("films", OURS, 0.35, 0.5, None)
    assert (found.genuine, found.manipulated) == (1, 1)
    assert (found.present.false_positives.k, found.present.misses.k) == (0, 0)
    assert (await ReviewThresholds(desk.database).of("films", OURS, 0.3, 0.5, None)).present.false_positives.k == 1
    await desk.database.close()


async def test_versions_only_grow_and_two_leads_do_not_overwrite_each_other(url: URL) -> None:
    database = await Database.open(url)
    rows = ThresholdRows(database)
    assert await rows.in_force("films", OURS) == SHIPPED
    half = Choice(0.5, 0.01)
    told = await asyncio.gather(*(rows.write("films", OURS, LEAD, half, f"{n}", after=0) for n in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in told) == ["Threshold", *["ThresholdChanged"] * 3]
    with pytest.raises(ThresholdChanged, match="Read it again"):
        await rows.write("films", OURS, LEAD, half, "late", after=0)
    await rows.write("films", OURS, LEAD, None, "as it came", after=1)
    assert [(one.version, one.choice, one.author) for one in await rows.page("films", OURS, limit=9)] == [
        (2, None, "Lea"),
        (1, half, "Lea"),
    ]
    assert [one.version for one in await rows.page("films", OURS, before=2, limit=9)] == [1]
    for tenant, calibration_id in (("films", "4-0"), ("others", OURS)):
        assert await rows.in_force(tenant, calibration_id) == SHIPPED
    for statement in ("UPDATE thresholds SET threshold = 0.1", "DELETE FROM thresholds"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.sessions.begin() as session:
                await session.execute(text(statement))
    for choice in (Choice(1.0, 0.01), Choice(math.nan, 0.01)):
        with pytest.raises((IntegrityError, ThresholdChanged)):
            await rows.write("films", OURS, LEAD, choice, "no", after=2)
    assert [row.action for row in await AuditRows(database).page("films", before=None, limit=9)] == ["threshold.changed"] * 2
    await database.close()


async def test_what_an_analysis_is_judged_by_is_decided_once(url: URL) -> None:
    database = await Database.open(url)
    rows = ThresholdRows(database)
    early, late, other = ended(0), ended(1), ended(2, tenant="others")
    for row in (early, late, other):
        await database.add(row)
    assert await rows.decide(early.id, OURS) == SHIPPED
    first = await rows.write("films", OURS, LEAD, Choice(0.5, 0.01), "a", after=0)
    assert set(await asyncio.gather(*(rows.decide(late.id, OURS) for _ in range(6)))) == {first}
    await rows.write("films", OURS, LEAD, Choice(0.6, 0.01), "b", after=1)
    assert (await rows.decide(early.id, OURS), await rows.decide(late.id, OURS)) == (SHIPPED, first)
    assert await rows.decide(other.id, OURS) == SHIPPED
    assert await rows.decide(late.id, "4-0") == SHIPPED, "other weights go on with it, and none of theirs is confirmed"
    kept = await database.get(late.id)
    assert kept is not None and (kept.calibration_id, kept.threshold_version) == ("4-0", 0)
    assert await rows.decide(new_id(), OURS) is None
    await database.close()


def confirm(client: httpx.Client, threshold: float | None, headers: dict[str, str] | None = None) -> dict[str, object]:
    """Put it in force."""
    tag = client.get("/v1/thresholds", headers=headers).raise_for_status().headers["ETag"]
    body = {"threshold": threshold, "target_fpr": None if threshold is None else 0.05, "note": "because"}
    answer = client.put("/v1/thresholds", json=body, headers={**(headers or {}), "If-Match": tag})
    told: dict[str, object] = answer.raise_for_status().json()
    return told


def test_thresholds_over_the_wire(serve: Serve, tmp_path: Path, model: Model) -> None:
    settings = Settings(data_dir=tmp_path / "data", min_free_bytes=0, device="cpu", require_keys=True)
    ann, bea = bearer(made(settings, "reviews", tenant="f")), bearer(made(settings, "reviews", tenant="g"))
    lead = bearer(made(settings, "reviews", "reviews:lead", tenant="f"))
    nobody = bearer(made(settings, "analyses:read", tenant="f"))
    with serve(settings) as client:
        first = client.get("/v1/thresholds", headers=ann)
        tag = {"If-Match": first.headers["ETag"]}
        shipped = model.calibrator.shipped
        assert (first.json()["version"], first.json()["shipped"], first.json()["at"]) == (0, True, None)
        assert (first.json()["threshold"], first.json()["target_fpr"]) == (shipped.p, shipped.target_fpr)
        assert client.get("/v1/thresholds", headers=ann | {"If-None-Match": first.headers["ETag"]}).status_code == 304
        assert_problem(client.get("/v1/thresholds", headers=nobody), 403, "not-permitted")
        new = {"threshold": 0.25, "target_fpr": 0.05, "note": "<b>reviewed</b>"}
        assert_problem(client.put("/v1/thresholds", json=new, headers=ann | tag), 403, "not-permitted")
        assert_problem(client.put("/v1/thresholds", json=new, headers=lead), 428, "if-match-needed")
        assert_problem(client.put("/v1/thresholds", json=new, headers=lead | {"If-Match": '"no"'}), 412, "threshold-changed")
        for field, values in {
            "threshold": (0, 1, 0.0, 1.0, -0.5, 2, "0.5", True, [0.5], None),
            "target_fpr": (0, 0.51, 1, "0.01", None),
            "note": ("", " \n", "a\0b", "x" * 4001, None),
        }.items():
            for value in values:
                assert client.put("/v1/thresholds", json={**new, field: value}, headers=lead | tag).status_code == 422, (field, value)
        for odd in ("NaN", "Infinity", "1e999"):
            body = f'{{"threshold": {odd}, "target_fpr": 0.05, "note": "x"}}'
            answer = client.put("/v1/thresholds", content=body, headers=lead | tag | {"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), (odd, answer.text)
        kept = client.put("/v1/thresholds", json=new, headers=lead | tag)
        assert kept.status_code == 200 and (kept.json()["version"], kept.json()["threshold"], kept.json()["note"]) == (1, 0.25, new["note"])
        again = client.get("/v1/thresholds", headers=ann)
        assert again.json() == kept.json() and again.headers["ETag"] == kept.headers["ETag"]
        assert client.get("/v1/thresholds", headers=bea).json()["version"] == 0
        assert_problem(client.put("/v1/thresholds", json=new, headers=lead | tag), 412, "threshold-changed")
        back = confirm(client, None, lead)
        assert (back["version"], back["shipped"], back["threshold"]) == (2, True, shipped.p)
        page = client.get("/v1/thresholds/versions?limit=2", headers=ann).json()
        assert [one["version"] for one in page["items"]] == [2, 1]
        rest = client.get(f"/v1/thresholds/versions?limit=2&cursor={page['next']}", headers=ann).json()
        assert [one["version"] for one in rest["items"]] == [0] and rest["next"] is None
        whole = client.get("/v1/thresholds/versions?limit=3", headers=ann).json()
        assert [one["version"] for one in whole["items"]] == [2, 1, 0] and whole["next"] is None
        assert [one["version"] for one in client.get("/v1/thresholds/versions", headers=bea).json()["items"]] == [0]
        assert_problem(client.get("/v1/thresholds/versions?cursor=x", headers=ann), 422, "bad-cursor")
        assert_problem(client.get("/v1/reviews/thresholds", headers=ann), 403, "not-permitted")
        told = client.get("/v1/reviews/thresholds", headers=lead).json()
        assert (told["genuine"], told["needed"], told["proposed"], told["present_version"]) == (0, 299, None, 2)
        assert (
            "too few" in told["reason"] and told["present"]["threshold"] == shipped.p and told["calibration_id"] == back["calibration_id"]
        )
        for bad in ("fpr=0", "fpr=nan", "fpr=0.6", "fpr=x", "since=2026-01-01", "since=0001-01-01T00:00:00Z"):
            assert client.get(f"/v1/reviews/thresholds?{bad}", headers=lead).status_code == 422, bad


def test_what_begins_after_it_was_confirmed_is_judged_by_it(serve: Serve, settings: Settings, clip: Path, model: Model) -> None:
    """The same bytes get another word; the scores do not move, and whoever judges the pack again gets the same."""
    with serve(settings) as client:
        before = upload(client, clip, wait_s=60).json()["result"]
        assert (before["threshold"], before["threshold_version"]) == (model.calibrator.shipped.p, 0)
        p = before["score"]["p"]
        moved = p * 0.5 if before["verdict"] != "manipulated" else 1 - (1 - p) * 0.01
        assert confirm(client, moved)["version"] == 1
        raw = {"Content-Type": "video/mp4", "Prefer": "wait=60"}
        answer = client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers=raw)
        path, after = answer.headers["Location"], answer.json()["result"]
        assert (after["threshold"], after["threshold_version"], after["target_fpr"]) == (moved, 1, 0.05)
        assert (before["verdict"] == "manipulated") != (after["verdict"] == "manipulated")
        assert after["score"] == before["score"] and [one["score"] for one in after["tracks"]] == [one["score"] for one in before["tracks"]]
        same = client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers=raw)
        assert same.headers["Location"] == path, "judged in the same way, so it is not judged again"
        shown = client.get(f"{path}/timeline").json()
        assert shown["threshold"] == moved
        packed = check_pack(io.BytesIO(client.get(f"{path}/report?format=zip").content))
        confirm(client, None)
        third = client.post("/v1/analyses?dedupe=true", content=clip.read_bytes(), headers=raw).json()["result"]
        assert (third["verdict"], third["threshold"], third["threshold_version"]) == (before["verdict"], before["threshold"], 2)
    assert (packed.contents.config.threshold, packed.contents.config.threshold_version) == (moved, 1)
    assert "the same" in judge_again(packed.contents, clip, model)
    shipped = replace(packed.contents, config=packed.contents.config.model_copy(update={"threshold_version": 0}))
    with pytest.raises(PackRefused, match="another verdict"):
        judge_again(shipped, clip, model)
    odd = replace(packed.contents, config=packed.contents.config.model_copy(update={"threshold": 1.5}))
    with pytest.raises(PackRefused, match="Its threshold is none"):
        judge_again(odd, clip, model)


def test_who_takes_it_over_judges_by_what_it_began_with(tmp_path: Path, minute: Path, model: Model) -> None:
    """Confirmed, begun, killed; meanwhile another is confirmed. It ends by the first."""
    with serving(tmp_path, **QUICK) as first:
        first.client.get("/readyz").raise_for_status()
        confirm(first.client, 0.25)
        path = upload(first.client, minute).headers["Location"]
        wait_for(lambda: bookmarks(tmp_path / "data", path) >= 2)
        confirm(first.client, 0.75)
        first.process.kill()
        first.process.wait()
    with serving(tmp_path, **QUICK) as second:
        result = until(second.client, path, "succeeded", "failed")["result"]
        assert (result["threshold"], result["threshold_version"]) == (0.25, 1)
        again = upload(second.client, minute, wait_s=60).json()["result"]
        assert (again["threshold"], again["threshold_version"]) == (0.75, 2)

    async def reach() -> float | None:
        database = await Database.open(database_url(Settings(data_dir=tmp_path / "data")))
        row = await database.get(path.rpartition("/")[2])
        await database.close()
        assert row is not None
        return row.reach

    found = analyse(minute, model, hz=4.0).verdict
    assert asyncio.run(reach()) == pytest.approx(found.reach) and found.reach is not None
