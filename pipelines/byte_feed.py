"""Bytes for the demuxer: anything with `read(n)` comes in, an object that PyAV can trust goes out. Made by `containers.py`.

PyAV copies whatever `read(n)` returns into a buffer of n bytes, unchecked: one byte too many ends the process (18.1, measured). And what
`read` raises is printed and lost inside FFmpeg. So pieces are cut here, and an error ends the feed and is kept for whoever reads frames.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Protocol, cast

from pipelines.errors import EmptySource, FeedFailed, MediaTooLarge, NotAFile, SourceError, SourceNotFound


class Readable(Protocol):
    """A source of bytes: `read(n)` gives at most about n of them, b"" at the end; it may block."""

    def read(self, n: int, /) -> bytes: ...


class Seekable(Readable, Protocol):
    """A source of bytes that can go back, as some containers need (an mp4 whose index stands at its end)."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class ByteFeed:
    """Reads forward only. `error` is what ended it, if not the end of the bytes."""

    can_seek = False

    def __init__(self, source: Readable, *, max_bytes: int) -> None:
        self.error: BaseException | None = None
        self._source, self._max_bytes = source, max_bytes
        self._rest = memoryview(b"")
        self._taken = 0

    def read(self, n: int) -> bytes:
        """At most `n` bytes; b"" at the end and after an error."""
        if self.error is not None or n <= 0:
            return b""
        if not self._rest:
            try:
                self._rest = memoryview(self._source.read(n))
            except BaseException as error:  # even a KeyboardInterrupt: raised into FFmpeg's callback it would be printed and lost
                self.error = error
                return b""
            self._taken += len(self._rest)
            if self._taken > self._max_bytes:
                self.error = MediaTooLarge("The source has too many bytes.", expected=f"at most {self._max_bytes} bytes", got="more")
                return b""
        piece, self._rest = self._rest[:n], self._rest[n:]
        return bytes(piece)

    @property
    def is_empty(self) -> bool:
        """Whether not one byte has come."""
        return self._taken == 0

    def raise_error(self, name: str) -> None:
        """Raise what ended the feed early, if anything did: refusals and interrupts as they are, the rest as FeedFailed."""
        if self.error is None:
            return
        if isinstance(self.error, MediaTooLarge) or not isinstance(self.error, Exception):
            raise self.error
        raise FeedFailed(
            f"{name} failed while it was read.", expected="bytes from read(n)", got=f"{type(self.error).__name__}: {self.error}"
        ) from self.error


class SeekableFeed(ByteFeed):
    """Can go back; its size is bounded before it is opened, not by counting what is read again."""

    can_seek = True

    def __init__(self, source: Seekable) -> None:
        self._seekable = source
        self._at = source.tell()
        self.size_bytes = source.seek(0, 2) - self._at
        super().__init__(source, max_bytes=2**63)
        source.seek(self._at)
        self._origin = self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file's, counted from where the source stood when it was handed over."""
        self._rest = memoryview(b"")
        try:
            self._at = self._seekable.seek(offset + self._origin if whence == 0 else offset, whence)
        except (OSError, ValueError):
            return -1  # a damaged file sends FFmpeg to places that are not there, and it knows what to do about it
        except BaseException as error:  # as in `read`
            self.error = error
            return -1
        return self._at - self._origin

    def tell(self) -> int:
        """As a file's."""
        return self._at - self._origin

    def read(self, n: int) -> bytes:
        piece = super().read(n)
        self._at += len(piece)
        return piece


def feed_of(source: Readable, *, max_bytes: int) -> ByteFeed:
    """The right feed for `source`.

    Raises:
        MediaTooLarge: its size is known and above `max_bytes`.
    """
    can_seek = getattr(source, "seekable", None)
    if not (callable(can_seek) and can_seek()):
        return ByteFeed(source, max_bytes=max_bytes)
    feed = SeekableFeed(cast(Seekable, source))
    if feed.size_bytes > max_bytes:
        raise MediaTooLarge("The source has too many bytes.", expected=f"at most {max_bytes} bytes", got=f"{feed.size_bytes} bytes")
    return feed


def open_file(path: Path) -> io.FileIO:
    """Open a readable regular file with content, or say why it is not one; a pipe or device would block for ever.

    Raises:
        SourceNotFound, NotAFile, EmptySource, SourceError: as their names say.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise NotAFile(f"{path.name} is {kind}.", expected="a video file", got=kind)
        file = io.FileIO(path, "rb")
    except FileNotFoundError as error:
        raise SourceNotFound(f"There is no file {path.name}.", expected="an existing video file", got="no such file") from error
    except PermissionError as error:
        raise SourceError(f"{path.name} may not be read.", expected="a readable video file", got="permission denied") from error
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) else str(error)
        raise SourceError(f"{path.name} cannot be looked at.", expected="a readable video file", got=got or "an error") from error
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise EmptySource(f"{path.name} is empty.", expected="a video file", got="0 bytes")
    return file
