"""The zip around an evidence pack: names and contents come in, the only bytes that they can have go out, and are held against them later.

Any program opens it as a zip. But of all zips with these contents only one is a pack: nothing is compressed (what a compressor writes
hangs on its version), every time is 1980, every field follows from name, size and content. So a reader needs no tolerance: what differs
by one byte is refused, and names, links, flags or comments of somebody else's never mean anything. Written by `evidence_pack.py`, read by
`pack_check.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Final, Protocol

from service.problems import ServiceError

PIECE: Final = 1 << 20
_LOCAL: Final = Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = Struct("<4sHHHHHHIIIHHHHHII")
_END64: Final = Struct("<4sQHHIIQQQQ")
_LOCATOR: Final = Struct("<4sIQI")
_END: Final = Struct("<4sHHHHIIH")
_CRC_AT: Final = 14
"""Where a local header has the CRC-32 of what follows it."""
_DAY_ONE: Final = 0x21
"""1980-01-01, the first day that a zip knows."""
_UNIX: Final = 3 << 8
_PLAIN_FILE: Final = 0o100644 << 16
_MAX16: Final = 0xFFFF
_MAX32: Final = 0xFFFF_FFFF


class PackRefused(ServiceError):
    """The file is not a pack as it was signed."""

    slug = "pack-not-valid"
    title = "The evidence pack is not valid"
    status = 422


class Readable(Protocol):
    """What a pack is read from."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One file inside."""

    name: str
    size: int
    crc: int


def entry(name: str, content: bytes) -> Entry:
    """The entry of a file whose content is at hand."""
    return Entry(name, len(content), zlib.crc32(content))


def header(one: Entry) -> bytes:
    """What stands before its content."""
    name, extra, size, version = one.name.encode(), b"", one.size, 20
    if one.size >= _MAX32:
        extra, size, version = Struct("<HHQQ").pack(1, 16, one.size, one.size), _MAX32, 45
    return _LOCAL.pack(b"PK\3\4", version, 0, 0, 0, _DAY_ONE, one.crc, size, size, len(name), len(extra)) + name + extra


def ending(entries: Sequence[Entry]) -> bytes:
    """What stands behind the last content."""
    offsets = [0, *accumulate(len(header(one)) + one.size for one in entries)]
    listed = b"".join(_listed(one, offset) for one, offset in zip(entries, offsets, strict=False))
    count, offset, tail = len(entries), offsets[-1], b""
    if count >= _MAX16 or offset >= _MAX32:
        tail = _END64.pack(b"PK\6\6", _END64.size - 12, _UNIX | 45, 45, 0, 0, count, count, len(listed), offset)
        tail += _LOCATOR.pack(b"PK\6\7", 0, offset + len(listed), 1)
    few = min(count, _MAX16)
    return listed + tail + _END.pack(b"PK\5\6", 0, 0, few, few, len(listed), min(offset, _MAX32), 0)


def packed(files: Mapping[str, bytes]) -> bytes:
    """All of it at once, in the order of `files`."""
    entries = [entry(name, content) for name, content in files.items()]
    return b"".join(header(one) + files[one.name] for one in entries) + ending(entries)


class PackReader:
    """A file that should be a pack, read once from its first byte to its last."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._at = 0
        self._entries: list[Entry] = []

    def small(self, name: str, at_most: int) -> bytes:
        """The content of the next file, which must be `name` and no larger than that.

        Raises:
            PackRefused: it is another, or larger, or written as no pack is.
        """
        raw = self._take(_LOCAL.size)
        size = _LOCAL.unpack(raw)[8]
        if raw[:4] != b"PK\3\4" or size > at_most:
            got = f"{size:,} bytes" if raw[:4] == b"PK\3\4" else "no zip"
            raise PackRefused(
                f"The file does not go on with {name}.", expected=f"a stored file of at most {at_most:,} bytes at byte {self._at}", got=got
            )
        return b"".join(self._content(name, size, raw))

    def content(self, name: str, size: int) -> Iterator[bytes]:
        """The content of the next file, in pieces; it is `name` with `size` bytes, or PackRefused before or after its last piece."""
        return self._content(name, size, self._take(_LOCAL.size))

    def close(self) -> None:
        """Nothing but the table of what was read may follow.

        Raises:
            PackRefused: something else does.
        """
        self._expect(ending(self._entries), "the zip's table of contents")
        if self._file.read(1):
            raise PackRefused("Something follows the end of the pack.", expected=f"{self._at:,} bytes", got="more")

    def _content(self, name: str, size: int, raw: bytes) -> Iterator[bytes]:
        crc = int.from_bytes(raw[_CRC_AT : _CRC_AT + 4], "little")
        one = Entry(name, size, crc)
        wanted = header(one)
        found = raw + self._file.read(len(wanted) - len(raw))
        self._compare(found, wanted, f"the header of {name}")
        self._at += len(wanted)
        left, summed = size, 0
        while left:
            piece = self._file.read(min(left, PIECE))
            if not piece:
                raise PackRefused(f"The file ends within {name}.", expected=f"{size:,} bytes", got=f"{size - left:,}")
            left -= len(piece)
            self._at += len(piece)
            summed = zlib.crc32(piece, summed)
            yield piece
        if summed != crc:
            raise PackRefused(f"{name} was changed.", expected=f"CRC-32 {crc:08x}", got=f"{summed:08x}")
        self._entries.append(one)

    def _take(self, count: int) -> bytes:
        """The next bytes, which are still to be compared."""
        raw = self._file.read(count)
        if len(raw) < count:
            raise PackRefused(
                "The file ends too early.", expected=f"more than {self._at + len(raw):,} bytes", got=f"{self._at + len(raw):,}"
            )
        return raw

    def _expect(self, wanted: bytes, what: str) -> None:
        self._compare(self._file.read(len(wanted)), wanted, what)
        self._at += len(wanted)

    def _compare(self, found: bytes, wanted: bytes, what: str) -> None:
        if found != wanted:
            same = next(
                (i for i, (one, other) in enumerate(zip(found, wanted, strict=False)) if one != other), min(len(found), len(wanted))
            )
            raise PackRefused(
                f"At byte {self._at + same:,} the file is not what {what} must be.",
                expected=wanted[same : same + 16].hex(" "),
                got=found[same : same + 16].hex(" ") or "the end",
            )


def _listed(one: Entry, offset: int) -> bytes:
    """Its line in the table of contents."""
    name = one.name.encode()
    large = [number for number in (one.size, one.size, offset) if number >= _MAX32]
    extra = Struct(f"<HH{len(large)}Q").pack(1, 8 * len(large), *large) if large else b""
    version, size = 45 if large else 20, min(one.size, _MAX32)
    fields = (version, 0, 0, 0, _DAY_ONE, one.crc, size, size, len(name), len(extra), 0, 0, 0, _PLAIN_FILE, min(offset, _MAX32))
    return _CENTRAL.pack(b"PK\1\2", _UNIX | version, *fields) + name + extra
