"""Fakes made from real faces: a real clip of aligned crops in, the same clip with a face blended into it out. Read by the training loops.

There is no deepfake to train on, so the traces that a swap leaves are imitated on real footage (self-blending: Shiohara and Yamasaki
2022; replayed along a clip as FakeSTormer does; inner features that drift as in arXiv 2408.17065). All randomness of one fake is drawn
once into a recipe; a recipe applied to one frame and to a clip differs only in what time does to it. Time constants are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.degradations import through_jpeg
from pipelines.training.fields import SmoothField, one_noise, remapped
from pipelines.training.masks import EYES, FAMILIES, MOUTH, NOSE, Family, MaskRecipe, Points, Soft, template_points

Kind = Literal["static", "drift", "feature_drift", "time_shift", "identity_swap", "residue", "flicker"]
KINDS: Final[tuple[Kind, ...]] = ("static", "drift", "feature_drift", "time_shift", "identity_swap", "residue", "flicker")
SHARES: Final = (0.40, 0.15, 0.15, 0.12, 0.08, 0.05, 0.05)
# Share of fakes that are blended in two bands.
BAND_SHARE: Final = 0.2
# Grey levels between the channels below which a picture counts as grey.
GREY_CHROMA: Final = 4.0
# The points that a donor is fitted by: eyes, nose and mouth.
FEATURES: Final = [*EYES[0], *EYES[1], *NOSE, *MOUTH]
# Below this mean change (grey levels inside the mask) nobody could tell the fake from its original: drawing again beats a wrong label.
MIN_CHANGE: Final = 1.2
# Opacity from which a pixel counts as inside.
INSIDE: Final = 0.2
ATTEMPTS: Final = 4
# Sharpening adds so wide a neighbourhood's difference; a donor's face is cut out with so soft a rim (px).
UNSHARP_PX: Final = 1.2
FACE_SOFTNESS: Final = 2.0


@dataclass(frozen=True, slots=True)
class FakeRecipe:
    """What may be left out of the fakes, to measure what it is worth."""

    families: tuple[Family, ...] = FAMILIES
    """Mask families to draw from, in the house's proportions."""
    sharpness: bool = True
    """Whether the donor may be blurred, shrunk or sharpened."""


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
    grain: float
    """Standard deviation of noise that the donor alone carries, grey levels."""
    seed: int
    warp: NDArray[np.float32]
    """(2, 3) affine about the crop's centre."""
    elastic: SmoothField | None

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int, *, strength: float, residue: bool, sharpness: bool = True) -> SourceRecipe:
        """Draw a mismatch; `strength` in (0, 1] scales colour and geometry, never the sharpness, which is the cue that transfers."""
        sharp = rng.choice(["down", "blur", "sharpen", "none"], p=[0.4, 0.2, 0.25, 0.15]) if sharpness else "none"
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
            grain=float(rng.uniform(1, 5)) if rng.random() < 0.12 else 0.0,
            seed=int(rng.integers(2**31)),
            warp=warp.astype(np.float32),
            elastic=SmoothField.draw(rng, size, sigma=18, amplitude=float(rng.uniform(0.5, 3))) if rng.random() < 0.4 else None,
        )

    def apply(self, image: Image) -> NDArray[np.float32]:
        """The donor (S, S, 3) as float32 in 0..255."""
        size = image.shape[0]
        warped = cv2.warpAffine(image, self.warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        if self.elastic is not None:
            warped = self.elastic.moved(np.asarray(warped, dtype=np.uint8))
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
            x += self.sharpen * (x - cv2.GaussianBlur(x, (0, 0), UNSHARP_PX))
        if self.grain > 0:
            x += self.grain * one_noise(self.seed, size)
        grey = cv2.transform(x, np.full((1, 3), 1 / 3))[..., None]
        # A tint on a grey picture would give the fake away by colour alone.
        gain, shift = (self.gain.mean(), self.shift.mean()) if is_grey(image) else (self.gain, self.shift)
        x = (grey + (x - grey) * self.saturation) * gain + shift
        return np.asarray(255 * cv2.pow(np.clip(x, 0, 255) / 255, self.gamma), dtype=np.float32)


def draw_kind(rng: np.random.Generator) -> Kind:
    """Draw what sort of fake to make, in SHARES: mostly constant along a clip, because frame-wise flicker is an easy shortcut."""
    return KINDS[int(rng.choice(len(KINDS), p=SHARES))]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureWarp:
    """Smooth displacement of the inner face that wanders in time: features that drift against the head."""

    modes: tuple[SmoothField, SmoothField]
    paths: NDArray[np.float32]
    """(T, 2) how much of each mode is there at each moment, px."""

    @classmethod
    def draw(cls, t: NDArray[np.float64], size: int, rng: np.random.Generator) -> FeatureWarp:
        """Draw one for the media seconds `t` (T,) of a clip of `size` px crops."""
        tau, amplitude = float(np.exp(rng.uniform(np.log(0.05), np.log(0.5)))), float(rng.uniform(0.005, 0.025)) * size * 0.55
        first, second = (SmoothField.draw(rng, size, sigma=float(rng.uniform(12, 28)), amplitude=1.0) for _ in range(2))
        paths = np.stack([_wander(t, rng, tau) for _ in range(2)], axis=1) * amplitude
        return cls((first, second), paths.astype(np.float32))

    def fields(self, size: int) -> NDArray[np.float32]:
        """The displacements (T, S, S, 2) in pixels."""
        return np.asarray(np.einsum("tm,mijc->tijc", self.paths, np.stack([mode.full(size) for mode in self.modes])), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFake:
    """All randomness of one fake of a clip of T frames. `apply` makes it one by one; `device_fakes.py` makes many at once."""

    kind: Kind
    mask: MaskRecipe
    sources: tuple[SourceRecipe, ...]
    """One for the whole clip; a flicker has one for every frame."""
    alter_target: bool
    """Half the time it is the target that is altered and the donor that stays: then the *real* one carries the alteration too, and no
    global statistic tells the two apart."""
    bands: float
    """Blur of the slow band, px; 0 blends in one."""
    donor_rows: NDArray[np.intp] | None
    """(T,) which row of the donor stands for each frame; None: the frame is its own donor."""
    active: NDArray[np.bool_]
    """(T,) whether the frame is tampered with at all."""
    opaque: NDArray[np.bool_]
    """(T,) false where a flicker shows the original."""
    drift: dict[str, NDArray[np.float32]]
    """How gain, place and opacity wander, (T,) each."""
    warp: FeatureWarp | None

    @classmethod
    def draw(
        cls, clip: Clip, rng: np.random.Generator, kind: Kind, other: Clip | None, strength: float, partial: bool, recipe: FakeRecipe
    ) -> DrawnFake:
        """Draw one fake of `clip`; see `make_fake`."""
        size, length = clip.crops.shape[1], len(clip.t)
        mask = MaskRecipe.draw(rng, size, families=recipe.families)
        if kind == "identity_swap":  # a face of somebody else, half transparent, is no face that any generator makes
            mask = replace(mask, ratio=max(mask.ratio, 0.85))
        weaker = 0.6 if kind in ("time_shift", "feature_drift") else 1.0

        def source(strength: float, *, residue: bool) -> SourceRecipe:
            return SourceRecipe.draw(rng, size, strength=strength, residue=residue, sharpness=recipe.sharpness)

        sources = [source(strength * weaker, residue=kind == "residue")]
        alter_target = rng.random() < 0.5 and kind in ("static", "drift", "residue")
        bands = float(rng.uniform(2, 7)) * size / 192 if rng.random() < BAND_SHARE else 0.0
        donor_rows = _donor_rows(clip, rng, kind, other)
        active, opaque = _active(clip.t, rng, partial), np.ones(length, dtype=np.bool_)
        drift = {name: _wander(clip.t, rng, float(np.exp(rng.uniform(np.log(0.1), np.log(2.0))))) for name in ("gain", "x", "y", "alpha")}
        warp = FeatureWarp.draw(clip.t, size, rng) if kind == "feature_drift" else None
        if kind == "flicker":
            sources = []
            for i in range(length):
                sources.append(source(strength, residue=False))
                opaque[i] = not active[i] or rng.random() >= 0.25
        return cls(kind, mask, tuple(sources), alter_target, bands, donor_rows, active, opaque, drift, warp)

    def apply(self, clip: Clip, other: Clip | None = None) -> FakeClip:
        """Blend the drawn face into `clip`; `other` is the donor that it was drawn for."""
        size, length = clip.crops.shape[1], len(clip.t)
        donors = other if other is not None and self.kind == "identity_swap" else clip
        warps = None if self.warp is None else self.warp.fields(size)
        real, fake = np.empty_like(clip.crops), np.empty_like(clip.crops)
        masks = np.zeros((length, size, size), dtype=np.float32)
        for i in range(length):
            target, donor, usable, points = clip.crops[i], clip.crops[i], None, clip.points[i]
            if self.donor_rows is not None:
                at = self.donor_rows[i]
                donor, usable = fitted(donors.crops[at], donors.points[at], points)
            altering = self.sources[i % len(self.sources)]
            if self.alter_target:
                base, source = np.clip(altering.apply(target), 0, 255), donor.astype(np.float32)
            else:
                base, source = target.astype(np.float32), altering.apply(donor)
            real[i] = np.round(base)
            if not self.active[i]:
                fake[i] = real[i]
                continue
            if self.kind == "identity_swap":
                source = _matched_colour(source, base)
            source = source * np.float32(self.gain(i))
            if warps is not None:
                source = remapped(source, warps[i])
            mask = self.mask.apply(self.placed(points, i), target) * np.float32(self.opacity(i))
            if usable is not None:
                mask = mask * usable
            fake[i] = np.round(np.clip(_blended(source, base, mask, self.bands), 0, 255))
            masks[i] = mask
        return FakeClip(real=real, fake=fake, masks=masks, kind=self.kind, family=self.mask.family)

    def gain(self, i: int) -> float:
        """What the source's levels are multiplied with at frame `i`."""
        return 1 + 0.05 * float(self.drift["gain"][i]) if self.kind == "drift" else 1.0

    def placed(self, points: Points, i: int) -> Points:
        """Where the mask lies at frame `i`, whose points are `points` (478, 2)."""
        if self.kind != "drift":
            return points
        return points + np.array([self.drift["x"][i], self.drift["y"][i]], dtype=np.float32) * 1.5

    def opacity(self, i: int) -> float:
        """What the mask is multiplied with at frame `i`."""
        faded = float(np.clip(1 + 0.25 * self.drift["alpha"][i], 0.3, 1)) if self.kind == "drift" else 1.0
        return faded * float(self.opaque[i])


def make_fake(
    clip: Clip,
    rng: np.random.Generator,
    *,
    kind: Kind,
    other: Clip | None = None,
    strength: float = 1.0,
    partial: bool = False,
    recipe: FakeRecipe | None = None,
) -> FakeClip:
    """Blend a face into `clip`. `other` is the donor of `identity_swap` (ignored else); `partial` leaves part of the clip real."""
    for drawn in attempts(clip, rng, kind=kind, other=other, strength=strength, partial=partial, recipe=recipe):
        fake = drawn.apply(clip, other)
        inside = fake.masks > INSIDE
        if inside.any() and float(cv2.absdiff(fake.fake[inside], fake.real[inside]).mean()) >= MIN_CHANGE:
            break
    return fake


def attempts(
    clip: Clip,
    rng: np.random.Generator,
    *,
    kind: Kind,
    other: Clip | None = None,
    strength: float = 1.0,
    partial: bool = False,
    recipe: FakeRecipe | None = None,
) -> Iterator[DrawnFake]:
    """Draws for `make_fake`, each stronger than the last: the first that changes its target by MIN_CHANGE, or the last of all, is it."""
    for attempt in range(ATTEMPTS):
        yield DrawnFake.draw(clip, rng, kind, other, min(1.0, strength * (1 + 0.3 * attempt)), partial, recipe or FakeRecipe())


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


def _blended(source: NDArray[np.float32], base: NDArray[np.float32], mask: Soft, bands: float) -> NDArray[np.float32]:
    """Alpha blending; or, with `bands` > 0 px, slow changes through a softened mask and detail through the mask itself.

    Two bands of the pyramid of Burt and Adelson 1983, "A multiresolution spline": what is left of a seam after gradient-domain tools.
    """
    if bands <= 0:
        return source * mask[..., None] + base * (1 - mask[..., None])
    low_source, low_base = cv2.GaussianBlur(source, (0, 0), bands), cv2.GaussianBlur(base, (0, 0), bands)
    wide = cv2.GaussianBlur(mask, (0, 0), 1.5 * bands)[..., None]
    low = low_source * wide + low_base * (1 - wide)
    return np.asarray(low + (source - low_source) * mask[..., None] + (base - low_base) * (1 - mask[..., None]), dtype=np.float32)


def _donor_rows(clip: Clip, rng: np.random.Generator, kind: Kind, other: Clip | None) -> NDArray[np.intp] | None:
    """(T,) the donor's row for each frame: rows of `other`, or of the clip itself in a shift of time; None: every frame is its own."""
    length = len(clip.t)
    if kind == "identity_swap" and other is not None:
        start = int(rng.integers(len(other.t)))
        return np.array([_bounce(start + i, len(other.t)) for i in range(length)])
    if kind == "time_shift" and length > 1:
        first, span = clip.t[0], clip.t[-1] - clip.t[0]
        away = float(rng.uniform(0.1, 2.0)) * float(rng.choice([-1, 1]))
        # What lies beyond the window is the window backwards.
        moment = (clip.t - first + away) % (2 * span)
        if rng.random() < 0.35:  # held: the face freezes for a while and jumps on
            hold = float(rng.uniform(0.15, 1.0))
            moment = np.floor(moment / hold) * hold
        return np.asarray(np.searchsorted(clip.t - first, np.where(moment > span, 2 * span - moment, moment)).clip(0, length - 1))
    return None


def nearest(candidates: list[Clip], target: Clip) -> Clip:
    """The candidate whose first face has the shape most like the target's, place, size and turn aside; grey for grey, colour for colour."""
    points, grey = target.points[0], is_grey(target.crops[0])

    def unlike(candidate: Clip) -> float:
        own = candidate.points[0]
        matrix = fit(own, points)
        # What an affine map must do beyond turning and scaling, and what it cannot do at all.
        fitted = own[FEATURES] @ matrix[:, :2].T + matrix[:, 2]
        stretch = float(np.subtract(*np.linalg.svd(matrix[:, :2])[1]))
        return float(np.abs(fitted - points[FEATURES]).mean()) + 20 * stretch + 1e3 * (is_grey(candidate.crops[0]) != grey)

    return min(candidates, key=unlike)


def is_grey(image: NDArray[np.generic]) -> bool:
    """Whether a picture (S, S, 3) has no colour to speak of, as old film and many portraits have none."""
    small = image[::8, ::8].astype(np.float32)
    return float((small.max(axis=2) - small.min(axis=2)).mean()) < GREY_CHROMA


def fitted(image: Image, points: Points, target: Points) -> tuple[Image, Soft]:
    """A donor's picture moved so that its features lie where the target's do, and its face (S, S) in it: nobody pastes a background."""
    matrix = fit(points, target)
    moved = cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    face = cv2.GaussianBlur(face_of(points, matrix, image.shape[0]), (0, 0), FACE_SOFTNESS)
    return np.asarray(moved, dtype=np.uint8), np.asarray(face, dtype=np.float32)


def fit(points: Points, target: Points) -> NDArray[np.float64]:
    """The (2, 3) affine map that takes a donor's features to the target's, as swaps by landmarks make it."""
    return _affine(points[FEATURES], target[FEATURES])


def face_of(points: Points, matrix: NDArray[np.float64], size: int) -> Soft:
    """Where the face with those points lies after `matrix`: 0 or 1, (S, S)."""
    face = np.zeros((size, size), dtype=np.float32)
    hull = cv2.convexHull((points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    cv2.fillPoly(face, [np.round(hull).astype(np.int32)], 1.0)
    return face


def _affine(points: Points, target: Points) -> NDArray[np.float64]:
    """The (2, 3) affine matrix that takes `points` (n, 2) to `target` best in the mean square."""
    ones = np.concatenate([points, np.ones((len(points), 1), dtype=np.float32)], axis=1).astype(np.float64)
    return np.asarray(np.linalg.lstsq(ones, target.astype(np.float64), rcond=None)[0].T, dtype=np.float64)


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
