"""Where a pseudo-fake is blended in: facial points in, a soft mask out. Used by `pseudo_fakes.py`.

Eight families of shapes, because the shape of the seam is what differs between makes of deepfakes: a detector that saw one hull
only loses about ten points of AUC (users of SelfBlendedImages who left the families out report .82 instead of .92 on Celeb-DF-v2). A
`MaskRecipe` is drawn once and then applied to every frame of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.fields import SmoothField

Points = NDArray[np.float32]
Soft = NDArray[np.float32]
Family = Literal["full", "no_forehead", "brows_up", "components", "lower_face", "eye_band", "superellipse", "skin"]
FAMILIES: Final[tuple[Family, ...]] = ("full", "no_forehead", "brows_up", "components", "lower_face", "eye_band", "superellipse", "skin")
SHARES: Final = (0.2, 0.16, 0.14, 0.12, 0.12, 0.06, 0.12, 0.08)

# Indices into the 478-point mesh (MediaPipe's published topology).
JAW: Final = [234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454]
FOREHEAD: Final = [356, 389, 251, 284, 332, 297, 338, 10, 109, 67, 103, 54, 21, 162, 127]
BROWS: Final = [[70, 63, 105, 66, 107, 55, 65, 52, 53, 46], [300, 293, 334, 296, 336, 285, 295, 282, 283, 276]]
EYES: Final = [[33, 160, 159, 158, 133, 153, 145, 144], [362, 385, 386, 387, 263, 373, 374, 380]]
NOSE: Final = [168, 6, 197, 195, 5, 4, 48, 278, 219, 439, 2, 98, 327]
MOUTH: Final = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
CHEEKS: Final = [50, 280, 205, 425]


def template_points() -> Points:
    """Mean of the dense points of the training faces in the 192 px portrait, (478, 2): stands in where a face has five points only."""
    return np.asarray(np.load(Path(__file__).parent / "face_template.npy"), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MaskRecipe:
    """Everything random about one mask, drawn once so that a clip's seam stays where it is."""

    family: Family
    raise_forehead: float
    wobble: NDArray[np.float32]
    """(2, 8) Fourier amplitudes of the outline's noise, in pixels."""
    elastic: SmoothField
    grow_px: int
    """Dilate when positive, erode when negative."""
    blur_first: float
    blur_second: float
    keep_above: float
    """After the first blur everything below this is cut: the seam moves inwards, as an eroded mask's does."""
    exponent: float
    ratio: float
    """Opacity of the blend, 0.25 to 1."""
    skin_tolerance: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int, *, strength: float = 1.0, families: tuple[Family, ...] = FAMILIES) -> MaskRecipe:
        """Draw a recipe of one of `families` for a crop of `size` px; `strength` in (0, 1] fades the blend towards invisible."""
        scale = size / 192
        share = np.array([SHARES[FAMILIES.index(family)] for family in families])
        family = str(rng.choice(families, p=share / share.sum()))
        # An eye is 15 px high: what takes the edge off a hull would leave nothing of it.
        small = family in ("components", "eye_band")
        return cls(
            family=family,  # type: ignore[arg-type]  # numpy's choice loses the Literal
            raise_forehead=float(rng.uniform(-0.02, 0.22)),
            wobble=rng.normal(0, rng.uniform(0.3, 2.0) * scale, (2, 8)).astype(np.float32),
            elastic=SmoothField.draw(rng, size, sigma=float(rng.uniform(6, 16)) * scale, amplitude=float(rng.uniform(0, 5)) * scale),
            grow_px=round(float(rng.uniform(-1 if small else -6, 4)) * scale),
            blur_first=float(rng.uniform(0.7, 2.5 if small else 5.0)) * scale,
            blur_second=float(rng.uniform(0.5, 6.0)) * scale,
            keep_above=float(rng.choice([0.0, 0.5, 0.5 if small else 0.9])),
            exponent=float(rng.uniform(2.0, 5.0)),
            ratio=float(rng.choice([0.35, 0.5, 0.75, 1.0, 1.0, 1.0])) * strength,
            skin_tolerance=float(rng.uniform(10, 22)),
        )

    def apply(self, points: Points, image: Image) -> Soft:
        """The soft mask (S, S) in [0, ratio] for a face whose dense points in the crop are `points` (478, 2)."""
        moved = self.elastic.moved(self.hard(points, image), cv2.BORDER_CONSTANT)
        if self.grow_px:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(self.grow_px) + 1,) * 2)
            moved = np.asarray((cv2.dilate if self.grow_px > 0 else cv2.erode)(moved, kernel), dtype=np.float32)
        soft = cv2.GaussianBlur(moved, (0, 0), self.blur_first)
        if self.keep_above > 0:
            soft = np.where(soft < self.keep_above * max(float(soft.max()), 1e-6), 0.0, soft).astype(np.float32)
        soft = cv2.GaussianBlur(soft, (0, 0), self.blur_second)
        peak = float(soft.max())
        return np.asarray(soft / peak * self.ratio if peak > 1e-3 else soft * 0, dtype=np.float32)

    def hard(self, points: Points, image: Image) -> Soft:
        """The same before anything softens it: 0 or 1, (S, S)."""
        mask = np.zeros(image.shape[:2], dtype=np.float32)
        for outline in _outlines(self, points):
            cv2.fillPoly(mask, [np.round(_wobbled(self, outline) * 8).astype(np.int32)], 1.0, shift=3)
        if self.family == "skin":
            lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)[..., 1:]
            at = np.clip(np.round(points[CHEEKS]).astype(int), 0, image.shape[0] - 1)
            tone = np.median(lab[at[:, 1], at[:, 0]], axis=0)
            mask *= (np.linalg.norm(lab - tone, axis=-1) < self.skin_tolerance).astype(np.float32)
            return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)), dtype=np.float32)
        return mask


def _outlines(recipe: MaskRecipe, points: Points) -> list[Points]:
    jaw, brows = points[JAW], np.concatenate([points[BROWS[0]], points[BROWS[1]]])
    height = float(jaw[:, 1].max() - brows[:, 1].min())
    up = np.array([0, recipe.raise_forehead * height], dtype=np.float32)
    match recipe.family:
        case "full" | "skin":
            return [_hull(np.concatenate([jaw, points[FOREHEAD] - up]))]
        case "no_forehead":
            return [_hull(np.concatenate([jaw, brows]))]
        case "brows_up":
            return [_hull(np.concatenate([jaw, brows - up]))]
        case "components":
            return [_hull(points[part]) for part in ([*BROWS[0], *EYES[0]], [*BROWS[1], *EYES[1]], NOSE, MOUTH)]
        case "lower_face":
            return [_hull(np.concatenate([jaw[3:-3], points[[98, 327, 2]]]))]
        case "eye_band":
            return [_hull(np.concatenate([brows - 0.4 * up, points[EYES[0] + EYES[1]], points[[50, 280]]]))]
        case "superellipse":
            box = np.concatenate([jaw, points[FOREHEAD]])
            centre, half = (box.max(0) + box.min(0)) / 2, (box.max(0) - box.min(0)) / 2 * (0.85 + recipe.raise_forehead)
            angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
            ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
            return [(centre + half * np.sign(ring) * np.abs(ring) ** (2 / recipe.exponent)).astype(np.float32)]


def _hull(points: Points) -> Points:
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], dtype=np.float32)


def _wobbled(recipe: MaskRecipe, outline: Points) -> Points:
    """Add smooth noise along the outline, so that no two hulls of one family are alike."""
    phase = np.linspace(0, 2 * np.pi, len(outline), endpoint=False, dtype=np.float32)
    waves = np.stack([wave(k * phase) / k for k in (1, 2, 3, 5) for wave in (np.sin, np.cos)])
    return outline + (recipe.wobble @ waves).T.astype(np.float32)
