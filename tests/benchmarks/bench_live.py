"""How many cameras a machine carries: N clients of a real RTSP server, each decoded in a child and judged by one Engine, for minutes.

Every stream shows the same real 720p30 face in a loop, so its verdict can be held against the file's. Latency is from a frame's arrival to
its score; `behind` is how much later than in its quietest moment a frame arrived, by its timestamp: what decoding lags behind.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import analyse, load_model
from pipelines.engine import Engines
from pipelines.errors import Overloaded
from pipelines.live import LiveEvent, LiveStream, Scored, Shed
from pipelines.load import LoadController
from pipelines.media import Limits
from pipelines.model import Model
from pipelines.verdict import Verdict
from service.media_sandbox import MediaSandbox
from service.sandboxed_frames import SandboxedFrames
from tests.benchmarks.bench_walk import REAL_CLIP
from tests.benchmarks.looped import looped
from tests.rtsp import rtsp_server

SECONDS: Final = float(os.environ.get("LIVE_SECONDS", "600"))
"""Of the longest run."""
RUNS: Final = ((1, False, 0.2), (6, False, 1.0), (6, True, 0.2), (12, False, 0.2))
"""How many streams, whether they are attentive, and the run's share of SECONDS."""
WARM_S: Final = 20.0
"""What is not counted: streams begin one after another, and the controller finds its rate."""
LIMITS: Final = Limits(max_wall_s=2 * SECONDS + 120)
JUDGED_S: Final = 60.0


def run() -> list[dict[str, Any]]:
    """One row a number of streams."""
    if not REAL_CLIP.is_file():
        return []
    model = load_model()
    with tempfile.TemporaryDirectory() as folder:
        clip = looped(REAL_CLIP, Path(folder) / "looped.mp4", SECONDS + WARM_S + 30)
        alone = analyse(looped(REAL_CLIP, Path(folder) / "short.mp4", JUDGED_S), model).verdict.score
        assert alone is not None, "the clip has a face"
        with rtsp_server(clip) as server, MediaSandbox() as sandbox:
            rows = []
            for n, attentive, share in RUNS:
                rows.append(_streams(model, server.url("/file"), sandbox, alone.p, n, attentive, share * SECONDS))
                # A run is long: what is known is said at once.
                print(json.dumps(rows[-1]), flush=True)
            return rows


@dataclass(slots=True)
class _Watched:
    """One stream, and what was seen of it."""

    stream: LiveStream
    frames: SandboxedFrames
    scored: array[float] = field(default_factory=lambda: array("d"))
    """When, how long it took, when it arrived and its timestamp, of each look in turn: not to be the memory that is measured."""
    told: int = 0
    verdict: Verdict | None = None

    def tell(self, event: LiveEvent) -> None:
        if isinstance(event, Scored):
            now = time.monotonic()
            arrived = now - event.took.wait_s - event.took.look_s
            self.scored.extend((now, event.took.all_s, arrived, float(event.pts * event.time_base)))
        elif isinstance(event, Shed):
            self.told += event.n

    def run(self) -> None:
        self.verdict = self.stream.run(self.tell)


def _streams(model: Model, url: str, sandbox: MediaSandbox, alone: float, n: int, attentive: bool, seconds: float) -> dict[str, Any]:
    controller = LoadController()
    with Engines([model], controller=controller) as engines:
        watched: list[_Watched] = []
        threads: list[threading.Thread] = []

        refused = 0
        while len(watched) < n:
            try:
                stream = LiveStream(engines, native_hz=30.0, attentive=attentive)
            except Overloaded as overloaded:
                refused += 1
                time.sleep(overloaded.retry_after_s or 1.0)
                if refused > n:
                    break
                continue
            frames = sandbox.read_frames(url, hz=12.0, limits=LIMITS)
            one = _Watched(stream, frames)
            watched.append(one)
            begun = [threading.Thread(target=one.run, daemon=True), threading.Thread(target=stream.follow, args=(frames,), daemon=True)]
            for thread in begun:
                thread.start()
            threads += begun
        time.sleep(WARM_S)
        begin, cpu, memory, rates = time.monotonic(), _busy_s(), [], []
        while time.monotonic() - begin < seconds:
            time.sleep(1.0)
            memory.append(_resident(watched))
            rates.append(controller.hz)
        end, cpu_s = time.monotonic(), _busy_s() - cpu
        for one in watched:
            one.frames.close()
            one.stream.end()
        for thread in threads:
            thread.join(20)
        took = np.concatenate([_looks(one, begin, end)[:, 1] for one in watched])
        behind = np.concatenate([_behind(one, begin, end) for one in watched])
        counts = [one.stream.counts for one in watched]
        moved = [abs(one.verdict.score.p - alone) for one in watched if one.verdict and one.verdict.score]
        assert len(moved) == len(watched), "every stream was judged"
        for one in watched:
            one.stream.__exit__(None, None, None)
        left = engines.counts[0]
    tenth = max(1, len(memory) // 10)
    return {
        "streams": len(watched),
        "attentive": attentive,
        "seconds": round(end - begin),
        "latency_ms": {"p50": round(1000 * float(np.median(took))), "p95": round(1000 * float(np.quantile(took, 0.95)))},
        "behind_ms_p95": round(1000 * float(np.quantile(behind, 0.95))),
        "looks_a_second_each": round(len(took) / (end - begin) / len(watched), 2),
        "due_hz": {"mean": round(float(np.mean(rates)), 1), "least": round(min(rates), 1)},
        "looked_at": sum(count.looked_at for count in counts),
        "shed": sum(count.shed for count in counts),
        "shed_untold": sum(count.shed for count in counts) - sum(one.told for one in watched),
        "lost": sum(count.offered - count.looked_at - count.passed_over - count.failed for count in counts),
        "p_moved_most": round(max(moved), 4),
        "turned_away": refused,
        "cores_busy": round(cpu_s / (end - begin), 2),
        "memory_grew": round(float(np.mean(memory[-tenth:]) / np.mean(memory[:tenth]) - 1), 4),
        "slots_left": left.memories,
    }


def _looks(one: _Watched, begin: float, end: float) -> NDArray[np.float64]:
    """(looks, 4) of those scored in this time."""
    looks = np.frombuffer(one.scored).reshape(-1, 4)
    return np.asarray(looks[(looks[:, 0] >= begin) & (looks[:, 0] <= end)])


def _behind(one: _Watched, begin: float, end: float) -> NDArray[np.float64]:
    looks = _looks(one, begin, end)
    offset = looks[:, 2] - looks[:, 3]
    return np.asarray(offset - offset.min())


def _busy_s() -> float:
    """CPU seconds of the whole machine, the RTSP server's among them."""
    user, nice, system, *_ = (int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _resident(watched: list[_Watched]) -> int:
    """Bytes of this process and its decode children."""
    pids = ["self", *(str(one.frames.pid) for one in watched)]
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids if Path(f"/proc/{pid}/statm").exists())
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
