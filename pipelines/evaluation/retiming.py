"""The same clips looked at in other ways: sequences of embeddings in, the sequences that another camera or network would have given out.

Used by `time_sweep.py`. Whatever is kept keeps its true time; only "wrong timestamps" lies, on purpose, and "speed" plays the clip faster.
Clips with the same times (a real one and its pseudo-fake) get the same draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.training.sequences import Sequence
from pipelines.training.temporal_training import at_rate

Rows = NDArray[np.intp]
FEWEST: Final = 4
"""Moments that a clip keeps whatever happens, so that it can still be scored: the first ones."""
BURST_SHARE: Final = 0.3
JITTER_HZ: Final = 12.0
WRONG_DT_S: Final = 1 / 25
WRONG_AT_HZ: Final = 10.0


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of looking."""

    name: str
    level: str
    change: Callable[[Sequence, np.random.Generator], Sequence]

    def apply(self, sequence: Sequence, seed: int = 0) -> Sequence:
        """The sequence as it would have been; the draw depends on the seed and the clip's times alone."""
        rng = np.random.default_rng((seed, zlib.crc32(sequence.t.tobytes()), zlib.crc32(f"{self.name}{self.level}".encode())))
        return self.change(sequence, rng)


def rows_of(sequence: Sequence, rows: Rows) -> Sequence:
    """The moments `rows` of a sequence, in that order; too few of them are filled up with the clip's first."""
    if len(rows) < FEWEST:
        rows = np.union1d(rows, np.arange(min(FEWEST, len(sequence.t))))
    return replace(
        sequence,
        t=sequence.t[rows],
        embedding=sequence.embedding[rows],
        artefact=sequence.artefact[rows],
        frame_label=sequence.frame_label[rows],
    )


def _rate(hz: float) -> Callable[[Sequence, np.random.Generator], Sequence]:
    return lambda sequence, _: rows_of(sequence, at_rate(sequence.t, hz))


def _drop(share: float) -> Callable[[Sequence, np.random.Generator], Sequence]:
    return lambda sequence, rng: rows_of(sequence, np.flatnonzero(rng.random(len(sequence.t)) >= share))


def _burst(mean_frames: int) -> Callable[[Sequence, np.random.Generator], Sequence]:
    """Runs of lost frames of that mean length, BURST_SHARE of all frames (the two-state channel of Gilbert 1960)."""

    def lose(sequence: Sequence, rng: np.random.Generator) -> Sequence:
        recover = 1 / mean_frames
        fail = recover * BURST_SHARE / (1 - BURST_SHARE)
        lost = np.zeros(len(sequence.t), dtype=bool)
        state = bool(rng.random() < BURST_SHARE)
        for i in range(len(lost)):
            lost[i] = state
            state = not (rng.random() < recover) if state else bool(rng.random() < fail)
        return rows_of(sequence, np.flatnonzero(~lost))

    return lose


def _jitter(cv: float) -> Callable[[Sequence, np.random.Generator], Sequence]:
    """Looked at JITTER_HZ times a second on average, at log-normal intervals of that coefficient of variation."""

    def look(sequence: Sequence, rng: np.random.Generator) -> Sequence:
        sigma = np.sqrt(np.log1p(cv**2))
        count = int(4 * JITTER_HZ * float(sequence.t[-1] - sequence.t[0])) + 8
        moments = sequence.t[0] + np.cumsum(rng.lognormal(-(sigma**2) / 2, sigma, count)) / JITTER_HZ
        rows = np.searchsorted(sequence.t, moments[moments <= sequence.t[-1]])
        return rows_of(sequence, np.unique(np.concatenate([[0], rows])))

    return look


def _freeze(share: float) -> Callable[[Sequence, np.random.Generator], Sequence]:
    """That share of the pictures is the one before, shown again at its own time, as a stalling encoder sends them."""

    def stall(sequence: Sequence, rng: np.random.Generator) -> Sequence:
        again = rng.random(len(sequence.t)) < share
        again[0] = False
        rows = np.maximum.accumulate(np.where(again, 0, np.arange(len(again))))
        return replace(
            sequence, embedding=sequence.embedding[rows], artefact=sequence.artefact[rows], frame_label=sequence.frame_label[rows]
        )

    return stall


def _wrong(sequence: Sequence, _: np.random.Generator) -> Sequence:
    """Ten looks a second that claim to be 25: a reader who multiplies the index by 1 / fps."""
    kept = rows_of(sequence, at_rate(sequence.t, WRONG_AT_HZ))
    return replace(kept, t=kept.t[0] + np.arange(len(kept.t)) * WRONG_DT_S)


def _speed(factor: float) -> Callable[[Sequence, np.random.Generator], Sequence]:
    return lambda sequence, _: replace(sequence, t=sequence.t[0] + (sequence.t - sequence.t[0]) / factor)


AS_IT_IS: Final = Condition("as it is", "", lambda sequence, _: sequence)
CONDITIONS: Final = (
    *(Condition("fps", f"{hz}", _rate(hz)) for hz in (30, 25, 15, 10, 5, 2)),
    *(Condition("dropped", f"{share}%", _drop(share / 100)) for share in (10, 25, 50, 75)),
    *(Condition("bursts lost, mean frames", f"{mean}", _burst(mean)) for mean in (5, 15)),
    *(Condition("jitter, cv", f"{cv}", _jitter(cv)) for cv in (0.2, 0.5, 1.0)),
    *(Condition("shown again", f"{share}%", _freeze(share / 100)) for share in (10, 25)),
    Condition("wrong timestamps", "10 fps as 25", _wrong),
    *(Condition("speed", f"x{factor}", _speed(factor)) for factor in (0.5, 2.0)),
)
