"""The watch: files that nobody may open come in; what was touched goes out, with what called at a server of ours. Linux only (inotify)."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ACCESSED: Final = 0x1
OPENED: Final = 0x20
NONBLOCKING: Final = os.O_NONBLOCK | os.O_CLOEXEC
EVENT: Final = struct.Struct("iIII")


class Watch:
    """Notices, in any process, who opens the files, and counts connections and datagrams at `port` of 127.0.0.1."""

    def __init__(self, inotify: int, names: dict[int, str], stream: socket.socket, datagrams: socket.socket) -> None:
        self.port = int(stream.getsockname()[1])
        self._inotify, self._names, self._stream, self._datagrams = inotify, names, stream, datagrams
        self._calls = 0
        self._counting = threading.Lock()

    def touched(self) -> list[str]:
        """Names of the files opened or read since the last call, and "network" where something called."""
        touched = set()
        try:
            while events := os.read(self._inotify, 65536):
                at = 0
                while at < len(events):
                    descriptor, _, _, length = EVENT.unpack_from(events, at)
                    touched.add(self._names.get(descriptor, "overflow"))
                    at += EVENT.size + length
        except BlockingIOError:
            pass
        with self._counting:
            if self._calls:
                touched.add("network")
            self._calls = 0
        return sorted(touched)

    def serve(self) -> None:
        """Answer everybody with 404 until the sockets are shut."""
        while True:
            try:
                caller, _ = self._stream.accept()
            except OSError:
                return
            with caller:
                self._count()
                caller.settimeout(1.0)
                try:
                    caller.recv(4096)
                    caller.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    pass

    def listen(self) -> None:
        """Count datagrams; an empty one from ourselves ends it."""
        while self._datagrams.recv(2048):
            self._count()

    def _count(self) -> None:
        with self._counting:
            self._calls += 1


@contextmanager
def watch(files: Iterable[Path]) -> Iterator[Watch]:
    """Watch `files`, and listen, until the block ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = int(libc.inotify_init1(NONBLOCKING))
    if inotify < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        threads: list[threading.Thread] = []
        try:
            names = {}
            for path in files:
                descriptor = int(libc.inotify_add_watch(inotify, os.fsencode(path), OPENED | ACCESSED))
                if descriptor < 0:
                    raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path))
                names[descriptor] = path.name
            stream.bind(("127.0.0.1", 0))
            stream.listen(64)
            datagrams.bind(stream.getsockname())
            watching = Watch(inotify, names, stream, datagrams)
            threads = [threading.Thread(target=work, daemon=True) for work in (watching.serve, watching.listen)]
            for thread in threads:
                thread.start()
            yield watching
        finally:
            if threads:
                stream.shutdown(socket.SHUT_RDWR)
                datagrams.sendto(b"", datagrams.getsockname())
            for thread in threads:
                thread.join()
            os.close(inotify)
