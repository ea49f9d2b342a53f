"""The reviewers' desk: one analysis to one reviewer, what was said stays, and a second opinion is given without knowing the first."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from pipelines.verdict import VerdictName
from service.audit_rows import AuditRows
from service.connection import database_url
from service.cursors import write_place
from service.database import AnalysisRow, Database, now
from service.ids import new_id
from service.problems import UnknownAnalysis
from service.review_log_rows import ReviewLog
from service.review_queue import ReviewQueue, Sort, Wanted
from service.review_rows import AlreadyReviewed, Decision, ReviewItemRow, ReviewLocked, ReviewNotHeld, ReviewRows, Said, Shown
from service.reviewer import Reviewer
from service.settings import ReviewTerms, Settings
from tests.postgres import Cluster
from tests.service.conftest import Serve, assert_problem
from tests.service.test_keys import bearer, made

ANN, BOB, LEAD = Reviewer("ann", "Ann", False, "1"), Reviewer("bob", "Bob", False, "2"), Reviewer("lea", "Lea", True, "3")
SHOWN = Shown("3-0", "0" * 64)
FAKE, REAL, UNSURE = (Said(word, "visible_traces", None) for word in ("manipulated", "genuine", "unsure"))
SKIP = Said(None, "needs_time", None)
DUE = Wanted(("manipulated", "inconclusive"))


def ended(n: int, *, tenant: str = "films", verdict: VerdictName = "manipulated", severity: float = 0.5) -> AnalysisRow:
    """An analysis that ended a while ago; a higher `n` is younger."""
    moment = now() - timedelta(hours=9 - n / 10)
    return AnalysisRow(
        id=new_id(int(moment.timestamp() * 1e9)),
        tenant=tenant,
        status="succeeded",
        verdict=verdict,
        p=0.9,
        severity=severity,
        filename=f"{n}.mp4",
        media_type="video/mp4",
        size_bytes=1,
        sha256="1" * 64,
        created_at=moment,
        finished_at=moment,
    )


class Desk:
    """A database with analyses, oldest first."""

    def __init__(self, database: Database, rows: list[AnalysisRow], lease_s: float) -> None:
        self.database, self.rows = database, rows
        self.reviews = ReviewRows(database, lease_s)
        self.queue = ReviewQueue(database, self.reviews)

    @classmethod
    async def open(cls, url: URL, *rows: AnalysisRow, lease_s: float = 300) -> Desk:
        database = await Database.open(url)
        for row in rows:
            await database.add(row)
        return cls(database, list(rows), lease_s)

    async def say(self, row: AnalysisRow, reviewer: Reviewer, said: Said, *, second: bool = False) -> None:
        await self.reviews.lock(row, reviewer)
        await self.reviews.say(row, reviewer, said, SHOWN, second=second)

    async def item(self, row: AnalysisRow) -> ReviewItemRow:
        return (await self.reviews.get(row))[0]

    async def names(self, wanted: Wanted = DUE, tenant: str = "films") -> list[str | None]:
        return [queued.analysis.filename for queued in await self.queue.page(tenant, wanted, after=None, limit=99)]


async def test_the_database_keeps_what_was_said(url: URL) -> None:
    desk = await Desk.open(url, ended(0))
    await desk.say(desk.rows[0], ANN, FAKE)
    for statement in ("UPDATE reviews SET tenant = 'others'", "DELETE FROM reviews"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with desk.database.sessions.begin() as session:
                await session.execute(text(statement))
    async with desk.database.sessions() as session:
        assert await session.scalar(text("SELECT count(*) FROM reviews WHERE tenant = 'films'")) == 1
    await desk.database.close()


async def test_an_analysis_is_one_reviewers_until_its_lease_ends(url: URL) -> None:
    desk = await Desk.open(url, ended(0))
    (row,) = desk.rows
    first = await desk.reviews.lock(row, ANN)
    again = await desk.reviews.lock(row, ANN)
    assert first.held_until and again.held_until and again.held_until > first.held_until and again.held_since == first.held_since
    with pytest.raises(ReviewLocked, match="got Ann, until 2"):
        await desk.reviews.lock(row, BOB)
    with pytest.raises(ReviewNotHeld, match="got Ann, until 2"):
        await desk.reviews.say(row, BOB, FAKE, SHOWN, second=False)
    await desk.reviews.give_back(row, BOB)  # not his to give
    assert (await desk.item(row)).holder == "ann"
    async with desk.database.sessions.begin() as session:
        await session.execute(update(ReviewItemRow).values(held_until=now() - timedelta(seconds=1)))
    with pytest.raises(ReviewNotHeld, match="got one that nobody has open"):
        await desk.reviews.say(row, ANN, FAKE, SHOWN, second=False)
    await desk.reviews.lock(row, BOB)
    await desk.reviews.lock(row, LEAD, take_over=True)
    with pytest.raises(ReviewNotHeld, match="got Lea"):
        await desk.reviews.say(row, BOB, FAKE, SHOWN, second=False)
    await desk.reviews.give_back(row, LEAD)
    assert not (await desk.item(row)).held and (await desk.reviews.get(row))[1] == []
    told = [(line.action, line.key_id) for line in await AuditRows(desk.database).page("films", before=None, limit=9)]
    assert told == [("review.given_back", "3"), ("review.taken_over", "3"), ("review.opened", "2"), ("review.opened", "1")]
    await desk.database.close()


async def test_a_double_click_is_one_decision_and_another_word_corrects_it(url: URL) -> None:
    desk = await Desk.open(url, ended(0))
    (row,) = desk.rows
    await desk.reviews.lock(row, ANN)
    both = await asyncio.gather(*(desk.reviews.say(row, ANN, FAKE, SHOWN, second=False) for _ in range(2)))
    assert sorted(new for _, new in both) == [False, True] and both[0][0].id == both[1][0].id
    await desk.say(row, ANN, REAL)
    item, reviews = await desk.reviews.get(row)
    assert (item.stage, item.outcome, [(one.n, one.role, one.decision) for one in reviews]) == (
        "done",
        "genuine",
        [(1, "first", "manipulated"), (2, "first", "genuine")],
    )
    with pytest.raises(AlreadyReviewed, match="got genuine, by Ann at 2"):
        await desk.reviews.lock(row, BOB)
    await desk.say(row, LEAD, FAKE)
    item, reviews = await desk.reviews.get(row)
    assert (item.outcome, reviews[-1].role) == ("manipulated", "ruling")
    with pytest.raises(AlreadyReviewed, match="got manipulated, by Lea"):
        await desk.reviews.lock(row, ANN)
    await desk.database.close()


async def test_of_two_who_decide_at_once_one_does(url: URL) -> None:
    desk = await Desk.open(url, ended(0))
    (row,) = desk.rows

    async def decide(reviewer: Reviewer) -> None:
        await desk.say(row, reviewer, FAKE)

    ways = await asyncio.gather(decide(ANN), decide(BOB), return_exceptions=True)
    (refused,) = (way for way in ways if way is not None)
    assert isinstance(refused, ReviewLocked | AlreadyReviewed)
    assert len((await desk.reviews.get(row))[1]) == 1
    await desk.database.close()


@pytest.mark.parametrize(("second", "stage", "outcome"), [(FAKE, "done", "manipulated"), (REAL, "ruling", None), (UNSURE, "ruling", None)])
async def test_a_second_reviewer_does_not_see_the_first(url: URL, second: Said, stage: str, outcome: Decision | None) -> None:
    desk = await Desk.open(url, ended(0))
    (row,) = desk.rows
    await desk.say(row, ANN, FAKE, second=True)
    item, (first,) = await desk.reviews.get(row)
    assert (item.stage, item.outcome) == ("second", None)
    assert not item.seals(first, "ann") and item.seals(first, "bob") and item.seals(first, "lea")
    assert await desk.queue.take(ANN, "films", DUE) is None
    taken = await desk.queue.take(BOB, "films", DUE)
    assert taken is not None and taken.analysis.id == row.id
    await desk.reviews.say(row, BOB, second, SHOWN, second=True)
    item, reviews = await desk.reviews.get(row)
    assert (item.stage, item.outcome, [one.role for one in reviews]) == (stage, outcome, ["first", "second"])
    assert not any(item.seals(one, reader) for one in reviews for reader in ("ann", "bob", "x"))
    if stage == "ruling":
        with pytest.raises(AlreadyReviewed, match="Expected a lead"):
            await desk.reviews.lock(row, ANN)
        await desk.say(row, LEAD, second)
        assert (await desk.item(row)).outcome == second.decision
    await desk.database.close()


async def test_what_was_skipped_goes_to_the_end_and_not_to_the_same_reviewer(url: URL) -> None:
    desk = await Desk.open(url, *(ended(n) for n in range(3)))
    await desk.say(desk.rows[0], ANN, SKIP)
    assert await desk.names() == ["1.mp4", "2.mp4", "0.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, ("skipped",))) == ["0.mp4"]
    for name in ("1.mp4", "2.mp4", None):
        taken = await desk.queue.take(ANN, "films", DUE)
        assert (taken and taken.analysis.filename) == name
        if taken:
            await desk.reviews.say(taken.analysis, ANN, FAKE, SHOWN, second=False)
    taken = await desk.queue.take(BOB, "films", DUE)
    assert taken is not None and taken.analysis.filename == "0.mp4"
    _, (skip,) = await desk.reviews.get(desk.rows[0])
    assert (skip.role, skip.decision, skip.reason) == ("skip", None, "needs_time")
    await desk.database.close()


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("oldest", ["0.mp4", "1.mp4", "2.mp4", "4.mp4", "3.mp4"]),
        ("newest", ["4.mp4", "2.mp4", "1.mp4", "0.mp4", "3.mp4"]),
        ("severity", ["1.mp4", "0.mp4", "2.mp4", "4.mp4", "3.mp4"]),
    ],
)
async def test_pages_of_every_order_leave_nothing_out(url: URL, sort: Sort, names: list[str]) -> None:
    rows = [ended(n, severity=0.9 if n in (1, 3) else 0.2) for n in range(5)]
    desk = await Desk.open(url, *rows, ended(5, verdict="no_evidence"), ended(6, tenant="others"))
    await desk.say(rows[3], ANN, SKIP)
    wanted, after, seen = Wanted(DUE.verdicts, sort=sort), None, []
    while page := await desk.queue.page("films", wanted, after=after, limit=2):
        seen += [queued.analysis.filename for queued in page]
        after = page[-1].keys
    assert seen == names
    await desk.database.close()


async def test_filters(url: URL) -> None:
    desk = await Desk.open(url, ended(0, severity=0.1), ended(1, verdict="inconclusive"), ended(2, verdict="no_evidence"), ended(89))
    await desk.reviews.lock(desk.rows[1], ANN)
    await desk.say(desk.rows[2], ANN, REAL)
    assert await desk.names() == ["0.mp4", "1.mp4", "89.mp4"]
    assert await desk.names(Wanted(("inconclusive",), also_reviewed=False)) == ["1.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, ("locked",))) == ["1.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, ("decided",))) == ["2.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, ("open", "decided"))) == ["0.mp4", "2.mp4", "89.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, min_severity=0.4)) == ["1.mp4", "89.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, older_than_s=3600)) == ["0.mp4", "1.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, younger_than_s=3600)) == ["89.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, text="9.MP")) == ["89.mp4"]
    assert await desk.names(Wanted(DUE.verdicts, text="\0")) == []
    assert await desk.names(Wanted(DUE.verdicts, media_type="video/webm")) == []
    assert await desk.names(Wanted(DUE.verdicts, min_p=0.95)) == []
    assert await desk.names(tenant="others") == []
    await desk.database.close()


async def test_a_deleted_analysis_is_no_longer_to_be_reviewed_and_what_was_said_stays(url: URL) -> None:
    desk = await Desk.open(url, ended(0), ended(1))
    await desk.say(desk.rows[0], ANN, FAKE)
    await desk.reviews.lock(desk.rows[1], ANN)
    for row in desk.rows:
        await desk.database.remove(row.id)
    with pytest.raises(UnknownAnalysis):
        await desk.reviews.say(desk.rows[1], ANN, FAKE, SHOWN, second=False)
    assert await desk.queue.take(ANN, "films", DUE) is None and await desk.names() == []
    assert [one.decision for one in (await desk.reviews.get(desk.rows[0]))[1]] == ["manipulated"]
    await desk.database.close()


async def test_eight_reviewers_are_given_eight_analyses(url: URL) -> None:
    """With connections of their own, as replicas have."""
    desk = await Desk.open(url, *(ended(n) for n in range(8)))
    replicas = [await Database.open(url) for _ in range(8)]

    async def take(n: int) -> str | None:
        queue = ReviewQueue(replicas[n], ReviewRows(replicas[n], 300))
        taken = await queue.take(Reviewer(f"r{n}", f"R{n}", False, "1"), "films", DUE)
        return None if taken is None else taken.analysis.id

    taken = await asyncio.gather(*(take(n) for n in range(8)))
    assert set(taken) == {row.id for row in desk.rows}
    assert await desk.queue.take(Reviewer("r8", "R8", False, "1"), "films", DUE) is None
    again = await desk.queue.take(Reviewer("r0", "R0", False, "1"), "films", DUE)
    assert again is not None and again.analysis.id == taken[0]
    for database in (desk.database, *replicas):
        await database.close()


async def test_the_log_of_reviews_seals_what_awaits_a_second_decision(url: URL) -> None:
    desk = await Desk.open(url, *(ended(n) for n in range(3)), ended(8, tenant="others"))
    log = ReviewLog(desk.database)

    async def names(reader: Reviewer, *, mine: bool = False, tenant: str = "films") -> list[tuple[str | None, str]]:
        return [(one.filename, one.review.role) for one in await log.page(tenant, reader, mine=mine, before=None, limit=9)]

    await desk.say(desk.rows[0], ANN, FAKE, second=True)
    await desk.say(desk.rows[1], ANN, SKIP)
    await desk.say(desk.rows[2], BOB, REAL)
    await desk.say(desk.rows[3], ANN, FAKE)
    assert await names(ANN) == [("2.mp4", "first"), ("1.mp4", "skip"), ("0.mp4", "first")]
    assert await names(BOB) == await names(LEAD) == [("2.mp4", "first"), ("1.mp4", "skip")]
    assert await names(ANN, mine=True) == [("1.mp4", "skip"), ("0.mp4", "first")]
    assert await names(ANN, tenant="others") == [("8.mp4", "first")]
    await desk.say(desk.rows[0], BOB, REAL, second=True)
    assert await names(LEAD) == [("0.mp4", "second"), ("2.mp4", "first"), ("1.mp4", "skip"), ("0.mp4", "first")]
    await desk.database.remove(desk.rows[1].id)
    assert (None, "skip") in await names(LEAD)
    await desk.database.close()


async def test_the_whole_log_comes_in_batches_that_leave_nothing_out(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.review_log_rows.AT_ONCE", 2)
    desk = await Desk.open(url, *(ended(n) for n in range(5)))
    for row in desk.rows:
        await desk.say(row, ANN, FAKE)
    batches = [batch async for batch in ReviewLog(desk.database).all("films", BOB, mine=False, before=None)]
    assert [[one.filename for one in batch] for batch in batches] == [["4.mp4", "3.mp4"], ["2.mp4", "1.mp4"], ["0.mp4"]]
    await desk.database.close()


def test_a_spreadsheet_runs_nothing_of_what_people_wrote(serve: Serve, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", min_free_bytes=0, device="cpu", require_keys=True)
    reader = bearer(made(settings, "reviews", tenant="films"))
    other, nobody = bearer(made(settings, "reviews", tenant="others")), bearer(made(settings, "analyses:read", tenant="films"))
    formulas = ('=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1")
    notes = (*formulas, 'plain, with a "quote"\nand a line', None)

    async def write() -> None:
        rows = [ended(n) for n in range(len(notes))]
        for row in rows:
            row.filename = "=cmd.mp4"
        desk = await Desk.open(database_url(settings), *rows)
        for row, note in zip(rows, notes, strict=True):
            await desk.say(row, Reviewer("ann", "@Ann", False, "1"), Said("manipulated", "visible_traces", note))
        await desk.database.close()

    with serve(settings) as client:
        asyncio.run(write())
        told = client.get("/v1/reviews", params={"format": "csv"}, headers=reader)
        assert told.headers["Content-Type"] == "text/csv; charset=utf-8" and "attachment" in told.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(told.text, newline="")))
        assert [row["note"] for row in reversed(rows)] == [*(f"'{note}" for note in formulas), notes[-2], ""]
        assert {(row["reviewer"], row["filename"], row["decision"]) for row in rows} == {("'@Ann", "'=cmd.mp4", "manipulated")}
        first = client.get("/v1/reviews?limit=5", headers=reader)
        rest = client.get(first.links["next"]["url"], headers=reader).json()
        assert [one["note"] for one in reversed([*first.json()["items"], *rest["items"]])] == list(notes) and rest["next"] is None
        assert client.get("/v1/reviews?limit=5", headers={**reader, "If-None-Match": first.headers["ETag"]}).status_code == 304
        assert client.get("/v1/reviews?mine=true", headers=reader).json()["items"] == []
        assert client.get("/v1/reviews", headers=other).json()["items"] == []
        assert len(client.get("/v1/reviews?format=csv", headers=other).text.splitlines()) == 1
        assert_problem(client.get("/v1/reviews", headers=nobody), 403, "not-permitted")
        assert_problem(client.get("/v1/reviews?cursor=nonsense", headers=reader), 422, "bad-cursor")


def test_two_people_decide_over_the_wire_and_a_pack_tells_of_it(serve: Serve, clip: Path, tmp_path: Path) -> None:
    """The second is told nothing of the first before his own word is in; another tenant does not know of the analysis."""
    settings = Settings(
        data_dir=tmp_path / "data",
        min_free_bytes=0,
        hz=4.0,
        device="cpu",
        require_keys=True,
        reviews=ReviewTerms(verdicts=("manipulated", "inconclusive", "no_evidence"), second_share=1.0),
    )
    keys = {name: bearer(made(settings, "reviews", "analyses:read", "analyses:write", tenant=name[0])) for name in ("f-ann", "f-bob", "g")}
    lead = bearer(made(settings, "reviews", "reviews:lead", "analyses:read", tenant="f"))
    with serve(settings) as client, clip.open("rb") as file:
        sent = client.post("/v1/analyses", files={"file": ("a.mp4", file)}, headers={**keys["f-ann"], "Prefer": "wait=60"})
        path = f"/v1/analyses/{sent.json()['id']}"
        assert client.post("/v1/reviews/next", headers=keys["g"]).status_code == 204
        assert_problem(client.get(f"{path}/reviews", headers=keys["g"]), 404, "analysis-not-found")
        said = {"decision": "manipulated", "reason": "visible_traces", "note": "<script>alert(1)</script>"}
        assert_problem(client.post(f"{path}/reviews", json=said, headers=keys["f-ann"]), 409, "review-not-held")
        opened = client.post("/v1/reviews/next", headers=keys["f-ann"]).json()
        assert opened["analysis"]["id"] == sent.json()["id"] and opened["lock"]["mine"]
        assert_problem(client.post(f"{path}/review-lock", headers=keys["f-bob"]), 409, "review-locked")
        assert_problem(client.post(f"{path}/review-lock?take_over=true", headers=keys["f-bob"]), 403, "not-permitted")
        assert client.post(f"{path}/reviews", json=said, headers=keys["f-ann"]).status_code == 201
        assert client.post(f"{path}/reviews", json=said, headers=keys["f-ann"]).status_code == 200
        for blind in (f"{path}/reviews", "/v1/reviews/queue", f"{path}/report"):
            assert "alert(1)" not in client.get(blind, headers=keys["f-bob"]).text
        assert client.get(f"{path}/reviews", headers=lead).json()["sealed"] == 1
        assert client.post("/v1/reviews/next", headers=keys["f-bob"]).json()["waits_for"] == "second"
        other = {"decision": "unsure", "reason": "too_little_to_see"}
        assert client.post(f"{path}/reviews", json=other, headers=keys["f-bob"]).status_code == 201
        told = client.get(f"{path}/reviews", headers=keys["f-bob"]).json()
        assert [one["decision"] for one in told["reviews"]] == ["manipulated", "unsure"] and told["item"]["state"] == "disputed"
        assert client.post(f"{path}/review-lock", headers=lead).status_code == 200
        assert client.post(f"{path}/reviews", json=other, headers=lead).json()["role"] == "ruling"
        assert client.get(f"{path}/reviews", headers=lead).json()["item"]["outcome"] == "unsure"
        page = client.get(f"{path}/report", headers=lead).text
        assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_forged_place_in_the_queue_is_refused(serve: Serve, settings: Settings, request: pytest.FixtureRequest, kind: str) -> None:
    if kind == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgres")
        settings = settings.model_copy(update={"database_url": SecretStr(cluster.create())})
    forged: list[tuple[Sort, list[str | int | float]]] = [
        ("oldest", ["\ud800"]),
        ("oldest", ["a\0b"]),
        ("oldest", ["\udfff" * 9]),
        ("newest", [0, "\udc80"]),
        ("newest", [2**63, "a"]),
        ("severity", [0, float("nan"), "a"]),
        ("severity", [0, 1.5, "\ud83d"]),
    ]
    with serve(settings) as client:
        for sort, keys in forged:
            answer = client.get("/v1/reviews/queue", params={"sort": sort, "cursor": write_place(sort, keys)})
            assert_problem(answer, 422, "bad-cursor")
        assert client.get("/v1/reviews/queue", params={"cursor": write_place("oldest", ["\U0001f600"])}).status_code == 200
