"""The page of an evaluation: its plain JSON and that of its sweeps in, one self-contained HTML page out. Used by `evaluate --report`."""

from __future__ import annotations

import base64
import math
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from service import __version__
from service.evaluation_plots import AS_IT_IS, MEASURED, curves_png, known, reliability_png, scores_png, sweep_png, threshold_between
from service.forest_plot import Row, forest_png

Json = dict[str, Any]
MISTAKES: Final = 8
STEADY: Final = 0.5
"""Half as far as another memory: the claim that the time sweep tests."""
PREVALENCE: Final = 0.01
NOT_RESOLVABLE: Final = "not resolvable"
NOT_MEASURED: Final = "not measured"
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
# The short names of the field are understood as well as those that `Evaluation.as_json` writes.
SHORT: Final = {
    "average_precision": "ap",
    "equal_error_rate": "eer",
    "negative_log_likelihood": "nll",
    "calibration_error": "ece",
    "area_under_risk_coverage": "aurc",
}
NUMBERS: Final = (
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
    *("pair_accuracy", "brier", "balanced_accuracy", "true_positive_rate", "false_positive_rate", "false_positives_per_hour"),
    *("coverage", "abstained", "decision_s", "videos", "unjudged", "note", "problems", "calibration_error_by_chance", *SHORT),
)


def evaluation_page(evaluation: Json, sweeps: list[Json]) -> str:
    """One page with everything inside it: no script, no network. Names of files and makes may be anybody's; they are escaped."""
    found = _complete(evaluation)
    scores = found["scores"]
    judged = [score for score in scores if known(score["logit"]) is not None]
    reals, fakes = _counts(found)
    page = _template().render(
        found=found,
        reals=reals,
        fakes=fakes,
        why=_reasons(found),
        blur=_against_blur(found),
        worth=_worth(found),
        prevalence=PREVALENCE,
        threshold=threshold_between(scores),
        curves=_uri(curves_png(found)) if found["roc"]["fpr"] else None,
        reliability=_uri(reliability_png(found["reliability"])) if found["reliability"] and reals != 0 and fakes != 0 else None,
        strips=_uri(scores_png(scores)) if judged else None,
        sweeps=[_swept(sweep) for sweep in sweeps],
        accused=sorted((one for one in judged if not one["label"]), key=lambda one: -one["logit"])[:MISTAKES],
        missed=sorted((one for one in judged if one["label"]), key=lambda one: one["logit"])[:MISTAKES],
        problems=_problems(found),
        version=__version__,
    )
    # A name that is no Unicode comes from the file system as lone surrogates, which no file can hold.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _complete(evaluation: Json) -> Json:
    """Every key that the page reads; None or empty where the evaluation does not have it."""
    found: Json = {name: evaluation.get(name, evaluation.get(SHORT.get(name, name))) for name in NUMBERS}
    found |= {name: evaluation.get(name) or [] for name in ("methods", "sources", "slices", "reliability", "scores")}
    found |= {name: evaluation.get(name) or {} for name in ("units", "tpr_at_fpr")}
    roc = evaluation.get("roc") or {}
    found["roc"] = {name: roc.get(name) or [] for name in ("fpr", "tpr")}
    if any(known(value) is None for values in found["roc"].values() for value in values):
        found["roc"] = {"fpr": [], "tpr": []}
    found["reliability"] = [one for one in found["reliability"] if known(one["claimed"]) is not None and known(one["observed"]) is not None]
    if found["videos"] is None:
        found["videos"] = len(found["scores"])
    return found


def _counts(found: Json) -> tuple[int | None, int | None]:
    """How many real videos and fakes there are; None where neither the scores nor the parts tell."""
    if scores := found["scores"]:
        return sum(not score["label"] for score in scores), sum(bool(score["label"]) for score in scores)
    return (
        sum(one["reals"] for one in found["sources"]) if found["sources"] else None,
        sum(one["fakes"] for one in found["methods"]) if found["methods"] else None,
    )


def _reasons(found: Json) -> dict[str, str]:
    """What stands in a number's place where there is none, and why there is none."""
    scores = found["scores"]
    fakes, reals = (sum(bool(score["label"]) == one for score in scores) for one in (True, False))
    if not scores:
        lacking = "no video is listed"
    elif not fakes:
        lacking = "there is no fake"
    elif not reals:
        lacking = "there is no real video"
    else:
        lacking = "too few videos"
    blind = bool(scores) and all(score.get("sharpness") is None for score in scores)
    few = {
        need: lacking if not (fakes and reals) else f"it needs {need} real videos, there are {reals}" if reals < need else "it was left out"
        for need in (20, 100)
    }
    no_reals, no_fakes = ("there is no real video" if scores else lacking), ("there is no fake" if scores else lacking)
    return {
        "both": f"{NOT_RESOLVABLE}: {lacking}",
        "control": f"{NOT_MEASURED}: no face whose sharpness is known" if blind else f"{NOT_RESOLVABLE}: {lacking}",
        "own": f"{NOT_RESOLVABLE}: no real video of the same scenes" if fakes else f"{NOT_RESOLVABLE}: {lacking}",
        "reals": f"{NOT_RESOLVABLE}: {no_reals if not reals else 'too few real videos'}",
        "fakes": f"{NOT_RESOLVABLE}: {no_fakes if not fakes else 'too few fakes'}",
        "hours": f"{NOT_MEASURED}: no second of real video was judged",
        "decision": f"{NOT_MEASURED}: no fake was called manipulated for good",
        "one_percent": f"{NOT_RESOLVABLE}: {few[100]}",
        "five_percent": f"{NOT_RESOLVABLE}: {few[20]}",
        "part": f"{NOT_RESOLVABLE}: it takes both, fakes and reals",
        "none": f"{NOT_RESOLVABLE}: nothing to count" if scores else f"{NOT_RESOLVABLE}: {lacking}",
    }


def _against_blur(found: Json) -> str:
    """One sentence: is it shown to see more than blur?"""
    low = known((found["above_control"] or {}).get("low"))
    if low is None:
        return "Whether the detector sees more than blur cannot be told from these videos."
    above = f"AUC above the control, on the same videos: {_estimate(found['above_control'], NOT_MEASURED)}."
    if low > 0:
        return f"{above} The detector sees more than blur."
    return f"{above} That holds 0: these videos do not show that the detector sees more than blur."


def _worth(found: Json) -> dict[str, float] | None:
    """How many of a hundred accusations are right where PREVALENCE of the videos are fakes, with the ends of both rates' intervals.

    None where a rate is not known. `value` is missing where nobody real was accused: a rate of 0 among few videos is not a rate of 0.
    """
    tpr, fpr = (found[name] or {} for name in ("true_positive_rate", "false_positive_rate"))
    hit, false = known(tpr.get("value")), known(fpr.get("value"))
    if hit is None or false is None or hit == 0:
        return None
    worth = {"value": _predictive(hit, false)} if false > 0 else {}
    ends = [known(one.get(end)) for one, end in ((tpr, "low"), (fpr, "high"), (tpr, "high"), (fpr, "low"))]
    if all(end is not None for end in ends):
        low_tpr, high_fpr, high_tpr, low_fpr = (float(end or 0) for end in ends)
        worth |= {"low": _predictive(low_tpr, high_fpr), "high": _predictive(high_tpr, low_fpr)}
    return worth or None


def _predictive(tpr: float, fpr: float) -> float:
    right, wrong = PREVALENCE * tpr, (1 - PREVALENCE) * fpr
    return 100 * right / (right + wrong) if right + wrong else 0.0


def _swept(sweep: Json) -> Json:
    """One sweep with a picture of each thing that it measured."""
    rows, differences, steadiness = (sweep.get(name) or [] for name in ("rows", "differences", "steadiness"))
    pictures = [(name, _uri(picture)) for name in MEASURED if (picture := sweep_png(rows, name)) is not None]
    costs: dict[str, list[Row]] = {}
    for row in rows if sweep.get("sweep") == "robustness" else ():
        if row["condition"] != AS_IT_IS:
            costs.setdefault(str(row["condition"]), []).append((str(row["level"]), row.get("lost_interval") or {}))
    better: dict[str, list[Row]] = {}
    for one in differences:
        better.setdefault(f"among {one['among']} fakes", []).append((str(one["arm"]), one.get("auc") or {}))
    steadier: dict[str, list[Row]] = {}
    for one in steadiness:
        steadier.setdefault(str(one["arm"]), []).append((f"of {one['other']}", one.get("ratio") or {}))
    forests = {
        "costs": forest_png(costs, axis="AUC lost to the wear; 0 is nothing", none=0.0),
        "differences": forest_png(better, axis="AUC above that of the mean frame logit; 0 is no better", none=0.0),
        "steadiness": forest_png(steadier, axis="how far it moves, as a share of how far the other does", none=1.0, aim=STEADY, log=True),
    }
    return {
        "name": sweep.get("sweep") or "sweep",
        "rows": rows,
        "pictures": pictures,
        "forests": {name: None if picture is None else _uri(picture) for name, picture in forests.items()},
        "differences": [one | {"shown": _shown(one.get("auc"), 0.0, "better", "worse")} for one in differences],
        "steadiness": [one | {"shown": _shown(one.get("ratio"), 1.0, "less steady", "steadier")} for one in steadiness],
    }


def _shown(estimate: Json | None, none: float, above: str, below: str) -> str:
    """What an interval that is clear of `none` says in a word."""
    low, high = (known((estimate or {}).get(end)) for end in ("low", "high"))
    if low is None or high is None:
        return NOT_RESOLVABLE
    return above if low > none else below if high < none else "not shown"


def _problems(found: Json) -> list[tuple[str, str]]:
    """(file, what was wrong) of every video with a problem or without a score, then what else the evaluation lists."""
    listed = [(str(score["file"]), str(score["problem"])) for score in found["scores"] if score.get("problem")]
    listed += [
        (str(score["file"]), f"no face could be judged, {str(score['verdict']).replace('_', ' ')}")
        for score in found["scores"]
        if known(score["logit"]) is None and not score.get("problem")
    ]
    others = found["problems"] if isinstance(found["problems"], list) else []
    for one in others:
        pair = (str(one.get("file", "")), str(one.get("problem", one.get("detail", "")))) if isinstance(one, dict) else ("", str(one))
        if pair not in listed:
            listed.append(pair)
    return listed


def _uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _number(value: float | None, why: str, digits: int = 3) -> str:
    return why if known(value) is None else f"{value:.{digits}f}"


def _estimate(estimate: Json | float | None, why: str, digits: int = 3) -> str:
    """The value with its interval, or why there is none; a plain number has no interval."""
    if not isinstance(estimate, dict):
        return _number(estimate, why, digits)
    value, low, high = (known(estimate.get(name)) for name in ("value", "low", "high"))
    if value is None:
        return why
    if low is None or high is None:
        return f"{value:.{digits}f} (interval {NOT_RESOLVABLE})"
    return f"{value:.{digits}f} [{low:.{digits}f},{NO_BREAK}{high:.{digits}f}]"


def _percent(estimate: Json | float | None, why: str) -> str:
    """The same in per cent, for shares."""
    if not isinstance(estimate, dict):
        return why if known(estimate) is None else f"{_share(float(estimate or 0))}{NO_BREAK}%"
    value, low, high = (known(estimate.get(name)) for name in ("value", "low", "high"))
    if value is None:
        return why
    interval = f"interval {NOT_RESOLVABLE}" if low is None or high is None else f"{_share(low)} to {_share(high)} %".replace(" ", NO_BREAK)
    return f"{_share(value)}{NO_BREAK}% ({interval})"


def _share(value: float) -> str:
    return f"{100 * value:.{0 if value >= 0.0995 else 1}f}".removesuffix(".0")


def _known_part(estimate: Json | None, name: str) -> float | None:
    """An end of an estimate as a place on a bar from 0 to 1; None where it has none."""
    value = known((estimate or {}).get(name))
    return None if value is None else min(max(value, 0.0), 1.0)


def _whole(value: float) -> str:
    """A count of a hundred, rounded without calling a rest nothing or a lack all."""
    if 0 < value < 1:
        return "fewer than 1"
    return "more than 99" if 99 < value < 100 else f"{math.floor(value + 0.5)}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("service"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "estimate": _estimate, "percent": _percent, "part": _known_part, "whole": _whole}
    return environment.get_template("evaluation.html.j2")
