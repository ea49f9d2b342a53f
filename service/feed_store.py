"""Evidence of alerts: a still and a clip of each come in, are kept, and go out. Written by `alert_notes.py`, read by `alerts.py`.

<feed id>/<n>.jpg       the still
<feed id>/<n>.mp4       the clip

All of it lies in `data_dir/feeds`, or in the bucket of `UNDERCURRENT_STORE_URL`. Methods are for threads, but for those that say `async`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Literal, Self

from service.objects import Objects
from service.settings import Settings

Evidence = Literal["still", "clip"]


class FeedStore:
    """By feed and number of the alert."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The store that the settings name.

        Raises:
            BadStoreUrl: there can be no such store.
        """
        url = settings.store_url
        return cls(Objects.in_directory(settings.data_dir / "feeds") if url is None else Objects.at_url(url, "feeds"))

    def put(self, feed_id: str, n: int, evidence: Evidence, content: bytes) -> None:
        """Keep it, in place of what was there.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        self._objects.put(_name(feed_id, n, evidence), content)

    async def read(self, feed_id: str, n: int, evidence: Evidence, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from `start` up to and not with `end`.

        Raises:
            ObjectNotFound, StoreUnavailable: there are none, or they cannot be had now.
        """
        async for piece in self._objects.read_range(_name(feed_id, n, evidence), start, end):
            yield piece

    def remove_alerts(self, feed_id: str, numbers: Iterable[int]) -> None:
        """Remove the evidence of alerts; nothing happens to what is gone already.

        Raises:
            StoreUnavailable: some of it may be there still.
        """
        if names := [_name(feed_id, n, evidence) for n in numbers for evidence in ("still", "clip")]:
            self._objects.remove(*names)

    def remove(self, feed_id: str) -> None:
        """Remove everything of one feed; StoreUnavailable as above."""
        self._objects.remove_group(feed_id)

    def kept(self) -> list[str]:
        """The feeds of which there is anything; StoreUnavailable as above."""
        return self._objects.groups()

    def remove_orphans(self, kept: Iterable[str], known: Iterable[str]) -> list[str]:
        """Of what there was before the rows were read, remove what none knows: a row comes first and goes first.

        Returns the feeds; StoreUnavailable as above.
        """
        orphans = sorted(set(kept) - set(known))
        for feed_id in orphans:
            self.remove(feed_id)
        return orphans


def _name(feed_id: str, n: int, evidence: Evidence) -> str:
    return f"{feed_id}/{n}.{'jpg' if evidence == 'still' else 'mp4'}"
