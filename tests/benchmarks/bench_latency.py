"""How soon a client knows: pictures of a real RTSP server in; out, by stage, the seconds from their arrival to a WebSocket client's scores.

Server, service, decoders and clients share this machine, the service being a process of its own. The first three stages are what every
`score` says of itself; `send` is from that score to its reading by the client, by the one clock that both have.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from service.stream_wire import SUBPROTOCOL
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped
from tests.rtsp import rtsp_server
from tests.service.processes import serving
from tests.service.streaming import stream_url

SECONDS: Final = float(os.environ.get("LATENCY_SECONDS", "60"))
STREAMS: Final = (1, 6)
WARM_S: Final = 15.0
"""What is not counted: streams begin one after another, and the controller finds its rate."""
BEGINS_S: Final = 2.5
"""Between one stream's beginning and the next one's: more than one each two seconds are asked to wait."""
STAGES: Final = ("decode", "wait", "look", "send", "all")


def run() -> list[dict[str, Any]]:
    """One row a number of streams."""
    if not REAL_CLIP.is_file():
        return []
    with tempfile.TemporaryDirectory() as folder:
        clip = looped(REAL_CLIP, Path(folder) / "looped.mp4", SECONDS + WARM_S + 60)
        with rtsp_server(clip) as server, serving(Path(folder), hz=12, camera_networks='["127.0.0.0/8"]') as service:
            return [asyncio.run(_clients(service.client, server.url("/file"), n)) for n in STREAMS]


@dataclass(slots=True)
class _Heard:
    """What one client heard after the warm-up."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    hz: float = 0.0


async def _clients(client: httpx.Client, url: str, n: int) -> dict[str, Any]:
    heard = [_Heard() for _ in range(n)]
    begin = time.monotonic() + n * BEGINS_S + WARM_S
    async with asyncio.TaskGroup() as group:
        for each in heard:
            group.create_task(_listen(stream_url(client), url, each, begin))
            await asyncio.sleep(BEGINS_S)
    row: dict[str, Any] = {"streams": n, "seconds": SECONDS, "looks_hz": round(float(np.mean([each.hz for each in heard])), 2)}
    for stage in STAGES:
        took = [seconds for each in heard for seconds in each.seconds[stage]]
        row[f"{stage}_ms"] = [round(1000 * float(np.quantile(took, q)), 1) for q in (0.5, 0.95)]
    return row


async def _listen(service: str, camera: str, heard: _Heard, begin: float) -> None:
    async with connect(service, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, open_timeout=60) as socket:
        await socket.send(json.dumps({"type": "start", "mode": "pull", "url": camera}))
        async for message in socket:
            came, event = time.time(), json.loads(message)
            if event["type"] == "error":
                raise RuntimeError(event)
            if event["type"] != "score" or time.monotonic() < begin:
                continue
            if time.monotonic() >= begin + SECONDS:
                break
            took = {stage: event["stages"][f"{stage}_s"] for stage in STAGES[:3]} | {"send": came - event["judged_at"]}
            for stage, seconds in (took | {"all": sum(took.values())}).items():
                heard.seconds[stage].append(seconds)
        heard.hz = len(heard.seconds["all"]) / SECONDS
        await socket.send(json.dumps({"type": "stop"}))
