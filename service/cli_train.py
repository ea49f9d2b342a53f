"""`undercurrent train ...` and `undercurrent evaluate`: options in, stages run, numbers printed. Mounted by `cli.py`."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from service import cli_inspect
from service.cli_output import INTERRUPTED, check_writable, write_file

if TYPE_CHECKING:
    from pipelines.training.manifest import Record

train_app = typer.Typer(help="Train the networks from real video, and look at what they are trained on.", no_args_is_help=True)

for inspecting in (cli_inspect.sheet, cli_inspect.play, cli_inspect.check, cli_inspect.manifest):
    train_app.command()(inspecting)

Manifest = Annotated[Path, typer.Option(help="JSON or CSV list of real media with tier, identity and licence.")]
Store = Annotated[Path, typer.Option(help="Directory of aligned faces.")]
STAGES = ("crops", "encoder", "temporal", "calibration")


@train_app.command()
def run(
    manifest: Manifest,
    run: Annotated[Path, typer.Option(help="Directory of everything made on the way; the same again goes on where it stopped.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write (.safetensors).")],
    dense: Annotated[Path | None, typer.Option(help="Dense points measured beforehand (npz).")] = None,
    tier: Annotated[list[str], typer.Option(help="What may train; `own` is footage of yours.")] = ["open", "published"],  # noqa: B006  # typer's form
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out files that are not there, and name them.")] = False,
    init: Annotated[Path | None, typer.Option(help="Start from this checkpoint's encoder: to adapt it to footage of your own.")] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of pictures for the encoder; 100,000 take about 30 minutes on two cores.")] = 280_000,
    groups: Annotated[int, typer.Option(help="Faces in a batch for the encoder, two pairs of each; a GPU wants more than a CPU.")] = 12,
    clips: Annotated[int, typer.Option(help="Pairs of clips for the memory.")] = 1200,
    steps: Annotated[int, typer.Option(help="Optimiser steps of the memory.")] = 800,
    target_fpr: Annotated[float, typer.Option(help="Share of real people that may be accused.")] = 0.01,
    again: Annotated[str | None, typer.Option(help=f"Do this stage and those after it again: {', '.join(STAGES)}.")] = None,
    device: Annotated[str, typer.Option(help="Where the encoder learns: cpu; or cuda, which makes the pseudo-fakes as well.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that draw pseudo-fakes, and make them on a CPU.")] = 2,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    version: Annotated[str, typer.Option(help="Name of this set of weights.")] = "1",
) -> None:
    """Crops, encoder, liquid memory, calibration: from a manifest of real video to a checkpoint. Interrupt it when you like."""
    from pipelines.training.encoder_training import EncoderRecipe
    from pipelines.training.stages import STAGE_FILES, Plan, run_all
    from pipelines.training.temporal_training import TemporalRecipe

    console = Console(stderr=True)
    if again is not None:
        if again not in STAGES:
            raise typer.BadParameter(f"expected one of {', '.join(STAGES)}; got {again}", param_hint="--again")
        for stage in STAGES[STAGES.index(again) :]:
            for name in STAGE_FILES[stage]:
                shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
    gentler = 0.3 if init is not None else 1.0
    plan = Plan(
        manifest=manifest,
        run=run,
        out=out,
        dense=dense,
        tiers=tuple(tier),
        skip_missing=skip_missing,
        init=init,
        encoder=EncoderRecipe(
            pairs=pairs,
            groups=groups,
            seed=seed,
            workers=max(1, workers - 1),
            learning_rate=gentler * EncoderRecipe().learning_rate,
        ),
        temporal=TemporalRecipe(steps=steps, seed=seed),
        clips=clips,
        holdout_clips=max(2, clips // 4),
        calibration_clips=max(4, clips // 5),
        target_fpr=target_fpr,
        device=device,
        workers=workers,
        version=version,
        commit=_commit(),
    )
    try:
        measured = run_all(plan, console.print)
    except KeyboardInterrupt:
        console.print(f"Interrupted. The same command goes on from what lies in {run}.")
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(json.dumps(measured, indent=1))


@train_app.command()
def baselines(
    run: Annotated[Path, typer.Option(help="The run directory of a finished training.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps of each head, as the liquid head had.")] = 800,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
) -> None:
    """Train the heads that the liquid one must beat (GRU, GRU with dt, LSTM, CfC), on the same embeddings and in the same way."""
    from pipelines.evaluation.baselines import Trained, save_baselines, train_baselines
    from pipelines.training.sequence_store import load_sequences
    from pipelines.training.temporal_training import TemporalRecipe

    console = Console(stderr=True)

    def told(one: Trained) -> None:
        console.print(f"{one.name}, seed {one.seed}: held-out AUC {one.holdout_auc:.3f} at learning rate {one.learning_rate:g}")

    train, holdout = (load_sequences(run / f"sequences-{name}.npz") for name in ("train", "holdout"))
    trained = train_baselines(train, holdout, TemporalRecipe(steps=steps, seed=seed), on_trained=told)
    save_baselines(run / "baselines.safetensors", trained)


@train_app.command()
def curve(
    manifest: Manifest,
    run: Annotated[Path, typer.Option(help="The run directory of a training, under way or finished.")],
    out: Annotated[Path, typer.Option(help="The picture to write (.png); the numbers go beside it (.json).")],
    tier: Annotated[str, typer.Option(help="Which labelled tier of the manifest to look at.")] = "validation",
) -> None:
    """Draw how detection of genuine deepfakes grew over a training, beside pseudo-fakes and the control. For looking, not for choosing."""
    from pipelines.evaluation.learning_curve import CurvePoint, cut_videos, learning_curve
    from pipelines.training.manifest import read_manifest
    from service.curve_plot import curve_png

    console, numbers = Console(stderr=True), out.with_suffix(".json")
    for path in (out, numbers):
        check_writable(path)
    records = [record for record in read_manifest(manifest) if record.tier == tier and record.kind == "video"]
    videos = cut_videos(records, on_video=lambda number: console.print(f"cut {number} of {len(records)} videos"))

    def told(point: CurvePoint) -> None:
        console.print(f"{point.pairs} pairs: macro AUC {point.macro_auc} (control {point.control:.3f}), all {point.auc}")

    points = learning_curve(run, videos, on_snapshot=told)
    write_file(out, curve_png(points))
    write_file(numbers, json.dumps([asdict(point) for point in points], indent=1).encode())


@train_app.command()
def crops(
    manifest: Manifest,
    store: Store,
    dense: Annotated[Path | None, typer.Option(help="Dense points measured beforehand (npz).")] = None,
    calibration: Annotated[bool, typer.Option(help="Cut the tier `study` for calibration only, never for training.")] = False,
    tier: Annotated[list[str], typer.Option(help="What may train; `own` is footage of yours.")] = ["open", "published"],  # noqa: B006  # typer's form
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out files that are not there, and name them.")] = False,
) -> None:
    """Cut aligned faces from the media that may be trained on (or, with --calibration, from the tier that may only calibrate)."""
    from models.face_detector import FaceDetector
    from pipelines.training.manifest import for_training, present, read_manifest
    from pipelines.training.portraits import DensePoints, extract

    console = Console(stderr=True)
    records = read_manifest(manifest)
    chosen = [record for record in records if record.tier == "study"] if calibration else for_training(records, tiers=tuple(tier))
    chosen = present(chosen, skip_missing=skip_missing, on_missing=lambda record: console.print(f"missing, left out: {record.file}"))

    def told(record: Record, count: int) -> None:
        console.print(f"{record.file}: {count} tracks")

    written = extract(chosen, store, dense=DensePoints(dense), detector=FaceDetector(), on_file=told)
    console.print(f"{written} tracks written to {store}")


def _commit() -> str:
    """The commit of the checkout, with a plus when it is not clean; `unknown` outside one."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty else "")
