"""Is it even? Judged videos in, the same numbers for parts of them by what they are (size, light, codec ...) out. Used by `evaluate.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pipelines.evaluation.metrics import Estimate, auc_interval, clustered_rate

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import VideoScore

RESAMPLES: Final = 500
FACE_PX: Final = (80.0, 120.0, 160.0, 240.0)
LUMA: Final = (60.0, 100.0, 140.0)
WIDTH: Final = (480.0, 720.0, 1280.0)
FPS: Final = (20.0, 27.0, 45.0)


@dataclass(frozen=True, slots=True)
class SliceResult:
    """The videos of one part."""

    slice: str
    level: str
    reals: int
    fakes: int
    auc: Estimate
    accused_reals: Estimate


def slices(scores: Sequence[VideoScore]) -> tuple[SliceResult, ...]:
    """Every part that holds a video, in order; a video whose property is unknown is in none of that property's."""
    # No bound of sharpness means the same for every size and codec, so these are thirds of the videos at hand.
    sharp = [score.sharpness for score in scores if score.sharpness is not None]
    thirds = tuple(round(float(edge), 1) for edge in np.quantile(sharp, [1 / 3, 2 / 3])) if sharp else (0.0,)
    named: dict[str, Callable[[VideoScore], str | None]] = {
        "face, px": lambda one: _bin(one.face_px, FACE_PX),
        "sharpness": lambda one: _bin(one.sharpness, tuple(sorted(set(thirds)))),
        "luma": lambda one: _bin(one.luma, LUMA),
        "width, px": lambda one: _bin(one.width or None, WIDTH),
        "frames a second": lambda one: _bin(one.fps, FPS),
        "codec": lambda one: one.codec or None,
        "tier": lambda one: one.tier or None,
        "source": lambda one: one.source or None,
    }
    found = []
    for name, level_of in named.items():
        levels = [level_of(score) for score in scores]
        found += [
            _result(name, level, [score for score, own in zip(scores, levels, strict=True) if own == level])
            for level in sorted({level for level in levels if level is not None}, key=_order)
        ]
    return tuple(found)


def _result(name: str, level: str, scores: Sequence[VideoScore]) -> SliceResult:
    labels = [score.label for score in scores]
    logits = [0.0 if score.logit is None else score.logit for score in scores]
    reals = [score for score in scores if not score.label]
    accused = clustered_rate([score.verdict == "manipulated" for score in reals], [score.group for score in reals])
    auc = auc_interval(logits, labels, [score.group for score in scores], resamples=RESAMPLES)
    return SliceResult(name, level, len(reals), labels.count(1), auc, accused)


def _bin(value: float | None, edges: tuple[float, ...]) -> str | None:
    if value is None:
        return None
    place = int(np.searchsorted(edges, value, side="right"))
    if place == 0:
        return f"below {edges[0]:g}"
    return f"{edges[place - 1]:g} to {edges[place]:g}" if place < len(edges) else f"{edges[-1]:g} and more"


def _order(level: str) -> tuple[float, str]:
    first = level.split()[0]
    if first == "below":
        return -np.inf, level
    return (float(first), level) if first.replace(".", "").isdigit() else (np.inf, level)
