"""How many may be connected at once: what this process may open comes in, a number goes out, and whoever is turned away is counted.

Made by `app.py`, asked by `http_heads.py` at every connection.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Final, Literal

MOST: Final = 4096
"""More connections than one process serves in time; the shipped nginx keeps as many."""
OTHER_FILES: Final = 256
"""For rows, decode children, and what is told through pipes."""
FEWEST: Final = 16
Leaving = Literal["silent", "told", "watches"]
"""Who was one too many has said nothing yet; or has been told so; or is given what those may ask who watch the service."""


class Doors:
    """The bounds of one process; WebSockets count as well.

    Args:
        wanted: connections at once, if the files allow as many; None: as many as they allow, and MOST at most.
        files: what the process may have open.
        turned_away: called for each connection that was one too many.
    """

    def __init__(self, wanted: int | None, files: int, turned_away: Callable[[], None]) -> None:
        # Whoever is connected has a socket and, with an upload or a download, a file; a third is for those that nobody has counted yet.
        allowed = max(FEWEST, (files - OTHER_FILES) // 3)
        self.most: Final = min(allowed, wanted or MOST)
        self.at_once: Final = min(2048, allowed // 2)
        """How many the kernel hands over in one go: they are open before anybody can turn them away."""
        self.told: Final = max(FEWEST, self.most // 8)
        """Of those that were turned away, how many may read why at once; who comes then cuts off who came first."""
        self.leaving: Final[dict[asyncio.Transport, Leaving]] = {}
        """Those that were one too many and are still there, in the order in which they came."""
        self.turned_away: Final = turned_away

    def make_way(self) -> bool:
        """Room for one more among those that leave: of those that do not watch, the first has had his time. Returns whether there is."""
        if len(self.leaving) >= self.told:
            first = next((transport for transport, state in self.leaving.items() if state != "watches"), None)
            if first is None:
                return False
            if self.leaving.pop(first) == "silent":
                self.turned_away()
            first.abort()
        return True


def files_allowed() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft
