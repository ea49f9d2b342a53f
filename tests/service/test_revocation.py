"""A key ends while somebody is connected with it: events and streams end soon and say why, those of others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from pipelines import load
from service import key_watch
from service.auth import Unauthenticated
from service.client import connect, errors
from service.connection import database_url
from service.database import Database, now
from service.key_store import KeyRow, KeyStore, NewKey
from service.key_watch import key_end
from service.settings import Settings
from tests.postgres import Cluster
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.streaming import talk
from tests.service.test_analyses import events
from tests.service.test_feeds import register
from tests.service.test_keys import bearer, made


@dataclass(frozen=True)
class House:
    """A service that wants keys, with a feed; `client` is an admin."""

    client: httpx.Client
    settings: Settings
    feed: str


@pytest.fixture(scope="module")
def house(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("revoked") / "data",
        min_free_bytes=0,
        hz=4.0,
        device="cpu",
        require_keys=True,
        camera_networks=(ip_network("127.0.0.0/8"),),
    )
    with serve(settings) as client:
        client.headers.update(bearer(made(settings, "admin")))
        yield House(client, settings, register(client, "rtsp://127.0.0.1:9/live"))


@pytest.fixture
def running(house: House, endless: Path) -> Iterator[str]:
    """An analysis that goes on for longer than its test; not beside live streams, which a busy machine has no room for."""
    path = upload(house.client, endless).headers["Location"]
    yield path
    assert house.client.delete(path).status_code == 204


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_watch, "CHECK_S", 0.2)
    # One test after the other begins a stream beside the feed, as fast as this machine can.
    monkeypatch.setattr(load, "A_SECOND", 1000.0)


def revoke(house: House, secret: str) -> None:
    assert house.client.delete(f"/v1/keys/{secret.split('_')[1]}").status_code == 204


Way = Callable[[House], tuple[str, Callable[[], None]]]
"""Makes what somebody connects with; called again, ends it."""


def revoked(house: House) -> tuple[str, Callable[[], None]]:
    secret = made(house.settings, "analyses:read", "feeds", "streams")
    return secret, lambda: revoke(house, secret)


def expired(house: House) -> tuple[str, Callable[[], None]]:
    secret = made(house.settings, "analyses:read", "feeds", "streams", days=1)

    async def expire() -> None:
        database = await Database.open(database_url(house.settings))
        try:
            async with database.sessions.begin() as session:
                await session.execute(update(KeyRow).where(KeyRow.id == secret.split("_")[1]).values(expires_at=now()))
        finally:
            await database.close()

    # Its time is over when the test says so: who connects with it may take as long as the machine needs.
    return secret, lambda: asyncio.run(expire())


def revoked_with_its_parent(house: House) -> tuple[str, Callable[[], None]]:
    key = made(house.settings, "analyses:read", "feeds", "streams")
    own = {"Origin": str(house.client.base_url).rstrip("/")}
    with httpx.Client(base_url=house.client.base_url, timeout=60) as browser:
        assert browser.post("/v1/session", json={"key": key}, headers=own).status_code == 201
        return browser.cookies["undercurrent_session"], lambda: revoke(house, key)


def signed_in_by_an_issuer(house: House) -> tuple[str, Callable[[], None]]:
    async def create() -> NewKey:
        database = await Database.open(database_url(house.settings))
        try:
            until = now() + timedelta(hours=12)
            return await KeyStore(database).create("ann@example.org", ["admin"], expires_at=until, subject="248289761001")
        finally:
            await database.close()

    secret = asyncio.run(create()).secret
    return secret, lambda: revoke(house, secret)


WAYS = (revoked, expired, revoked_with_its_parent, signed_in_by_an_issuer)


@pytest.mark.parametrize("way", WAYS)
def test_events_end_with_their_key(house: House, running: str, way: Way) -> None:
    client = house.client
    secret, end = way(house)
    key = {"Authorization": "", "Cookie": f"undercurrent_session={secret}"} if "session" in way.__name__ else bearer(secret)
    paths = (f"{running}/events", f"{house.feed}/events")
    with (
        client.stream("GET", paths[0], headers=key) as analysis,
        client.stream("GET", paths[1], headers=key) as feed,
        client.stream("GET", paths[1]) as bystander,
    ):
        others = events(bystander.iter_lines())
        assert next(others)[0] == "state"
        told = [events(stream.iter_lines()) for stream in (analysis, feed)]
        assert [next(one)[0] for one in told] == ["state", "state"]
        end()
        for one in told:
            name, problem = list(one)[-1]
            assert (name, problem["type"], problem["status"]) == ("error", "urn:undercurrent:problem:unauthenticated", 401)
            assert problem["got"] == ("a key that has expired" if way is expired else "a key that was revoked")
        assert client.patch(house.feed, json={"paused": True}).status_code == 200
        assert any(name == "state" and data["state"] == "paused" for name, data in others), "a key that holds goes on"
    for path in paths:
        assert_problem(client.get(path, headers={**key, "Last-Event-ID": "1"}), 401, "unauthenticated")
    assert client.patch(house.feed, json={"paused": False}).status_code == 200


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_ends_with_its_key_and_nobody_goes_on_with_it(house: House, way: Way) -> None:
    secret, end = await asyncio.to_thread(way, house)
    admin = house.client.headers["Authorization"].removeprefix("Bearer ")
    async with talk(house.client, key=secret) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        await asyncio.to_thread(end)
        assert await it.closed() == 4401
        error = it.events[-1]
        assert (error["type"], error["code"], error["session_id"]) == ("error", "unauthenticated", ready["session_id"])
        assert not error["retryable"] and error["event_seq"] is None
        resume: dict[str, Any] = {"session_id": ready["session_id"], "token": ready["token"], "last_event_seq": 1}
        async with talk(house.client, key=admin) as other:
            await other.say("start", resume=resume)
            assert await other.closed() == 4404
        with pytest.raises(errors.AccessDenied):
            async with connect(str(house.client.base_url), mode="container", key=secret):
                pass


async def test_a_stream_whose_connection_was_lost_is_gone_on_with_by_its_own_key_alone(house: House) -> None:
    key = await asyncio.to_thread(made, house.settings, "streams")
    own = {"Origin": str(house.client.base_url).rstrip("/")}
    with httpx.Client(base_url=house.client.base_url, timeout=60) as browser:
        assert (await asyncio.to_thread(browser.post, "/v1/session", json={"key": key}, headers=own)).status_code == 201
        cookie = browser.cookies["undercurrent_session"]
    another = await asyncio.to_thread(made, house.settings, "streams", "admin")

    async with talk(house.client, key=key) as it:
        await it.say("start", mode="container")
        ready = await it.until("ready")
        it.socket.transport.abort()
    resume = {"session_id": ready["session_id"], "token": ready["token"], "last_event_seq": 1}

    async def refused() -> None:
        async with talk(house.client, key=another) as it:
            await it.say("start", resume=resume)
            assert await it.closed() == 4404, "the token is not enough: this key may outlive the one with which the stream is to end"

    await refused()
    for secret in (cookie, key):
        async with talk(house.client, key=secret) as it:
            await it.say("start", resume=resume)
            await it.until("resumed")
            it.socket.transport.abort()
    await asyncio.to_thread(revoke, house, key)
    await refused()


async def test_the_client_says_that_its_key_has_ended(house: House) -> None:
    secret, end = await asyncio.to_thread(revoked, house)
    with pytest.raises(errors.KeyEnded) as told:
        async with connect(str(house.client.base_url), mode="container", key=secret) as live:
            await asyncio.to_thread(end)
            async for _ in live:
                pass
    assert told.value.got == "a key that was revoked"


async def test_a_database_that_is_away_ends_nothing(postgres: Cluster) -> None:
    database = await Database.open(database_url(Settings(database_url=SecretStr(postgres.create()))))
    failed = asyncio.Event()

    class Watched(KeyStore):
        async def why_not(self, key_id: str) -> str | None:
            try:
                return await super().why_not(key_id)
            except OperationalError:
                failed.set()
                raise

    keys = Watched(database)
    try:
        made = await keys.create("test", ["feeds"])
        ended = asyncio.create_task(key_end(keys, made.row.id))
        await asyncio.to_thread(postgres.stop)
        try:
            await asyncio.wait_for(failed.wait(), 30)
            await asyncio.sleep(0.5)
            assert not ended.done()
        finally:
            await asyncio.to_thread(postgres.start)
        assert await keys.revoke(made.row.id, last_admin=True)
        with pytest.raises(Unauthenticated, match="cannot be used any more"):
            await asyncio.wait_for(ended, 30)
    finally:
        await database.close()


async def test_whoever_needs_no_key_stays(tmp_path: Path) -> None:
    database = await Database.open(database_url(Settings(data_dir=tmp_path)))
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(key_end(KeyStore(database), None), 0.5)
        with pytest.raises(Unauthenticated, match="any more"):
            await asyncio.wait_for(key_end(KeyStore(database), "nobody"), 30)
    finally:
        await database.close()
