"""glibc's allocator: a process comes in, one whose threads share two arenas goes out. Called by `cli.py` before the service has threads.

Each thread that allocates gets an arena of its own, up to eight a core, and what streams and analyses free in one is of no use in another:
the memory of a service grows with the number of threads that it has ever had, not with what it holds.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""
ARENAS: Final = 2
"""Python has an allocator of its own for what is small, and the nets ask seldom: two are seldom waited for."""


def share_arenas() -> None:
    """Bound the arenas, unless the operator has (MALLOC_ARENA_MAX); another libc than glibc has none."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, ARENAS)
