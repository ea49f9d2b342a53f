"""How far damage reaches: pictures and failed packets, by their order of decoding, go in; `corrupt`, `tainted` or nothing comes out.

A decoder marks the picture that it had to mend, not those that it goes on to build on it: measured on H.264, 4 pictures of 70 were marked
where the whole group was wrong (research/streaming.md, section 0.3). So damage taints whatever is decoded after it, up to the next key
picture. Kept by `frames.py`, one for each stream.
"""

from __future__ import annotations

from typing import Literal

Damage = Literal["corrupt", "tainted"]


class Taint:
    """Where the stream has holes that no key picture has closed yet."""

    def __init__(self) -> None:
        self._holes: list[int] = []

    def hole(self, order: int) -> None:
        """What was decoded as number `order` is damaged or missing."""
        self._holes.append(order)

    def of(self, order: int, *, key: bool, corrupt: bool, missing: bool) -> Damage | None:
        """The picture decoded as number `order`; pictures must come by that number. `missing` if one is known to be lost before it."""
        if key:
            self._holes = [hole for hole in self._holes if hole >= order]
        if corrupt or (missing and not key):
            self.hole(order)
        if corrupt:
            return "corrupt"
        return "tainted" if any(hole <= order for hole in self._holes) else None
