"""MPEG transport stream packets: bytes come in, a damaged copy goes out; `corpus.py` and `mutators.py` take it."""

from __future__ import annotations

from random import Random
from typing import Final

SIZE: Final = 188
START: Final = b"\0\0\x01\xe0"  # a PES header of the first video stream
PTS_AT: Final = 9  # bytes from the start code to the time, where there is one


def split(data: bytes) -> list[bytes]:
    """Packets of 188 bytes; the last may be shorter."""
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def without_sync(data: bytes, every: int) -> bytes:
    """Every so many packets the sync byte is another one."""
    return b"".join(b"\x48" + packet[1:] if i % every == every - 1 else packet for i, packet in enumerate(split(data)))


def shifted(data: bytes, at: int, inserted: bytes) -> bytes:
    """Bytes between two packets, so that every later one stands off the grid."""
    return data[: at * SIZE] + inserted + data[at * SIZE :]


def stamped(data: bytes, ticks: int, which: int = 0) -> bytes:
    """The PTS of the `which`-th video PES (33 bits, 90 kHz) becomes `ticks`; unchanged where there is none."""
    at = -1
    for _ in range(which + 1):
        at = data.find(START, at + 1)
        if at < 0 or at + PTS_AT + 5 > len(data):
            return data
    ticks %= 1 << 33
    lead = data[at + PTS_AT] & 0xF1
    field = bytes([lead | (ticks >> 29 & 0x0E), ticks >> 22 & 0xFF, (ticks >> 14 & 0xFE) | 1, ticks >> 7 & 0xFF, (ticks << 1 & 0xFE) | 1])
    return data[: at + PTS_AT] + field + data[at + PTS_AT + 5 :]


def mutate(data: bytes, rng: Random) -> bytes:
    """One change to packets; the others stay on the grid, except where bytes are put in."""
    packets = split(data)
    i, j = rng.randrange(len(packets)), rng.randrange(len(packets))
    packet = bytearray(packets[i].ljust(SIZE, b"\xff"))
    match rng.randrange(11):
        case 0:
            del packets[i]
        case 1:
            packets[i:i] = [bytes(packet)] * rng.choice((1, 2, 30))
        case 2:
            packets[i], packets[j] = packets[j], packets[i]
        case 3:
            packet[0] = rng.randrange(256)
            packets[i] = bytes(packet)
        case 4:
            packets[i:i] = [rng.randbytes(rng.choice((1, 4, 16, 187, 189)))]
        case 5:  # another PID: the tables (0, 17, 4096), the video (256), none (8191)
            pid = rng.choice((0, 1, 17, 256, 257, 4096, 8191, rng.getrandbits(13)))
            packet[1], packet[2] = packet[1] & 0xE0 | pid >> 8, pid & 0xFF
            packets[i] = bytes(packet)
        case 6:  # an adaptation field of a length that may not fit
            packet[3], packet[4] = packet[3] | 0x20, rng.choice((0, 1, 183, 184, 255))
            packets[i] = bytes(packet)
        case 7:  # error indicator, start indicator, scrambling, continuity
            packet[1] ^= rng.choice((0x80, 0x40, 0))
            packet[3] ^= rng.choice((0x80, 0x40, 0x10, rng.randrange(16)))
            packets[i] = bytes(packet)
        case 8:  # a table's section length and its entries
            tables = [n for n, one in enumerate(packets) if len(one) == SIZE and one[1] & 0x40 and one[4] == 0]
            if tables:
                n = rng.choice(tables)
                at = rng.randrange(5, 32)
                packets[n] = packets[n][:at] + bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) + packets[n][at + 1 :]
        case 9:
            ticks = rng.choice((0, 1, (1 << 33) - 1, 1 << 32, 1 << 31, rng.getrandbits(33)))
            return stamped(data, ticks, rng.randrange(20))
        case _:
            at = rng.randrange(4, 24)
            packet[at] = rng.choice((0, 0xFF, 0x80, packet[at] ^ 1 << rng.randrange(8)))
            packets[i] = bytes(packet)
    return b"".join(packets)
