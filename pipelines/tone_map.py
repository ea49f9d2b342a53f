"""HDR becomes SDR: R'G'B' codes of one PQ or HLG picture in, the uint8 picture an SDR viewer would see out. Asked by `pictures.py`.

The steps, and where their numbers come from:

1. Code to light on the display. PQ: Rec. ITU-R BT.2100 table 4 (as SMPTE ST 2084 section 5), absolute. HLG: table 5 (OETF as ARIB STD-B67),
   on its nominal display of 1000 cd/m2 with gamma 1.2 and no black lift. From here on 1 is HDR reference white, 203 cd/m2
   (Report ITU-R BT.2408 section 2.1): 75 % of HLG, 58 % of PQ.
2. BT.2020 primaries to BT.709: the inverse of matrix M2 of Rec. ITU-R BT.2087. What BT.709 cannot show is clipped.
3. Highlights: a pixel is scaled as a whole, by what its largest component asks for (maxRGB), so that hue stays. The curve is the extended
   one of Reinhard et al. (Photographic tone reproduction for digital images, 2002, equation 4), put on top of a straight line.
4. Light to code: the inverse of Rec. ITU-R BT.1886, gamma 2.4, black at 0.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image

Transfer = Literal["pq", "hlg"]
Float = NDArray[np.float32]

REFERENCE_WHITE: Final = 203.0  # cd/m2
# The brightest display each transfer speaks of, in reference whites: what becomes SDR's 255.
PEAK: Final[dict[Transfer, float]] = {"pq": 10_000.0 / REFERENCE_WHITE, "hlg": 1000.0 / REFERENCE_WHITE}
# Below it nothing is compressed. Fair skin reflects about half of what white paper does, so faces keep the tones of SDR video, on which the
# encoder was trained; reference white comes to 0.75 (code 226 or 227), and the rest is left to highlights.
KNEE: Final = 0.5
HLG_GAMMA: Final = 1.2
SDR_GAMMA: Final = 2.4
LUMA_2020: Final = (0.2627, 0.6780, 0.0593)
LUMA_709: Final = (0.2126, 0.7152, 0.0722)
FROM_709_TO_2020: Final = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
CODES: Final = 1 << 16


def tone_map(rgb16: NDArray[np.uint16], transfer: Transfer, *, wide_gamut: bool) -> Image:
    """SDR R'G'B' of `rgb16`, same height and width, BT.709 primaries, shown as intended at gamma 2.4; about 10 ms for 1280x720 on one core.

    Args:
        rgb16: full-range R'G'B', native uint16, shape (H, W, 3) with H, W >= 1.
        transfer: what the codes mean.
        wide_gamut: the primaries are BT.2020's; else they are taken for BT.709's.

    Raises:
        ValueError: another dtype, shape or transfer.
    """
    if rgb16.dtype != np.uint16:
        raise ValueError(f"rgb16: expected dtype uint16, got {rgb16.dtype}")
    if rgb16.ndim != 3 or rgb16.shape[2] != 3 or rgb16.size == 0:
        raise ValueError(f"rgb16: expected shape (H, W, 3) with H, W >= 1, got {rgb16.shape}")
    if transfer not in PEAK:
        raise ValueError(f"transfer: expected one of {', '.join(PEAK)}, got {transfer!r}")
    light = _floats(cv2.LUT(np.ascontiguousarray(rgb16), _light(transfer)))
    planes = [_floats(plane) for plane in cv2.split(cv2.transform(light, _to_709()) if wide_gamut else light)]
    if transfer == "hlg":
        # The OOTF: one factor a pixel, so it may come after the matrix.
        luma = np.array([LUMA_2020 if wide_gamut else LUMA_709], dtype=np.float32)
        gain = _floats(cv2.pow(cv2.transform(light, luma), HLG_GAMMA - 1.0))
        planes = [plane * gain for plane in planes]
    gain = _highlight_gain(np.maximum.reduce(planes), PEAK[transfer])
    roots = cv2.merge([_root_code(plane * gain) for plane in planes])
    return np.asarray(cv2.LUT(roots, _sdr_code()), dtype=np.uint8)


def _highlight_gain(largest: Float, peak: float) -> Float:
    """What to multiply a pixel by: 1 up to the knee, 1 / peak at the peak. Not a table: its steps would not be monotone."""
    room = 1.0 - KNEE
    over = np.maximum(largest - KNEE, 0.0) / room
    white = (peak - KNEE) / room
    mapped = KNEE + room * over * (1.0 + over / white**2) / (1.0 + over)
    return np.asarray(np.where(largest > KNEE, mapped / np.maximum(largest, KNEE), 1.0), dtype=np.float32)


def _root_code(light: Float) -> NDArray[np.uint16]:
    """Index into `_sdr_code`, clipped. The square root gives the dark half of the codes enough of the 65536 steps."""
    return np.asarray(np.rint(np.sqrt(np.clip(light, 0.0, 1.0)) * (CODES - 1)), dtype=np.uint16)


@cache
def _light(transfer: Transfer) -> Float:
    """Linear light of every code, (1, 65536): on the display, in reference whites, for PQ; before the OOTF for HLG."""
    code = np.arange(CODES) / (CODES - 1)
    if transfer == "pq":
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = code ** (1 / m2)
        share = (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a = 0.17883277
        b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
        share = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        share *= PEAK["hlg"] ** (1 / HLG_GAMMA - 1)  # the OOTF raises the peak's factor to its gamma, too
    return (PEAK[transfer] * share).astype(np.float32)[None]


@cache
def _to_709() -> Float:
    return np.linalg.inv(np.array(FROM_709_TO_2020)).astype(np.float32)


@cache
def _sdr_code() -> Image:
    """uint8 (1, 65536): the SDR code of a square root of light."""
    light = (np.arange(CODES) / (CODES - 1)) ** 2
    return np.rint(255 * light ** (1 / SDR_GAMMA)).astype(np.uint8)[None]


def _floats(image: cv2.typing.MatLike) -> Float:
    """For mypy: OpenCV's stubs leave open what comes back."""
    return np.asarray(image, dtype=np.float32)
