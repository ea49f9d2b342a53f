"""Keys: who has none is let in nowhere but on loopback, who has one does what it is for, and nobody sees what is another tenant's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.resources import as_file, files
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from service.app import openapi_document
from service.cli import app as command_line
from service.client import connect, errors
from service.connection import database_url
from service.database import Database, now
from service.key_store import FIRST, SCOPES, KeyStore, NewKey, Scope
from service.quota import Quota, TooManyRequests
from service.settings import KeyTerms, Settings
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.streaming import talk

OPEN = ("/livez", "/readyz", "/metrics", "/asyncapi.json", "/openapi.json", "/v1/signing-keys", "/", "/assets/mark.svg")


@pytest.fixture
def locked(settings: Settings) -> Settings:
    """Of a service that wants keys."""
    return settings.model_copy(update={"require_keys": True})


@pytest.fixture
def guarded(serve: Serve, locked: Settings) -> Iterator[httpx.Client]:
    """A client without a key of a service that wants one."""
    with serve(locked) as client:
        yield client


def made(settings: Settings, *scopes: Scope, tenant: str = "default", days: float | None = None, name: str = "test") -> str:
    """The secret of a new key."""
    settings.data_dir.mkdir(exist_ok=True)
    expires_at = None if days is None else now() + timedelta(days=days)

    async def create() -> NewKey:
        database = await Database.open(database_url(settings))
        try:
            return await KeyStore(database).create(name, scopes, tenant=tenant, expires_at=expires_at)
        finally:
            await database.close()

    # In a thread of its own: where Playwright runs, this one has an event loop already.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, create()).result().secret


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def test_a_key_is_found_by_its_secret_and_by_nothing_else(url: URL) -> None:
    database = await Database.open(url)
    keys = KeyStore(database)
    one = await keys.create("one", ["streams", "admin"], tenant="films")
    two = await keys.create("two", ["feeds"], expires_at=now() + timedelta(days=1))
    found = await keys.owner(one.secret)
    assert found is not None and (found.id, found.tenant, found.granted, found.why_not) == (
        one.row.id,
        "films",
        frozenset[Scope](("admin", "streams")),
        None,
    )
    mark, key_id, tail = one.secret.split("_", 2)
    head = f"{mark}_{key_id}"
    for wrong in (
        "",
        "uc",
        "uc__",
        one.row.id,
        head,
        one.secret[:-1],
        two.secret[: len(head)] + one.secret[len(head) :],
        "uc_'--_x",
        "uc_\0_x",
    ):
        assert await keys.owner(wrong) is None
    async with database.sessions() as session:
        stored = str((await session.execute(text("SELECT * FROM keys"))).all())
    assert one.secret not in stored and tail not in stored
    await database.close()


async def test_keys_end(url: URL) -> None:
    database = await Database.open(url)
    keys = KeyStore(database)
    short = await keys.create("short", SCOPES, expires_at=now() - timedelta(seconds=1))
    parent = await keys.create("parent", SCOPES)
    child = await keys.create("child", SCOPES, parent=parent.row.id)
    found = await keys.owner(short.secret)
    assert found is not None and found.why_not == "a key that has expired"
    found = await keys.owner(child.secret)
    assert found is not None and found.why_not is None
    assert await keys.revoke(parent.row.id, last_admin=True)
    assert not await keys.revoke(parent.row.id, last_admin=True) and not await keys.revoke("nobody", last_admin=True)
    for one in (parent, child):
        found = await keys.owner(one.secret)
        assert found is not None and found.why_not == "a key that was revoked"
    assert [row.name for row in await keys.all()] == ["short", "parent"]
    await database.close()


async def test_replicas_that_start_together_make_one_first_key(url: URL) -> None:
    opened = [await Database.open(url) for _ in range(4)]
    firsts = [first for first in await asyncio.gather(*(KeyStore(one).first() for one in opened)) if first is not None]
    assert [first.row.id for first in firsts] == [FIRST] and firsts[0].row.granted == set(SCOPES)
    assert await KeyStore(opened[0]).first() is None
    for one in opened:
        await one.close()


async def test_analyses_from_before_there_were_tenants_are_kept(url: URL) -> None:
    def migrate(connection: Connection, revision: str) -> None:
        with as_file(files("service") / "migrations") as scripts:
            config = Config()
            config.set_main_option("script_location", str(scripts))
            config.attributes["connection"] = connection
            (command.downgrade if revision == "0002" and "keys" in inspect(connection).get_table_names() else command.upgrade)(
                config, revision
            )

    insert = text(
        "INSERT INTO analyses (id, status, media_type, size_bytes, sha256, idempotency_key, created_at)"
        " VALUES (:id, 'queued', 'video/mp4', 1, '0', 'a', '2026-01-01 00:00:00')"
    )
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(migrate, "0002")
        await connection.execute(insert, {"id": "0"})
    async with engine.begin() as connection:
        await connection.run_sync(migrate, "head")
    database = await Database.open(url)
    row = await database.by_idempotency_key("default", "a")
    assert row is not None and (row.id, row.tenant) == ("0", "default")
    await database.close()
    async with engine.begin() as connection:
        await connection.run_sync(migrate, "0002")
    async with engine.connect() as connection:
        assert (await connection.scalar(text("SELECT idempotency_key FROM analyses"))) == "a"
    await engine.dispose()


def test_whoever_has_no_key_sees_nothing(guarded: httpx.Client) -> None:
    asked = 0
    for path, methods in openapi_document()["paths"].items():
        if not path.startswith("/v1"):
            continue
        for method in methods:
            if (method, path) in (("post", "/v1/session"), ("get", "/v1/signing-keys")):
                continue  # where a key is shown, and where those that are public are
            answer = guarded.request(method, re.sub(r"\{\w+\}", "01890000-0000-7000-8000-000000000000", path))
            problem = assert_problem(answer, 401, "unauthenticated")
            assert problem["got"] == "none" and answer.headers["WWW-Authenticate"] == 'Bearer realm="undercurrent"'
            asked += 1
    assert asked >= 10
    for path in OPEN:
        assert guarded.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("given", "got"),
    [("Basic dXNlcjpwYXNz", "Basic"), ("Bearer uc_0_x", "another"), ("Bearer", "another"), ("bearer \xff", "another")],
)
def test_what_is_no_key(client: httpx.Client, given: str, got: str) -> None:
    """On loopback too: whoever shows a key means it."""
    answer = client.get("/v1/analyses", headers=[(b"Authorization", given.encode("latin-1"))])
    assert assert_problem(answer, 401, "unauthenticated")["got"] == got
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_key_is_for_what_it_is_for(guarded: httpx.Client, locked: Settings, clip: Path) -> None:
    reader, writer, admin = (made(locked, scope) for scope in ("analyses:read", "analyses:write", "admin"))
    assert guarded.get("/v1/analyses", headers=bearer(reader)).status_code == 200
    denied = guarded.post("/v1/analyses", headers=bearer(reader), content=b"x")
    assert assert_problem(denied, 403, "not-permitted")["expected"] == "analyses:write"
    assert 'error="insufficient_scope", scope="analyses:write"' in denied.headers["WWW-Authenticate"]
    assert_problem(guarded.get("/v1/analyses", headers=bearer(writer)), 403, "not-permitted")
    guarded.headers.update(bearer(writer))
    assert upload(guarded, clip).status_code == 202
    assert guarded.get("/v1/analyses", headers=bearer(admin)).json()["items"]


def test_a_key_that_was_ended_opens_nothing_from_then_on(guarded: httpx.Client, locked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCURRENT_DATA_DIR", str(locked.data_dir))
    run = CliRunner().invoke
    created = run(command_line, ["keys", "create", "a reader", "--scope", "analyses:read", "--days", "1"])
    secret = created.stdout.strip()
    assert created.exit_code == 0 and re.fullmatch(r"uc_[0-9a-f]{12}_[\w-]{43}", secret)
    key_id = secret.split("_")[1]
    assert guarded.get("/v1/analyses", headers=bearer(secret)).status_code == 200
    listed = run(command_line, ["keys", "list"]).stdout
    (line,) = (line for line in listed.splitlines() if line.startswith(key_id))
    assert "default  until" in line and line.endswith("analyses:read  a reader") and secret not in listed
    assert run(command_line, ["keys", "revoke", key_id]).exit_code == 0
    gone = assert_problem(guarded.get("/v1/analyses", headers=bearer(secret)), 401, "unauthenticated")
    assert gone["got"] == "a key that was revoked"
    assert f"{key_id}  default  revoked" in run(command_line, ["keys", "list"]).stdout
    for wrong in (["revoke", key_id], ["create", "x", "--scope", "root"], ["create", "", "--scope", "admin"]):
        assert run(command_line, ["keys", *wrong]).exit_code == 2
    expired = made(locked, "admin", days=-1)
    assert assert_problem(guarded.get("/v1/analyses", headers=bearer(expired)), 401, "unauthenticated")["got"] == "a key that has expired"


def test_the_first_start_makes_a_key_and_no_log_has_any(serve: Serve, locked: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(locked) as client:
        said = capfd.readouterr()
        (secret,) = re.findall(r"^Admin key, shown this once: (uc_first_\S+)$", said.out, flags=re.MULTILINE)
        assert client.get("/v1/analyses", headers=bearer(secret)).status_code == 200
        assert_problem(client.get("/v1/analyses", headers=bearer(secret + "x")), 401, "unauthenticated")
    with serve(locked) as client:
        assert client.get("/v1/analyses", headers=bearer(secret)).status_code == 200
    said = capfd.readouterr()
    assert "Admin key" not in said.out
    assert secret.split("_", 2)[2][:20] not in said.out + said.err and "key=first" in said.out + said.err


def test_a_browser_signs_in_and_out(guarded: httpx.Client, locked: Settings) -> None:
    own = {"Origin": str(guarded.base_url).rstrip("/")}
    key = made(locked, "analyses:read", tenant="films", days=1)
    assert_problem(guarded.post("/v1/session", json={"key": "uc_0_0"}, headers=own), 401, "unauthenticated")
    assert_problem(guarded.post("/v1/session", json={}, headers=own), 422, "invalid-request")
    answer = guarded.post("/v1/session", json={"key": key}, headers=own)
    assert answer.status_code == 201
    (cookie,) = answer.headers.get_list("Set-Cookie")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; ")) and "Secure" not in cookie
    assert key not in cookie and 43_000 < int(re.findall(r"Max-Age=(\d+)", cookie)[0]) <= 43_200
    me = guarded.get("/v1/me").json()
    assert (me["tenant"], me["scopes"], me["name"]) == ("films", ["analyses:read"], "test")
    assert guarded.get("/v1/analyses").status_code == 200
    assert_problem(guarded.post("/v1/analyses", headers=own), 403, "not-permitted")
    # What a browser sends by itself is no proof that our page asked.
    assert_problem(guarded.delete("/v1/session"), 403, "cross-origin")
    assert_problem(guarded.delete("/v1/session", headers={"Origin": "http://evil.example"}), 403, "cross-origin")
    held = guarded.cookies["undercurrent_session"]
    assert guarded.delete("/v1/session", headers=own).status_code == 204
    assert "undercurrent_session" not in guarded.cookies
    assert assert_problem(guarded.get("/v1/analyses", headers=bearer(held)), 401, "unauthenticated")["got"] == "a key that was revoked"
    assert guarded.get("/v1/analyses", headers=bearer(key)).status_code == 200


def test_without_an_issuer_sign_in_is_by_key(guarded: httpx.Client) -> None:
    assert 'id="issuer"' not in guarded.get("/sign-in").text
    for path in ("/sign-in/issuer", "/sign-in/issuer/back?code=x&state=y"):
        assert_problem(guarded.get(path), 404, "no-issuer")


def test_what_a_browser_holds_ends_with_its_key(guarded: httpx.Client, locked: Settings) -> None:
    own = {"Origin": str(guarded.base_url).rstrip("/")}
    key = made(locked, "admin")
    assert guarded.post("/v1/session", json={"key": key}, headers=own).status_code == 201
    # Not a way to stay for ever: a cookie that signs in again gives no child of a child.
    held = guarded.cookies["undercurrent_session"]
    assert guarded.post("/v1/session", json={"key": held}, headers=own).status_code == 201
    environment = {"UNDERCURRENT_DATA_DIR": str(locked.data_dir)}
    assert CliRunner().invoke(command_line, ["keys", "revoke", key.split("_")[1]], env=environment).exit_code == 0
    assert_problem(guarded.get("/v1/analyses"), 401, "unauthenticated")


async def test_a_stream_needs_a_key_too(guarded: httpx.Client, locked: Settings) -> None:
    reader, streamer = await asyncio.to_thread(made, locked, "analyses:read"), await asyncio.to_thread(made, locked, "streams")
    for key, reason in ((None, "wants a key"), ("uc_0_0", "not known"), (reader, "Expected streams")):
        with pytest.raises(errors.AccessDenied, match=reason):
            async with connect(str(guarded.base_url), mode="container", key=key):
                pass
    async with connect(str(guarded.base_url), mode="container", key=streamer) as live:
        assert live.ready.mode == "container"


def test_tenants_do_not_see_each_other(guarded: httpx.Client, locked: Settings, clip: Path) -> None:
    ours, theirs = (bearer(made(locked, "admin", tenant=tenant)) for tenant in ("ours", "theirs"))
    guarded.headers.update(ours)
    mine = upload(guarded, clip, wait_s=60, key="once").json()["id"]
    guarded.headers.update(theirs)
    assert guarded.get("/v1/analyses").json()["items"] == []
    asked = 0
    for path, methods in openapi_document()["paths"].items():
        if "{analysis_id}" in path:
            for method in methods:
                answer = guarded.request(method, path.format(analysis_id=mine, track=0, k=0))
                assert_problem(answer, 404, "analysis-not-found")
                asked += 1
    assert asked >= 8
    other = upload(guarded, clip, wait_s=60, key="once")
    assert other.status_code == 200 and other.json()["id"] != mine
    guarded.headers.update(ours)
    assert [item["id"] for item in guarded.get("/v1/analyses").json()["items"]] == [mine]
    assert guarded.get(f"/v1/analyses/{mine}/media").content == clip.read_bytes()


async def test_a_key_that_asks_too_much_is_told_when_to_ask_again(serve: Serve, locked: Settings) -> None:
    with serve(locked.model_copy(update={"keys": KeyTerms(per_minute=20, at_once=2)})) as client:
        greedy, modest = [bearer(await asyncio.to_thread(made, locked, "admin")) for _ in range(2)]
        secret = greedy["Authorization"].split()[1]
        async with connect(str(client.base_url), mode="container", key=secret), connect(str(client.base_url), mode="container", key=secret):
            full = await asyncio.to_thread(client.get, "/v1/analyses", headers=greedy)
            assert "2 (UNDERCURRENT_KEYS__AT_ONCE)" in str(assert_problem(full, 429, "too-many-requests")["expected"])
            assert full.headers["Retry-After"] == "1"
            with pytest.raises(errors.TooManyRequests, match="too many requests under way") as caught:
                async with connect(str(client.base_url), mode="container", key=secret, patience_s=0.5):
                    pass
            assert (caught.value.expected, caught.value.got) == ("at most 2 (UNDERCURRENT_KEYS__AT_ONCE)", "one more")
            assert caught.value.retry_after_s == 1.0
            assert client.get("/v1/analyses", headers=modest).status_code == 200
        async with asyncio.timeout(60):  # until the service has noticed that they are gone
            while client.get("/v1/analyses", headers=greedy).status_code != 200:
                await asyncio.sleep(0.1)
        answers = (client.get("/v1/analyses", headers=greedy) for _ in range(200))
        slow_down = next(answer for answer in answers if answer.status_code != 200)
        assert "20 a minute" in str(assert_problem(slow_down, 429, "too-many-requests")["expected"])
        assert 1 <= int(slow_down.headers["Retry-After"]) <= 3
        assert client.get("/v1/analyses", headers=modest).status_code == 200


def test_a_quota_fills_up_again() -> None:
    clock = [0.0]
    quota = Quota(KeyTerms(per_minute=6, at_once=9), now=lambda: clock[0])

    def asked(n: int) -> int:
        done = 0
        for _ in range(n):
            try:
                with quota.place("a"):
                    done += 1
            except TooManyRequests as refusal:
                assert 0 < refusal.retry_after_s <= 10
        return done

    assert asked(9) == 6
    clock[0] += 10
    assert asked(9) == 1
    clock[0] += 1000
    assert asked(9) == 6


def test_tenants_do_not_see_each_others_cameras(serve: Serve, locked: Settings) -> None:
    with serve(locked.model_copy(update={"camera_networks": (ip_network("127.0.0.0/8"),)})) as client:
        ours, theirs = (bearer(made(locked, "feeds", tenant=tenant)) for tenant in ("ours", "theirs"))
        camera = {"url": "rtsp://127.0.0.1:9/live"}
        once = {"Idempotency-Key": "once"}
        mine = client.post("/v1/feeds", json=camera, headers=ours | once).json()["id"]
        assert client.get("/v1/feeds", headers=theirs).json()["items"] == []
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/alerts"), ("GET", "/alerts/1/clip")):
            answer = client.request(method, f"/v1/feeds/{mine}{path}", headers=theirs, json={} if method == "PATCH" else None)
            assert_problem(answer, 404, "feed-not-found")
        other = client.post("/v1/feeds", json=camera, headers=theirs | once)
        assert other.status_code == 201 and other.json()["id"] != mine
        assert [item["id"] for item in client.get("/v1/feeds", headers=ours).json()["items"]] == [mine]
        assert_problem(client.get("/v1/analyses", headers=ours), 403, "not-permitted")


async def test_no_tenant_goes_on_with_another_ones_stream(guarded: httpx.Client, locked: Settings) -> None:
    ours, theirs = [await asyncio.to_thread(made, locked, "streams", tenant=tenant) for tenant in ("ours", "theirs")]
    async with talk(guarded, key=ours) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        resume = {"session_id": ready["session_id"], "token": ready["token"], "last_event_seq": 1}
        async with talk(guarded, key=theirs) as other:
            await other.say("start", resume=resume)
            assert await other.closed() == 4404
        async with talk(guarded, key=ours) as again:
            await again.say("start", resume=resume)
            await again.until("resumed")
