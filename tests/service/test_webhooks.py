"""Webhooks over HTTP: what ends is told to whoever asked, signed, whatever happens to this service; and nothing is told to anybody else."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.database import now
from service.settings import Settings
from tests.ports import free_port
from tests.service.conftest import assert_problem, upload
from tests.service.processes import Serving, serving
from tests.service.test_analyses import until
from tests.service.test_keys import bearer, made
from tests.support import ROOT
from tests.web import Post, Web, web_server

NEAR = '["127.0.0.0/8"]'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service that wants keys and may tell this machine; each test has a tenant of its own."""
    with serving(tmp_path_factory.mktemp("webhooks"), camera_networks=NEAR, require_keys="true") as running:
        yield running


@pytest.fixture
def tenant(service: Serving, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of a tenant that nobody else is."""
    with client_of(service, re.sub(r"\W", "-", request.node.name)[:64]) as client:
        yield client


@pytest.fixture
def other(service: Serving) -> Iterator[httpx.Client]:
    """Of somebody else."""
    with client_of(service, "somebody-else") as client:
        yield client


@pytest.fixture(scope="module")
def anybody(service: Serving) -> Iterator[httpx.Client]:
    """A client who is refused whatever he asks."""
    with client_of(service, "anybody") as client:
        yield client
        assert client.get("/v1/webhooks").json()["items"] == []


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as running:
        yield running


def client_of(service: Serving, tenant: str) -> httpx.Client:
    settings = Settings(data_dir=service.log_file.parent / "data")
    secret = made(settings, "webhooks", "analyses:read", "analyses:write", tenant=tenant)
    return httpx.Client(base_url=service.client.base_url, headers=bearer(secret), timeout=60)


def register(client: httpx.Client, url: str, **said: object) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": url, **said})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == body["links"]["self"]
    return body


def end_one(client: httpx.Client, clip: Path) -> str:
    """An analysis that ends soon, this way or that; its path."""
    path = upload(client, clip).headers["Location"]
    client.post(f"{path}/cancel")
    assert until(client, path, "cancelled", "succeeded")
    return path


def verified(post: Post, secret: str) -> dict[str, Any]:
    """What it tells; raises WebhookVerificationError unless this secret has signed it, just now."""
    told: dict[str, Any] = Webhook(secret).verify(post.body, post.headers)
    return told


def arrived(web: Web, n: int) -> list[Post]:
    """What was sent, once it is as much as this."""
    end = time.monotonic() + 60
    while len(web.posted) < n:
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return web.posted


def test_an_analysis_that_ends_is_told_once_signed_and_thin(service: Serving, tenant: httpx.Client, web: Web, clip: Path) -> None:
    webhook = register(tenant, web.give("/hook?token=private", b"thanks").replace("//", "//user:hunter2@"), description="the newsroom")
    with clip.open("rb") as file:
        answer = tenant.post("/v1/analyses", files={"file": file, "external_id": (None, "case 7")})
    analysis = until(tenant, answer.headers["Location"], "succeeded")
    (post,) = arrived(web, 1)
    told = verified(post, webhook["secret"])
    assert (told["type"], told["data"]["id"], told["data"]["external_id"]) == ("analysis.succeeded", analysis["id"], "case 7")
    assert {name: told["data"][name] for name in ("verdict", "p", "status")} == {
        name: analysis[name] for name in ("verdict", "p", "status")
    }
    assert tenant.get(told["data"]["links"]["self"]).json()["result"] is not None and len(post.body) < 1000
    assert datetime.fromisoformat(told["timestamp"]) == datetime.fromisoformat(analysis["finished_at"])
    assert post.headers["content-type"] == "application/json" and post.headers["authorization"].startswith("Basic ")
    with pytest.raises(WebhookVerificationError):
        verified(Post(post.path, post.headers, post.body.replace(b"succeeded", b"cancelled")), webhook["secret"])
    delivery = wait_for_status(tenant, webhook, "delivered")
    assert (delivery["event"], delivery["event_id"], delivery["next_attempt_at"]) == (
        "analysis.succeeded",
        post.headers["webhook-id"],
        None,
    )
    (attempt,) = delivery["attempts"]
    assert (attempt["n"], attempt["status_code"], attempt["answer"], attempt["error"]) == (1, 200, "thanks", None)
    shown = tenant.get("/v1/webhooks").text + tenant.get(webhook["links"]["self"]).text + service.log_file.read_text("utf-8")
    for private in (webhook["secret"], webhook["secret"].removeprefix("whsec_"), "hunter2", "private"):
        assert private not in shown
    assert tenant.get(webhook["links"]["self"]).json()["url"] == web.url("/hook")


def wait_for_status(client: httpx.Client, webhook: dict[str, Any], status: str) -> dict[str, Any]:
    """The one delivery of a webhook, once it has come to that."""
    end = time.monotonic() + 60
    while not (items := client.get(webhook["links"]["deliveries"], params={"status": status}).json()["items"]):
        assert time.monotonic() < end, client.get(webhook["links"]["deliveries"]).text
        time.sleep(0.02)
    (delivery,) = items
    found: dict[str, Any] = delivery
    return found


def test_a_secret_is_followed_by_another_while_both_sign(tenant: httpx.Client, web: Web) -> None:
    webhook = register(tenant, web.give("/", b""))
    rotated = tenant.post(webhook["links"]["rotate"]).json()
    ends = datetime.fromisoformat(rotated["previous_secrets_until"]) - now()
    assert timedelta(hours=23) < ends <= timedelta(hours=24) and rotated["secret"] != webhook["secret"]
    assert tenant.post(webhook["links"]["test"]).json()["status"] == "delivered"
    for secret in (webhook["secret"], rotated["secret"]):
        assert verified(web.posted[0], secret)["data"] == {"webhook": webhook["id"]}
    assert web.posted[0].headers["webhook-signature"].count("v1,") == 2
    leaked = tenant.post(webhook["links"]["rotate"], json={"overlap_s": 0}).json()
    assert leaked["previous_secrets_until"] is None
    tenant.post(webhook["links"]["test"])
    assert verified(web.posted[1], leaked["secret"])["type"] == "ping"
    for secret in (webhook["secret"], rotated["secret"]):
        with pytest.raises(WebhookVerificationError):
            verified(web.posted[1], secret)
    for _ in range(4):
        assert tenant.post(webhook["links"]["rotate"]).status_code == 200
    assert_problem(tenant.post(webhook["links"]["rotate"]), 409, "too-many-secrets")


def test_the_test_button_says_what_came_back_and_does_not_try_again(tenant: httpx.Client, web: Web) -> None:
    webhook = register(tenant, web.give("/", b"no such account", status=403), events=["alert.ended"])
    tested = tenant.post(webhook["links"]["test"]).json()
    assert (tested["event"], tested["status"], tested["next_attempt_at"]) == ("ping", "failed", None)
    assert (tested["attempts"][0]["status_code"], tested["attempts"][0]["answer"]) == (403, "no such account")
    tenant.patch(webhook["links"]["self"], json={"url": web.give("/other", b""), "enabled": False})
    assert tenant.post(webhook["links"]["test"]).json()["status"] == "delivered", "before it is enabled one may want to know"
    assert [post.path for post in web.posted] == ["/", "/other"]


def test_a_delivery_is_told_again_under_its_own_id(tenant: httpx.Client, web: Web) -> None:
    webhook = register(tenant, web.give("/", b""))
    tested = tenant.post(webhook["links"]["test"]).json()
    assert tenant.post(tested["links"]["replay"]).status_code == 202
    arrived(web, 2)
    end = time.monotonic() + 60
    while (again := tenant.get(tested["links"]["self"]).json())["status"] != "delivered" or len(again["attempts"]) < 2:
        assert time.monotonic() < end, again
    assert [post.headers["webhook-id"] for post in web.posted] == [tested["event_id"]] * 2
    assert [verified(post, webhook["secret"])["type"] for post in web.posted] == ["ping"] * 2


def test_pages_give_every_delivery_once_newest_first(tenant: httpx.Client, web: Web) -> None:
    webhook = register(tenant, web.give("/", b""))
    sent = [tenant.post(webhook["links"]["test"]).json()["id"] for _ in range(5)]
    seen: list[str] = []
    path: str | None = f"{webhook['links']['deliveries']}?limit=2&status=delivered"
    while path:
        page = tenant.get(path)
        seen += [one["id"] for one in page.json()["items"]]
        path = page.links["next"]["url"] if "next" in page.links else None
        assert (path is None) == (page.json()["next"] is None)
    assert seen == sent[::-1]
    assert tenant.get(webhook["links"]["deliveries"], params={"status": "failed"}).json()["items"] == []


def test_a_webhook_is_changed_paused_and_deleted_and_that_is_obeyed(tenant: httpx.Client, web: Web, clip: Path) -> None:
    webhook = register(tenant, web.give("/", b""), events=["analysis.cancelled", "analysis.cancelled"])
    assert webhook["events"] == ["analysis.cancelled"] and webhook["enabled"]
    paused = tenant.patch(webhook["links"]["self"], json={"enabled": False, "description": "later"}).json()
    assert (paused["enabled"], paused["disabled"], paused["description"], paused["url"]) == (False, "asked", "later", webhook["url"])
    end_one(tenant, clip)
    enabled = tenant.patch(webhook["links"]["self"], json={"enabled": True, "events": None}).json()
    assert (enabled["enabled"], enabled["disabled"], enabled["events"]) == (True, None, None)
    path = end_one(tenant, clip)
    (post,) = arrived(web, 1)
    assert verified(post, webhook["secret"])["data"]["links"]["self"] == path
    assert_problem(tenant.patch(webhook["links"]["self"], json={"url": "http://10.0.0.1/"}), 403, "url-not-allowed")
    assert tenant.delete(webhook["links"]["self"]).status_code == 204
    assert_problem(tenant.get(webhook["links"]["self"]), 404, "webhook-not-found")
    end_one(tenant, clip)
    assert len(web.posted) == 1


def test_tenants_do_not_see_each_others_webhooks(service: Serving, tenant: httpx.Client, other: httpx.Client, web: Web, clip: Path) -> None:
    webhook = register(tenant, web.give("/", b""))
    delivery = tenant.post(webhook["links"]["test"]).json()
    mine = register(other, web.give("/other", b""))
    assert [one["id"] for one in other.get("/v1/webhooks").json()["items"]] == [mine["id"]]
    for method, path in (
        *((method, webhook["links"]["self"]) for method in ("GET", "PATCH", "DELETE")),
        *(("POST", webhook["links"][name]) for name in ("rotate", "test")),
        ("GET", webhook["links"]["deliveries"]),
        *(("GET", delivery["links"]["self"]), ("POST", delivery["links"]["replay"])),
    ):
        assert_problem(other.request(method, path, json={} if method == "PATCH" else None), 404, "webhook-not-found")
    strange = delivery["links"]["self"].replace(webhook["id"], mine["id"])
    assert_problem(other.get(strange), 404, "delivery-not-found")
    end_one(tenant, clip)
    arrived(web, 2)
    assert {post.path for post in web.posted} == {"/"}, "of what another tenant's analyses come to nothing is told"
    reader = made(Settings(data_dir=service.log_file.parent / "data"), "analyses:read", "analyses:write", "feeds", "streams")
    assert_problem(service.client.get("/v1/webhooks", headers=bearer(reader)), 403, "not-permitted")


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://167772161/", "http://[fd00::1]/", "http://[::ffff:10.0.0.1]/",
        "http://user@0.0.0.0/", "http://[::1]/", "http://8.8.8.8/",
    ],
)  # fmt: skip
def test_nobody_is_told_who_is_where_this_service_may_not_go(anybody: httpx.Client, url: str) -> None:
    assert_problem(anybody.post("/v1/webhooks", json={"url": url}), 403, "url-not-allowed")


@pytest.mark.parametrize(
    "said",
    [
        {"url": "ftp://example.org/"}, {"url": "rtsp://example.org/"}, {"url": "file:///etc/passwd"}, {"url": ""}, {"url": 7}, {},
        {"url": "http://example.org/\r\nX-Evil: 1"}, {"url": "http://example.org/\nHost: evil"}, {"url": "http://example.org/ x"},
        {"url": "http://example.org/" + "x" * 2048}, {"url": "http://example.org/", "events": []}, {"url": "http://example.org/\0"},
        {"url": "http://example.org/", "events": ["everything"]}, {"url": "http://example.org/", "description": "a\0b"},
        {"url": "http://example.org/", "description": "x" * 201}, {"url": "http://example.org/", "secret": "whsec_mine"},
    ],
)  # fmt: skip
def test_what_is_no_webhook_is_refused(anybody: httpx.Client, said: dict[str, object]) -> None:
    assert_problem(anybody.post("/v1/webhooks", json=said), 422, "invalid-request")


def test_what_people_write_is_no_header(tenant: httpx.Client, web: Web) -> None:
    webhook = register(tenant, web.give("/%0d%0aX-Evil:%201", b""), description="a\r\nX-Evil: 1")
    assert tenant.post(webhook["links"]["test"]).json()["status"] == "delivered"
    assert "x-evil" not in web.posted[0].headers and webhook["description"] == "a\r\nX-Evil: 1"


def test_a_service_that_is_killed_before_it_has_told_tells_after_its_restart(tmp_path: Path, web: Web, clip: Path) -> None:
    asked, leave = threading.Event(), threading.Event()

    def mute(_: BaseHTTPRequestHandler) -> None:
        asked.set()
        leave.wait(60)

    web.answers["/"] = mute
    with serving(tmp_path, camera_networks=NEAR) as first:
        webhook = register(first.client, web.url("/"))
        path = end_one(first.client, clip)
        assert asked.wait(60)
        first.process.kill()
        first.process.wait()
    leave.set()
    web.give("/", b"")
    with serving(tmp_path, camera_networks=NEAR) as second:
        lost, again = arrived(web, 2)
        assert wait_for_status(second.client, webhook, "delivered")["event_id"] == lost.headers["webhook-id"] == again.headers["webhook-id"]
        assert lost.body == again.body and verified(again, webhook["secret"])["data"]["id"] == path.rpartition("/")[2]
        found = second.client.get("/metrics").text
        assert 'undercurrent_webhook_attempts_total{outcome="delivered"} 1.0' in found and "undercurrent_webhooks_pending 0.0" in found


@contextmanager
def receiver(secret: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """The README's, with a secret and a port of the test's own."""
    (program,) = re.findall(r"```python\n([^`]*standardwebhooks[^`]*)```", (ROOT / "README.md").read_text("utf-8"))
    assert program.count("whsec_...") == 1 and program.count("9000") == 1
    program = program.replace("whsec_...", secret).replace("9000", str(port))
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_the_receiver_of_the_readme_believes_us_and_nobody_else(tenant: httpx.Client, clip: Path) -> None:
    port = free_port()
    webhook = register(tenant, f"http://127.0.0.1:{port}/")
    with receiver(webhook["secret"], port) as running:
        end = time.monotonic() + 60
        while tenant.post(webhook["links"]["test"]).json()["status"] != "delivered":
            assert time.monotonic() < end and running.poll() is None, running.stderr
        forged = {"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"http://127.0.0.1:{port}/", json={"type": "analysis.succeeded", "data": {}}, headers=forged, timeout=60)
        path = end_one(tenant, clip)
        assert running.stdout is not None
        while (line := running.stdout.readline()) and "analysis" not in line:
            assert "ping" in line
        assert line.split()[1] == path
