"""Rows: the schema is what the migrations make, pages are complete and in order, moves happen once."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError

from pipelines.verdict import VerdictName
from service.database import AnalysisRow, Base, Database, DatabaseError
from service.ids import new_id
from service.schemas import AnalysisStatus


def row(n: int = 0, status: AnalysisStatus = "queued", **values: object) -> AnalysisRow:
    facts = {"media_type": "video/mp4", "size_bytes": 1, "sha256": "0" * 64, "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    return AnalysisRow(**{"id": new_id(n * 1_000_000), "status": status, **facts, **values})


async def test_the_migrations_make_exactly_the_models(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    await (await Database.open(path)).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


async def test_opening_again_keeps_the_rows(tmp_path: Path) -> None:
    first = await Database.open(tmp_path / "rows.db")
    moment = datetime(2026, 5, 4, 3, 2, 1, 600, tzinfo=timezone(timedelta(hours=5)))
    kept = row(created_at=moment)
    await first.add(kept)
    await first.close()
    second = await Database.open(tmp_path / "rows.db")
    found = await second.get(kept.id)
    await second.close()
    assert found is not None
    assert found.created_at == moment
    assert found.created_at.tzinfo is UTC


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    await (await Database.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseError, match=r"was written by another version\. Expected a schema this version knows; got .*9999"):
        await Database.open(path)


async def test_rows_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "rows.db")
    with pytest.raises(IntegrityError, match="verdict_if_succeeded"):
        await database.add(row(status="succeeded"))
    with pytest.raises(IntegrityError, match="verdict_if_succeeded"):
        await database.add(row(status="failed", verdict="manipulated"))
    await database.add(row(1, idempotency_key="a"))
    with pytest.raises(IntegrityError, match="idempotency_key"):
        await database.add(row(2, idempotency_key="a"))
    await database.close()


async def test_the_oldest_queued_row_is_claimed_once(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "rows.db")
    for n in (3, 1, 2):
        await database.add(row(n))
    claimed = [await database.claim_next() for _ in range(4)]
    assert [one and one.id < new_id((n + 1) * 1_000_000) for n, one in enumerate(claimed[:3], 1)] == [True, True, True]
    assert claimed[3] is None
    assert await database.count("running") == 3
    assert await database.requeue_running() == 3
    assert await database.count("running") == 0
    await database.close()


async def test_a_row_moves_only_from_where_it_is(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "rows.db")
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


@settings(max_examples=15)
@given(st.lists(KINDS, max_size=12), st.integers(1, 5), st.sampled_from([None, "manipulated"]))
def test_pages_give_every_row_once_newest_first(
    kinds: list[tuple[AnalysisStatus, str | None]], limit: int, verdict: VerdictName | None
) -> None:
    async def run() -> tuple[list[str], list[str]]:
        with tempfile.TemporaryDirectory() as directory:
            database = await Database.open(Path(directory) / "rows.db")
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


async def test_a_search_is_for_text_not_for_patterns(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "rows.db")
    await database.add(row(1, filename="100%_real.mp4"))
    await database.add(row(2, filename="other.mp4", external_id="Case 100"))

    async def found(text: str) -> list[str | None]:
        return [one.filename for one in await database.page(before=None, limit=9, text=text)]

    assert await found("100%") == ["100%_real.mp4"]
    assert await found("_real") == ["100%_real.mp4"]
    assert await found("case 1") == ["other.mp4"]
    assert await found("%") == ["100%_real.mp4"]
    await database.close()
