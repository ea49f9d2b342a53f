"""The record of who did what: each action leaves its line, with who and in which request, and no line is ever changed or removed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from service.audit_rows import AuditRow, AuditRows, audited
from service.database import Database
from service.feed_rows import FeedRows
from service.ids import new_id
from service.key_store import KeyStore
from service.settings import Settings
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.test_database import row
from tests.service.test_feed_rows import feed
from tests.service.test_keys import bearer, made


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
    await keys.revoke(child, last_admin=False)
    await keys.revoke(parent, last_admin=False)
    assert not await keys.revoke(parent, last_admin=False)
    told = [(row.action, row.subject, row.key_id) for row in await rows.page("films", before=None, limit=9)]
    assert told == [
        ("key.revoked", parent, None),
        ("session.ended", child, parent),
        ("session.created", child, parent),
        ("key.created", parent, None),
    ]
    assert await rows.page("default", before=None, limit=9) == []
    await database.close()


@contextmanager
def no_line_can_be_written() -> Iterator[None]:
    """The database goes away just before the line of an action is there."""

    def gone(_mapper: object, _connection: object, _row: object) -> None:
        raise OperationalError("INSERT", None, Exception("the server closed the connection"))

    event.listen(AuditRow, "before_insert", gone)
    try:
        yield
    finally:
        event.remove(AuditRow, "before_insert", gone)


async def test_a_feed_and_its_line_are_there_together_or_not_at_all(url: URL) -> None:
    database = await Database.open(url)
    rows, audit, one = FeedRows(database, alone=True), AuditRows(database), feed(name="before")
    with no_line_can_be_written():
        with pytest.raises(OperationalError):
            await rows.add(feed(1), audited("default", None, "feed.created", "x"))
        assert await rows.count() == 0
        await rows.add(one)
        with pytest.raises(OperationalError):
            await rows.change(one.id, {"name": "after"}, audited("default", None, "feed.changed", one.id))
    unchanged = await rows.get(one.id)
    assert unchanged is not None and (unchanged.name, unchanged.version) == ("before", 0)
    assert await audit.page("default", before=None, limit=9) == []
    assert await rows.change(new_id(), {"name": "x"}, audited("default", None, "feed.changed", "x")) is None
    await rows.change(one.id, {"name": "after"}, audited("default", None, "feed.changed", one.id))
    assert [line.subject for line in await audit.page("default", before=None, limit=9)] == [one.id]
    await database.close()


async def test_an_analysis_goes_with_its_line_and_once(url: URL) -> None:
    database = await Database.open(url)
    audit, one = AuditRows(database), row()
    await database.add(one)
    with no_line_can_be_written(), pytest.raises(OperationalError):
        await database.remove(one.id, audited("default", None, "analysis.expired", one.id))
    assert await database.get(one.id) is not None
    for _ in range(2):
        await database.remove(one.id, audited("default", None, "analysis.expired", one.id))
    assert await database.get(one.id) is None
    assert [line.action for line in await audit.page("default", before=None, limit=9)] == ["analysis.expired"]
    await database.close()


def test_who_asks_for_a_webhook_again_has_one(serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),)})) as client:
        wanted = {"url": "http://127.0.0.1/"}
        with no_line_can_be_written():
            assert_problem(client.post("/v1/webhooks", json=wanted), 503, "database-unavailable")
        made = client.post("/v1/webhooks", json=wanted).json()
        (only,) = client.get("/v1/webhooks").json()["items"]
        assert only["id"] == made["id"]
        path = made["links"]["self"]
        with no_line_can_be_written():
            assert_problem(client.patch(path, json={"enabled": False}), 503, "database-unavailable")
            assert_problem(client.post(f"{path}/rotate"), 503, "database-unavailable")
        kept = client.get(path).json()
        assert kept["enabled"] and kept["previous_secrets_until"] is None
        assert client.patch(path, json={"enabled": False}).status_code == client.post(f"{path}/rotate").status_code == 200
        told = [item["action"] for item in client.get("/v1/audit").json()["items"]]
        assert told == ["webhook.rotated", "webhook.changed", "webhook.created"]


def test_a_deletion_is_written_down_before_anything_is_gone(serve: Serve, settings: Settings, clip: Path) -> None:
    with serve(settings) as client:
        path = upload(client, clip, wait_s=60).headers["Location"]
        with no_line_can_be_written():
            assert_problem(client.delete(path), 503, "database-unavailable")
        assert client.get(f"{path}/timeline").status_code == 200, "nothing of it is gone"
        assert client.delete(path).status_code == 204
        assert [item["action"] for item in client.get("/v1/audit").json()["items"]] == ["analysis.deleted", "analysis.created"]


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


def test_it_is_asked_for_who_what_and_since(serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        admin = made(locked, "admin")
        client.headers.update(bearer(admin))
        hostile = '=cmd|"/c calc"!A1,\n100%_sure'.replace("\n", " ")
        desk = client.post("/v1/keys", json={"name": hostile, "scopes": ["admin"]}).json()
        other = client.post("/v1/keys", json={"name": "100 sure", "scopes": ["admin"]}).json()
        half = client.get("/v1/audit?limit=1").json()["items"][0]["at"]
        for key in (desk, other):
            client.post("/v1/keys", json={"name": "made", "scopes": ["streams"]}, headers=bearer(key["secret"]))

        def asked(**query: str | list[str]) -> list[tuple[str, str | None]]:
            return [(item["action"], item["key_id"]) for item in client.get("/v1/audit", params=query).json()["items"]]

        assert asked(who=desk["id"]) == asked(who="100%_SURE") == [("key.created", desk["id"])]
        assert {key_id for _, key_id in asked(who="sure")} == {desk["id"], other["id"]}
        assert {key_id for _, key_id in asked(who="THIS machine".lower())} == {None}
        assert asked(who="nobody") == asked(action="feed.deleted") == []
        assert {action for action, _ in asked(action=["key.created", "feed.deleted"])} == {"key.created"}
        assert {key_id for _, key_id in asked(since=half, action="key.created")} == {desk["id"], other["id"], admin.split("_")[1]}
        assert asked(since="2999-01-01T00:00:00Z") == []
        page = client.get("/v1/audit", params={"who": "sure", "action": ["key.created", "key.revoked"], "limit": 1})
        following = client.get(page.links["next"]["url"])
        assert [item["key_id"] for item in (*page.json()["items"], *following.json()["items"])] == [other["id"], desk["id"]]
        assert following.json()["next"] is None
        for wrong in ({"action": "key.eaten"}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"who": "a\0b"}, {"who": ""}):
            assert_problem(client.get("/v1/audit", params=wrong), 422, "invalid-request")


def test_the_table_has_all_of_it_and_computes_nothing(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.audit.AT_ONCE", 3)
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        client.headers.update(bearer(made(locked, "admin")))
        names = ['=HYPERLINK("http://evil","x")', "+1", "-1", "@SUM(A1)", 'two, "quoted" words', "plain"]
        for name in names:
            key = client.post("/v1/keys", json={"name": name, "scopes": ["admin"]}).json()
            client.post("/v1/keys", json={"name": "made", "scopes": ["streams"]}, headers=bearer(key["secret"]))
        answer = client.get("/v1/audit?format=csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.csv"' and "Content-Length" not in answer.headers
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        items = client.get("/v1/audit?limit=100").json()["items"]
        assert [row["id"] for row in rows] == [item["id"] for item in items] and len(rows) > 12
        assert [(row["at"], row["action"], row["subject"]) for row in rows] == [
            (item["at"], item["action"], item["subject"]) for item in items
        ]
        assert {f"'{name}" if name[0] in "=+-@" else name for name in names} <= {row["name"] for row in rows}
        assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        some = client.get("/v1/audit", params={"format": "csv", "who": "plain"}).text
        assert len(some.splitlines()) == 2
