"""What a feed told last: events of one judgement come in and get their numbers; as many watchers as like hear them, each at its own pace.

Filled by `feed_watch.py`, followed by the event streams of `feeds.py`, all on the event loop. A watcher is a number: it costs no queue, and
a slow one finds the newest score instead of all, but every event that may not be lost, as long as it is kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from service.feed_wire import FeedStateEvent, MissedEvent
from service.outbox import CALM
from service.stream_wire import Event, ScoreEvent, Stats

LASTING: Final = 2000
"""Events that may not be lost; at their worst two a second, so a quarter of an hour."""
PASSING: Final = 512
"""Scores, for who comes back: forty seconds of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A numbered event as it is sent. `seq` is from where its watcher goes on."""

    seq: int
    kind: str
    data: str


def _nobody_else(_event: Event) -> None:
    """Where a ring stands alone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    event: Event
    seq: int
    looks: int
    """That scores have stood for, up to and with this event."""
    data: str

    def told(self, seq: int | None = None) -> Told:
        return Told(self.seq if seq is None else seq, getattr(self.event, "type", "event"), self.data)


class FeedRing:
    """The events of one feed in this process.

    Args:
        seq: the last number that was used; events up to it cannot be had here.
        tell: hears every event with its number as well; the wall of all feeds.
    """

    def __init__(self, seq: int, tell: Callable[[Event], None] = _nobody_else) -> None:
        self._tell = tell
        self.seq = seq
        """Number of the newest event."""
        self._gone = seq
        """Events that may not be lost are kept from the next one on."""
        self._looks = 0
        self._lasting: deque[_Kept] = deque()
        self._scores: deque[_Kept] = deque(maxlen=PASSING)
        self._stats: _Kept | None = None
        self._state: _Kept | None = None
        self._news = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Number an event, and tell it."""
        self.seq += 1
        event = event.model_copy(update={"event_seq": self.seq})
        if isinstance(event, ScoreEvent):
            self._looks += event.stands_for
        kept = _Kept(event, self.seq, self._looks, event.model_dump_json())
        match event:
            case ScoreEvent():
                self._scores.append(kept)
            case Stats():
                self._stats = kept
            case _:
                if isinstance(event, FeedStateEvent):
                    self._state = kept
                self._lasting.append(kept)
                if len(self._lasting) > LASTING:
                    self._gone = self._lasting.popleft().seq
        self._tell(event)
        self._wake()

    def close(self) -> None:
        """Let every watcher go."""
        self._closed = True
        self._wake()

    async def follow(self, last: int | None) -> AsyncGenerator[Told]:
        """What follows the event `last`, and then all that is told, until the ring is closed.

        Without a number, or with one that was never told, it begins with the present state.
        """
        again = last is not None and last <= self.seq
        at = last if last is not None and again else self.seq
        looks = self._looks
        if not again and self._state is not None:
            yield self._state.told(at)
        while True:
            news = self._news
            if at < self._gone:
                missed = MissedEvent(session_id=None, after=at, until=self._gone)
                at = self._gone
                yield Told(at, missed.type, missed.model_dump_json())
                if self._state is not None:
                    yield self._state.told(at)
            for kept in self._after(at, None if again else looks):
                at, looks = kept.seq, kept.looks
                yield kept.told()
            again = False
            if news is self._news:
                if self._closed:
                    return
                await news.wait()

    def _after(self, at: int, looks: int | None) -> list[_Kept]:
        """Events after the number `at`, in order. Of too many scores the newest alone; with `looks` None all that are kept."""
        scores = [kept for kept in self._scores if kept.seq > at]
        if looks is not None and len(scores) > CALM:
            newest = scores[-1]
            event = newest.event.model_copy(update={"stands_for": newest.looks - looks})
            scores = [_Kept(event, newest.seq, newest.looks, event.model_dump_json())]
        others = [kept for kept in self._lasting if kept.seq > at]
        if self._stats is not None and self._stats.seq > at:
            others.append(self._stats)
        return sorted(scores + others, key=lambda kept: kept.seq)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
