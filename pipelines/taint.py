"""How far damage reaches: pictures and failed packets, by their order of decoding, go in; `corrupt`, `tainted` or nothing comes out.

A decoder marks the picture that it had to mend, not those that it goes on to build on it: measured on H.264, 4 pictures of 70 were marked
where the whole group was wrong (research/streaming.md, section 0.3). So damage taints whatever is decoded after it, up to the next key
picture. Kept by `frames.py`, one for each stream.
"""

from __future__ import annotations

from typing import Literal

Damage = Literal["corrupt", "tainted"]


class Taint:
    """Where the stream has holes, and where a key picture closed each."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._closed: list[tuple[int, int]] = []
        """Holes with the place from which on nothing is built on them."""

    def hole(self, order: int) -> None:
        """What was decoded as number `order` is damaged or missing."""
        self._open.append(order)

    def of(self, order: int, pts: int | None, *, key: bool, corrupt: bool, missing: bool) -> Damage | None:
        """The picture decoded as number `order` and shown at `pts`; to be asked in order of decoding.

        `missing` if a picture is known to be lost before it. Pictures that are decoded after a key picture but shown before it (an open
        group) are built on the group before as well, so the key picture closes a hole only for what is shown from it on.
        """
        if key:
            before = [hole for hole in self._open if hole < order]
            self._open = [hole for hole in self._open if hole >= order]
            self._closed = [] if pts is None else [(hole, pts) for hole in before]
        if corrupt or (missing and not key):
            self.hole(order)
        if corrupt:
            return "corrupt"
        built_on_damage = any(hole <= order for hole in self._open) or (
            pts is not None and any(hole <= order and pts < until for hole, until in self._closed)
        )
        return "tainted" if built_on_damage else None
