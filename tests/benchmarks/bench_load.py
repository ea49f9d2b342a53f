"""A service that is asked for much: 200 uploads under way, 50 watchers of what runs, 20 dashboards, for minutes, while it judges.

Each crowd is a process of its own (`crowd.py`) on the same cores. What is timed needs no model; uploads come at the pace of a client's
line, and are timed from their last byte (what is left then is to look into the media, in a decode child, and to write the row).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.benchmarks.crowd import DASHBOARDS, ROLES, UPLOADERS, WATCHERS
from tests.clips import face_clip
from tests.service.processes import Serving, serving
from tests.support import ROOT

SECONDS: Final = float(os.environ.get("LOAD_SECONDS", "300"))
SAMPLE_S: Final = 2.0
CLIPS: Final = {"short": 2.0, "middle": 8.0, "long": 30.0}
"""Seconds of media; 15 pictures a second, 0.3 to 5 MB."""
MIB: Final = 1024**2


def run() -> list[dict[str, Any]]:
    """What the whole came to, then a row for each route."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        clips = folder / "clips"
        clips.mkdir()
        for what, seconds in CLIPS.items():
            face_clip(clips / f"{what}.mp4", seconds=seconds, fps=15.0)
        service = stack.enter_context(serving(folder, hz=12))
        service.client.get("/readyz").raise_for_status()
        for clip in clips.iterdir():  # there is something to look at from the beginning on
            body = clip.read_bytes()
            headers = {"Content-Type": "video/mp4", "Prefer": "wait=60"}
            service.client.post("/v1/analyses", content=body, headers=headers).raise_for_status()
        return _loaded(service, clips)


def _loaded(service: Serving, clips: Path) -> list[dict[str, Any]]:
    url = str(service.client.base_url)
    command = [sys.executable, "-m", "tests.benchmarks.crowd"]
    resident = [_resident(service.process.pid)]
    cpu_s = cpu_seconds(service.process.pid)
    crowds = [
        subprocess.Popen([*command, role, url, str(SECONDS), str(clips)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for role in ROLES
    ]
    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        time.sleep(SAMPLE_S)
        resident.append(_resident(service.process.pid))
    took_s, cpu_s = time.monotonic() - began, cpu_seconds(service.process.pid) - cpu_s
    seen = [json.loads(crowd.communicate()[0]) for crowd in crowds]
    accepted = {path.rpartition("/")[2] for one in seen for path in one["accepted"]}
    ends = _ends(service, accepted)
    seconds = {route: times for one in seen for route, times in one["seconds"].items() if route.startswith("POST")}
    for one in seen:
        for route, times in one["seconds"].items():
            if route.startswith("GET"):
                seconds.setdefault(route, []).extend(times)
    total = {
        name: dict(sum((Counter(one[name]) for one in seen), Counter[str]()))
        for name in ("statuses", "refused", "broken", "streams", "events")
    }
    wrong = sum((Counter(one["wrong"]) for one in seen), Counter[str]())
    calls = [seconds_ for route, times in seconds.items() if route.startswith("GET") for seconds_ in times]
    alone, with_children = np.array(resident).T
    quarter = max(1, len(resident) // 4)
    whole = {
        "table": "whole",
        "seconds": SECONDS,
        "uploaders": UPLOADERS,
        "watchers": WATCHERS,
        "dashboards": DASHBOARDS,
        **total,
        "events_wrong": wrong.total(),
        "wrong": dict(wrong),
        "accepted": len(accepted),
        "ends": dict(ends),
        "ended_twice": _ended_twice(service),
        "cores_busy": round(cpu_s / took_s, 2),
        "resident_mib": {
            "before": int(alone[0]),
            "second_quarter": int(alone[quarter : 2 * quarter].mean()),
            "last_quarter": int(alone[-quarter:].mean()),
            "most": int(alone.max()),
            "most_with_children": int(with_children.max()),
        },
        **_spread(calls),
        "ms_in_the_service": _spread([line["ms"] / 1000 for line in service.log if _is_timed(line)])["ms"],
    }
    print(json.dumps(whole), flush=True)
    return [whole, *({"table": "routes", "route": route, **_spread(times)} for route, times in sorted(seconds.items()))]


def _is_timed(line: dict[str, Any]) -> bool:
    """A call that needs no model, as the service has logged it; event streams last as long as what they tell of."""
    return line["event"] == "request" and line["method"] == "GET" and not line["path"].endswith("/events")


def _spread(seconds: list[float]) -> dict[str, Any]:
    p50, p95, p99 = np.percentile(1000 * np.array(seconds), (50, 95, 99))
    spread = {"p50": p50, "p95": p95, "p99": p99, "most": 1000 * max(seconds)}
    return {"calls": len(seconds), "ms": {name: round(float(ms), 1) for name, ms in spread.items()}}


def _ends(service: Serving, accepted: set[str]) -> Counter[str]:
    """What became of what was accepted, as the list says; each is in it once, or this raises."""
    found: dict[str, str] = {}
    path: str | None = "/v1/analyses?limit=100"
    while path:
        page = service.client.get(path).json()
        for one in page["items"]:
            assert one["id"] not in found, f"{one['id']} is in the list twice"
            found[one["id"]] = one["status"]
        path = page["next"] and f"/v1/analyses?limit=100&cursor={page['next']}"
    return Counter(found.get(one, "lost") for one in accepted)


def _ended_twice(service: Serving) -> int:
    said = Counter(
        line["analysis"] for line in service.log if line["event"] in ("analysis_succeeded", "analysis_failed", "analysis_crashed")
    )
    return sum(n > 1 for n in said.values())


def children(pid: int) -> list[int]:
    """The processes below one."""
    with suppress(OSError):
        direct = [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
        return direct + [below for child in direct for below in children(child)]
    return []


def _resident(pid: int) -> tuple[int, int]:
    """MiB of the service alone, and with its decode children (pages that they share count each time)."""

    def of(one: int) -> int:
        with suppress(OSError):  # it has ended meanwhile
            return int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // MIB
        return 0

    alone = of(pid)
    return alone, alone + sum(of(child) for child in children(pid))


def cpu_seconds(pid: int) -> float:
    """CPU seconds of the service and of children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")
