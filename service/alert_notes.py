"""What is to be told of a feed's alerts: notes come in as its rule judges; rows, deliveries of webhooks, events, stills and clips go out.

Filled by `feed_alerts.py` on the event loop, and emptied by a task of its own: a database or a store that is slow, or away, holds up
neither who judges nor who watches. Notes are told in their order, each once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.alert_view import alert_out
from service.backoff import full_jitter
from service.feed_album import Picture, Still
from service.feed_clip import clip_of
from service.feed_rows import AlertRow, FeedRows
from service.feed_store import Evidence, FeedStore
from service.feed_wire import AlertEvent
from service.outages import AWAY, report
from service.problems import ServiceError
from service.settings import FeedTerms
from service.stream_wire import Event

MOST: Final = 100
"""Notes that may wait; with more, an alert that begins is told without being kept."""
TRIES: Final = 3
"""For evidence: the rows of later alerts wait meanwhile, and they matter more."""

LAST_REST_S: Final = 1.0
"""Between two attempts once there is little time left."""

Change = Literal["began", "ended", "clip"]

log = structlog.get_logger()


@dataclass(slots=True)
class Kept:
    """What of one alert is written down so far; its notes share it."""

    n: int = 0
    """Its number; 0 where it has none."""
    refused: bool = False
    """Whether there was no room for it."""
    still: Still | None = None
    still_bytes: int = 0
    clip_bytes: int = 0
    clip_first_pts: int | None = None
    clip_last_pts: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """One thing to tell of one alert."""

    kept: Kept
    change: Change
    row: AlertRow
    """As it was judged then; its number and evidence are those of `kept`."""
    still: Still | None
    """Of its peak by then."""
    pictures: Sequence[Picture] = ()
    """For its clip."""

    @property
    def size(self) -> int:
        """Bytes of what it holds for a clip."""
        return sum(len(picture.jpeg) for picture in self.pictures)


class AlertNotes:
    """Of one feed, in this process.

    Args:
        terms: how much is kept.
        tell: takes events for the feed's watchers.
    """

    def __init__(self, feed_id: str, rows: FeedRows, store: FeedStore, terms: FeedTerms, tell: Callable[[Event], None]) -> None:
        self._feed_id, self._rows, self._store, self._terms, self._tell = feed_id, rows, store, terms, tell
        self._waiting: deque[Note] = deque()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        """Set when there is no point in waiting before another attempt."""
        self._longest_rest_s = inf
        self.lost = 0
        """Notes of which something could not be kept."""

    def put(self, note: Note) -> None:
        """Have it told when its turn comes; what there is no room for is told at once, without a number, and counted."""
        if note.change == "began" and len(self._waiting) >= MOST:
            note.kept.refused = True
        if note.kept.refused or not self._has_room(note):
            self._lose(note, "too much waits to be told")
            if note.change != "clip":
                self._say(note)
            return
        self._waiting.append(note)
        if self._task is None or self._task.done():
            # In a context of its own: what it logs is not about the request that a rule was changed by.
            self._task = asyncio.create_task(self._work(), name=f"alerts-{self._feed_id}", context=Context())

    def discard(self) -> None:
        """Nobody wants to be told any more."""
        self._waiting.clear()
        self._hurry.set()

    async def close(self, patience_s: float) -> None:
        """Returns when all is told, or when that takes too long: what is left then is given up, and counted."""
        if self._task is not None:
            self._longest_rest_s = LAST_REST_S
            self._hurry.set()
            await asyncio.wait([self._task], timeout=patience_s)
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._waiting:
            self._lose(self._waiting.popleft(), "the service stopped watching")

    def _has_room(self, note: Note) -> bool:
        """Pictures that wait to be a clip take no more than as many again as the album has, twice."""
        return not note.pictures or note.size + sum(one.size for one in self._waiting) <= 2 * self._terms.album_bytes

    async def _work(self) -> None:
        while self._waiting:
            note = self._waiting[0]
            await self._settle(note)
            if self._is_first(note):
                self._waiting.popleft()

    def _is_first(self, note: Note) -> bool:
        """Unless the notes were discarded meanwhile."""
        return bool(self._waiting) and self._waiting[0] is note

    async def _settle(self, note: Note) -> None:
        attempt = 0
        while self._is_first(note):
            try:
                if await self._keep(note) and self._is_first(note):
                    self._say(note)
                return
            except AWAY as error:
                attempt += 1
                wait_s = full_jitter(attempt)
                report("alert_waits", error, feed=self._feed_id, change=note.change, attempt=attempt, retry_s=round(wait_s, 1))
                await self._rest(wait_s)
            except Exception:  # in a task that nobody awaits: this note goes without being kept, and the others have their turn
                log.exception("alert_not_kept", feed=self._feed_id, alert=note.kept.n)
                self._lose(note, "it cannot be kept")
                self._say(note)
                return

    async def _rest(self, seconds: float) -> None:
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, self._longest_rest_s)):
                await self._hurry.wait()

    async def _keep(self, note: Note) -> bool:
        """Write down what is not yet; what is done already is not done again. False: the alert was forgotten meanwhile."""
        kept, row = note.kept, note.row
        if not kept.n and note.change == "began":
            kept.n = await self._rows.add_alert(row)
        if not kept.n:
            return True
        await self._keep_evidence(note)
        _fill(row, kept)
        if not await self._rows.change_alert(row):
            await self._remove([row.n])
            return False
        if note.change != "began":
            await self._forget_old()
        return True

    async def _keep_evidence(self, note: Note) -> None:
        kept = note.kept
        if note.still is not None and note.still is not kept.still:
            jpeg = await asyncio.to_thread(note.still.jpeg)
            if await self._put(note, "still", jpeg):
                kept.still, kept.still_bytes = note.still, len(jpeg)
        if note.pictures and not kept.clip_bytes:
            clip = await asyncio.to_thread(clip_of, note.pictures)
            if await self._put(note, "clip", clip):
                kept.clip_bytes, kept.clip_first_pts, kept.clip_last_pts = len(clip), note.pictures[0].pts, note.pictures[-1].pts

    async def _put(self, note: Note, evidence: Evidence, content: bytes) -> bool:
        for attempt in range(1, TRIES + 1):
            try:
                await asyncio.to_thread(self._store.put, self._feed_id, note.kept.n, evidence, content)
            except ServiceError as error:
                log.warning("evidence_not_kept", feed=self._feed_id, alert=note.kept.n, attempt=attempt, problem=error.slug)
                if attempt < TRIES:
                    await self._rest(full_jitter(attempt))
            else:
                return True
        self._lose(note, f"the store takes no {evidence}")
        return False

    def _say(self, note: Note) -> None:
        _fill(note.row, note.kept)
        shown = alert_out(note.row)
        self._tell(AlertEvent(session_id=shown.session_id, t=shown.last.t, change=note.change, alert=shown))
        log.info("alert", feed=self._feed_id, alert=shown.n, change=note.change, cause=shown.cause)

    def _lose(self, note: Note, why: str) -> None:
        self.lost += 1
        row = note.row
        began = f"{row.began_pts} * {row.base_numerator}/{row.base_denominator}"
        facts = {"session": row.session_id, "track": row.track, "began": began, "peak": row.peak, "told_at": row.told_at.isoformat()}
        log.error("alert_note_lost", feed=self._feed_id, alert=note.kept.n or None, change=note.change, why=why, **facts)

    async def _forget_old(self) -> None:
        try:
            await self._remove(await self._rows.forget_alerts(self._feed_id, self._terms.kept_alerts, self._terms.kept_bytes))
        except SQLAlchemyError as error:
            report("alerts_not_forgotten", error, feed=self._feed_id)

    async def _remove(self, numbers: list[int]) -> None:
        try:
            await asyncio.to_thread(self._store.remove_alerts, self._feed_id, numbers)
        except ServiceError as error:
            log.error("evidence_not_removed", feed=self._feed_id, alerts=numbers, problem=error.slug)


def _fill(row: AlertRow, kept: Kept) -> None:
    row.n, row.still_bytes, row.clip_bytes = kept.n, kept.still_bytes, kept.clip_bytes
    row.clip_first_pts, row.clip_last_pts = kept.clip_first_pts, kept.clip_last_pts
