"""The corpus: a folder and a seed come in, some hundred damaged or hostile files go out, the same on every run.

`__main__.py` reads all of it through the sandbox, `tests/service/test_untrusted_media.py` a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests import clips
from tests.fuzz import boxes, elements, packets
from tests.fuzz.bombs import bombs
from tests.fuzz.lures import Bait, lures
from tests.fuzz.mutators import flipped, swapped
from tests.fuzz.seeds import BASES, SEEDS, write_seed

Named = Iterator[tuple[str, str, bytes]]
CUTS = (1, 7, 8, 32, 100, 300, 600, 1200)
SHARES = (0.25, 0.5, 0.75, 0.9, 0.99)
CLOSED = 9  # the discard port: nobody listens there


@dataclass(frozen=True, slots=True)
class Case:
    """One input: `kind` says what was done, `family` is where it belongs (cut, flip, box, lure, bomb, ...)."""

    family: str
    kind: str
    path: Path


def bait(folder: Path, port: int = CLOSED) -> Bait:
    """Write the files that nobody may open, unless they lie there and may be watched: beside the inputs and in the folder above them."""
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    (folder / "good").mkdir(exist_ok=True)
    secret, sibling, *others = canaries(folder)
    for path in (secret, sibling, *others):
        if not path.exists():
            path.write_bytes(write_seed(folder / "good", "broadcast.ts").read_bytes())
    return Bait(sibling, secret, port)


def canaries(folder: Path) -> list[Path]:
    """The files that `bait` writes."""
    names = ("secret.ts", "inputs/sibling.ts", "inputs/vobsub.sub", "inputs/secret.ts", "inputs/pattern-000.png")
    return [folder / name for name in names]


def corpus(folder: Path, seed: int = 0, *, port: int = CLOSED) -> Iterator[Case]:
    """Write every case under `folder`/inputs and yield it; the lures name the canaries there and a server on `port`."""
    lure = bait(folder, port)
    good = {name: write_seed(folder / "good", name).read_bytes() for name in SEEDS}
    bases = {name: good[name] for name in BASES}
    families: dict[str, Named] = {
        "good": ((name, name, data) for name, data in good.items()),
        "cut": _cuts(bases),
        "damage": _damage(bases, Random(seed)),
        "box": _boxes({name: data for name, data in bases.items() if name.endswith(("mp4", "mov"))}),
        "element": _elements({name: data for name, data in bases.items() if name.endswith(("mkv", "webm"))}),
        "packet": _packets(good["broadcast.ts"], Random(seed)),
        "chunk": _chunks(good["old.avi"]),
        "lure": lures(lure, good["plain.mp4"], good["recording.mkv"]),
        "bomb": bombs(folder / "good", good),
        "other": _other(folder / "good", Random(seed)),
    }
    for family, named in families.items():
        for kind, name, data in named:
            path = folder / "inputs" / f"{family}-{name}"
            if family == "lure":  # some of them are about their name
                path = path.with_name(name)
            path.write_bytes(data)
            yield Case(family, kind, path)


def _cuts(bases: dict[str, bytes]) -> Named:
    for name, data in bases.items():
        for end in sorted({*CUTS, *(int(len(data) * share) for share in SHARES), len(data) - 1}):
            yield "cut", f"{end}-{name}", data[:end]
        yield "beheaded", f"beheaded-{name}", data[len(data) // 3 :]


def _damage(bases: dict[str, bytes], rng: Random) -> Named:
    for name, data in bases.items():
        for times in (1, 5, 50, 500):
            flips = data
            for _ in range(times):
                flips = flipped(flips, rng.randrange(len(data)), rng.randrange(8))
            yield "flip", f"flip-{times}-{name}", flips
        for size in (16, 300, 2000):
            at, to = rng.randrange(len(data) - size), rng.randrange(len(data) - size)
            yield "zero", f"zero-{size}-{name}", data[:at] + bytes(size) + data[at + size :]
            yield "double", f"double-{size}-{name}", data[: at + size] + data[at:]
            yield "lose", f"lose-{size}-{name}", data[:at] + data[at + size :]
            yield "swap", f"swap-{size}-{name}", swapped(data, at, to, size)
        yield "twice", f"twice-{name}", data + data
        yield "tail", f"tail-{name}", data + rng.randbytes(3000)


def _boxes(bases: dict[str, bytes]) -> Named:
    sized = ("ftyp", "moov", "trak", "stbl", "stsd", "stts", "avcC", "esds", "mdat", "moof", "trun")
    for name, data in bases.items():
        for kind in sized:
            box = boxes.first(data, kind)
            if box is None:
                continue
            for size in (0, 1, 7, 0x80000000, 0xFFFFFFFF):
                yield "size", f"size-{kind}-{size:x}-{name}", boxes.resized(data, box, size)
            yield "size_negative", f"size-{kind}-negative-{name}", boxes.resized_64(data, box, -1)
            yield "lost_box", f"lost-{kind}-{name}", boxes.replaced(data, box, b"")
        for kind in boxes.COUNT_AT:
            box = boxes.first(data, kind)
            for count in (0, 1_000_000, 0x7FFFFFFF, 0xFFFFFFFF) if box else ():
                assert box is not None
                yield "count", f"count-{kind}-{count:x}-{name}", boxes.counted(data, box, count)
        moov, mdat = boxes.first(data, "moov"), boxes.first(data, "mdat")
        if moov and mdat:
            yield "two_headers", f"two-headers-{name}", boxes.replaced(data, moov, 2 * data[moov.start : moov.end])
            yield (
                "header_in_header",
                f"header-in-header-{name}",
                boxes.replaced(data, moov, boxes.build("moov", data[moov.start : moov.end], data[moov.body : moov.end])),
            )


def _elements(bases: dict[str, bytes]) -> Named:
    sized = {
        "segment": elements.SEGMENT,
        "tracks": elements.TRACKS,
        "track": elements.TRACK_ENTRY,
        "cluster": elements.CLUSTER,
        "block": 0xA3,
    }
    numbers = {"scale": elements.TIMESTAMP_SCALE, "time": elements.CLUSTER_TIME, "duration": elements.DURATION, "codec": elements.CODEC_ID}
    for name, data in bases.items():
        for kind, ident in (sized | {"ebml": 0x1A45DFA3, "info": elements.INFO}).items():
            element = elements.first(data, ident)
            for size in (0, 1, 0x7FFFFFFF, (1 << 56) - 2, elements.UNKNOWN) if element else ():
                assert element is not None
                yield "size", f"size-{kind}-{size:x}-{name}", elements.resized(data, element, size)
        for kind, ident in numbers.items():
            element = elements.first(data, ident)
            for body in (b"", b"\0", b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"\x7f\xf8" + bytes(6)) if element else ():
                assert element is not None
                yield "number", f"number-{kind}-{body[:2].hex()}{len(body)}-{name}", elements.filled(data, element, body)


def _packets(ts: bytes, rng: Random) -> Named:
    for every in (2, 3, 10):
        yield "sync", f"sync-{every}.ts", packets.without_sync(ts, every)
    for at in (0, 1, 5):
        yield "off_grid", f"off-grid-{at}.ts", packets.shifted(ts, at, rng.randbytes(77))
    for ticks in (0, (1 << 33) - 1, 1 << 32, 90_000 * 360_000):
        yield "time", f"time-{ticks}.ts", packets.stamped(ts, ticks, 5)
    for i in range(12):
        yield "packets", f"packets-{i}.ts", packets.mutate(packets.mutate(ts, rng), rng)
    yield "backwards", "backwards.ts", b"".join(reversed(packets.split(ts)))
    yield "one_packet", "one-packet.ts", ts[: packets.SIZE]


def _chunks(avi: bytes) -> Named:
    for name in (b"RIFF", b"hdrl", b"avih", b"strh", b"strf", b"movi", b"idx1", b"00dc"):
        at = avi.find(name)
        # A list's size stands before its name, a chunk's after it.
        at = at - 4 if name in (b"hdrl", b"movi") else at + 4
        for size in (0, 1, 0x80000000, 0xFFFFFFFF):
            yield "size", f"size-{name.decode()}-{size:x}.avi", avi[:at] + size.to_bytes(4, "little") + avi[at + 4 :]
    frames = avi.find(b"00dc", avi.find(b"movi"))
    second = avi.find(b"00dc", frames + 4)
    yield "swapped_chunks", "swapped-chunks.avi", swapped(avi, frames, second, 400)
    rates = avi.find(b"strh") + 8 + 20
    for scale, rate in ((0, 1), (1, 0), (0xFFFFFFFF, 1), (1, 0xFFFFFFFF)):
        field = scale.to_bytes(4, "little") + rate.to_bytes(4, "little")
        yield "rate", f"rate-{scale:x}-{rate:x}.avi", avi[:rates] + field + avi[rates + 8 :]


def _other(folder: Path, rng: Random) -> Named:
    yield "text", "text.mp4", b"this is not a video\n" * 20
    yield "empty", "empty.mp4", b""
    yield "spaces", "spaces.mp4", b" " * 5000
    yield "zeros", "zeros.mp4", bytes(50_000)
    yield "ones", "ones.ts", b"\xff" * 50_000
    yield "sync_only", "sync-only.ts", b"G" * 50_000
    for size in (10, 2000, 100_000):
        yield "noise", f"noise-{size}", rng.randbytes(size)
    for suffix in ("png", "jpg", "bmp", "webp"):
        picture = clips.still(folder / f"still.{suffix}").read_bytes()
        yield "still", f"still.{suffix}", picture
        yield "still", f"still-{suffix}.mp4", picture
    yield "gif", "still.gif", b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    for suffix in ("mp4", "mkv", "ts"):
        yield "sound", f"sound.{suffix}", clips.audio_only(folder / f"sound.{suffix}").read_bytes()
    yield (
        "sound",
        "sound.wav",
        b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\0\x10\0\0" + bytes(4096),
    )
    heads: dict[str, bytes] = {
        "zip": b"PK\x03\x04",
        "pdf": b"%PDF-1.7\n",
        "elf": b"\x7fELF\x02\x01",
        "gzip": b"\x1f\x8b\x08",
        "flv": b"FLV\x01\x05",
    }
    heads |= {
        "ogg": b"OggS\0\x02",
        "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        "ivf": b"DKIF\0\0 \0VP80",
        "mpeg": b"\0\0\x01\xba",
    }
    heads |= {
        "h264": b"\0\0\0\x01\x67\x42",
        "hevc": b"\0\0\0\x01\x40\x01",
        "html": b"<!doctype html><video src='x'>",
        "mjpeg": b"\xff\xd8\xff\xe0",
    }
    for name, head in heads.items():
        yield "head", f"head-{name}", head + rng.randbytes(4000)
