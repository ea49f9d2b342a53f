"""The stages between a manifest and a checkpoint, each resumable: a run directory in, files in it out. Called by `service/cli_train.py`.

crops        manifest            -> store/tracks/*           aligned faces
encoder      store               -> run/encoder.pt, log      the eye
temporal     store, encoder.pt   -> run/temporal.pt          the memory, on embeddings of the frozen eye
calibration  store, both         -> a checkpoint             the judge, on people neither has seen
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.calibration import Calibrator
from models.checkpoint import save_checkpoint
from models.encoder import FaceEncoder
from models.face_detector import FaceDetector
from models.temporal import TemporalHead
from pipelines.errors import SourceNotFound
from pipelines.evaluation.evaluate import summarise_tracks
from pipelines.evaluation.metrics import auc_interval
from pipelines.faces import CROP_VERSION
from pipelines.model import Model
from pipelines.training.calibration_fit import fit_fusion, set_thresholds
from pipelines.training.evidence import of_sequences, of_video
from pipelines.training.manifest import Record, digest, for_training, split_of
from pipelines.training.portraits import load_portraits
from pipelines.training.sequences import Sequence, draw_pairs, fit_embedding
from pipelines.training.temporal_training import TemporalProgress, TemporalRecipe, train_temporal
from pipelines.verdict import ModelInfo

Report = Callable[[str], None]


def run_temporal(store: Path, run: Path, *, pairs: int, holdout_pairs: int, recipe: TemporalRecipe, report: Report) -> None:
    """Fit the embedding, draw sequences, train the memory; writes `encoder_embedded.pt` and `temporal.pt`."""
    encoder = load_encoder(run)
    train, holdout = load_portraits(store, split="train"), load_portraits(store, split="holdout")
    fit_embedding(encoder, train)
    torch.save(encoder.state_dict(), run / "encoder_embedded.pt")
    seen = _counted(report, "training pairs", pairs)
    sequences = draw_pairs(encoder, train, pairs=pairs, seed=11, on_pair=seen)
    held = draw_pairs(encoder, holdout, pairs=holdout_pairs, seed=12, on_pair=_counted(report, "held-out pairs", holdout_pairs))

    def log(progress: TemporalProgress) -> None:
        report(f"temporal step {progress.step}: loss {progress.loss:.3f}, held-out AUC {progress.holdout_auc:.3f}")

    head = train_temporal(sequences, held, recipe, on_progress=log)
    torch.save(head.state_dict(), run / "temporal.pt")


def run_calibration(
    store: Path,
    run: Path,
    out: Path,
    records: list[Record],
    *,
    extra_store: Path | None,
    pairs: int,
    target_fpr: float,
    version: str,
    commit: str,
    report: Report,
) -> dict[str, Any]:
    """Fit fusion and thresholds on people that the nets never saw and write the checkpoint; returns what was measured on the way.

    Reals are the hold-out and the tier `study`; `extra_store` holds the portraits of `study`, which calibrate but never train.
    """
    encoder, head = load_encoder(run, embedded=True), load_temporal(run)
    people = load_portraits(store, split="holdout") + (load_portraits(extra_store) if extra_store else [])
    sequences = draw_pairs(encoder, people, pairs=pairs, seed=21, on_pair=_counted(report, "calibration pairs", pairs))
    tracks = of_sequences(head, Calibrator(), sequences)
    calibrator = fit_fusion(tracks)
    report(f"fusion weights (artefact, temporal, constant): {[round(v, 3) for v in calibrator.weight.tolist()]}")
    model = _model(encoder, head, calibrator)
    reals = [record for record in records if record.kind == "video" and record.label == "real"]
    reals = [record for record in reals if record.tier == "study" or (record in for_training(reals) and split_of(record) == "holdout")]
    walked: list[tuple[str, float, float]] = []
    for number, record in enumerate(reals, start=1):
        walked += [(record.identity, mean, peak) for mean, peak in of_video(record.path, model)]
        report(f"real video {number}/{len(reals)}: {record.file}")
    set_thresholds(calibrator, walked, target_fpr=target_fpr)
    measured = _measured(sequences, tracks, model, walked)
    metadata = {
        "dims": {"encoder": encoder.dims.as_metadata(), "temporal": head.dims},
        "crop_version": CROP_VERSION,
        "data_digest": digest(for_training(records)),
        "commit": commit,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version,
        "measured": measured,
    }
    metadata["sha256"] = save_checkpoint(out, {"encoder": encoder, "temporal": head, "calibrator": calibrator}, metadata)
    (run / "measured.json").write_text(json.dumps(measured, indent=1))
    return measured


def load_encoder(run: Path, *, embedded: bool = False) -> FaceEncoder:
    """The trained encoder of a run, frozen."""
    encoder = FaceEncoder()
    encoder.load_state_dict(_tensors(run / ("encoder_embedded.pt" if embedded else "encoder.pt")))
    return encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_temporal(run: Path) -> TemporalHead:
    """The trained memory of a run, frozen."""
    head = TemporalHead()
    head.load_state_dict(_tensors(run / "temporal.pt"))
    return head.eval().requires_grad_(False)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SourceNotFound(f"{path.name} is missing.", expected="the file that the stage before writes", got=f"no {path}")
    tensors: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


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
