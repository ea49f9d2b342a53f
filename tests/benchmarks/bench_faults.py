"""What faults of a camera come to: a real RTSP server is killed, frozen and started again; out, for each, what its client knew, and when.

The service is a process of its own, and the client speaks WebSocket; all share this machine. The camera shows one real face in a loop, so
that the face after an outage can be held against the one before it. Seconds are the client's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from service.live_source import SILENT_S
from service.stream_wire import SUBPROTOCOL
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped
from tests.rtsp import RtspServer, rtsp_server
from tests.service.processes import serving
from tests.service.streaming import Json, Talk, stream_url

CLIP_S: Final = 300.0
BEFORE_S: Final = 4.0
"""Of media with scores before a fault, and after it."""
PATIENCE_S: Final = 120.0
"""Far beyond what is expected, so that a hang is an error and not a number."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the server, and for how long; None: until its client was told that the connection is given up."""

    name: str
    kills: bool
    for_s: float | None
    in_play: bool = True


FAULTS: Final = (
    Fault("killed for 6 s", kills=True, for_s=6.0),
    Fault("restarted", kills=True, for_s=0.0),
    Fault("frozen before it is opened", kills=False, for_s=None, in_play=False),
    Fault("frozen in play", kills=False, for_s=None),
    Fault("frozen in play for 2.5 s", kills=False, for_s=2.5),
)


def run() -> list[dict[str, Any]]:
    """One row a fault and transport."""
    if not REAL_CLIP.is_file():
        return []
    with tempfile.TemporaryDirectory() as name:
        return list(_rows(Path(name)))


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    clip = looped(REAL_CLIP, folder / "looped.mp4", CLIP_S)
    for transport in ("tcp", "udp"):
        own = folder / transport
        own.mkdir()
        with serving(own, hz=12, camera_networks='["127.0.0.0/8"]', streams__rtsp_transport=transport) as service:
            for fault in FAULTS:
                with rtsp_server(clip) as server:
                    row = {"fault": fault.name, "transport": transport, **asyncio.run(_suffered(service.client, server, fault))}
                print(json.dumps(row), flush=True)
                yield row


async def _suffered(client: httpx.Client, server: RtspServer, fault: Fault) -> dict[str, Any]:
    if not fault.in_play:
        server.stop()
    async with _timed(client) as heard:
        await heard.say("start", mode="pull", url=server.url("/file"))
        await heard.until("ready", within_s=PATIENCE_S)
        before: list[Json] = []
        if fault.in_play:
            first = await heard.until("score", within_s=PATIENCE_S)
            await heard.until("score", lambda event: event["at"]["t"] - first["at"]["t"] >= BEFORE_S, within_s=PATIENCE_S)
            before = heard.of("score")
            (server.kill if fault.kills else server.stop)()
        began_s = time.monotonic()
        if fault.for_s is None:
            await heard.until("source", lambda event: _since(event, began_s) and event["next_retry_s"] is not None, within_s=PATIENCE_S)
        else:
            await asyncio.sleep(fault.for_s)
        await asyncio.to_thread(server.restart if fault.kills else server.cont)
        back_s = time.monotonic()
        again = await heard.until("score", lambda event: _since(event, back_s), within_s=PATIENCE_S)
        await heard.until("score", lambda event: event["at"]["t"] - again["at"]["t"] >= BEFORE_S, within_s=PATIENCE_S)
        stopped_s = time.monotonic()
        await heard.say("stop")
        end = await heard.until("end", within_s=PATIENCE_S)
    told = [event for event in heard.of("source") if _since(event, began_s) and not _since(event, stopped_s)]
    noticed = next(event for event in told if event["state"] != "running" and (fault.in_play or event["attempt"]))
    given_up = next((event for event in told if event["next_retry_s"] is not None), None)
    after = [event for event in heard.of("score") if _since(event, back_s)]
    return {
        "noticed_s": round(noticed["came_s"] - began_s, 2),
        "given_up_s": None if given_up is None else round(given_up["came_s"] - began_s, 2),
        "told": [state for state, _ in groupby(event["state"] for event in told)],
        "attempts": max(event["attempt"] for event in told),
        "scores_again_s": round(again["came_s"] - back_s, 2),
        "without_scores_s": round(again["came_s"] - before[-1]["came_s"], 2) if before else None,
        "gaps_s": [round(event["seconds"], 2) for event in heard.of("gap") if _since(event, began_s)],
        **_kept(before, after),
        "end_s": round(end["came_s"] - stopped_s, 2),
        "silent_s": SILENT_S,
    }


def _kept(before: list[Json], after: list[Json]) -> dict[str, Any]:
    """Which faces of before go on, and the longest dt that their memories were told."""
    known = {row["track"] for event in before for row in event["faces"]}
    went_on = [row for event in after for row in event["faces"] if row["track"] in known]
    longest_s = max((row["dt"] for row in went_on if row["dt"] is not None), default=None)
    return {
        "tracks": len(known),
        "tracks_kept": len({row["track"] for row in went_on}),
        "longest_dt_s": None if longest_s is None else round(longest_s, 2),
    }


def _since(event: Json, when_s: float) -> bool:
    came_s: float = event["came_s"]
    return came_s > when_s


class _Timed(Talk):
    """Writes down when each event came."""

    async def _keep(self, event: Json) -> None:
        await super()._keep({**event, "came_s": time.monotonic()})


@asynccontextmanager
async def _timed(client: httpx.Client) -> AsyncIterator[_Timed]:
    spoken = [Subprotocol(SUBPROTOCOL)]
    async with (
        connect(stream_url(client), subprotocols=spoken, compression=None, max_size=None, open_timeout=60) as socket,
        _Timed(socket) as it,
    ):
        yield it
