"""Who uses the service while it soaks: streams of every mode, one that is read slowly, and a camera that the service watches by itself.

Made by `bench_soak.py`, which lets things go wrong meanwhile; whose stream or connection ends comes again.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any, Final

import cv2
import httpx
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from pipelines.frames import read_frames
from service.client import Live, connect
from service.client.errors import ClientError
from service.stream_wire import SUBPROTOCOL, ScoreEvent
from tests.rtsp import RtspServer
from tests.service.broken_network import BrokenNetwork
from tests.service.processes import Serving
from tests.service.streaming import remuxed, stream_url

CLIP_S: Final = 120.0
PICTURES_HZ: Final = 10
READ_S: Final = 0.2
"""Between two events of whoever reads slowly: fewer than there are, and more than would let the service's pings wait for too long."""
RULE_S: Final = 45.0
"""Between two rules of the feed: each ends the alert that is open."""
EAGER: Final = {"threshold": 1e-9, "cooldown_s": 0}
"""Every face is worth an alert."""


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    sessions: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    scores: int = 0
    holes: int = 0
    """Events whose number was not the one after the last."""
    read_slowly: Counter[str] = field(default_factory=Counter)
    """Scores that came, and the looks that they stood for."""
    feed: Counter[str] = field(default_factory=Counter)
    """Events of the feed, by type, alerts by what changed; and how often whoever follows it was cut off."""


class Crowd:
    """Clients that come again whenever their stream has ended, between `async with` and its end."""

    def __init__(self, service: Serving, network: BrokenNetwork, camera: RtspServer, clip: Path, seen: Seen) -> None:
        self._service, self._network, self._camera, self._seen = service, network, camera, seen
        self._bytes = remuxed(clip, clip.with_suffix(".mkv")).read_bytes()
        with read_frames(clip, hz=PICTURES_HZ) as frames:
            pictures = [frame.image for frame, _ in zip(frames, range(100), strict=False)]
        self._pictures = [cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() for picture in pictures]
        self._clients: list[asyncio.Task[None]] = []
        self._feed = ""
        """Its path."""

    async def __aenter__(self) -> None:
        async with self._http() as http:
            answer = await http.post("/v1/feeds", json={"url": self._camera.url("/file"), "rule": EAGER})
            assert answer.status_code == 201, answer.text
            self._feed = answer.headers["Location"]
        roles: dict[str, Callable[[], Awaitable[None]]] = {
            "camera 1": self._pull,
            "camera 2": self._pull,
            "container": self._container,
            "frames": self._frames,
            "slow reader": self._slow,
        }
        lives = [self._again(name, role) for name, role in roles.items()]
        self._clients = [asyncio.create_task(life) for life in (*lives, self._watch(), self._rule())]

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            client.cancel()
        for end in await asyncio.gather(*self._clients, return_exceptions=True):
            if isinstance(end, Exception):
                raise end
        async with self._http() as http:
            (await http.delete(self._feed)).raise_for_status()

    def _http(self, base_url: str | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=base_url or str(self._service.client.base_url), timeout=60)

    async def _again(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._seen.sessions[name] += 1
            try:
                await role()
                self._seen.ends["well"] += 1
            except* (ClientError, WebSocketException, OSError) as errors:  # of a client with two tasks, a group of them
                self._seen.ends.update(type(error).__name__ for error in errors.exceptions)
            await asyncio.sleep(1)

    async def _pull(self) -> None:
        async with connect(self._network.url, mode="pull", source=self._camera.url("/file")) as live:
            await self._listen(live)

    async def _container(self) -> None:
        step = len(self._bytes) // int(5 * CLIP_S)
        async with connect(self._network.url, mode="container") as live, asyncio.TaskGroup() as group:
            group.create_task(self._listen(live))
            for at in range(0, len(self._bytes), step):
                await live.send(self._bytes[at : at + step])
                await asyncio.sleep(0.2)
            await live.finish()

    async def _frames(self) -> None:
        async with connect(self._network.url, mode="frames", codec="jpeg") as live, asyncio.TaskGroup() as group:
            group.create_task(self._listen(live))
            for i, picture in enumerate(cycle(self._pictures)):
                if i == PICTURES_HZ * CLIP_S:
                    break
                await live.send_frame(picture, i / PICTURES_HZ)
                await asyncio.sleep(1 / PICTURES_HZ)
            await live.finish()

    async def _listen(self, live: Live) -> None:
        numbers = count(1)
        try:
            async for event in live:
                self._number(event.event_seq, numbers)
                self._seen.scores += isinstance(event, ScoreEvent)
        finally:
            self._seen.resumed += live.resumed

    def _number(self, number: int | None, numbers: count[int]) -> None:
        # An answer outside of any session, as to whoever is turned away, has none.
        self._seen.holes += number is not None and number != next(numbers)

    async def _slow(self) -> None:
        """Whoever looks at each event for a while; straight to the service, since a network would keep them for it."""
        url = stream_url(self._service.client)
        way = socket.socket()
        way.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        way.setblocking(False)
        await asyncio.get_running_loop().sock_connect(way, ("127.0.0.1", self._service.port))
        numbers = count(1)
        async with connect_socket(url, sock=way, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, max_queue=1) as opened:
            await opened.send(json.dumps({"type": "start", "mode": "pull", "url": self._camera.url("/file")}))
            async for message in opened:
                event = json.loads(message)
                self._number(event["event_seq"], numbers)
                if event["type"] == "score":
                    self._seen.read_slowly.update(scores=1, looks=event["stands_for"])
                await asyncio.sleep(READ_S)

    async def _watch(self) -> None:
        """Follows the feed through the network, and goes on where it was after a cut."""
        headers: dict[str, str] = {}
        async with self._http(self._network.url) as http:
            while True:
                try:
                    async with http.stream("GET", f"{self._feed}/events", headers=headers) as answer:
                        async for line in answer.raise_for_status().aiter_lines():
                            name, _, value = line.partition(": ")
                            if name == "id":
                                headers = {"Last-Event-ID": value}
                            elif name == "data":
                                self._told(json.loads(value))
                except httpx.TransportError:
                    self._seen.feed["cut"] += 1
                await asyncio.sleep(1)

    def _told(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        self._seen.feed[f"alert {event['change']}" if kind == "alert" else kind] += 1

    async def _rule(self) -> None:
        """Gives the feed another rule again and again."""
        async with self._http() as http:
            for n in count():
                await asyncio.sleep(RULE_S)
                answer = await http.patch(self._feed, json={"rule": {**EAGER, "min_s": 1 + n % 2}})
                assert answer.status_code == 200, answer.text
