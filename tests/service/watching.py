"""Watchers of one feed and of all for tests: server-sent events of a real connection come in, each is kept, and each fits its model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from service.feed_wire import AlertEvent, FeedStateEvent, MissedEvent
from service.schemas import Wire
from service.stream_wire import DropEvent, FaceEvent, GapEvent, ScoreEvent, Stats
from service.wall_wire import Hello, History, OfFeed, Tick

Json = dict[str, Any]
MODELS = TypeAdapter[Any](FeedStateEvent | AlertEvent | MissedEvent | ScoreEvent | FaceEvent | GapEvent | DropEvent | Stats)
WALL_MODELS: Mapping[str, type[Wire]] = {"hello": Hello, "history": History, "tick": Tick}
WITHIN_S = 120.0


class Watcher:
    """A connection to `/events`, read by a thread until it ends or is left."""

    def __init__(self, client: httpx.Client, feed: str, *, last: int | str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self._headers = {**(headers or {}), **({} if last is None else {"Last-Event-ID": str(last)})}
        self._url = f"{client.base_url}{feed}/events"
        self.events: list[Json] = []
        """The data of each, with `id` and `event` of its frame."""
        self.ended = False
        self._left = False
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._thread.join(WITHIN_S)

    def until(self, kind: str, where: Callable[[Json], bool] = lambda _: True) -> Json:
        """The first event of a kind, past or to come."""

        def found() -> Json | None:
            return next((event for event in self.events if event["type"] == kind and where(event)), None)

        with self._came:
            self._came.wait_for(lambda: found() is not None or self.ended, WITHIN_S)
        event = found()
        assert event is not None, f"no such {kind}: {[one['type'] for one in self.events]}, {self.of('state')}"
        return event

    def until_ended(self) -> None:
        with self._came:
            assert self._came.wait_for(lambda: self.ended, WITHIN_S), "the service was to end it"

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["type"] == kind]

    def _read(self) -> None:
        # A read ends at the latest with the next ping or stats.
        with suppress(httpx.TransportError), httpx.stream("GET", self._url, headers=self._headers, timeout=WITHIN_S) as answer:
            assert answer.status_code == 200
            frame: dict[str, str] = {}
            for line in answer.iter_lines():
                if self._left:
                    break
                name, _, value = line.partition(": ")
                if line and name:
                    frame[name] = value
                elif "data" in frame:
                    self._keep(frame)
                    frame = {}
        with self._came:
            self.ended = True
            self._came.notify_all()

    def _keep(self, frame: dict[str, str]) -> None:
        MODELS.validate_json(frame["data"])
        event: Json = json.loads(frame["data"])
        assert event["type"] == frame["event"]
        self._take({**event, "id": int(frame["id"])})

    def _take(self, event: Json) -> None:
        with self._came:
            self.events.append(event)
            self._came.notify_all()


class WallWatcher(Watcher):
    """The same of `/v1/feeds/events`; each event has its `type` and `id` (None: it has no number) beside its data."""

    def __init__(self, client: httpx.Client, *, last: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(client, "/v1/feeds", last=last, headers=headers)

    def _keep(self, frame: dict[str, str]) -> None:
        kind, data = frame["event"], frame["data"]
        WALL_MODELS.get(kind, OfFeed).model_validate_json(data)
        event: Json = json.loads(data)
        assert "event" not in event or event["event"]["type"] == kind
        self._take({**event, "type": kind, "id": frame.get("id")})


def until(what: Callable[[], object], *, within_s: float = WITHIN_S) -> None:
    """Ask until it is so."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
