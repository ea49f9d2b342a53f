"""Clips as the memory sees them: portraits in, pairs of embedding sequences with true times out. Read by temporal training and calibration.

Each pair is one real window and one pseudo-fake of it, worn by the same draw and seen by the frozen encoder. Sequences are cached at the
native rate; re-timing drops whole observations and keeps every timestamp, and never edits a dt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.encoder import FaceEncoder
from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.degradations import Wear
from pipelines.training.portraits import Portrait
from pipelines.training.pseudo_fakes import Clip, draw_kind, make_fake, usable_points

Float = NDArray[np.float32]
WINDOW_FRAMES: Final = 64
PARTIAL_SHARE: Final = 0.35


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


@torch.inference_mode()
def see(encoder: FaceEncoder, crops: Image, *, batch: int = 16) -> tuple[Float, Float]:
    """Embeddings (T, E) and logits (T,) of uint8 crops (T, 160, 160, 3)."""
    device = next(encoder.parameters()).device
    outputs = []
    for start in range(0, len(crops), batch):
        pixels = torch.from_numpy(np.ascontiguousarray(crops[start : start + batch])).permute(0, 3, 1, 2)
        outputs.append(encoder(pixels.to(device, memory_format=torch.channels_last)))
    return (
        torch.cat([output.embedding for output in outputs]).cpu().numpy(),
        torch.cat([output.logit for output in outputs]).cpu().numpy(),
    )


def draw_pairs(
    encoder: FaceEncoder, portraits: list[Portrait], *, pairs: int, seed: int, on_pair: Callable[[int], None] | None = None
) -> list[Sequence]:
    """Draw `pairs` windows evenly over people and make a pseudo-fake of each: 2 * pairs sequences, the real one first."""
    rng = np.random.default_rng(seed)
    videos = [portrait for portrait in portraits if len(portrait.t) >= 16]
    people = sorted({portrait.identity for portrait in videos})
    of = {person: [portrait for portrait in videos if portrait.identity == person] for person in people}
    sequences: list[Sequence] = []
    for number in range(pairs):
        choices = of[people[number % len(people)]]
        clip, identity = _window(choices[int(rng.integers(len(choices)))], rng)
        donor = _window(videos[int(rng.integers(len(videos)))], rng)[0]
        kind = draw_kind(rng)
        made = make_fake(
            clip, rng, kind=kind, other=donor, strength=float(rng.uniform(0.5, 1.0)), partial=bool(rng.random() < PARTIAL_SHARE)
        )
        wear = Wear.draw(rng)
        for label, crops in ((0, made.real), (1, made.fake)):
            embedding, artefact = see(encoder, wear.clip(crops, clip.t, CROP_PX))
            frames = made.frame_labels if label else np.zeros(len(clip.t), dtype=np.float32)
            sequences.append(Sequence(identity, label, kind if label else "real", clip.t, embedding, artefact, frames))
        if on_pair is not None:
            on_pair(number + 1)
    return sequences


def retime(t: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Which observations to keep: a rate log-uniform in 4 to 60 Hz, drops, and now and then a burst with a gap of 0.1 to 1 s."""
    hz = float(np.exp(rng.uniform(np.log(4), np.log(60))))
    slot = np.floor((t - t[0]) * hz + rng.random()).astype(np.int64)
    keep = np.concatenate([[True], np.diff(slot) > 0])
    if rng.random() < 0.3:
        keep &= rng.random(len(t)) > rng.uniform(0.05, 0.5)
    if rng.random() < 0.25:
        start = float(t[0]) + float(rng.random()) * float(t[-1] - t[0])
        keep &= ~((t > start) & (t < start + float(rng.uniform(0.1, 1.0))))
    kept = np.flatnonzero(keep)
    return kept if len(kept) >= 4 else np.arange(len(t))


def fit_embedding(encoder: FaceEncoder, portraits: list[Portrait], *, crops: int = 1500, seed: int = 0) -> None:
    """Set the encoder's projection to partly whitened principal components of its pooled features on real crops (Kessy et al. 2018).

    The losses of the eye do not touch the embedding; whitening spreads it, so that what changes is not drowned by what never does.
    """
    rng = np.random.default_rng(seed)
    pooled: list[Tensor] = []
    handle = encoder.project.register_forward_hook(lambda _module, inputs, _output: pooled.append(inputs[0].detach()))
    picked = [portraits[int(i)] for i in rng.integers(len(portraits), size=crops)]
    margin = (picked[0].crops.shape[1] - CROP_PX) // 2
    centre = slice(margin, margin + CROP_PX)
    see(encoder, np.stack([portrait.crops[int(rng.integers(len(portrait.t)))][centre, centre] for portrait in picked]))
    handle.remove()
    x = torch.cat(pooled).double()
    mean = x.mean(0)
    variance, axes = torch.linalg.eigh(torch.cov((x - mean).T))
    size = encoder.dims.embedding
    variance, axes = variance[-size:].clamp(min=0), axes[:, -size:]
    weight = (axes / torch.sqrt(variance + 0.1 * variance.mean())).T
    with torch.no_grad():
        encoder.project.weight.copy_(weight.float())
        nn.init.zeros_(encoder.project.bias)
        encoder.project.bias.sub_((weight @ mean).float())


def _window(portrait: Portrait, rng: np.random.Generator) -> tuple[Clip, str]:
    """Up to WINDOW_FRAMES consecutive frames, or every second one of a high frame rate."""
    stride = 2 if len(portrait.t) > 1 and float(np.median(np.diff(portrait.t))) < 1 / 45 and rng.random() < 0.7 else 1
    span = min(len(portrait.t), WINDOW_FRAMES * stride)
    start = int(rng.integers(len(portrait.t) - span + 1))
    rows = slice(start, start + span, stride)
    return Clip(np.asarray(portrait.crops[rows]), portrait.t[rows], usable_points(portrait.dense[rows])), portrait.identity
