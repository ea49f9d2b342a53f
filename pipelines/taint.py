"""How long damage lasts: facts of pictures and of failed packets go in, `corrupt`, `tainted` or nothing comes out. Kept by `frames.py`.

A decoder marks the picture that it had to mend, not those that it goes on to build on it: measured on H.264, 4 pictures of 70 were marked
where the whole group was wrong (research/streaming.md, section 0.3). So damage taints until the next key picture.
"""

from __future__ import annotations

from typing import Literal


class Taint:
    """The state of one stream's pictures."""

    def __init__(self) -> None:
        self._tainted = False
        self._failed_at: int | None = None
        self._last_stamp: int | None = None

    def packet_failed(self, stamp: int | None) -> None:
        """A packet could not be decoded: what is shown from its stamp on is built on a hole."""
        self._failed_at = stamp if stamp is not None else self._last_stamp

    def of(self, stamp: int | None, *, key: bool, corrupt: bool, missing: bool) -> Literal["corrupt", "tainted"] | None:
        """The next picture, in order of showing; `missing` if a picture is known to have been lost before it."""
        self._last_stamp = stamp if stamp is not None else self._last_stamp
        if key:
            self._tainted = False
        if self._failed_at is not None and (self._last_stamp is None or self._last_stamp >= self._failed_at):
            # A later key picture heals; the stamp itself belongs to the packet that failed.
            self._tainted = self._tainted or not (key and self._last_stamp != self._failed_at)
            self._failed_at = None
        self._tainted = self._tainted or corrupt or (missing and not key)
        return "corrupt" if corrupt else "tainted" if self._tainted else None
