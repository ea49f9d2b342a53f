"""Mutation: one input and a stranger come in, a damaged copy goes out, by structure where the container is known and blindly on top."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tests.fuzz import boxes, elements, packets

LARGEST: Final = 256 * 1024
INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BLOCKS: Final = (1, 4, 16, 64, 188, 512, 4096)


def mutate(data: bytes, stranger: bytes, rng: Random) -> bytes:
    """One to four changes to the structure, blind ones in a third of the cases, and only blind ones where there is no structure."""
    structure = _structure(data)
    if structure is not None:
        for _ in range(rng.choice((1, 1, 2, 4))):
            data = structure(data, rng)
    if structure is None or rng.random() < 0.35:
        for _ in range(rng.choice((1, 2, 8, 32))):
            data = havoc(data, stranger, rng)
    return data[:LARGEST] or stranger[: rng.randrange(1, 64)]


def _structure(data: bytes) -> Callable[[bytes, Random], bytes] | None:
    """The mutator of this container, by its first bytes."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"styp", b"moof"):
        return boxes.mutate
    if data.startswith(b"\x1aE\xdf\xa3"):
        return elements.mutate
    return packets.mutate if data.startswith(b"G") and len(data) > packets.SIZE else None


def havoc(data: bytes, stranger: bytes, rng: Random) -> bytes:
    """One blind change: bits, numbers, or a block that is zeroed, doubled, cut out, moved or taken from a stranger."""
    if len(data) < 16:
        return data + rng.randbytes(16)
    at = rng.randrange(len(data))
    size = min(rng.choice(BLOCKS), len(data) - at)
    to = rng.randrange(len(data))
    match rng.randrange(9):
        case 0 | 1:
            return flipped(data, at, rng.randrange(8))
        case 2:
            return data[:at] + rng.randbytes(1) + data[at + 1 :]
        case 3:
            width = rng.choice((1, 2, 4, 8))
            number = (rng.choice(INTERESTING) % (1 << 8 * width)).to_bytes(width, rng.choice(("big", "little")))
            return data[:at] + number + data[at + width :]
        case 4:
            return data[:at] + bytes(size) + data[at + size :]
        case 5:
            return data[:to] + data[at : at + size] + data[to:]
        case 6:
            return data[:at] + data[at + size :]
        case 7:
            return data[:at] + stranger[at : at + size] + data[at + size :]
        case _:
            return data[:at] if rng.random() < 0.1 else swapped(data, at, to, size)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """`data` with one bit turned."""
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def swapped(data: bytes, one: int, other: int, size: int) -> bytes:
    """`data` with two blocks exchanged; where they overlap, only as much of them as does not."""
    low, high = sorted((one, other))
    size = min(size, high - low, len(data) - high)
    return data[:low] + data[high : high + size] + data[low + size : high] + data[low : low + size] + data[high + size :]
