"""The system in one answer: what an admin is told of model, health, settings and safety, and what nobody is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.analysis import Model
from service.problems import StoreUnavailable
from service.settings import Settings
from service.shown_settings import SHOWN, shown_settings
from service.storage import Storage
from tests.service.conftest import Serve, assert_problem
from tests.service.test_keys import bearer, made


@pytest.fixture
def locked(settings: Settings) -> Settings:
    """Keys are needed, and something is unsafe: every user of the machine can enter the data directory."""
    settings.data_dir.mkdir(mode=0o755)
    settings.data_dir.chmod(0o755)
    changed = settings.model_copy(update={"require_keys": True, "retention_days": 30.0})
    return changed


@pytest.fixture
def guarded(serve: Serve, locked: Settings) -> Iterator[httpx.Client]:
    with serve(locked) as client:
        yield client


def test_an_admin_is_told_how_it_fares_and_what_is_unsafe(guarded: httpx.Client, locked: Settings, model: Model) -> None:
    secret = made(locked, "admin")
    answer = guarded.get("/v1/system", headers=bearer(secret))
    told = answer.json()
    assert (told["database"], told["store"]) == (
        {"kind": "sqlite", "reachable": True, "trouble": None},
        {"kind": "directory", "reachable": True, "trouble": None},
    )
    assert told["queue"] == {"queued": 0, "running": 0, "oldest_age_s": 0.0, "workers": locked.workers}
    assert told["webhooks"] == {"pending": 0, "oldest_age_s": 0.0, "overdue_s": 0.0}
    assert (told["live"]["streams"], told["live"]["mean_s"], told["live"]["p95_s"], told["gpus"]) == (0, None, None, [])
    assert told["model"]["weights_sha256"] == model.info.weights_sha256
    assert told["model"]["calibration_id"] == model.info.calibration_id
    assert 0 < told["model"]["doubt_threshold"] <= told["model"]["threshold"] < 1
    kept = next(one for one in told["settings"] if one["variable"] == "UNDERCURRENT_RETENTION_DAYS")
    assert (kept["value"], kept["unit"], kept["is_default"]) == (30.0, "days", False)
    found = {one["code"]: one for one in told["findings"]}
    assert found["open-data-directory"]["severity"] == "unsafe"
    assert found["open-data-directory"]["do"] == "chmod 700 $UNDERCURRENT_DATA_DIR"
    assert secret.split("_")[1] in found["endless-admin-key"]["says"]
    for private in (secret, str(locked.data_dir), os.environ["HOME"], str(Path.cwd())):
        assert private not in answer.text


def test_what_is_unsafe_is_not_told_to_other_tenants(guarded: httpx.Client, locked: Settings) -> None:
    told = guarded.get("/v1/system", headers=bearer(made(locked, "admin", tenant="films"))).json()
    assert told["findings"] is None and told["database"]["reachable"]
    reader = bearer(made(locked, "analyses:read", "webhooks", "reviews:lead"))
    assert_problem(guarded.get("/v1/system", headers=reader), 403, "not-permitted")
    assert_problem(guarded.get("/v1/system"), 401, "unauthenticated")


def test_a_store_that_is_away_is_said_beside_all_else(guarded: httpx.Client, locked: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Storage) -> None:
        raise StoreUnavailable("The directory of media is gone.", expected="a directory that can be written", got=str(locked.data_dir))

    monkeypatch.setattr(Storage, "check", gone)
    told = guarded.get("/v1/system", headers=bearer(made(locked, "admin"))).json()
    assert (told["store"]["reachable"], told["database"]["reachable"]) == (False, True)
    assert told["store"]["trouble"] == "Media and evidence cannot be reached." and str(locked.data_dir) not in str(told["store"])


def test_what_is_shown_of_the_settings_is_there_and_has_its_default() -> None:
    shown = shown_settings(Settings())
    assert [one.variable for one in shown] == [f"UNDERCURRENT_{name.replace('.', '__').upper()}" for _, name, _ in SHOWN]
    assert all(one.is_default for one in shown)
    assert not any(word in one.variable for one in shown for word in ("SECRET", "URL", "DIR", "KEY_", "PATH", "OIDC", "HOST"))
