"""The way of a decode child to hosts that have a name to prove: HTTP's own proxy protocol comes in, bytes of an allowed host go back.

Made and called by each child's `net_gate.NetGate`. TLS stays between FFmpeg and the host, asked for by name (CONNECT); plain requests are
passed on one by one. A playlist may name other hosts: each is looked up once, and held to the same policy.
"""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from pipelines.errors import PipelineError, UrlNotAllowed
from service.url_policy import Address, Target, UrlPolicy

MAX_HEAD: Final = 64 * 1024
PIECE: Final = 256 * 1024
CONNECT_S: Final = 4.0
REQUEST: Final = re.compile(rb"([A-Z]+) (\S+) (HTTP/1\.[01])\r\n")
CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class UrlProxy:
    """One child's proxy; call it with a connection. A thread carries each, and ends with it."""

    def __init__(self, policy: UrlPolicy, target: Target) -> None:
        self._policy, self._target = policy, target
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[Address, ...]] = {(target.host, target.port): target.addresses}
        self.strayed = ""
        """Where the child asked to go, and may not; empty if it never did."""

    def __call__(self, child: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(child,), name="media-proxy", daemon=True).start()

    def _serve(self, child: socket.socket) -> None:
        with child, suppress(OSError):
            head, rest = _head(child, b"")
            asked = REQUEST.match(head)
            if asked is None:
                return
            tunnel = asked[1] == b"CONNECT"
            try:
                host = self._dial(*_place(asked[2].decode(errors="replace"), tunnel=tunnel))
            except UrlNotAllowed as error:
                self.strayed = self.strayed or error.got
                child.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            except (PipelineError, OSError):
                child.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            with host:
                if tunnel:
                    child.sendall(CONNECTED)
                    host.sendall(rest)
                    _carry(child, host, lambda: host.sendall(child.recv(PIECE) or _end()))
                else:
                    host.sendall(_plain(head, asked) + rest)
                    _carry(child, host, partial(self._pass_on, child, host, asked[2]))

    def _pass_on(self, child: socket.socket, host: socket.socket, first: bytes) -> None:
        """Another request on a connection is for the same host; it has no body, being a GET."""
        head, rest = _head(child, child.recv(PIECE) or _end())
        asked = REQUEST.match(head)
        if asked is None or urlsplit(asked[2]).netloc != urlsplit(first).netloc:
            _end()
        else:
            host.sendall(_plain(head, asked) + rest)

    def _dial(self, name: str, port: int) -> socket.socket:
        for address in self._addresses(name, port):
            with suppress(OSError):
                made = socket.create_connection((str(address), port), timeout=CONNECT_S)
                made.settimeout(None)
                return made
        raise ConnectionRefusedError

    def _addresses(self, name: str, port: int) -> tuple[Address, ...]:
        with self._lock:
            if (found := self._known.get((name, port))) is not None:
                return found
        if self._target.scheme == "rtsps":
            raise UrlNotAllowed("The camera leads elsewhere.", expected=self._target.shown, got=f"{name}:{port}")
        found = self._policy.resolve(name, port)
        with self._lock:
            return self._known.setdefault((name, port), found)


def _end() -> bytes:
    raise ConnectionAbortedError


def _head(child: socket.socket, begun: bytes) -> tuple[bytes, bytes]:
    """A request's head, and what came after it."""
    while b"\r\n\r\n" not in begun:
        if len(begun) > MAX_HEAD:
            _end()
        begun += child.recv(PIECE) or _end()
    head, _, rest = begun.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _place(where: str, *, tunnel: bool) -> tuple[str, int]:
    """Host and port of what was asked for.

    Raises:
        UrlNotAllowed: there is none.
    """
    with suppress(ValueError):
        parts = urlsplit(f"//{where}" if tunnel else where)
        if parts.hostname and (tunnel or parts.scheme == "http"):
            return parts.hostname, parts.port or (443 if tunnel else 80)
    raise UrlNotAllowed("The proxy cannot go there.", expected="a host by name, over HTTP", got=where[:80])


def _plain(head: bytes, asked: re.Match[bytes]) -> bytes:
    """A request as a host gets it: with the path alone."""
    _, _, path = asked[2].partition(b"://")[2].partition(b"/")
    return b"%s /%s %s\r\n%s" % (asked[1], path, asked[3], head[asked.end() :])


def _carry(child: socket.socket, host: socket.socket, forth: Callable[[], object]) -> None:
    """Until one of the two hangs up."""
    ready = select.poll()  # a process of many streams has descriptors that `select` cannot name
    ready.register(child, select.POLLIN)
    ready.register(host, select.POLLIN)
    while True:
        for descriptor, _ in ready.poll():
            if descriptor == child.fileno():
                forth()
            else:
                child.sendall(host.recv(PIECE) or _end())
