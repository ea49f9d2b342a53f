"""What is on its way to one client: events of a session come in, numbered messages go out; the last minute of them is kept for a resume.

Filled by `stream_session.py`, emptied by `stream_connection.py`, both on the event loop. Passive: it knows no socket, and is told the time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from models.errors import Refusal
from service.problems import ServiceError
from service.stream_wire import Credit, End, ErrorEvent, Event, ScoreEvent, Stats

MAX_EVENTS: Final = 1000
MAX_BYTES: Final = 1024**2
CALM: Final = 64
"""So many events may wait before a newer score takes the place of those that wait: five seconds of looks."""
RESERVE_EVENTS: Final = 8
RESERVE_BYTES: Final = 128 * 1024
"""Kept free for what ends a stream, so that even a client that reads too slowly can be told so, with the verdict."""
KEEP_S: Final = 120.0
"""A client may have been gone for a while before that is noticed, and then has a minute to come back."""
KEEP_BYTES: Final = 4 * MAX_BYTES
NEWEST_SAYS_ALL: Final = (Credit, Stats)


class SlowReader(ServiceError):
    """Its events pile up."""

    slug = "slow-reader"
    title = "The client reads too slowly"


class Missed(Refusal):
    """A resume from an event that is not kept any more, or was never sent; `n` are gone."""

    slug = "events-missed"
    title = "Events are gone"

    def __init__(self, n: int, *, expected: str, got: str) -> None:
        super().__init__("The events that were missed are not kept any more.", expected=expected, got=got)
        self.n = n


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    event: Event
    body: str
    size: int


@dataclass(frozen=True, slots=True)
class _Sent:
    event_seq: int
    message: str
    at: float


class Outbox:
    """A queue of at most MAX_EVENTS events and MAX_BYTES bytes.

    Scores and stats give way to newer ones when the client falls behind; of what may not be lost nothing is: where it has no room, the
    session ends. Events are numbered when they leave, so the numbers have no hole.

    Args:
        now: the monotonic clock, in seconds.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._again: deque[_Sent] = deque()
        """Sent before the connection was lost, and to be sent once more."""
        self._sent: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._last_seq = 0
        self._moved_at = now()
        self.left_out = 0
        """Looks whose score was not sent by itself."""

    def __len__(self) -> int:
        return len(self._again) + len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Of events that were never sent."""
        return self._waiting_bytes

    @property
    def crowded(self) -> bool:
        """Whether the client is behind: whoever can wait with the next event should."""
        return len(self._waiting) >= CALM // 2

    def put(self, event: Event) -> None:
        """Let `event` wait for its turn.

        Raises:
            SlowReader: there is no room for what may not be lost. Nothing was put.
        """
        replaced = self._replaced_by(event)
        if isinstance(event, ScoreEvent):
            stands_for = sum(one.event.stands_for for one in replaced if isinstance(one.event, ScoreEvent))
            event = event.model_copy(update={"stands_for": event.stands_for + stands_for})
        body = event.model_dump_json(exclude={"event_seq"})
        freed = sum(one.size for one in replaced)
        self._make_sure_of_room(len(body.encode()), len(replaced), freed, last=isinstance(event, ErrorEvent | End))
        if not len(self):
            self._moved_at = self._now()
        if replaced:
            self._waiting = deque(one for one in self._waiting if one not in replaced)
            self._waiting_bytes -= freed
            self.left_out += len(replaced) if isinstance(event, ScoreEvent) else 0
        self._waiting.append(_Waiting(event, body, len(body.encode())))
        self._waiting_bytes += self._waiting[-1].size

    def take(self) -> str | None:
        """The next message, numbered; None if nothing waits."""
        self._moved_at = self._now()
        if self._again:
            return self._again.popleft().message
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        self._waiting_bytes -= first.size
        self._last_seq += 1
        sent = _Sent(self._last_seq, f'{{"event_seq":{self._last_seq},{first.body[1:]}', self._now())
        self._sent.append(sent)
        self._sent_bytes += len(sent.message)
        self._forget_old()
        return sent.message

    def take_event(self) -> Event | None:
        """The next event itself, for whoever listens in this process: it is neither numbered nor kept. None if nothing waits."""
        self._moved_at = self._now()
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        self._waiting_bytes -= first.size
        return first.event

    def ack(self, event_seq: int) -> None:
        """Events up to this one are not wanted again."""
        while self._sent and self._sent[0].event_seq <= event_seq:
            self._sent_bytes -= len(self._sent.popleft().message)

    def again_from(self, last_event_seq: int) -> int:
        """A client is back, whose last event was this: those after it come first. Returns the number of the next one.

        Raises:
            Missed: some of them are not kept any more, or it names one that was never sent.
        """
        self._forget_old()
        first = self._sent[0].event_seq if self._sent else self._last_seq + 1
        if not first - 1 <= last_event_seq <= self._last_seq:
            gone = max(0, first - 1 - last_event_seq)
            raise Missed(gone, expected=f"a last event from {first - 1} to {self._last_seq}", got=str(last_event_seq))
        self.ack(last_event_seq)
        self._again = deque(self._sent)
        self._moved_at = self._now()
        return last_event_seq + 1

    @property
    def stuck_s(self) -> float:
        """How long events have waited and none could be taken."""
        return self._now() - self._moved_at if len(self) else 0.0

    def _replaced_by(self, event: Event) -> list[_Waiting]:
        """What waits and need not be told any more."""
        if isinstance(event, NEWEST_SAYS_ALL) or (isinstance(event, ScoreEvent) and len(self._waiting) >= CALM):
            return [one for one in self._waiting if type(one.event) is type(event)]
        return []

    def _make_sure_of_room(self, size: int, fewer: int, freed: int, *, last: bool) -> None:
        events = len(self._waiting) - fewer + 1 + (0 if last else RESERVE_EVENTS)
        octets = self._waiting_bytes - freed + size + (0 if last else RESERVE_BYTES)
        if events > MAX_EVENTS or octets > MAX_BYTES:
            raise SlowReader(
                "Events that may not be lost have no room.",
                expected=f"at most {MAX_EVENTS} events and {MAX_BYTES} bytes that wait",
                got=f"{len(self._waiting)} events, {self._waiting_bytes} bytes, and another of {size}",
            )

    def _forget_old(self) -> None:
        oldest = self._now() - KEEP_S
        while self._sent and (self._sent[0].at < oldest or self._sent_bytes > KEEP_BYTES):
            self._sent_bytes -= len(self._sent.popleft().message)
