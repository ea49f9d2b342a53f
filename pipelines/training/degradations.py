"""What ordinary video suffers: clips in, the same clips worn out. The real and the fake of a pair always get the same draw.

A degradation that only fakes get becomes the detector: whoever compresses a real video is accused. So a `Wear` is drawn once for both,
noise included. Video codecs run over whole clips through `reencode`, so that their errors travel through time as they do in real files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.reencode import reencode

HEAVY_SHARE: Final = 0.4


@dataclass(frozen=True, slots=True)
class Wear:
    """One draw of everything that may happen to a clip after it was composited."""

    flip: bool
    brightness: float
    contrast: float
    tint: tuple[float, float, float]
    grey: bool
    resize: float
    blur: float
    noise: float
    jpeg: int
    codec: tuple[str, int] | None
    """Codec and its quality parameter, for clips and mosaics."""
    angle: float
    zoom: float
    move: tuple[float, float]
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, *, heavy_share: float = HEAVY_SHARE) -> Wear:
        heavy = rng.random() < heavy_share
        codec: tuple[str, int] | None = None
        if heavy and rng.random() < 0.6:
            codec = [("libx264", int(rng.integers(18, 38))), ("mpeg4", int(rng.integers(3, 12))), ("libvpx", int(rng.integers(20, 50)))][
                int(rng.choice(3, p=[0.75, 0.15, 0.1]))
            ]
        return cls(
            flip=bool(rng.random() < 0.5),
            brightness=float(rng.uniform(-18, 18)),
            contrast=float(np.exp(rng.uniform(-0.2, 0.2))),
            tint=tuple(float(v) for v in 1 + rng.uniform(-0.06, 0.06, 3)),  # type: ignore[arg-type]  # a generator has no length
            grey=bool(rng.random() < 0.08),
            resize=float(rng.uniform(1.2, 2.2)) if heavy and rng.random() < 0.4 else 1.0,
            blur=float(rng.uniform(0.3, 1.1)) if heavy and rng.random() < 0.3 else 0.0,
            noise=float(rng.uniform(1, 6)) if heavy and rng.random() < 0.3 else 0.0,
            jpeg=int(rng.integers(35, 92)) if rng.random() < (0.5 if heavy else 0.25) else 0,
            codec=codec,
            angle=float(rng.normal(0, 0.035)),
            zoom=float(np.exp(rng.normal(0, 0.03))),
            move=(float(rng.normal(0, 1.6)), float(rng.normal(0, 1.6))),
            seed=int(rng.integers(2**31)),
        )

    def geometry(self, size: int, crop_px: int) -> NDArray[np.float64]:
        """The (2, 3) matrix from a `size` px portrait to the `crop_px` network crop: MTCNN's jitter and the flip."""
        c, s = np.cos(self.angle) * self.zoom, np.sin(self.angle) * self.zoom
        mirror = -1.0 if self.flip else 1.0
        matrix = np.array([[mirror * c, -mirror * s, 0.0], [s, c, 0.0]])
        old, new = np.full(2, (size - 1) / 2), np.full(2, (crop_px - 1) / 2) + np.array(self.move)
        matrix[:, 2] = new - matrix[:, :2] @ old
        return matrix

    def look(self, image: Image, *, step: int = 0) -> Image:
        """Light, camera and single-picture compression of one crop; `step` varies the noise along a clip."""
        x = image.astype(np.float32)
        if self.grey:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        x = (x - 128) * self.contrast + 128 + self.brightness
        x *= np.array(self.tint, dtype=np.float32)
        if self.resize > 1:
            small = cv2.resize(x, None, fx=1 / self.resize, fy=1 / self.resize, interpolation=cv2.INTER_AREA)
            x = np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)
        if self.blur > 0:
            x = np.asarray(cv2.GaussianBlur(x, (0, 0), self.blur), dtype=np.float32)
        if self.noise > 0:
            x = x + np.random.default_rng(self.seed + step).normal(0, self.noise, (*x.shape[:2], 1)).astype(np.float32)
        worn = np.round(np.clip(x, 0, 255)).astype(np.uint8)
        if self.jpeg:
            worn = through_jpeg(worn, self.jpeg)
        return worn

    def clip(self, crops: Image, t: NDArray[np.float64], crop_px: int) -> Image:
        """A whole clip (T, S, S, 3) -> (T, crop_px, crop_px, 3): geometry, look and codec."""
        matrix = self.geometry(crops.shape[1], crop_px)
        worn = np.stack([self.look(warp_crop(crop, matrix, crop_px), step=i) for i, crop in enumerate(crops)])
        return reencode(worn, t, *self.codec) if self.codec else worn


def through_jpeg(image: Image, quality: int) -> Image:
    """An RGB picture after JPEG; the channels are taken for BGR both ways, which costs the chroma a little and the test nothing."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR), dtype=np.uint8)


def warp_mask(mask: NDArray[np.float32], matrix: NDArray[np.float64], crop_px: int) -> NDArray[np.float32]:
    """Take a mask (S, S) along with its crop."""
    return np.asarray(cv2.warpAffine(mask, matrix, (crop_px, crop_px), flags=cv2.INTER_LINEAR), dtype=np.float32)


def warp_crop(crop: Image, matrix: NDArray[np.float64], crop_px: int) -> Image:
    """Take a crop (S, S, 3) to network size."""
    return np.asarray(
        cv2.warpAffine(crop, matrix, (crop_px, crop_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), dtype=np.uint8
    )
