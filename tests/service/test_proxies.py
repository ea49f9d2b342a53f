"""Proxies in front: who may say that a browser came by TLS, so that its session is for TLS alone; through our nginx where it is there."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from service.settings import Settings, SettingsError, read_settings
from tests.nginx import nginx
from tests.service.conftest import Serve
from tests.service.test_keys import made
from tests.support import require

BY_TLS = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
NOT_THIS_MACHINE = (ip_network("10.9.9.9/32"),)


def is_secure(client: httpx.Client, key: str, **headers: str) -> bool:
    """Whether whoever signs in gets a session that browsers send over TLS alone."""
    answer = client.post("/v1/session", json={"key": key}, headers={"Origin": f"http://{client.base_url.netloc.decode()}", **headers})
    assert answer.status_code == 201, answer.text
    (cookie,) = answer.headers.get_list("Set-Cookie")
    client.cookies.clear()
    return "Secure" in cookie.split("; ")


def test_a_proxy_that_is_trusted_says_that_a_browser_came_by_tls(serve: Serve, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own word for it
    for trusted, believed in ((settings.trusted_proxies, True), (NOT_THIS_MACHINE, False)):
        chosen = settings.model_copy(update={"require_keys": True, "trusted_proxies": trusted})
        key = made(chosen, "analyses:read")
        with serve(chosen) as client:
            assert is_secure(client, key, **BY_TLS) is believed
            assert is_secure(client, key) is False
            for lie in ("HTTPS", "https, http", "gopher", ""):
                assert is_secure(client, key, **{"X-Forwarded-Proto": lie}) is False, lie


def test_tls_may_end_before_nginx_and_only_whoever_ends_it_says_so(serve: Serve, settings: Settings, tmp_path: Path) -> None:
    require("nginx")
    locked = settings.model_copy(update={"require_keys": True})
    key = made(locked, "analyses:read")
    with serve(locked) as service:
        port = service.base_url.port
        assert port is not None
        with (
            nginx(tmp_path, port, port) as client,
            httpx.Client(base_url=client.base_url, transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=60) as stranger,
        ):
            assert is_secure(client, key, **BY_TLS)
            assert not is_secure(client, key) and not is_secure(client, key, **{"X-Forwarded-Proto": "http"})
            assert not is_secure(stranger, key, **BY_TLS), "nginx does not repeat what any client says"


def test_a_replica_that_does_not_trust_nginx_is_told_nothing_by_it(serve: Serve, settings: Settings, tmp_path: Path) -> None:
    require("nginx")
    locked = settings.model_copy(update={"require_keys": True, "trusted_proxies": NOT_THIS_MACHINE})
    key = made(locked, "analyses:read")
    with serve(locked) as service:
        port = service.base_url.port
        assert port is not None
        with nginx(tmp_path, port, port) as client:
            assert not is_secure(client, key, **BY_TLS)


def test_proxies_are_named_as_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCURRENT_TRUSTED_PROXIES", '["10.1.0.0/16", "fd00::1"]')
    assert read_settings().trusted_proxies == (ip_network("10.1.0.0/16"), ip_network("fd00::1/128"))
    for wrong in ('["*"]', '["proxy.example"]', '["10.1.0.1/16"]'):
        monkeypatch.setenv("UNDERCURRENT_TRUSTED_PROXIES", wrong)
        with pytest.raises(SettingsError, match="UNDERCURRENT_TRUSTED_PROXIES"):
            read_settings()
