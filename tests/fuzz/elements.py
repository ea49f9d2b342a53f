"""EBML elements (mkv, webm): bytes come in, their tree or a damaged copy goes out; `corpus.py` and `mutators.py` take both."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

# RFC 9559; the elements that hold elements.
MASTERS: Final = {
    0x1A45DFA3: "EBML",
    0x18538067: "Segment",
    0x114D9B74: "SeekHead",
    0x4DBB: "Seek",
    0x1549A966: "Info",
    0x1654AE6B: "Tracks",
    0xAE: "TrackEntry",
    0xE0: "Video",
    0x1F43B675: "Cluster",
    0xA0: "BlockGroup",
    0x1C53BB6B: "Cues",
    0xBB: "CuePoint",
    0xB7: "CueTrackPositions",
    0x1254C367: "Tags",
    0x7373: "Tag",
    0x1941A469: "Attachments",
}
DURATION, TIMESTAMP_SCALE, TRACK_ENTRY, CLUSTER_TIME = 0x4489, 0x2AD7B1, 0xAE, 0xE7
PIXEL_WIDTH, PIXEL_HEIGHT, SEGMENT, CLUSTER, TRACKS, INFO, CODEC_ID = 0xB0, 0xBA, 0x18538067, 0x1F43B675, 0x1654AE6B, 0x1549A966, 0x86
UNKNOWN: Final = -1  # all ones in whatever width: the size is not known
SIZES: Final = (0, 1, UNKNOWN, 0x7F, 0x3FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 56) - 2, 1 << 55)


@dataclass(frozen=True, slots=True)
class Element:
    """Offsets of one element, and of the ones around it, outermost first; `size_at` is where its size field starts."""

    ident: int
    start: int
    size_at: int
    body: int
    end: int
    around: tuple[Element, ...]


def walk(data: bytes) -> list[Element]:
    """Every element of `data`, as far as the sizes make sense."""
    found: list[Element] = []
    _walk(data, 0, len(data), (), found)
    return found


def _walk(data: bytes, at: int, end: int, around: tuple[Element, ...], found: list[Element]) -> None:
    while at < end and len(around) < 10:
        id_width = 9 - data[at].bit_length()
        size_at = at + id_width
        if id_width > 4 or size_at >= end or data[size_at] == 0:
            return
        width = 9 - data[size_at].bit_length()
        body = size_at + width
        most = (1 << 7 * width) - 1
        size = int.from_bytes(data[size_at:body], "big") & most
        stop = end if size == most else body + size
        if body > end or stop > end:
            return
        element = Element(int.from_bytes(data[at:size_at], "big"), at, size_at, body, stop, around)
        found.append(element)
        if element.ident in MASTERS:
            _walk(data, body, stop, (*around, element), found)
        at = stop


def first(data: bytes, ident: int) -> Element | None:
    """The first element with that identifier."""
    return next((element for element in walk(data) if element.ident == ident), None)


def resized(data: bytes, element: Element, size: int) -> bytes:
    """The element says that its body is `size` bytes long, as far as its own size field can say so; nothing moves."""
    width = element.body - element.size_at
    field = (1 << 7 * width) | (size & ((1 << 7 * width) - 1))
    return data[: element.size_at] + field.to_bytes(width, "big") + data[element.body :]


def filled(data: bytes, element: Element, body: bytes) -> bytes:
    """The element has another body of any length, and those around it are resized to fit."""
    return replaced(data, element, build(element.ident, body))


def replaced(data: bytes, element: Element, instead: bytes) -> bytes:
    """`instead` stands where the element was, and those around it are resized to fit."""
    grown = len(instead) - (element.end - element.start)
    for outer in element.around:
        width = outer.body - outer.size_at
        if int.from_bytes(data[outer.size_at : outer.body], "big") != (1 << 7 * width + 1) - 1:
            data = resized(data, outer, outer.end - outer.body + grown)
    return data[: element.start] + instead + data[element.end :]


def build(ident: int, *parts: bytes) -> bytes:
    """An element of these parts, with an eight-byte size."""
    body = b"".join(parts)
    return ident.to_bytes((ident.bit_length() + 7) // 8, "big") + ((1 << 56) | len(body)).to_bytes(8, "big") + body


def mutate(data: bytes, rng: Random) -> bytes:
    """One change that keeps the rest of the tree readable."""
    tree = walk(data)
    if not tree:
        return data
    element = rng.choice(tree)
    whole = data[element.start : element.end]
    match rng.randrange(8):
        case 0:
            size = element.end - element.body
            return resized(data, element, rng.choice((*SIZES, size - 1, size + 1, 2 * size)))
        case 1:
            other = rng.choice(tree)
            return data[: element.start] + data[other.start : other.size_at] + data[element.size_at :]
        case 2:
            return replaced(data, element, b"")
        case 3:
            return replaced(data, element, whole * rng.choice((2, 3, 40)))
        case 4:
            other = rng.choice(tree)
            return replaced(data, element, data[other.start : other.end])
        case 5:
            tracks = [one for one in tree if one.ident == TRACK_ENTRY]
            return replaced(data, rng.choice(tracks), _encoded(data, rng.choice(tracks), rng)) if tracks else data
        case _:
            leaves = [one for one in tree if one.ident not in MASTERS and 0 < one.end - one.body <= 8]
            return _value(data, rng.choice(leaves), rng) if leaves else data


def _value(data: bytes, leaf: Element, rng: Random) -> bytes:
    """A number or flag of up to eight bytes becomes an extreme one, in its own width or in eight bytes."""
    extreme = rng.choice((b"\0", b"\x01", b"\xff", b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7, rng.randbytes(8)))
    if rng.random() < 0.5:
        return filled(data, leaf, extreme)
    width = leaf.end - leaf.body
    return data[: leaf.body] + extreme[:1] * (width - 1) + extreme[-1:] + data[leaf.end :]


def _encoded(data: bytes, track: Element, rng: Random) -> bytes:
    """The track says that its blocks are compressed (zlib, bzlib, lzo, stripped headers) or encrypted."""
    compression = build(0x5034, build(0x4254, bytes([rng.randrange(4)])), build(0x4255, rng.randbytes(rng.choice((0, 3, 300)))))
    encryption = build(0x5035, build(0x47E1, bytes([rng.randrange(6)])))
    encoding = build(0x6240, build(0x5031, b"\0"), build(0x5032, bytes([rng.randrange(1, 4)])), rng.choice((compression, encryption)))
    return build(TRACK_ENTRY, data[track.body : track.end], build(0x6D80, encoding))
