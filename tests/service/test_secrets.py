"""No secret is said: keys, passwords in URLs, secrets of database, store, webhooks and issuer, whatever goes wrong with each of them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.ports import free_port
from tests.postgres import Cluster
from tests.s3 import S3
from tests.service.conftest import upload
from tests.service.issuer import CLIENT, issuer
from tests.service.processes import serving
from tests.service.test_keys import bearer, made
from tests.service.test_oidc import leave
from tests.service.test_takeover import told, wait_for
from tests.web import web_server

CAMERA, IMPORT, TOKEN, DATABASE, STORE, HOOK, CLIENT_SECRET = (f"hunter{number}hunter{number}" for number in range(7))


def test_no_secret_is_said_whatever_goes_wrong(
    postgres: Cluster, s3: S3, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    database_url = postgres.create().replace("postgres@", f"postgres:{DATABASE}@")
    settings = Settings(data_dir=tmp_path / "none", database_url=SecretStr(database_url))
    key, ended, weak = made(settings, "admin"), made(settings, "admin", days=-1), made(settings, "analyses:read")
    for name, value in {**s3.environment, "AWS_SECRET_ACCESS_KEY": STORE}.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    with web_server() as web, issuer() as it:
        chosen = {
            "database_url": database_url,
            "store_url": "s3://media",
            "require_keys": "true",
            "camera_networks": '["127.0.0.0/8"]',
            "replica_lost_s": "2",
            "oidc__issuer": it.url,
            "oidc__client_id": CLIENT,
            "oidc__client_secret": CLIENT_SECRET,
            "oidc__allowed_domains": '["*"]',
        }
        with serving(tmp_path, **chosen) as service:
            client = service.client

            def ask(method: str, path: str, **given: object) -> int:
                answer = client.request(method, path, **{"headers": bearer(key), **given})  # type: ignore[arg-type]  # as httpx takes them
                said.append(f"{answer.headers} {answer.text}")
                return answer.status_code

            # Keys: wrong, ended, too weak, in the wrong place.
            assert ask("GET", "/v1/analyses", headers=bearer(key + "x")) == 401
            assert ask("GET", "/v1/analyses", headers=bearer(ended)) == 401
            assert ask("GET", "/v1/audit", headers=bearer(weak)) == 403
            assert ask("GET", "/v1/analyses", headers={"Authorization": f"Basic {key}"}) == 401
            assert ask("GET", f"/v1/analyses?cursor={key}") == 422
            assert ask("GET", f"/v1/analyses?status={key}&limit={key}") == 422
            assert client.get(f"/v1/analyses/{key}", headers=bearer(key)).status_code == 422
            own = {"Origin": str(client.base_url).rstrip("/")}
            for body in ({"kye": key}, {"key": [key]}, {"key": {"key": key}}, {"key": key * 4}, {"key": "Bearer " + key * 4}):
                assert ask("POST", "/v1/session", json=body, headers=own) == 422
            assert ask("POST", "/v1/session", json=key, headers=own) == 422
            assert ask("POST", "/v1/session", content=f'{{"key": "{key}', headers={**own, "Content-Type": "application/json"}) == 422

            # URLs of media, cameras and webhooks: where nobody answers, and where they cannot be read.
            for place in (f"127.0.0.1:{free_port()}", "no.such.host.invalid", "127.0.0.1:99999", "[::1"):
                url = f"http://someone:{IMPORT}@{place}/clip.mp4?token={TOKEN}"
                assert ask("POST", "/v1/analyses", json={"url": url}) in (403, 422)
                assert ask("POST", "/v1/feeds", json={"url": url.replace("http", "rtsp").replace(IMPORT, CAMERA)}) in (201, 403, 422)
                assert ask("POST", "/v1/webhooks", json={"url": url.replace(IMPORT, HOOK), "events": ["nothing"]}) in (403, 422)
            assert ask("POST", "/v1/analyses", json={"url": {"a": f"http://someone:{IMPORT}@x"}}) == 422
            wait_for(lambda: [line for line in told(service, "feed_state") if line["code"]])

            # A receiver that refuses; its secret is in the answer that made it, and in no other.
            hook = web.give("/hook", b"no", status=500).replace("//", f"//someone:{HOOK}@")
            answer = client.post("/v1/webhooks", json={"url": hook, "events": ["analysis.failed"]}, headers=bearer(key))
            assert answer.status_code == 201, answer.text
            whsec, links = answer.json()["secret"], answer.json()["links"]
            assert ask("POST", links["test"]) in (200, 202)
            wait_for(lambda: told(service, "webhook_attempt"))
            assert ask("POST", "/v1/webhooks", json={"url": hook, "events": [whsec], "secret": whsec}) == 422
            for path in (links["self"], links["deliveries"], f"{links['deliveries']}?cursor={whsec}"):
                assert ask("GET", path) in (200, 422)

            # An issuer that repeats the secret that it refuses.
            it.answer = lambda at: (400, f'{{"error": "{CLIENT_SECRET}"}}'.encode()) if at == "/token" else None
            assert ask("GET", leave(client)) in (401, 502, 503)

            # The store refuses, then the database is away.
            s3.drop_bucket()
            client.headers.update(bearer(key))
            refused = upload(client, clip)
            said.append(refused.text)
            assert refused.status_code == 503
            assert ask("GET", "/readyz") == 503
            postgres.stop()
            try:
                assert ask("GET", "/v1/analyses") == 503
                wait_for(lambda: told(service, "not_done"))
            finally:
                postgres.start()
            wait_for(lambda: client.get("/v1/feeds").status_code == 200)
            for path in ("/v1/feeds", "/v1/webhooks", "/v1/audit", "/v1/analyses", "/v1/keys", "/v1/me", "/metrics", "/openapi.json"):
                assert ask("GET", path) == 200
            service.ended(signal.SIGTERM, 60)
    log = (tmp_path / "log").read_text("utf-8")
    for happened in ("store_failed", "database_away", "webhook_attempt"):
        assert happened in log
    out = capfd.readouterr()
    everything = "\n".join((log, out.out, out.err, *said))
    of_keys = {"key": key, "ended": ended, "weak": weak, "webhook": whsec}
    words = {
        "camera": CAMERA,
        "import": IMPORT,
        "token": TOKEN,
        "database": DATABASE,
        "store": STORE,
        "hook": HOOK,
        "issuer": CLIENT_SECRET,
    }
    # A part of one is enough to be one too many.
    sought = {**words, **{name: secret.removeprefix("whsec_").split("_", 2)[-1][:12] for name, secret in of_keys.items()}}
    assert {name: everything[everything.index(one) - 200 :][:300] for name, one in sought.items() if one in everything} == {}
