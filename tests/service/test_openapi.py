"""The contract: the committed OpenAPI document is the one the code makes, every refusal in it is a problem, and the service keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import Case, CheckFunction, Response
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

import service
from service.app import openapi_document
from service.ids import new_id
from service.settings import Settings
from tests.service.conftest import upload
from tests.service.processes import serving
from tests.service.test_keys import bearer, made

COMMITTED = Path(service.__file__).with_name("openapi.json")


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in openapi_document()["paths"].items() for method, one in methods.items()]


def test_the_committed_document_is_up_to_date() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == openapi_document(), "run `undercurrent openapi`"


def test_the_document_is_the_same_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = openapi_document()
    monkeypatch.setenv("UNDERCURRENT_PORT", "1")
    monkeypatch.setenv("UNDERCURRENT_HZ", "not a number")
    assert openapi_document() == before


def test_the_running_service_shows_it(judged: tuple[httpx.Client, str]) -> None:
    assert judged[0].get("/openapi.json").json() == openapi_document()


def test_every_operation_has_a_name_a_tag_and_a_description() -> None:
    names = [one["operationId"] for _, _, one in operations()]
    assert len(names) == len(set(names))
    for path, method, one in operations():
        assert one["operationId"].isidentifier(), (path, method)
        assert one["tags"] and one["description"], (path, method)


def test_every_documented_refusal_is_a_problem() -> None:
    for path, method, one in operations():
        refusals = {status: answer for status, answer in one["responses"].items() if int(status) >= 400}
        assert refusals, (path, method)
        for status, answer in refusals.items():
            assert answer["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, (
                path,
                method,
                status,
            )


# Bytes that a schema lets through need not be a video, and are refused for that.
NOT_OURS: list[CheckFunction] = [positive_data_acceptance]
ENDLESS = "/v1/feeds/events"
"""An answer that never ends, to anybody; test_feed_wall.py reads as much of it as there is."""
BRIEF = settings(
    max_examples=25, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def patience_s(case: Case[Any]) -> float:
    """How long an answer may take. Events are listened to for so long; all else takes long on a busy machine alone."""
    return 10.0 if case.operation.path.endswith("/events") else 120.0


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[httpx.Client]:
    """A service in a process of its own: hypothesis wants the randomness of this one for itself, and DBOS draws from it too.

    It wants keys, and its client has one that may do everything; that it does not answer without one is checked too.
    """
    with serving(tmp_path, require_keys="true", keys__per_minute=10**6) as service:
        service.client.headers.update(bearer(made(Settings(data_dir=tmp_path / "data"), "admin")))
        yield service.client


def test_random_requests_get_only_documented_answers(apart: httpx.Client, clip: Path) -> None:
    """Schemathesis: no 5xx, and only the statuses, content types and bodies that the document promises."""
    known = upload(apart, clip, wait_s=60).json()["id"]
    schema = schemathesis.openapi.from_url(f"{apart.base_url}/openapi.json", timeout=120).exclude(path=ENDLESS)
    key = {"Authorization": apart.headers["Authorization"]}
    asked: set[str] = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @BRIEF
        @given(operation.as_strategy(), st.booleans())
        def ask(case: Case[Any], of_one_that_exists: bool) -> None:
            if of_one_that_exists and "analysis_id" in case.path_parameters and case.method == "GET":
                case.path_parameters["analysis_id"] = known
            case.validate_response(case.call(headers=key, timeout=patience_s(case)), excluded_checks=NOT_OURS, headers=key)
            asked.add(case.operation.label)

        ask()
    assert asked == {f"{method.upper()} {path}" for path, method, _ in operations() if path != ENDLESS}


def test_whatever_is_done_in_a_row_is_answered_as_documented(apart: httpx.Client, clip: Path) -> None:
    """Schemathesis, stateful: what one answer names is asked for, listed, cancelled, removed and asked for again."""
    media = clip.read_bytes()
    own = apart.get("/v1/me").json()["key_id"]
    ours: set[str] = set()
    asked: dict[str, set[int]] = {}
    failures: list[str] = []

    class Walk(schemathesis.openapi.from_url(f"{apart.base_url}/openapi.json", timeout=120).exclude(path=ENDLESS).as_state_machine()):  # type: ignore[misc]  # made at run time
        def before_call(self, case: Case[Any]) -> None:
            # No random bytes are a video.
            if case.operation.label == "POST /v1/analyses" and case.media_type in ("video/mp4", "application/octet-stream"):
                case.body = media
            # Who revokes its own key asks no more.
            if case.operation.label == "DELETE /v1/keys/{key_id}" and case.path_parameters.get("key_id") == own:
                case.path_parameters["key_id"] = new_id()

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return {"headers": {"Authorization": apart.headers["Authorization"]}, "timeout": patience_s(case)}

        def after_call(self, response: Response, case: Case[Any]) -> None:
            asked.setdefault(case.operation.label, set()).add(response.status_code)
            if case.operation.label == "POST /v1/analyses" and response.status_code < 300:
                ours.add(response.json()["id"])

        def validate_response(self, response: Response, case: Case[Any], additional_checks: object = None, **kwargs: object) -> None:
            try:
                case.validate_response(response, excluded_checks=NOT_OURS, transport_kwargs=kwargs)
            except FailureGroup as failure:
                failures.append(str(failure))
                raise

    def reached() -> set[str]:
        return {label for label, statuses in asked.items() if "{analysis_id}" in label and min(statuses) < 400}

    # Where a walk leads is chance: some more are taken until they have been to analyses.
    for n in range(12):
        if n >= 3 and ours and len(reached()) > 2:
            break
        # A service that works meanwhile does not answer twice alike, which ends a run; what was found until then counts.
        with suppress(FlakyStrategyDefinition):
            Walk.run(settings=settings(BRIEF, derandomize=False, max_examples=8, stateful_step_count=10))
    assert failures == []
    assert ours, asked
    assert len(reached()) > 2, asked
