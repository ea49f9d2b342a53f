"""The store of aligned faces that training reads: manifest records in, one directory of memory-mapped crops per face track out.

Videos are read at their native rate with their real timestamps, through the very code that serves: `read_frames`, `FaceTracker`,
`align`. A crop is 192 px at context 1.2, so that the network's 160 px crop is its centre at the same scale, with room to jitter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face_detector import FaceDetector
from pipelines.errors import PipelineError
from pipelines.faces import CROP_PX, CROP_VERSION, Face, align, find_faces, similarity
from pipelines.frames import read_frames
from pipelines.media import Image
from pipelines.tracks import FaceTracker
from pipelines.training.manifest import Record, split_of

PORTRAIT_PX: Final = 192
CONTEXT: Final = PORTRAIT_PX / CROP_PX
MIN_FACE_PX: Final = 64.0
MIN_TRACK_FRAMES: Final = 8
# Dense points of a file are taken for a frame when they were measured at most this far away in time.
DENSE_WITHIN_S: Final = 0.06


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One face over time (or one still: T = 1), ready to train on."""

    file: str
    identity: str
    source: str
    split: str
    kind: str
    face_px: float
    t: NDArray[np.float64]
    """(T,) media seconds, computed from ticks."""
    crops: Image
    """(T, 192, 192, 3) uint8 RGB, memory-mapped."""
    dense: NDArray[np.float32]
    """(T, 478, 2) dense points in crop pixels; NaN where none were measured."""
    tier: str = "open"


class DensePoints:
    """Dense facial points measured beforehand, by file; footage without them trains on the five-point template instead."""

    def __init__(self, path: Path | None) -> None:
        self._rows: dict[str, list[int]] = {}
        if path is None or not path.is_file():
            return
        data = np.load(path, allow_pickle=False)
        self._t = data["pts"].astype(np.float64) * data["time_base"][:, 0] / data["time_base"][:, 1]
        self._xy = data["xy16"]
        files = [str(name) for name in data["files"]]
        for row, index in enumerate(data["file_index"]):
            self._rows.setdefault(files[int(index)], []).append(row)

    def near(self, file: str, t: float, face: Face) -> NDArray[np.float32] | None:
        """The (478, 2) points in frame pixels of the face whose centre lies in `face.box`, or None."""
        best: NDArray[np.float32] | None = None
        nearest = DENSE_WITHIN_S
        for row in self._rows.get(file, ()):
            away = abs(float(self._t[row]) - t)
            if away < nearest:
                points = self._xy[row].astype(np.float32) / 16
                centre = points.mean(0)
                if (face.box[:2] < centre).all() and (centre < face.box[2:]).all():
                    best, nearest = points, away
        return best


def extract(
    records: Iterable[Record],
    store: Path,
    *,
    dense: DensePoints,
    detector: FaceDetector,
    on_file: Callable[[Record, int], None] | None = None,
) -> int:
    """Write the portraits of `records` into `store`, skipping files already there; returns how many tracks were written."""
    written = 0
    for record in records:
        done = store / "files" / (record.sha256 or record.file.replace("/", "_"))
        if not done.exists():
            count = (
                _extract_image(record, store, dense, detector) if record.kind == "image" else _extract_video(record, store, dense, detector)
            )
            done.parent.mkdir(parents=True, exist_ok=True)
            done.write_text(str(count))
            written += count
            if on_file is not None:
                on_file(record, count)
    return written


def load_portraits(store: Path, *, split: str | None = None, kind: str | None = None) -> list[Portrait]:
    """Open every portrait of `store` (crops stay on disk until touched)."""
    portraits = []
    for meta_path in sorted(store.glob("tracks/*/meta.json")):
        meta = json.loads(meta_path.read_text())
        if meta["crop_version"] != CROP_VERSION:
            raise PipelineError(
                f"The store {store} was cut by another crop function.",
                expected=f"crop version {CROP_VERSION}",
                got=str(meta["crop_version"]),
            )
        if (split is None or meta["split"] == split) and (kind is None or meta["kind"] == kind):
            folder = meta_path.parent
            portraits.append(
                Portrait(
                    file=meta["file"],
                    identity=meta["identity"],
                    source=meta["source"],
                    split=meta["split"],
                    kind=meta["kind"],
                    face_px=meta["face_px"],
                    t=np.load(folder / "t.npy"),
                    crops=np.load(folder / "crops.npy", mmap_mode="r"),
                    dense=np.load(folder / "dense.npy"),
                    tier=meta["tier"],
                )
            )
    return portraits


def _extract_image(record: Record, store: Path, dense: DensePoints, detector: FaceDetector) -> int:
    bgr = cv2.imread(str(record.path), cv2.IMREAD_COLOR)
    if bgr is None:
        return 0
    image = np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
    faces = [face for face in find_faces(detector, image) if face.confidence > 0.95 and face.px >= MIN_FACE_PX]
    for number, face in enumerate(faces):
        _write(record, store, number, [_cut(record, dense, image, face, 0.0)])
    return len(faces)


def _extract_video(record: Record, store: Path, dense: DensePoints, detector: FaceDetector) -> int:
    tracker = FaceTracker(detector)
    rows: dict[int, list[_Row]] = {}
    first: Fraction | None = None
    with read_frames(record.path, hz=None) as source:
        for frame in source:
            first = frame.pts * frame.time_base if first is None else first
            for seen in tracker.update(frame).seen:
                if seen.face.px >= MIN_FACE_PX:
                    rows.setdefault(seen.track, []).append(_cut(record, dense, frame.image, seen.face, frame.t))
    kept = [track for track in rows.values() if len(track) >= MIN_TRACK_FRAMES]
    for number, track in enumerate(kept):
        _write(record, store, number, track)
    return len(kept)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    t: float
    px: float
    crop: Image
    dense: NDArray[np.float32]


def _cut(record: Record, dense: DensePoints, image: Image, face: Face, t: float) -> _Row:
    points = dense.near(record.file, t, face)
    if points is None:
        inside = np.full((478, 2), np.nan, dtype=np.float32)
    else:
        matrix = similarity(face.points, size=PORTRAIT_PX, context=CONTEXT)
        inside = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return _Row(t, face.px, align(image, face.points, size=PORTRAIT_PX, context=CONTEXT), inside)


def _write(record: Record, store: Path, number: int, rows: list[_Row]) -> None:
    folder = store / "tracks" / f"{(record.sha256 or record.file.replace('/', '_'))[:24]}-{number:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crops.npy", np.stack([row.crop for row in rows]))
    np.save(folder / "dense.npy", np.stack([row.dense for row in rows]))
    np.save(folder / "t.npy", np.array([row.t for row in rows]))
    # A file with several people has one identity per track; they stay together in the split because that goes by the file's identity.
    meta = {
        "file": record.file,
        "identity": record.identity if record.people <= 1 else f"{record.identity}#{number}",
        "source": record.source,
        "split": split_of(record),
        "kind": record.kind,
        "tier": record.tier,
        "face_px": float(np.median([row.px for row in rows])),
        "crop_version": CROP_VERSION,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
