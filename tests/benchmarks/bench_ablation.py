"""What each part of the encoder's training is worth: arms that leave one part out, equal pairs each, AUC on two kinds of unseen fakes.

Pseudo-fakes of held-out people (for all arms the whole generator's, and those of two mask families that one arm never saw), and the
genuine deepfakes of the tier `validation`. Small crops and few pairs, so that an arm takes minutes: the differences are what counts.

`python -m tests.benchmarks.bench_ablation --arms whole,no_maps`: whatever is finished stays in the ledger.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.encoder import FaceEncoder
from pipelines.evaluation.learning_curve import CutVideo, blur_control, cut_videos, macro_auc, score_videos
from pipelines.evaluation.metrics import auc_interval
from pipelines.training.encoder_data import FacePairs
from pipelines.training.encoder_training import EncoderRecipe, train_encoder
from pipelines.training.manifest import read_manifest
from pipelines.training.masks import FAMILIES
from pipelines.training.portraits import Portrait, load_portraits
from pipelines.training.pseudo_fakes import FakeRecipe
from pipelines.training.stages import Plan, run_crops
from tests.support import ROOT

RUN: Final = ROOT / "run"
"""The run directory of `undercurrent train run --run run`, whose aligned faces are read (and cut, where there are none)."""
LEDGER: Final = Path(__file__).with_name("ablation.ledger.json")
PAIRS: Final = 24_000
SMALL_PX: Final = 112
SEEDS: Final = (1,)
UNSEEN: Final = ("superellipse", "components")
"""Mask families that the arm `unseen_families` never trains on."""
HELD_OUT_BATCHES: Final = 40
BASE: Final = EncoderRecipe(pairs=PAIRS, small_px=SMALL_PX, small_share=1.0, validate_every_s=1e9, validation_batches=1)


@dataclass(frozen=True)
class Arm:
    """One way of training."""

    says: str
    recipe: EncoderRecipe = BASE
    prepare: Callable[[FaceEncoder], None] | None = None
    people: Callable[[Portrait], bool] = lambda _: True


def _no_high_pass(net: FaceEncoder) -> None:
    net.high_pass.kernels.zero_()


ARMS: Final = {
    "whole": Arm("everything"),
    "one_family": Arm("one mask family: the full hull", replace(BASE, fakes=FakeRecipe(families=("full",)))),
    "unseen_families": Arm(
        "without the two unseen families", replace(BASE, fakes=FakeRecipe(families=tuple(f for f in FAMILIES if f not in UNSEEN)))
    ),
    "no_sharpness": Arm("donors as sharp as their targets", replace(BASE, fakes=FakeRecipe(sharpness=False))),
    "no_maps": Arm("no dense maps of blending and seam", replace(BASE, map_weight=0.0)),
    "no_consistency": Arm("no consistency of places", replace(BASE, consistency_weight=0.0)),
    "no_points": Arm("no facial points", replace(BASE, points_weight=0.0)),
    "no_rank": Arm("no ranking within a face", replace(BASE, rank_weight=0.0)),
    "no_high_pass": Arm("no high-pass stem", BASE, _no_high_pass),
    "open_only": Arm("tier `open` alone", BASE, None, lambda portrait: portrait.tier == "open"),
    "px_160": Arm("160 px instead of 112", replace(BASE, small_share=0.0)),
}


def run_arm(name: str, seed: int, store: Path, videos: list[CutVideo]) -> dict[str, Any]:
    """Train one arm from one seed and measure it."""
    arm = ARMS[name]
    torch.manual_seed(seed)
    net = FaceEncoder()
    if arm.prepare is not None:
        arm.prepare(net)
    train = [portrait for portrait in load_portraits(store, split="train") if arm.people(portrait)]
    holdout = load_portraits(store, split="holdout")
    recipe = replace(arm.recipe, seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        eye = train_encoder(train, holdout, Path(scratch) / "encoder.pt", recipe, start=net)
    crop_px = SMALL_PX if recipe.small_share > 0 else 160
    macro, by_method = macro_auc(score_videos(eye, videos, crop_px=crop_px), videos)
    return {
        "pseudo": _pseudo(eye, holdout, crop_px, FakeRecipe()),
        "pseudo_unseen_families": _pseudo(eye, holdout, crop_px, FakeRecipe(families=UNSEEN)),
        "validation_macro": macro.value,
        "validation": by_method,
        "control_macro": macro_auc(blur_control(videos), videos)[0].value,
        "people": len({portrait.identity for portrait in train}),
    }


@torch.inference_mode()
def _pseudo(eye: FaceEncoder, holdout: list[Portrait], crop_px: int, fakes: FakeRecipe) -> dict[str, float]:
    """AUC over single pictures, its interval (by batch, each of which is other people) and how often a fake outscores its original."""
    data = FacePairs(holdout, groups=12, seed=0, crop_px=crop_px, recipe=fakes)
    rng = np.random.default_rng(99)
    scores, labels, groups = [], [], []
    for number in range(HELD_OUT_BATCHES):
        batch = data.draw(rng)
        for label, crops in ((0, batch.real), (1, batch.fake)):
            scores.append(eye(crops).logit.double().numpy())
            labels.append(np.full(len(crops), label))
            groups.append(np.full(len(crops), number))
    real, fake = np.concatenate(scores[::2]), np.concatenate(scores[1::2])
    auc = auc_interval(np.concatenate(scores), np.concatenate(labels), np.concatenate(groups), resamples=500)
    return {"auc": auc.value, "low": auc.low, "high": auc.high, "pair_accuracy": float((fake > real).mean())}


def run() -> list[dict[str, Any]]:
    """Rows for the table: mean over the seeds, and the seeds apart."""
    return measure(tuple(ARMS), SEEDS)


def measure(arms: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Train what the ledger lacks and sum up; an arm that was finished is never trained again."""
    ledger: dict[str, Any] = json.loads(LEDGER.read_text()) if LEDGER.is_file() else {}
    data = ROOT.parent / "shared" / "data"
    records = read_manifest(data / "manifest.json")
    plan = Plan(manifest=data / "manifest.json", run=RUN, out=RUN / "unused", dense=data / "landmarks.npz")
    run_crops(plan, records, print)
    videos: list[CutVideo] | None = None
    for seed in seeds:
        for name in arms:
            if f"{name}/{seed}" not in ledger:
                videos = videos or cut_videos([one for one in records if one.tier == "validation" and one.kind == "video"])
                ledger[f"{name}/{seed}"] = run_arm(name, seed, plan.store, videos)
                LEDGER.write_text(json.dumps(ledger, indent=1))
                print(name, seed, json.dumps(ledger[f"{name}/{seed}"]), flush=True)
    return [row for name in arms if (row := _row(name, [ledger[key] for key in ledger if key.split("/")[0] == name]))]


def _row(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(get: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
        values = [get(one) for one in found]
        return {"mean": statistics.fmean(values), "seeds": values}

    return {
        "arm": name,
        "says": ARMS[name].says,
        "pairs": PAIRS,
        "people": found[0]["people"],
        "pseudo": mean(lambda one: one["pseudo"]["auc"]),
        "pseudo_interval": [min(one["pseudo"]["low"] for one in found), max(one["pseudo"]["high"] for one in found)],
        "pair_accuracy": mean(lambda one: one["pseudo"]["pair_accuracy"]),
        "unseen_families": mean(lambda one: one["pseudo_unseen_families"]["auc"]),
        "validation_macro": mean(lambda one: one["validation_macro"]),
        "control_macro": found[0]["control_macro"],
    }


def main(arguments: Sequence[str]) -> None:
    """Measure some arms into the ledger."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_ablation", description=__doc__)
    parser.add_argument("--arms", default=",".join(ARMS), help="a comma list of " + ", ".join(ARMS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for row in measure(asked.arms.split(","), [int(seed) for seed in asked.seeds.split(",")]):
        print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
