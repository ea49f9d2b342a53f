"""A replica dies for good: two work behind nginx on one PostgreSQL and one bucket, one is killed while it judges, and stays dead.

What is timed is what the other needs: until it has noticed, and until the dead one's analysis goes on there. Clients go on asking nginx
meanwhile; their longest answer is what they notice of it. After each kill a new replica with a new name takes the second seat.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import httpx

from tests.clips import face_clip
from tests.nginx import nginx
from tests.postgres import cluster
from tests.s3 import s3_server
from tests.service.processes import Serving, serving
from tests.support import require

TIMES: Final = int(os.environ.get("TAKEOVER_TIMES", "5"))
"""Kills for each silence."""
SILENCES_S: Final = (15.0, 5.0)
"""After which a replica counts as dead; the first is what it is unless somebody says otherwise."""
HZ: Final = 4.0
SEGMENT_S: Final = 15.0
CLIP_S: Final = 120.0
KILL_S: Final = (1.0, 60.0)
"""Media seconds of which the clip's analysis is killed at one."""
ASK_S: Final = 0.05
PATIENCE_S: Final = 300.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Takeover:
    """What one kill came to."""

    noticed_s: float
    goes_on_s: float
    lost_s: float
    """Of media that was judged again."""
    succeeded: bool
    statuses: Counter[int]
    longest_s: float


@dataclass(slots=True)
class _Client:
    """Whoever asks nginx, again and again, until told to stop."""

    url: httpx.URL
    statuses: Counter[int] = field(default_factory=Counter)
    longest_s: float = 0.0
    enough: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask; a connection that breaks off is counted as 0."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.enough.wait(ASK_S):
                began = time.monotonic()
                try:
                    self.statuses[client.get("/v1/analyses").status_code] += 1
                except httpx.TransportError:
                    self.statuses[0] += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)


class _Pair:
    """Two replicas, of which one dies now and then."""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self._folder, self._settings = folder, settings
        self._dice, self._born = random.Random(0), 0
        self._running: dict[str, tuple[Serving, ExitStack]] = {}

    def fill(self) -> None:
        """Until there are two."""
        while len(self._running) < 2:
            self._born += 1
            name = f"replica-{self._born}"
            folder = self._folder / name
            folder.mkdir(parents=True)
            life = ExitStack()
            service = life.enter_context(serving(folder, replica=name, **self._settings))
            self._running[name] = service, life
            service.client.get("/readyz").raise_for_status()

    def close(self) -> None:
        """End them."""
        for _, life in self._running.values():
            life.close()

    def lose(self, clip: Path) -> _Takeover:
        """Have one die in the middle of an analysis."""
        with tempfile.TemporaryDirectory() as name, nginx(Path(name), *(one.port for one, _ in self._running.values())) as outside:
            with clip.open("rb") as file:
                answer = outside.post("/v1/analyses", files={"file": file})
            answer.raise_for_status()
            path = answer.headers["Location"]
            moment_s = self._dice.uniform(*KILL_S)
            reached_s = _until(lambda: _reached(outside, path, moment_s))
            victim = next(name for name, (one, _) in self._running.items() if _said(one, "analysis_begun", path))
            client = _Client(outside.base_url)
            asking = threading.Thread(target=client.ask)
            asking.start()
            dead, life = self._running.pop(victim)
            dead.process.kill()
            killed_at = time.monotonic()
            ((alive, _),) = self._running.values()
            _until(lambda: any(line["event"] == "replica_lost" and line["replica"] == victim for line in alive.log))
            noticed_s = time.monotonic() - killed_at
            (begun,) = _until(lambda: _said(alive, "analysis_resumed", path) or _said(alive, "analysis_begun", path))
            goes_on_s = time.monotonic() - killed_at
            client.enough.set()
            asking.join()
            status = _until(lambda: (found := outside.get(path).json())["finished_at"] and found["status"])
            life.close()
        return _Takeover(
            noticed_s,
            goes_on_s,
            max(0.0, reached_s - begun.get("frames", 0) / HZ),
            status == "succeeded",
            client.statuses,
            client.longest_s,
        )


def _reached(client: httpx.Client, path: str, moment_s: float) -> float | None:
    """How far an analysis is, once that is far enough."""
    progress = client.get(path).json()["progress"]
    return None if progress is None or progress["media_s"] < moment_s else float(progress["media_s"])


def _said(service: Serving, event: str, path: str) -> list[dict[str, Any]]:
    return [line for line in service.log if line["event"] == event and line["analysis"] == path.rpartition("/")[2]]


def _until(ask: Callable[[], T | None]) -> T:
    """What it answers, once it does."""
    end = time.monotonic() + PATIENCE_S
    while not (found := ask()):
        if time.monotonic() > end:
            raise TimeoutError(f"expected an answer within {PATIENCE_S:g} s, got none")
        time.sleep(0.02)
    return found


def run() -> list[dict[str, Any]]:
    """A row for each silence after which a replica counts as dead."""
    programs = require("postgresql")
    assert programs is not None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, s3 = stack.enter_context(cluster(programs)), stack.enter_context(s3_server())
        stack.enter_context(patch.dict(os.environ, s3.environment))
        clip = face_clip(folder / "clip.mp4", seconds=CLIP_S, fps=8.0)
        return [
            _row(folder, clip, silence_s, {"database_url": server.create(), "store_url": "s3://media/takeover"}) for silence_s in SILENCES_S
        ]


def _row(folder: Path, clip: Path, silence_s: float, settings: dict[str, object]) -> dict[str, Any]:
    pair = _Pair(folder / f"{silence_s:g}", {**settings, "replica_lost_s": silence_s, "segment_s": SEGMENT_S, "hz": HZ})
    found: list[_Takeover] = []
    try:
        for n in range(TIMES):
            pair.fill()
            found.append(pair.lose(clip))
            print(f"silent for {silence_s:g} s: {n + 1} of {TIMES} kills, went on after {found[-1].goes_on_s:.1f} s", flush=True)
    finally:
        pair.close()
    statuses = sum((one.statuses for one in found), Counter[int]())

    def of(values: list[float]) -> dict[str, float]:
        return {"median": round(statistics.median(values), 1), "most": round(max(values), 1)}

    row = {
        "lost_after_s": silence_s,
        "kills": TIMES,
        "succeeded": sum(one.succeeded for one in found),
        "noticed_s": of([one.noticed_s for one in found]),
        "goes_on_s": of([one.goes_on_s for one in found]),
        "segment_s": SEGMENT_S,
        "lost_s": of([one.lost_s for one in found]),
        "asked": statuses.total(),
        "refused": statuses.total() - statuses[200],
        "longest_answer_s": round(max(one.longest_s for one in found), 2),
    }
    print(json.dumps(row), flush=True)
    return row
