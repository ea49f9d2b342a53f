"""Evidence over real HTTP: timeline, media with ranges, crops, report and plot of a finished analysis."""

from __future__ import annotations

import csv
import io
import threading
from pathlib import Path
from types import ModuleType

import cv2
import httpx
import numpy as np
import pytest

from service import evidence, packs
from service.settings import Settings
from tests.clips import face_clip
from tests.service.conftest import Serve, assert_problem, upload


def test_the_timeline_comes_as_json_and_as_csv_with_the_same_rows(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    rows = client.get(f"{path}/timeline").json()["rows"]
    answer = client.get(f"{path}/timeline?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == len(rows) == 16
    for line, row in zip(lines, rows, strict=True):
        assert (int(line["pts"]), float(line["t"])) == (row["pts"], row["t"])
        for name in ("p", "logit", "dt", "surprise"):
            assert line[name] == ("" if row[name] is None else str(row[name]))
    assert lines[0]["dt"] == ""
    tag = answer.headers["ETag"]
    assert client.get(f"{path}/timeline?format=csv", headers={"If-None-Match": tag}).status_code == 304


def test_no_timeline_is_parsed_written_or_hashed_on_the_event_loop(
    serve: Serve, settings: Settings, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be hundreds of megabytes."""
    threads: dict[str, set[str]] = {}

    def watched(module: ModuleType, name: str) -> None:
        does = getattr(module, name)

        def noted(*arguments: object, **named: object) -> object:
            threads.setdefault(name, set()).add(threading.current_thread().name)
            return does(*arguments, **named)

        monkeypatch.setattr(module, name, noted)

    with serve(settings) as client:
        path = upload(client, clip, wait_s=60).headers["Location"]
        for name in ("timeline_csv", "read_timeline", "tagged", "html_report", "_digest"):
            watched(evidence, name)
        watched(packs, "read_timeline")
        for what in ("timeline", "timeline?format=csv", "timeline?format=csv&points=8", "report", "report?format=zip", "plot"):
            assert client.get(f"{path}/{what}").status_code == 200
    assert threads.keys() == {"timeline_csv", "read_timeline", "tagged", "html_report", "_digest"}
    assert "server" not in set().union(*threads.values())


def test_media_comes_back_whole_and_in_ranges(judged: tuple[httpx.Client, str], clip: Path) -> None:
    client, path = judged
    whole = client.get(f"{path}/media")
    assert whole.content == clip.read_bytes()
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Content-Security-Policy"].startswith("sandbox;")
    part = client.get(f"{path}/media", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, clip.read_bytes()[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{clip.stat().st_size}"
    beyond = client.get(f"{path}/media", headers={"Range": "bytes=99999999-"})
    assert_problem(beyond, 416, "range-not-satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{clip.stat().st_size}"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=7-", slice(7, None)),
        ("bytes=5-99999999", slice(5, None)),
        ("bytes=-99999999", slice(0, None)),
    ],
)
def test_a_range_is_what_it_says(judged: tuple[httpx.Client, str], clip: Path, wanted: str, part: slice) -> None:
    client, path = judged
    answer = client.get(f"{path}/media", headers={"Range": wanted})
    expected = clip.read_bytes()[part]
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (206, expected, str(len(expected)))


@pytest.mark.parametrize("wanted", ["bytes=", "bytes=-", "bytes=9-1", "bytes=0-1,5-6", "lines=0-5", "bytes=a-b", "0-5"])
def test_a_range_that_is_not_understood_is_all_of_it(judged: tuple[httpx.Client, str], clip: Path, wanted: str) -> None:
    client, path = judged
    answer = client.get(f"{path}/media", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, clip.read_bytes())


def test_a_part_is_of_the_media_that_the_client_has(judged: tuple[httpx.Client, str], clip: Path) -> None:
    client, path = judged
    tag = client.get(f"{path}/media").headers["ETag"]
    assert client.get(f"{path}/media", headers={"Range": "bytes=0-3", "If-Range": tag}).status_code == 206
    other = client.get(f"{path}/media", headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, clip.read_bytes())
    known = client.get(f"{path}/media", headers={"If-None-Match": tag})
    assert (known.status_code, known.content) == (304, b"")


def test_every_crop_of_the_result_can_be_fetched(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    tracks = client.get(path).json()["result"]["tracks"]
    pictures = 0
    for track in tracks:
        for crop in track["crops"]:
            face = client.get(f"{path}/tracks/{track['id']}/crops/{crop['k']}")
            seam = client.get(f"{path}/tracks/{track['id']}/crops/{crop['k']}?layer=boundary")
            assert (face.headers["Content-Type"], seam.headers["Content-Type"]) == ("image/jpeg", "image/png")
            for answer in (face, seam):
                image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
                assert image is not None
                assert image.shape[:2] == (160, 160)
            pictures += 1
    assert pictures >= 1


def test_a_crop_that_is_not_there_is_said_to_be_missing(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    assert_problem(client.get(f"{path}/tracks/0/crops/99"), 404, "evidence-not-found")
    assert_problem(client.get(f"{path}/tracks/-1/crops/0"), 422, "invalid-request")
    assert_problem(client.get(f"{path}/tracks/0/crops/0?layer=x"), 422, "invalid-request")


def test_the_report_is_one_page_that_needs_nothing_else(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    answer = client.get(f"{path}/report")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert client.get(path).json()["sentence"] in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_the_plot_is_a_png(judged: tuple[httpx.Client, str]) -> None:
    client, path = judged
    answer = client.get(f"{path}/plot")
    assert answer.headers["Content-Type"] == "image/png"
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize("what", ["timeline", "tracks/0/crops/0", "report", "plot"])
def test_there_is_no_evidence_before_the_end(client: httpx.Client, endless: Path, what: str) -> None:
    path = upload(client, endless).headers["Location"]
    problem = assert_problem(client.get(f"{path}/{what}"), 409, "no-result")
    assert problem["got"] in ("queued", "running")
    assert client.get(f"{path}/media", headers={"Range": "bytes=0-3"}).status_code == 206


@pytest.mark.parametrize(
    ("suffix", "codec", "kind"),
    [(".webm", "libvpx-vp9", "video/webm"), (".mkv", "libx264", "video/x-matroska"), (".avi", "mpeg4", "video/x-msvideo")],
)
def test_media_is_named_by_what_it_is_not_by_its_file_name(
    client: httpx.Client, tmp_path: Path, suffix: str, codec: str, kind: str
) -> None:
    made = face_clip(tmp_path / f"made{suffix}", seconds=0.5, fps=10.0, codec=codec)
    page = made.rename(tmp_path / "page.html")
    answer = client.get(upload(client, page).json()["links"]["media"])
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'inline; filename="page.html"'
