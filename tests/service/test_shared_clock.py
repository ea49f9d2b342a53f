"""Replicas whose clocks are an hour apart: what one holds the other leaves alone, and what one that died held the other takes in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import text

import service.database
from service.connection import database_url
from service.database import Database
from service.feed_rows import LEASE, FeedRows
from service.settings import Settings
from service.webhook_attempt import Attempt
from service.webhook_deliverer import FAILING_FOR
from service.webhook_deliveries import HELD, Deliveries, announce
from tests.postgres import Cluster
from tests.service.test_feed_rows import feed
from tests.service.test_webhook_deliverer import one_of, registered

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
SOON = timedelta(seconds=10)
"""So much of a lease is left where one is nearly over: more than a busy machine takes for the next question."""


class Machine:
    """Whose clock it is: a test sets it forth and back, as if it went from one replica to the other."""

    ahead = timedelta()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    it, read = Machine(), service.database.now

    def moved() -> datetime:
        return read() + it.ahead

    for name in ("database", "feed_rows", "webhook_deliveries", "webhook_rows", "shared_clock"):
        monkeypatch.setattr(f"service.{name}.now", moved)
    return it


@pytest.fixture
async def database(postgres: Cluster) -> AsyncIterator[Database]:
    opened = await Database.open(database_url(Settings(database_url=SecretStr(postgres.create()))))
    yield opened
    await opened.close()


async def passed(database: Database, column: str, time: timedelta) -> None:
    """As if so much time had passed since."""
    table = {"lease_until": "feeds", "due_at": "webhook_deliveries"}[column]
    async with database.sessions.begin() as session:
        await session.execute(text(f"UPDATE {table} SET {column} = {column} - :time").bindparams(time=time))


@pytest.mark.parametrize(("ours", "theirs"), [(timedelta(), HOUR), (HOUR, timedelta()), (-HOUR, HOUR)])
async def test_a_feed_is_watched_by_one_whose_clock_ever_is_right(
    database: Database, machine: Machine, ours: timedelta, theirs: timedelta
) -> None:
    rows, one = FeedRows(database, alone=False), feed()
    await rows.add(one)
    machine.ahead = ours
    assert await rows.take(one.id, "ours") is not None
    machine.ahead = theirs
    assert await rows.take(one.id, "theirs") is None
    await passed(database, "lease_until", LEASE - SOON)
    machine.ahead = ours
    assert await rows.renew(one.id, "ours", 0) is not None
    machine.ahead = theirs
    await passed(database, "lease_until", LEASE - SOON)
    assert await rows.take(one.id, "theirs") is None
    await passed(database, "lease_until", SOON + SECOND)
    assert await rows.take(one.id, "theirs") is not None, "it is not left unwatched for an hour"


@pytest.mark.parametrize(("ours", "theirs"), [(timedelta(), HOUR), (HOUR, timedelta()), (-HOUR, HOUR)])
async def test_a_delivery_is_sent_by_one_whose_clock_ever_is_right(
    database: Database, machine: Machine, ours: timedelta, theirs: timedelta
) -> None:
    webhook = await registered(database, "http://127.0.0.1/")
    rows = Deliveries(database)
    machine.ahead = ours
    async with database.sessions.begin() as session:
        await announce(session, "default", "analysis.failed", "{}")
    machine.ahead = theirs
    held = await rows.claim("theirs", [])
    assert held is not None, "what was told just now is due now"
    machine.ahead = ours
    assert await rows.claim("ours", []) is None
    await rows.replay(held.id)
    assert await rows.claim("ours", []) is None
    await passed(database, "due_at", HELD + SECOND)
    held = await rows.claim("ours", [])
    assert held is not None, "whoever held it has died"
    failed = Attempt(service.database.now(), 1.0, 500, "", None, 0.0)
    assert await rows.record(held, failed, "pending", SOON, FAILING_FOR) is not None
    machine.ahead = theirs
    assert await rows.claim("theirs", []) is None, "it waits as long as it is to"
    await passed(database, "due_at", SOON + SECOND)
    assert await rows.claim("theirs", []) is not None
    assert (await one_of(database, webhook)).tries == 1
