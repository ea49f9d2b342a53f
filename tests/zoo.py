"""Awkward files, made while testing: VFR, wraps, jumps, damage, odd pictures. Builders return the path, and the true times if they matter.

`clips.py` makes what a well-behaved camera would. Pictures here are numbered, so that a test can say which one came out (`number_of`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import av
import cv2
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tests.clips import Image

WIDTH, HEIGHT = 160, 96
NUMBER_BITS = 10
TICK: Final = Fraction(1, 90_000)
MILLISECOND: Final = Fraction(1, 1000)
WRAP: Final = 1 << 33
QUICK: Final = {"preset": "ultrafast", "crf": "18"}
TS_PACKET = 188


class Specimen(NamedTuple):
    """A file, and when each of its pictures is really shown, in the order in which pictures are shown."""

    path: Path
    times: list[Fraction]
    """Seconds, exact: what the camera meant, before any container rounded it."""


class Container(NamedTuple):
    """How a container is asked for, so that it rounds as little as it can."""

    suffix: str
    codec: str
    base: Fraction
    options: Mapping[str, str] = {}


# An edit list counts in the movie's own ticks, milliseconds unless told otherwise; and only with delay_moov do fragments have one.
CONTAINERS: Final = {
    "mp4": Container("mp4", "libx264", TICK, {"movie_timescale": "90000"}),
    "fmp4": Container("mp4", "libx264", TICK, {"movie_timescale": "90000", "movflags": "frag_keyframe+delay_moov+default_base_moof"}),
    "mov": Container("mov", "libx264", TICK, {"movie_timescale": "90000"}),
    "mkv": Container("mkv", "libx264", MILLISECOND),
    "webm": Container("webm", "libvpx", MILLISECOND),
    "ts": Container("ts", "libx264", TICK),
}


# --- pictures


@cache
def _texture(width: int, height: int) -> Image:
    noise = np.random.default_rng(7).integers(60, 190, (height, 2 * width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), dtype=np.uint8)


def numbered(i: int, *, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """A texture that moves, so that every picture needs bits, under a bar that says `i` in black and white."""
    start = 3 * i % width
    picture = _texture(width, height)[:, start : start + width].copy()
    cell = width // NUMBER_BITS
    for bit in range(NUMBER_BITS):
        picture[: height // 6, bit * cell : (bit + 1) * cell] = 235 if i >> bit & 1 else 20
    return picture


def number_of(image: Image) -> int:
    """Which `numbered` picture this is, after whatever a codec did to it."""
    height, width = image.shape[:2]
    cell = width // NUMBER_BITS
    return sum(1 << bit for bit in range(NUMBER_BITS) if image[height // 12, bit * cell + cell // 2].mean() > 128)


def planes(y: NDArray[np.integer], u: NDArray[np.integer], v: NDArray[np.integer], pix_fmt: str) -> VideoFrame:
    """A picture of exactly these samples, planar and at most 16 bits each."""
    wide = any(digits in pix_fmt for digits in ("10le", "12le"))
    frame = VideoFrame(y.shape[1], y.shape[0], pix_fmt)
    for plane, samples in zip(frame.planes, (y, u, v), strict=True):
        line = np.zeros((samples.shape[0], plane.line_size // (2 if wide else 1)), dtype=np.uint16 if wide else np.uint8)
        line[:, : samples.shape[1]] = samples
        plane.update(line.tobytes())
    return frame


# --- encoding


def encode(
    path: Path,
    pictures: Iterable[Image | VideoFrame],
    ticks: Sequence[int],
    base: Fraction = TICK,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    kind: str | None = None,
    rotation: int = 0,
    tone_at: int | None = None,
) -> Path:
    """Encode `pictures` with exactly these presentation stamps; `kind` names the muxer where the suffix of `path` does not.

    `tone_at` puts a second of sound beside them, from that second on.
    """
    if options is None:
        options = QUICK if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8"} if codec.startswith("libvpx") else {}
    with av.open(str(path), "w", format=kind, options=dict(container or {})) as out:
        stream = out.add_stream(codec, rate=30, options=dict(options))
        assert isinstance(stream, VideoStream)
        sound = out.add_stream("aac", rate=44_100, layout="mono") if tone_at is not None else None
        for i, (picture, tick) in enumerate(zip(pictures, ticks, strict=True)):
            frame = picture if isinstance(picture, VideoFrame) else VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.time_base = base
                if rotation:
                    stream.set_display_rotation(rotation)
            frame.pts, frame.time_base = tick, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None and tone_at is not None:
            samples = (0.2 * np.sin(np.arange(44_100) / 20)).astype(np.float32)[None]
            audio = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            audio.sample_rate, audio.pts, audio.time_base = 44_100, 44_100 * tone_at, Fraction(1, 44_100)
            out.mux(sound.encode(audio))
            out.mux(sound.encode(None))
    return path


def steady(path: Path, frames: int = 60, **options: str) -> Path:
    """H.264, 25 a second, no B-frames, a key frame every 15, numbered from 0. `options` go to libx264, but for `width` and `height`."""
    return steady_from(path, frames, **options)


def steady_from(path: Path, frames: int, start_s: Fraction | int = 0, first: int = 0, /, **options: str) -> Path:
    """`steady` from another time and number on."""
    size = {"width": int(options.pop("width", WIDTH)), "height": int(options.pop("height", HEIGHT))}
    ticks = [round((start_s + Fraction(i, 25)) / TICK) for i in range(frames)]
    how = {**QUICK, "g": "15", "keyint_min": "15", "sc_threshold": "0"} | {k.replace("_", "-"): v for k, v in options.items()}
    return encode(path, (numbered(first + i, **size) for i in range(frames)), ticks, options=how)


def remux(source: Path, path: Path, edit: Callable[[int, Packet[VideoStream]], bool], container: Mapping[str, str] | None = None) -> Path:
    """Copy the coded pictures of `source`; `edit` is shown each with its number, may change it, and says whether to keep it."""
    with av.open(str(source)) as before, av.open(str(path), "w", options=dict(container or {})) as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        coded = (packet for packet in before.demux(before.streams.video[0]) if packet.size)
        for i, packet in enumerate(coded):
            if edit(i, packet):
                packet.stream = stream
                after.mux(packet)
    return path


# --- time: VFR


def _seconds(intervals: Iterable[float], start: float = 0.0) -> list[Fraction]:
    """Whole nanoseconds, on nobody's grid."""
    return [Fraction(round(t * 1e9), 10**9) for t in np.cumsum([start, *intervals])]


def _screen_recording() -> list[Fraction]:
    rng = np.random.default_rng(4)
    intervals = rng.choice([1 / 60, 1 / 30, 0.05, 0.12, 0.4, 0.7], p=[0.3, 0.35, 0.2, 0.09, 0.04, 0.02], size=79)
    return _seconds(intervals + rng.uniform(0, 0.002, 79))


def _phone() -> list[Fraction]:
    """A phone's rate follows the light: 24 to 60 frames a second."""
    i = np.arange(89)
    return _seconds(1 / (42 + 18 * np.sin(i / 9)))


def _half_dropped() -> list[Fraction]:
    kept = np.flatnonzero(np.random.default_rng(5).random(160) < 0.5)
    return [Fraction(int(i - kept[0]) * 1001, 30_000) for i in kept]


def _gaps() -> list[Fraction]:
    """25 a second with holes, the longest just below what a stream-like container may call one timeline."""
    return _seconds([{15: 1.2, 30: 4.4, 45: 9.95}.get(i, 0.04) for i in range(59)])


def _start_offset() -> list[Fraction]:
    return _seconds([0.04] * 39, start=5.012345678)


def _past_33_bits() -> list[Fraction]:
    """26.5 h after the clock was 0, half a second before 33 bits of 90 kHz are full: MPEG-TS starts again at 0, the others do not."""
    return _seconds([0.033, 0.047] * 20, start=float(WRAP * TICK) - 0.5)


PATTERNS: Final[dict[str, Callable[[], list[Fraction]]]] = {
    "screen": _screen_recording,
    "phone": _phone,
    "half_dropped": _half_dropped,
    "gaps": _gaps,
    "offset": _start_offset,
    "wrap": _past_33_bits,
}


def mux(folder: Path, pattern: str, container: str) -> Specimen:
    """One of PATTERNS in one of CONTAINERS."""
    return _mux(folder / f"{pattern}-{container}", PATTERNS[pattern](), container)


def b_frames(folder: Path, container: str) -> Specimen:
    """VFR, three B-frames between others: the order of decoding is not that of showing."""
    options = {"preset": "veryfast", "crf": "18", "bf": "3", "x264-params": "b-adapt=0"}
    return _mux(folder / f"b-{container}", _later(_phone()), container, options=options)


def hevc(folder: Path, container: str) -> Specimen:
    """VFR as H.265, whose encoder reorders too."""
    options = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=15:pools=1"}
    return _mux(folder / f"hevc-{container}", _later(_phone()), container, codec="libx265", options=options)


def with_sound(folder: Path, container: str) -> Specimen:
    """Video with sound beside it."""
    return _mux(folder / f"sound-{container}", _later(_phone()[:40]), container, tone_at=1)


def _later(times: list[Fraction]) -> list[Fraction]:
    """A second later: decoding starts before showing does, and MPEG-TS, which knows no time before 0, would move everything."""
    return [1 + t for t in times]


def _mux(
    stem: Path,
    times: list[Fraction],
    container: str,
    *,
    codec: str | None = None,
    options: Mapping[str, str] | None = None,
    tone_at: int | None = None,
) -> Specimen:
    how = CONTAINERS[container]
    ticks = [round(t / how.base) for t in times]
    assert all(b > a for a, b in pairwise(ticks))
    pictures = (numbered(i) for i in range(len(times)))
    path = stem.with_name(f"{stem.name}.{how.suffix}")
    encode(path, pictures, ticks, how.base, codec=codec or how.codec, options=options, container=how.options, tone_at=tone_at)
    return Specimen(path, times)


def avi(path: Path) -> Specimen:
    """VFR in a container that can only count: each time is put on a grid of 1/30 s."""
    times = [t for i, t in enumerate(_screen_recording()) if i % 3 == 0]
    grid = [round(30 * t) for t in times]
    return Specimen(
        encode(path, (numbered(i) for i in range(len(grid))), grid, Fraction(1, 30), codec="mpeg4", options={"qscale": "3"}), times
    )


# --- time: stamps that no muxer would write


def with_stamps(path: Path, stamps: Sequence[int | None], **options: str) -> Path:
    """Picture i of a steady H.264 stream under `stamps[i]` ticks of 1/90000 (mkv: rounded to ms), in any order; None (ts only) for none.

    `options` go to libx264. A ts is written honestly and its stamps overwritten; for the others the decoding stamps are made so small that
    every order is legal.
    """
    plain = steady(path.with_name(f"plain-{path.stem}.ts"), len(stamps), **options)
    if path.suffix == ".ts":
        return _restamped(plain, path, stamps)

    def restamp(i: int, packet: Packet[VideoStream]) -> bool:
        packet.time_base, packet.dts, packet.pts = TICK, i, stamps[i]
        return True

    return remux(plain, path, restamp, {"movie_timescale": "90000"} if path.suffix == ".mp4" else {})


def _restamped(source: Path, path: Path, stamps: Sequence[int | None]) -> Path:
    data = bytearray(source.read_bytes())
    headers = list(_pes_headers(data))
    for at, stamp in zip(headers, stamps, strict=True):
        assert data[at + 7] >> 6 == 2, "expected a PES header with a PTS alone"
        if stamp is None:
            data[at + 7] &= 0x3F
            data[at + 9 : at + 14] = b"\xff" * 5
        else:
            field = stamp % WRAP
            data[at + 9 : at + 14] = bytes(
                (0x21 | field >> 29 & 0x0E, field >> 22 & 0xFF, field >> 14 & 0xFE | 1, field >> 7 & 0xFF, field << 1 & 0xFE | 1)
            )
    path.write_bytes(data)
    return path


def _pes_headers(data: bytes | bytearray) -> Iterator[int]:
    """Where each coded picture of a transport stream begins (ISO/IEC 13818-1, 2.4.3)."""
    for at in range(0, len(data), TS_PACKET):
        assert data[at] == 0x47
        header = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[at + 1] & 0x40 and data[header : header + 3] == b"\0\0\1" and 0xE0 <= data[header + 3] <= 0xEF:
            yield header


def joined_ts(path: Path, starts_s: Sequence[int], *, frames: int = 30) -> Specimen:
    """Transport streams one after another as `cat` joins them, each of `frames` at 25 a second from its own start; the raw stamps."""
    parts = [steady_from(path.with_name(f"part-{k}.ts"), frames, start, frames * k) for k, start in enumerate(starts_s)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return Specimen(path, [start + Fraction(i, 25) for start in starts_s for i in range(frames)])


def edit_list(path: Path, *, skip: int = 20, show: int = 30, fragments: bool = False) -> Specimen:
    """An mp4 as `ffmpeg -ss` copies it: `skip` pictures are there for the decoder's sake, the edit list shows the `show` after them."""
    of = skip + show + (0 if fragments else 10)
    flags = {"movflags": "frag_keyframe+delay_moov+default_base_moof"} if fragments else {}
    whole = encode(
        path.with_name("uncut.mp4"),
        (numbered(i) for i in range(of)),
        [3600 * i for i in range(of)],
        options={**QUICK, "g": "15", "sc_threshold": "0"},
        container={"movie_timescale": "90000", **flags},
    )
    data = bytearray(whole.read_bytes())
    entry = data.index(b"elst") + 4
    version_flags, count, _, _, rate = struct.unpack_from(">IIIiI", data, entry)
    struct.pack_into(">IIIiI", data, entry, version_flags, count, 3600 * show, 3600 * skip, rate)
    path.write_bytes(data)
    return Specimen(path, [Fraction(i, 25) for i in range(show)])


# --- containers that tell little


class _Sink:
    """A socket: what was written cannot be changed any more."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def media_recorder(path: Path) -> Specimen:
    """WebM as a browser's MediaRecorder sends it: no duration, no cues, sizes unknown."""
    sink, times = _Sink(), _phone()
    with av.open(sink, "w", format="webm", options={"live": "1"}) as out:
        stream = out.add_stream("libvpx", rate=30, options={"deadline": "realtime", "cpu-used": "8", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for i, t in enumerate(times):
            frame = VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = round(t / MILLISECOND), MILLISECOND
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path.write_bytes(sink.data)
    return Specimen(path, times)


def growing_mp4(path: Path, frames: int) -> Path:
    """A fragmented mp4 as a recorder streams it: its index knows nothing, every group of 15 pictures is a fragment."""
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    pictures = (numbered(i) for i in range(frames))
    return encode(path, pictures, [3600 * i for i in range(frames)], options={**QUICK, "g": "15", "sc_threshold": "0"}, container=flags)


def long_last(source: Path, path: Path, seconds: int) -> Path:
    """The last picture stays for `seconds`, as in a recording of a talk that ends on its last slide."""
    last = len(coded_at(source)) - 1

    def stay(i: int, packet: Packet[VideoStream]) -> bool:
        if i == last and packet.time_base is not None:
            packet.duration = round(seconds / packet.time_base)
        return True

    return remux(source, path, stay)


def without_head(source: Path, path: Path) -> Path:
    """A WebM that lost what came before its first cluster, as a recording that is joined late."""
    data = source.read_bytes()
    path.write_bytes(data[data.index(b"\x1f\x43\xb6\x75") :])
    return path


def raw_h264(path: Path) -> Path:
    """An elementary stream: pictures, but nobody says when."""
    return encode(path, (numbered(i) for i in range(20)), [3600 * i for i in range(20)], kind="h264")


def unknown_codec(path: Path) -> Path:
    """Matroska whose codec nobody knows; PyAV 18.0 died of it (PyAV#2344)."""
    whole = steady(path.with_name("known.mkv"), 10)
    path.write_bytes(whole.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_QQQQ4/ISO/AVC"))
    return path


def cover_only(path: Path) -> Path:
    """Music with the picture of its album: one video stream, and no video."""
    with av.open(str(path), "w", format="mp4") as out:
        sound, cover = out.add_stream("aac", rate=44_100, layout="mono"), out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = VideoFrame.from_ndarray(numbered(1), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1)
        out.mux(cover.encode(picture))
        out.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4410), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 44_100, 0
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
    return path


def lying_size(path: Path) -> Path:
    """An mp4 that says 32 x 32 and holds pictures of 320 x 192."""
    data = bytearray(steady(path, 5, width="320", height="192").read_bytes())
    struct.pack_into(">HH", data, data.index(b"avc1\0\0\0\0\0\0") + 28, 32, 32)
    path.write_bytes(data)
    return path


def empty(path: Path) -> Path:
    """Zero bytes."""
    path.touch()
    return path


def text(path: Path) -> Path:
    """A letter under the name of a video."""
    path.write_text("this is not a video\n" * 20)
    return path


# --- pictures that need care


def turned(path: Path, degrees: int) -> Path:
    """Filmed with the phone held `degrees` off: the pictures lie as the sensor does, a matrix says how to show them."""
    return encode(path, (numbered(i) for i in range(3)), [0, 3600, 7200], rotation=degrees)


def interlaced(
    path: Path,
    codec: str,
    *,
    top: tuple[int, int, int] = (200, 128, 128),
    bottom: tuple[int, int, int] = (60, 128, 128),
    field_order: str = "tff",
) -> Path:
    """Two moments a picture: every even line, in chroma too, is `top` (Y, U, V), every odd one `bottom`; H.264 says which comes first."""

    def field_lines(channel: int, height: int, width: int) -> NDArray[np.uint8]:
        lines = np.full((height, width), top[channel], dtype=np.uint8)
        lines[1::2] = bottom[channel]
        return lines

    y, u, v = (field_lines(channel, HEIGHT // (2 if channel else 1), WIDTH // (2 if channel else 1)) for channel in range(3))
    options = {"flags": "+ildct+ilme"} | (
        {**QUICK, "crf": "4", "x264-params": f"{field_order}=1"} if codec == "libx264" else {"b": "6000000"}
    )
    pictures = (planes(y, u, v, "yuv420p") for _ in range(4))
    return encode(path, pictures, [0, 1, 2, 3], Fraction(1, 25), codec=codec, options=options)


HDR_BARS: Final = (0.0, 0.25, 0.508, 0.58, 0.75)
"""Signal levels of the bars in `hdr`; as PQ, 0.508 is 100 cd/m2 and 0.58 is 203, the white of paper."""


def hdr(path: Path, transfer: str | None, *, codec: str = "libx265") -> Path:
    """Grey bars in 10 bits, BT.2020 with that transfer (`smpte2084` is PQ, `arib-std-b67` HLG), or plain BT.709."""
    y = np.full((HEIGHT, WIDTH), 64, dtype=np.uint16)
    for k, level in enumerate(HDR_BARS):
        y[:, 32 * k : 32 * k + 32] = round(64 + 876 * level)
    grey = np.full((HEIGHT // 2, WIDTH // 2), 512, dtype=np.uint16)
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc" if transfer else "colorprim=bt709:transfer=bt709:colormatrix=bt709"
    params = {"x265-params": f"{tags}:log-level=none"} if codec == "libx265" else {"x264-params": tags}
    pictures = (planes(y, grey, grey, "yuv420p10le") for _ in range(3))
    return encode(
        path, pictures, [0, 3600, 7200], codec=codec, pix_fmt="yuv420p10le", options={"preset": "ultrafast", "crf": "4", **params}
    )


ALPHA_BARS: Final = (0, 64, 128, 255)
"""Opacity of the bars in `transparent`, each 40 wide."""


def transparent(path: Path, codec: str) -> Path:
    """Red (200, 0, 0) bars from invisible to solid; qtrle, png or prores_ks in a mov."""
    rgba = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, np.repeat(ALPHA_BARS, WIDTH // len(ALPHA_BARS))
    pix_fmt = {"qtrle": "argb", "png": "rgba", "prores_ks": "yuva444p10le"}[codec]
    pictures = (VideoFrame.from_ndarray(rgba, format="rgba") for _ in range(3))
    options = {"profile": "4444"} if codec == "prores_ks" else {}
    return encode(path, pictures, [0, 3600, 7200], codec=codec, pix_fmt=pix_fmt, options=options)


def odd_size(path: Path, codec: str = "libx264") -> Path:
    """321 x 181, chroma in full."""
    pictures = (numbered(i, width=321, height=181) for i in range(3))
    return encode(path, pictures, [0, 40, 80], MILLISECOND, codec=codec, pix_fmt="yuv444p")


def size_change(path: Path) -> Specimen:
    """A transport stream of 160 x 96 that goes on as 320 x 192 in time and number."""
    small = steady(path.with_name("small.ts"), 20)
    large = steady_from(path.with_name("large.ts"), 20, Fraction(20, 25), 20, width="320", height="192")
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return Specimen(path, [Fraction(i, 25) for i in range(40)])


def codec_change(path: Path) -> Specimen:
    """A transport stream of H.264 that goes on as MPEG-2, on the same PID."""
    first = steady(path.with_name("h264.ts"), 30)
    second = encode(
        path.with_name("mpeg2.ts"),
        (numbered(30 + i) for i in range(30)),
        range(30, 60),
        Fraction(1, 25),
        codec="mpeg2video",
        options={"qscale": "2", "g": "15"},
    )
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return Specimen(path, [Fraction(i, 25) for i in range(60)])


def green(path: Path, shares: Sequence[float], *, pix_fmt: str = "yuv420p") -> Path:
    """Lossless grey pictures of 320 x 192; the lowest `shares[i]` of the lines of picture i are zero in Y, U and V, as a lost slice is."""
    middle, wide = (512, np.uint16) if "10le" in pix_fmt else (128, np.uint8)

    def picture(share: float) -> VideoFrame:
        y, u, v = (np.full(shape, middle, dtype=wide) for shape in ((192, 320), (96, 160), (96, 160)))
        for plane in (y, u, v):
            plane[round(plane.shape[0] * (1 - share)) :] = 0
        return planes(y, u, v, pix_fmt)

    options = {"preset": "ultrafast", "qp": "0"} if pix_fmt == "yuv420p" else {}
    codec = "libx264" if pix_fmt == "yuv420p" else "ffv1"
    return encode(
        path,
        (picture(share) for share in shares),
        [40 * i for i in range(len(shares))],
        MILLISECOND,
        codec=codec,
        options=options,
        pix_fmt=pix_fmt,
    )


# --- damage


def coded_at(path: Path) -> list[tuple[int, int]]:
    """Where each coded picture lies in the file, and how many bytes it has (not for ts, where it lies in pieces)."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        return [(packet.pos, packet.size) for packet in packets if packet.pos is not None]


def damaged(source: Path, path: Path, pictures: Sequence[int], *, part: tuple[float, float] = (1 / 3, 2 / 3)) -> Path:
    """That part of these coded pictures becomes noise, as on a bad disk; the container itself stays whole."""
    where = coded_at(source)
    data, rng = bytearray(source.read_bytes()), np.random.default_rng(3)
    for i in pictures:
        at, size = where[i]
        start, end = (at + int(size * share) for share in part)
        # No zeros: a start code would be read as a slice that was never there.
        data[start:end] = rng.integers(1, 255, end - start, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def without_pictures(source: Path, path: Path, lost: Sequence[int]) -> Path:
    """These coded pictures never arrived; the rest keep their stamps."""
    return remux(source, path, lambda i, packet: i not in lost)


def without_ts_packets(source: Path, path: Path, picture: int) -> Path:
    """The second transport packet of that picture never arrived: the counter jumps and the picture has a hole."""
    data = source.read_bytes()
    start = list(_pes_headers(data))[picture] // TS_PACKET + 1
    assert not data[start * TS_PACKET + 1] & 0x40, "the picture must be longer than one transport packet"
    path.write_bytes(data[: start * TS_PACKET] + data[(start + 1) * TS_PACKET :])
    return path


def pictures_of(path: Path) -> dict[int, Image]:
    """Every picture by its own number, as FFmpeg decodes it in one thread: what an undamaged file must come to."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        images = [np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8) for frame in container.decode(stream)]
    return {number_of(image): image for image in images}
