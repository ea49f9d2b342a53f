"""Refusals: whatever goes wrong has one shape, an id that the log knows, and the same security headers."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI

from models.checkpoint import WeightsError
from pipelines import errors
from pipelines.analysis import Model
from service.app import create_app
from service.boundary import SECURITY_HEADERS
from service.problems import ServiceError, problem_of
from service.settings import Settings
from tests.service.conftest import assert_problem

T = TypeVar("T")
Kind = type[errors.PipelineError] | type[ServiceError] | type[WeightsError]


def subclasses(kind: type[T]) -> list[type[T]]:
    return [kind, *(below for one in kind.__subclasses__() for below in subclasses(one))]


KINDS: list[Kind] = [*subclasses(errors.PipelineError), *subclasses(ServiceError), WeightsError]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_typed_error_is_a_problem(kind: Kind) -> None:
    error = kind() if kind is errors.AnalysisCancelled else kind("It failed.", expected="this", got="that")
    problem = problem_of(error, instance="/x", request_id="1")
    assert problem.type == f"urn:undercurrent:problem:{kind.slug}"
    assert 400 <= problem.status < 600
    assert (problem.title, problem.detail, problem.expected, problem.got) == (kind.title, error.detail, error.expected, error.got)
    assert str(error) == f"{error.detail} Expected {error.expected}; got {error.got}."


def test_slugs_are_unique() -> None:
    slugs = [kind.slug for kind in KINDS]
    assert len(slugs) == len(set(slugs))


def test_what_does_not_exist_is_a_problem(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    assert_problem(client.get("/nothing"), 404, "not-found")
    assert_problem(client.get("/assets/nothing.js"), 404, "not-found")
    assert_problem(client.put(path), 405, "method-not-allowed")
    assert "GET" in client.put(path).headers["Allow"]


def test_an_invalid_request_names_every_faulty_field(judged: tuple[httpx.Client, str]) -> None:
    problem = assert_problem(judged[0].get("/v1/analyses?limit=0&verdict=authentic"), 422, "invalid-request")
    faults: Any = problem["errors"]
    assert {fault["pointer"] for fault in faults} == {"/query/limit", "/query/verdict"}
    assert_problem(judged[0].get("/v1/analyses/not-an-id"), 422, "invalid-request")


def test_every_answer_has_an_id_and_security_headers(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    for url in ("/", path, "/nothing", "/assets/mark.svg", "/livez"):
        answer = client.get(url, headers={"X-Request-ID": "trace-7"})
        assert answer.headers["X-Request-ID"] == "trace-7"
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
    for forged in ("a b", "x" * 65, "<script>"):
        assert client.get("/livez", headers={"X-Request-ID": forged}).headers["X-Request-ID"] != forged


def test_a_host_that_is_not_ours_is_refused(judged: tuple[httpx.Client, str]) -> None:
    client, _ = judged
    assert_problem(client.get("/livez", headers={"Host": "evil.example:80"}), 400, "unknown-host")
    assert_problem(client.get("/livez", headers={"Host": "[bad"}), 400, "unknown-host")
    assert client.get("/livez", headers={"Host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_site_may_change_nothing(judged: tuple[httpx.Client, str], headers: dict[str, str]) -> None:
    client, path = judged
    assert_problem(client.delete(path, headers=headers), 403, "cross-origin")
    assert client.get(path, headers=headers).status_code == 200
    own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert_problem(client.post(f"{path}/cancel", headers=own), 409, "already-ended")


def ask(app: FastAPI, path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(run())


def test_what_nobody_foresaw_is_a_problem_without_its_cause(settings: Settings, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(settings, model)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the secret path /root/x")

    answer = ask(app, "/broken")
    problem = assert_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name] == value
    logged = capsys.readouterr().out
    assert "the secret path" in logged
    assert str(problem["request_id"]) in logged


def test_a_host_of_ones_own_can_be_allowed(settings: Settings, model: Model) -> None:
    app = create_app(settings.model_copy(update={"allowed_hosts": ("films.example",)}), model)
    assert_problem(ask(app, "/livez"), 400, "unknown-host")
    open_to_all = create_app(settings.model_copy(update={"host": "0.0.0.0"}), model)
    assert ask(open_to_all, "/livez").status_code == 200


def test_what_has_one_value_is_said_once(client: httpx.Client) -> None:
    twice = assert_problem(client.get("/v1/audit?who=a&action=key.created&action=key.revoked&who=b"), 422, "invalid-request")
    assert twice["errors"] == [{"pointer": "/query/who", "detail": "Input should be one value"}] and twice["got"] == "query/who: a list"
    assert client.get("/v1/audit?action=key.created&action=key.revoked&nothing=1&nothing=2").status_code == 200
    assert client.get("/queue?state=a&state=b&view=1&view=2").status_code == 200, "a page says by itself what it makes of its address"
