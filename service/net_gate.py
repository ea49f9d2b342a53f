"""The gate of a decode child: it asks to connect, and is given a socket that its parent connected to where it may go, or none.

A server may answer that the stream is elsewhere, a playlist name other hosts, a decoder be taken over: a check before opening holds nobody.
So the kernel asks us (seccomp's user notification): a connection is made here, to an address that `url_policy.py` looked up once, and put
in the place of the child's own. A socket for datagrams, where pictures come in them, is made here from the beginning, and connected here.
What the child says in its arguments is compared, never used, and nothing else reaches a network. It costs nothing while media flows, and
needs no rights, so it works in containers too. `lock_net` is the child's half, `NetGate` the parent's.

The numbers are those of linux/seccomp.h, linux/filter.h, linux/audit.h and the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from service.url_policy import Target, UrlPolicy
from service.url_proxy import UrlProxy

PROXY: Final = ("192.0.2.1", 8080)
"""Where a child takes the proxy to be (RFC 5737: nobody is there); what has a name to prove, in a header or to TLS, goes through it."""

LOWEST_PORT: Final = 1024
"""Of RTP and RTCP; below it are the services of a host."""
DATAGRAMS: Final = (0, socket.IPPROTO_UDP)

SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS: Final = {
    "x86_64": {
        "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "listen": 50, "clone": 56, "fork": 57, "vfork": 58, "sendmmsg": 307,
        "io_uring_setup": 425, "clone3": 435,
    },
    "aarch64": {
        "listen": 201, "connect": 203, "socket": 198, "sendto": 206, "sendmsg": 211, "clone": 220, "sendmmsg": 269, "io_uring_setup": 425,
        "clone3": 435,
    },
}  # fmt: skip
# A second thread could change what was compared; a ring has ways of its own to connect.
NEVER: Final = ("listen", "clone", "clone3", "fork", "vfork", "io_uring_setup")
X32: Final = 0x40000000
SET_MODE_FILTER, SPEC_ALLOW, NEW_LISTENER = 1, 1 << 2, 1 << 3
LOAD, AND, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
ALLOW, ASK, REFUSE, KILL = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.EACCES, 0x80000000
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16
RECEIVE, ANSWER, ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103
IN_PLACE: Final = 1
NOTICE: Final = struct.Struct("=QIIiIQ6Q")  # id, pid, flags; number, architecture, instruction, arguments
VERDICT: Final = struct.Struct("=QqiI")
PLACED: Final = struct.Struct("=QIIII")

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def lock_net() -> int | None:
    """From now on the kernel asks before this process connects, or has a socket that is not TCP's; returns the descriptor at which it asks,
    None where it cannot.

    For a process of one thread that may gain no rights (PR_SET_NO_NEW_PRIVS); `lock_sending` follows once the descriptor is handed over.
    """
    machine = platform.machine()
    if machine not in CALLS:
        return None
    calls, ask = CALLS[machine], [(RETURN, 0, 0, ASK)]
    code = _preamble(machine)
    for name in NEVER:
        code += _when(calls.get(name), [(RETURN, 0, 0, REFUSE)])
    code += _when(calls["connect"], ask)
    code += _when(
        calls["socket"],
        [
            *_unless(0, (socket.AF_INET, socket.AF_INET6), ask),
            *_unless(1, (socket.SOCK_STREAM,), ask, mask=0xF),
            *_unless(2, (0, socket.IPPROTO_TCP), ask),
            (RETURN, 0, 0, ALLOW),
        ],
    )
    # An address beside what is sent: a datagram goes there, and with MSG_FASTOPEN TCP connects as it sends.
    no = [(RETURN, 0, 0, REFUSE)]
    code += _when(calls["sendto"], [*_unless(4, (0,), no), *_unless(4, (0,), no, high=True), (RETURN, 0, 0, ALLOW)])
    return _install(machine, code, NEW_LISTENER)


def lock_sending() -> None:
    """No message with an address or a descriptor in it leaves this process any more."""
    machine = platform.machine()
    code = _preamble(machine)
    for name in ("sendmsg", "sendmmsg"):
        code += _when(CALLS[machine][name], [(RETURN, 0, 0, REFUSE)])
    if _install(machine, code, 0) is None:
        raise OSError(ctypes.get_errno(), "a second filter was refused after a first")


def _preamble(machine: str) -> list[tuple[int, int, int, int]]:
    return [
        (LOAD, 0, 0, ARCH_AT),
        (IF_EQUAL, 1, 0, ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (IF_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
    ]


def _when(number: int | None, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`then`, which ends by returning, for one system call; the number is loaded."""
    return [] if number is None else [(IF_EQUAL, 0, len(then), number), *then]


def _unless(
    argument: int, values: tuple[int, ...], then: list[tuple[int, int, int, int]], *, mask: int | None = None, high: bool = False
) -> list[tuple[int, int, int, int]]:
    """`then` if an argument (its lower or its higher half) has none of `values`."""
    code = [(LOAD, 0, 0, ARGUMENTS_AT + 8 * argument + 4 * high)]
    if mask is not None:
        code.append((AND, 0, 0, mask))
    return [*code, *((IF_EQUAL, len(values) - 1 - n + len(then), 0, int(value)) for n, value in enumerate(values)), *then]


def _install(machine: str, code: list[tuple[int, int, int, int]], flags: int) -> int | None:
    code = [*code, (RETURN, 0, 0, ALLOW)]
    program = _Program(len(code), b"".join(struct.pack("=HBBI", *step) for step in code))
    # SPEC_ALLOW: older kernels would otherwise slow the whole decoder down, for a guard of secrets that this process does not have.
    done = int(_libc.syscall(SECCOMP[machine], SET_MODE_FILTER, flags | SPEC_ALLOW, ctypes.byref(program)))
    return None if done < 0 else done


class NetGate:
    """Answers one child. To be asked by the thread that waits for the child, whenever `fileno` is readable; never waits itself.

    Args:
        listener: what `lock_net` gave; closed with this.
        target: where it may go.
        policy: says whether it may go where a playlist leads.
        datagrams: whether it may exchange them with the target's host.
    """

    def __init__(self, listener: int, *, target: Target, policy: UrlPolicy, datagrams: bool = False) -> None:
        self._listener, self._proxy = listener, UrlProxy(policy, target)
        self._where = (str(target.addresses[0]), target.port)
        self._proxied = target.scheme != "rtsp"
        self.forgives = self._proxied
        """Whether a child that asked to stray may go on: one segment of a playlist elsewhere is no reason to doubt the rest. A camera may
        not: where it names another host for its datagrams, FFmpeg goes on, and takes them from anybody."""
        self._kinds = () if self._proxied or not datagrams else (socket.SOCK_DGRAM,)
        self._datagrams: dict[int, socket.socket] = {}
        """By the child's descriptor: our hold on what it was given. One that it has closed is kept until it has another of that number."""
        self._calls = {number: name for name, number in CALLS[platform.machine()].items()}
        self._strayed = ""

    @property
    def strayed(self) -> str:
        """Where the child asked to go, and may not; empty if it never did."""
        return self._strayed or self._proxy.strayed

    def fileno(self) -> int:
        """What becomes readable when the child asks."""
        return self._listener

    def answer(self) -> None:
        """Answer one question; there is one when `fileno` can be read."""
        notice = bytearray(NOTICE.size)
        # It died while it asked, or asked for what cannot be done; then it waits in vain, and is ended as silent.
        with suppress(OSError):
            fcntl.ioctl(self._listener, RECEIVE, notice)
            number, pid, _, call, _, _, *arguments = NOTICE.unpack(notice)
            match self._calls.get(call):
                case "connect":
                    self._connect(number, arguments[0], self._address(pid, arguments[1], arguments[2]))
                case "socket" if self._is_datagrams(*arguments[:3]):
                    self._give(number, arguments[0])
                case _:
                    # With an address in the URL nobody looks up a name, unless he was sent to one.
                    self._refuse(number, "another host, by its name")

    def close(self) -> None:
        """Answer no more; whatever the child asks then fails."""
        os.close(self._listener)
        for ours in self._datagrams.values():
            ours.close()

    def _connect(self, number: int, descriptor: int, address: tuple[str, int] | None) -> None:
        ours = self._datagrams.get(descriptor)
        if ours is not None and address is not None and address[0] == self._where[0] and address[1] >= LOWEST_PORT:
            self._say(number, -ours.connect_ex(address))
        elif address == PROXY and self._proxied:
            near, theirs = socket.socketpair()
            self._place(number, descriptor, theirs, 0)
            self._proxy(near)
        elif address == self._where and not self._proxied:
            made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._place(number, descriptor, made, made.connect_ex(address))
        else:
            self._refuse(number, f"{address[0]}:{address[1]}" if address else "nowhere")

    def _is_datagrams(self, family: int, kind: int, protocol: int) -> bool:
        return family in (socket.AF_INET, socket.AF_INET6) and kind & 0xF in self._kinds and protocol in DATAGRAMS

    def _give(self, number: int, family: int) -> None:
        """Let the child have a socket for datagrams, which we can connect, and nobody else."""
        made = socket.socket(family, socket.SOCK_DGRAM)
        place = bytearray(PLACED.pack(number, 0, made.fileno(), 0, os.O_CLOEXEC))
        try:
            descriptor = fcntl.ioctl(self._listener, ADD_DESCRIPTOR, place)
        except OSError:
            made.close()
            raise
        if (before := self._datagrams.pop(descriptor, None)) is not None:
            before.close()
        self._datagrams[descriptor] = made
        self._say(number, 0, value=descriptor)

    def _place(self, number: int, descriptor: int, made: socket.socket, outcome: int) -> None:
        """Put `made` in the place of the child's own socket, whose connecting has come to `outcome` (an errno: it may be under way)."""
        with made:
            fcntl.ioctl(self._listener, ADD_DESCRIPTOR, PLACED.pack(number, IN_PLACE, made.fileno(), descriptor, os.O_CLOEXEC))
        self._say(number, -outcome)

    def _refuse(self, number: int, where: str) -> None:
        self._strayed = self._strayed or where
        self._say(number, -errno.EACCES)

    def _say(self, number: int, error: int, *, value: int = 0) -> None:
        fcntl.ioctl(self._listener, ANSWER, VERDICT.pack(number, value, error, 0))

    def _address(self, pid: int, at: int, length: int) -> tuple[str, int] | None:
        """The address that lies in the child's memory; None for what is no internet address, or cannot be read."""
        if not 0 < length <= 128:
            return None
        try:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123  # unbuffered, at an offset
                memory.seek(at)
                raw = memory.read(length)
        except (OSError, OverflowError, ValueError):
            return None
        if len(raw) < 8:
            return None
        family, port = struct.unpack_from("=H", raw)[0], struct.unpack_from("!H", raw, 2)[0]
        if family == socket.AF_INET:
            return str(ip_address(raw[4:8])), port
        if family == socket.AF_INET6 and len(raw) >= 24:
            return str(ip_address(raw[8:24])), port
        return None
