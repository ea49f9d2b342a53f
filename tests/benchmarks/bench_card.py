"""The tables of the model card: the shipped weights and `../shared/data` in, rows out; `python -m tests.benchmarks --only card`.

Needs the run directory of the training (`undercurrent train run --run run`): the faces of held-out people, and the comparison heads of
`undercurrent train baselines --run run`. Everything is measured on people that no weight was trained on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.calibration import probability
from pipelines.evaluation.baselines import load_baselines, scorers
from pipelines.evaluation.evaluate import Evaluation, judge_video, summarise
from pipelines.evaluation.matched import Worn, worn_records
from pipelines.evaluation.metrics import auc_interval, calibration_error_by_chance, expected_calibration_error, rate_interval
from pipelines.evaluation.retiming import CONDITIONS
from pipelines.evaluation.shortcuts import audit_shortcuts
from pipelines.evaluation.time_sweep import TEMPORAL_KINDS, TimeSweep, sequences_of, sweep_time
from pipelines.model import Model, load_model
from pipelines.training.evidence import of_sequences
from pipelines.training.manifest import Record, for_training, read_manifest, split_of
from pipelines.training.portraits import load_portraits
from pipelines.training.sequences import Sequence, draw_pairs
from tests.benchmarks.bench_ablation import RUN
from tests.support import ROOT

DATA: Final = ROOT.parent / "shared" / "data"
HZ: Final = 12.0
PAIRS: Final = 400
SEED: Final = 31
"""Of pseudo-fakes that neither training nor calibration drew."""
HARD_WEAR: Final = Worn(crf=35, scale=0.5, drop=0.5)
MATCHED: Final = Worn(crf=28)
AMONG: Final = ("all", "temporal", "partial")
SHOWN: Final = {
    ("fps", "15"),
    ("fps", "10"),
    ("fps", "5"),
    ("dropped", "50%"),
    ("bursts lost, mean frames", "5"),
    ("wrong timestamps", "10 fps as 25"),
}


def run() -> list[dict[str, Any]]:
    """All tables, one after the other."""
    model, records = load_model(), read_manifest(DATA / "manifest.json")
    genuine = [record for record in records if record.tier == "validation" and record.kind == "video"]
    clips = sequences_of(genuine, model)
    made = _pseudo_fakes(model)
    heads = load_baselines(RUN / "baselines.safetensors")
    return [
        *_genuine(_judged(genuine, model), "as they are"),
        *_genuine(_worn(genuine, MATCHED, model), f"both sides encoded once more, H.264 CRF {MATCHED.crf}")[:1],
        *_reals(records, model),
        *_pseudo(made, model),
        *_times(sweep_time(made, scorers(model.temporal, model.calibrator, heads), conditions=CONDITIONS), "pseudo-fakes"),
        *_times(sweep_time(clips, scorers(model.temporal, model.calibrator, heads), conditions=CONDITIONS), "genuine deepfakes"),
        *_shortcuts(model),
    ]


def _judged(records: list[Record], model: Model) -> Evaluation:
    scores = []
    for number, record in enumerate(records, start=1):
        scores.append(judge_video(record, model, hz=HZ))
        print(f"{number}/{len(records)} {record.file}: {scores[-1].verdict}", flush=True)
    return summarise(scores)


def _worn(records: list[Record], worn: Worn, model: Model) -> Evaluation:
    with tempfile.TemporaryDirectory() as folder:
        return _judged(worn_records(records, worn, Path(folder)), model)


def _genuine(found: Evaluation, how: str) -> list[dict[str, Any]]:
    rows = [
        {
            "table": "genuine",
            "genuine deepfakes": how,
            "macro AUC, all reals": str(found.macro_auc),
            "macro AUC, own scenes": str(found.macro_auc_own_scene),
            "all in one": str(found.auc),
            "without sharpness": str(found.auc_without_sharpness),
            "control, macro": str(found.control_macro_auc),
            "control, own scenes": str(found.control_macro_auc_own_scene),
            "called manipulated, fakes": str(found.true_positive_rate),
            "called manipulated, reals": str(found.false_positive_rate),
            "ECE": str(found.calibration_error),
        }
    ]
    for make in found.methods:
        rows.append(
            {
                "table": "makes",
                "make": make.method,
                "fakes": str(make.fakes),
                "AUC, all reals": str(make.auc),
                "AUC, own scenes": str(make.auc_own_scene),
                "control": str(make.control_auc),
                "called manipulated": str(make.accused),
            }
        )
    return rows


def _reals(records: list[Record], model: Model) -> list[dict[str, Any]]:
    """Real video of people that nothing was trained on, as it is and after hard wear."""
    trainable = [record for record in for_training(records) if record.kind == "video" and split_of(record) == "holdout"]
    reals = [record for record in records if record.kind == "video" and record.tier == "study"] + trainable
    rows = []
    for how, found in (
        ("as they are", _judged(reals, model)),
        ("H.264 CRF 35, half size, half of the pictures", _worn(reals, HARD_WEAR, model)),
    ):
        rows.append(
            {"table": "reals", "real video": how, "source": "all", "videos": str(found.videos), "accused": str(found.false_positive_rate)}
        )
        rows[-1]["inconclusive or not judged"] = str(found.abstained)
        for source in found.sources if how == "as they are" else ():
            if source.reals >= 4 or source.accused.value > 0:
                rows.append(
                    {
                        "table": "reals",
                        "real video": how,
                        "source": source.source,
                        "videos": str(source.reals),
                        "accused": str(source.accused),
                        "inconclusive or not judged": "",
                    }
                )
    return rows


def _pseudo_fakes(model: Model) -> list[Sequence]:
    people = load_portraits(RUN / "store", split="holdout") + load_portraits(RUN / "calibration")
    return draw_pairs(model.encoder, people, pairs=PAIRS, seed=SEED, workers=2)


def _pseudo(made: list[Sequence], model: Model) -> list[dict[str, Any]]:
    tracks = of_sequences(model.temporal, model.calibrator, made, hz=HZ)
    label, person = np.array([track.label for track in tracks]), np.array([track.identity for track in tracks])
    fused = np.array([model.calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks])
    parts = {
        "fused": fused,
        "frame logits alone": np.array([float(track.artefact.mean()) for track in tracks]),
        "liquid head alone": np.array([float(track.temporal.mean()) for track in tracks]),
    }
    kinds = np.array([one.kind for one in made])
    groups = {"all": kinds != "", "temporal": (label == 0) | np.isin(kinds, TEMPORAL_KINDS)}
    groups |= {kind: (label == 0) | (kinds == kind) for kind in sorted(set(kinds) - {"real"})}
    rows = []
    for name, rows_of in groups.items():
        row = {"table": "pseudo", "pseudo-fakes": name, "fakes": str(int(label[rows_of].sum()))}
        row |= {part: str(auc_interval(score[rows_of], label[rows_of], person[rows_of], resamples=1000)) for part, score in parts.items()}
        rows.append(row)
    p = [probability(float(value)) for value in fused]
    accused = fused >= model.calibrator.shipped.track
    rows.append(
        {
            "table": "calibration",
            "on pseudo-fakes and their originals": f"{len(tracks)} clips of {len(set(person))} people",
            "ECE": f"{expected_calibration_error(p, label):.3f}",
            "ECE of so many clips, were every probability true": f"{calibration_error_by_chance(p):.3f}",
            "accused fakes": str(rate_interval(int(accused[label == 1].sum()), int((label == 1).sum()))),
            "accused reals": str(rate_interval(int(accused[label == 0].sum()), int((label == 0).sum()))),
        }
    )
    return rows


def _times(sweep: TimeSweep, among: str) -> list[dict[str, Any]]:
    rows = []
    arms = list(dict.fromkeys(row.arm for row in sweep.rows))
    for arm in arms:
        row = {"table": f"time, {among}", "arm": arm}
        for one in sweep.rows:
            if one.arm == arm and one.condition == "as it is":
                row["AUC as it is"] = str(one.auc)
        for one in sweep.rows:
            if one.arm == arm and (one.condition, one.level) in SHOWN:
                row[f"{one.condition} {one.level}: lost (drift)"] = f"{one.lost:+.3f} ({one.drift:.2f})"
        rows.append(row)
    rows += [
        {"table": f"differences, {among}", "arm": one.arm, "less": one.other, "among": one.among, "AUC difference": str(one.auc)}
        for one in sweep.differences
        if one.among in AMONG
    ]
    rows += [
        {"table": f"steadiness, {among}", "arm": one.arm, "moves, as a share of": one.other, "over 30, 15, 10 and 5 fps": str(one.ratio)}
        for one in sweep.steadiness
        if one.arm.startswith("liquid") and not one.other.startswith("liquid")
    ]
    return rows


def _shortcuts(model: Model) -> list[dict[str, Any]]:
    people = load_portraits(RUN / "store", split="holdout") + load_portraits(RUN / "calibration")
    found = audit_shortcuts(model, people)
    rows = [
        {
            "table": "shortcuts",
            "property": row.name,
            "mean log-odds of reals by level": ", ".join(
                f"{level}: {value:+.2f}" for level, value in zip(row.levels, row.logit, strict=True)
            ),
            "mean probability moves by": f"{row.moved:.3f}",
            "AUC of score at telling the worst level": str(row.separates),
            "probe on reals (chance)": f"{row.probe_reals:.2f} ({row.chance:.2f})",
            "probe on fakes": f"{row.probe_fakes:.2f}",
        }
        for row in found.rows
    ]
    rows.append({"table": "shortcuts", "property": f"source: {100 * found.source_share:.0f} % of the variance of the reals, beyond chance"})
    return rows
