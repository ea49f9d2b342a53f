"""The 24 bytes before each piece of media on a live stream: a binary message comes in, its header and payload go out, or a typed refusal.

Big-endian, as DataView reads and writes by default. Read by `stream_connection.py`; the Python client writes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Final, Self

from service.problems import ServiceError

HEADER_VERSION: Final = 1
NO_PTS: Final = -(2**63)
FARTHEST_US: Final = 4_500_000_000_000_000
"""Microseconds either side of 0 that a stamp may be at, 142 years: the sum of two is exact in a double, which JavaScript and FFmpeg use."""


class BadMedia(ServiceError):
    """The message, not what it carries."""

    slug = "bad-media-message"
    title = "A binary message cannot be understood"


class MediaKind(IntEnum):
    """What the payload is."""

    CHUNK = 1
    JPEG = 2
    WEBP = 3
    INIT = 4
    """The beginning of a container; a chunk like any other, named so that a client may keep it."""


KINDS: Final = frozenset(map(int, MediaKind))


class MediaFlag(IntFlag):
    KEY = 1
    """A decoder can begin here; every JPEG and WebP is so."""
    DISCONTINUITY = 2
    """Something else is filmed from here on, or by somebody else: memories of faces begin anew."""
    LAST = 4
    """Nothing follows, as after `stop`."""


NO_FLAGS: Final = MediaFlag(0)


@dataclass(frozen=True, slots=True)
class MediaHeader:
    """What a client says of a piece of media."""

    kind: MediaKind
    seq: int
    """Number of the piece, from 0, one more each time."""
    flags: MediaFlag = NO_FLAGS
    pts_us: int | None = None
    """When it is shown, microseconds on a line of the client's choice; pictures need it, chunks have their own."""
    capture_epoch_us: int | None = None
    """When it was filmed by the client's clock, microseconds since 1970; comes back with its score."""

    FORM: ClassVar = struct.Struct(">BBHIqq")

    def packed(self) -> bytes:
        """The 24 bytes."""
        pts = NO_PTS if self.pts_us is None else self.pts_us
        return self.FORM.pack(HEADER_VERSION, self.kind, self.flags, self.seq, pts, self.capture_epoch_us or 0)

    @classmethod
    def parsed(cls, message: bytes) -> tuple[Self, memoryview]:
        """Header and payload of a binary message.

        Raises:
            BadMedia: it is too short or empty, of another version, or has a kind, flag or stamp that does not exist.
        """
        if len(message) < cls.FORM.size:
            raise BadMedia("A binary message has no header.", expected=f"{cls.FORM.size} bytes and a payload", got=f"{len(message)} bytes")
        version, kind, flags, seq, pts, captured = cls.FORM.unpack_from(message)
        if version != HEADER_VERSION:
            raise BadMedia("The header is of another version.", expected=f"version {HEADER_VERSION}", got=str(version))
        if kind not in KINDS:
            raise BadMedia("The header has an unknown kind.", expected=f"one of {', '.join(map(str, sorted(KINDS)))}", got=str(kind))
        if flags & ~int(MediaFlag.KEY | MediaFlag.DISCONTINUITY | MediaFlag.LAST):
            raise BadMedia("The header has unknown flags.", expected="1, 2, 4 or sums of them", got=str(flags))
        if pts != NO_PTS and abs(pts) > FARTHEST_US:
            raise BadMedia("The stamp is too far away.", expected=f"at most {FARTHEST_US} us either side of 0", got=str(pts))
        payload = memoryview(message)[cls.FORM.size :]
        if not payload and not flags & MediaFlag.LAST:
            raise BadMedia("A binary message is empty.", expected="a payload, or the flag that it is the last", got="neither")
        return cls(MediaKind(kind), seq, MediaFlag(flags), None if pts == NO_PTS else pts, captured or None), payload
