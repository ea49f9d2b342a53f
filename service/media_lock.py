"""What a decode child gives up before it sees hostile bytes: a Request in, a process that can do little but compute out.

Asked by `media_child.py`. Everything beyond the limits is tried and told (`Started`), not demanded: containers and old kernels refuse some
of it. The numbers are those of linux/sched.h, linux/prctl.h, linux/capability.h and linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import struct
from pathlib import Path
from typing import Final

from service.media_wire import Request, Started
from service.net_gate import lock_net

URL_FILES: Final = 64  # sockets, certificates, the resolver's files
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_VERSION = 444, 446, 1
READ_FILE, READ_DIR, IOCTL_DEV = 1 << 2, 1 << 3, 1 << 15
# All rights over files that each version of Landlock knows: the last number of bits goes for later versions too.
FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr; a version takes as much of it as it knows."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def lock_up(request: Request, *, files: int) -> tuple[Started, int | None]:
    """Take away what decoding does not need; descriptors from number `files` on can no longer be opened.

    Returns what was taken, and for a URL the descriptor at which this process asks before it connects.
    """
    limits, local = request.limits, request.url is None
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    memory = mapped + limits.max_memory_bytes
    # With the user's namespace the rights of root over other processes go too.
    network = local and (_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 or _libc.unshare(CLONE_NEWNET) == 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    sealed = _landlock(local=local)
    # A new user namespace gives every capability within it, and with them much of the kernel that nobody else reaches.
    _libc.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24))
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, files if local else URL_FILES),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.max_cpu_s, limits.max_cpu_s + 1))
    gate = None if local else lock_net()
    return Started(network_gone=network, files_gone=sealed and local, network_gated=gate is not None), gate


def _landlock(*, local: bool) -> bool:
    """No file can be opened, made or removed any more, no signal sent; for a URL, none written."""
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION)
    if version < 1:
        return False
    rights = (1 << FILE_RIGHTS.get(version, 16)) - 1
    rules = _Ruleset(
        files=rights if local else rights & ~(READ_FILE | READ_DIR | IOCTL_DEV),
        network=BIND_TCP | CONNECT_TCP if local else BIND_TCP,
        scoped=SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS,
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    descriptor = int(_libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0))
    if descriptor < 0:
        return False
    done = int(_libc.syscall(LANDLOCK_RESTRICT_SELF, descriptor, 0)) == 0
    os.close(descriptor)
    return done
