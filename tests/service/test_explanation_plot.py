"""The picture of a judgement's reasons: it says in words what it shows, survives what streams bring, and refuses what is not there."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.nn.functional import normalize

from models.explanation import Explanation, explain
from pipelines.media import Image
from pipelines.verdict import AnalysisReport, ExplainedTrack
from service import explanation_plot, plot_style
from service.explanation_plot import BARS_AT_MOST, explained_png, explanation_png, explanation_sentence
from tests.models.test_explanation import make_head, still_face, surprised_head
from tests.models.test_temporal import E, make_clip
from tests.service.reports import make_report


def jump() -> Explanation:
    """A still face at 12 looks a second that jumps about in its sixth second; the head takes surprise for a fake."""
    x, dt = still_face(120)
    noise = torch.randn(12, 1, E, generator=torch.Generator().manual_seed(4))
    x[60:72] = normalize(x[60:72] + 0.4 * noise, dim=-1)
    return explain(surprised_head(), x, dt)


def decoded(png: bytes) -> Image:
    picture = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, dtype=np.uint8)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that becomes a PNG."""
    drawn: list[Figure] = []
    write = plot_style.png

    def png(figure: Figure) -> bytes:
        drawn.append(figure)
        return write(figure)

    monkeypatch.setattr(explanation_plot, "png", png)
    return drawn


def words(page: Figure) -> str:
    texts = [text.get_text() for text in page.texts]
    for axes in page.axes:
        texts += [text.get_text() for text in axes.texts] + [axes.get_ylabel(), axes.get_xlabel()]
        legend = axes.get_legend()
        texts += [] if legend is None else [text.get_text() for text in legend.get_texts()]
    return " ".join(" ".join(texts).split())


def named(page: Figure, name: str) -> Axes:
    (axes,) = (one for one in page.axes if name in one.get_ylabel())
    return axes


def test_the_picture_says_where_the_evidence_lies_and_what_everything_is(pages: list[Figure]) -> None:
    found = jump()
    picture = decoded(explanation_png(found, start_s=100.0, refused_s=(104.0,), heading="Face 3 of 4.", remark="The rest is missing."))
    assert picture.shape[0] > 900 and picture.shape[1] == 1320
    assert picture.std() > 10
    (page,) = pages
    said = words(page)
    for part in (
        *explanation_sentence(found, start_s=100.0).split(". "),
        "Face 3 of 4. The rest is missing.",
        "of the evidence lies in 105.0-10",
        "towards manipulated",
        "towards real",
        "the same pictures, evenly spaced",
        "said through the memory",
        "needs no memory",
        f"they add up to {float(found.clip_logit[0]):+.2f}",
        "1: what real faces do",
        "5 % 50 % 95 %",
        "x: seen, but not fit to judge",
        "media time, seconds",
    ):
        assert part in said, part
    low, high = page.axes[0].get_xlim()
    assert 99.5 < low < 100.0 and 109.9 < high < 110.5


def test_the_line_is_the_logit_and_the_bars_are_the_ledger(pages: list[Figure]) -> None:
    x, dt = make_clip(2, 40)
    found = explain(make_head(), x, dt)
    explanation_png(found, track=1)
    (page,) = pages
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in named(page, "logit").lines}
    np.testing.assert_allclose(drawn["as its pictures came"], found.outputs.logit[:, 1].numpy())
    np.testing.assert_allclose(drawn["the same pictures, evenly spaced"], found.evenly[:, 1].numpy())
    bars = [bar.get_height() for box in named(page, "ledger").containers for bar in box]
    np.testing.assert_allclose(bars[:40], found.alone[:, 1].numpy(), atol=1e-6)
    np.testing.assert_allclose(np.add(bars[:40], bars[40:]), found.ledger[:, 1].numpy(), atol=1e-6)


def test_many_moments_share_a_bar_and_still_add_up(pages: list[Figure]) -> None:
    x, dt = make_clip(1, 1000)
    found = explain(make_head(), x, dt)
    explanation_png(found)
    bars = [bar.get_height() for box in named(pages[0], "ledger").containers for bar in box]
    assert len(bars) <= 2 * BARS_AT_MOST
    assert sum(bars) == pytest.approx(float(found.ledger.sum()), abs=1e-4)
    assert "each bar: 4 moments" in words(pages[0])


def test_a_first_sight_is_no_surprise_and_surprise_is_in_units_of_real_faces(pages: list[Figure]) -> None:
    found = jump()
    explanation_png(found, surprise_unit=0.5)
    lines = {len(np.asarray(line.get_ydata())): np.asarray(line.get_ydata()) for line in named(pages[0], "surprise").lines}
    assert math.isnan(lines[120][0])
    np.testing.assert_allclose(lines[120][1:], found.outputs.surprise[1:, 0].numpy() / 0.5)
    assert named(pages[0], "time constants").get_yscale() == "log"


def test_a_gap_is_hatched_and_no_line_crosses_it(pages: list[Figure]) -> None:
    x, dt = still_face(60)
    dt[30] = 4.0
    explanation_png(explain(surprised_head(), x, dt))
    (hatched,) = (patch for patch in named(pages[0], "moments").patches if patch.get_hatch())
    assert hatched.get_extents().width > 0
    assert "nothing for 4.0 s" in words(pages[0])
    assert np.isnan(np.asarray(named(pages[0], "logit").lines[-3].get_ydata(), dtype=float)).any()


def test_the_sentence_tells_window_and_timing() -> None:
    assert explanation_sentence(jump(), start_s=2.0).startswith("The motion speaks for manipulation (mean logit +")
    assert "% of the evidence lies in 7.0-" in explanation_sentence(jump(), start_s=2.0)


@pytest.mark.parametrize(
    ("clip", "timing", "said"),
    [
        (2.0, 0.001, "Timing plays no part: evenly spaced, the same pictures say the same."),
        (2.0, 0.5, "25% of it (+0.50) is due to timing: evenly spaced, the same pictures say +1.50."),
        (-2.0, -0.5, "25% of it (-0.50) is due to timing: evenly spaced, the same pictures say -1.50."),
        (2.0, -0.5, "Timing weakens it by 0.50: evenly spaced, the same pictures say +2.50."),
        (2.0, 2.5, "Timing decides it: evenly spaced, the same pictures say the opposite (-0.50)."),
        (-2.0, -2.5, "Timing decides it: evenly spaced, the same pictures say the opposite (+0.50)."),
    ],
)
def test_the_sentence_says_how_much_is_due_to_timing(clip: float, timing: float, said: str) -> None:
    found = dataclasses.replace(jump(), clip_logit=torch.tensor([clip]), timing=torch.tensor([timing]))
    way = "for" if clip > 0 else "against"
    assert explanation_sentence(found).startswith(f"The motion speaks {way} manipulation (mean logit {clip:+.2f}).")
    assert explanation_sentence(found).endswith(said)


def test_a_first_sight_alone_is_no_window() -> None:
    found = jump()
    ledger = torch.zeros_like(found.ledger)
    ledger[0] = 1.0
    assert "of the evidence" not in explanation_sentence(dataclasses.replace(found, ledger=ledger))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_moments_are_drawn(steps: int) -> None:
    x, dt = make_clip(1, steps)
    found = explain(make_head(), x, dt)
    assert decoded(explanation_png(found, start_s=7.5)).std() > 5
    if steps == 1:
        assert explanation_sentence(found, start_s=7.5).endswith("Only one moment was judged, at 7.50 s.")


def test_what_streams_bring_is_drawn() -> None:
    """Repeated pictures, moments that were masked, a face that lives between two gaps."""
    x, dt = make_clip(2, 30)
    dt[5:9] = 0.0
    dt[20] = dt[21] = 2.0
    mask = torch.ones(30, 2, dtype=torch.bool)
    mask[10:13, 0] = False
    found = explain(make_head("resonator"), x, dt, mask)
    assert decoded(explanation_png(found, track=0)).std() > 5
    assert decoded(explanation_png(found, track=1)).std() > 5


@pytest.mark.parametrize("steps", [0, 6])
def test_nothing_judged_is_a_page_that_says_so(steps: int, pages: list[Figure]) -> None:
    x, dt = make_clip(1, 6)
    found = explain(make_head(), x[:steps], dt[:steps], torch.zeros(steps, 1, dtype=torch.bool))
    assert decoded(explanation_png(found)).std() > 5
    assert "There is nothing to explain: no face was judged." in words(pages[0])


def test_what_is_not_there_is_refused() -> None:
    found = jump()
    for track in (-1, 1):
        with pytest.raises(ValueError, match=rf"track: expected 0 to 0, a column of the explanation, got {track}"):
            explanation_png(found, track=track)
        with pytest.raises(ValueError, match="track: expected 0 to 0"):
            explanation_sentence(found, track)
    for unit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="surprise_unit: expected more than 0, got"):
            explanation_png(found, surprise_unit=unit)


def reported(moments: int) -> AnalysisReport:
    """The hand-made report with reasons for `moments` of the moments of its face 0."""
    x, dt = still_face(moments)
    explained = ExplainedTrack(0, 0, (moments - 1) * 100, Fraction(1, 1000), 1.0, explain(surprised_head(), x, dt))
    return dataclasses.replace(make_report(), explained=explained)


def test_a_report_names_the_face_and_what_was_refused(pages: list[Figure]) -> None:
    explained_png(reported(71))
    said = words(pages[0])
    assert "Face 0: probability of manipulation 61%, from texture and motion together. This is what its motion says." in said
    assert "were kept" not in said
    assert "not fit to judge" not in said, "the refused moments are another face's"


def test_a_cap_that_was_reached_is_stated(pages: list[Figure]) -> None:
    explained_png(reported(30))
    assert "Explained are 30 of 71 judged moments, up to 2.9 s; no more were kept." in words(pages[0])


def test_a_report_without_a_face_is_a_page_that_says_so(pages: list[Figure]) -> None:
    report = make_report(faces=False)
    assert decoded(explained_png(report)).shape[1] == 1320
    assert "no face was judged" in words(pages[0])
    assert report.verdict.sentence in words(pages[0])
