"""How detection grew over a training: snapshots of an encoder and labelled videos in, AUC for each snapshot out. Called by `train curve`.

For looking at, never for choosing: the snapshots' AUC on genuine deepfakes says whether more training would help, and picking the best of
them would make that number a training number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.encoder import FaceEncoder
from models.face_detector import FaceDetector
from pipelines.cropper import Cropper
from pipelines.errors import SourceNotFound
from pipelines.evaluation.makes import Makes
from pipelines.evaluation.metrics import Estimate, auc_interval, roc_auc
from pipelines.faces import CROP_PX
from pipelines.frames import read_frames
from pipelines.media import Image
from pipelines.quality import sharpness
from pipelines.training.manifest import Record
from pipelines.training.run_files import read_state, restore
from pipelines.training.sequences import see

LOOK_HZ: Final = 4.0
MOST_CROPS: Final = 24
RESAMPLES: Final = 500


@dataclass(frozen=True, slots=True, eq=False)
class CutVideo:
    """One labelled video as the encoder sees it."""

    label: int
    method: str
    group: str
    tracks: tuple[Image, ...]
    """Usable crops (n, 160, 160, 3) of each face."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One snapshot."""

    pairs: int
    crop_px: int
    """What it was trained on at that point, and is judged on."""
    holdout_auc: float
    """Single pictures: pseudo-fakes of held-out people."""
    holdout_pair_accuracy: float
    auc: Estimate
    """All fakes against all reals."""
    macro_auc: Estimate
    """Mean over the makes, each against all reals."""
    by_method: dict[str, float]
    control: float
    """The same macro AUC of minus the face's sharpness, which learns nothing: the same for every snapshot."""


def cut_videos(records: list[Record], *, on_video: Callable[[int], None] | None = None) -> list[CutVideo]:
    """Cut the faces out of each video, about four times a second, with the Cropper that serving walks with.

    Serving's last gate, `out_of_distribution`, is left out: what is familiar is each encoder's own to say, and all encoders must be judged
    on the same crops.

    Raises:
        SourceError, DecodeError: a video cannot be read.
    """
    detector = FaceDetector()
    videos = []
    for number, record in enumerate(records, start=1):
        cropper, tracks = Cropper(detector), dict[int, list[Image]]()
        with read_frames(record.path, hz=LOOK_HZ) as source:
            for frame in source:
                if (cropped := cropper.crop(frame)) is None:
                    continue
                for seen, crop, reason in zip(cropped.seen, cropped.crops, cropped.reasons, strict=True):
                    if reason is None:
                        tracks.setdefault(seen.track, []).append(crop)
        kept = tuple(np.stack(crops[:: max(1, len(crops) // MOST_CROPS)]) for crops in tracks.values() if len(crops) >= LOOK_HZ)
        videos.append(CutVideo(int(record.label == "fake"), record.method or record.label, record.identity, kept))
        if on_video is not None:
            on_video(number)
    return videos


def score_videos(encoder: FaceEncoder, videos: list[CutVideo], *, crop_px: int = CROP_PX) -> NDArray[np.float64]:
    """A video's score is the highest mean frame logit of its faces, 0 where none was usable; crops are shrunk to `crop_px` first."""

    def score(track: Image) -> float:
        if crop_px != CROP_PX:
            track = np.stack([cv2.resize(crop, (crop_px, crop_px), interpolation=cv2.INTER_AREA) for crop in track]).astype(np.uint8)
        return float(see(encoder, track).artefact.mean())

    return np.array([max((score(track) for track in video.tracks), default=0.0) for video in videos])


def blur_control(videos: list[CutVideo]) -> NDArray[np.float64]:
    """What stands beside every score: minus the mean sharpness of the face, 0 where none was usable."""
    return np.array(
        [max((-float(np.mean([sharpness(crop) for crop in track])) for track in video.tracks), default=0.0) for video in videos]
    )


def learning_curve(run: Path, videos: list[CutVideo], *, on_snapshot: Callable[[CurvePoint], None] | None = None) -> list[CurvePoint]:
    """Score every snapshot that the log of the run directory `run` tells of, by `score_videos`.

    Raises:
        SourceNotFound: there is no log, or a snapshot of it is missing.
        UnsupportedMedia: a snapshot is of another version of the encoder.
    """
    log = run / "encoder.jsonl"
    if not log.is_file():
        raise SourceNotFound(f"There is no training in {run}.", expected="the log that `undercurrent train run` writes", got=f"no {log}")
    control = macro_auc(blur_control(videos), videos)[0].value
    labels, groups = [video.label for video in videos], [video.group for video in videos]
    points = []
    for line in (json.loads(text) for text in log.read_text().splitlines()):
        encoder = FaceEncoder()
        path = run / "snapshots" / f"encoder-{line['pairs']:08d}.pt"
        restore(encoder, read_state(path), path)
        encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        score = score_videos(encoder, videos, crop_px=line["crop_px"])
        macro, by_method = macro_auc(score, videos)
        auc = auc_interval(score, labels, groups, resamples=RESAMPLES)
        told = (line["pairs"], line["crop_px"], line["holdout_auc"], line["holdout_pair_accuracy"])
        points.append(CurvePoint(*told, auc, macro, by_method, control))
        if on_snapshot is not None:
            on_snapshot(points[-1])
    return points


def macro_auc(score: NDArray[np.float64], videos: list[CutVideo]) -> tuple[Estimate, dict[str, float]]:
    """Mean over the makes, each against all reals, and that of each make."""
    makes = Makes(*(np.array(column) for column in zip(*((one.label, one.method, one.group) for one in videos), strict=True)))
    parts = {make: makes.rows(make) for make in makes.names}
    return makes.macro(score, resamples=RESAMPLES), {make: roc_auc(score[rows], makes.label[rows]) for make, rows in parts.items()}
