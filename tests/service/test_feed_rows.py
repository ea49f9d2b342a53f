"""Rows of feeds, on SQLite and on PostgreSQL: one watches, numbers are used once, what is deleted takes its alerts along."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import SessionTransaction

from service.database import Database, now
from service.feed_rows import BLOCK, AlertRow, FeedRow, FeedRows
from service.ids import new_id


def feed(n: int = 0, **values: object) -> FeedRow:
    facts = {"url": "rtsp://user:hunter2@host/", "rule": "{}", "paused": False, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    return FeedRow(**{"id": new_id(n * 1_000_000), "request_sha256": "0" * 64, **facts, **values})


def alert(feed_id: str, **values: object) -> AlertRow:
    facts = {"session_id": "s", "track": 1, "base_numerator": 1, "base_denominator": 90_000, "began_pts": 2**40, "last_pts": 2**40}
    more = {"peak_pts": 2**40, "peak": 0.9, "longest_s": 0.1, "told_at": now(), "still_bytes": 0, "clip_bytes": 0}
    return AlertRow(**{"feed_id": feed_id, "n": 0, **facts, **more, **values})


async def test_one_of_two_watches(database: Database) -> None:
    rows = FeedRows(database, alone=False)
    one = feed()
    await rows.add(one)
    assert await rows.take(one.id, "a") is not None and await rows.take(one.id, "b") is None
    assert await rows.renew(one.id, "b", 5) is None
    renewed = await rows.renew(one.id, "a", 5)
    assert renewed is not None and renewed.event_seq == 5 + BLOCK
    await rows.release(one.id, "b", 0)
    await rows.release(one.id, "a", 7)
    taken = await rows.take(one.id, "b")
    assert taken is not None and taken.event_seq == 7, "numbers go on"


async def test_what_a_dead_one_held_is_taken_when_its_lease_is_over(database: Database) -> None:
    rows = FeedRows(database, alone=False)
    one = feed()
    await rows.add(one)
    await rows.take(one.id, "dead")
    await rows.renew(one.id, "dead", 9)
    number = await rows.add_alert(alert(one.id))
    assert await rows.take(one.id, "next") is None
    async with database.sessions.begin() as session:
        await session.execute(update(FeedRow).values(lease_until=now() - timedelta(seconds=1)))
    taken = await rows.take(one.id, "next")
    assert taken is not None and taken.event_seq == 9 + BLOCK, "numbers that may have been used are not used again"
    left = await rows.alert(one.id, number)
    assert left is not None and left.cause == "stopped" and left.ended_at is not None
    assert await rows.renew(one.id, "dead", 10) is None


async def test_a_database_of_ones_own_has_no_living_holders(database: Database) -> None:
    rows = FeedRows(database, alone=True)
    one = feed()
    await rows.add(one)
    assert await rows.take(one.id, "before") is not None
    assert await rows.take(one.id, "after") is not None


async def test_alerts_are_numbered_paged_and_forgotten(database: Database) -> None:
    rows = FeedRows(database, alone=True)
    one, other = feed(1), feed(2)
    await rows.add(one)
    await rows.add(other)
    for n in range(1, 6):
        entry = alert(one.id, began_pts=2**40 + n, clip_bytes=100)
        entry.n = await rows.add_alert(entry)
        assert entry.n == n
        if n != 1:
            entry.cause, entry.ended_at = "below", now()
            await rows.change_alert(entry)
    assert await rows.add_alert(alert(other.id)) == 1 and await rows.add_alert(alert(new_id())) == 0
    assert [entry.n for entry in await rows.alert_page(one.id, before=None, limit=3)] == [5, 4, 3]
    assert [entry.n for entry in await rows.alert_page(one.id, before=3, limit=3)] == [2, 1]
    assert sorted(await rows.forget_alerts(one.id, 3, 10**9)) == [2], "the open one stays"
    assert sorted(await rows.forget_alerts(one.id, 3, 250)) == [3]
    assert [entry.n for entry in await rows.alert_page(one.id, before=None, limit=9)] == [5, 4, 1]
    assert await rows.add_alert(alert(one.id, began_pts=0)) == 6
    await rows.remove(one.id)
    assert await rows.alert(one.id, 5) is None and await rows.get(one.id) is None and await rows.count() == 1
    assert await rows.alert(other.id, 1) is not None


async def test_an_alert_whose_answer_got_lost_is_there_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, bool]] = []

    async def tell(_: AsyncSession, row: AlertRow) -> None:
        told.append((row.n, row.ended_at is None))

    rows, commit = FeedRows(database, alone=True, tell=tell), SessionTransaction.commit
    one = feed()
    await rows.add(one)
    entry = alert(one.id)

    def lost(transaction: SessionTransaction) -> None:
        commit(transaction)
        raise OperationalError("COMMIT", None, Exception("the server closed the connection"))

    async def asked_twice(ask: Callable[[], Awaitable[object]]) -> object:
        monkeypatch.setattr(SessionTransaction, "commit", lost)
        with pytest.raises(OperationalError):
            await ask()
        monkeypatch.setattr(SessionTransaction, "commit", commit)
        return await ask()

    entry.n = 1
    assert await asked_twice(lambda: rows.add_alert(entry.copy())) == 1
    entry.cause, entry.ended_at = "below", now()
    assert await asked_twice(lambda: rows.change_alert(entry.copy())) is True
    assert told == [(1, True), (1, False)]
    assert [row.n for row in await rows.alert_page(one.id, before=None, limit=9)] == [1]
    assert await rows.add_alert(alert(one.id, began_pts=2**40 + 1)) == 2, "another is another"


async def test_an_alert_that_contradicts_itself_is_refused(database: Database) -> None:
    rows = FeedRows(database, alone=True)
    one = feed()
    await rows.add(one)
    with pytest.raises(IntegrityError, match="cause_if_ended"):
        await rows.add_alert(alert(one.id, cause="below"))


async def test_a_failed_statement_does_not_repeat_a_password(database: Database) -> None:
    rows = FeedRows(database, alone=True)
    await rows.add(feed(1, idempotency_key="a"))
    with pytest.raises(IntegrityError) as refused:
        await rows.add(feed(2, idempotency_key="a"))
    assert "hunter2" not in str(refused.value)
