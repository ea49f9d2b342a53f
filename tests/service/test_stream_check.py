"""`GET /v1/stream`: what a browser is not told of a refused WebSocket is what it is told here, word for word."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any, cast

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from service import streams
from service.settings import KeyTerms, Settings, TenantTerms
from service.stream_errors import StreamDraining
from service.streams import Streams
from tests.service.conftest import Serve, assert_problem
from tests.service.streaming import stream_url, talk
from tests.service.test_keys import bearer, made
from tests.service.test_streams import with_terms
from tests.service.watching import WallWatcher

PATH = "/v1/stream"
Json = dict[str, Any]


async def asked(client: httpx.Client, key: str | None = None) -> httpx.Response:
    return await asyncio.to_thread(client.get, PATH, headers={} if key is None else bearer(key))


async def refused(client: httpx.Client, key: str | None = None) -> tuple[int, Json, str | None]:
    """Status, problem and `Retry-After` that the WebSocket itself is refused with."""
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(stream_url(client), subprotocols=["undercurrent.v1"], additional_headers={} if key is None else bearer(key)):  # type: ignore[list-item]
            pass
    response = refusal.value.response
    return response.status_code, json.loads(response.body), response.headers.get("Retry-After")


def alike(answer: httpx.Response, refusal: tuple[int, Json, str | None]) -> None:
    problem = answer.json()
    for one in (problem, refusal[1]):
        one.pop("request_id")
    assert (answer.status_code, problem, answer.headers.get("Retry-After")) == refusal


async def test_who_may_open_a_stream_is_told_nothing(client: httpx.Client) -> None:
    answer = await asked(client)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_who_has_no_key_or_none_for_streams_is_told_so(serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        other, right = [await asyncio.to_thread(made, locked, scope) for scope in ("analyses:read", "streams")]
        nobody = await asked(client)
        assert_problem(nobody, 401, "unauthenticated")
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
        alike(nobody, await refused(client))
        forbidden = await asked(client, other)
        assert assert_problem(forbidden, 403, "not-permitted")["expected"] == "streams"
        alike(forbidden, await refused(client, other))
        assert (await asked(client, right)).status_code == 204


async def test_who_asks_too_much_is_told_when_to_come_again(serve: Serve, settings: Settings) -> None:
    locked = settings.model_copy(update={"require_keys": True, "keys": KeyTerms(at_once=1)})
    with serve(locked) as client:
        key = await asyncio.to_thread(made, locked, "admin")
        with WallWatcher(client, headers=bearer(key)):
            while (answer := await asked(client, key)).status_code == 204:
                await asyncio.sleep(0.05)
            assert_problem(answer, 429, "too-many-requests")
            assert int(answer.headers["Retry-After"]) >= 1
            alike(answer, await refused(client, key))


@pytest.mark.parametrize("of", ["the service", "the tenant"])
async def test_a_service_without_a_seat_says_so(serve: Serve, settings: Settings, of: str) -> None:
    few = (
        with_terms(settings, max_streams=1) if of == "the service" else settings.model_copy(update={"tenants": TenantTerms(max_streams=1)})
    )
    with serve(few) as client:
        async with talk(client) as it:
            await it.say("start", mode="container")
            await it.until("ready")
            answer = await asked(client)
            problem = assert_problem(answer, 503, "overloaded")
            assert "MAX_STREAMS" in str(problem["expected"]) and int(answer.headers["Retry-After"]) >= 1
            await it.say("stop")
            await it.until("end")
        for _ in range(200):
            if (answer := await asked(client)).status_code == 204:
                break
            await asyncio.sleep(0.05)
        assert answer.status_code == 204


async def test_a_service_full_of_connections_says_so(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SPARE_CONNECTIONS", 1)
    with serve(with_terms(settings, max_streams=1)) as client:
        async with AsyncExitStack() as connected:
            for _ in range(2):
                await connected.enter_async_context(talk(client))
            answer = await asked(client)
            assert assert_problem(answer, 503, "overloaded")["got"] == "one more"
            alike(answer, await refused(client))


async def test_a_service_that_stops_takes_nobody(settings: Settings) -> None:
    nothing = cast(Any, None)
    stopping = Streams(settings, nothing, nothing, None)
    await stopping.drain(0.0)
    with pytest.raises(StreamDraining) as refusal:
        stopping.check("default")
    assert refusal.value.status == 503 and int(refusal.value.headers["Retry-After"]) >= 1
