"""Which head is right at frame rates it never saw: arms and a way of training in, errors at one frozen threshold for each sampling out.

Every arm has about 17,000 parameters that learn, the same grid (learning rate x weight decay) judged by the loss on validation clips of the
training's own sampling, and the same number of steps; the chosen point is trained afresh from other seeds on other clips. Its threshold
is where the balanced error is least on more held-out clips of the training's own sampling, and never moves again.

`python -m tests.benchmarks.bench_seconds --regime narrow --out FILE.json --resume`: whatever is finished stays in the file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.attention_head import TransformerHead
from models.heads import CellHead, GRUDHead, GRUHead, Head, LSTMHead
from models.temporal import TemporalHead, clip_logit
from pipelines.evaluation.metrics import roc_auc
from tests.benchmarks.seconds_task import INPUTS, TESTS, Clips, Sampling, Training, ideal_logit, make_clips

BATCH, HELD_OUT = 48, 2000
BLIND_DT_S = 1 / 25
DRAWN_AT_ONCE = 25
VALIDATION_SEED, THRESHOLD_SEED, TEST_SEED = 2_000_003, 2_000_033, 2_000_037
SEED_STRIDE = 10_000
"""Between the seeds of two trainings, so that no two of them draw the same clips."""

AnyHead = TemporalHead | Head


LEDGER = Path(__file__).with_name("seconds.ledger.json")
"""Where `table` keeps what is finished; not committed."""


class Settings(NamedTuple):
    """What one table was made with; another value never resumes its results."""

    regime: Training = "narrow"
    steps: int = 600
    seeds: int = 3
    short_dt: bool = True
    held_out: int = HELD_OUT


class Point(NamedTuple):
    """One point of the grid."""

    lr: float
    weight_decay: float


GRID = tuple(Point(lr, decay) for lr in (4e-3, 1e-2, 2e-2) for decay in (0.0, 1e-2))


def fixed_tau() -> TemporalHead:
    """The liquid head without what makes it liquid: rates that no input moves, and as many free parameters all the same."""
    head = TemporalHead(INPUTS, 50)
    for cell in (head.memory, head.evidence):
        cell.rate.requires_grad_(False)
    return head


ARMS: dict[str, Callable[[], AnyHead]] = {
    "liquid": lambda: TemporalHead(INPUTS, 44),
    "liquid fixed tau": fixed_tau,
    "liquid blind to dt": lambda: TemporalHead(INPUTS, 44),
    "innovation + GRU": lambda: GRUHead(INPUTS, 38, "innovation"),
    "GRU + dx/sqrt(dt) + dt": lambda: GRUHead(INPUTS, 43, "rate"),
    "GRU + dx + dt": lambda: GRUHead(INPUTS, 43),
    "LSTM + dx + dt": lambda: LSTMHead(INPUTS, 38),
    "GRU-D + dx": lambda: GRUDHead(INPUTS, 43),
    "Transformer + dx + time": lambda: TransformerHead(INPUTS, 28, heads=2),
    "CfC + dx": lambda: CellHead(INPUTS, 39, cell="cfc"),
    "LTC + dx": lambda: CellHead(INPUTS, 39, cell="ltc"),
    "liquid cell + dx": lambda: CellHead(INPUTS, 60, cell="liquid"),
}
BLIND = frozenset({"liquid blind to dt"})
WIDE = ("liquid", "LSTM + dx + dt", "GRU + dx/sqrt(dt) + dt", "innovation + GRU", "Transformer + dx + time")
NARROWER = ("liquid", "innovation + GRU", "GRU + dx/sqrt(dt) + dt", "GRU + dx + dt", "LSTM + dx + dt", "Transformer + dx + time")


def run(
    arms: Sequence[str] | None = None, settings: Settings | None = None, out: Path | None = None, grid: Sequence[Point] = GRID
) -> list[dict[str, Any]]:
    """One row for what Bayes' rule reaches and one an arm. Finished trainings are read from `out`, and each new one is written there."""
    settings = settings or Settings()
    arms = arms or (list(ARMS) if settings.regime == "narrow" else WIDE)
    ledger = Ledger(out, settings, len(arms) * (len(grid) + settings.seeds))
    rows = [_row("ideal", settings, [ledger.once("ideal", "bayes", partial(_ideal, settings))])]
    for arm in arms:
        net = fingerprint(arm)
        tuned = [ledger.once(arm, f"tune {p.lr:g} {p.weight_decay:g}", partial(_tune, arm, p, settings), net) for p in grid]
        best = min(zip(tuned, grid, strict=True), key=lambda pair: float(pair[0]["loss"]))[1]
        runs = [
            ledger.once(arm, f"seed {seed} {best.lr:g} {best.weight_decay:g}", partial(_final, arm, best, seed, settings), net)
            for seed in range(1, settings.seeds + 1)
        ]
        rows.append(_row(arm, settings, runs, best))
    return rows


def table() -> list[dict[str, Any]]:
    """All that the README shows: narrow, wide, narrow without short intervals. Hours on one core; goes on where it stopped."""
    wanted = ((list(ARMS), Settings()), (WIDE, Settings("wide")), (NARROWER, Settings(short_dt=False)))
    return [row for arms, settings in wanted for row in run(arms, settings, LEDGER)]


class Ledger:
    """Finished trainings by arm and purpose, kept in a JSON file so that an interrupted run goes on; says on stderr how far it is."""

    def __init__(self, path: Path | None, settings: Settings, total: int) -> None:
        self.path, self.left, self.spent = path, total, list[float]()
        self.table = " ".join(f"{name}={value}" for name, value in settings._asdict().items() if name != "seeds")
        self.memory: dict[str, dict[str, Any]] = {}

    def once(self, arm: str, purpose: str, work: Callable[[], dict[str, Any]], net: str = "") -> dict[str, Any]:
        """What `work` returned, now or in an earlier run with the same settings and the same `net`."""
        key = f"{self.table} | {arm} | {purpose}"
        known = self._read()
        if known.get(key, {}).get("net") != net:
            began = time.monotonic()
            known[key] = {"net": net, **work()}
            # Read again: another process may have added to the file in these seconds.
            self._write({**self._read(), key: known[key]})
            self.spent.append(time.monotonic() - began)
            eta_s = statistics.mean(self.spent) * max(0, self.left - 1)
            said = {name: value for name, value in known[key].items() if not isinstance(value, dict)}
            print(f"{key}: {said} in {self.spent[-1]:.0f} s, {eta_s / 60:.0f} min to go", file=sys.stderr, flush=True)
        self.left -= arm != "ideal"
        return known[key]

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.path is None:
            return self.memory
        return dict(json.loads(self.path.read_text("utf-8"))) if self.path.is_file() else {}

    def _write(self, known: dict[str, dict[str, Any]]) -> None:
        self.memory = known
        if self.path is not None:
            half = self.path.with_suffix(".half")
            half.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
            half.replace(self.path)


def _tune(arm: str, point: Point, settings: Settings) -> dict[str, Any]:
    head = train(arm, point, 0, settings)
    clips = _held_out(settings.regime, VALIDATION_SEED, settings)
    return {"loss": float(binary_cross_entropy_with_logits(judge(arm, head, clips), clips.fake))}


def _final(arm: str, point: Point, seed: int, settings: Settings) -> dict[str, Any]:
    head = train(arm, point, seed, settings)
    clips = _held_out(settings.regime, THRESHOLD_SEED, settings)
    threshold = least_error_threshold(judge(arm, head, clips), clips.fake)
    tests = {}
    for sampling in (settings.regime, *TESTS):
        clips = _held_out(sampling, TEST_SEED, settings)
        tests[sampling] = errors(judge(arm, head, clips), clips.fake, threshold)
    parameters = sum(p.numel() for p in head.parameters() if p.requires_grad)
    return {"parameters": parameters, "threshold": round(threshold, 4), "tests": tests}


def _ideal(settings: Settings) -> dict[str, Any]:
    samplings = (settings.regime, *TESTS)
    held_out = {sampling: _held_out(sampling, TEST_SEED, settings) for sampling in samplings}
    tests = {sampling: errors(ideal_logit(clips).float(), clips.fake, 0.0) for sampling, clips in held_out.items()}
    return {"parameters": 0, "threshold": 0.0, "tests": tests}


def fingerprint(arm: str) -> str:
    """What the untrained net of seed 0 says of eight clips: a result of another net is no result of this one."""
    torch.manual_seed(0)
    logits = judge(arm, ARMS[arm](), make_clips(8, "burst", 0))
    return " ".join(f"{logit:.3f}" for logit in logits.tolist())


def train(arm: str, point: Point, seed: int, settings: Settings) -> AnyHead:
    """AdamW under one cycle of the learning rate, on clips that no other seed sees."""
    torch.manual_seed(seed)
    head = ARMS[arm]()
    groups = [group for group in head.parameter_groups(point.lr, point.weight_decay) if group["params"]]
    optimiser = torch.optim.AdamW(groups)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=settings.steps + 1, pct_start=0.1)
    for x, dt, fake in itertools.islice(_batches(seed, settings), settings.steps):
        outputs, _ = head(x, _seen_dt(arm, dt))
        loss = binary_cross_entropy_with_logits(clip_logit(outputs.logit, outputs.judged), fake)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return head


def judge(arm: str, head: AnyHead, clips: Clips) -> Tensor:
    """(N,) clip logits."""
    with torch.inference_mode():
        outputs, _ = head(clips.x, _seen_dt(arm, clips.dt))
        return clip_logit(outputs.logit, outputs.judged)


def least_error_threshold(logits: Tensor, fake: Tensor) -> float:
    """The logit (N,) above which calling a clip fake (N,) errs least, both classes counted alike; midway between two clips."""
    ordered, order = logits.double().sort()
    called_real = fake[order] > 0
    missed = called_real.cumsum(0) / called_real.sum()
    alarms = 1.0 - (~called_real).cumsum(0) / (~called_real).sum()
    at = int((missed + alarms)[:-1].argmin())
    return float(ordered[at : at + 2].mean())


def errors(logits: Tensor, fake: Tensor, threshold: float) -> dict[str, float]:
    """Rates of clips (N,) at one threshold, and the area under the curve of all thresholds."""
    real, manipulated = logits[fake == 0], logits[fake > 0]
    fpr, fnr = float((real > threshold).float().mean()), float((manipulated <= threshold).float().mean())
    return {"balanced_error": (fpr + fnr) / 2, "fpr": fpr, "fnr": fnr, "auc": roc_auc(logits.numpy(), fake.numpy())}


def _row(arm: str, settings: Settings, runs: Sequence[dict[str, Any]], point: Point | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "regime": settings.regime,
        "short_dt": settings.short_dt,
        "steps": settings.steps,
        "arm": arm,
        "seeds": len(runs),
    }
    row |= {"parameters": runs[0]["parameters"], "lr": point and point.lr, "weight_decay": point and point.weight_decay}
    for sampling, numbers in runs[0]["tests"].items():
        row[sampling] = {}
        for name in numbers:
            values = [run["tests"][sampling][name] for run in runs]
            row[sampling][name] = {
                "mean": round(statistics.mean(values), 4),
                "sd": round(statistics.stdev(values), 4) if values[1:] else None,
            }
    return row


@lru_cache(maxsize=16)
def _held_out(sampling: Sampling, seed: int, settings: Settings) -> Clips:
    # each way of sampling has clips of its own
    return make_clips(settings.held_out, sampling, seed + 2 * list(get_args(Sampling)).index(sampling), short_dt=settings.short_dt)


def _batches(seed: int, settings: Settings) -> Iterator[Clips]:
    for draw in itertools.count(seed * SEED_STRIDE):
        clips = make_clips(BATCH * DRAWN_AT_ONCE, settings.regime, draw, short_dt=settings.short_dt)
        for begin in range(0, clips.fake.shape[0], BATCH):
            part = slice(begin, begin + BATCH)
            yield Clips(clips.x[:, part], clips.dt[:, part], clips.fake[part])


def _seen_dt(arm: str, dt: Tensor) -> Tensor:
    return torch.full_like(dt, BLIND_DT_S) if arm in BLIND else dt


def main(arguments: Sequence[str]) -> None:
    """Train what is missing in FILE.json and print the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_seconds", description=__doc__)
    parser.add_argument("--regime", choices=get_args(Training), default="narrow")
    parser.add_argument("--arms", help="a comma list; all that the regime has, unless given", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--no-short-dt", action="store_true", help="train without intervals below 20 ms")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on with what FILE.json already holds")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.arms or ()) - set(ARMS)):
        parser.error(f"--arms: expected some of {', '.join(ARMS)}; got {', '.join(unknown)}")
    if asked.out.exists() and not asked.resume:
        parser.error(f"{asked.out} exists: add --resume to go on with it")
    torch.set_num_threads(1)
    settings = Settings(asked.regime, asked.steps, asked.seeds, not asked.no_short_dt)
    for row in run(asked.arms, settings, asked.out):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
