"""The page of an evaluation: its numbers are on it, hostile names are harmless, and what is not known is said in words."""

from __future__ import annotations

import copy
import html
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.evaluation.evaluate import VideoScore, summarise
from service.evaluation_plots import label, scores_png, sweep_png, threshold_between
from service.evaluation_report import evaluation_page
from service.forest_plot import forest_png
from tests.support import require

Json = dict[str, Any]
HOSTILE = "<img src=x onerror=alert(1)>\"'&$\\frac{ \u202e{{ 7*7 }}</td>"
PLAIN = VideoScore(
    "f.mp4", 0, "real", "g", "no_evidence", -1.0, 7.0, 9.0, 10.0, None, "source", "validation", 130.0, 100.0, "h264", 640, 30.0
)
ESTIMATES = (
    *(
        "auc",
        "macro_auc",
        "macro_auc_own_scene",
        "control_auc",
        "control_macro_auc",
        "control_macro_auc_own_scene",
        "above_control",
        "macro_above_control",
        "auc_without_sharpness",
    ),
    *("pair_accuracy", "true_positive_rate", "false_positive_rate"),
)


def _estimate(value: float | None) -> Json:
    return {"value": value, "low": None if value is None else value - 0.05, "high": None if value is None else value + 0.05}


TIME: Json = {
    "sweep": "time",
    "rows": [
        {"arm": arm, "condition": condition, "level": level, "auc": _estimate(0.7), "drift": 0.1}
        for arm in ("liquid", "GRU without dt")
        for condition, level in (("as it is", ""), ("fps", "30"), ("fps", "10"))
    ],
}
WORN: Json = {
    "sweep": "robustness",
    "rows": [
        {"condition": condition, "level": level, "auc": _estimate(auc), "drift": 0.0, "fpr": _estimate(0.1), "unjudged": 0.25}
        for condition, level, auc in (("as it is", "", 0.8), ("blur", "7", 0.6137), ("blur", "21", None))
    ],
}


def _videos() -> list[VideoScore]:
    fakes = [replace(PLAIN, file=f"fake{i}", label=1, method="A", group=f"g{i}", logit=float(i), verdict="manipulated") for i in range(5)]
    return [replace(PLAIN, file=f"real{i}", group=f"g{i}", logit=float(i - 2)) for i in range(5)] + fakes


@cache
def _cached() -> Json:
    return summarise(_videos()).as_json()


def _found() -> Json:
    return copy.deepcopy(_cached())


def _text(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def _says_nothing_false(page: str) -> None:
    words = _text(page)
    assert not re.search(r"\b(NaN|nan|None|null|inf|undefined|Undefined)\b", words), words
    assert not re.search(r'[ "](nan|inf)\b', re.sub(r"base64,[^\"]*", "", page)), "nor do the bars hold such numbers"


def test_the_numbers_are_on_the_page_and_the_page_is_alone() -> None:
    found = summarise(_videos())
    page = evaluation_page(found.as_json(), [TIME, WORN])
    words = _text(page)
    assert str(found.auc) in words and str(found.control_auc) in words
    assert "10 labelled videos" in words and "5 real and 5 fake, of 1 make." in words and "Every one of them could be judged" in words
    assert "Sweep: time" in words and "Sweep: robustness" in words and "0.61 [0.56, 0.66]" in words and "GRU without dt" in words
    for limit in ("screening signal", "below 0.1 mean nothing", "full synthesis", "talking heads", "lip-sync", "1 % prevalence"):
        assert limit in words
    assert page.count("data:image/png;base64,") == 3 + 2 + 4, "scores, curves, reliability; AUC and drift; all four of the other sweep"
    _says_nothing_false(page)


def test_it_fetches_nothing_and_runs_nothing() -> None:
    page = evaluation_page(_found(), [TIME])
    assert set(re.findall(r"(?:src|href|srcset|action)\s*=\s*.{12}", page)) == {'src="data:image/'}
    for way in ("<script", "http:", "https:", "@import", "url(", "<link", "<iframe", "<object", "<form", "style=", ' src="//'):
        assert way not in page, way


def test_control_stands_right_beside_the_auc_and_is_judged() -> None:
    found = _found()
    found["auc"], found["control_auc"] = ({"value": v, "low": v - 0.1, "high": v + 0.1} for v in (0.8, 0.65))
    found["above_control"] = {"value": 0.15, "low": -0.01, "high": 0.31}
    words = _text(evaluation_page(found, []))
    between = words[words.index("0.800 [0.700, 0.900]") : words.index("0.650 [0.550, 0.750]")]
    assert len(between) < 160 and "do not show that the detector sees more than blur" in words
    found["above_control"] = {"value": 0.15, "low": 0.01, "high": 0.29}
    assert "0.150 [0.010, 0.290]. The detector sees more than blur." in _text(evaluation_page(found, [])), (
        "the intervals overlap, and yet the difference on the same videos is clear of 0"
    )


def test_hostile_names_are_text_wherever_they_stand() -> None:
    videos = [
        replace(one, file=HOSTILE, method=HOSTILE if one.label else "real", source=HOSTILE, tier=HOSTILE, codec=HOSTILE, problem=HOSTILE)
        for one in _videos()
    ]
    sweep = copy.deepcopy(TIME)
    sweep["sweep"] = HOSTILE
    for row in sweep["rows"]:
        row |= {"arm": "_" + HOSTILE, "level": HOSTILE, "condition": HOSTILE}
    found = summarise(videos).as_json()
    found |= {"note": HOSTILE, "problems": [HOSTILE, {"file": HOSTILE, "problem": "damaged"}]}
    page = evaluation_page(found, [sweep])
    assert "<img src=x" not in page and "onerror=alert(1)>" not in page and page.count("&lt;img src=x") > 20
    assert re.findall(r"<img(?! class=\"plot\" src=\"data:)", page) == []
    assert "{{ 7*7 }}" in html.unescape(page), "a name is no template"
    problem = re.search(r"<li><bdi>[^<]*\u202e[^<]*</bdi>: damaged</li>", page)
    assert problem, "a name that turns the direction of reading turns only its own"


def test_a_name_that_is_no_unicode_can_be_written() -> None:
    found = summarise([replace(one, file=f"clip\udcff{one.file}", method=f"m\udcff{one.label}") for one in _videos()]).as_json()
    assert b"clip\\udcff" in evaluation_page(found, []).encode("utf-8")


@pytest.mark.parametrize("name", ["$x", "$x_1$", "$\\frac{$", "\\$", "_hidden", "鬼\U0001f47b\x00\n\ud800", "w" * 500, ""])
def test_every_name_can_be_drawn(name: str) -> None:
    scores = [{"label": 1, "method": name, "logit": 0.5, "verdict": "manipulated"}]
    assert cv2.imdecode(np.frombuffer(scores_png(scores), dtype=np.uint8), cv2.IMREAD_COLOR) is not None
    rows = [{"arm": name, "condition": name, "level": name, "auc": _estimate(0.7)}]
    assert sweep_png(rows, "auc") is not None
    assert len(label(name)) < 40 and "\n" not in label(name) and not label(name).startswith("_")


def test_one_class_is_told_in_words() -> None:
    reals = evaluation_page(summarise([one for one in _videos() if not one.label]).as_json(), [])
    words = _text(reals)
    assert "There is no fake among them" in words and "not resolvable: there is no fake" in words
    assert "not resolvable: no fake was judged" in words and "What an accusation is worth. Not resolvable" in words
    assert "0 % (0 to 43 %)" in words, "the false positives are known, and their interval"
    assert "No curve: not resolvable: there is no fake" in words and "No diagram: not resolvable: there is no fake" in words
    _says_nothing_false(reals)
    fakes = evaluation_page(summarise([one for one in _videos() if one.label]).as_json(), [])
    assert "not resolvable: there is no real video" in _text(fakes) and "no second of real video was judged" in _text(fakes)
    _says_nothing_false(fakes)


def test_nothing_judged_is_told_in_words() -> None:
    none = evaluation_page(summarise([replace(PLAIN, logit=None, verdict="refused", problem="no-video", sharpness=None)]).as_json(), [])
    assert "f.mp4 : no-video" in _text(none) and "Not resolvable: no video was judged." in _text(none)
    assert "not measured: no face whose sharpness is known" in _text(none)
    assert "Scores by make" not in none
    _says_nothing_false(none)


def test_every_video_without_a_score_is_listed_once() -> None:
    faceless = replace(PLAIN, file="wall.mp4", logit=None, verdict="not_applicable")
    refused = replace(PLAIN, file="torn.mp4", logit=None, verdict="refused", problem="no-video")
    found = summarise([*_videos(), faceless, refused]).as_json()
    found["problems"] = [{"file": "torn.mp4", "problem": "no-video"}]
    words = _text(evaluation_page(found, []))
    assert "2 of them could not be judged" in words and "No problem was reported" not in words
    assert words.count("torn.mp4") == 1 and "wall.mp4 : no face could be judged, not applicable" in words


@pytest.mark.parametrize("number", [None, float("nan")])
def test_no_unknown_number_becomes_a_zero(number: float | None) -> None:
    found = _found()
    unknown = {"value": number, "low": number, "high": number}
    found |= dict.fromkeys(ESTIMATES, unknown)
    found |= {name: unknown for name, value in found.items() if isinstance(value, dict) and "low" in value}
    found |= {name: number for name, value in found.items() if isinstance(value, float)}
    found["units"] = {name: {"n": 3, "auc": unknown} for name in found["units"]}
    found["tpr_at_fpr"] = dict.fromkeys(found["tpr_at_fpr"], unknown)
    for part in (*found["methods"], *found["slices"], *found["sources"]):
        part |= {name: unknown for name, value in part.items() if isinstance(value, dict)}
    sweep = {"sweep": "robustness", "rows": [{"condition": "blur", "level": "7", "auc": unknown, "drift": number, "fpr": None}]}
    page = evaluation_page(found, [sweep])
    _says_nothing_false(page)
    words = _text(page)
    assert words.count("not resolvable") + words.count("not measured") > 30
    assert "the sweep has no number that could be drawn" in words and "<circle" not in page
    assert not re.search(r"\b0(\.0+)? \[|\b0\.000\b", words)


def test_every_key_may_be_null_or_missing() -> None:
    for empty in (dict.fromkeys(_found()), {}):
        page = evaluation_page(empty, [])
        _says_nothing_false(page)
        assert "not resolvable: no video is listed" in _text(page) and "an unknown number of real" in _text(page)


@pytest.mark.parametrize("key", sorted(_cached()))
def test_any_one_key_may_be_null(key: str) -> None:
    _says_nothing_false(evaluation_page(_found() | {key: None}, [TIME] if key == "auc" else []))


def test_the_short_names_of_the_field_are_understood() -> None:
    found = _found()
    for name, short in (("average_precision", "ap"), ("calibration_error", "ece"), ("negative_log_likelihood", "nll")):
        found[short] = found.pop(name) and 0.4321
    assert _text(evaluation_page(found, [])).count("0.432") == 3


def test_what_an_accusation_is_worth_is_computed_from_the_rates() -> None:
    found = _found()
    found["true_positive_rate"] = {"value": 1.0, "low": 0.7, "high": 1.0}
    found["false_positive_rate"] = {"value": 0.02, "low": 0.004, "high": 0.1}
    words = _text(evaluation_page(found, []))
    assert "34 of a hundred accusations" in words, ".01 * 1 / (.01 * 1 + .99 * .02)"
    assert "from 7 to 72" in words, ".01 * .7 / (.01 * .7 + .99 * .1) and .01 / (.01 + .99 * .004)"


def test_no_false_positive_among_few_is_not_never() -> None:
    found = _found()
    found["true_positive_rate"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    found["false_positive_rate"] = {"value": 0.0, "low": 0.0, "high": 0.04}
    words = _text(evaluation_page(found, []))
    assert "at least 9 of a hundred" in words and "100 of a hundred" not in words and "does not mean that none ever is" in words


def test_the_worst_come_first() -> None:
    words = _text(evaluation_page(_found(), []))
    mistakes = words[words.index("Worst mistakes") :]
    assert mistakes.index("real4") < mistakes.index("real0") < mistakes.index("fake0") < mistakes.index("fake4")


def test_the_threshold_is_read_off_the_verdicts_or_not_drawn() -> None:
    def scores(*pairs: tuple[float | None, str]) -> list[Json]:
        return [{"label": 0, "method": "real", "logit": logit, "verdict": verdict} for logit, verdict in pairs]

    apart = scores((0.5, "no_evidence"), (2.0, "manipulated"), (3.0, "inconclusive"), (None, "refused"))
    assert threshold_between(apart) == (0.5, 2.0)
    assert threshold_between(scores((0.5, "no_evidence"))) is None
    assert threshold_between(scores((3.0, "no_evidence"), (2.0, "manipulated"))) is None, "not by this score alone"
    assert scores_png(apart) != scores_png(scores((0.5, "no_evidence"), (2.0, "inconclusive"), (3.0, "inconclusive"), (None, "refused")))


def test_a_sweep_draws_what_it_measured_and_shows_the_band() -> None:
    rows = WORN["rows"]
    assert sweep_png(TIME["rows"], "fpr") is None and sweep_png([], "auc") is None
    bare = [{**row, "auc": {**row["auc"], "low": None, "high": None}} for row in rows]
    assert sweep_png(rows, "auc") != sweep_png(bare, "auc")
    assert sweep_png(rows, "auc") != sweep_png([row for row in rows if row["condition"] != "as it is"], "auc")


COMPARED: Json = {
    **TIME,
    "differences": [
        {"arm": "liquid", "other": "mean frame logit", "among": among, "auc": {"value": 0.1, "low": low, "high": 0.2}}
        for among, low in (("all", -0.01), ("temporal", 0.04))
    ],
    "steadiness": [
        {"arm": "liquid", "other": "GRU", "ratio": {"value": 0.41, "low": 0.3, "high": 0.6}},
        {"arm": "GRU", "other": "liquid", "ratio": {"value": 2.44, "low": 1.7, "high": 3.3}},
    ],
}


def test_the_time_sweep_says_which_arm_tells_more_and_which_is_steadier() -> None:
    page = evaluation_page(_found(), [COMPARED])
    words = _text(page)
    assert "mean frame logit all 0.100 [-0.010, 0.200] not shown" in words
    assert "mean frame logit temporal 0.100 [0.040, 0.200] better" in words
    assert "liquid GRU 0.410 [0.300, 0.600] steadier" in words and "GRU liquid 2.440 [1.700, 3.300] less steady" in words
    assert page.count("data:image/png") == evaluation_page(_found(), [TIME]).count("data:image/png") + 2, "a picture of each"
    unknown = copy.deepcopy(COMPARED)
    for one in unknown["differences"] + unknown["steadiness"]:
        one |= {name: None for name in ("auc", "ratio") if name in one}
    _says_nothing_false(evaluation_page(_found(), [unknown]))
    assert "Which memory is steadier" not in _text(evaluation_page(_found(), [TIME]))


def test_what_a_wear_costs_is_drawn_with_its_interval_on_the_same_people() -> None:
    worn = copy.deepcopy(WORN)
    for row, lost in zip(worn["rows"], (0.0, 0.19, 0.3), strict=True):
        row |= {"lost": lost, "lost_interval": {"value": lost, "low": lost - 0.02, "high": lost + 0.02}}
    page = evaluation_page(_found(), [worn])
    words = _text(page)
    assert "What each wear costs" in words and "0.19 [0.17, 0.21]" in words
    assert page.count("data:image/png") == evaluation_page(_found(), [WORN]).count("data:image/png") + 1


def test_a_forest_shows_an_interval_and_whether_it_is_clear_of_nothing() -> None:
    def drawn(low: float | None, value: float | None = 0.1) -> bytes | None:
        return forest_png({"p": [("a", {"value": value, "low": low, "high": 0.2})]}, axis="x", none=0.0)

    assert drawn(0.01, None) is None
    assert len({drawn(0.01), drawn(-0.01), drawn(None)}) == 3
    assert forest_png({HOSTILE: [(HOSTILE, _estimate(0.7))]}, axis="x", none=1.0, aim=0.5, log=True) is not None


def test_a_browser_draws_the_page(tmp_path: Path) -> None:
    chromium = require("chromium")
    page, shot = tmp_path / "evaluation.html", tmp_path / "shot.png"
    page.write_text(evaluation_page(_found(), [TIME]), "utf-8")
    subprocess.run(
        [
            *(str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1100,1600"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    picture = cv2.imread(str(shot))
    assert picture is not None and np.asarray(picture).std() > 10
