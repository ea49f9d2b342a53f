"""Analyses over real HTTP: a video's way from upload to result, listing, events, cancelling and deleting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from pipelines.analysis import Model, analyse
from service.analyses import _wait_s
from service.schemas import AnalysisResult, timeline
from service.settings import Settings
from tests.service.conftest import Serve, assert_problem, upload

NOBODY = "/v1/analyses/00000000-0000-7000-8000-000000000000"


def until(client: httpx.Client, path: str, *statuses: str) -> dict[str, Any]:
    """Poll until the analysis has one of these statuses."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        body: dict[str, Any] = client.get(path).json()
        if body["status"] in statuses:
            return body
        time.sleep(0.02)
    raise AssertionError(f"still {body['status']}")


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as (name, data)."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_video_is_taken_and_judged(client: httpx.Client, clip: Path) -> None:
    taken = upload(client, clip)
    assert taken.status_code == 202
    assert taken.json()["status"] == "queued"
    path = taken.headers["Location"]
    assert path == taken.json()["links"]["self"]
    body = until(client, path, "succeeded", "failed")
    assert body["status"] == "succeeded"
    assert body["verdict"] == body["result"]["verdict"]
    assert body["sentence"] == body["result"]["sentence"]
    assert body["created_at"] <= body["started_at"] <= body["finished_at"]
    assert set(body["links"]) == {"self", "events", "media", "page", "timeline", "report", "pack", "plot"}


def test_the_wire_gives_the_very_scores_of_the_walk(judged: tuple[httpx.Client, str], clip: Path, model: Model) -> None:
    client, path = judged
    report = analyse(clip, model, hz=4.0)
    shown = client.get(path).json()["result"]
    expected = AnalysisResult.from_report(report, sha256=shown["media"]["sha256"]).model_dump(mode="json")
    apart: dict[str, object] = {"stages": [], "content_credentials": None}
    assert shown | apart == expected | apart
    assert client.get(f"{path}/timeline").json() == timeline(report).model_dump(mode="json")
    assert shown["coverage"]["faces_judged"] == 1


def test_waiting_gives_the_result_at_once(client: httpx.Client, clip: Path) -> None:
    answer = upload(client, clip, wait_s=60)
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.json()["result"]["media"]["frames_analysed"] == 16


def test_waiting_ends_at_the_service_s_limit(serve: Serve, settings: Settings, endless: Path) -> None:
    with serve(settings.model_copy(update={"max_wait_s": 0.2})) as client:
        answer = upload(client, endless, wait_s=600)
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0.2")
        assert answer.json()["status"] in ("queued", "running")


@pytest.mark.parametrize(
    ("prefer", "wait"),
    [
        (None, None),
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ('WAIT="7"', 7),
        ("wait = 3; x", 3),
        ("await=5", None),
        ("wait=-1", None),
        ("wait", None),
    ],
)
def test_a_preference_that_is_not_understood_is_ignored(prefer: str | None, wait: float | None) -> None:
    assert _wait_s(prefer) == wait


def test_the_same_key_and_bytes_are_one_analysis(client: httpx.Client, clip: Path, endless: Path) -> None:
    first = upload(client, clip, wait_s=60, key="order-7")
    again = upload(client, clip, key="order-7")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    problem = assert_problem(upload(client, endless, key="order-7"), 422, "idempotency-key-reused")
    assert "order-7" in str(problem["detail"])
    assert len(client.get("/v1/analyses").json()["items"]) == 1
    assert upload(client, clip).json()["id"] != first.json()["id"]


def test_two_uploads_with_one_key_at_once_are_one_analysis(client: httpx.Client, clip: Path, settings: Settings) -> None:
    answers: list[httpx.Response] = []
    threads = [Thread(target=lambda: answers.append(upload(client, clip, key="k"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(list((settings.data_dir / "analyses").iterdir())) == 1


def test_an_unchanged_analysis_is_not_sent_twice(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    first = client.get(path)
    for known in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_list_is_paged_searched_and_filtered(client: httpx.Client, clip: Path) -> None:
    ids = [
        client.post(f"/v1/analyses?filename={n}.mp4", content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}).json()["id"]
        for n in range(5)
    ]
    seen: list[str] = []
    url = "/v1/analyses?limit=2"
    while url:
        page = client.get(url)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links.get("next", {}).get("url", "")
        assert bool(url) == (page.json()["next"] is not None)
    assert seen == ids[::-1]
    assert [item["filename"] for item in client.get("/v1/analyses?q=3.mp").json()["items"]] == ["3.mp4"]
    for one in ids:
        until(client, f"/v1/analyses/{one}", "succeeded")
    ended = client.get("/v1/analyses?status=succeeded&limit=100").json()["items"]
    assert len(ended) == 5
    assert {item["result"] for item in ended} == {None}
    verdict = ended[0]["verdict"]
    assert len(client.get(f"/v1/analyses?verdict={verdict}").json()["items"]) == 5
    assert client.get("/v1/analyses?status=failed").json() == {"items": [], "next": None}


@pytest.mark.parametrize("cursor", ["x", "!!!", "aGVsbG8", "A" * 22 + "A" * 100])
def test_a_damaged_cursor_is_refused(judged: tuple[httpx.Client, str], cursor: str) -> None:
    assert_problem(judged[0].get("/v1/analyses", params={"cursor": cursor}), 422, "bad-cursor")


def test_events_tell_the_states_in_order_and_end(client: httpx.Client, clip: Path, endless: Path) -> None:
    before, path = (upload(client, one).headers["Location"] for one in (endless, clip))
    with client.stream("GET", f"{path}/events") as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        following = events(stream.iter_lines())
        told = [next(following)]
        # It begins when somebody listens, however long it took to get there.
        client.post(f"{before}/cancel")
        told += following
    names = [name for name, _ in told]
    assert names[0] == "state"
    assert names[-2:] == ["state", "end"]
    assert "progress" in names
    order = ["queued", "running", "succeeded"]
    states = [order.index(data["status"]) for name, data in told if name == "state"]
    assert states == sorted(set(states))
    progress = [data["frames_analysed"] for name, data in told if name == "progress"]
    assert progress == sorted(progress)
    assert told[-1][1] == client.get(path).json()


def test_events_of_an_ended_analysis_end_at_once(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    answer = client.get(f"{path}/events", headers={"Last-Event-ID": "what is this"})
    assert [name for name, _ in events(iter(answer.text.splitlines()))] == ["state", "end"]


def test_cancelling_stops_a_running_analysis(client: httpx.Client, endless: Path) -> None:
    path = upload(client, endless).headers["Location"]
    with client.stream("GET", f"{path}/events") as stream:
        told = events(stream.iter_lines())
        assert any(name == "progress" for name, _ in told)
        stopped = client.post(f"{path}/cancel")
        assert (stopped.status_code, stopped.json()["status"]) == (200, "cancelled")
        last = list(told)
    assert last[-1][0] == "end"
    assert last[-1][1]["status"] == "cancelled"
    body = client.get(path).json()
    assert (body["result"], body["verdict"], body["progress"], body["problem"]) == (None, None, None, None)
    assert client.post(f"{path}/cancel").status_code == 200


def test_cancelling_takes_a_waiting_analysis_out_of_the_queue(client: httpx.Client, endless: Path, clip: Path) -> None:
    running = upload(client, endless).headers["Location"]
    waiting = upload(client, clip).headers["Location"]
    until(client, running, "running")
    assert client.post(f"{waiting}/cancel").json()["status"] == "cancelled"
    assert client.get(running).json()["status"] == "running"
    client.post(f"{running}/cancel")
    assert client.get(waiting).json()["started_at"] is None


def test_cancelling_what_has_ended_is_refused(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    assert_problem(client.post(f"{path}/cancel"), 409, "already-ended")


def test_the_next_in_the_queue_runs_after_a_cancel(client: httpx.Client, endless: Path, clip: Path) -> None:
    first, second = upload(client, endless).headers["Location"], upload(client, clip).headers["Location"]
    assert client.get(second).json()["status"] == "queued"
    client.post(f"{first}/cancel")
    assert until(client, second, "succeeded", "failed")["status"] == "succeeded"


def test_deleting_removes_row_and_files_also_of_a_running_one(client: httpx.Client, settings: Settings, clip: Path, endless: Path) -> None:
    ended = upload(client, clip, wait_s=60).headers["Location"]
    running = upload(client, endless).headers["Location"]
    until(client, running, "running")
    for path in (ended, running):
        assert client.delete(path).status_code == 204
        assert_problem(client.get(path), 404, "analysis-not-found")
    assert list((settings.data_dir / "analyses").iterdir()) == []
    assert client.get("/v1/analyses").json()["items"] == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/media"), ("GET", "/report")]
)
def test_an_unknown_analysis_is_said_to_be_unknown(judged: tuple[httpx.Client, str], method: str, path: str) -> None:
    problem = assert_problem(judged[0].request(method, NOBODY + path), 404, "analysis-not-found")
    assert problem["got"] == NOBODY.rpartition("/")[2]
