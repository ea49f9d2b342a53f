"""Bombs: small files that claim or unfold into far more pixels, seconds, streams, frames or bytes.

Good clips come in, names and bytes go out; `corpus.py` writes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.clips import bomb, write_clip
from tests.fuzz import boxes, elements, packets
from tests.fuzz.seeds import H264, picture, write_streams

HOURS_100 = 360_000


def bombs(folder: Path, good: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """(kind, file name, bytes); `good` maps the names of `seeds.SEEDS` to their bytes, `folder` takes what an encoder must write."""
    mp4, fragmented, mkv, webm, ts = (
        good[name] for name in ("plain.mp4", "fragmented.mp4", "recording.mkv", "browser.webm", "broadcast.ts")
    )
    yield "pixels", "pixels.mp4", bomb(folder / "pixels.mp4").read_bytes()
    yield "pixels_claimed", "pixels_claimed.mp4", claimed_size(mp4)
    yield "pixels_claimed", "pixels_claimed.mkv", elements_set(mkv, {elements.PIXEL_WIDTH: 65535, elements.PIXEL_HEIGHT: 65535})
    yield (
        "pixels_claimed",
        "pixels_claimed_31_bits.mkv",
        elements_set(mkv, dict.fromkeys((elements.PIXEL_WIDTH, elements.PIXEL_HEIGHT), 2**31 - 1)),
    )
    yield "pixels_later", "pixels_later.webm", growing(webm)
    yield (
        "hours",
        "hours.mp4",
        write_clip(folder / "hours.mp4", [picture(i) for i in range(20)], [18_900_000 * i for i in range(20)], options=H264).read_bytes(),
    )
    yield (
        "hours",
        "hours.mkv",
        write_clip(folder / "hours.mkv", [picture(i) for i in range(20)], [18_900_000 * i for i in range(20)], options=H264).read_bytes(),
    )
    yield "hours_claimed", "hours_claimed.mp4", claimed_hours(mp4)
    yield "hours_claimed", "hours_claimed.mkv", elements_set(mkv, {elements.TIMESTAMP_SCALE: 2**40})
    yield "hours_claimed", "hours_claimed.ts", packets.stamped(ts, (1 << 33) - 1, 10)
    yield "streams", "streams.mp4", write_streams(folder / "streams.mp4", 64).read_bytes()
    yield "streams", "streams.mkv", write_streams(folder / "streams.mkv", 120).read_bytes()
    yield "streams", "streams.ts", write_streams(folder / "streams.ts", 40).read_bytes()
    yield "tracks", "tracks.mkv", _repeated(mkv, 2000)
    for count in (10**6, 2 * 10**7, 2**28):
        yield "frames_claimed", f"frames_claimed_{count}.mp4", claimed_frames(mp4, count)
    for count in (10**6, 2 * 10**7, 2**28):
        yield "fragment_claimed", f"fragment_claimed_{count}.mp4", claimed_fragment(fragmented, count)
    yield "fragments", "fragments.mp4", many_fragments(fragmented, 2000)
    yield "edits", "edits.mp4", many_edits(mp4, 5000)
    for size in (10**6, 2**31 - 1, 2**32 - 1):
        yield "compressed_moov", f"compressed_moov_{size}.mov", compressed_moov(mp4, size)
    yield "nested_boxes", "nested_boxes.mp4", nested("moov", 20_000)
    yield "nested_boxes", "nested_meta.mp4", nested("udta", 5000)
    yield "nested_elements", "nested_elements.mkv", mkv[:200] + b"".join(b"\x1fC\xb6u\x01" + b"\xff" * 7 for _ in range(4000))
    yield "compressed_blocks", "compressed_blocks.mkv", compressed_blocks(mkv)
    yield "void", "void.mkv", mkv[:200] + b"\xec" + ((1 << 56) | (1 << 50)).to_bytes(8, "big") + mkv[200:]
    yield "tables", "tables.ts", b"".join(packets.split(ts)[:3]) * 1500
    for scale in (0, 1, 2**31 - 1, 2**32 - 1):
        yield "timescale", f"timescale_{scale}.mp4", _timescale(mp4, scale)


def claimed_size(mp4: bytes) -> bytes:
    """The sample entry says 65535 x 65535."""
    entry = boxes.first(mp4, "avc1")
    assert entry is not None
    return boxes.put(mp4, entry.body + 24, 0xFFFFFFFF)


def growing(webm: bytes) -> bytes:
    """The second key frame of a VP8 stream says 16383 x 16383 (14 bits each, after its start code)."""
    code = b"\x9d\x01\x2a"
    at = webm.index(code, webm.index(code) + 1)
    return webm[: at + 3] + b"\xff\x3f\xff\x3f" + webm[at + 7 :]


def claimed_hours(mp4: bytes) -> bytes:
    """Movie and track say 100 h; the pictures last one second."""
    for kind in ("mvhd", "mdhd"):
        box = boxes.first(mp4, kind)
        assert box is not None
        scale = int.from_bytes(mp4[box.body + 12 : box.body + 16], "big")
        mp4 = boxes.put(mp4, box.body + 16, min(HOURS_100 * scale, 2**32 - 2))
    return mp4


def claimed_frames(mp4: bytes, count: int) -> bytes:
    """One chunk of `count` samples of one byte: three tables of one entry each, and an index of 24 bytes a sample in the reader."""
    tables = {
        "stsz": boxes.build("stsz", bytes(4), b"\0\0\0\x01", count.to_bytes(4, "big")),
        "stts": boxes.build("stts", bytes(4), b"\0\0\0\x01", count.to_bytes(4, "big"), b"\0\0\0\x01"),
        "stsc": boxes.build("stsc", bytes(4), b"\0\0\0\x01", b"\0\0\0\x01", count.to_bytes(4, "big"), b"\0\0\0\x01"),
        "ctts": b"",
        "stss": b"",
    }
    for kind, table in tables.items():
        box = boxes.first(mp4, kind)
        if box is not None:
            mp4 = boxes.replaced(mp4, box, table)
    return mp4


def claimed_fragment(mp4: bytes, count: int) -> bytes:
    """A fragment of `count` samples whose size and duration are the defaults, so that no table is needed."""
    run = boxes.first(mp4, "trun")
    assert run is not None
    return boxes.replaced(mp4, run, boxes.build("trun", bytes(4), count.to_bytes(4, "big")))


def many_fragments(mp4: bytes, count: int) -> bytes:
    """The first fragment's header again and again, without data."""
    header = boxes.first(mp4, "moof")
    assert header is not None
    return mp4[: header.start] + mp4[header.start : header.end] * count + mp4[header.start :]


def many_edits(mp4: bytes, count: int) -> bytes:
    """An edit list that shows the same pictures `count` times; a reader goes through its index for each."""
    box = boxes.first(mp4, "edts")
    assert box is not None
    edit = (500).to_bytes(4, "big") + bytes(4) + b"\0\x01\0\0"
    return boxes.replaced(mp4, box, boxes.build("edts", boxes.build("elst", bytes(4), count.to_bytes(4, "big"), edit * count)))


def compressed_moov(mp4: bytes, claimed: int) -> bytes:
    """A deflated header that says that it unfolds into `claimed` bytes."""
    moov = boxes.first(mp4, "moov")
    assert moov is not None
    packed = claimed.to_bytes(4, "big") + zlib.compress(mp4[moov.start : moov.end] + bytes(10**6))
    instead = boxes.build("moov", boxes.build("cmov", boxes.build("dcom", b"zlib"), boxes.build("cmvd", packed)))
    return boxes.replaced(mp4, moov, instead)


def nested(kind: str, depth: int) -> bytes:
    """Boxes in boxes."""
    heads = (boxes.put(b"????" + kind.encode(), 0, 8 * (depth - i)) for i in range(depth))
    return boxes.build("ftyp", b"isom", bytes(4)) + b"".join(heads)


def compressed_blocks(mkv: bytes) -> bytes:
    """Every block is said to be deflated, and the first one is: a few kilobytes that unfold into eight megabytes."""
    track = elements.first(mkv, elements.TRACK_ENTRY)
    assert track is not None
    encoding = elements.build(0x6240, elements.build(0x5034, elements.build(0x4254, b"\0")))
    mkv = elements.replaced(mkv, track, elements.build(elements.TRACK_ENTRY, mkv[track.body : track.end], elements.build(0x6D80, encoding)))
    block = elements.first(mkv, 0xA3)
    assert block is not None
    return elements.filled(mkv, block, mkv[block.body : block.body + 4] + zlib.compress(bytes(8_000_000)))


def elements_set(mkv: bytes, values: dict[int, int]) -> bytes:
    """The first element with each identifier gets the number."""
    for ident, value in values.items():
        element = elements.first(mkv, ident)
        assert element is not None
        mkv = elements.filled(mkv, element, value.to_bytes(8, "big"))
    return mkv


def _repeated(mkv: bytes, count: int) -> bytes:
    """The same track `count` times."""
    track = elements.first(mkv, elements.TRACK_ENTRY)
    assert track is not None
    return elements.replaced(mkv, track, mkv[track.start : track.end] * count)


def _timescale(mp4: bytes, scale: int) -> bytes:
    """The track's clock ticks `scale` times a second."""
    box = boxes.first(mp4, "mdhd")
    assert box is not None
    return boxes.put(mp4, box.body + 12, scale)
