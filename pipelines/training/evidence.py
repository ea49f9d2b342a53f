"""What the frozen nets say of whole tracks: sequences or videos in, TrackEvidence out. Read by the calibration and by `evaluate`.

It goes through the fold of `TemporalHead.step` and `Calibrator.smooth`, as serving does: what is fitted is what will be judged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.calibration import Calibrator
from models.temporal import TemporalHead
from pipelines.analysis import Analysis, Model
from pipelines.evaluation.evaluate import summarise_tracks
from pipelines.evaluation.metrics import Estimate
from pipelines.frames import read_frames
from pipelines.judgement import MIN_MOMENTS, MIN_TRACK_S, running_mean
from pipelines.training.calibration_fit import TrackEvidence
from pipelines.training.portraits import load_portraits
from pipelines.training.sequences import Sequence, draw_pairs
from pipelines.training.temporal_training import at_rate, collate


@torch.inference_mode()
def of_sequences(head: TemporalHead, calibrator: Calibrator, sequences: list[Sequence], *, hz: float | None = 12.0) -> list[TrackEvidence]:
    """Evidence of each sequence, looked at `hz` times a second."""
    rows = [(sequence, at_rate(sequence.t, hz)) for sequence in sequences]
    batch = collate(rows)
    output, _ = head(batch.x, batch.dt, batch.mask)
    tracks = []
    for n, (sequence, kept) in enumerate(rows):
        t, running = sequence.t[kept], np.empty(len(kept))
        for i, artefact in enumerate(sequence.artefact[kept]):
            running[i] = calibrator.smooth(running[i - 1] if i else None, float(artefact), float(t[i] - t[i - 1]) if i else 0.0)
        temporal, surprise = (part[: len(kept), n].double().numpy() for part in (output.logit, output.surprise))
        tracks.append(TrackEvidence(sequence.identity, sequence.label, t, running, temporal, surprise))
    return tracks


def evaluate_pseudo_fakes(store: Path, model: Model, *, pairs: int, hz: float | None = 12.0, seed: int = 31) -> tuple[Estimate, int]:
    """AUC over whole tracks of the store's held-out people and pseudo-fakes of them, and how many people there are."""
    sequences = draw_pairs(model.encoder, load_portraits(store, split="holdout"), pairs=pairs, seed=seed)
    tracks = of_sequences(model.temporal, model.calibrator, sequences, hz=hz)
    return summarise_tracks(tracks, model), len({track.identity for track in tracks})


def of_video(path: Path, model: Model, *, hz: float | None = 12.0) -> list[tuple[float, float]]:
    """For each judged track of a video: its mean log-odds, and the highest mean of any second of it."""
    analysis = Analysis(model)
    with read_frames(path, hz=hz) as source:
        for frame in source:
            analysis.push(frame)
        base = source.media.time_base
    found = []
    for track in analysis.finish().tracks:
        if track.score is not None and track.judged >= MIN_MOMENTS and float((track.last_pts - track.first_pts) * base) >= MIN_TRACK_S:
            rows = [(score.pts, score.logit) for score in analysis.scores if score.track == track.id and score.logit is not None]
            pts, logit = np.array([pts for pts, _ in rows]), np.array([logit for _, logit in rows])
            found.append((float(logit.mean()), float(running_mean(pts, logit, base).max())))
    return found
