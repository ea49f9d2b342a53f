"""The stages between a manifest and a checkpoint, each resumable: a run directory in, files in it out. Called by `service/cli_train.py`.

crops        manifest               -> run/store, run/calibration   aligned faces
encoder      store                  -> run/encoder.pt, log          the eye
temporal     store, encoder.pt      -> run/temporal.pt, sequences   the memory, on embeddings of the frozen eye
calibration  both stores, both nets -> a checkpoint                 the judge, on people neither has seen
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import Calibrator
from models.checkpoint import save_checkpoint
from models.encoder import FaceEncoder
from models.face_detector import FaceDetector
from models.temporal import TemporalHead
from pipelines.errors import ManifestError
from pipelines.evaluation.evaluate import summarise_tracks
from pipelines.evaluation.metrics import auc_interval
from pipelines.faces import CROP_PX, CROP_VERSION
from pipelines.model import Model, load_model
from pipelines.training.calibration_fit import fit_fusion, set_farthest, set_thresholds
from pipelines.training.encoder_training import EncoderProgress, EncoderRecipe, train_encoder, write_log
from pipelines.training.evidence import of_sequences, of_video
from pipelines.training.manifest import TRAINING_TIERS, Record, digest, for_training, present, read_manifest, split_of
from pipelines.training.portraits import DensePoints, Portrait, extract, load_portraits
from pipelines.training.run_files import read_state, restore
from pipelines.training.sequence_store import save_sequences
from pipelines.training.sequences import FITTED_CROPS, Sequence, draw_pairs, fit_embedding, see
from pipelines.training.temporal_training import TemporalProgress, TemporalRecipe, train_temporal
from pipelines.verdict import ModelInfo

Report = Callable[[str], None]
STAGE_FILES: Final = {
    "crops": ("store", "calibration"),
    "encoder": ("encoder.pt", "encoder.state.pt", "encoder.jsonl", "snapshots"),
    "temporal": ("encoder_embedded.pt", "sequences-train.npz", "sequences-holdout.npz", "temporal.pt"),
    "calibration": ("measured.json",),
}
"""What each stage leaves in the run directory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One whole training: what goes in, what comes out, and how much of everything."""

    manifest: Path
    run: Path
    """Directory of everything made on the way; a plan that was cut short goes on from what lies here."""
    out: Path
    dense: Path | None = None
    tiers: tuple[str, ...] = TRAINING_TIERS
    skip_missing: bool = False
    init: Path | None = None
    """A checkpoint whose encoder to start from instead of from scratch: for adapting shipped weights to footage of one's own."""
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    temporal: TemporalRecipe = field(default_factory=TemporalRecipe)
    clips: int = 1200
    holdout_clips: int = 300
    calibration_clips: int = 240
    target_fpr: float = 0.01
    device: str = "cpu"
    workers: int = 2
    version: str = "1"
    commit: str = "unknown"

    @property
    def store(self) -> Path:
        """Faces that may be trained on."""
        return self.run / "store"

    @property
    def extra_store(self) -> Path:
        """Faces that calibrate but never train."""
        return self.run / "calibration"


def run_all(plan: Plan, report: Report) -> dict[str, Any]:
    """Crops, encoder, memory, calibration: from a manifest to a checkpoint. Each stage is skipped where its files are whole already."""
    plan.run.mkdir(parents=True, exist_ok=True)
    records = read_manifest(plan.manifest)
    run_crops(plan, records, report)
    if not _encoder_finished(plan):
        run_encoder(plan, report)
    if not (plan.run / "temporal.pt").is_file():
        run_temporal(plan, report)
    return run_calibration(plan, records, report)


def run_crops(plan: Plan, records: list[Record], report: Report) -> None:
    """Cut aligned faces of what may train and, apart from them, of what may only calibrate.

    Raises:
        MissingMedia: files of the manifest are not there and the plan does not skip them.
    """
    detector, trained = FaceDetector(), for_training(records, tiers=plan.tiers)
    if not trained:
        came = ", ".join(sorted({record.tier for record in records})) or "an empty manifest"
        raise ManifestError("There is nothing to train on.", expected=f"real media of the tiers {', '.join(plan.tiers)}", got=came)

    def cut(chosen: list[Record], store: Path, dense: Path | None) -> None:
        chosen = present(chosen, skip_missing=plan.skip_missing, on_missing=lambda record: report(f"missing, left out: {record.file}"))
        seen = _counted(report, f"files cut into {store.name}", len(chosen))
        numbers = {record.file: number for number, record in enumerate(chosen, start=1)}
        extract(chosen, store, dense=DensePoints(dense), detector=detector, on_file=lambda record, _: seen(numbers[record.file]))

    cut(trained, plan.store, plan.dense)
    cut([record for record in records if record.tier == "study"], plan.extra_store, None)


def run_encoder(plan: Plan, report: Report) -> None:
    """Train the eye; writes `encoder.pt`, the log `encoder.jsonl`, snapshots and a state to resume from."""
    log = write_log(plan.run / "encoder.jsonl")

    def told(progress: EncoderProgress) -> None:
        log(progress)
        report(
            f"{progress.pairs} of {plan.encoder.pairs} pairs, {progress.minutes:.1f} min, {progress.crop_px} px: loss "
            f"{progress.loss:.3f}, held-out AUC {progress.holdout_auc:.3f}, pair accuracy {progress.holdout_pair_accuracy:.3f}"
        )

    train, holdout = (load_portraits(plan.store, split=split) for split in ("train", "holdout"))
    start = None if plan.init is None else load_model(plan.init).encoder
    train_encoder(train, holdout, plan.run / "encoder.pt", plan.encoder, device=plan.device, start=start, on_progress=told)


def run_temporal(plan: Plan, report: Report) -> None:
    """Fit the embedding, draw sequences, train the memory; writes `encoder_embedded.pt`, the sequences and `temporal.pt`."""
    encoder = load_encoder(plan.run)
    train, holdout = (load_portraits(plan.store, split=split) for split in ("train", "holdout"))
    # A trial of two pairs is not to wait for a fit that is finer than all that follows.
    fit_embedding(encoder, train, crops=min(FITTED_CROPS, 100 * plan.clips))
    torch.save(encoder.state_dict(), plan.run / "encoder_embedded.pt")
    drawn = []
    for name, portraits, pairs, seed in (("train", train, plan.clips, 11), ("holdout", holdout, plan.holdout_clips, 12)):
        seen = _counted(report, f"pairs of clips, {name}", pairs)
        drawn.append(draw_pairs(encoder, portraits, pairs=pairs, seed=seed, workers=plan.workers, on_pair=seen))
        save_sequences(plan.run / f"sequences-{name}.npz", drawn[-1])

    def log(progress: TemporalProgress) -> None:
        report(f"temporal seed {progress.seed}, step {progress.step}: loss {progress.loss:.3f}, held-out AUC {progress.holdout_auc:.3f}")

    head = train_temporal(drawn[0], drawn[1], plan.temporal, on_progress=log)
    torch.save(head.state_dict(), plan.run / "temporal.pt")


def run_calibration(plan: Plan, records: list[Record], report: Report) -> dict[str, Any]:
    """Fit fusion and thresholds on people that the nets never saw and write the checkpoint; returns what was measured on the way.

    Reals are the hold-out and the tier `study`.
    """
    encoder, head = load_encoder(plan.run, embedded=True), load_temporal(plan.run)
    people = load_portraits(plan.store, split="holdout") + load_portraits(plan.extra_store)
    seen = _counted(report, "calibration pairs", plan.calibration_clips)
    sequences = draw_pairs(encoder, people, pairs=plan.calibration_clips, seed=21, workers=plan.workers, on_pair=seen)
    tracks = of_sequences(head, Calibrator(), sequences)
    calibrator = fit_fusion(tracks)
    report(f"fusion weights (artefact, temporal, constant): {[round(v, 3) for v in calibrator.weight.tolist()]}")
    set_farthest(calibrator, [(portrait.identity, _distances(encoder, portrait)) for portrait in people])
    model = _model(encoder, head, calibrator)
    reals = [record for record in records if record.kind == "video" and record.label == "real"]
    held = {record.file for record in for_training(reals, tiers=plan.tiers) if split_of(record) == "holdout"}
    reals = [record for record in reals if record.tier == "study" or record.file in held]
    walked: list[tuple[str, float, float]] = []
    for number, record in enumerate(reals, start=1):
        walked += [(record.identity, mean, peak) for mean, peak in of_video(record.path, model)]
        report(f"real video {number}/{len(reals)}: {record.file}")
    set_thresholds(calibrator, walked, target_fpr=plan.target_fpr)
    measured = _measured(sequences, tracks, model, walked)
    trained_on = for_training(records, tiers=plan.tiers)
    metadata = {
        "dims": {"encoder": encoder.dims.as_metadata(), "temporal": head.dims},
        "crop_version": CROP_VERSION,
        "data_digest": digest(trained_on),
        "commit": plan.commit,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": plan.version,
        "measured": measured,
    }
    metadata["sha256"] = save_checkpoint(plan.out, {"encoder": encoder, "temporal": head, "calibrator": calibrator}, metadata)
    (plan.run / "measured.json").write_text(json.dumps(measured, indent=1))
    return measured


def _encoder_finished(plan: Plan) -> bool:
    """Whether the run's encoder has seen all the pairs of the plan, by its log."""
    log = plan.run / "encoder.jsonl"
    if not (plan.run / "encoder.pt").is_file() or not log.is_file():
        return False
    return int(json.loads(log.read_text().splitlines()[-1])["pairs"]) >= plan.encoder.pairs


def _distances(encoder: FaceEncoder, portrait: Portrait) -> NDArray[np.float64]:
    margin = (portrait.crops.shape[1] - CROP_PX) // 2
    centre = slice(margin, margin + CROP_PX)
    rows = np.unique(np.linspace(0, len(portrait.t) - 1, 24).round().astype(int))
    return see(encoder, np.stack([portrait.crops[row][centre, centre] for row in rows])).distance.astype(np.float64)


def load_encoder(run: Path, *, embedded: bool = False) -> FaceEncoder:
    """The trained encoder of a run, frozen."""
    encoder = FaceEncoder()
    path = run / ("encoder_embedded.pt" if embedded else "encoder.pt")
    restore(encoder, read_state(path), path)
    return encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_temporal(run: Path) -> TemporalHead:
    """The trained memory of a run, frozen."""
    head = TemporalHead()
    restore(head, read_state(run / "temporal.pt"), run / "temporal.pt")
    return head.eval().requires_grad_(False)


def _model(encoder: FaceEncoder, head: TemporalHead, calibrator: Calibrator) -> Model:
    info = ModelInfo("undercurrent", "in training", "", CROP_VERSION, "")
    return Model(FaceDetector(), encoder, head, calibrator, info, torch.device("cpu"))


def _measured(sequences: list[Sequence], tracks: list[Any], model: Model, walked: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Numbers for the model card: AUC fused and of each half alone, by kind of pseudo-fake, and how many people set the thresholds."""
    label, identity = [track.label for track in tracks], [track.identity for track in tracks]
    fused = [model.calibrator.logit(float(track.artefact.mean()), float(track.temporal.mean())) for track in tracks]
    kinds = sorted({sequence.kind for sequence in sequences if sequence.label})
    by_kind = {}
    for kind in kinds:
        rows = [i for i, sequence in enumerate(sequences) if not sequence.label or sequence.kind == kind]
        by_kind[kind] = str(auc_interval([fused[i] for i in rows], [label[i] for i in rows], [identity[i] for i in rows], resamples=500))
    return {
        "pseudo_fake_tracks": len(tracks) // 2,
        "pseudo_fake_people": len(set(identity)),
        "auc_fused": str(summarise_tracks(tracks, model)),
        "auc_artefact_alone": str(auc_interval([track.artefact.mean() for track in tracks], label, identity)),
        "auc_temporal_alone": str(auc_interval([track.temporal.mean() for track in tracks], label, identity)),
        "auc_by_kind": by_kind,
        "threshold_people": len({name for name, _, _ in walked}),
        "threshold_tracks": len(walked),
        "thresholds_logit": [round(v, 4) for v in model.calibrator.thresholds.tolist()],
        "fusion_weights": [round(v, 4) for v in model.calibrator.weight.tolist()],
    }


def _counted(report: Report, what: str, total: int) -> Callable[[int], None]:
    def tell(number: int) -> None:
        if number % 25 == 0 or number == total:
            report(f"{what}: {number}/{total}")

    return tell
