"""What wear does to the numbers: labelled videos and a model in, AUC, false positives and drift for every kind and level of wear out.

The levels are those of DeeperForensics-1.0 (Jiang et al. 2020; its public `add_distortion_to_video.py` has the values), and re-encodes that
ordinary video goes through. Applied to the full frame before the face is searched for, and to real and fake alike.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.errors import PipelineError, UnsupportedMedia
from pipelines.evaluation.evaluate import VideoScore, judge_video
from pipelines.evaluation.metrics import Estimate, auc_difference, auc_interval, clustered_rate
from pipelines.frames import read_frames
from pipelines.media import Image, Reader
from pipelines.model import Model
from pipelines.training.degradations import through_jpeg
from pipelines.training.manifest import Record
from pipelines.training.reencode import reencode_file

RESAMPLES: Final = 500
Picture = Callable[[Image, np.random.Generator], Image]


def _saturation(share: float) -> Picture:
    def apply(image: Image, _: np.random.Generator) -> Image:
        x = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        x[..., 1:] = 128 + (x[..., 1:] - 128) * share
        return np.asarray(cv2.cvtColor(_bytes(x), cv2.COLOR_YCrCb2RGB), dtype=np.uint8)

    return apply


def _contrast(share: float) -> Picture:
    return lambda image, _: _bytes(image.astype(np.float32) * np.float32(share))


def _blocks(count: int) -> Picture:
    """Grey squares of 8 px, `count` for every 256 px of the shorter side."""

    def apply(image: Image, rng: np.random.Generator) -> Image:
        out = image.copy()
        height, width = image.shape[:2]
        for _ in range(count * max(1, min(height, width) // 256)):
            y, x = int(rng.integers(max(1, height - 8))), int(rng.integers(max(1, width - 8)))
            out[y : y + 8, x : x + 8] = 128
        return out

    return apply


def _noise(variance: float) -> Picture:
    def apply(image: Image, rng: np.random.Generator) -> Image:
        x = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        x += np.float32(255 * math.sqrt(variance)) * rng.standard_normal(x.shape, dtype=np.float32)
        return np.asarray(cv2.cvtColor(_bytes(x), cv2.COLOR_YCrCb2RGB), dtype=np.uint8)

    return apply


def _blur(size: int) -> Picture:
    return lambda image, _: np.asarray(cv2.GaussianBlur(image, (size, size), size / 6), dtype=np.uint8)


def _pixels(factor: int) -> Picture:
    def apply(image: Image, _: np.random.Generator) -> Image:
        height, width = image.shape[:2]
        small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)

    return apply


def _long_side(px: int) -> Picture:
    """Shrunk until the longer side is `px`, and left so small: the face shrinks too, and below 80 px it is not judged."""

    def apply(image: Image, _: np.random.Generator) -> Image:
        share = px / max(image.shape[:2])
        if share >= 1:
            return image
        size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    return apply


def _jpeg(quality: int) -> Picture:
    # The true order of channels: JPEG halves the chroma, and red for blue is another chroma.
    return lambda image, _: np.ascontiguousarray(through_jpeg(np.ascontiguousarray(image[..., ::-1]), quality)[..., ::-1])


def _bytes(x: NDArray[np.float32]) -> Image:
    return np.round(np.clip(x, 0, 255)).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Wear by codecs: each step is a codec and its quality, over the whole file."""

    steps: tuple[tuple[str, int], ...]
    scale: float = 1.0


PERTURBATIONS: Final[dict[str, dict[str, Picture | Encoded]]] = {
    "saturation": {f"{share:g}": _saturation(share) for share in (0.4, 0.3, 0.2, 0.1, 0.0)},
    "contrast": {f"{share:g}": _contrast(share) for share in (0.85, 0.725, 0.6, 0.475, 0.35)},
    "blocks": {f"{count}": _blocks(count) for count in (16, 32, 48, 64, 80)},
    "noise": {f"{variance:g}": _noise(variance) for variance in (0.001, 0.002, 0.005, 0.01, 0.05)},
    "blur": {f"{size}": _blur(size) for size in (7, 9, 13, 17, 21)},
    "pixelation": {f"1/{factor}": _pixels(factor) for factor in (2, 3, 4, 5, 6)},
    "H.264, CRF": {f"{crf}": Encoded((("libx264", crf),)) for crf in (30, 32, 35, 38, 40)},
    "JPEG, quality": {f"{quality}": _jpeg(quality) for quality in (80, 60, 40, 20, 10)},
    "long side, px": {f"{px}": _long_side(px) for px in (448, 336, 224, 160, 112)},
    "half size, H.264, CRF": {f"{crf}": Encoded((("libx264", crf),), 0.5) for crf in (23, 28, 35)},
    "H.264 twice, CRF": {f"{crf}": Encoded((("libx264", crf), ("libx264", crf))) for crf in (23, 30, 35)},
    "VP9, CRF": {f"{crf}": Encoded((("libvpx-vp9", crf),)) for crf in (32, 42, 52)},
    "Motion JPEG, qscale": {f"{q}": Encoded((("mjpeg", q),)) for q in (4, 10, 20)},
}
"""Kind -> level as people write it -> what is done; mildest first."""


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """All videos under one wear."""

    condition: str
    level: str
    auc: Estimate
    lost: Estimate
    """AUC as it is, less this one, both on the same people in every draw."""
    fpr: Estimate
    """Reals called manipulated, at the shipped threshold."""
    unjudged: float
    drift: float
    """Mean |log-odds - log-odds of the same video as it is| over those judged both times."""


@dataclass(frozen=True, slots=True)
class RobustnessSweep:
    """The videos as they are, and under every wear that was asked for."""

    rows: tuple[RobustnessRow, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN becomes null."""
        return {"sweep": "robustness", "rows": [_plain(row) for row in self.rows]}


def sweep_robustness(
    records: list[Record],
    model: Model,
    *,
    hz: float | None = 12.0,
    kinds: Collection[str] | None = None,
    levels: Collection[int] = (1, 3, 5),
    limit: int | None = None,
    judge: Callable[..., VideoScore] = judge_video,
    on_progress: Callable[[str], None] | None = None,
) -> RobustnessSweep:
    """Judge all videos as they are and under the `levels` (1 the mildest) of each kind; Ctrl-C keeps the rows that are whole.

    `limit`: at most so many reals and so many fakes, evenly over makes, first come first taken; a wear costs as much as an evaluation.

    Raises:
        UnsupportedMedia: a kind is not known.
    """
    if unknown := sorted(set(kinds or ()) - set(PERTURBATIONS)):
        raise UnsupportedMedia("This wear is not known.", expected=", ".join(PERTURBATIONS), got=", ".join(unknown))
    records = records if limit is None else limited(records, limit)
    clean = [judge(record, model, hz=hz) for record in records]
    rows = [_row("as it is", "", clean, clean)]
    try:
        for kind, wears in PERTURBATIONS.items():
            for number, (level, wear) in enumerate(wears.items(), start=1):
                if (kinds is None or kind in kinds) and number in levels:
                    worn = [_judged(record, model, wear, seed, hz, judge) for seed, record in enumerate(records)]
                    rows.append(_row(kind, level, worn, clean))
                    if on_progress is not None:
                        on_progress(f"{kind} {level}: AUC {rows[-1].auc}, false positives {rows[-1].fpr}")
    except KeyboardInterrupt:
        if on_progress is not None:
            on_progress(f"Interrupted: {len(rows)} rows are whole.")
    return RobustnessSweep(tuple(rows))


def limited(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` records of each label, in their order: one of every make in turn until there are enough."""
    turns: Counter[tuple[str, str | None]] = Counter()
    places = []
    for place, record in enumerate(records):
        make = (record.label, record.method)
        places.append((turns[make], place))
        turns[make] += 1
    taken: set[int] = set()
    for label in {record.label for record in records}:
        taken |= {place for _, place in sorted(one for one in places if records[one[1]].label == label)[:limit]}
    return [record for place, record in enumerate(records) if place in taken]


def perturbed(apply: Picture, seed: int) -> Reader:
    """`read_frames`, every picture of which went through `apply`; times and flags stay as they are."""

    @contextmanager
    def read(source: Any, **options: Any) -> Iterator[_Perturbed]:  # noqa: ANN401  # what read_frames takes
        with read_frames(source, **options) as frames:
            yield _Perturbed(frames, apply, np.random.default_rng(seed))

    return cast("Reader", read)


class _Perturbed:
    """Frames with other pictures; everything else is asked of the source."""

    def __init__(self, frames: Any, apply: Picture, rng: np.random.Generator) -> None:  # noqa: ANN401
        self._frames, self._apply, self._rng = frames, apply, rng

    def __iter__(self) -> Iterator[Any]:
        for frame in self._frames:
            yield replace(frame, image=self._apply(frame.image, self._rng))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._frames, name)


def _judged(
    record: Record, model: Model, wear: Picture | Encoded, seed: int, hz: float | None, judge: Callable[..., VideoScore]
) -> VideoScore:
    if not isinstance(wear, Encoded):
        return judge(record, model, hz=hz, read=perturbed(wear, seed))
    with tempfile.TemporaryDirectory() as folder:
        path, scale = record.path, wear.scale
        for number, (codec, quality) in enumerate(wear.steps):
            out = Path(folder) / f"{number}.mkv"
            try:
                reencode_file(path, out, codec=codec, quality=quality, scale=scale)
            except PipelineError:
                break  # judging what there is names the problem
            path, scale = out, 1.0
        return judge(replace(record, path=path), model, hz=hz)


def _row(kind: str, level: str, worn: list[VideoScore], clean: list[VideoScore]) -> RobustnessRow:
    labels, groups = [score.label for score in worn], [score.group for score in worn]
    reals = [score for score in worn if not score.label]
    moved = [abs(a.logit - b.logit) for a, b in zip(worn, clean, strict=True) if a.logit is not None and b.logit is not None]
    before, after = ([score.logit or 0.0 for score in scores] for scores in (clean, worn))
    return RobustnessRow(
        condition=kind,
        level=level,
        auc=auc_interval(after, labels, groups, resamples=RESAMPLES),
        lost=auc_difference(before, after, labels, groups, resamples=RESAMPLES),
        fpr=clustered_rate([score.verdict == "manipulated" for score in reals], [score.group for score in reals]),
        unjudged=sum(score.logit is None for score in worn) / max(len(worn), 1),
        drift=float(np.mean(moved)) if moved else math.nan,
    )


def _plain(row: RobustnessRow) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def estimate(one: Estimate) -> dict[str, float | None]:
        return {"value": number(one.value), "low": number(one.low), "high": number(one.high)}

    return {
        "condition": row.condition,
        "level": row.level,
        "auc": estimate(row.auc),
        "lost": number(row.lost.value),
        "lost_interval": estimate(row.lost),
        "fpr": estimate(row.fpr),
        "unjudged": row.unjudged,
        "drift": number(row.drift),
    }
