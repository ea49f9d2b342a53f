"""What a doctor calls unsafe: each thing by itself is found, with what to do, and a deployment that has none of them is called safe."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from service.cli import app
from service.deployment_facts import Facts, look_up
from service.deployment_findings import findings
from service.settings import Settings
from tests.service.test_keys import made

SAFE = Settings(data_dir=Path("data"), retention_days=30)
FACTS = Facts(data_dir_mode=0o700, free_bytes=2**50)
PUBLIC = {"host": "0.0.0.0", "allowed_hosts": ("films.example",)}
AWAY = SecretStr("postgresql://someone:hunter2@rows.example/rows")
BUCKET = {"store_url": "s3://media"}


def networks(*names: str) -> dict[str, Any]:
    return {"camera_networks": tuple(map(ip_network, names))}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = {
    "safe": ({}, {}, []),
    "public": (PUBLIC, {}, [("warning", "no-tls")]),
    "public behind a proxy": ({**PUBLIC, "trusted_proxies": (ip_network("10.1.0.0/16"),)}, {}, [("info", "tls-is-the-proxys")]),
    "a proxy that may be anybody": ({"trusted_proxies": (ip_network("0.0.0.0/0"),)}, {}, [("warning", "anybody-is-a-proxy")]),
    "any host": ({"host": "::"}, {}, [("warning", "no-tls"), ("warning", "any-host")]),
    "behind a proxy": ({"allowed_hosts": ("films.example",)}, {}, [("unsafe", "open-behind-a-proxy")]),
    "behind a proxy with keys": ({"allowed_hosts": ("films.example",), "require_keys": True}, {}, []),
    "only its own names": ({"allowed_hosts": ("localhost",)}, {}, []),
    "everywhere": (networks("0.0.0.0/0"), {}, [("unsafe", "wide-camera-network")]),
    "half of everywhere": (networks("128.0.0.0/1"), {}, [("unsafe", "wide-camera-network")]),
    "metadata": (networks("169.254.169.254/32"), {}, [("unsafe", "wide-camera-network")]),
    "metadata of another cloud": (networks("100.64.0.0/10"), {}, [("unsafe", "wide-camera-network")]),
    "host of a cloud": (networks("168.63.129.16/32"), {}, [("unsafe", "wide-camera-network")]),
    "link-local": (networks("fe80::/10"), {}, [("unsafe", "wide-camera-network")]),
    "itself": (networks("127.0.0.1/32"), {}, [("unsafe", "wide-camera-network")]),
    "cameras": (networks("10.1.2.0/24", "fd12::/64"), {}, [("info", "inner-network")] * 2),
    "database in the clear": ({"database_url": AWAY, "require_keys": True}, {}, [("unsafe", "database-in-the-clear")]),
    "database that may be anybody": (
        {"database_url": AWAY, "require_keys": True},
        {"sslmode": "require"},
        [("warning", "unverified-database")],
    ),
    "database that is known": ({"database_url": AWAY, "require_keys": True}, {"sslmode": "verify-full"}, []),
    "database of this machine": ({"database_url": SecretStr("postgresql://a@127.0.0.1/rows"), "require_keys": True}, {}, []),
    "database behind a socket": ({"database_url": SecretStr("postgresql://a@/rows?host=/run/postgresql"), "require_keys": True}, {}, []),
    "open replica": ({"database_url": SecretStr("postgresql://a@localhost/rows")}, {}, [("warning", "open-replica")]),
    "store in the clear": (
        BUCKET,
        {"store_endpoint": "http://minio.example:9000", "store_allows_http": True},
        [("unsafe", "store-in-the-clear")],
    ),
    "clients' store in the clear": ({**BUCKET, "store_public_url": "http://s3.example"}, {}, [("unsafe", "store-in-the-clear")]),
    "store of this machine": (BUCKET, {"store_endpoint": "http://localhost:9000"}, []),
    "store by TLS": (BUCKET, {"store_endpoint": "https://s3.example", "store_allows_http": True}, [("info", "store-may-be-in-the-clear")]),
    "an endpoint that is not used": ({}, {"store_endpoint": "http://minio.example:9000"}, []),
    "traces": ({"traces_endpoint": "http://collector.example:4318"}, {}, [("warning", "traces-in-the-clear")]),
    "open directory": ({}, {"data_dir_mode": 0o755}, [("unsafe", "open-data-directory")]),
    "shared directory": ({}, {"data_dir_mode": 0o750}, [("warning", "shared-data-directory")]),
    "no directory yet": ({}, {"data_dir_mode": None}, []),
    "root": ({}, {"is_root": True}, [("warning", "root")]),
    "full": ({}, {"free_bytes": 0}, [("warning", "disk-full")]),
    "nearly full": ({}, {"free_bytes": 2**29}, [("info", "disk-nearly-full")]),
    "no reserve": ({"min_free_bytes": 0}, {}, [("warning", "disk-may-fill")]),
    "for ever": ({"retention_days": None}, {}, [("info", "kept-for-ever")]),
    "other weights": ({"weights": Path("own.safetensors")}, {}, [("info", "other-weights")]),
    "endless keys": ({}, {"endless_admin_keys": ("first",)}, [("warning", "endless-admin-key")]),
    "unseen keys": ({}, {"endless_admin_keys": None}, [("info", "keys-unseen")]),
    "no child at home": ({}, {"decoding": "no child"}, [("warning", "no-decode-child")]),
    "no child in public": (PUBLIC, {"decoding": "no child"}, [("unsafe", "no-decode-child"), ("warning", "no-tls")]),
    "a child with a network": ({}, {"network_gone": False}, [("warning", "decode-child-keeps")]),
    "a child with everything": ({}, {"network_gone": False, "files_gone": False}, [("warning", "decode-child-keeps")]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_unsafe_is_found(case: tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]) -> None:
    settings, facts, expected = case
    found = findings(SAFE.model_copy(update=settings), replace(FACTS, **facts))
    assert [(one.severity, one.code) for one in found] == expected
    assert all(one.says.endswith(".") and one.do and "hunter2" not in one.says for one in found)


def test_facts_are_looked_up_and_nothing_is_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", store_url="s3://media")
    facts = look_up(
        settings, "child", network_gone=True, files_gone=True, environ={"AWS_ENDPOINT_URL": "http://s3", "PGSSLMODE": "require"}
    )
    assert not settings.data_dir.exists()
    assert (facts.data_dir_mode, facts.endless_admin_keys, facts.store_endpoint) == (None, (), "http://s3")
    assert (facts.sslmode, facts.store_allows_http, facts.is_root) == ("require", False, os.geteuid() == 0)
    assert facts.free_bytes is not None and facts.free_bytes > 0
    settings.data_dir.mkdir(mode=0o751)
    settings.data_dir.chmod(0o751)
    endless, _short, _reader = made(settings, "admin"), made(settings, "admin", days=1), made(settings, "analyses:read")
    facts = look_up(settings, "child", network_gone=True, files_gone=True, environ={})
    assert (facts.data_dir_mode, facts.endless_admin_keys, facts.sslmode) == (0o751, (endless.split("_")[1],), "prefer")


def test_a_database_that_cannot_be_read_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "undercurrent.db")) as other:
        other.execute("CREATE TABLE something (else_ TEXT)")
    before = (tmp_path / "undercurrent.db").read_bytes()
    facts = look_up(Settings(data_dir=tmp_path), "child", network_gone=True, files_gone=True, environ={})
    assert facts.endless_admin_keys is None and (tmp_path / "undercurrent.db").read_bytes() == before


def test_the_doctor_says_so_and_its_exit_status_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("UNDERCURRENT_DATA_DIR", str(tmp_path))
    unsafe = CliRunner().invoke(app, ["doctor", "--json"])
    told = json.loads(unsafe.stdout)
    assert (unsafe.exit_code, told["healthy"]) == (1, False)
    assert [one["code"] for one in told["findings"] if one["severity"] == "unsafe"] == ["open-data-directory"]
    assert "matches" in told["machine"]["weights"]
    tmp_path.chmod(0o700)
    safe = CliRunner().invoke(app, ["doctor"])
    assert safe.exit_code == 0 and "kept for ever" in safe.stdout.replace("\n", " ")
