"""The record of who did what: each action leaves its line, with who and in which request, and no line is ever changed or removed."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from service.audit_rows import AuditRows
from service.connection import database_url
from service.database import Database
from service.key_store import KeyStore
from service.settings import Settings
from tests.postgres import Cluster
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.test_keys import bearer, made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return database_url(Settings(data_dir=tmp_path))
    cluster: Cluster = request.getfixturevalue("postgres")
    return database_url(Settings(database_url=SecretStr(cluster.create())))


@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'feed.deleted'", "UPDATE audit SET key_id = NULL", "DELETE FROM audit"])
async def test_the_database_keeps_what_is_written(url: URL, statement: str) -> None:
    database = await Database.open(url)
    rows = AuditRows(database)
    await rows.write("films", "0", "analysis.deleted", "x")
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.sessions.begin() as session:
            await session.execute(text(statement))
    (kept,) = await rows.page("films", before=None, limit=9)
    assert (kept.tenant, kept.key_id, kept.action, kept.subject) == ("films", "0", "analysis.deleted", "x")
    await database.close()


async def test_keys_leave_a_line_each(url: URL) -> None:
    database = await Database.open(url)
    keys, rows = KeyStore(database), AuditRows(database)
    parent = (await keys.create("parent", ["streams"], tenant="films")).row.id
    child = (await keys.create("child", ["streams"], tenant="films", parent=parent)).row.id
    await keys.revoke(child)
    await keys.revoke(parent)
    assert not await keys.revoke(parent)
    told = [(row.action, row.subject, row.key_id) for row in await rows.page("films", before=None, limit=9)]
    assert told == [
        ("key.revoked", parent, None),
        ("session.ended", child, parent),
        ("session.created", child, parent),
        ("key.created", parent, None),
    ]
    assert await rows.page("default", before=None, limit=9) == []
    await database.close()


def test_whoever_changes_something_is_written_down(serve: Serve, settings: Settings, clip: Path) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        admin, other, writer = made(locked, "admin"), made(locked, "admin", tenant="other"), made(locked, "analyses:write", "analyses:read")
        client.headers.update(bearer(writer))
        created = upload(client, clip, wait_s=60)
        path = created.headers["Location"]
        removed = client.delete(path)
        assert (created.status_code, removed.status_code) == (200, 204)
        assert_problem(client.get("/v1/audit"), 403, "not-permitted")
        client.headers.update(bearer(admin))
        page = client.get("/v1/audit?limit=2")
        writer_id, analysis_id = writer.split("_")[1], path.rpartition("/")[2]
        told = [(item["action"], item["subject"], item["key_id"], item["request_id"]) for item in page.json()["items"]]
        assert told == [
            ("analysis.deleted", analysis_id, writer_id, removed.headers["X-Request-ID"]),
            ("analysis.created", analysis_id, writer_id, created.headers["X-Request-ID"]),
        ]
        rest = client.get(page.links["next"]["url"]).json()["items"]
        assert {item["action"] for item in rest} == {"key.created"} and len(rest) >= 2
        client.headers.update(bearer(other))
        assert [item["action"] for item in client.get("/v1/audit").json()["items"]] == ["key.created"]
        assert admin not in page.text and writer not in page.text


def test_on_loopback_it_says_so(client: httpx.Client, clip: Path) -> None:
    upload(client, clip)
    (item,) = client.get("/v1/audit").json()["items"]
    assert (item["action"], item["key_id"]) == ("analysis.created", None)
