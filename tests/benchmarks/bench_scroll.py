"""A result of four hours in a real browser: how smoothly its timeline is moved and looked into, what a part of it costs the service, what
the page weighs, and when it can be used.

Every frame of the browser brings one turn of the wheel, as from a touch pad. Chromium draws without a GPU on the cores that the service
and this process use too, so beside the frames that came stands what the page's main thread had to do for each, in CPU time of that thread.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, Response, expect

from tests.benchmarks.bench_load import cpu_seconds
from tests.benchmarks.long_result import FACES, HOURS, LOOKS, store
from tests.clips import face_clip
from tests.service.browsing import WAIT_MS, chromium, desk_at
from tests.service.processes import Serving, serving

SECONDS: Final = float(os.environ.get("SCROLL_SECONDS", "6"))
"""Of each way to move."""
WAYS: Final = {
    "closer and farther, from all of it to a minute": (HOURS * 3600.0, "zoom"),
    "along, an hour in view": (3600.0, "pan"),
    "along, a minute in view": (60.0, "pan"),
}
PARTS: Final = {"all of it": HOURS * 3600.0, "an hour": 3600.0, "a minute": 60.0}
ASKED: Final = 12
OPENED: Final = 5
FRAME_MS: Final = 1000 / 60
"""Headless Chromium has a screen of 60 Hz."""
TRACED: Final = ("devtools.timeline", "disabled-by-default-devtools.timeline")
MOVE: Final = """
([seconds, way]) => new Promise((done) => {
  const lanes = document.querySelector('.timeline');
  const box = lanes.getBoundingClientRect();
  const at = { bubbles: true, cancelable: true, clientX: box.left + 0.6 * box.width, clientY: box.top + 20 };
  const times = [];
  let turned = 0;
  const frame = (now) => {
    times.push(now);
    const passed = (now - times[0]) / 1000;
    if (passed >= seconds) return done(times);
    const forth = Math.floor(passed / 2) % 2 ? -1 : 1;
    // In two seconds through a span and a half; or 240 times closer and back.
    const turn = way === 'pan' ? { shiftKey: true, deltaY: forth * box.width * 0.0125 } : { ctrlKey: true, deltaY: -forth * 14 };
    lanes.dispatchEvent(new WheelEvent('wheel', { ...at, ...turn }));
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})
"""
USABLE: Final = """
window.usable = {};
const look = () => {
  const sentence = document.querySelector('article.result h1');
  if (sentence?.textContent && !usable.sentence) usable.sentence = performance.now();
  if (sentence) {
    document.dispatchEvent(new KeyboardEvent('keydown', { key: '+' }));
    const shown = document.querySelector('.shown-range');
    if (shown && !shown.hidden) return void (usable.keys = performance.now());
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def run() -> list[dict[str, Any]]:
    """What the page weighs and when it is usable; a row for each way to move; a row for each kind of part."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as service, chromium() as browser:
        service.client.get("/readyz").raise_for_status()
        media = face_clip(Path(name) / "clip.mp4", seconds=4.0).read_bytes()
        with ThreadPoolExecutor(1) as aside:  # Playwright has an event loop in this thread
            analysis_id = aside.submit(store, Path(name) / "data", media).result()
        timeline = f"/v1/analyses/{analysis_id}/timeline"
        columns_s = _cpu_of(service, [f"{timeline}?points=2000"])
        parts = [{"table": "parts", "what": what, **_part(service, timeline, span_s)} for what, span_s in PARTS.items()]
        opened = _opened(browser, service, analysis_id)
        whole = {
            "table": "page",
            "rows": LOOKS * FACES,
            "hours": HOURS,
            "columns_s": round(columns_s, 1),
            "load": round(os.getloadavg()[0], 1),
            **_weight(browser, service, analysis_id),
            "sentence_ms": _median_and_most(one["sentence"] for one in opened),
            "usable_ms": _median_and_most(one["keys"] for one in opened),
        }
        moved = [{"table": "moved", "way": way, **_moved(browser, service, analysis_id, *how)} for way, how in WAYS.items()]
        return [whole, *moved, *parts]


def _part(service: Serving, timeline: str, span_s: float) -> dict[str, Any]:
    # From elsewhere each time, as far as there is an elsewhere.
    begins = [n * (HOURS * 3600 - span_s) / ASKED for n in range(ASKED)]
    windows = [f"{timeline}?points=2000&from={begin}&to={begin + span_s}" for begin in begins]
    bytes_, took_s = zip(*(_asked(service.client, window) for window in windows), strict=True)
    return {
        "cpu_ms": round(1000 * _cpu_of(service, windows) / ASKED, 1),
        "ms": round(1000 * statistics.median(took_s), 1),
        "mb": round(statistics.median(bytes_) / 1e6, 2),
    }


def _asked(client: httpx.Client, path: str) -> tuple[int, float]:
    began = time.monotonic()
    answer = client.get(path)
    answer.raise_for_status()
    return len(answer.content), time.monotonic() - began


def _cpu_of(service: Serving, paths: Iterable[str]) -> float:
    """CPU seconds of the service for some questions."""
    before = cpu_seconds(service.process.pid)
    for path in paths:
        service.client.get(path, timeout=120).raise_for_status()
    return cpu_seconds(service.process.pid) - before


def _weight(browser: Browser, service: Serving, analysis_id: str) -> dict[str, Any]:
    """Bytes of the page's own files, each packed by gzip: everything but media and answers of the API."""
    found: dict[str, bytes] = {}

    def note(answer: Response) -> None:
        if "/v1/" not in answer.url:
            found[answer.url] = answer.body()

    with desk_at(browser, str(service.client.base_url)) as desk:
        desk.page.on("response", note)
        _open(desk.page, analysis_id)
    packed = {url: len(gzip.compress(body, 9)) for url, body in found.items()}
    kinds = {kind: sum(size for url, size in packed.items() if url.endswith(kind)) for kind in (".js", ".css", ".svg")}
    return {"bytes": sum(packed.values()), **{f"{kind[1:]}_bytes": size for kind, size in kinds.items()}, "files": len(packed)}


def _opened(browser: Browser, service: Serving, analysis_id: str) -> list[dict[str, float]]:
    """Milliseconds from the navigation to the sentence, and to the first key that moved the timeline; with an empty cache each time."""
    found = []
    for _ in range(OPENED):
        with desk_at(browser, str(service.client.base_url)) as desk:
            desk.page.add_init_script(USABLE)
            desk.page.goto(f"/analyses/{analysis_id}")
            expect(desk.page.locator(".shown-range")).to_be_visible(timeout=WAIT_MS)
            found.append(desk.page.evaluate("usable"))
    return found


def _moved(browser: Browser, service: Serving, analysis_id: str, span_s: float, way: str) -> dict[str, Any]:
    """Frames while it is moved, untraced; then the same once more under the tracer, which slows it, for what each frame cost."""
    with desk_at(browser, str(service.client.base_url)) as desk, tempfile.NamedTemporaryFile(suffix=".json") as traced:
        page = desk.page
        _open(page, analysis_id)
        _look_at(page, span_s)
        page.wait_for_timeout(1000)
        times = page.evaluate(MOVE, [SECONDS, way])
        browser.start_tracing(page=page, path=traced.name, categories=list(TRACED))
        page.evaluate(MOVE, [SECONDS, way])
        browser.stop_tracing()
        events = json.loads(Path(traced.name).read_text("utf-8"))["traceEvents"]
        complaints = desk.complaints
    assert not complaints, complaints
    intervals = np.diff(times)
    busy = _busy_ms(events)
    p50, p5 = (1000 / np.percentile(intervals, share) for share in (50, 95))
    return {
        "frames": len(times),
        "fps": {"mean": round(1000 / float(intervals.mean()), 1), "p50": round(float(p50), 1), "p5": round(float(p5), 1)},
        "dropped": int(np.sum(np.maximum(np.round(intervals / FRAME_MS) - 1, 0))),
        "main_ms": {"p50": round(float(np.percentile(busy, 50)), 1), "p95": round(float(np.percentile(busy, 95)), 1)},
        "load": round(os.getloadavg()[0], 1),
    }


def _open(page: Page, analysis_id: str) -> None:
    page.goto(f"/analyses/{analysis_id}")
    expect(page.locator("article.result")).to_be_visible(timeout=WAIT_MS)
    page.wait_for_load_state("networkidle")
    # What is out of view costs the compositor nothing.
    page.locator(".timeline-box").evaluate("(box) => box.scrollIntoView({ block: 'end' })")


def _look_at(page: Page, span_s: float) -> None:
    """Look closer until about so much is in view, from the middle on."""
    factor = HOURS * 3600 / span_s
    turn = {"ctrlKey": True, "bubbles": True, "cancelable": True, "deltaY": -300 * float(np.log(factor))}
    page.evaluate(
        "(turn) => { const box = document.querySelector('.timeline').getBoundingClientRect();"
        "document.querySelector('.timeline').dispatchEvent(new WheelEvent('wheel', { ...turn, clientX: box.left + box.width / 2 })) }",
        turn,
    )


def _busy_ms(events: list[dict[str, Any]]) -> list[float]:
    """CPU milliseconds of the page's main thread from each of its frames to the next, which begins with the task that fires callbacks."""
    fired = [event for event in events if event["name"] == "FireAnimationFrame"]
    main = {(event["pid"], event["tid"]) for event in fired}
    assert len(main) == 1, "one page draws"
    tasks = sorted((event for event in events if event["name"] == "RunTask" and (event["pid"], event["tid"]) in main), key=itemgetter("ts"))
    starts = [task["ts"] for task in tasks]
    frames = sorted({bisect_right(starts, event["ts"]) - 1 for event in fired})
    return [sum(task["tdur"] for task in tasks[begin:end]) / 1000 for begin, end in pairwise(frames)]


def _median_and_most(values: Iterable[float]) -> dict[str, int]:
    found = list(values)
    return {"median": round(statistics.median(found)), "most": round(max(found))}
