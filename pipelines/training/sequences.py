"""Clips as the memory sees them: portraits in, pairs of embedding sequences with true times out. Read by temporal training and calibration.

Each pair is one real window and one pseudo-fake of it, worn by the same draw and seen by the frozen encoder. Every pair has a generator
of its own, so that what is drawn does not depend on how many processes draw. Re-timing drops whole observations and keeps every
timestamp; a change of speed scales all of them, for both of a pair alike.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import CUES, FaceEncoder
from pipelines.errors import PipelineError
from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Strip, Wear, warp_crop
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, draw_kind, make_fake, nearest, usable_points

Float = NDArray[np.float32]
WINDOW_FRAMES: Final = 72
STRIDES: Final = (1, 1, 2, 3)
MIN_FRAMES: Final = 16
DONORS: Final = 4
PARTIAL_SHARE: Final = 0.35
FITTED_CROPS: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One window of one face track, real or fake."""

    identity: str
    label: int
    kind: str
    t: NDArray[np.float64]
    """(T,) media seconds."""
    embedding: Float
    """(T, E)."""
    artefact: Float
    """(T,) the encoder's logits."""
    frame_label: Float
    """(T,) 1 where the frame was tampered with."""


class Seen(NamedTuple):
    """What the encoder says of T crops."""

    embedding: Float
    """(T, E)."""
    artefact: Float
    """(T,) logits."""
    distance: Float
    """(T,) see `EncoderOutput.distance`."""


@torch.inference_mode()
def see(encoder: FaceEncoder, crops: Image, *, batch: int = 16) -> Seen:
    """Look at uint8 crops (T, 160, 160, 3), in batches: fitting needs no bits that are alone in their row, as serving does (`eye.py`)."""
    device = next(encoder.parameters()).device
    outputs = []
    for start in range(0, len(crops), batch):
        pixels = torch.from_numpy(np.ascontiguousarray(crops[start : start + batch])).permute(0, 3, 1, 2)
        outputs.append(encoder(pixels.to(device, memory_format=torch.channels_last)))
    parts = (torch.cat([getattr(output, name) for output in outputs]) for name in ("embedding", "logit", "distance"))
    return Seen(*(part.cpu().numpy() for part in parts))


def draw_pairs(
    encoder: FaceEncoder,
    portraits: list[Portrait],
    *,
    pairs: int,
    seed: int,
    workers: int = 0,
    on_pair: Callable[[int], None] | None = None,
) -> list[Sequence]:
    """Draw `pairs` windows evenly over people and make a pseudo-fake of each: 2 * pairs sequences, the real one first.

    `workers` processes share the work (0: this one alone, as a GPU wants it); they change nothing but the time it takes.

    Raises:
        PipelineError: no portrait is long enough.
    """
    videos = [portrait for portrait in portraits if len(portrait.t) >= MIN_FRAMES]
    if not videos:
        raise PipelineError(
            "There is no clip to make sequences of.",
            expected=f"a face track of at least {MIN_FRAMES} frames",
            got=f"{len(portraits)} tracks, the longest of {max((len(p.t) for p in portraits), default=0)} frames",
        )
    people = sorted({portrait.identity for portrait in videos})
    draw = _Draw(encoder, [[portrait for portrait in videos if portrait.identity == person] for person in people], videos, seed)
    sequences: list[Sequence] = []
    with _mapped(draw, workers) as made:
        for number, pair in enumerate(made(range(pairs)), start=1):
            sequences += pair
            if on_pair is not None:
                on_pair(number)
    return sequences


@dataclass(frozen=True, slots=True, eq=False)
class _Draw:
    """What every pair is drawn from."""

    encoder: FaceEncoder
    of_people: list[list[Portrait]]
    videos: list[Portrait]
    seed: int

    def pair(self, number: int) -> list[Sequence]:
        rng = np.random.default_rng((self.seed, number))
        choices = self.of_people[number % len(self.of_people)]
        clip, identity = _window(choices[int(rng.integers(len(choices)))], rng)
        donors = [_window(self.videos[int(i)], rng)[0] for i in rng.integers(len(self.videos), size=DONORS)]
        donor = nearest(donors, clip)
        kind = draw_kind(rng)
        made = make_fake(
            clip, rng, kind=kind, other=donor, strength=float(rng.uniform(0.5, 1.0)), partial=bool(rng.random() < PARTIAL_SHARE)
        )
        wear = Wear.draw(rng)
        sequences = []
        for label, crops in ((0, made.real), (1, made.fake)):
            seen = see(self.encoder, wear.clip(crops, clip.t, CROP_PX))
            frames = made.frame_labels if label else np.zeros(len(clip.t), dtype=np.float32)
            sequences.append(Sequence(identity, label, kind if label else "real", clip.t, seen.embedding, seen.artefact, frames))
        return sequences


@contextmanager
def _mapped(draw: _Draw, workers: int) -> Iterator[Callable[[Iterable[int]], Iterable[list[Sequence]]]]:
    if workers < 2:
        yield partial(map, draw.pair)
        return
    # Forked, so that portraits (memory-mapped) and weights are shared and not sent.
    global _shared
    _shared = draw
    with multiprocessing.get_context("fork").Pool(workers, initializer=_quiet) as pool:
        yield partial(pool.imap, _shared_pair)


_shared: _Draw | None = None


def _quiet() -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _shared_pair(number: int) -> list[Sequence]:
    assert _shared is not None
    return _shared.pair(number)


def retime(t: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Which observations to keep, in order: a rate log-uniform in 4 to 60 Hz, drops, bursts with silence between, now and then a gap."""
    hz = float(np.exp(rng.uniform(np.log(4), np.log(60))))
    slot = np.floor((t - t[0]) * hz + rng.random()).astype(np.int64)
    keep = np.concatenate([[True], np.diff(slot) > 0])
    if rng.random() < 0.2:  # bursts: everything that was seen for a while, then nothing
        busy, quiet = float(rng.uniform(0.05, 0.4)), float(rng.uniform(0.1, 0.8))
        keep = ((t - t[0] + rng.random()) % (busy + quiet)) < busy
    if rng.random() < 0.3:
        keep &= rng.random(len(t)) > rng.uniform(0.05, 0.6)
    if rng.random() < 0.25:
        start = float(t[0]) + float(rng.random()) * float(t[-1] - t[0])
        keep &= ~((t > start) & (t < start + float(rng.uniform(0.1, 1.0))))
    kept = np.flatnonzero(keep)
    return kept if len(kept) >= 4 else np.arange(len(t))


def altered(pair: tuple[Sequence, Sequence], rng: np.random.Generator) -> tuple[Sequence, Sequence]:
    """The same pair played at 0.5 to 2 times the speed, or stalling (a picture shown again at the next times); both alike."""
    real, fake = pair
    if rng.random() < 0.35:
        t = real.t * float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        real, fake = replace(real, t=t), replace(fake, t=t)
    if rng.random() < 0.15:
        rows = np.arange(len(real.t))
        stalls = rng.random(len(rows)) < rng.uniform(0.05, 0.4)
        stalls[0] = False
        rows = np.maximum.accumulate(np.where(stalls, 0, rows))
        real, fake = (
            replace(one, embedding=one.embedding[rows], artefact=one.artefact[rows], frame_label=one.frame_label[rows])
            for one in (real, fake)
        )
    return real, fake


def fit_embedding(encoder: FaceEncoder, portraits: list[Portrait], *, crops: int = FITTED_CROPS, seed: int = 0) -> None:
    """Set the encoder's projection to partly whitened principal components of each of its parts, on real crops (Kessy et al. 2018).

    The losses of the eye do not touch the embedding; whitening spreads it, so that what changes is not drowned by what never does. Parts
    are kept apart, for the memory to hold one against the other, and standardised first, because they have no common unit.
    """
    rng = np.random.default_rng(seed)
    pooled: list[Tensor] = []
    handle = encoder.project.register_forward_hook(lambda _module, inputs, _output: pooled.append(inputs[0].detach()))
    picked = [portraits[int(i)] for i in rng.integers(len(portraits), size=crops)]
    worn = []
    for portrait in picked:
        wear = Wear.draw(rng)
        crop = portrait.crops[int(rng.integers(len(portrait.t)))]
        worn += wear.still([warp_crop(crop, wear.geometry(crop.shape[0], CROP_PX), CROP_PX)], Strip.draw(rng, 1, shake=wear.shake))
    see(encoder, np.stack(worn))
    handle.remove()
    x = torch.cat(pooled).double()
    parts = zip(torch.split(x, list(encoder.parts.values()), 1), embedding_sizes(encoder.dims.embedding), strict=True)
    weight: Tensor = torch.block_diag(*(_whitening(part, size) for part, size in parts))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        encoder.project.weight.copy_(weight.float())
        encoder.project.bias.copy_(-(weight @ x.mean(0)).float())


def embedding_sizes(embedding: int) -> tuple[int, int, int, int]:
    """How many components of an embedding each of `FaceEncoder.parts` gets: the cues all of theirs, the others a third of the rest each.

    Raises:
        ValueError: there are too few.
    """
    cues = CUES + 1
    if embedding < cues + 3:
        raise ValueError(f"embedding: expected at least {cues + 3} components, got {embedding}")
    third = (embedding - cues) // 3
    return third, third, embedding - cues - 2 * third, cues


def _whitening(x: Tensor, size: int) -> Tensor:
    """(n, F) -> (size, F): the first principal components of the standardised columns, partly whitened."""
    spread = x.std(0)
    spread = torch.where(spread > 1e-6 * spread.max(), spread, torch.inf)
    variance, axes = torch.linalg.eigh(torch.cov(((x - x.mean(0)) / spread).T))
    variance, axes = variance[-size:].clamp(min=0), axes[:, -size:]
    whitened: Tensor = (axes / torch.sqrt(variance + 0.1 * variance.mean())).T / spread
    return whitened


def _window(portrait: Portrait, rng: np.random.Generator) -> tuple[Clip, str]:
    """Up to WINDOW_FRAMES frames: consecutive ones, or every second or third, so that windows of several lengths are seen."""
    stride = min(int(rng.choice(STRIDES)), len(portrait.t) // MIN_FRAMES)
    span = min(len(portrait.t), WINDOW_FRAMES * stride)
    start = int(rng.integers(len(portrait.t) - span + 1))
    rows = slice(start, start + span, stride)
    return Clip(np.asarray(portrait.crops[rows]), portrait.t[rows], usable_points(portrait.dense[rows])), portrait.identity
