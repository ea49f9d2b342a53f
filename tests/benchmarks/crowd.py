"""Clients of a service under load, each role a process of its own, so that the service is not measured together with who measures it.

`python -m tests.benchmarks.crowd ROLE URL SECONDS CLIPS`: what the role saw goes to stdout as one JSON object. Run by `bench_load.py`.

Whoever reads does it with aiohttp: httpx spends as much on a call as the service, and of fifty at once the last would mostly wait for
forty-nine clients. Whoever uploads does it with httpx, which reads a refusal only after its last byte, as many clients do.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from multidict import CIMultiDictProxy

UPLOADERS: Final = 200
WATCHERS: Final = 50
DASHBOARDS: Final = 20
CHUNK_BYTES: Final = 64 * 1024
SENDS_S: Final = (20.0, 60.0)
"""How long an upload is on its way: the speed of a client's line, not of loopback."""
READS_S: Final = (3.0, 8.0)
"""How long somebody looks at a page before the next."""
FOLLOWED: Final = 3
"""Event streams of one page, as `videos.js` has them."""
ASSET: Final = re.compile(r'(?:src|href)="(/assets/[^"]+)"')
FIRST_BYTES: Final = 512 * 1024
"""What a player asks for before it plays."""
ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
NUMBERS: Final = re.compile(r"/tracks/\d+/crops/\d+")


@dataclass(frozen=True, slots=True)
class Answer:
    """One that came whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """What it says."""
        said: dict[str, Any] = json.loads(self.body)
        return said


@dataclass(slots=True)
class Crowd:
    """What one role saw."""

    readers: ClientSession
    uploads: httpx.AsyncClient
    end: float
    clips: list[Path]
    dice: random.Random = field(default_factory=lambda: random.Random(5))
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By route, of answers that came whole."""
    statuses: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """What was answered with a problem."""
    broken: Counter[str] = field(default_factory=Counter)
    """Connections that ended without an answer."""
    accepted: list[str] = field(default_factory=list)
    streams: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """Events that were lost, doubled or out of their order."""

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.end

    async def get(self, path: str, *, headers: dict[str, str] | None = None) -> Answer | None:
        """One call, timed from its first byte out to its last byte in."""
        route = NUMBERS.sub("/tracks/{track}/crops/{k}", ID.sub("{id}", path.partition("?")[0]))
        began = time.perf_counter()
        try:
            async with self.readers.get(path, headers=headers) as opened:
                answer = Answer(opened.status, opened.headers, await opened.read())
        except ClientError as error:
            self.broken[f"{route}: {type(error).__name__}"] += 1
            return None
        self.seconds.setdefault(f"GET {route}", []).append(time.perf_counter() - began)
        self.statuses[str(answer.status)] += 1
        if answer.status >= 400:
            self.refused[f"{route}: {answer.json()['detail']}"] += 1
        return answer

    async def items(self, query: str = "limit=25") -> list[dict[str, Any]]:
        """A page of the list."""
        answer = await self.get(f"/v1/analyses?{query}")
        return list(answer.json()["items"]) if answer is not None and answer.status == 200 else []

    # -- who uploads -------------------------------------------------------------------------------------------

    async def upload(self, number: int) -> None:
        """One after the other, each as slowly as its line; the first ones come together."""
        while self.goes_on:
            clip = self.dice.choice(self.clips)
            body = _Line(clip.read_bytes(), self.dice.uniform(*SENDS_S))
            try:
                answer = await self.uploads.post(
                    "/v1/analyses", params={"filename": f"{number}-{clip.name}"}, content=body, headers={"Content-Type": "video/mp4"}
                )
            except httpx.TransportError as error:
                self.broken[f"upload: {type(error).__name__}"] += 1
                continue
            self.seconds.setdefault("POST /v1/analyses, after its last byte", []).append(time.perf_counter() - body.sent)
            self.statuses[str(answer.status_code)] += 1
            if answer.status_code == 202:
                self.accepted.append(answer.headers["Location"])
            else:
                self.refused[f"POST /v1/analyses: {answer.json()['detail']}"] += 1
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

    # -- who watches -------------------------------------------------------------------------------------------

    async def watch(self, _: int) -> None:
        """Follow what runs to its end, then what runs then."""
        while self.goes_on:
            items = await self.items("status=running&limit=25") or await self.items("status=queued&limit=25")
            if not items:
                await asyncio.sleep(0.5)
                continue
            await self.follow(self.dice.choice(items)["links"]["events"])

    async def follow(self, path: str) -> None:
        """One event stream to its end, or to the end of the measurement; every event is held to what the one before allows."""
        number, media_s, states, ended = 0, -1.0, list[str](), False
        self.streams["opened"] += 1
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, self.end - time.monotonic())):
                async with self.readers.get(path) as stream:
                    self.statuses[str(stream.status)] += 1
                    async for name, event_id, data in _events(stream.content.iter_any()):
                        self.events[name] += 1
                        self.wrong["lost"] += event_id not in (number, number + 1)
                        self.wrong["after the end"] += ended
                        number = event_id
                        if name == "state":
                            self.wrong["state doubled"] += data["status"] in states and data["status"] != "queued"
                            states.append(data["status"])
                        elif name == "progress":
                            self.wrong["went back"] += data["media_s"] < media_s
                            media_s = data["media_s"]
                        else:
                            ended = True
                            self.wrong["not ended"] += data["finished_at"] is None
            self.streams["ended" if ended else "broken off"] += 1
        except TimeoutError:
            self.streams["open at the end"] += 1
        except ClientError as error:
            self.streams["broken off"] += 1
            self.broken[f"events: {type(error).__name__}"] += 1

    # -- who has the dashboard open ----------------------------------------------------------------------------

    async def look(self, _: int) -> None:
        """The page as a browser loads it, then one analysis after the other, with the event streams that the page keeps open."""
        known: dict[str, str | None] = {}
        following: set[asyncio.Task[None]] = set()
        while self.goes_on:
            page = await self.get("/")
            for path in set(ASSET.findall("" if page is None else page.body.decode())):
                tag = known.get(path)
                if path in known and tag is None:  # a browser keeps what never changes
                    continue
                answer = await self.get(path, headers={} if tag is None else {"If-None-Match": tag})
                if answer is not None and answer.status == 200:
                    known[path] = None if "immutable" in answer.headers["Cache-Control"] else answer.headers["ETag"]
            for _ in range(5):
                items = await self.items()
                unended = [one for one in items if one["status"] in ("queued", "running")][-FOLLOWED:]
                following = {task for task in following if not task.done()}
                for one in unended[: FOLLOWED - len(following)]:
                    following.add(asyncio.create_task(self.follow(one["links"]["events"])))
                await self.open()
                await asyncio.sleep(self.dice.uniform(*READS_S))
                if not self.goes_on:
                    break
        await asyncio.gather(*following)

    async def open(self) -> None:
        """One finished analysis: its result, timeline, pictures and the beginning of its video."""
        ended = await self.items("limit=25&verdict=" + self.dice.choice(("no_evidence", "inconclusive", "manipulated")))
        if not ended:
            return
        chosen = self.dice.choice(ended)
        answer = await self.get(chosen["links"]["self"])
        if answer is None or answer.status != 200:
            return
        await self.get(chosen["links"]["timeline"])
        crops = [
            f"{chosen['links']['self']}/tracks/{track['id']}/crops/{crop['k']}"
            for track in answer.json()["result"]["tracks"]
            for crop in track["crops"]
        ]
        media = self.get(chosen["links"]["media"], headers={"Range": f"bytes=0-{FIRST_BYTES - 1}"})
        await asyncio.gather(media, *(self.get(crop) for crop in crops))

    async def probe(self, _: int) -> None:
        """Once a second, as a load balancer and a monitor do."""
        while self.goes_on:
            for path in ("/livez", "/readyz", "/metrics"):
                await self.get(path)
            await asyncio.sleep(1)


class _Line:
    """A body that goes out as slowly as its client's line, and knows when its last byte went."""

    def __init__(self, content: bytes, seconds: float) -> None:
        self._content, self._seconds = content, seconds
        self.sent = 0.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = [self._content[at : at + CHUNK_BYTES] for at in range(0, len(self._content), CHUNK_BYTES)]
        began = time.perf_counter()
        for i, piece in enumerate(pieces):
            await asyncio.sleep(max(0.0, began + self._seconds * i / len(pieces) - time.perf_counter()))
            self.sent = time.perf_counter()
            yield piece


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, int, dict[str, Any]]]:
    """With little work: what these clients spend, the service on the same cores has not."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for event in whole:
            fields = {key: value for key, _, value in (line.partition(b": ") for line in event.split(b"\n"))}
            if b"event" in fields:
                yield fields[b"event"].decode(), int(fields[b"id"]), json.loads(fields[b"data"])


ROLES: Final[dict[str, dict[Callable[[Crowd, int], Awaitable[None]], int]]] = {
    "uploads": {Crowd.upload: UPLOADERS},
    "watchers": {Crowd.watch: WATCHERS},
    "dashboards": {Crowd.look: DASHBOARDS, Crowd.probe: 1},
}


async def gather(role: str, url: str, seconds: float, clips: list[Path]) -> dict[str, Any]:
    """Play a role for that long; what it saw."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as uploads,
        ClientSession(url, timeout=ClientTimeout(total=None, sock_read=300), connector=TCPConnector(limit=0)) as readers,
    ):
        crowd = Crowd(readers, uploads, time.monotonic() + seconds, clips)
        async with asyncio.TaskGroup() as group:
            for play, n in ROLES[role].items():
                for number in range(n):
                    group.create_task(_joined(crowd, play, number))
    return {name: getattr(crowd, name) for name in ("seconds", "statuses", "refused", "broken", "accepted", "streams", "events", "wrong")}


async def _joined(crowd: Crowd, play: Callable[[Crowd, int], Awaitable[None]], number: int) -> None:
    await play(crowd, number)


def main(role: str, url: str, seconds: str, clips: str) -> None:
    """Play it; print what it saw."""
    print(json.dumps(asyncio.run(gather(role, url, float(seconds), sorted(Path(clips).glob("*.mp4"))))))


if __name__ == "__main__":
    main(*sys.argv[1:])
