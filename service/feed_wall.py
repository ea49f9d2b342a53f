"""All feeds of a tenant side by side: the numbered events of their rings come in, one line of events for as many watchers as like goes out.

Filled by the watches of `feed_keeper.py`, followed by the event stream of `wall.py`, all on the event loop. A browser opens six connections
to a host, so sixteen feeds must be one. A watcher is a number, as in `feed_ring.py`; who falls out of what is kept begins anew.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Final

from service.feed_wire import AlertEvent, FeedStateEvent
from service.stream_wire import Event, GapEvent, ScoreEvent
from service.wall_wire import Hello, History, Looks, OfFeed, Tick

TOGETHER_S: Final = 1.0
"""Looks of a feed are told together, so often: all of sixteen feeds are two hundred a second, and nobody sees more in them."""
HISTORY: Final = 180
"""Of `looks` that a newcomer is shown for each feed."""
KEPT: Final = 4096
"""Events for who comes back: four minutes of sixteen feeds."""
TICK_S: Final = 5.0
"""A browser does not see comments, so silence of this length is said."""


@dataclass(frozen=True, slots=True)
class WallTold:
    """An event as it is sent. `id` is from where its watcher goes on; None: it has no place in the line."""

    kind: str
    data: str
    id: str | None


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: str
    data: str


@dataclass(slots=True)
class _Line:
    """One feed: the looks that are not told yet, and those that were."""

    told: deque[tuple[float, float | None]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    waiting: Looks | None = None

    def add(self, event: ScoreEvent) -> Looks | None:
        """A look; what is due now."""
        arrived_at, before = event.judged_at - event.latency_s, self.waiting
        told: list[ScoreEvent | Looks] = [event] if before is None else [event, before]
        self.waiting = Looks(
            event_seq=event.event_seq or 0,
            session_id=event.session_id,
            arrived_at=arrived_at,
            t=event.at.t,
            p=max((one.p for one in told if one.p is not None), default=None),
            looks=event.stands_for + (0 if before is None else before.looks),
            judged=(event.p is not None) + (0 if before is None else before.judged),
            faces=len(event.faces),
            latency_s=max(one.latency_s for one in told),
        )
        # The service's clock may be set back: then they are due as well.
        early = bool(self.told) and 0 <= arrived_at - self.told[-1][0] < TOGETHER_S
        return None if early else self.due()

    def due(self) -> Looks | None:
        """What waits, if anything does; it waits no more."""
        looks, self.waiting = self.waiting, None
        if looks is not None:
            self.told.append((looks.arrived_at, looks.p))
        return looks


class Wall:
    """The feeds of one tenant that this process watches.

    Args:
        now: unix seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._run = secrets.token_hex(4)
        """Numbers are those of this process; another's are not gone on with."""
        self._n = 0
        """Number of the newest event that is kept."""
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._lines: dict[str, _Line] = {}
        self._news = asyncio.Event()
        self._closed = False

    def put(self, feed_id: str, event: Event) -> None:
        """An event of a feed, with its number there."""
        line = self._lines.setdefault(feed_id, _Line())
        match event:
            case ScoreEvent():
                if (looks := line.add(event)) is not None:
                    self._keep(feed_id, looks)
            case FeedStateEvent() | GapEvent() | AlertEvent():
                # What was seen before it is told before it, a peak of the last half second too.
                if (looks := line.due()) is not None:
                    self._keep(feed_id, looks)
                self._keep(feed_id, event)
            case _:
                """Faces, drops and stats are for who watches one feed."""

    def forget(self, feed_id: str) -> None:
        """It is watched here no more."""
        self._lines.pop(feed_id, None)

    def close(self) -> None:
        """Let every watcher go."""
        self._closed = True
        self._wake()

    async def follow(self, last: str | None) -> AsyncGenerator[WallTold]:
        """What follows the event `last`, and then all that is told, until the wall is closed.

        `hello` comes first. What is no number of this process, or of an event that is not kept any more, begins anew.
        """
        at = self._number(last)
        if at is not None:
            yield self._hello(at, resumed=True)
        while True:
            news = self._news
            if at is None or self._n - at > len(self._kept):
                at = self._n
                yield self._hello(at, resumed=False)
                for feed_id, line in list(self._lines.items()):
                    yield WallTold("history", History(feed_id=feed_id, looks=list(line.told)).model_dump_json(), None)
            for kept in [self._kept[i] for i in range(len(self._kept) - (self._n - at), len(self._kept))]:
                at += 1
                yield WallTold(kept.kind, kept.data, self._id(at))
            if news is self._news:
                if self._closed:
                    return
                try:
                    async with asyncio.timeout(TICK_S):
                        await news.wait()
                except TimeoutError:
                    yield WallTold("tick", Tick(at=self._now()).model_dump_json(), None)

    def _keep(self, feed_id: str, event: Looks | FeedStateEvent | GapEvent | AlertEvent) -> None:
        self._n += 1
        self._kept.append(_Kept(event.type, OfFeed(feed_id=feed_id, event=event).model_dump_json()))
        self._wake()

    def _hello(self, at: int, *, resumed: bool) -> WallTold:
        return WallTold("hello", Hello(at=self._now(), resumed=resumed).model_dump_json(), self._id(at))

    def _id(self, n: int) -> str:
        return f"{self._run}-{n}"

    def _number(self, last: str | None) -> int | None:
        run, _, n = (last or "").partition("-")
        if run != self._run or not n.isascii() or not n.isdigit() or len(n) > 18:
            return None
        return at if (at := int(n)) <= self._n else None

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
