"""What is drawn from a judgement: plot, page and terminal show the same facts, escape hostile names, and survive empty reports."""

from __future__ import annotations

import html
import io
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from pipelines.media import Image
from pipelines.verdict import AnalysisReport
from service.plot import timeline_png
from service.report import crop_images, html_report
from service.schemas import AnalysisResult, Timeline, timeline
from service.terminal import render
from tests.service.reports import make_report
from tests.support import require


def _wire(report: AnalysisReport) -> tuple[AnalysisResult, Timeline]:
    return AnalysisResult.from_report(report, sha256="cd" * 32), timeline(report)


def _decoded(png: bytes) -> Image:
    picture = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, dtype=np.uint8)


@pytest.mark.parametrize("faces", [True, False])
def test_the_plot_is_a_picture_of_a_readable_size(faces: bool) -> None:
    picture = _decoded(timeline_png(*_wire(make_report(faces=faces))))
    assert picture.shape[0] > 600 and picture.shape[1] > 1000
    assert picture.std() > 5, "something is drawn"


def test_the_plot_changes_with_the_scores() -> None:
    result, rows = _wire(make_report())
    flat = rows.model_copy(update={"rows": [row.model_copy(update={"p": 0.1 if row.p is not None else None}) for row in rows.rows]})
    assert (_decoded(timeline_png(result, rows)) != _decoded(timeline_png(result, flat))).any()


def test_the_page_tells_everything_and_fetches_nothing() -> None:
    report = make_report()
    result, rows = _wire(report)
    page = html_report(result, rows, crop_images(report), "holiday.mp4")
    for fact in (
        result.sentence,
        "2.00 s",
        "4.00 s",
        "the face is too small",
        "Dropped 2 repeated",
        "ab" * 32,
        "cd" * 32,
        "Face 1: not judged",
    ):
        assert fact in html.unescape(page)
    assert page.count("data:image/jpeg") == 4 and page.count("data:image/png") == 3
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page and "style=" not in page
    assert "authentic" not in page.lower()


def test_a_hostile_file_name_stays_a_name() -> None:
    report = make_report(faces=False)
    page = html_report(*_wire(report), crop_images(report), '<script>alert("x")</script>.mp4')
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "No face was found" in page


def test_crops_become_files_of_equal_size_with_heat_where_the_seam_is() -> None:
    images = crop_images(make_report())
    assert set(images) == {(0, 0), (0, 1)}
    heat = cv2.imdecode(np.frombuffer(images[0, 0].boundary_png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    assert heat is not None and heat.shape == (160, 160, 4)
    assert heat[80, 80, 3] > 100 > heat[5, 5, 3]
    assert _decoded(images[0, 0].jpeg).shape == (160, 160, 3)


@pytest.mark.parametrize("width", [80, 110])
def test_the_terminal_shows_it_without_colour_in_its_width(width: int) -> None:
    out = io.StringIO()
    result, rows = _wire(make_report())
    Console(file=out, width=width, no_color=True).print(render(result, rows, width=width, profile=True))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for fact in (
        "Manipulated",
        "61% (40% to 78%)",
        "95% (90% to 98%)",
        "pictures are missing",
        "face is too small",
        "decode",
        "face 0",
        "warning: Dropped 2",
    ):
        assert fact in text
    lane = next(line for line in text.splitlines() if "face 0" in line and ("┤" in line or "│" in line))
    top_of_lane = lane.split("┤" if "┤" in lane else "│")[1]
    assert "█" in top_of_lane or "▇" in top_of_lane, "two seconds stand above the threshold"


def test_the_gap_is_visible_in_the_terminal() -> None:
    out = io.StringIO()
    Console(file=out, width=100, no_color=True).print(render(*_wire(make_report()), width=100))
    lanes = [
        line
        for line in out.getvalue().splitlines()
        if "│" in line and "face" not in line and "judged" not in line and not line.startswith("│")
    ]
    assert re.search(r"[▁▂▃▄▅▆▇█] {10,}[▁▂▃▄▅▆▇█]", lanes[-1]), lanes


def test_a_report_without_faces_has_no_lanes() -> None:
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(render(*_wire(make_report(faces=False)), width=80))
    assert "Nothing to judge" in out.getvalue()
    assert "over media time" not in out.getvalue()


def test_a_browser_draws_the_page(tmp_path: Path) -> None:
    chromium = require("chromium")
    report = make_report()
    page = tmp_path / "report.html"
    page.write_text(html_report(*_wire(report), crop_images(report), "holiday.mp4"))
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            *(str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1100,1600"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert _decoded(shot.read_bytes()).std() > 10
