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

from pipelines.faces import CROP_PX
from pipelines.media import Image
from pipelines.training.fields import one_noise
from pipelines.training.reencode import reencode

HEAVY_SHARE: Final = 0.5
CODECS: Final = (("libx264", 18, 42), ("mpeg4", 3, 14), ("libvpx", 20, 52))
CODEC_SHARES: Final = (0.76, 0.12, 0.12)


@dataclass(frozen=True, slots=True)
class Distractor:
    """A patch of the same picture laid over a place that is not the face: an inset, a logo, a lock of hair. Real video has seams too."""

    centre: tuple[float, float]
    half: tuple[float, float]
    offset: tuple[float, float]
    gain: tuple[float, float, float]
    softness: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Distractor:
        angle = rng.uniform(0, 2 * np.pi)
        return cls(
            centre=(0.5 + 0.46 * float(np.cos(angle)), 0.5 + 0.52 * float(np.sin(angle))),
            half=(float(rng.uniform(0.04, 0.16)), float(rng.uniform(0.04, 0.16))),
            offset=(float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.3, 0.3))),
            gain=tuple(float(v) for v in 1 + rng.uniform(-0.25, 0.25, 3)),  # type: ignore[arg-type]  # a generator has no length
            softness=float(rng.uniform(0.5, 4)),
        )

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay it over a float32 picture (S, S, 3)."""
        size = x.shape[0]
        shift = np.array([[1, 0, self.offset[0] * size], [0, 1, self.offset[1] * size]], dtype=np.float64)
        patch = cv2.warpAffine(x, shift, (size, size), borderMode=cv2.BORDER_REFLECT) * np.array(self.gain, dtype=np.float32)
        soft = cv2.GaussianBlur(self.hard(size), (0, 0), self.softness)[..., None]
        return np.asarray(x + (patch - x) * soft, dtype=np.float32)

    def hard(self, size: int) -> NDArray[np.float32]:
        """Where it lies (S, S), 0 or 1, before its rim is softened."""
        mask = np.zeros((size, size), dtype=np.float32)
        (cx, cy), (hx, hy) = self.centre, self.half
        cv2.ellipse(mask, ((cx * size, cy * size), (2 * hx * size, 2 * hy * size), 0.0), 1.0, -1)
        return mask


@dataclass(frozen=True, slots=True)
class Wear:
    """One draw of everything that may happen to a clip after it was composited."""

    flip: bool
    brightness: float
    contrast: float
    tint: tuple[float, float, float]
    grey: bool
    capture: float
    """How many times smaller the face was when it was compressed; the crop function enlarges it again afterwards."""
    blur: float
    noise: float
    jpeg: int
    codec: tuple[str, int] | None
    """Codec and its quality parameter."""
    shake: float
    """Pixels a still moves from picture to picture before the codec, so that it has something to predict."""
    distractor: Distractor | None
    angle: float
    zoom: float
    move: tuple[float, float]
    seed: int

    @classmethod
    def neutral(cls) -> Wear:
        """Nothing happens: to change one thing and know what it did, `replace(Wear.neutral(), codec=("libx264", 35))`."""
        return cls(
            flip=False,
            brightness=0.0,
            contrast=1.0,
            tint=(1.0, 1.0, 1.0),
            grey=False,
            capture=1.0,
            blur=0.0,
            noise=0.0,
            jpeg=0,
            codec=None,
            shake=0.0,
            distractor=None,
            angle=0.0,
            zoom=1.0,
            move=(0.0, 0.0),
            seed=0,
        )

    @classmethod
    def draw(cls, rng: np.random.Generator, *, heavy_share: float = HEAVY_SHARE) -> Wear:
        heavy = rng.random() < heavy_share
        codec: tuple[str, int] | None = None
        if rng.random() < (0.75 if heavy else 0.25):
            name, best, worst = CODECS[int(rng.choice(len(CODECS), p=CODEC_SHARES))]
            codec = (name, int(rng.integers(best, worst if heavy else (best + worst) // 2)))
        return cls(
            flip=bool(rng.random() < 0.5),
            brightness=float(rng.uniform(-18, 18)),
            contrast=float(np.exp(rng.uniform(-0.2, 0.2))),
            tint=tuple(float(v) for v in 1 + rng.uniform(-0.06, 0.06, 3)),  # type: ignore[arg-type]  # a generator has no length
            grey=bool(rng.random() < 0.08),
            capture=float(rng.uniform(1.1, 2.1)) if rng.random() < (0.6 if heavy else 0.25) else 1.0,
            blur=float(rng.uniform(0.3, 1.3)) if heavy and rng.random() < 0.3 else 0.0,
            noise=float(rng.uniform(1, 6)) if rng.random() < (0.3 if heavy else 0.1) else 0.0,
            jpeg=int(rng.integers(35, 92)) if rng.random() < (0.3 if heavy else 0.2) else 0,
            codec=codec,
            shake=float(rng.uniform(0, 1.5)),
            distractor=Distractor.draw(rng) if rng.random() < 0.1 else None,
            angle=float(rng.normal(0, 0.035)),
            zoom=float(np.exp(rng.normal(0, 0.03))),
            move=(float(rng.normal(0, 1.6)), float(rng.normal(0, 1.6))),
            seed=int(rng.integers(2**31)),
        )

    def geometry(self, size: int, crop_px: int) -> NDArray[np.float64]:
        """The (2, 3) matrix from a `size` px portrait to the `crop_px` network crop: MTCNN's jitter and the flip."""
        scale = crop_px / CROP_PX
        c, s = np.cos(self.angle) * self.zoom * scale, np.sin(self.angle) * self.zoom * scale
        mirror = -1.0 if self.flip else 1.0
        matrix = np.array([[mirror * c, -mirror * s, 0.0], [s, c, 0.0]])
        old, new = np.full(2, (size - 1) / 2), np.full(2, (crop_px - 1) / 2) + np.array(self.move) * scale
        matrix[:, 2] = new - matrix[:, :2] @ old
        return matrix

    def look(self, image: Image, *, step: int = 0) -> Image:
        """What happens before the codec to one crop: light, camera, size. `step` varies the noise along a clip."""
        x = image.astype(np.float32)
        if self.distractor is not None:
            x = self.distractor.apply(x)
        if self.grey:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        x = (x - 128) * self.contrast + 128 + self.brightness
        x *= np.array(self.tint, dtype=np.float32)
        if self.blur > 0:
            x = np.asarray(cv2.GaussianBlur(x, (0, 0), self.blur), dtype=np.float32)
        if self.capture > 1:
            side = self.captured_px(image.shape[0])
            x = np.asarray(cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)
        if self.noise > 0:
            x = x + self.noise * one_noise(self.seed + step, x.shape[0])
        worn = np.round(np.clip(x, 0, 255)).astype(np.uint8)
        return through_jpeg(worn, self.jpeg) if self.jpeg else worn

    def still(self, images: list[Image], strip: Strip) -> list[Image]:
        """Crops (S, S, 3) of one size, through one codec where the wear has one."""
        size = images[0].shape[0]
        tiles = [self.look(image) for image in images]
        return [enlarged(tile, size) for tile in (tiles if self.codec is None else strip.coded(tiles, self.codec))]

    def clip(self, crops: Image, t: NDArray[np.float64], crop_px: int) -> Image:
        """A whole clip (T, S, S, 3) -> (T, crop_px, crop_px, 3): geometry, look and codec."""
        matrix = self.geometry(crops.shape[1], crop_px)
        worn = np.stack([self.look(warp_crop(crop, matrix, crop_px), step=i) for i, crop in enumerate(crops)])
        if self.codec is not None:
            worn = reencode(worn, t, *self.codec)
        return np.stack([enlarged(picture, crop_px) for picture in worn])

    def captured_px(self, size: int) -> int:
        """Side of a crop of `size` px while it is compressed; even, as codecs want it."""
        return max(32, round(size / self.capture / 2) * 2) if self.capture > 1 else size


@dataclass(frozen=True, slots=True)
class Strip:
    """How crops lie side by side before a codec, and how the strip shook before it: one codec state for both classes of a pair."""

    order: tuple[int, ...]
    """Drawn, so that no place in the strip tells the classes apart."""
    shifts: tuple[tuple[float, float], ...]
    """Pixels that the pictures before the last one lie away from it."""

    @classmethod
    def draw(cls, rng: np.random.Generator, tiles: int, *, shake: float) -> Strip:
        """Draw the places of so many tiles, and up to three pictures for the codec to predict from."""
        order = tuple(int(i) for i in rng.permutation(tiles))
        return cls(order, tuple((rng.normal(0, shake), rng.normal(0, shake)) for _ in range(int(rng.integers(0, 4)))))

    def coded(self, tiles: list[Image], codec: tuple[str, int]) -> list[Image]:
        """Tiles (k, k, 3) as the last picture of the strip comes back from a codec and its quality."""
        strip = []
        for x, y in self.shifts:
            shift = np.array([[1, 0, x], [0, 1, y]])
            moved = [cv2.warpAffine(tiles[i], shift, tiles[i].shape[1::-1], borderMode=cv2.BORDER_REFLECT) for i in self.order]
            strip.append(np.concatenate(moved, axis=1))
        strip.append(np.concatenate([tiles[i] for i in self.order], axis=1))
        worn = reencode(np.stack(strip), np.arange(len(strip)) / 25.0, *codec)[-1]
        parts = np.split(worn, len(tiles), axis=1)
        return [parts[self.order.index(i)] for i in range(len(tiles))]


def enlarged(image: Image, size: int) -> Image:
    """What the crop function does to a face that is smaller than its crop."""
    if image.shape[0] == size:
        return np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


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
