"""What a decode child can read: a byte feed comes in, a descriptor of a file, of sealed memory or of a pipe goes out."""

from __future__ import annotations

import fcntl
import io
import os
import stat
import threading
import time
from contextlib import ExitStack, suppress
from typing import Final

from pipelines.byte_feed import Readable, SeekableFeed, feed_of
from pipelines.media import Limits

FEED_PIECE: Final = 64 * 1024


class Pump(threading.Thread):
    """Carries a byte feed into the child's pipe, since a child cannot call back; keeps what the feed raised."""

    def __init__(self, source: Readable, writer: int) -> None:
        super().__init__(name="media-feed", daemon=True)
        self.error: BaseException | None = None
        self._source, self._writer = source, writer
        self._waits: tuple[float, float | None] = (0.0, None)
        """Seconds waited for the feed until now, and since when it is waited for again; one value, since two threads look."""

    @property
    def waited_s(self) -> float:
        """Seconds in which the feed, not the child, was what everybody waited for."""
        waited_s, since = self._waits
        return waited_s if since is None else waited_s + time.monotonic() - since

    def drop(self) -> None:
        """Let go of the pipe, if it was never started."""
        if self.ident is None:
            os.close(self._writer)

    def run(self) -> None:
        with os.fdopen(self._writer, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            while True:
                self._waits = (self._waits[0], time.monotonic())
                try:
                    piece = memoryview(self._source.read(FEED_PIECE))
                except BaseException as error:  # anything: it is raised again to whoever reads the frames
                    self.error = error
                    return
                finally:
                    self._waits = (self.waited_s, None)
                if not piece:
                    return
                while piece:
                    piece = piece[pipe.write(piece) :]


def seekable(source: Readable, limits: Limits) -> int | None:
    """A descriptor of what a source still has to give, if it can go back: a file's own, or a copy in memory; None if it cannot.

    Raises:
        MediaTooLarge: it has more bytes than the limit.
    """
    feed = feed_of(source, max_bytes=limits.max_bytes)
    if not isinstance(feed, SeekableFeed):
        return None
    if (own := _reopened(source)) is not None:
        return own
    left = feed.size_bytes
    with ExitStack() as failed:
        copy = os.memfd_create("media", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        failed.callback(os.close, copy)
        with os.fdopen(os.dup(copy), "wb") as file:
            while left > 0 and (piece := feed.read(min(left, FEED_PIECE))):
                file.write(piece)
                left -= len(piece)
        feed.raise_error("the byte feed")
        os.lseek(copy, 0, os.SEEK_SET)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        failed.pop_all()
    return copy


def _reopened(source: Readable) -> int | None:
    """A plain file's descriptor of its own, at the same place: the caller's may be writable, and stays where it is.

    Only of Python's own classes, because another's `fileno` need not be where its bytes come from (gzip).
    """
    raw = source.raw if type(source) is io.BufferedReader else source
    if type(raw) is not io.FileIO or not raw.readable() or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    assert isinstance(source, io.FileIO | io.BufferedReader)
    at = source.tell()
    try:
        own = os.open(f"/proc/self/fd/{raw.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # opened by somebody with other rights than this process has now
        return None
    os.lseek(own, at, os.SEEK_SET)
    return own
