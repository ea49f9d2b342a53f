"""Single pictures as one video: a JPEG or WebP and its stamp come in, the bytes of an endless Matroska file that holds them go out.

So pictures of clients take the walk that files take: the decode child, which no picture can leave, its limits, and the clock of the hall
with its rules for stamps that repeat, go back or stop. Written by `stream_intake.py` (RFC 9559; RFC 6386, RFC 9649: what a WebP holds).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal

from service.media_header import FARTHEST_US
from service.problems import ServiceError

PictureCodec = Literal["jpeg", "webp"]
STAMP_OFFSET: Final = FARTHEST_US
"""Added to stamps, because Matroska has none below 0; whole seconds, so that it changes nothing about which pictures are looked at."""
# A rate that nothing computes with: without one, FFmpeg reads 20 pictures to guess it before it gives the first (1.9 s instead of 0.1).
NOMINAL_NS: Final = 83_333_333
CODECS: Final[dict[PictureCodec, bytes]] = {"jpeg": b"V_MJPEG", "webp": b"V_VP8"}
UNKNOWN_SIZE: Final = b"\x01" + 7 * b"\xff"


class UnsupportedPicture(ServiceError):
    """It is not what its stream is of."""

    slug = "unsupported-picture"
    title = "A picture is of another kind"
    status = 415


def beginning(codec: PictureCodec) -> bytes:
    """What stands before the first picture: one video track whose ticks are microseconds."""
    doc = (
        _number(0x4286, 1)
        + _number(0x42F7, 1)
        + _number(0x42F2, 4)
        + _number(0x42F3, 8)
        + _element(0x4282, b"matroska")
        + _number(0x4287, 4)
        + _number(0x4285, 2)
    )
    info = _number(0x2AD7B1, 1000) + _element(0x4D80, b"undercurrent") + _element(0x5741, b"undercurrent")
    # Sizes are told by the pictures themselves.
    track = (
        _number(0xD7, 1)
        + _number(0x73C5, 1)
        + _number(0x83, 1)
        + _number(0x9C, 0)
        + _number(0x23E383, NOMINAL_NS)
        + _element(0x86, CODECS[codec])
        + _element(0xE0, _number(0xB0, 0) + _number(0xBA, 0))
    )
    return (
        _element(0x1A45DFA3, doc)
        + _id(0x18538067)
        + UNKNOWN_SIZE
        + _element(0x1549A966, info)
        + _element(0x1654AE6B, _element(0xAE, track))
    )


def picture(codec: PictureCodec, pts_us: int, data: memoryview) -> bytes:
    """One picture at `pts_us`, as a cluster of its own.

    Raises:
        UnsupportedPicture: it is not of that codec, or a lossless WebP.
    """
    block = b"\x81\x00\x00\x80" + (_jpeg(data) if codec == "jpeg" else _vp8(data))
    return _element(0x1F43B675, _number(0xE7, pts_us + STAMP_OFFSET) + _element(0xA3, block))


def _jpeg(data: memoryview) -> bytes:
    if bytes(data[:3]) != b"\xff\xd8\xff":
        raise UnsupportedPicture("A picture is no JPEG.", expected="one that begins with FF D8 FF", got=bytes(data[:3]).hex(" ").upper())
    return bytes(data)


def _vp8(data: memoryview) -> bytes:
    """The VP8 key frame that a lossy WebP wraps; its transparency, if it has any, is left out."""
    if bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WEBP":
        raise UnsupportedPicture("A picture is no WebP.", expected="RIFF....WEBP", got=repr(bytes(data[:12])))
    kinds = []
    for kind, chunk in _chunks(data[12:]):
        if kind == b"VP8 ":
            return bytes(chunk)
        kinds.append(kind.decode("latin-1"))
    raise UnsupportedPicture(
        "A WebP has no lossy picture.", expected="a VP8 chunk, as canvas.toBlob writes below quality 1", got=repr(kinds[:8])
    )


def _chunks(rest: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    while len(rest) >= 8:
        (size,) = struct.unpack_from("<I", rest, 4)
        yield bytes(rest[:4]), rest[8 : 8 + size]
        rest = rest[8 + size + size % 2 :]


def _id(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _element(number: int, body: bytes) -> bytes:
    return _id(number) + struct.pack(">Q", len(body) | 1 << 56) + body


def _number(number: int, value: int) -> bytes:
    return _element(number, struct.pack(">Q", value))
