"""What Prometheus reads: true, bounded, valid, and there when other things are not."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from sqlalchemy.exc import OperationalError

from pipelines.analysis import Model
from pipelines.errors import AnalysisCancelled, UnsupportedMedia
from pipelines.live import LiveEvent, LiveStream, Scored
from pipelines.media import Frame
from service.app import open_rooms
from service.content_credentials import can_be_read
from service.database import Database
from service.metrics import Page
from service.settings import Settings
from service.witness import Witness
from tests.clips import face_frame
from tests.service.conftest import upload
from tests.support import require

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(families: Iterable[Metric]) -> Values:
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def scrape(client: httpx.Client) -> Values:
    return values(parse(client.get("/metrics").text))


def one(found: Values, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def series(found: Values, name: str) -> list[dict[str, str]]:
    return [dict(labels) for known, labels in found if known == name]


def test_an_analysis_shows_in_every_count(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    client.get(path)
    found = scrape(client)
    assert (
        sum(one(found, "undercurrent_analyses_ended_total", **labels) for labels in series(found, "undercurrent_analyses_ended_total")) == 1
    )
    assert one(found, "undercurrent_media_seconds_total") == pytest.approx(4.0, abs=0.3)
    for stage in ("decode", "faces", "crops", "encoder", "memory"):
        assert one(found, "undercurrent_stage_cpu_seconds_total", work="file", stage=stage) > 0
        assert one(found, "undercurrent_stage_calls_total", work="file", stage=stage) >= 16
    started = 2 + can_be_read()
    assert one(found, "undercurrent_decode_children_started_total") == started, (
        "to look at it at the door, to judge it, to read its credentials"
    )
    assert one(found, "undercurrent_decode_children") == 0
    assert one(found, "undercurrent_http_requests_total", method="GET", route="/v1/analyses/{analysis_id}", status="200") >= 1
    assert one(found, "undercurrent_http_answer_seconds_count", method="POST", route="/v1/analyses") == 1
    assert one(found, "undercurrent_database_up") == 1
    assert one(found, "process_resident_memory_bytes") > 1e7


def test_nothing_that_a_client_makes_up_becomes_a_time_series(client: httpx.Client) -> None:
    for number in range(50):
        client.get(f"/no/such/{number}")
        client.get(f"/v1/analyses/{number}")
        client.request(f"WORD{number}", "/livez")
    found = scrape(client)
    assert series(found, "undercurrent_http_requests_total") == [
        {"method": "GET", "route": "other", "status": "404"},
        {"method": "GET", "route": "/v1/analyses/{analysis_id}", "status": "422"},
        {"method": "other", "route": "/livez", "status": "405"},
    ]


def test_prometheus_own_linter_finds_nothing(judged: tuple[httpx.Client, str]) -> None:
    promtool = str(require("prometheus"))
    text = judged[0].get("/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_who_asks_for_openmetrics_gets_it(judged: tuple[httpx.Client, str]) -> None:
    answer = judged[0].get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    families = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]
    assert one(values(families), "undercurrent_workers") == 1


def test_the_queue_shows_how_many_wait_and_for_how_long(client: httpx.Client, endless: Path) -> None:
    paths = [upload(client, endless).headers["Location"] for _ in range(3)]
    while one(scrape(client), "undercurrent_decode_children") == 0:
        assert client.get(paths[0]).json()["status"] in ("queued", "running")
    began = time.monotonic()
    before = scrape(client)
    time.sleep(0.2)
    after = scrape(client)
    took_s = time.monotonic() - began
    assert (one(after, "undercurrent_analyses", status="queued"), one(after, "undercurrent_analyses", status="running")) == (2, 1)
    age = "undercurrent_queue_oldest_age_seconds"
    assert 0.2 <= one(after, age) - one(before, age) <= took_s
    assert one(after, "undercurrent_decode_children") == 1
    for path in reversed(paths):
        client.post(f"{path}/cancel")
    done = scrape(client)
    assert one(done, age) == 0 and one(done, "undercurrent_analyses", status="queued") == 0
    assert (
        sum(one(done, "undercurrent_analyses_ended_total", **labels) for labels in series(done, "undercurrent_analyses_ended_total")) == 0
    )


async def test_live_streams_show_their_latency_and_the_engines_their_batches(settings: Settings, model: Model) -> None:
    events: list[LiveEvent] = []
    async with open_rooms(settings, model) as rooms:
        with LiveStream(rooms.engines, attentive=False) as stream:
            judging = threading.Thread(target=stream.run, args=(events.append,))
            judging.start()
            for tick in range(12):
                stream.offer(Frame(face_frame(tick / 12), tick, Fraction(1, 12)))
                time.sleep(0.1)
            during = values((await Page.of(rooms)).collect())
            stream.end()
            judging.join(120)
        found = values(parse(generate_latest(await Page.of(rooms)).decode()))
    scored = [event for event in events if isinstance(event, Scored)]
    assert 1 < len(scored) == one(found, "undercurrent_frame_to_score_seconds_count")
    assert one(found, "undercurrent_frame_to_score_seconds_bucket", le="+Inf") == len(scored)
    within = sum(event.took.all_s <= 0.3 for event in scored)
    assert one(found, "undercurrent_frame_to_score_seconds_bucket", le="0.3") == within
    assert one(found, "undercurrent_frame_to_score_seconds_sum") == pytest.approx(sum(event.took.all_s for event in scored))
    assert one(found, "undercurrent_frames_missed_total") == 12 - len(scored)
    assert one(found, "undercurrent_engine_rows_total") >= one(found, "undercurrent_engine_batches_total") > 0
    assert one(found, "undercurrent_stage_cpu_seconds_total", work="live", stage="faces") > 0
    assert (one(during, "undercurrent_engine_seats"), one(found, "undercurrent_engine_seats")) == (1, 0)


async def test_without_its_database_the_rest_is_still_told(settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(_: Database) -> None:
        raise OperationalError("SELECT", None, Exception("the server closed the connection"))

    async with open_rooms(settings, model) as rooms:
        monkeypatch.setattr(Database, "backlog", gone)
        found = values((await Page.of(rooms)).collect())
    assert one(found, "undercurrent_database_up") == 0 and one(found, "undercurrent_workers") == 1
    assert series(found, "undercurrent_analyses") == []


def test_a_failure_is_counted_by_its_problem_and_a_stop_is_none() -> None:
    witness = Witness()
    failures: list[Exception] = [UnsupportedMedia("No.", expected="a video", got="text"), AnalysisCancelled(), RuntimeError("unforeseen")]
    for error in failures:
        with pytest.raises(type(error)), witness.analysis("1"):
            raise error
    found = values(witness.registry.collect())
    assert {
        labels["problem"]: one(found, "undercurrent_analyses_failed_total", **labels)
        for labels in series(found, "undercurrent_analyses_failed_total")
    } == {
        "unsupported-media": 1,
        "internal-error": 1,
    }
