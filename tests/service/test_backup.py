"""The drill: what `docker/README.md` says about backup and restore is done word for word, while it runs, and nothing is missing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.connection import database_url
from service.database import Database, now
from service.feed_rows import FeedRows
from service.feed_store import Evidence, FeedStore
from service.settings import Settings
from tests.postgres import Cluster
from tests.s3 import S3
from tests.service.conftest import Serve, upload
from tests.service.test_analyses import until
from tests.service.test_feed_rows import alert
from tests.service.test_feeds import register
from tests.service.test_keys import bearer, made
from tests.service.test_storage import in_bucket
from tests.support import ROOT, require
from tests.web import web_server


def said(what: str) -> str:
    """The block of the guide that begins with this word."""
    guide = (ROOT / "docker" / "README.md").read_text("utf-8")
    blocks: dict[str, str] = dict(re.findall(r"```sh\n# ([\w-]+)[^\n]*\n(.*?)```", guide, flags=re.DOTALL))
    return blocks[what]


@dataclass
class Place:
    """Where a service keeps everything, and how all of it is lost."""

    settings: Settings
    lose: Callable[[], Settings]
    """Returns settings of an empty place to restore to."""
    suffix: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def do(self, what: str, settings: Settings, backup: Path) -> None:
        """As an operator does, with the service's own variables."""
        known = {"DATA": str(settings.data_dir), "BACKUP": str(backup)}
        if settings.database_url is not None and settings.store_url is not None:
            known |= {
                "UNDERCURRENT_DATABASE_URL": settings.database_url.get_secret_value(),
                "UNDERCURRENT_STORE_URL": settings.store_url,
            }
        subprocess.run(["sh", "-euc", said(what + self.suffix)], env={**os.environ, **known}, check=True)


@pytest.fixture
def one_container(settings: Settings) -> Place:
    def lose() -> Settings:
        shutil.rmtree(settings.data_dir)
        return settings

    return Place(settings, lose)


@pytest.fixture
def scaled(settings: Settings, postgres: Cluster, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Place:
    programs = require("postgresql")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    require("aws")

    def on_an_empty_server() -> Settings:
        url = SecretStr(postgres.create())
        return in_bucket(s3, settings.model_copy(update={"database_url": url}), monkeypatch)

    def lose() -> Settings:
        shutil.rmtree(settings.data_dir)
        s3.empty()
        return on_an_empty_server()

    return Place(on_an_empty_server(), lose, "-scaled")


def with_an_alert(settings: Settings, feed: str) -> None:
    """An alert of a camera that was watched, with its evidence."""
    feed_id = feed.rpartition("/")[2]
    for evidence in get_args(Evidence):
        FeedStore.open(settings).put(feed_id, 1, evidence, f"the {evidence}".encode())
    facts = {"cause": "below", "ended_at": now(), "still_bytes": 9, "clip_bytes": 8, "clip_first_pts": 2**40, "clip_last_pts": 2**40}

    async def add() -> None:
        database = await Database.open(database_url(settings))
        assert await FeedRows(database, alone=False).add_alert(alert(feed_id, **facts)) == 1
        await database.close()

    asyncio.run(add())


def still_append_only(settings: Settings) -> None:
    async def forget(table: str) -> None:
        database = await Database.open(database_url(settings))
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.sessions.begin() as session:
                await session.execute(text(f"DELETE FROM {table}"))
        await database.close()

    for table in ("audit", "reviews"):
        asyncio.run(forget(table))


@pytest.mark.parametrize("where", ["one_container", "scaled"])
def test_what_was_backed_up_while_it_ran_is_all_there_after_a_restore(
    where: str, request: pytest.FixtureRequest, serve: Serve, clip: Path, endless: Path, tmp_path: Path
) -> None:
    place: Place = request.getfixturevalue(where)
    backup, settings = tmp_path / "backup", _near(place.settings)
    admin = bearer(made(settings, "admin"))

    with web_server() as web:
        with serve(settings) as client:
            client.headers.update(admin)
            webhook = client.post("/v1/webhooks", json={"url": web.give("/told", b"")}).json()
            ended = upload(client, clip, wait_s=60, key="once").headers["Location"]
            client.post(f"{ended}/review-lock").raise_for_status()
            decided = {"decision": "genuine", "reason": "source_confirms", "note": "filmed before my eyes"}
            client.post(f"{ended}/reviews", json=decided).raise_for_status()
            reader = client.post("/v1/keys", json={"name": "reader", "scopes": ["analyses:read"]}).json()["secret"]
            running = upload(client, endless).headers["Location"]
            until(client, running, "running")
            place.do("backup", settings, backup)  # there was never a camera: a part of the place is not there yet
            shutil.rmtree(backup)
            feed = register(client, "rtsp://127.0.0.1:9/nobody", name="gate")
            with_an_alert(settings, feed)
            place.do("backup", settings, backup)
            shown = [ended, *(f"{ended}/{part}" for part in ("timeline", "media", "report", "reviews"))]
            shown += [f"{feed}/{part}" for part in ("alerts", "alerts/1/still", "alerts/1/clip")]
            kept = (*shown, "/v1/signing-keys", "/v1/keys", webhook["links"]["self"])
            before = {path: client.get(path).raise_for_status().content for path in kept}
            audit: list[dict[str, Any]] = client.get("/v1/audit").json()["items"]
            later = upload(client, clip).headers["Location"]
        settings = _near(place.lose())
        place.do("restore", settings, backup)

        with serve(settings) as client:
            assert client.get(ended).status_code == 401
            client.headers.update(admin)
            assert {path: client.get(path).raise_for_status().content for path in kept} == before
            assert client.get(ended, headers=bearer(reader)).json()["status"] == "succeeded", "a key opens what it opened"
            assert upload(client, clip, key="once").headers["Location"] == ended, "a retried upload is still known"
            assert client.get(later).status_code == 404
            assert client.get(feed).json()["name"] == "gate"
            lines = client.get("/v1/audit", params={"limit": 100}).json()["items"]
            assert [line for line in lines if line in audit] == audit
            assert client.post(f"{webhook['links']['self']}/test").json()["status"] == "delivered"
            assert web.posted[-1].signed_by(webhook["secret"]), "a receiver goes on believing"
            assert until(client, running, "running")["finished_at"] is None, "what was under way begins again"
            client.post(f"{running}/cancel")
    still_append_only(settings)
    assert {path.stat().st_mode & 0o077 for path in (backup, *backup.iterdir())} == {0}, "nobody else reads it"


def _near(settings: Settings) -> Settings:
    """Wants keys, though it is on loopback, and reaches this machine."""
    return settings.model_copy(update={"require_keys": True, "camera_networks": (ip_network("127.0.0.0/8"),)})
