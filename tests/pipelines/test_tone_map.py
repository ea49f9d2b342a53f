"""HDR to SDR: the standards' own points come out where they should, and faces keep the tones that SDR gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.frames import read_frames
from pipelines.tone_map import FROM_709_TO_2020, LUMA_2020, Transfer, tone_map

Codes = NDArray[np.uint16]
Floats = NDArray[np.float64]
TRANSFERS: tuple[Transfer, ...] = ("pq", "hlg")
H273 = {"pq": 16, "hlg": 18}
BT2020 = 9
# Linear BT.709 reflectances: fair, medium and dark skin. The highlight on fair skin is nearly as bright as white paper.
SKIN = {"fair": (0.60, 0.40, 0.31), "medium": (0.36, 0.20, 0.13), "dark": (0.10, 0.050, 0.033), "highlight": (0.90, 0.78, 0.70)}


def _pq(nits: Floats) -> Floats:
    """Rec. ITU-R BT.2100 table 4, the inverse EOTF, with its constants as decimals."""
    power = (nits / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _hlg(scene: Floats) -> Floats:
    """Rec. ITU-R BT.2100 table 5, the OETF, of shares of the scene's peak."""
    log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)


def _scene(nits: Floats) -> Floats:
    """What the OOTF of table 5 makes into `nits`, (..., 3), on a display of 1000 cd/m2."""
    luminance = (nits / 1000 @ np.array(LUMA_2020))[..., None]
    return np.asarray(nits / 1000 * np.where(luminance > 0, luminance, 1.0) ** (1 / 1.2 - 1))


def _coded(nits: Floats, transfer: Transfer) -> Codes:
    signal = _pq(nits) if transfer == "pq" else _hlg(_scene(nits))
    assert signal.max() < 1.001, "this transfer cannot say so much light"
    return np.asarray(np.rint(np.minimum(signal, 1.0) * 65535), dtype=np.uint16)


def _grey(nits: float, transfer: Transfer) -> int:
    """The SDR code of a grey of so many cd/m2."""
    picture = tone_map(_coded(np.full((1, 1, 3), nits), transfer), transfer, wide_gamut=True)
    assert np.ptp(picture) == 0
    return int(picture[0, 0, 0])


def _ramp() -> Codes:
    """Every grey there is."""
    return np.repeat(np.arange(65536, dtype=np.uint16).reshape(256, 256, 1), 3, axis=2)


@pytest.mark.parametrize(
    ("transfer", "signal", "nits"),
    # Report ITU-R BT.2408 table 1: reference white is 58 % of PQ and 75 % of HLG; 1000 cd/m2 are 75 % and 100 %; 18 % grey is 38 % of both.
    [("pq", 0.58, 203.0), ("pq", 0.75, 1000.0), ("pq", 0.38, 26.0), ("hlg", 0.75, 203.0), ("hlg", 1.0, 1000.0), ("hlg", 0.38, 26.0)],
)
def test_the_signal_levels_of_the_standard_mean_their_light(transfer: Transfer, signal: float, nits: float) -> None:
    code = np.full((1, 1, 3), round(signal * 65535), dtype=np.uint16)
    assert int(tone_map(code, transfer, wide_gamut=True)[0, 0, 0]) == pytest.approx(_grey(nits, transfer), abs=2)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_light_below_the_knee_is_what_an_sdr_display_shows(transfer: Transfer) -> None:
    """An SDR display, by BT.1886, gives back the share of reference white that went in."""
    for nits in (1.0, 5.0, 20.0, 50.0, 100.0):
        assert _grey(nits, transfer) == pytest.approx(255 * (nits / 203) ** (1 / 2.4), abs=1)


def test_both_transfers_show_the_same_light_alike() -> None:
    for nits in (0.5, 10.0, 80.0, 150.0, 203.0):
        assert abs(_grey(nits, "pq") - _grey(nits, "hlg")) <= 2


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_black_is_black_and_reference_white_leaves_room(transfer: Transfer) -> None:
    assert _grey(0.0, transfer) == 0
    assert 215 <= _grey(203.0, transfer) <= 240
    assert _grey(203.0, transfer) + 10 <= _grey(600.0, transfer) < 255
    assert tone_map(np.full((1, 1, 3), 65535, dtype=np.uint16), transfer, wide_gamut=True).min() == 255


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_every_grey_stays_grey_and_in_order(transfer: Transfer, wide: bool) -> None:
    greys = tone_map(_ramp(), transfer, wide_gamut=wide).reshape(-1, 3).astype(np.int64)
    assert np.ptp(greys, axis=1).max() <= 1
    assert np.diff(greys, axis=0).min() >= 0
    assert np.unique(greys[:, 1]).size == 256


@given(
    codes=st.lists(st.integers(0, 65535), min_size=3, max_size=3),
    more=st.floats(1.0, 4.0),
    transfer=st.sampled_from(TRANSFERS),
    wide=st.booleans(),
)
def test_more_light_of_one_colour_is_never_darker(codes: list[int], more: float, transfer: Transfer, wide: bool) -> None:
    """The same pixel under a stronger lamp: every component stays or rises, but for one code of rounding."""
    light = np.array(codes, dtype=np.float64)[None, None] / 65535
    encode = (lambda share: _pq(10_000 * share)) if transfer == "pq" else _hlg
    before, after = (
        tone_map(np.rint(encode(share) * 65535).astype(np.uint16), transfer, wide_gamut=wide).astype(int) for share in (light / more, light)
    )
    assert (after - before).min() >= -1


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    transfer=st.sampled_from(TRANSFERS),
    wide=st.booleans(),
)
def test_any_picture_keeps_its_shape_and_pixels_do_not_touch(height: int, width: int, seed: int, transfer: Transfer, wide: bool) -> None:
    rgb16 = np.random.default_rng(seed).integers(0, 65536, (height, width, 3), dtype=np.uint16)
    given_codes = rgb16.copy()
    picture = tone_map(rgb16, transfer, wide_gamut=wide)
    assert picture.dtype == np.uint8
    assert picture.shape == (height, width, 3)
    assert np.array_equal(rgb16, given_codes)
    assert np.array_equal(tone_map(rgb16[::-1, ::-1], transfer, wide_gamut=wide), picture[::-1, ::-1])
    assert np.array_equal(tone_map(rgb16[:1, :1], transfer, wide_gamut=wide), picture[:1, :1])


@pytest.mark.parametrize("exposure", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("skin", SKIN)
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_skin_is_not_clipped_and_keeps_its_colour(transfer: Transfer, skin: str, exposure: float) -> None:
    reflected = np.array(SKIN[skin]) * exposure
    nits = (203 * np.array(FROM_709_TO_2020) @ reflected)[None, None]
    picture = tone_map(_coded(nits, transfer), transfer, wide_gamut=True)[0, 0].astype(np.float64)
    assert picture.min() > 10
    assert picture.max() < 235
    light = (picture / 255) ** 2.4
    assert light / light[0] == pytest.approx(reflected / reflected[0], rel=0.05)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_primaries_are_converted_only_when_they_are_wide(transfer: Transfer) -> None:
    red = _coded((100 * np.array(FROM_709_TO_2020) @ np.array([1.0, 0.0, 0.0]))[None, None], transfer)
    converted = tone_map(red, transfer, wide_gamut=True)[0, 0]
    assert converted[0] > 150
    assert converted[1:].max() < 20  # 8 bits of the matrix's four decimals
    assert tone_map(red, transfer, wide_gamut=False)[0, 0, 1] > 50


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)])
def test_what_lies_outside_the_gamut_is_clipped_to_a_colour_beside_it(transfer: Transfer, colour: tuple[int, int, int]) -> None:
    picture = tone_map(np.array([[colour]], dtype=np.uint16) * np.uint16(65535), transfer, wide_gamut=True)[0, 0]
    assert picture[np.array(colour) == 1].min() > 150
    assert picture[np.array(colour) == 0].max() < 150


@pytest.mark.parametrize(
    ("rgb16", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), "expected dtype uint16, got uint8"),
        (np.zeros((4, 4, 3), np.float32), "expected dtype uint16, got float32"),
        (np.zeros((4, 4, 3), ">u2"), "expected dtype uint16, got >u2"),
        (np.zeros((4, 4), np.uint16), r"expected shape \(H, W, 3\) .* got \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint16), r"expected shape \(H, W, 3\) .* got \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint16), r"H, W >= 1, got \(0, 4, 3\)"),
    ],
)
def test_what_is_no_16_bit_picture_is_refused(rgb16: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tone_map(rgb16, "pq", wide_gamut=True)


def test_an_unknown_transfer_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of pq, hlg, got 'srgb'"):
        tone_map(np.zeros((1, 1, 3), np.uint16), "srgb", wide_gamut=True)  # type: ignore[arg-type]  # what is tested


def _patches() -> Floats:
    """Sixty-four R'G'B' colours, (8, 8, 3) of 0 to 1."""
    levels = np.array([0.0, 0.25, 0.5, 0.7])
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(8, 8, 3)


def _picture(codes: Floats, transfer: Transfer, *, matrix: int = BT2020) -> VideoFrame:
    """`codes`, R'G'B' of 0 to 1, as ten-bit 4:2:0 by the BT.2020 matrix, narrow range; tagged so, or with another `matrix`."""
    red, blue = codes[..., 0], codes[..., 2]
    luma = codes @ np.array(LUMA_2020)
    y = np.rint(876 * luma + 64)
    cb, cr = (np.rint(896 * chroma + 512)[::2, ::2] for chroma in ((blue - luma) / 1.8814, (red - luma) / 1.4746))
    picture = VideoFrame(codes.shape[1], codes.shape[0], "yuv420p10le")
    for plane, samples in zip(picture.planes, (y, cb, cr), strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), dtype="<u2")
        rows[:, : plane.width] = samples
        plane.update(rows.tobytes())
    picture.colorspace, picture.color_trc, picture.color_primaries, picture.color_range = matrix, H273[transfer], BT2020, 1
    return picture


def _hdr_clip(path: Path, codes: Floats, transfer: Transfer) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = codes.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries, context.color_range = BT2020, H273[transfer], BT2020, 1
        for i in range(3):
            picture = _picture(codes, transfer)
            picture.pts = i
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_colours_of_an_hdr_file_come_out_of_the_hall(tmp_path: Path, transfer: Transfer) -> None:
    exact = tone_map(np.rint(_patches() * 65535).astype(np.uint16), transfer, wide_gamut=True).astype(int)
    path = _hdr_clip(tmp_path / "hdr.mp4", _patches().repeat(16, axis=0).repeat(16, axis=1), transfer)
    with read_frames(path, hz=None) as frames:
        images = [frame.image for frame in frames]
        warned = {warning.code for warning in frames.warnings}
    assert len(images) == 3
    assert "hdr_tonemapped" in warned
    for image in images:
        # swscale loses up to 0.4 % of the code, which PQ makes more of than a gamma would.
        assert np.abs(image[8::16, 8::16].astype(int) - exact).max() <= 8


@pytest.mark.parametrize("width", [64, 63])
@pytest.mark.parametrize("matrix", [BT2020, 2, 10])
def test_swscale_gives_full_range_codes_whatever_the_tag_and_width(matrix: int, width: int) -> None:
    """FFmpeg 8: rgb48le is wrong for odd widths; where no source matrix is named, tag 10 is refused and 2 is read as BT.601."""
    codes = _patches().repeat(8, axis=0).repeat(8, axis=1)[:, :width]
    picture = _picture(codes, "pq", matrix=matrix)
    deep = VideoReformatter().reformat(picture, format="gbrp16le", src_colorspace=Colorspace.BT2020, threads=1).to_ndarray()
    assert deep.dtype == np.uint16
    assert deep.shape == codes.shape
    assert np.abs(deep[4::8, 4::8] / 65535 - codes[4::8, 4::8]).max() < 0.006
