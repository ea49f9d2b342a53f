"""Media on its way to the service: pieces come in, numbered messages within the credit go out; kept until they are known to have come.

Passive: it knows no socket. Filled and emptied by `live.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from service.client.errors import WrongProtocol
from service.media_header import NO_FLAGS, MediaFlag, MediaHeader, MediaKind
from service.stream_wire import Allowance


@dataclass(frozen=True, slots=True)
class _Piece:
    header: MediaHeader
    payload: bytes
    ends_at: int
    """Bytes of payload from the beginning of the stream to its end."""


class Outgoing:
    """The pieces of one session.

    Args:
        kind: of each.
    """

    def __init__(self, kind: MediaKind) -> None:
        self._kind = kind
        self._kept: deque[_Piece] = deque()
        """Not known to have come, oldest first; without a hole."""
        self._count = self._bytes = 0
        self._next = 0
        """Number of the one to be sent next; the newer ones wait too."""
        self.allowance = Allowance(media=0, bytes=0)
        """As the service told last."""

    def __len__(self) -> int:
        return len(self._kept)

    def has_room(self, size: int) -> bool:
        """Whether a piece of so many bytes could be sent at once: nothing waits, and the credit allows it."""
        return self._next == self._count and self._allows(self._count, self._bytes + size)

    def put(self, payload: bytes, *, flags: MediaFlag = NO_FLAGS, pts_us: int | None = None, capture_epoch_us: int | None = None) -> None:
        """Let a piece be sent next."""
        self._bytes += len(payload)
        header = MediaHeader(self._kind, self._count, flags, pts_us, capture_epoch_us)
        self._kept.append(_Piece(header, payload, self._bytes))
        self._count += 1

    @property
    def sendable(self) -> bool:
        """Whether `take` has something."""
        return self._next < self._count and self._allows(self._next, self._waiting.ends_at)

    def take(self) -> bytes:
        """The next message; asked only while `sendable`."""
        piece = self._waiting
        self._next += 1
        return piece.header.packed() + piece.payload

    def arrived(self, n: int) -> None:
        """The service has taken the first `n` pieces: they need not be kept."""
        while self._kept and self._kept[0].header.seq < min(n, self._next):
            self._kept.popleft()

    def again_from(self, seq: int) -> None:
        """The service expects this piece next: it is sent again with all after it, and those before have come.

        Raises:
            WrongProtocol: that piece was never there, or was said to have come.
        """
        first = self._kept[0].header.seq if self._kept else self._count
        if not first <= seq <= self._count:
            raise WrongProtocol(
                "The service asks for media that it cannot miss.", expected=f"a seq from {first} to {self._count}", got=f"{seq}"
            )
        self._next = seq
        self.arrived(seq)

    @property
    def _waiting(self) -> _Piece:
        return self._kept[self._next - self._kept[0].header.seq]

    def _allows(self, seq: int, ends_at: int) -> bool:
        return seq + 1 <= self.allowance.media and ends_at <= self.allowance.bytes
