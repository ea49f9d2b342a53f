"""ISO-BMFF boxes (mp4, mov): bytes come in, their tree or a damaged copy goes out; `corpus.py` and `mutators.py` take both."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import Final

# Boxes that hold boxes, and how many bytes of their own come first.
CHILDREN_AT: Final = {
    **dict.fromkeys(("moov", "trak", "mdia", "minf", "stbl", "dinf", "edts", "mvex", "moof", "traf", "udta", "mfra"), 0),
    **dict.fromkeys(("avc1", "hev1", "hvc1", "mp4v", "vp09"), 78),
    "meta": 4,
    "dref": 8,
    "stsd": 8,
}
# Where in the body of a box its number of entries stands.
COUNT_AT: Final = {
    **dict.fromkeys(("stsd", "stts", "ctts", "stss", "stsc", "stco", "co64", "elst", "dref", "trun", "sbgp", "sgpd"), 4),
    "stsz": 8,
    "tfra": 12,
}
SIZES: Final = (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
COUNTS: Final = (0, 1000, 1_000_000, 0x0FFFFFFF, 0x10000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Box:
    """Offsets of one box, and of the boxes around it, outermost first."""

    kind: str
    start: int
    body: int
    end: int
    around: tuple[int, ...]


def walk(data: bytes) -> list[Box]:
    """Every box of `data`, as far as the sizes make sense."""
    found: list[Box] = []
    _walk(data, 0, len(data), (), found)
    return found


def _walk(data: bytes, at: int, end: int, around: tuple[int, ...], found: list[Box]) -> None:
    while at + 8 <= end and len(around) < 12:
        size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8].decode("latin-1"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = end if size == 0 else at + size
        if stop > end or stop < at + header:
            return
        found.append(Box(kind, at, at + header, stop, around))
        if kind in CHILDREN_AT:
            _walk(data, at + header + CHILDREN_AT[kind], stop, (*around, at), found)
        at = stop


def first(data: bytes, kind: str) -> Box | None:
    """The first box of that kind."""
    return next((box for box in walk(data) if box.kind == kind), None)


def put(data: bytes, at: int, value: int, width: int = 4) -> bytes:
    """`data` with `width` bytes at `at` overwritten by the low bytes of `value`."""
    field = (value % (1 << 8 * width)).to_bytes(width, "big")
    return data[:at] + field + data[at + width :]


def resized(data: bytes, box: Box, size: int) -> bytes:
    """The box says that it is `size` bytes long; nothing moves."""
    return put(data, box.start, size)


def resized_64(data: bytes, box: Box, size: int) -> bytes:
    """The box says so in the 64-bit field, which lies over its first eight bytes."""
    return put(put(data, box.start, 1), box.start + 8, size, 8)


def counted(data: bytes, box: Box, count: int) -> bytes:
    """A table says that it has `count` entries."""
    return put(data, box.body + COUNT_AT.get(box.kind, 4), count)


def replaced(data: bytes, box: Box, instead: bytes) -> bytes:
    """`instead` stands where the box was, and the boxes around it are resized to fit."""
    grown = len(instead) - (box.end - box.start)
    for start in box.around:
        data = put(data, start, int.from_bytes(data[start : start + 4], "big") + grown)
    return data[: box.start] + instead + data[box.end :]


def build(kind: str, *parts: bytes) -> bytes:
    """A box of these parts."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind.encode("latin-1")) + body


def mutate(data: bytes, rng: Random) -> bytes:
    """One change that keeps the rest of the tree readable."""
    tree = walk(data)
    if not tree:
        return data
    box = rng.choice(tree)
    whole = data[box.start : box.end]
    match rng.randrange(9):
        case 0:
            return resized(data, box, rng.choice((*SIZES, len(whole) - 1, len(whole) + 1, len(whole) + 8, 2 * len(whole))))
        case 1:
            return resized_64(data, box, rng.choice((0, 1, 15, 16, -1, -16, 1 << 62, 1 << 63, (1 << 63) - 1)))
        case 2:
            tables = [one for one in tree if one.kind in COUNT_AT]
            return counted(data, rng.choice(tables), rng.choice((*COUNTS, rng.randrange(64)))) if tables else data
        case 3:
            return data[: box.start + 4] + rng.choice(tree).kind.encode("latin-1") + data[box.start + 8 :]
        case 4:
            return replaced(data, box, b"")
        case 5:
            return replaced(data, box, whole * rng.choice((2, 3, 40)))
        case 6:
            other = rng.choice(tree)
            return replaced(data, box, data[other.start : other.end])
        case 7 if box.kind not in CHILDREN_AT and box.kind != "mdat":
            return replaced(data, box, build(box.kind, whole[8:], rng.randbytes(rng.choice((1, 4, 64)))))
        case _:
            return _field(data, rng.choice([one for one in tree if one.kind != "mdat"] or tree), rng)


def _field(data: bytes, box: Box, rng: Random) -> bytes:
    """One integer of the body becomes an extreme one; most fields are four bytes wide and aligned."""
    room = box.end - box.body
    if room < 4:
        return data
    at = box.body + 4 * rng.randrange(room // 4)
    old = int.from_bytes(data[at : at + 4], "big")
    return put(data, at, rng.choice((0, 1, -1, old + 1, old - 1, -old, old << 8, old >> 8, 1 << 31, (1 << 31) - 1, rng.getrandbits(32))))
