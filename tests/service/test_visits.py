"""Visits to the database: what was written is found, a read changes nothing, who takes long holds nobody up, nobody is overtaken."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.connection import database_url
from service.database import AnalysisRow, Database
from service.settings import Settings
from service.visits import READERS
from tests.service.test_database import row


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty SQLite, where reads have threads."""
    opened = await Database.open(database_url(Settings(data_dir=tmp_path)))
    yield opened
    await opened.close()


async def test_what_is_written_is_found_at_once_and_can_be_looked_at_afterwards(database: Database) -> None:
    for n in range(50):
        one = row(n)
        await database.add(one)
        found = await database.get(one.id)
        assert found is not None and (found.id, found.created_at) == (one.id, one.created_at)
    rows = await database.read(lambda session: session.scalars(select(AnalysisRow)).all())
    assert len({one.sha256 + one.id for one in rows}) == 50
    assert len(await asyncio.gather(*(database.get(one.id) for one in rows))) == 50


async def test_a_read_changes_nothing(lite: Database) -> None:
    await lite.add(row())

    def change(session: Session) -> None:
        session.execute(delete(AnalysisRow))
        session.commit()

    with pytest.raises(OperationalError, match="readonly"):
        await lite.read(change)
    assert len(await lite.ids()) == 1, "and the next one finds it"


async def test_who_takes_long_holds_nobody_up_and_nobody_is_overtaken(lite: Database) -> None:
    leave, begun = [threading.Event() for _ in range(READERS)], threading.Semaphore(0)

    def search(n: int, _: Session) -> None:
        begun.release()
        assert leave[n].wait(60)

    searching = [asyncio.create_task(lite.read(partial(search, n))) for n in range(READERS - 1)]
    for _ in searching:
        await asyncio.to_thread(begun.acquire)
    assert await asyncio.wait_for(lite.ids(), 60) == set()
    searching.append(asyncio.create_task(lite.read(partial(search, READERS - 1))))
    await asyncio.to_thread(begun.acquire)

    order: list[int] = []

    def note(n: int, _: Session) -> None:
        order.append(n)

    waiting = [asyncio.create_task(lite.read(partial(note, n))) for n in range(100)]
    await asyncio.sleep(0)  # all of them have asked
    searching[0].cancel()  # whoever asked goes away: its thread comes to its end all the same
    # And serves all that wait, since no other is free: of two threads either may be held up between taking one and noting it.
    leave[0].set()
    await asyncio.gather(*waiting)
    assert order == list(range(100))
    for one in leave:
        one.set()
    await asyncio.gather(*searching, return_exceptions=True)


async def test_a_read_that_fails_tells_why_and_spoils_no_connection(database: Database) -> None:
    def fail(_: Session) -> None:
        raise ValueError("not like that")

    for _ in range(2 * READERS):
        with pytest.raises(ValueError, match="not like that"):
            await database.read(fail)
    assert await database.ids() == set()


async def test_a_change_is_whole_or_not_at_all_and_many_at_once_are_all_kept(database: Database) -> None:
    def half(session: Session) -> None:
        session.add(row(999))
        session.flush()
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        await database.write(half)
    await asyncio.gather(*(database.add(row(n)) for n in range(100)))
    assert len(await database.ids()) == 100


async def test_a_change_ends_though_nobody_waits_for_it(lite: Database) -> None:
    one = row()
    begun, go_on = threading.Event(), threading.Event()

    def slowly(session: Session) -> None:
        begun.set()
        assert go_on.wait(30)
        session.add(one)

    writing = asyncio.create_task(lite.write(slowly))
    await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    go_on.set()
    await lite.write(lambda _: None)  # behind it
    assert await lite.ids() == {one.id}


async def test_a_glance_needs_no_thread_and_changes_nothing(lite: Database) -> None:
    await lite.add(row())
    here = threading.get_ident()
    assert await lite.glance(lambda session: (threading.get_ident(), len(session.scalars(select(AnalysisRow)).all()))) == (here, 1)
    with pytest.raises(OperationalError, match="readonly"):
        await lite.glance(lambda session: session.execute(delete(AnalysisRow)))


async def test_a_glance_at_what_is_locked_is_taken_in_a_thread(lite: Database) -> None:
    """There it may wait for the lock; whoever else has the event loop goes on."""
    await lite.add(row())
    here = threading.get_ident()

    def find(session: Session) -> int:
        if threading.get_ident() == here:
            raise OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))
        return len(session.scalars(select(AnalysisRow)).all())

    assert await lite.glance(find) == 1
