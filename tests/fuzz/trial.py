"""A trial: one input is read to its end by whatever opens it; an Outcome says how that went, and whether what came out was lawful."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import numpy as np

from pipelines.errors import DecoderCrashed, PipelineError
from pipelines.media import Frame, Frames, Limits

Open = Callable[[], Frames]
UNTYPED: Final = "UNTYPED"
HUNG: Final = "HUNG"
# What one input may cost here. Good inputs need 0.05 s.
LIMITS: Final = Limits(
    max_streams=32, max_duration_s=3600.0, max_frames=500, open_timeout_s=2.0, read_timeout_s=2.0, max_wall_s=4.0, max_cpu_s=4
)
GRACE_S: Final = 3.0  # to start a child and to notice that it is late, on a busy machine


class Hung(BaseException):
    """The reader did not come back; no `except Exception` on the way may swallow it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one input ended: `ended` is ok, the class of a typed refusal, UNTYPED or HUNG."""

    ended: str
    slug: str
    frames: int
    warnings: tuple[str, ...]
    wall_s: float
    detail: str = ""
    death: str | None = None
    """What the decode child died of."""
    unlawful: str | None = None
    """What a Frame or a message broke of the contract."""

    @property
    def signature(self) -> tuple[str, int, tuple[str, ...]]:
        """Inputs with equal signatures are alike, as far as can be told from outside."""
        return self.slug, self.frames.bit_length(), self.warnings

    @property
    def slow(self) -> bool:
        """Whether it took long for what it is."""
        return self.wall_s > 1.5

    @property
    def bad(self) -> bool:
        """Whether somebody should look at this input."""
        return self.ended in (UNTYPED, HUNG) or self.death is not None or self.unlawful is not None


def attempt(open_: Open, limits: Limits = LIMITS, *, private: Path | None = None) -> Outcome:
    """Open, read every frame, check it; no message may name the folder `private`."""
    frames, ended, slug, detail = 0, "ok", "ok", ""
    warnings: tuple[str, ...] = ()
    death = unlawful = None
    last: Frame | None = None
    start = time.monotonic()
    try:
        with _deadline(limits.max_wall_s + limits.open_timeout_s + GRACE_S), open_() as source:
            for frame in source:
                unlawful = unlawful or _unlawful(frame, last, limits)
                last = frame
                frames += 1
            warnings = tuple(sorted({warning.code for warning in source.warnings}))
            detail = " ".join(warning.detail for warning in source.warnings)
            if source.counts.yielded != frames:
                unlawful = unlawful or f"{frames} frames, counts.yielded {source.counts.yielded}"
    except PipelineError as error:
        ended, slug, detail = type(error).__name__, error.slug, str(error)
        if isinstance(error, DecoderCrashed):
            death = error.got
    except Hung:
        ended = slug = HUNG
    except Exception as error:  # the very thing looked for
        ended, slug, detail = UNTYPED, type(error).__name__, f"{type(error).__name__}: {error}"
    if private is not None and str(private) in detail:
        unlawful = unlawful or "a message names a folder"
    return Outcome(ended, slug, frames, warnings, time.monotonic() - start, detail, death, unlawful)


def _unlawful(frame: Frame, last: Frame | None, limits: Limits) -> str | None:
    """What the frame breaks of the contract in `pipelines/media.py`."""
    image = frame.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        return f"an image of {image.dtype} {image.shape}"
    if image.shape[0] * image.shape[1] > limits.max_pixels:
        return f"an image of {image.shape[1]} x {image.shape[0]}"
    if last is not None and (frame.pts <= last.pts or frame.time_base != last.time_base):
        return f"{frame.pts} ({frame.time_base}) after {last.pts} ({last.time_base})"
    return None


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise Hung in the main thread after `seconds`, and again every second in case a callback swallows it."""

    def late(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise Hung

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def resident_mb() -> float:
    """Memory of this process that lies in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6
