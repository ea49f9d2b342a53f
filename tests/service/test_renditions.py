"""Renditions over real HTTP: made when they are wanted, once, in a decode child; kept with the analysis, and gone with it."""

from __future__ import annotations

import hashlib
import io
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import httpx
import pytest

from pipelines.errors import PipelineError
from pipelines.frames import read_frames
from pipelines.media import Limits
from pipelines.rendition import RenditionTerms
from service import renditions
from service.media_sandbox import MediaSandbox
from service.settings import Settings
from tests.clips import cut_short, face_clip, variable_pts
from tests.fuzz.corpus import bait, canaries, corpus
from tests.fuzz.trial import LIMITS
from tests.fuzz.watch import watch
from tests.pipelines.test_rendition import uneven_hevc
from tests.s3 import S3
from tests.service.conftest import Serve, assert_problem, upload
from tests.service.processes import serving
from tests.service.test_keys import bearer, made
from tests.service.test_metrics import one, scrape
from tests.service.test_storage import in_bucket
from tests.service.test_takeover import minute

__all__ = ["minute"]

WAIT_S = 120.0


@pytest.fixture(scope="module")
def hevc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second that no browser without a licence plays, at uneven times."""
    return uneven_hevc(tmp_path_factory.mktemp("hevc") / "phone.mp4")


def wanted(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    """The rendition, however long it takes; how far it was meanwhile is checked."""
    until = time.monotonic() + WAIT_S
    while (answer := client.get(f"{path}/media?rendition=h264", headers=headers)).status_code == 202:
        assert time.monotonic() < until, "it never came"
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(answer.json()) == {"media_s", "duration_s"}
        time.sleep(float(answer.headers["Retry-After"]) / 4)
    return answer


def times(source: Path | io.BytesIO) -> list[Fraction]:
    with read_frames(source, hz=None) as frames:
        return [frame.pts * frame.time_base for frame in frames]


def stopped(client: httpx.Client, clip: Path) -> str:
    """The path of an analysis that nobody judges any more, so that the machine has time."""
    path = str(upload(client, clip).headers["Location"])
    assert client.post(f"{path}/cancel").status_code in (200, 409)
    return path


def eventually(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.002)


@pytest.mark.parametrize("kind", ["hevc_mp4", "mpeg4_avi"])
def test_what_a_browser_cannot_play_comes_as_h264_at_the_same_times(client: httpx.Client, tmp_path: Path, hevc: Path, kind: str) -> None:
    source = hevc if kind == "hevc_mp4" else face_clip(tmp_path / "a.avi", pts=variable_pts(2.0), codec="mpeg4")
    path = stopped(client, source)
    whole = wanted(client, path)
    assert (whole.status_code, whole.headers["Content-Type"]) == (200, "video/mp4")
    assert whole.headers["Content-Security-Policy"].startswith("sandbox;")
    assert whole.headers["Content-Disposition"].endswith(".h264.mp4")
    assert times(io.BytesIO(whole.content)) == times(source)
    assert one(scrape(client), "undercurrent_renditions_total", outcome="made") == 1


def test_it_is_made_once_and_read_in_parts(client: httpx.Client, settings: Settings, hevc: Path) -> None:
    path = stopped(client, hevc)
    whole = wanted(client, path)
    children = one(scrape(client), "undercurrent_decode_children_started_total")
    tag = whole.headers["ETag"]
    assert tag == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    part = wanted(client, path, Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.content)}"
    assert wanted(client, path, **{"If-None-Match": tag}).status_code == 304
    assert wanted(client, path, **{"Range": "bytes=0-3", "If-Range": '"other"'}).content == whole.content
    assert_problem(wanted(client, path, Range="bytes=99999999-"), 416, "range-not-satisfiable")
    assert one(scrape(client), "undercurrent_decode_children_started_total") == children
    kept = list((settings.data_dir / "analyses").glob("*/rendition/*"))
    assert [file.read_bytes() for file in kept] == [whole.content]
    assert list((settings.data_dir / "scratch").iterdir()) == []
    # The original stays what it was.
    assert client.get(f"{path}/media").content == hevc.read_bytes()
    assert_problem(client.get(f"{path}/media?rendition=av1"), 422, "invalid-request")


def test_two_who_ask_at_once_share_one_maker_and_deleting_ends_it(client: httpx.Client, settings: Settings, endless: Path) -> None:
    path = stopped(client, endless)
    before = one(scrape(client), "undercurrent_decode_children_started_total")
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: client.get(f"{path}/media?rendition=h264"), range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["duration_s"] == pytest.approx(300, abs=1)
    seen = scrape(client)
    assert one(seen, "undercurrent_renditions_under_way") == 1
    assert one(seen, "undercurrent_decode_children_started_total") == before + 1
    assert client.delete(path).status_code == 204
    seen = scrape(client)
    assert one(seen, "undercurrent_renditions_under_way") == 0
    assert one(seen, "undercurrent_renditions_total", outcome="stopped") == 1
    assert list((settings.data_dir / "analyses").iterdir()) == []
    assert_problem(client.get(f"{path}/media?rendition=h264"), 404, "analysis-not-found")
    eventually(lambda: one(scrape(client), "undercurrent_decode_children") == 0, "its child lives on")


def test_one_that_waits_for_its_turn_is_deleted_without_waiting_for_it(
    client: httpx.Client, endless: Path, hevc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, behind = stopped(client, endless), stopped(client, hevc)
    assert client.get(f"{before}/media?rendition=h264").status_code == 202
    monkeypatch.setattr(renditions, "WAIT_S", WAIT_S)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.get, f"{behind}/media?rendition=h264", timeout=WAIT_S)
        eventually(lambda: one(scrape(client), "undercurrent_renditions_under_way") == 2, "nobody waits")
        assert client.delete(behind).status_code == 204
        assert one(scrape(client), "undercurrent_renditions_under_way") == 1, "the first was not disturbed, nor waited for"
        assert_problem(asked.result(), 503, "rendition-stopped")
    assert client.delete(before).status_code == 204
    assert one(scrape(client), "undercurrent_renditions_total", outcome="stopped") == 2


def test_it_is_deleted_with_its_analysis(client: httpx.Client, settings: Settings, hevc: Path) -> None:
    path = stopped(client, hevc)
    assert wanted(client, path).status_code == 200
    assert client.delete(path).status_code == 204
    assert list((settings.data_dir / "analyses").iterdir()) == []
    assert_problem(client.get(f"{path}/media?rendition=h264"), 404, "analysis-not-found")


def test_damaged_media_is_shown_as_far_as_it_goes(client: httpx.Client, tmp_path: Path) -> None:
    whole = uneven_hevc(tmp_path / "whole.ts")
    broken = cut_short(whole, tmp_path / "broken.ts", 0.5)
    answer = wanted(client, stopped(client, broken))
    assert times(io.BytesIO(answer.content)) == times(broken) != times(whole)


def test_media_that_cannot_be_read_any_more_is_a_problem_and_is_not_tried_again_at_once(
    client: httpx.Client, settings: Settings, hevc: Path
) -> None:
    path = stopped(client, hevc)
    (media,) = (settings.data_dir / "analyses").glob("*/media")
    media.write_bytes(b"nothing of a video\n" * 2000)
    problem = assert_problem(wanted(client, path), 415, "unsupported-media")
    assert str(settings.data_dir) not in str(problem)
    seen = scrape(client)
    assert_problem(wanted(client, path), 415, "unsupported-media")
    assert one(seen, "undercurrent_renditions_total", outcome="failed") == 1
    assert scrape(client)["undercurrent_decode_children_started_total", frozenset()] == one(
        seen, "undercurrent_decode_children_started_total"
    )
    assert list((settings.data_dir / "scratch").iterdir()) == []


def test_what_one_file_may_ask_for_holds_here_too(serve: Serve, settings: Settings, hevc: Path) -> None:
    with serve(settings.model_copy(update={"limits": Limits(max_frames=20)})) as client:
        problem = assert_problem(wanted(client, stopped(client, hevc)), 413, "media-too-large")
        assert "at most 20 frames" in str(problem["expected"])
        assert not list((settings.data_dir / "analyses").glob("*/rendition/*"))


def test_a_rendition_of_another_tenant_does_not_exist(serve: Serve, settings: Settings, hevc: Path) -> None:
    locked = settings.model_copy(update={"require_keys": True})
    with serve(locked) as client:
        ours, theirs = (bearer(made(locked, "admin", tenant=tenant)) for tenant in ("ours", "theirs"))
        client.headers.update(ours)
        path = stopped(client, hevc)
        assert wanted(client, path).status_code == 200
        client.headers.update(theirs)
        assert_problem(client.get(f"{path}/media?rendition=h264"), 404, "analysis-not-found")
        client.headers.pop("Authorization")
        assert_problem(client.get(f"{path}/media?rendition=h264"), 401, "unauthenticated")


def test_a_bucket_keeps_it_beside_the_evidence(
    serve: Serve, settings: Settings, s3: S3, hevc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(in_bucket(s3, settings, monkeypatch)) as client:
        path = stopped(client, hevc)
        whole = wanted(client, path)
        digest = hashlib.sha256(whole.content).hexdigest()
        assert f"some/prefix{path.removeprefix('/v1')}/rendition/{digest}.mp4" in s3.names()
        assert wanted(client, path, Range="bytes=5-9").content == whole.content[5:10]
        assert client.delete(path).status_code == 204
        assert s3.names() == []


def test_a_service_that_was_killed_meanwhile_makes_it_when_it_is_back(tmp_path: Path, minute: Path) -> None:
    scratch = tmp_path / "data" / "scratch"
    with serving(tmp_path) as running, ThreadPoolExecutor() as pool:
        path = stopped(running.client, minute)
        asked = pool.submit(running.client.get, f"{path}/media?rendition=h264")
        eventually(lambda: any(scratch.iterdir()), "nobody makes it")
        running.ended(signal.SIGKILL, 60)
        assert isinstance(asked.exception(), httpx.TransportError)
        assert any(scratch.iterdir()) and not list((tmp_path / "data" / "analyses").glob("*/rendition/*"))
    with serving(tmp_path) as running:
        whole = wanted(running.client, path)
        assert times(io.BytesIO(whole.content)) == times(minute)
        assert not any(scratch.iterdir())


def test_a_child_writes_the_very_bytes_that_this_process_would(
    serve: Serve, settings: Settings, hevc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(settings) as client:
        path = stopped(client, hevc)
        whole = wanted(client, path).content
        again = stopped(client, hevc)
        monkeypatch.setattr(MediaSandbox, "supported", staticmethod(lambda: False))
        assert wanted(client, again).content == whole


def test_hostile_media_stays_in_its_child(tmp_path: Path) -> None:
    """A sample of what the fuzzer makes: pieces come, or a typed refusal, and nothing that it names is touched."""
    bait(tmp_path)
    with watch(canaries(tmp_path)) as watching, MediaSandbox() as sandbox:
        cases = list(corpus(tmp_path, port=watching.port))
        good = refused = 0
        for case in cases[:: len(cases) // 30]:
            try:
                with sandbox.encode(case.path, RenditionTerms(max_height=96, max_bytes=1_000_000), limits=LIMITS) as pieces:
                    good += sum(len(piece.data) for piece in pieces.written()) > 0
            except PipelineError as error:
                refused += 1
                assert str(tmp_path) not in str(error)
        assert good > 3 and refused > 3
        assert watching.touched() == []
        assert sandbox.counts.alive == 0
