"""Rows, on SQLite and on PostgreSQL: the schema is what the migrations make, pages are complete and in order, moves happen once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from pipelines.verdict import VerdictName
from service.audit_rows import AuditRow
from service.connection import DatabaseError, database_url
from service.database import AnalysisRow, Base, Database, NameTaken
from service.ids import new_id
from service.key_store import KeyRow
from service.schemas import AnalysisStatus
from service.settings import Settings, SettingsError
from service.webhook_deliveries import AttemptRow
from tests.postgres import Cluster
from tests.support import ROOT

KILLED = """
import asyncio, os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url
from service.database import Database

made = []

@event.listens_for(Engine, "before_cursor_execute")
def fourth(connection, cursor, statement, *rest):
    made.extend(["CREATE TABLE"] * ("CREATE TABLE" in statement))
    if len(made) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(Database.open(make_url(sys.argv[1])))
"""


def row(n: int = 0, status: AnalysisStatus = "queued", **values: object) -> AnalysisRow:
    facts = {"media_type": "video/mp4", "size_bytes": 1, "sha256": "0" * 64, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    return AnalysisRow(**{"id": new_id(n * 1_000_000), "status": status, **facts, **values})


async def test_the_migrations_make_exactly_the_models(url: URL) -> None:
    assert KeyRow.metadata is AuditRow.metadata is AttemptRow.metadata is Base.metadata
    await (await Database.open(url)).close()
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


async def test_who_start_together_migrate_once(url: URL) -> None:
    opened = await asyncio.gather(*(Database.open(url) for _ in range(4)))
    await opened[0].add(row())
    assert [len(await one.ids()) for one in opened] == [1, 1, 1, 1]
    for one in opened:
        await one.close()


def test_whoever_is_killed_while_it_migrates_leaves_nothing_half_done(tmp_path: Path) -> None:
    url = database_url(Settings(data_dir=tmp_path))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(url)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    asyncio.run(_open_and_close(url))


async def _open_and_close(url: URL) -> None:
    await (await Database.open(url)).close()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"none/undercurrent\.db cannot be opened\. Expected a directory of yours; got No such file"):
        await Database.open(database_url(Settings(data_dir=tmp_path / "none")))


async def test_opening_again_keeps_the_rows(url: URL) -> None:
    first = await Database.open(url)
    moment = datetime(2026, 5, 4, 3, 2, 1, 600, tzinfo=timezone(timedelta(hours=5)))
    kept = row(created_at=moment)
    await first.add(kept)
    await first.close()
    second = await Database.open(url)
    found = await second.get(kept.id)
    await second.close()
    assert found is not None
    assert found.created_at == moment
    assert found.created_at.tzinfo is UTC


async def test_a_database_of_a_newer_version_is_refused(url: URL) -> None:
    await (await Database.open(url)).close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(DatabaseError, match=r"was written by another version\. Expected a schema this version knows; got .*9999"):
        await Database.open(url)


async def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    settings = Settings(database_url=SecretStr("postgres://someone:hunter2@127.0.0.1:1/rows"))
    with pytest.raises(DatabaseError, match=r"someone:\*\*\*@127.0.0.1:1/rows cannot be opened") as refused:
        await Database.open(database_url(settings))
    assert "hunter2" not in f"{settings!r} {refused.value}"


@pytest.mark.parametrize("given", ["mysql://a:hunter2@host/name", "sqlite:///file.db", "hunter2"])
def test_another_database_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="Expected postgresql://user:password@host:port/name") as refused:
        database_url(Settings(database_url=SecretStr(given)))
    assert "hunter2" not in str(refused.value)


async def test_rows_can_be_written_or_it_says_so(url: URL) -> None:
    database = await Database.open(url)
    await database.ping()
    assert await database.ids() == set()
    await database.close()


async def test_a_server_that_came_back_is_used_again(postgres: Cluster) -> None:
    database = await Database.open(database_url(Settings(database_url=SecretStr(postgres.create()))))
    one = row()
    await database.add(one)
    postgres.stop()
    with pytest.raises(SQLAlchemyError):
        await database.ping()
    postgres.start()
    assert await database.get(one.id) is not None
    await database.close()


async def test_who_is_paused_in_the_middle_does_not_keep_others_out(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url(Settings(database_url=SecretStr(postgres.create())))
    paused, other = await Database.open(url), await Database.open(url)
    one = row()
    await paused.add(one)
    async with paused.sessions() as first:  # has the connection with which it was opened; the next one is new
        assert await first.scalar(text("SHOW idle_in_transaction_session_timeout")) == "1min"
        monkeypatch.setattr("service.connection.IDLE_S", 1.0)
        with pytest.raises(OperationalError):
            async with paused.sessions.begin() as session:
                await session.execute(update(AnalysisRow).values(filename="never"))
                # Waits for the lock, which the server takes from who says nothing.
                assert await asyncio.wait_for(other.move(one.id, "queued", "running"), 60)
                await session.execute(select(AnalysisRow))
    found = await other.get(one.id)
    assert found is not None and (found.status, found.filename) == ("running", one.filename)
    for opened in (paused, other):
        await opened.close()


async def test_rows_that_contradict_themselves_are_refused(url: URL) -> None:
    database = await Database.open(url)
    with pytest.raises(IntegrityError, match="verdict_if_succeeded"):
        await database.add(row(status="succeeded"))
    with pytest.raises(IntegrityError, match="verdict_if_succeeded"):
        await database.add(row(status="failed", verdict="manipulated"))
    await database.add(row(1, idempotency_key="a"))
    with pytest.raises(IntegrityError, match="idempotency_key"):
        await database.add(row(2, idempotency_key="a"))
    await database.close()


async def test_who_takes_a_row_up_has_it_until_another_does(url: URL) -> None:
    database = await Database.open(url)
    one = row()
    await database.add(one)
    begun = await database.begin(one.id, "a")
    assert begun is not None
    assert (begun.status, begun.replica, begun.attempts) == ("running", "a", 1)
    assert await database.note(one.id, "a", progress="{}", further=True)
    assert not await database.note(one.id, "b")
    again = await database.begin(one.id, "b")
    assert again is not None
    assert (again.replica, again.attempts, again.started_at) == ("b", 1, begun.started_at)
    assert again.version > begun.version
    assert not await database.note(one.id, "a", further=True)
    assert not await database.move(one.id, "running", "succeeded", replica="a", verdict="no_evidence")
    assert await database.move(one.id, "running", "succeeded", replica="b", verdict="no_evidence")
    assert await database.begin(one.id, "a") is None
    assert await database.unfinished() == {}
    await database.close()


async def test_what_a_replica_leaves_waits_again(url: URL) -> None:
    database = await Database.open(url)
    rows = [row(n, priority=n) for n in range(4)]
    for one, replica in zip(rows, ("a", "a", "b", None), strict=True):
        await database.add(one)
        if replica is not None:
            await database.begin(one.id, replica)
    assert await database.release("a") == 2
    backlog = await database.backlog()
    assert (backlog.running, backlog.queued) == (1, 3)
    assert await database.release(None) == 1
    assert list((await database.unfinished()).items()) == [(one.id, ("default", n)) for n, one in enumerate(rows)]
    await database.close()


async def test_one_of_those_who_notice_takes_charge_of_a_dead_replica(url: URL) -> None:
    database = await Database.open(url)
    sign = await database.beat("dead", None)
    assert await database.replicas() == {"dead": sign}
    assert [await database.bury("dead", sign) for _ in range(3)] == [True, False, False]
    assert (await database.replicas())["dead"] > sign, "should the first die now, the others notice again"
    await database.depart("dead")
    assert await database.replicas() == {}
    await database.close()


async def test_a_replica_notices_another_of_its_name(url: URL) -> None:
    database = await Database.open(url)
    sign = await database.beat("a", None)
    sign = await database.beat("a", sign)
    await database.beat("a", None)
    with pytest.raises(NameTaken, match="writes as the replica 'a'"):
        await database.beat("a", sign)
    await database.close()


async def test_what_ended_long_ago_is_found(url: URL) -> None:
    database = await Database.open(url)
    for n in range(3):
        await database.add(row(n, finished_at=datetime(2026, 2, 1, tzinfo=UTC), status="cancelled"))
    assert await database.ended_before(datetime(2026, 1, 1, tzinfo=UTC), 9) == {}
    await database.add(row(9, finished_at=datetime(2025, 1, 1, tzinfo=UTC), status="cancelled"))
    assert len(await database.ended_before(datetime(2026, 1, 1, tzinfo=UTC), 9)) == 1
    assert len(await database.ended_before(datetime(2100, 1, 1, tzinfo=UTC), 2)) == 2
    await database.close()


async def test_a_row_moves_only_from_where_it_is(url: URL) -> None:
    database = await Database.open(url)
    one = row()
    await database.add(one)
    assert not await database.move(one.id, "running", "succeeded", verdict="no_evidence")
    assert await database.move(one.id, "queued", "cancelled")
    assert not await database.move(one.id, "queued", "running")
    ended = await database.get(one.id)
    assert ended is not None
    assert (ended.status, ended.ended, ended.finished_at is not None) == ("cancelled", True, True)
    await database.close()


KINDS = st.sampled_from([("queued", None), ("failed", None), ("succeeded", "manipulated"), ("succeeded", "no_evidence")])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(KINDS, max_size=12), st.integers(1, 5), st.sampled_from([None, "manipulated"]))
def test_pages_give_every_row_once_newest_first(
    url: URL, kinds: list[tuple[AnalysisStatus, str | None]], limit: int, verdict: VerdictName | None
) -> None:
    async def run() -> tuple[list[str], list[str]]:
        database = await Database.open(url)
        for old in await database.ids():
            await database.remove(old)
        rows = [row(n, status, verdict=name) for n, (status, name) in enumerate(kinds)]
        wanted = [one.id for one in rows if verdict is None or one.verdict == verdict]
        for one in rows:
            await database.add(one)
        seen: list[str] = []
        while page := await database.page(before=seen[-1] if seen else None, limit=limit, verdict=verdict):
            assert len(page) <= limit
            seen += [one.id for one in page]
        await database.close()
        return wanted, seen

    wanted, seen = asyncio.run(run())
    assert seen == wanted[::-1]


async def test_a_search_is_for_text_not_for_patterns(url: URL) -> None:
    database = await Database.open(url)
    await database.add(row(1, filename="100%_real.mp4"))
    await database.add(row(2, filename="other.mp4", external_id="Case 100"))

    async def found(text: str) -> list[str | None]:
        return [one.filename for one in await database.page(before=None, limit=9, text=text)]

    assert await found("100%") == ["100%_real.mp4"]
    assert await found("_real") == ["100%_real.mp4"]
    assert await found("case 1") == ["other.mp4"]
    assert await found("%") == ["100%_real.mp4"]
    assert await found("100\0") == []
    await database.close()
