"""Keys over the wire: an admin makes, sees and ends those of its tenant, gives nobody more than it has, and is not locked out unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import URL

from service.database import Database, now
from service.key_store import KeyStore, LastAdminKey
from service.settings import Settings
from tests.service.conftest import Serve, assert_problem
from tests.service.test_keys import bearer, made


@pytest.fixture(scope="module")
def house(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Settings]]:
    """A service that wants keys; each test has a tenant of its own there."""
    data_dir: Path = tmp_path_factory.mktemp("keys") / "data"
    settings = Settings(data_dir=data_dir, min_free_bytes=0, hz=4.0, device="cpu", require_keys=True)
    with serve(settings) as client:
        yield client, settings


def test_a_key_is_made_shown_once_used_and_revoked(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    admin = bearer(made(settings, "admin", tenant="films"))
    wish = {"name": "newsroom é wire", "scopes": ["analyses:read", "streams", "streams"]}
    answer = client.post("/v1/keys", json=wish, headers=admin)
    created = answer.json()
    secret = created.pop("secret")
    assert answer.status_code == 201 and answer.headers["Cache-Control"] == "no-store"
    assert (created["name"], created["tenant"], created["scopes"], created["state"], created["expires_at"]) == (
        "newsroom é wire",
        "films",
        ["analyses:read", "streams"],
        "valid",
        None,
    )
    path = answer.headers["Location"]
    assert path == f"/v1/keys/{created['id']}" and client.get(path, headers=admin).json() == created
    listed = client.get("/v1/keys", headers=admin)
    assert created in listed.json()["items"] and secret not in listed.text and secret.split("_", 2)[2] not in listed.text
    me = client.get("/v1/me", headers=bearer(secret)).json()
    assert (me["tenant"], me["scopes"], me["key_id"], me["name"]) == ("films", created["scopes"], created["id"], "newsroom é wire")
    assert me["limits"]["requests_per_minute"] == settings.keys.per_minute
    assert_problem(client.get("/v1/keys", headers=bearer(secret)), 403, "not-permitted")
    assert_problem(client.post("/v1/keys", json=wish, headers=bearer(secret)), 403, "not-permitted")
    for _ in range(2):
        assert client.delete(path, headers=admin).status_code == 204
    assert assert_problem(client.get("/v1/me", headers=bearer(secret)), 401, "unauthenticated")["got"] == "a key that was revoked"
    assert client.get(path, headers=admin).json()["state"] == "revoked"
    told = [(item["action"], item["subject"], item["name"]) for item in client.get("/v1/audit", headers=admin).json()["items"]]
    assert told[:2] == [("key.revoked", created["id"], "test"), ("key.created", created["id"], "test")]


def test_pages_of_keys_hold_each_key_once(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    admin = bearer(made(settings, "admin", tenant="pages"))
    for n in range(6):
        assert client.post("/v1/keys", json={"name": f"{n}", "scopes": ["feeds"]}, headers=admin).status_code == 201
    names, at = [], "/v1/keys?limit=3"
    while at:
        page = client.get(at, headers=admin)
        names += [item["name"] for item in page.json()["items"]]
        at = page.links.get("next", {}).get("url", "")
        assert (page.json()["next"] is not None) == bool(at)
    assert names == ["5", "4", "3", "2", "1", "0", "test"]
    assert_problem(client.get("/v1/keys?cursor=0000", headers=admin), 422, "bad-cursor")


def test_a_key_of_another_tenant_does_not_exist(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    ours, theirs = (bearer(made(settings, "admin", tenant=tenant)) for tenant in ("ours", "theirs"))
    mine = client.post("/v1/keys", json={"name": "mine", "scopes": ["admin"]}, headers=ours).json()
    for method in ("GET", "DELETE"):
        assert_problem(client.request(method, f"/v1/keys/{mine['id']}", headers=theirs), 404, "key-not-found")
        assert_problem(client.request(method, "/v1/keys/nobody", headers=theirs), 404, "key-not-found")
    assert mine["id"] not in client.get("/v1/keys", headers=theirs).text
    assert_problem(client.get(f"/v1/keys?cursor={mine['id']}", headers=theirs), 422, "bad-cursor")
    assert_problem(
        client.post("/v1/keys", json={"name": "x", "scopes": ["admin"], "tenant": "ours"}, headers=theirs), 422, "invalid-request"
    )
    assert client.get("/v1/me", headers=bearer(mine["secret"])).json()["tenant"] == "ours"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\0b"},
        {"name": "\x1b[2J"},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": "admin"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2030-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expires_at": "0001-01-01T00:00:00+23:59"},
        {"secret": "mine"},
    ],
)
def test_a_wish_that_is_none_is_refused(house: tuple[httpx.Client, Settings], wrong: dict[str, object]) -> None:
    client, settings = house
    admin = bearer(made(settings, "admin", tenant="wrong"))
    assert_problem(client.post("/v1/keys", json={"name": "x", "scopes": ["feeds"], **wrong}, headers=admin), 422, "invalid-request")
    assert [item["name"] for item in client.get("/v1/keys", headers=admin).json()["items"] if item["name"] != "test"] == []


def test_no_key_outlives_the_one_that_made_it(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    secret = made(settings, "admin", tenant="guests", days=1)
    end = datetime.fromisoformat(client.get("/v1/me", headers=bearer(secret)).json()["expires_at"])
    own = {"Origin": str(client.base_url).rstrip("/")}
    # In a browser that was signed in with it, too.
    assert client.post("/v1/session", json={"key": secret}, headers=own).status_code == 201
    for headers in (bearer(secret), own):
        later = {"name": "x", "scopes": ["admin"], "expires_at": (end + timedelta(seconds=1)).isoformat()}
        assert_problem(client.post("/v1/keys", json=later, headers=headers), 403, "not-permitted")
        made_now = client.post("/v1/keys", json={"name": "x", "scopes": ["admin"]}, headers=headers).json()
        assert datetime.fromisoformat(made_now["expires_at"]) == end
    client.delete("/v1/session", headers=own)


def test_the_last_admin_says_that_it_leaves(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    first, second = made(settings, "admin", tenant="last"), made(settings, "admin", tenant="last")
    made(settings, "admin", tenant="last", days=-1)
    made(settings, "streams", tenant="last")
    first_id, second_id = first.split("_")[1], second.split("_")[1]
    assert client.delete(f"/v1/keys/{first_id}", headers=bearer(first)).status_code == 204
    refused = assert_problem(client.delete(f"/v1/keys/{second_id}", headers=bearer(second)), 409, "last-admin-key")
    assert "last_admin=true" in str(refused["expected"])
    assert client.get("/v1/me", headers=bearer(second)).status_code == 200
    assert client.delete(f"/v1/keys/{second_id}?last_admin=true", headers=bearer(second)).status_code == 204
    assert_problem(client.get("/v1/me", headers=bearer(second)), 401, "unauthenticated")


async def test_of_admins_that_revoke_each_other_one_stays(url: URL) -> None:
    databases = [await Database.open(url) for _ in range(4)]
    stores = [KeyStore(database) for database in databases]
    ids = [(await stores[0].create(f"{n}", ["admin"])).row.id for n in range(4)]
    ends = await asyncio.gather(
        *(store.revoke(key_id, last_admin=False) for store, key_id in zip(stores, ids, strict=True)), return_exceptions=True
    )
    assert sorted(str(end) if isinstance(end, bool) else type(end).__name__ for end in ends) == ["LastAdminKey", "True", "True", "True"]
    assert len([row for row in await stores[0].all() if row.why_not is None]) == 1
    with pytest.raises(LastAdminKey):
        await stores[0].revoke(next(row.id for row in await stores[0].all() if row.why_not is None), last_admin=False)
    for database in databases:
        await database.close()


async def test_a_session_ends_by_its_id_and_keeps_nobody_in(house: tuple[httpx.Client, Settings]) -> None:
    client, settings = house
    database = await Database.open(URL.create("sqlite+aiosqlite", database=str(settings.data_dir / "undercurrent.db")))
    keys = KeyStore(database)
    only = await keys.create("admin", ["admin"], tenant="people")
    person = await keys.create("ann@example.org", ["admin"], tenant="people", subject="248289761001", expires_at=now() + timedelta(hours=1))
    await database.close()
    headers = bearer(only.secret)
    assert [item["name"] for item in client.get("/v1/keys", headers=headers).json()["items"]] == ["admin"]
    # Who is signed in today is no reason to have no key tomorrow.
    assert_problem(client.delete(f"/v1/keys/{only.row.id}", headers=bearer(person.secret)), 409, "last-admin-key")
    assert client.delete(f"/v1/keys/{person.row.id}", headers=headers).status_code == 204
    assert_problem(client.get("/v1/me", headers=bearer(person.secret)), 401, "unauthenticated")
    told = [(item["action"], item["name"]) for item in client.get("/v1/audit", headers=headers).json()["items"]]
    assert told[:2] == [("session.ended", "admin"), ("session.created", "ann@example.org")]
