"""A network that breaks: TCP connections come in at its port and are carried, byte for byte, to a service, until a test cuts them.

Threads carry, so that it serves tests with and without an event loop.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

PIECE: Final = 1024
"""Small, so that a connection breaks in the middle of a message."""


@dataclass(slots=True, eq=False)
class _Cable:
    """One connection that is carried."""

    ends: tuple[socket.socket, socket.socket]
    budget: int | None
    """Bytes of both directions that it still carries; None: any number."""
    directions: int = 2
    """That are still open."""


class BrokenNetwork:
    """Carries connections to `target`, a port of this machine, between `with` and its end.

    Args:
        budgets: each new connection takes the next; after so many bytes all are cut. Without one it holds.
    """

    def __init__(self, target: int, budgets: Iterable[int] = ()) -> None:
        self.target = target
        """Where new connections lead; a test may change it."""
        self.up = True
        """Whether new connections are carried at all; otherwise they end at once."""
        self.cuts = 0
        self._budgets = iter(budgets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._cables: set[_Cable] = set()
        self._threads = [threading.Thread(target=self._serve, name="network")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.up = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """All connections end at once, as by a pulled plug, in the middle of whatever they say."""
        with self._lock:
            self.cuts += bool(self._cables)
            for end in [end for cable in self._cables for end in cable.ends]:
                with suppress(OSError):  # it has ended already
                    end.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            cable = _Cable((near, far), next(self._budgets, None) if self.up else None)
            with self._lock:
                # Asked under the lock: whoever says no and then cuts leaves none uncut.
                if not self.up:
                    near.close()
                    far.close()
                    continue
                self._cables.add(cable)
            for source, sink in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._carry, args=(cable, source, sink), name="network"))
                self._threads[-1].start()

    def _carry(self, cable: _Cable, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                sink.sendall(piece)
                if cable.budget is not None:
                    cable.budget -= len(piece)
                    if cable.budget <= 0:
                        self.cut()
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            cable.directions -= 1
            if not cable.directions:
                self._cables.discard(cable)
                for end in cable.ends:
                    end.close()
