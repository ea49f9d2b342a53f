"""Does anything stay behind? Live streams of all modes for hours, a fault every twenty seconds; what the service holds before and after.

Service, real RTSP server and clients are processes of this machine; the clients are ours (`service.client`) behind a network that can be
cut. What is compared are two moments without any stream: the first after every kind of fault has happened once, so that pools and caches
have their size.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import cv2
import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from pipelines.frames import read_frames
from service.client import Live, connect
from service.client.errors import ClientError
from service.stream_wire import SUBPROTOCOL, ScoreEvent
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped
from tests.rtsp import RtspServer, rtsp_server
from tests.service.broken_network import BrokenNetwork, broken_network
from tests.service.processes import Serving, serving
from tests.service.streaming import remuxed, stream_url

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "7200"))
FAULT_EVERY_S: Final = 20.0
QUICK_S: Final = 6.0
"""Between the faults of the warm-up."""
SAMPLE_S: Final = 5.0
CLIP_S: Final = 120.0
PICTURES_HZ: Final = 10
FREEZE_S: Final = 7.0
"""Longer than a camera's silence is borne."""
SETTINGS: Final = {"hz": 12, "camera_networks": '["127.0.0.0/8"]', "streams__resume_s": 10, "streams__idle_s": 15, "streams__drain_s": 5}


@dataclass(frozen=True, slots=True)
class Held:
    """What a service holds at one moment."""

    threads: int
    files: int
    children: int
    seats: int
    memories: int


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    sessions: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    scores: int = 0
    holes: int = 0
    """Events whose number was not the one after the last."""


def run() -> list[dict[str, Any]]:
    """One row."""
    if not REAL_CLIP.is_file():
        return []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = looped(REAL_CLIP, folder / "looped.mp4", CLIP_S)
        with rtsp_server(clip) as camera, serving(folder, **SETTINGS) as service:
            return [asyncio.run(_soak(service, camera, clip))]


async def _soak(service: Serving, camera: RtspServer, clip: Path) -> dict[str, Any]:
    seen, dice = Seen(), random.Random(11)
    async with broken_network(service.port) as network:
        crowd = Crowd(network, camera, clip, seen)
        faults = Faults(service, camera, network, crowd)
        async with crowd:
            for name in faults.kinds:
                await faults.happen(name)
                await asyncio.sleep(QUICK_S)
        before = await _quiet(service)
        faults.happened.clear()
        resident: list[int] = []
        begin = time.monotonic()
        async with crowd:
            due = begin + FAULT_EVERY_S
            while (now := time.monotonic()) < begin + SECONDS:
                resident.append(_resident(service.process.pid))
                if now >= due:
                    due += FAULT_EVERY_S
                    await faults.happen(dice.choice(list(faults.kinds)))
                await asyncio.sleep(SAMPLE_S)
        after = await _quiet(service)
    quarter = max(1, len(resident) // 4)
    return {
        "seconds": SECONDS,
        "faults": dict(faults.happened),
        "left": {name: n - asdict(before)[name] for name, n in asdict(after).items()},
        "memory_grew": round(float(np.mean(resident[-quarter:]) / np.mean(resident[:quarter]) - 1), 4),
        "sessions": dict(seen.sessions),
        "ends": dict(seen.ends),
        "resumed": seen.resumed,
        "scores": seen.scores,
        "holes": seen.holes,
    }


class Crowd:
    """Clients that come again whenever their stream has ended: two of a camera, one with a container, one with pictures."""

    def __init__(self, network: BrokenNetwork, camera: RtspServer, clip: Path, seen: Seen) -> None:
        self._network, self._camera, self._seen = network, camera, seen
        self._bytes = remuxed(clip, clip.with_suffix(".mkv")).read_bytes()
        with read_frames(clip, hz=PICTURES_HZ) as frames:
            pictures = [frame.image for frame, _ in zip(frames, range(100), strict=False)]
        self._pictures = [cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() for picture in pictures]
        self._clients: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> None:
        roles: dict[str, Callable[[], Awaitable[None]]] = {
            "camera 1": self._pull,
            "camera 2": self._pull,
            "container": self._container,
            "frames": self._frames,
        }
        self._clients = {name: asyncio.create_task(self._again(name, role)) for name, role in roles.items()}

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.cancel()
        for end in await asyncio.gather(*self._clients.values(), return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    async def _again(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._seen.sessions[name] += 1
            try:
                await role()
                self._seen.ends["well"] += 1
            except* ClientError as errors:  # of a client with two tasks, a group of them
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
        expected = 1
        try:
            async for event in live:
                self._seen.holes += event.event_seq != expected
                expected = (event.event_seq or 0) + 1
                self._seen.scores += isinstance(event, ScoreEvent)
        finally:
            self._seen.resumed += live.resumed


class Faults:
    """What goes wrong."""

    def __init__(self, service: Serving, camera: RtspServer, network: BrokenNetwork, crowd: Crowd) -> None:
        self._service, self._camera, self._network, self._crowd = service, camera, network, crowd
        self.happened: Counter[str] = Counter()
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "camera killed": self._killed,
            "camera frozen": self._frozen,
            "camera restarted": self._restarted,
            "connections cut": self._cut,
            "network down": self._down,
            "client vanishes": self._vanishes,
            "nonsense": self._nonsense,
            "client does not read": self._deaf,
            "no such camera": self._nowhere,
            "upload of noise": self._noise,
        }

    async def happen(self, name: str) -> None:
        self.happened[name] += 1
        await self.kinds[name]()

    async def _killed(self) -> None:
        self._camera.kill()
        await asyncio.sleep(5)
        await asyncio.to_thread(self._camera.restart)

    async def _frozen(self) -> None:
        self._camera.stop()
        await asyncio.sleep(FREEZE_S)
        self._camera.cont()

    async def _restarted(self) -> None:
        await asyncio.to_thread(self._camera.restart)

    async def _cut(self) -> None:
        self._network.cut()

    async def _down(self) -> None:
        self._network.up = False
        self._network.cut()
        await asyncio.sleep(4)
        self._network.up = True

    async def _vanishes(self) -> None:
        """Begins a stream, and is gone without a word."""
        async with connect_socket(stream_url(self._service.client), subprotocols=[Subprotocol(SUBPROTOCOL)]) as socket:
            await socket.send(json.dumps({"type": "start", "mode": "pull", "url": self._camera.url("/file")}))
            await socket.recv()
            socket.transport.abort()

    async def _nonsense(self) -> None:
        for message in ("{", b"x" * 100, json.dumps({"type": "start", "mode": "smell"}), "\0" * 1000):
            with suppress(WebSocketException, OSError):
                async with connect_socket(stream_url(self._service.client), subprotocols=[Subprotocol(SUBPROTOCOL)]) as socket:
                    await socket.send(message)
                    while True:
                        await socket.recv()

    async def _deaf(self) -> None:
        with suppress(WebSocketException, OSError):
            async with connect_socket(stream_url(self._service.client), subprotocols=[Subprotocol(SUBPROTOCOL)], max_queue=1) as socket:
                await socket.send(json.dumps({"type": "start", "mode": "pull", "url": self._camera.url("/file")}))
                await asyncio.sleep(8)

    async def _nowhere(self) -> None:
        with suppress(ClientError):
            async with connect(self._network.url, mode="pull", source=self._camera.url("/nowhere")) as live:
                await live.finish()

    async def _noise(self) -> None:
        noise = random.Random(3).randbytes(100_000)
        async with httpx.AsyncClient(base_url=self._service.client.base_url, timeout=60) as client:
            answer = await client.post("/v1/analyses", content=noise, headers={"Content-Type": "video/mp4", "Prefer": "wait=20"})
        assert answer.status_code < 500, answer.text


async def _quiet(service: Serving) -> Held:
    """What is held once nothing runs any more, and what was let go had time to go."""
    async with asyncio.timeout(120), httpx.AsyncClient(base_url=service.client.base_url, timeout=60) as client:
        while (await client.get("/readyz")).json()["streams"]:
            await asyncio.sleep(0.5)
        await asyncio.sleep(15)
        text = (await client.get("/metrics")).text
    found = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples if not sample.labels}
    pid = service.process.pid
    return Held(
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        children=_descendants(pid),
        seats=int(found["undercurrent_engine_seats"]),
        memories=int(found["undercurrent_engine_memories"]),
    )


def _descendants(pid: int) -> int:
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])

    def below(child: int) -> bool:
        while child in parents:
            child = parents[child]
            if child == pid:
                return True
        return False

    return sum(below(child) for child in parents)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
