"""Deliveries, on SQLite and on PostgreSQL: noted with what they tell of, sent by one at a time, and again until they arrive."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network

import pytest
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from pipelines.errors import UnsupportedMedia, UrlNotAllowed
from service import webhook_attempt
from service.database import AnalysisRow, Database, now
from service.feed_rows import FeedRows
from service.ids import new_id
from service.problems import problem_of
from service.shared_clock import NO_WAIT
from service.url_policy import Network, UrlPolicy
from service.webhook_attempt import ANSWER_CHARS
from service.webhook_deliverer import FAILING_FOR, JITTER, KEPT, PER_WEBHOOK, WAITS_S, Deliverer
from service.webhook_deliveries import HELD, Deliveries, DeliveryRow, announce
from service.webhook_events import alert_changed, analysis_ended, ping
from service.webhook_rows import WebhookRow, WebhookRows, new_secret, only
from tests.ports import free_port
from tests.service.test_database import row
from tests.service.test_feed_rows import alert, feed
from tests.web import Web, web_server

NEAR: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    opened = await Database.open(url)
    opened.when_ended(analysis_ended)
    yield opened
    await opened.close()


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


def deliverer(database: Database, clock: Clock, replica: str = "a", networks: tuple[Network, ...] = NEAR) -> Deliverer:
    return Deliverer(WebhookRows(database), Deliveries(database, clock), UrlPolicy(networks), replica, clock=clock, draw=lambda: 0.5)


async def registered(database: Database, url: str, **values: object) -> WebhookRow:
    facts = {"id": new_id(), "tenant": "default", "events": "", "secrets": only(new_secret()), "created_at": now()}
    webhook = WebhookRow(**{"url": url, **facts, **values})
    await WebhookRows(database).add(webhook)
    return webhook


async def ended(database: Database) -> AnalysisRow:
    """An analysis that was cancelled."""
    one = row()
    await database.add(one)
    assert await database.move(one.id, "queued", "cancelled")
    return one


async def one_of(database: Database, webhook: WebhookRow) -> DeliveryRow:
    (found,) = await Deliveries(database).page(webhook.id, before=None, limit=9)
    return found


async def sent(it: Deliverer) -> None:
    await it.look()
    await it.idle()


async def test_what_ends_and_who_is_to_be_told_are_one_transaction(database: Database) -> None:
    webhook = await registered(database, "http://127.0.0.1/")
    one = row()
    await database.add(one)

    async def dies(session: AsyncSession, ended: AnalysisRow) -> None:
        await analysis_ended(session, ended)
        await session.flush()
        raise ConnectionAbortedError

    database.when_ended(dies)
    with pytest.raises(ConnectionAbortedError):
        await database.move(one.id, "queued", "cancelled")
    left = await database.get(one.id)
    assert left is not None and left.status == "queued"
    assert await Deliveries(database).page(webhook.id, before=None, limit=9) == []
    database.when_ended(analysis_ended)
    assert await database.move(one.id, "queued", "cancelled")
    assert not await database.move(one.id, "queued", "cancelled")
    assert (await one_of(database, webhook)).event == "analysis.cancelled"


async def test_only_who_wants_to_know_is_told(database: Database) -> None:
    wanted = [await registered(database, "http://127.0.0.1/", events=events) for events in ("", "alert.ended analysis.cancelled")]
    unwanted = [
        await registered(database, "http://127.0.0.1/", **values)
        for values in ({"events": "analysis.failed"}, {"tenant": "other"}, {"disabled": "asked"})
    ]
    await ended(database)
    event_ids = {(await one_of(database, webhook)).event_id for webhook in wanted}
    assert len(event_ids) == 1
    for webhook in unwanted:
        assert await Deliveries(database).page(webhook.id, before=None, limit=9) == []


async def test_a_receiver_that_fails_is_asked_again_for_days_and_then_told_of(database: Database, web: Web, clock: Clock) -> None:
    it = deliverer(database, clock)
    secret = new_secret()
    webhook = await registered(database, web.give("/", b"no", status=500), secrets=only(secret))
    await ended(database)
    began = clock.now = now()
    for n, wait_s in enumerate(WAITS_S):
        await sent(it)
        await sent(it)
        assert len(web.posted) == n + 1, "not before it is due"
        delivery = await one_of(database, webhook)
        assert (delivery.status, delivery.tries, delivery.held_by) == ("pending", n + 1, None)
        assert (delivery.due_at - clock.now).total_seconds() == pytest.approx(wait_s)
        clock.now = delivery.due_at
    await sent(it)
    assert (await one_of(database, webhook)).status == "failed"
    failing = await WebhookRows(database).get(webhook.id)
    assert failing is not None and failing.failing_since == clock.now and failing.disabled is None
    assert clock.now - began == timedelta(seconds=sum(WAITS_S))
    assert {post.headers["webhook-id"] for post in web.posted} == {delivery.event_id} and len({post.body for post in web.posted}) == 1
    assert all(post.signed_by(secret) and not post.signed_by(new_secret()) for post in web.posted)
    assert [one.status_code for one in (await Deliveries(database).attempts([delivery.id]))[delivery.id]] == [500] * 10
    assert it.counts == {"retried": 9, "failed": 1}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_was_failing_and_takes_something_again_is_well(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b""), failing_since=clock.now - timedelta(days=1))
    await ended(database)
    clock.now = now()
    await sent(deliverer(database, clock))
    well = await WebhookRows(database).get(webhook.id)
    assert well is not None and well.failing_since is None and (await one_of(database, webhook)).status == "delivered"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_nothing_delivered_for_days_disables(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b"", status=500), failing_since=clock.now - FAILING_FOR - timedelta(minutes=1))
    await ended(database)
    for _ in range(len(WAITS_S) + 1):
        clock.now = (await one_of(database, webhook)).due_at
        await sent(deliverer(database, clock))
    disabled = await WebhookRows(database).get(webhook.id)
    assert disabled is not None and disabled.disabled == "failing"


async def test_a_receiver_that_is_gone_is_left_alone(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b"", status=410))
    await ended(database)
    await ended(database)
    clock.now = now()
    it = deliverer(database, clock)
    await sent(it)
    gone = await WebhookRows(database).get(webhook.id)
    assert gone is not None and gone.disabled == "gone"
    asked = len(web.posted)
    clock.now += timedelta(days=9)
    await sent(it)
    await ended(database)
    assert len(web.posted) == asked <= 2
    assert (await Deliveries(database).waiting()).count == 0
    assert len(await Deliveries(database).page(webhook.id, before=None, limit=9)) == 2, "nothing new is noted"


@pytest.mark.parametrize(
    ("said", "wait_s"), [("1", WAITS_S[0]), ("3600", 3600), ("9" * 12, 86_400), ("soon", WAITS_S[0]), ("-5", WAITS_S[0]), ("date", 600)]
)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_busy_receiver_says_when(database: Database, web: Web, clock: Clock, said: str, wait_s: float) -> None:
    clock.now = now().replace(microsecond=0) + timedelta(minutes=1)
    date = format_datetime(clock.now + timedelta(minutes=10))
    webhook = await registered(database, web.give("/", b"", status=503, Retry_After=date if said == "date" else said))
    await ended(database)
    await sent(deliverer(database, clock))
    assert ((await one_of(database, webhook)).due_at - clock.now).total_seconds() == pytest.approx(wait_s)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_waits_are_spread(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b"", status=500))
    await ended(database)
    clock.now = now()
    it = Deliverer(WebhookRows(database), Deliveries(database, clock), UrlPolicy(NEAR), "a", clock=clock, draw=lambda: 0.0)
    await sent(it)
    assert ((await one_of(database, webhook)).due_at - clock.now).total_seconds() == pytest.approx(WAITS_S[0] * (1 - JITTER))


async def test_of_two_replicas_one_sends(url: URL, web: Web, clock: Clock) -> None:
    """Each has its own connections, as two processes have."""
    first, second = await Database.open(url), await Database.open(url)
    first.when_ended(analysis_ended)
    taken = threading.Event()

    def slow(asked: BaseHTTPRequestHandler) -> None:
        taken.wait(60)
        asked.send_response(204)
        asked.end_headers()

    web.answers["/"] = slow
    for _ in range(5):
        await registered(first, web.url("/"))
    for _ in range(6):
        await ended(first)
    clock.now = now()
    both = [deliverer(one, clock, name) for one, name in ((first, "a"), (second, "b"))]
    # Until both have taken what one may have at once, nothing is answered: else the quicker one might have all of it.
    await asyncio.gather(*(one.look() for one in both))
    taken.set()
    while (await Deliveries(first).waiting()).count:
        await asyncio.gather(*(one.look() for one in both))
        await asyncio.gather(*(one.idle() for one in both))
    # Five webhooks are told of each event, each once.
    assert sorted(Counter(post.headers["webhook-id"] for post in web.posted).values()) == [5] * 6
    assert sum(sum(one.counts.values()) for one in both) == 30 and all(one.counts["delivered"] for one in both)
    await first.close()
    await second.close()


async def test_what_a_dead_replica_held_is_sent_when_its_time_is_over(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b""))
    await ended(database)
    clock.now = now()
    rows = Deliveries(database, clock)
    dead = await rows.claim("dead", [])
    assert dead is not None
    other = deliverer(database, clock, "other")
    clock.now += HELD - timedelta(seconds=1)
    await sent(other)
    assert web.posted == []
    clock.now += timedelta(seconds=2)
    await sent(other)
    assert len(web.posted) == 1
    late = webhook_attempt.Attempt(clock.now, 1.0, 500, "", None, 0.0)
    assert await rows.record(dead, late, "pending", NO_WAIT, FAILING_FOR) is None
    delivery = await one_of(database, webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 1), "whoever comes back late changes nothing"


async def test_what_a_replica_held_when_it_died_it_sends_at_its_next_start(database: Database, web: Web, clock: Clock) -> None:
    await registered(database, web.give("/", b""))
    await ended(database)
    clock.now = now()
    rows = Deliveries(database, clock)
    assert await rows.claim("a_b", []) is not None
    assert await rows.release("aXb") == 0 and await rows.release("a") == 0
    it = deliverer(database, clock, "a_b")
    await it.start()
    while not it.counts["delivered"]:
        await asyncio.sleep(0.01)
    await it.close()
    assert len(web.posted) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_one_slow_receiver_holds_nobody_up(database: Database, web: Web, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_attempt, "PATIENCE_S", 60.0)  # none is given up before the others have been told
    leave = threading.Event()

    def slow(asked: BaseHTTPRequestHandler) -> None:
        leave.wait(60)
        asked.send_response(204)
        asked.end_headers()

    web.answers["/slow"] = slow
    await registered(database, web.url("/slow"))
    quick = await registered(database, web.give("/quick", b""))
    for _ in range(PER_WEBHOOK + 3):
        await ended(database)
    clock.now = now()
    it = deliverer(database, clock)
    try:
        while it.counts["delivered"] < PER_WEBHOOK + 3:
            await it.look()
            await asyncio.sleep(0.01)
        assert [one.status for one in await Deliveries(database).page(quick.id, before=None, limit=99)] == ["delivered"] * (PER_WEBHOOK + 3)
        assert sum(post.path == "/slow" for post in web.posted) <= PER_WEBHOOK
    finally:
        leave.set()
    await it.idle()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_service_of_the_public_internet_tells_nobody_else(database: Database, web: Web, clock: Clock) -> None:
    it = deliverer(database, clock, networks=("public",))
    web.give("/", b"")
    for host in (
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "user@127.0.0.1",
        "10.0.0.1",
        "[fd00::1]",
    ):
        url = f"http://{host}:{web.port}/"
        with pytest.raises(UrlNotAllowed):
            await it.check(url)
        webhook = await registered(database, url)
        await it.ping(webhook, ping(webhook.id))
        assert (await one_of(database, webhook)).status == "failed"
    with pytest.raises(UrlNotAllowed, match="not on a port of the web"):
        await it.check("http://8.8.8.8:6379/")
    assert web.posted == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_name_that_moved_to_where_nobody_may_go_is_not_asked(
    database: Database, web: Web, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding between registration and delivery, and back again."""
    look_up, answers = socket.getaddrinfo, ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "127.0.0.1"]

    def rebinding(host: str, port: int, *rest: object, **more: object) -> object:
        if host != "rebinding.test":
            return look_up(host, port, *rest, **more)  # type: ignore[arg-type]  # handed through
        return look_up(answers.pop(0), port, type=socket.SOCK_STREAM)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    web.give("/", b"")
    it = deliverer(database, clock)
    await it.check(web.url("/", "rebinding.test"))
    webhook = await registered(database, web.url("/", "rebinding.test"))
    await ended(database)
    clock.now = now()
    for asked in (0, 0, 0, 1):
        await sent(it)
        assert len(web.posted) == asked
        clock.now = (await one_of(database, webhook)).due_at
    delivery = await one_of(database, webhook)
    attempts = (await Deliveries(database).attempts([delivery.id]))[delivery.id]
    assert delivery.status == "delivered" and [one.status_code for one in attempts] == [None, None, None, 200]
    assert "is not where this service may go" in str(attempts[0].error)
    assert web.posted[0].headers["host"] == f"rebinding.test:{web.port}"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_whatever_a_receiver_does_is_written_down(
    database: Database, web: Web, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = threading.Event()

    def flood(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", str(2**30))
        asked.end_headers()
        for _ in range(2**10):
            asked.wfile.write(b"\0\xff" + b"x" * (2**20 - 2))
            flooded.append(1)

    def mute(asked: BaseHTTPRequestHandler) -> None:
        leave.wait(60)

    def trickle(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.end_headers()
        while not leave.wait(0.05):
            asked.wfile.write(b"x")

    def nonsense(asked: BaseHTTPRequestHandler) -> None:
        asked.wfile.write(b"\x00\x01\x02 good day\r\n\r\n")

    flooded: list[int] = []
    web.answers |= {"/flood": flood, "/mute": mute, "/trickle": trickle, "/nonsense": nonsense}
    web.give("/moved", b"", status=302, Location=web.give("/elsewhere", b""))
    nobody = f"http://127.0.0.1:{free_port()}/"
    expected = {
        web.url("/flood"): ("delivered", 200, None),
        web.url("/trickle"): ("delivered", 200, "no end of the answer within 2 s"),
        web.url("/mute"): ("failed", None, "no answer within 2 s"),
        web.url("/nonsense"): ("failed", None, "no HTTP: RemoteProtocolError"),
        web.url("/moved"): ("failed", 302, "a redirect, which is not followed"),
        nobody.replace("//", "//user:hunter2@"): ("failed", None, "cannot be reached"),
    }
    it = deliverer(database, clock)
    try:
        for url, (status, code, error) in expected.items():
            # Short only where the patience is to end.
            monkeypatch.setattr(webhook_attempt, "PATIENCE_S", 2.0 if error and "within" in error else 60.0)
            webhook = await registered(database, url)
            delivery_id = await it.ping(webhook, ping(webhook.id))
            delivery = await one_of(database, webhook)
            ((attempt,),) = (await Deliveries(database).attempts([delivery_id])).values()
            assert (delivery.status, attempt.status_code) == (status, code), url
            assert (error or "") in (attempt.error or "") and "hunter2" not in str(attempt.error)
            if url == web.url("/flood"):
                assert attempt.answer[:3] == "\ufffd\ufffdx" and len(attempt.answer) == ANSWER_CHARS
            known = await WebhookRows(database).get(webhook.id)
            assert known is not None and (known.failing_since, known.disabled) == (None, None), "nothing follows from a ping"
    finally:
        leave.set()
    assert "/elsewhere" not in {post.path for post in web.posted} and len(flooded) < 2**9


async def test_a_webhook_that_is_deleted_takes_its_deliveries_along(database: Database, web: Web, clock: Clock) -> None:
    asked, leave = threading.Event(), threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        leave.wait(60)
        request.send_response(500)
        request.end_headers()

    web.answers["/"] = slow
    webhook = await registered(database, web.url("/"))
    await ended(database)
    clock.now = now()
    it = deliverer(database, clock)
    await it.look()
    await asyncio.to_thread(asked.wait, 60)
    await WebhookRows(database).remove(webhook.id)
    leave.set()
    await it.idle()
    clock.now += timedelta(days=9)
    await sent(it)
    assert len(web.posted) == 1
    assert await Deliveries(database).page(webhook.id, before=None, limit=9) == []


async def test_what_is_being_sent_is_not_sent_twice_for_a_replay(database: Database, web: Web, clock: Clock) -> None:
    webhook = await registered(database, web.give("/", b""))
    await ended(database)
    clock.now = now()
    rows = Deliveries(database, clock)
    claim = await rows.claim("a", [])
    assert claim is not None
    await rows.replay(claim.id)
    assert await rows.claim("b", []) is None
    await rows.record(claim, webhook_attempt.Attempt(clock.now, 1.0, 200, "", None, 0.0), "delivered", NO_WAIT, FAILING_FOR)
    await rows.replay(claim.id)
    await sent(deliverer(database, clock))
    again = await one_of(database, webhook)
    assert (again.status, again.tries, again.attempts) == ("delivered", 1, 2)
    assert [post.headers["webhook-id"] for post in web.posted] == [claim.event_id]


async def test_what_was_told_long_ago_is_forgotten_and_what_is_to_be_told_is_not(database: Database) -> None:
    webhook = await registered(database, "http://127.0.0.1/")
    async with database.sessions.begin() as session:
        for _ in range(2):
            await announce(session, "default", "analysis.failed", "{}")
    clock = Clock()
    rows = Deliveries(database, clock)
    claim = await rows.claim("a", [])
    assert claim is not None
    await rows.record(claim, webhook_attempt.Attempt(clock.now, 1.0, 200, "", None, 0.0), "delivered", NO_WAIT, FAILING_FOR)
    later = clock.now + KEPT + timedelta(days=1)
    assert await rows.forget(clock.now - KEPT) == 0
    assert await rows.forget(later) == 1
    assert (await one_of(database, webhook)).status == "pending"
    await WebhookRows(database).change(webhook.id, {"disabled": "asked"})
    assert await rows.forget(later) == 1


async def test_an_alert_is_told_when_it_begins_and_when_it_ends_and_not_for_its_clip(database: Database) -> None:
    rows = FeedRows(database, alone=True, tell=alert_changed)
    one = feed(tenant="cameras")
    await rows.add(one)
    webhook = await registered(database, "http://127.0.0.1/", tenant="cameras")
    first = alert(one.id)
    first.n = await rows.add_alert(first)
    await rows.change_alert(first)
    first.cause, first.ended_at = "below", now()
    await rows.change_alert(first)
    first.clip_bytes = 9
    await rows.change_alert(first)
    await rows.add_alert(alert(one.id, began_pts=2**41))
    await rows.take(one.id, "next")
    told = [(found.event, found.body) for found in reversed(await Deliveries(database).page(webhook.id, before=None, limit=9))]
    assert [event for event, _ in told] == ["alert.started", "alert.ended"] * 2
    assert '"cause":"below"' in told[1][1] and '"cause":"stopped"' in told[3][1] and f"/v1/feeds/{one.id}/alerts/2" in told[3][1]


async def test_secrets_of_two_rotations_at_once_are_both_good(database: Database) -> None:
    rows = WebhookRows(database)
    first = new_secret()
    webhook = await registered(database, "http://127.0.0.1/", secrets=only(first))
    two = [new_secret(), new_secret()]
    await asyncio.gather(*(rows.rotate(webhook.id, secret, timedelta(hours=1)) for secret in two))
    rotated = await rows.get(webhook.id)
    assert rotated is not None and set(rotated.signing(now())) == {first, *two}
    assert len(rotated.signing(now() + timedelta(hours=2))) == 1
    assert first not in repr(rotated)


async def test_a_webhook_that_is_deleted_meanwhile_undoes_no_end(database: Database) -> None:
    for _ in range(8):
        webhook, one = await registered(database, "http://127.0.0.1/"), row()
        await database.add(one)
        moved, _ = await asyncio.gather(database.move(one.id, "queued", "cancelled"), WebhookRows(database).remove(webhook.id))
        assert moved
        assert await Deliveries(database).page(webhook.id, before=None, limit=9) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_failure_is_told_by_the_type_of_its_problem(database: Database) -> None:
    webhook, one = await registered(database, "http://127.0.0.1/"), row(external_id="case 7", filename="private.mp4")
    await database.add(one)
    await database.begin(one.id, "a")
    problem = problem_of(UnsupportedMedia("It is private.", expected="a video", got="private"))
    assert await database.move(one.id, "running", "failed", replica="a", problem=problem.model_dump_json())
    told = json.loads((await one_of(database, webhook)).body)
    assert (told["type"], told["data"]["problem"]) == ("analysis.failed", "urn:undercurrent:problem:unsupported-media")
    assert (told["data"]["external_id"], told["data"]["p"], told["data"]["verdict"]) == ("case 7", None, None)
    assert "private" not in json.dumps(told)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_a_receiver_wants_to_be_remembered_is_not(database: Database, web: Web, clock: Clock) -> None:
    it = deliverer(database, clock)
    for path in ("/a", "/b", "/a"):
        webhook = await registered(database, web.give(path, b"", Set_Cookie="whose=this"))
        await it.ping(webhook, ping(webhook.id))
    assert len(web.posted) == 3 and not any("cookie" in post.headers for post in web.posted)
