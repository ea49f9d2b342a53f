"""`undercurrent train ...` and `undercurrent evaluate`: options in, stages run, numbers printed. Mounted by `cli.py`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import Evaluation, VideoScore
    from pipelines.training.encoder_training import EncoderProgress
    from pipelines.training.manifest import Record

train_app = typer.Typer(
    help="Train the networks from real video: crops, encoder, temporal, calibration, in this order.", no_args_is_help=True
)

Manifest = Annotated[Path, typer.Option(help="JSON list of real media with tier, identity and licence.")]
Store = Annotated[Path, typer.Option(help="Directory of aligned faces.")]
Run = Annotated[Path, typer.Option(help="Directory of this training run.")]


@train_app.command()
def crops(
    manifest: Manifest,
    store: Store,
    dense: Annotated[Path | None, typer.Option(help="Dense points measured beforehand (npz).")] = None,
    calibration: Annotated[bool, typer.Option(help="Cut the tier `study` for calibration only, never for training.")] = False,
) -> None:
    """Cut aligned faces from the media that may be trained on (or, with --calibration, from the tier that may only calibrate)."""
    from models.face_detector import FaceDetector
    from pipelines.training.manifest import for_training, read_manifest
    from pipelines.training.portraits import DensePoints, extract

    console = Console(stderr=True)
    records = read_manifest(manifest)
    chosen = [record for record in records if record.tier == "study"] if calibration else for_training(records)

    def told(record: Record, count: int) -> None:
        console.print(f"{record.file}: {count} tracks")

    written = extract(chosen, store, dense=DensePoints(dense), detector=FaceDetector(), on_file=told)
    console.print(f"{written} tracks written to {store}")


@train_app.command()
def encoder(
    store: Store,
    run: Run,
    minutes: Annotated[float, typer.Option(help="Wall-clock budget.")] = 40.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
) -> None:
    """Train the eye from scratch; it may be interrupted, the last validated weights stay."""
    from pipelines.training.encoder_training import EncoderRecipe, train_encoder, write_log
    from pipelines.training.portraits import load_portraits

    console = Console(stderr=True)
    run.mkdir(parents=True, exist_ok=True)
    log = write_log(run / "encoder.jsonl")

    def told(progress: EncoderProgress) -> None:
        log(progress)
        console.print(
            f"{progress.minutes:5.1f} min, {progress.pairs} pairs: loss {progress.loss:.3f}, "
            f"held-out AUC {progress.holdout_auc:.3f}, pair accuracy {progress.holdout_pair_accuracy:.3f}"
        )

    train, holdout = load_portraits(store, split="train"), load_portraits(store, split="holdout")
    train_encoder(train, holdout, run / "encoder.pt", EncoderRecipe(minutes=minutes, seed=seed), device=device, on_progress=told)


@train_app.command()
def temporal(
    store: Store,
    run: Run,
    pairs: Annotated[int, typer.Option(help="Training pairs of clips.")] = 400,
    holdout_pairs: Annotated[int, typer.Option(help="Held-out pairs of clips.")] = 120,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 700,
) -> None:
    """Train the liquid memory on what the frozen eye sees in clips and pseudo-fake clips."""
    from pipelines.training.stages import run_temporal
    from pipelines.training.temporal_training import TemporalRecipe

    console = Console(stderr=True)
    run_temporal(store, run, pairs=pairs, holdout_pairs=holdout_pairs, recipe=TemporalRecipe(steps=steps), report=console.print)


@train_app.command()
def calibration(
    manifest: Manifest,
    store: Store,
    run: Run,
    out: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")],
    extra_store: Annotated[Path | None, typer.Option(help="Faces that calibrate but never train.")] = None,
    pairs: Annotated[int, typer.Option(help="Calibration pairs of clips.")] = 200,
    target_fpr: Annotated[float, typer.Option(help="Share of real people that may be accused.")] = 0.01,
    version: Annotated[str, typer.Option(help="Name of this set of weights.")] = "1",
) -> None:
    """Fit fusion and thresholds on people that the nets never saw, and write the checkpoint."""
    from pipelines.training.manifest import read_manifest
    from pipelines.training.stages import run_calibration

    console = Console(stderr=True)
    measured = run_calibration(
        store,
        run,
        out,
        read_manifest(manifest),
        extra_store=extra_store,
        pairs=pairs,
        target_fpr=target_fpr,
        version=version,
        commit=_commit(),
        report=console.print,
    )
    typer.echo(json.dumps(measured, indent=1))


def evaluate_command(
    manifest: Annotated[Path | None, typer.Option(help="JSON list of labelled media.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Directory with real/ and fake/<method>/.")] = None,
    store: Annotated[Path | None, typer.Option(help="Aligned faces: make pseudo-fakes of its held-out people.")] = None,
    pairs: Annotated[int, typer.Option(help="How many pseudo-fakes, with --store.")] = 100,
    tier: Annotated[str, typer.Option(help="Which tier of the manifest to judge.")] = "validation",
    weights: Annotated[Path | None, typer.Option(help="Another checkpoint than the shipped one.")] = None,
    hz: Annotated[float, typer.Option(help="Looks a second.")] = 12.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Judge labelled videos and print AUC with its 95 % interval, by method, beside a control that has learnt nothing."""
    from pipelines.errors import PipelineError
    from pipelines.evaluation.evaluate import evaluate, videos_in
    from pipelines.model import load_model
    from pipelines.training.evidence import evaluate_pseudo_fakes
    from pipelines.training.manifest import read_manifest

    console = Console(stderr=True)
    if [manifest, videos, store].count(None) != 2:
        raise typer.BadParameter("give one of --manifest, --videos and --store")
    if store is not None:
        auc, people = evaluate_pseudo_fakes(store, load_model(weights), pairs=pairs, hz=hz)
        if as_json:
            typer.echo(json.dumps({"pseudo_fakes": pairs, "people": people, "auc": {"value": auc.value, "low": auc.low, "high": auc.high}}))
        else:
            typer.echo(f"{pairs} pseudo-fakes of {people} held-out people: AUC {auc}")
        return
    records = videos_in(videos) if videos is not None else []
    if manifest is not None:
        records = [record for record in read_manifest(manifest) if record.tier == tier and record.kind == "video"]
    if not records:
        raise PipelineError("There is nothing to evaluate.", expected="at least one labelled video", got="none")

    def told(number: int, score: VideoScore) -> None:
        console.print(f"{number}/{len(records)} {score.file}: {score.verdict}", highlight=False)

    found = evaluate(records, load_model(weights), hz=hz, on_video=told)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _print(found, Console())


def _print(found: Evaluation, console: Console) -> None:
    table = Table(
        "makes", "fakes", "reals", "AUC [95 %]", "called manipulated [95 %]", title=f"{found.videos} videos, {found.unjudged} not judged"
    )
    for method in found.methods:
        table.add_row(method.method, str(method.fakes), str(method.reals), str(method.auc), str(method.accused))
    console.print(table)
    for name, value in (
        ("AUC, all fakes", found.auc),
        ("control (minus sharpness)", found.control_auc),
        ("fake above its own real", found.pair_accuracy),
        ("true positive rate", found.true_positive_rate),
        ("false positive rate", found.false_positive_rate),
    ):
        console.print(f"{name:28} {value}")
    console.print(f"{'calibration error, Brier':28} {found.calibration_error:.3f}, {found.brier:.3f}")


def _commit() -> str:
    """The commit of the checkout, with a plus when it is not clean; `unknown` outside one."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty else "")
