"""What a crash costs: services are killed at random moments while they judge, and every upload that they took is held to one end.

On SQLite one service is killed and started again; on PostgreSQL two replicas share the work, one of them is killed, and the other has to
notice. `lost` is media that was judged before the kill and again after it, as far as its progress had told; the rest is exact. A receiver
outside is to be told of every end: `webhooks_lost` were not, `webhooks_again` more than once, `webhooks_wrong` not as signed.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clips import face_clip
from tests.postgres import cluster
from tests.service.processes import Serving, serving
from tests.support import require
from tests.web import Web, web_server

TIMES: Final = int(os.environ.get("CRASH_TIMES", "100"))
"""Kills on each of the two."""
HZ: Final = 4.0
SEGMENT_S: Final = 2.0
LOST_S: Final = 5.0
"""Silence after which a replica counts as dead."""
CLIP_S: Final = 30.0
LONGEST_S: Final = 8.0
"""From an upload to the kill, at most."""
PATIENCE_S: Final = 600.0


@dataclass(slots=True)
class _Crashes:
    """One set of replicas, and what became of the uploads that they took."""

    folder: Path
    settings: dict[str, object]
    names: tuple[str, ...]
    web: Web
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    running: dict[str, tuple[Serving, ExitStack]] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    lost_s: list[float] = field(default_factory=list)
    goes_on_s: list[float] = field(default_factory=list)
    secret: str = ""

    @property
    def path(self) -> str:
        """Where the receiver hears of these replicas."""
        return f"/{self.folder.name}"

    def register(self) -> None:
        """Have the receiver told of every end."""
        client = self.running[self.names[0]][0].client
        answer = client.post("/v1/webhooks", json={"url": self.web.give(self.path, b"")})
        answer.raise_for_status()
        self.secret = answer.json()["secret"]

    def start(self, name: str) -> None:
        stack = ExitStack()
        folder = self.folder / f"{name}-{len(self.logs)}"
        folder.mkdir()
        service = stack.enter_context(serving(folder, replica=name, data_dir=self.folder / "data", **self.settings))
        service.client.get("/readyz").raise_for_status()
        self.logs.append(folder / "log")
        self.running[name] = (service, stack)

    def crash(self, clip: Path) -> None:
        """Upload, kill at a random moment, bring the dead one back, and see to it that work goes on."""
        victim = self.draw.choice(self.names)
        with clip.open("rb") as file:
            answer = self.running[victim][0].client.post("/v1/analyses", files={"file": file})
        answer.raise_for_status()
        self.accepted.append(answer.headers["Location"])
        under_way = self._watch(victim, self.draw.uniform(0, LONGEST_S))
        read = {name: len(service.log) for name, (service, _) in self.running.items() if name != victim}
        service, stack = self.running.pop(victim)
        service.process.kill()
        killed_at = time.monotonic()
        stack.close()
        if len(self.names) == 1:
            self.start(victim)
        self._account(under_way, killed_at, read)
        if victim not in self.running:
            self.start(victim)

    def _watch(self, victim: str, for_s: float) -> dict[str, float]:
        """Media seconds to which the analyses that run had come when they were seen last."""
        end, client = time.monotonic() + for_s, self.running[victim][0].client
        while True:
            items = client.get("/v1/analyses", params={"status": "running"}).json()["items"]
            if time.monotonic() >= end:
                return {one["id"]: one["progress"]["media_s"] for one in items if one["progress"] is not None}
            time.sleep(0.05)

    def _account(self, under_way: dict[str, float], killed_at: float, read: dict[str, int]) -> None:
        """Wait until what was under way goes on, or turns out to have been the other replica's, and note what that cost."""
        end, pending = time.monotonic() + PATIENCE_S, dict(under_way)
        while pending and time.monotonic() < end:
            lines = [line for name, (service, _) in self.running.items() for line in service.log[read.get(name, 0) :]]
            for line in lines:
                if line["event"] in ("analysis_begun", "analysis_resumed") and line["analysis"] in pending:
                    self.lost_s.append(max(0.0, pending.pop(line["analysis"]) - line.get("frames", 0) / HZ))
                    self.goes_on_s.append(time.monotonic() - killed_at)
                elif line["event"] == "analysis_succeeded":
                    pending.pop(line["analysis"], None)
            time.sleep(0.05)

    def finish(self) -> Counter[str]:
        """Wait for the end of everything; how many uploads ended how."""
        client = next(iter(self.running.values()))[0].client
        ends: Counter[str] = Counter()
        for path in self.accepted:
            end = time.monotonic() + PATIENCE_S
            while (body := client.get(path).json())["finished_at"] is None and time.monotonic() < end:
                time.sleep(0.2)
            ends[body["status"]] += 1
        end = time.monotonic() + PATIENCE_S
        while self._pending() and time.monotonic() < end:
            time.sleep(0.2)
        for service, stack in self.running.values():
            service.process.terminate()
            service.process.wait()
            stack.close()
        return ends

    def _pending(self) -> bool:
        client = next(iter(self.running.values()))[0].client
        (webhook,) = client.get("/v1/webhooks").json()["items"]
        return bool(client.get(webhook["links"]["deliveries"], params={"status": "pending", "limit": 1}).json()["items"])

    def _told(self) -> dict[str, int]:
        """What the receiver heard, held to what was accepted."""
        mine = [post for post in self.web.posted if post.path == self.path]
        signed = [post for post in mine if post.signed_by(self.secret)]
        heard = Counter(json.loads(post.body)["data"]["links"]["self"] for post in signed)
        return {
            "webhooks_lost": sum(not heard[path] for path in self.accepted),
            "webhooks_again": sum(n > 1 for n in heard.values()),
            "webhooks_wrong": len(mine) - len(signed),
        }

    def row(self, store: str, ends: Counter[str]) -> dict[str, Any]:
        said: Counter[str] = Counter()
        for log in self.logs:
            for line in log.read_text("utf-8").splitlines():
                event = json.loads(line)
                if event["event"] in ("analysis_succeeded", "analysis_failed", "analysis_crashed"):
                    said[event["analysis"]] += 1
        return {
            "store": store,
            "replicas": len(self.names),
            "kills": TIMES,
            "accepted": len(self.accepted),
            "succeeded": ends["succeeded"],
            "ended_twice": sum(n > 1 for n in said.values()),
            "interrupted": len(self.lost_s),
            "segment_s": SEGMENT_S,
            "lost_median_s": statistics.median(self.lost_s) if self.lost_s else None,
            "lost_most_s": max(self.lost_s, default=None),
            "lost_after_s": LOST_S if len(self.names) > 1 else None,
            "goes_on_median_s": statistics.median(self.goes_on_s) if self.goes_on_s else None,
            "goes_on_most_s": max(self.goes_on_s, default=None),
            **self._told(),
        }


def run() -> list[dict[str, Any]]:
    """One row for SQLite, and one for two replicas on PostgreSQL where that is installed."""
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        web = stack.enter_context(web_server())
        clip = face_clip(folder / "clip.mp4", seconds=CLIP_S, fps=8.0)
        rows.append(_crashed(folder / "one", clip, web, "SQLite", ("a",), {}))
        programs = _postgresql()
        if programs is not None:
            server = stack.enter_context(cluster(programs))
            rows.append(_crashed(folder / "two", clip, web, "PostgreSQL", ("a", "b"), {"database_url": server.create()}))
    return rows


def _postgresql() -> Path | None:
    try:
        return require("postgresql")
    except pytest.skip.Exception:
        return None


def _crashed(folder: Path, clip: Path, web: Web, store: str, names: tuple[str, ...], settings: dict[str, object]) -> dict[str, Any]:
    folder.mkdir()
    chosen = {"hz": HZ, "segment_s": SEGMENT_S, "replica_lost_s": LOST_S, "camera_networks": '["127.0.0.0/8"]', **settings}
    crashes = _Crashes(folder, chosen, names, web)
    for name in names:
        crashes.start(name)
    crashes.register()
    for n in range(TIMES):
        crashes.crash(clip)
        print(f"{store}: {n + 1} of {TIMES} kills, {len(crashes.lost_s)} interrupted an analysis", flush=True)
    row = crashes.row(store, crashes.finish())
    print(json.dumps(row), flush=True)
    return row
