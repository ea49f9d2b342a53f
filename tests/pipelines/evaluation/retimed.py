"""Sequences and re-timings for the tests of both."""

from __future__ import annotations

import numpy as np

from pipelines.evaluation.retiming import CONDITIONS, Condition
from pipelines.training.sequences import Sequence


def sequence(size: int = 90, *, fps: float = 30.0, seed: int = 0, label: int = 0, kind: str = "real") -> Sequence:
    """Noise at an even rate from 5 s on; seeds 2 n and 2 n + 1 are of one person."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 8)).astype(np.float32)
    t = 5.0 + np.arange(size) / fps
    return Sequence(f"p{seed // 2}", label, kind, t, x, rng.normal(size=size).astype(np.float32), np.full(size, label, np.float32))


def timing(name: str, level: str) -> Condition:
    """The re-timing of that name and level."""
    return next(one for one in CONDITIONS if (one.name, one.level) == (name, level))
