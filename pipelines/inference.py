"""Inference: looks at faces in, what the nets make of them out. Owns a Model and the slab of its memories; passive, for one thread.

An Analysis of its own asks it directly; the Engine asks it for all of its streams together. A row's result is the same either way, on a GPU
as far as `models/buckets.py` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.slots import TemporalSlots
from models.temporal import TemporalState
from pipelines.errors import ModelFailed
from pipelines.media import Image
from pipelines.model import Model
from pipelines.profile import StageClock
from pipelines.tracks import MAX_TRACKS


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One crop of one face, to be seen and remembered."""

    crop: Image
    """(160, 160, 3)."""
    slot: int
    """Whose memory it belongs to; each at most once in a batch."""
    dt: float
    """Seconds since this slot's last look that was judged; infinite at its first."""


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What the memory made of one look."""

    logit: float
    surprise: float
    tau_s: NDArray[np.float32]
    """(D,) effective time constants in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Impression:
    """What the nets made of one look; `remembered` is None where the face is like none that they know: nothing was remembered then."""

    artefact: float
    """The encoder's logit."""
    embedding: NDArray[np.float32]
    """(1, E)."""
    boundary: NDArray[np.uint8]
    """(S/8, S/8), 255 for a certain seam."""
    remembered: Remembered | None


class Seat(Protocol):
    """What an Analysis asks of whoever has the nets: an Inference of its own, or a place in an Engine."""

    def acquire(self) -> int:
        """A memory that has seen nothing."""
        ...

    def release(self, slot: int) -> None:
        """Let a memory go."""
        ...

    def judge(self, looks: Sequence[Look]) -> list[Impression]:
        """See and remember; raises ModelFailed, and remembers none of them, where the nets fail."""
        ...


class Inference:
    """A Model with room for `capacity` faces.

    Args:
        model: its nets are used as they are; several may share one.
        capacity: faces that are remembered at once.
        clock: counts CPU time of `encoder` and `memory`.
    """

    def __init__(self, model: Model, *, capacity: int = MAX_TRACKS, clock: StageClock | None = None) -> None:
        self.model = model
        self.clock = clock or StageClock()
        self._slots = TemporalSlots(model.temporal, capacity, step=model.step)

    def __len__(self) -> int:
        """Faces that are remembered."""
        return len(self._slots)

    def acquire(self) -> int:
        """A memory that has seen nothing.

        Raises:
            SlotsFull: there is room for no more.
        """
        return self._slots.acquire()

    def release(self, slot: int) -> None:
        """Let a memory go; nothing of it is left."""
        self._slots.release(slot)

    def recall(self, slot: int) -> dict[str, NDArray[np.generic]]:
        """What one memory holds, by name, so that another may hold it."""
        return {name: part.numpy() for name, part in self._slots.read(slot)._asdict().items()}

    def restore(self, slot: int, held: Mapping[str, NDArray[np.generic]]) -> None:
        """Have one memory hold what `recall` gave, here or in another process.

        Raises:
            ValueError: it is the memory of another model.
        """
        if held.keys() != set(TemporalState._fields):
            raise ValueError(f"restore: expected {', '.join(TemporalState._fields)}, got {', '.join(held) or 'nothing'}")
        self._slots.write(slot, TemporalState(**{name: torch.from_numpy(np.array(part)) for name, part in held.items()}))

    def judge(self, looks: Sequence[Look]) -> list[Impression]:
        """See and remember N looks, N >= 0, as one batch.

        Raises:
            ModelFailed: for at least one of them; none is remembered then. `judge_each` says for which.
        """
        if not looks:
            return []
        with _failures():
            with self.clock.stage("encoder"):
                seen = self.model.eye(np.stack([look.crop for look in looks]))
            # Before anything is remembered: after a failure everybody else of the batch is tried again.
            if not bool(torch.isfinite(seen.logit).all() and torch.isfinite(seen.embedding).all()):
                raise FloatingPointError("not a number")
            familiar = [i for i, distance in enumerate(seen.distance.tolist()) if self.model.calibrator.familiar(distance)]
            with self.clock.stage("memory"):
                remembered = self._remembered(seen.embedding, looks, familiar)
        artefacts, embeddings = seen.logit.tolist(), seen.embedding.cpu().numpy()
        heat = torch.sigmoid(seen.blend_map[:, 1]).mul(255).round().to(torch.uint8).cpu().numpy()
        return [Impression(artefacts[i], embeddings[i : i + 1], heat[i], remembered.get(i)) for i in range(len(looks))]

    def judge_each(self, looks: Sequence[Look]) -> list[Impression | ModelFailed]:
        """The same, but where a batch fails, each is tried by itself: only the guilty fail."""
        try:
            return list(self.judge(looks))
        except ModelFailed as error:
            if len(looks) == 1:
                return [error]
        return [outcome for look in looks for outcome in self.judge_each([look])]

    def warm_up(self, rows: Sequence[int] = (1,)) -> None:
        """Judge grey pictures, so many at a time, and forget them: what is compiled, captured or allocated at first use is so before
        anyone waits for it.

        Raises:
            ModelFailed: the nets cannot judge.
        """
        px = self.model.encoder.dims.crop_px
        grey = np.full((px, px, 3), 128, dtype=np.uint8)
        for n in rows:
            slots = [self.acquire() for _ in range(min(n, self._slots.capacity))]
            try:
                self.judge([Look(grey, slot, float("inf")) for slot in slots])
                with _failures():  # the memories once more: they are not asked where grey is like no face
                    embeddings = torch.zeros((len(slots), self.model.temporal.inputs), device=self.model.device)
                    self._slots.step(embeddings, slots, torch.full((len(slots), 1), float("inf")))
            finally:
                for slot in slots:
                    self.release(slot)
        self.model.detector.find(grey)
        self.model.detector.refine(grey, np.array([[0, 0, px, px]], dtype=np.float32))

    def _remembered(self, embeddings: Tensor, looks: Sequence[Look], chosen: list[int]) -> dict[int, Remembered]:
        """One batched step of the memories over the `chosen` looks, each with its own dt."""
        if not chosen:
            return {}
        dt = torch.tensor([[looks[i].dt] for i in chosen], dtype=torch.float32)
        output = self._slots.step(embeddings[chosen], [looks[i].slot for i in chosen], dt)
        logits, surprises, tau = output.logit.tolist(), output.surprise.tolist(), output.tau.cpu().numpy()
        return {i: Remembered(logits[row], surprises[row], tau[row]) for row, i in enumerate(chosen)}


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever a net raises is a failure of its batch, and of nobody else."""
    try:
        yield
    except Exception as error:
        raise ModelFailed("The nets failed on a picture.", expected="a score", got=f"{type(error).__name__}: {str(error)[:200]}") from error
