"""Threads share arenas: counted by glibc itself, in a process whose threads all allocate at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

COUNT = """
import ctypes, re, sys, threading
from service.allocator import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
met = threading.Barrier(12)
def allocate():
    met.wait()
    for _ in range(2000):
        libc.free(ctypes.c_void_p(libc.malloc(5000)))
    met.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(len(re.findall("<heap nr=", open(sys.argv[2]).read())))
"""


def arenas(tmp_path: os.PathLike[str], how: str, **environment: str) -> int:
    """How many there are when twelve threads have allocated."""
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT, how, f"{tmp_path}/info.xml"]
    said = subprocess.run(command, cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=60)
    return int(said.stdout)


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="another libc than glibc"
)
def test_threads_share_two_arenas_unless_the_operator_says_otherwise(tmp_path: os.PathLike[str]) -> None:
    assert arenas(tmp_path, "as it is", MALLOC_ARENA_MAX="6") == 6
    assert arenas(tmp_path, "shared", MALLOC_ARENA_MAX="6") == 6
    assert arenas(tmp_path, "shared") == 2
