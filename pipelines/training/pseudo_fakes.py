"""Fakes made from real faces: a real clip of aligned crops in, the same clip with a face blended into it out. Read by the training loops.

There is no deepfake to train on, so the traces that a swap leaves are imitated on real footage (self-blending: Shiohara and Yamasaki
2022; replayed along a clip as FakeSTormer does; inner features that drift as in arXiv 2408.17065). All randomness of one fake is drawn
once into a recipe; a recipe applied to one frame and to a clip differs only in what time does to it. Time constants are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.degradations import through_jpeg
from pipelines.training.masks import MaskRecipe, Points, Soft, smooth_field, template_points

Kind = Literal["static", "drift", "feature_drift", "time_shift", "identity_swap", "residue", "flicker"]
KINDS: Final[tuple[Kind, ...]] = ("static", "drift", "feature_drift", "time_shift", "identity_swap", "residue", "flicker")
SHARES: Final = (0.40, 0.15, 0.15, 0.12, 0.08, 0.05, 0.05)
# Below this mean change (grey levels inside the mask) nobody could tell the fake from its original: drawing again beats a wrong label.
MIN_CHANGE: Final = 1.2


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A window of one portrait: aligned crops (T, S, S, 3), their media seconds (T,), dense points (T, 478, 2) in crop pixels."""

    crops: Image
    t: NDArray[np.float64]
    points: Points


@dataclass(frozen=True, slots=True, eq=False)
class FakeClip:
    """A pseudo-fake beside its original. `masks` is 0 on frames that were left real."""

    real: Image
    fake: Image
    masks: Soft
    """(T, S, S) opacity of what was blended in."""
    kind: Kind
    family: str

    @property
    def frame_labels(self) -> NDArray[np.float32]:
        """(T,) 1 where the frame was tampered with."""
        return np.asarray(self.masks.max(axis=(1, 2)) > 0.05, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SourceRecipe:
    """What happens to the donor before it is blended: the colour, sharpness and geometry mismatch of a generator."""

    gain: NDArray[np.float32]
    shift: NDArray[np.float32]
    gamma: float
    saturation: float
    scale_down: float
    sharpen: float
    blur: float
    jpeg: int
    residue: bool
    warp: NDArray[np.float32]
    """(2, 3) affine about the crop's centre."""
    elastic: NDArray[np.float32] | None

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int, *, strength: float, residue: bool) -> SourceRecipe:
        """Draw a mismatch; `strength` in (0, 1] scales colour and geometry, never the sharpness, which is the cue that transfers."""
        sharp = rng.choice(["down", "blur", "sharpen", "none"], p=[0.4, 0.2, 0.25, 0.15])
        angle, zoom = rng.uniform(-0.02, 0.02) * strength, 1 + rng.uniform(-0.04, 0.04) * strength
        move = rng.uniform(-0.02, 0.02, 2) * size * strength
        c, s, centre = np.cos(angle) * zoom, np.sin(angle) * zoom, size / 2
        warp = np.array([[c, -s, centre - c * centre + s * centre + move[0]], [s, c, centre - s * centre - c * centre + move[1]]])
        return cls(
            gain=(1 + rng.uniform(-0.1, 0.1, 3) * strength).astype(np.float32),
            shift=(rng.uniform(-14, 14, 3) * strength * (rng.random() < 0.6)).astype(np.float32),
            gamma=float(np.exp(rng.uniform(-0.2, 0.2) * strength)),
            saturation=float(1 + rng.uniform(-0.25, 0.25) * strength),
            scale_down=float(rng.uniform(1.4, 3.5)) if sharp == "down" else 1.0,
            sharpen=float(rng.uniform(0.3, 1.2)) if sharp == "sharpen" else 0.0,
            blur=float(rng.uniform(0.5, 1.6)) if sharp == "blur" else 0.0,
            jpeg=int(rng.integers(35, 85)) if rng.random() < 0.15 else 0,
            residue=residue,
            warp=warp.astype(np.float32),
            elastic=smooth_field(rng, size, sigma=18, amplitude=float(rng.uniform(0.5, 3))) if rng.random() < 0.4 else None,
        )

    def apply(self, image: Image) -> NDArray[np.float32]:
        """The donor (S, S, 3) as float32 in 0..255."""
        size = image.shape[0]
        warped = cv2.warpAffine(image, self.warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        if self.elastic is not None:
            grid = np.mgrid[0:size, 0:size].astype(np.float32)
            warped = cv2.remap(
                warped, grid[1] + self.elastic[..., 0], grid[0] + self.elastic[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
        if self.residue:
            warped = _generator_residue(np.asarray(warped, dtype=np.uint8))
        if self.scale_down > 1:
            small = cv2.resize(warped, None, fx=1 / self.scale_down, fy=1 / self.scale_down, interpolation=cv2.INTER_AREA)
            warped = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
        if self.blur > 0:
            warped = cv2.GaussianBlur(warped, (0, 0), self.blur)
        if self.jpeg:
            warped = through_jpeg(np.asarray(warped, dtype=np.uint8), self.jpeg)
        x = warped.astype(np.float32)
        if self.sharpen > 0:
            x += self.sharpen * (x - cv2.GaussianBlur(x, (0, 0), 1.2))
        grey = x.mean(axis=2, keepdims=True)
        x = (grey + (x - grey) * self.saturation) * self.gain + self.shift
        return np.asarray(255 * (np.clip(x, 0, 255) / 255) ** self.gamma, dtype=np.float32)


def draw_kind(rng: np.random.Generator) -> Kind:
    """Draw what sort of fake to make, in SHARES: mostly constant along a clip, because frame-wise flicker is an easy shortcut."""
    return KINDS[int(rng.choice(len(KINDS), p=SHARES))]


def make_fake(
    clip: Clip, rng: np.random.Generator, *, kind: Kind, other: Clip | None = None, strength: float = 1.0, partial: bool = False
) -> FakeClip:
    """Blend a face into `clip`. `other` is the donor of `identity_swap` (ignored else); `partial` leaves part of the clip real."""
    for attempt in range(4):
        fake = _make(clip, rng, kind, other, min(1.0, strength * (1 + 0.3 * attempt)), partial)
        inside = fake.masks > 0.2
        change = np.abs(fake.fake.astype(np.float32) - fake.real.astype(np.float32)).mean(axis=3)
        if inside.any() and float(change[inside].mean()) >= MIN_CHANGE:
            break
    return fake


def usable_points(dense: Points) -> Points:
    """Dense points (T, 478, 2) with holes filled: between measurements linearly, and by the template where a face has none at all."""
    known = np.flatnonzero(np.isfinite(dense[:, 0, 0]))
    if not len(known):
        return np.broadcast_to(template_points(), dense.shape)
    flat = dense.reshape(len(dense), -1)
    row = np.arange(len(dense), dtype=np.float64)
    after = np.clip(np.searchsorted(known, row), 0, len(known) - 1)
    before = np.clip(after - 1, 0, None)
    span = np.maximum(known[after] - known[before], 1)
    weight = np.clip((row - known[before]) / span, 0, 1)[:, None].astype(np.float32)
    filled = flat[known[before]] * (1 - weight) + flat[known[after]] * weight
    return np.asarray(filled.reshape(dense.shape), dtype=np.float32)


def _make(clip: Clip, rng: np.random.Generator, kind: Kind, other: Clip | None, strength: float, partial: bool) -> FakeClip:
    size, length = clip.crops.shape[1], len(clip.t)
    mask_recipe = MaskRecipe.draw(rng, size)
    source_recipe = SourceRecipe.draw(
        rng, size, strength=strength * (0.6 if kind in ("time_shift", "feature_drift") else 1.0), residue=kind == "residue"
    )
    # Half the time it is the target that is altered and the donor that stays: then the *real* one carries the alteration too, and
    # no global statistic tells the two apart.
    alter_target = rng.random() < 0.5 and kind in ("static", "drift", "residue", "flicker")
    donor_of = _donor(clip, rng, kind, other)
    active = _active(clip.t, rng, partial)
    drift = {name: _wander(clip.t, rng, float(np.exp(rng.uniform(np.log(0.1), np.log(2.0))))) for name in ("gain", "x", "y", "alpha")}
    warps = _feature_warps(clip, rng) if kind == "feature_drift" else None
    real, fake = np.empty_like(clip.crops), np.empty_like(clip.crops)
    masks = np.zeros((length, size, size), dtype=np.float32)
    for i in range(length):
        target, donor = clip.crops[i], donor_of(i)
        if kind == "flicker":
            source_recipe = SourceRecipe.draw(rng, size, strength=strength, residue=False)
        if alter_target:
            altered = np.clip(source_recipe.apply(target), 0, 255)
            base, source = altered, donor.astype(np.float32)
        else:
            base, source = target.astype(np.float32), source_recipe.apply(donor)
        real[i] = np.round(base)
        if not active[i]:
            fake[i] = real[i]
            continue
        if kind == "identity_swap":
            source = _matched_colour(source, base)
        points = clip.points[i]
        if kind == "drift":
            source = source * (1 + 0.05 * drift["gain"][i])
            points = points + np.array([drift["x"][i], drift["y"][i]], dtype=np.float32) * 1.5
        if warps is not None:
            source = _remap(source, warps[i])
        mask = mask_recipe.apply(points, clip.crops[i])
        if kind == "drift":
            mask = mask * np.float32(np.clip(1 + 0.25 * drift["alpha"][i], 0.3, 1))
        if kind == "flicker" and rng.random() < 0.25:
            mask = mask * 0
        blended = source * mask[..., None] + base * (1 - mask[..., None])
        fake[i] = np.round(np.clip(blended, 0, 255))
        masks[i] = mask
    return FakeClip(real=real, fake=fake, masks=masks, kind=kind, family=mask_recipe.family)


def _donor(clip: Clip, rng: np.random.Generator, kind: Kind, other: Clip | None) -> Callable[[int], Image]:
    """A function from frame index to the donor's picture."""
    length = len(clip.t)
    if kind == "identity_swap" and other is not None:
        crops = other.crops
        start = int(rng.integers(len(crops)))
        return lambda i: crops[_bounce(start + i, len(crops))]
    if kind == "time_shift" and length > 1:
        away = float(rng.uniform(0.1, 2.0)) * float(rng.choice([-1, 1]))
        index = np.clip(np.searchsorted(clip.t, clip.t + away), 0, length - 1)
        if rng.random() < 0.35:  # held: the face freezes for a while and jumps on
            hold = float(rng.uniform(0.15, 1.0))
            index = np.searchsorted(clip.t, clip.t[0] + np.floor((clip.t - clip.t[0]) / hold) * hold).clip(0, length - 1)
        return lambda i: clip.crops[int(index[i])]
    return lambda i: clip.crops[i]


def _bounce(i: int, length: int) -> int:
    """Run forwards and backwards through a donor that is shorter than the clip."""
    period = max(2 * (length - 1), 1)
    i %= period
    return i if i < length else period - i


def _active(t: NDArray[np.float64], rng: np.random.Generator, partial: bool) -> NDArray[np.bool_]:
    if not partial or len(t) < 4:
        return np.ones(len(t), dtype=np.bool_)
    duration = float(t[-1] - t[0])
    share = float(rng.uniform(0.25, 0.7))
    start = float(t[0]) + float(rng.uniform(0, 1 - share)) * duration
    return (t >= start) & (t <= start + share * duration)


def _wander(t: NDArray[np.float64], rng: np.random.Generator, tau_s: float) -> NDArray[np.float32]:
    """An Ornstein-Uhlenbeck path of unit variance and correlation time `tau_s`, exact at the given times."""
    path = np.empty(len(t))
    path[0] = rng.normal()
    for i in range(1, len(t)):
        keep = np.exp(-(t[i] - t[i - 1]) / tau_s)
        path[i] = keep * path[i - 1] + np.sqrt(1 - keep**2) * rng.normal()
    return path.astype(np.float32)


def _feature_warps(clip: Clip, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth displacement of the inner face that wanders in time, (T, S, S, 2): features that drift against the head."""
    size = clip.crops.shape[1]
    tau, amplitude = float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))), float(rng.uniform(0.005, 0.025)) * size * 0.55
    modes = np.stack([smooth_field(rng, size, sigma=float(rng.uniform(12, 28)), amplitude=1.0) for _ in range(2)])
    paths = np.stack([_wander(clip.t, rng, tau) for _ in range(2)], axis=1)
    return np.asarray(np.einsum("tm,mijc->tijc", paths * amplitude, modes), dtype=np.float32)


def _remap(image: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.float32]:
    size = image.shape[0]
    grid = np.mgrid[0:size, 0:size].astype(np.float32)
    return np.asarray(
        cv2.remap(image, grid[1] + field[..., 0], grid[0] + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
        dtype=np.float32,
    )


def _generator_residue(image: Image) -> Image:
    """What an under-trained decoder leaves: texture gone, and a faint grid from its up-sampling."""
    smooth = cv2.bilateralFilter(image, 7, 28, 5)
    small = cv2.resize(smooth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    up = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.addWeighted(cv2.GaussianBlur(up, (3, 3), 0.6), 0.8, image, 0.2, 0), dtype=np.uint8)


def _matched_colour(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the donor's inner face the mean and spread of the target's, channel by channel in LAB (Reinhard et al. 2001)."""
    a, b = (cv2.cvtColor(np.clip(x, 0, 255) / 255, cv2.COLOR_RGB2LAB) for x in (source, target))
    edge = source.shape[0] // 3
    inner = (slice(edge, -edge), slice(edge, -edge))
    mean_a, mean_b = a[inner].mean((0, 1)), b[inner].mean((0, 1))
    spread = np.clip(b[inner].std((0, 1)) / np.maximum(a[inner].std((0, 1)), 1e-3), 0.6, 1.6)
    return np.asarray(
        np.clip(cv2.cvtColor(((a - mean_a) * spread + mean_b).astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1) * 255, dtype=np.float32
    )
