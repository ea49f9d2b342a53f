"""Does anything stay behind? Streams and a feed for hours, a fault every twenty seconds; what the service holds before and after.

Service, real RTSP server and clients (`soak_crowd.py`) are processes of this machine, most of them behind a network that can be cut. What
is compared are two moments without any stream: the first after every kind of fault has happened once, so that pools and caches
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from service.client import connect
from service.client.errors import ClientError
from service.stream_wire import SUBPROTOCOL
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped
from tests.benchmarks.soak_crowd import CLIP_S, Crowd, Seen
from tests.rtsp import RtspServer, rtsp_server
from tests.service.broken_network import BrokenNetwork
from tests.service.processes import Serving, serving
from tests.service.streaming import stream_url

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "7200"))
FAULT_EVERY_S: Final = 20.0
QUICK_S: Final = 6.0
"""Between the faults of the warm-up."""
SAMPLE_S: Final = 5.0
FREEZE_S: Final = 7.0
"""Longer than a camera's silence is borne."""
SETTINGS: Final = {"hz": 12, "camera_networks": '["127.0.0.0/8"]', "streams__resume_s": 10, "streams__idle_s": 15}


@dataclass(frozen=True, slots=True)
class Held:
    """What a service holds at one moment."""

    threads: int
    files: int
    children: int
    seats: int
    memories: int


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
    with BrokenNetwork(service.port) as network:
        crowd = Crowd(service, network, camera, clip, seen)
        faults = Faults(service, camera, network)
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
        "memory_mb": [round(float(part.mean()) / 1e6) for part in np.array_split(np.array(resident), min(10, len(resident)))],
        "memory_grew": round(float(np.mean(resident[-quarter:]) / np.mean(resident[:quarter]) - 1), 4),
        "sessions": dict(seen.sessions),
        "ends": dict(seen.ends),
        "resumed": seen.resumed,
        "scores": seen.scores,
        "holes": seen.holes,
        "read_slowly": dict(seen.read_slowly),
        "feed": dict(seen.feed),
    }


class Faults:
    """What goes wrong."""

    def __init__(self, service: Serving, camera: RtspServer, network: BrokenNetwork) -> None:
        self._service, self._camera, self._network = service, camera, network
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
