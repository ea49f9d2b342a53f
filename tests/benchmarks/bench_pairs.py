"""How fast pairs for the encoder are made: by stage on one core, and in batches on a GPU where there is one, beside how fast it learns.

Times on the CPU are processor time, so that neighbours do not count. `draw` and `pack` are what a loader's process does for a GPU, `codec`
is left to threads there; `make` is what a loader does where the net trains on the CPU, codec included.

`python -m tests.benchmarks.bench_pairs` prints the rows.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import cv2
import numpy as np
import torch

from models.encoder import EncoderDims, FaceEncoder
from pipelines.faces import CROP_PX
from pipelines.training.device_fakes import DeviceFakes
from pipelines.training.encoder_data import FacePairs, PairBatch
from pipelines.training.encoder_training import EncoderRecipe, _step
from pipelines.training.packed_pairs import pack
from pipelines.training.pair_recipe import PairRecipe
from tests.pipelines.training.portrait import portrait

GROUPS = (16, 32, 64, 128, 256, 512)
CPU_GROUPS = 64
SECONDS = 3.0
"""How long each number on a GPU is measured."""


def run() -> list[dict[str, Any]]:
    """Rows by stage, then by size of the batch."""
    return [*_stages(), *(_batches() if torch.cuda.is_available() else [])]


def _stages() -> list[dict[str, Any]]:
    data = FacePairs([portrait("a"), portrait("b")], groups=CPU_GROUPS, seed=0)
    recipes: list[PairRecipe] = []
    draw = _spent(lambda: recipes.extend(data.recipes(np.random.default_rng(0))))
    coded = [recipe for recipe in recipes if recipe.wear.codec is not None]
    worn = [(recipe, recipe.wear.look(recipe.target.crops[0][:CROP_PX, :CROP_PX])) for recipe in coded]
    uncoded = [replace(recipe, wear=replace(recipe.wear, codec=None)) for recipe in recipes]
    stages = {
        "draw": draw,
        "pack": _spent(lambda: pack(recipes, CROP_PX)),
        "codec": _spent(lambda: [one.strip.coded([tile, tile], one.wear.codec) for one, tile in worn if one.wear.codec]),
        "make": _spent(lambda: data.finish(recipes)),
        "make as a batch, without codec": _spent(lambda: list(DeviceFakes("cpu", threads=1).batches([pack(uncoded, CROP_PX)]))),
    }
    return [
        {
            "table": "pairs by stage, one core",
            "stage": name,
            "ms": round(1e3 * seconds / len(recipes), 2),
            "per_s": round(len(recipes) / seconds),
        }
        for name, seconds in stages.items()
    ]


def _batches() -> list[dict[str, Any]]:
    """Pairs a second of the device's own work, with the codecs in threads, and of the encoder's steps on them."""
    data, threads = FacePairs([portrait("a"), portrait("b")], groups=max(GROUPS), seed=0), os.cpu_count() or 1
    recipes = data.recipes(np.random.default_rng(0))
    uncoded = [replace(recipe, wear=replace(recipe.wear, codec=None)) for recipe in recipes]
    net = FaceEncoder(EncoderDims()).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    optimiser = torch.optim.AdamW(net.parameters())
    rows = []
    for groups in GROUPS:
        made, _ = _made(uncoded[: 2 * groups], threads)
        coded, batch = _made(recipes[: 2 * groups], threads)
        learnt = _rate(partial(_step, net, optimiser, batch, EncoderRecipe(), "cuda"), 2 * groups)
        rows.append(
            {
                "table": f"pairs on {torch.cuda.get_device_name()}, {threads} threads",
                "groups": groups,
                "made_per_s": made,
                "made_with_codecs_per_s": coded,
                "learnt_per_s": learnt,
            }
        )
    return rows


def _made(recipes: list[PairRecipe], threads: int) -> tuple[int, PairBatch]:
    """Pairs a second on the GPU, and the last batch of them."""
    batches = DeviceFakes("cuda", threads=threads).batches(repeat(pack(recipes, CROP_PX)))
    return _rate(partial(next, batches), len(recipes)), next(batches)


def _spent(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _rate(work: Callable[[], object], pairs: int) -> int:
    """Pairs a second, after a warm-up."""
    for _ in range(4):
        work()
    torch.cuda.synchronize()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        work()
        torch.cuda.synchronize()
        rounds += 1
    return round(pairs * rounds / (time.perf_counter() - began))


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for line in run():
        print(json.dumps(line))
