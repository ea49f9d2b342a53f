"""Media on its way to a decoder: pieces come in from the event loop, bytes go out to whoever reads them in a thread, waiting for more.

Filled by `stream_intake.py`, read by the media sandbox (`pipelines.byte_feed.Readable`). What bounds it is the credit that a client gets.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class MediaFeed:
    """A queue of pieces that ends.

    Args:
        on_taken: told in the reader's thread that a piece was taken, by the bytes that a client sent for it; not of pieces of our own.
    """

    def __init__(self, on_taken: Callable[[int], None]) -> None:
        self._on_taken = on_taken
        self._changed = threading.Condition()
        self._pieces: deque[tuple[memoryview, int]] = deque()
        self._rest = memoryview(b"")
        self._waiting_bytes = 0
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended

    @property
    def waiting_bytes(self) -> int:
        """Of clients' messages, that nobody has taken yet."""
        return self._waiting_bytes

    def put(self, piece: bytes | memoryview, size: int) -> None:
        """Let a piece be read, that a client sent as `size` bytes, 0 for one of our own; after the end it is left out."""
        with self._changed:
            if not self._ended:
                self._pieces.append((memoryview(piece), size))
                self._waiting_bytes += size
                self._changed.notify_all()

    def end(self) -> None:
        """Nothing more comes; what is there is still read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        """End it, and let go of what is there."""
        with self._changed:
            self._ended = True
            self._pieces.clear()
            self._rest, self._waiting_bytes = memoryview(b""), 0
            self._changed.notify_all()

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes, as soon as there are any; b"" at the end."""
        with self._changed:
            taken = 0
            if not self._rest:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if not self._pieces:
                    return b""
                self._rest, taken = self._pieces.popleft()
                self._waiting_bytes -= taken
            piece, self._rest = self._rest[:n], self._rest[n:]
        if taken:
            self._on_taken(taken)
        return bytes(piece)
