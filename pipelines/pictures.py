"""From a decoded picture to pixels that a model may see: PyAV's VideoFrame in, uint8 RGB out. Asked by `frames.py` for wanted ones."""

from __future__ import annotations

import re
from typing import Final

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipelines.image_pool import Pool
from pipelines.media import Image
from pipelines.tone_map import Transfer, tone_map

HDR_TRANSFERS: Final[dict[int, Transfer]] = {16: "pq", 18: "hlg"}  # ITU-T H.273 table 3
BT2020_PRIMARIES: Final = 9  # ITU-T H.273 table 2
UNSPECIFIED: Final = 2  # ITU-T H.273 table 4, as the next line
KNOWN_MATRICES: Final = frozenset({0, 1, UNSPECIFIED, 4, 5, 6, 7, 9})
# A decoder fills what it never got with zeros; as chroma, zero is a green outside every camera's gamut.
GREEN_SHARE: Final = 0.02
GREEN_STRIDE: Final = 8
PLANAR_YUV: Final = re.compile(r"yuvj?4(?:20|22|44)p(?P<deep>1[0-6]le)?")
TURNS: Final = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


class Converter:
    """Converts the pictures of one source; keyed on nothing, since size and format may change from one picture to the next."""

    def __init__(self, pool: Pool, *, bottom_first: bool) -> None:
        self._reformatter, self._pool = VideoReformatter(), pool
        self._first_row = int(bottom_first)
        self.repairs: set[str] = set()
        """What was done beside plain conversion: hdr_tonemapped, alpha_flattened, colours_assumed, interlaced."""

    def rgb(self, picture: VideoFrame) -> Image:
        """uint8 (H, W, 3): tone-mapped, over black, one field, turned as the container asks; PyAV itself does none of these."""
        image = self._pixels(picture)
        if picture.interlaced_frame:
            # The two fields were filmed at two times. One of them is one moment, which is what the stamp speaks of.
            self.repairs.add("interlaced")
            image = np.asarray(
                cv2.resize(image[self._first_row :: 2], (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR), dtype=np.uint8
            )
        turn = TURNS.get(round(picture.rotation / 90) % 4)
        return image if turn is None else np.asarray(cv2.rotate(image, turn), dtype=np.uint8)

    def _pixels(self, picture: VideoFrame) -> Image:
        transfer = HDR_TRANSFERS.get(int(picture.color_trc))
        if transfer is not None:
            self.repairs.add("hdr_tonemapped")
            # Planar: swscale gets packed 16-bit RGB wrong where the width is odd (measured).
            deep = self._reformat(picture, "gbrp16le", assumed=Colorspace.BT2020).to_ndarray()
            return tone_map(np.asarray(deep, dtype=np.uint16), transfer, wide_gamut=int(picture.color_primaries) == BT2020_PRIMARIES)
        if any(component.is_alpha for component in picture.format.components):
            self.repairs.add("alpha_flattened")
            rgba = self._reformat(picture, "rgba").to_ndarray()
            return np.asarray(cv2.multiply(rgba[..., :3], cv2.merge([rgba[..., 3]] * 3), scale=1 / 255), dtype=np.uint8)
        plain = _plane(self._reformat(picture, "rgb24"), 0, samples=3)
        image = self._pool.take(picture.height, picture.width)
        np.copyto(image.reshape(plain.shape), plain)
        return image

    def _reformat(self, picture: VideoFrame, pixels: str, *, assumed: Colorspace = Colorspace.ITU709) -> VideoFrame:
        """Other pixels, same size. A matrix that swscale does not know makes it raise, so another is assumed, and said."""
        known = KNOWN_MATRICES if assumed is Colorspace.ITU709 else KNOWN_MATRICES - {UNSPECIFIED}
        strange = int(picture.colorspace) not in known
        if strange and int(picture.colorspace) != UNSPECIFIED:
            self.repairs.add("colours_assumed")
        return self._reformatter.reformat(picture, format=pixels, src_colorspace=assumed if strange else None, threads=1)


def is_partial(picture: VideoFrame) -> bool:
    """Whether more than 2 % of the picture was never filled by the decoder; looks at every eighth chroma sample both ways."""
    planar = PLANAR_YUV.fullmatch(picture.format.name)
    if planar is None:
        return False
    u, v = (_plane(picture, i, samples=2 if planar["deep"] else 1) for i in (1, 2))
    if planar["deep"]:
        u, v = u.view(np.uint16), v.view(np.uint16)
    u, v = u[::GREEN_STRIDE, ::GREEN_STRIDE], v[::GREEN_STRIDE, ::GREEN_STRIDE]
    return bool(np.count_nonzero((u | v) == 0) > GREEN_SHARE * u.size)


def _plane(picture: VideoFrame, i: int, *, samples: int = 1) -> NDArray[np.uint8]:
    """Rows of bytes of one plane, `samples` for each pixel, without the padding behind each row."""
    plane = picture.planes[i]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width * samples]
