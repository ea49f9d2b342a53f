"""CPU time of the front door: 720p30 and 1080p30 clips in; CPU-ms per frame beside a bare PyAV loop, and the milliseconds of opening, out.

Every way of reading is run once a round and the rounds are repeated, so that a busy moment of the machine meets all ways alike; the best
round of each counts. CPU is that of the process with all its threads, plus the child's where there is one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.errors import DecodeError
from pipelines.frames import read_frames
from service.media_sandbox import MediaSandbox
from tests.support import ROOT

ROUNDS = 5
HZ = 12.0
CHUNK_BYTES = 64 * 1024
OPENINGS = 15
COLD_STARTS = 5
SHARED = ROOT.parent / "shared" / "data"
REAL_CLIPS = {
    "real, 720p30": SHARED / "published" / "clips" / "NVIDIA-Maxine__nim-clients" / "assets_sample_streamable.mp4",
    "real, 1080p30, 4:4:4": SHARED / "validation" / "real" / "h0048_866.mp4",
}

Way = Literal["bare", "bare_one_thread", "in_process", "child", "feed_64kb", "key_frames", "bare_key_frames", "opencv"]


@dataclass(frozen=True, slots=True)
class _Spent:
    """What one reading of a whole file cost."""

    cpu_s: float
    frames: int
    """Decoded."""
    yielded: int


def run() -> list[dict[str, Any]]:
    """One row a clip."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, MediaSandbox() as sandbox:
        for name, path in _clips(Path(folder)):
            best = _best(path, sandbox)
            bare, whole = best["bare"], best["in_process"]
            per_frame = {way: round(1000 * spent.cpu_s / bare.frames, 3) for way, spent in best.items() if "key_frames" not in way}
            rows.append(
                {
                    "clip": name,
                    **_facts(path),
                    "frames_decoded": whole.frames,
                    "frames_yielded": whole.yielded,
                    "cpu_ms_per_frame": per_frame,
                    "in_process_over_bare": _ratio(whole, bare),
                    "child_over_bare": _ratio(best["child"], bare),
                    "in_process_over_bare_one_thread": _ratio(whole, best["bare_one_thread"]),
                    "child_over_bare_one_thread": _ratio(best["child"], best["bare_one_thread"]),
                    "opencv_over_bare": _ratio(best["opencv"], bare),
                    "key_frames_decoded": best["key_frames"].frames,
                    "key_frames_speedup": round(whole.cpu_s / best["key_frames"].cpu_s, 1),
                    "key_frames_over_bare": _ratio(best["key_frames"], best["bare_key_frames"]),
                    "open_ms": {
                        "in_process": _open_ms(partial(read_frames, path, hz=HZ)),
                        "warm_sandbox": _open_ms(partial(sandbox.read_frames, path, hz=HZ)),
                        "cold_sandbox": _cold_start_ms(path),
                    },
                }
            )
    return rows


def _clips(folder: Path) -> Iterator[tuple[str, Path]]:
    for name, width, height, bit_rate in (("made here, 720p30", 1280, 720, 3_000_000), ("made here, 1080p30", 1920, 1080, 6_000_000)):
        yield name, _textured_clip(folder / f"{height}.mp4", width, height, bit_rate)
    yield from ((name, path) for name, path in REAL_CLIPS.items() if path.is_file())


def _textured_clip(path: Path, width: int, height: int, bit_rate: int, seconds: int = 10, fps: int = 30) -> Path:
    """A textured plane that drifts, one that crosses it, a sensor's noise: H.264 High with B-frames, a key frame every two seconds."""
    rng = np.random.default_rng(7)
    far, near = _texture(rng, height + 128, width + 512), _texture(rng, height // 2, height // 2)
    grain = rng.normal(0, 6, (4, height, width)).astype(np.int8)
    chroma = np.full((height // 2, width), 128, np.uint8)
    # Fast start: a feed cannot go back for an index at the end.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "bf": "3", "g": str(2 * fps), "threads": "1"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bit_rate
        for i in range(seconds * fps):
            dx, dy = round(250 + 200 * np.sin(i / 40)), round(60 + 50 * np.cos(i / 25))
            luma = far[dy : dy + height, dx : dx + width].copy()
            left = round((width - near.shape[1]) * (0.5 + 0.45 * np.sin(i / 30)))
            luma[height // 4 : height // 4 + near.shape[0], left : left + near.shape[1]] = near
            luma = np.clip(luma.astype(np.int16) + grain[i % len(grain)], 16, 235).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Grey noise at three scales, like cloth, foliage and shade."""
    sum_ = np.zeros((height, width), np.float32)
    for blur, weight in ((6, 25.0), (10, 35.0), (40, 45.0)):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), blur)
        sum_ += weight * noise / noise.std()
    return np.clip(126 + sum_, 16, 235).astype(np.uint8)


def _facts(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert container.duration is not None
        return {
            "codec": stream.codec_context.name,
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "b_frames": bool(stream.codec_context.has_b_frames),
            "mbit_s": round(8 * path.stat().st_size / container.duration, 2),
        }


def _best(path: Path, sandbox: MediaSandbox) -> dict[Way, _Spent]:
    """The cheapest of the rounds for each way that can read this file."""
    ways: dict[Way, Callable[[], _Spent]] = {
        "bare": partial(_bare, path),
        "bare_one_thread": partial(_bare, path, one_thread=True),
        "in_process": partial(_ours, path),
        "child": partial(_child, path, sandbox),
        "feed_64kb": partial(_feed, path),
        "key_frames": partial(_ours, path, closely=()),
        "bare_key_frames": partial(_bare, path, one_thread=True, skip="NONKEY"),
        "opencv": partial(_opencv, path),
    }
    best: dict[Way, _Spent] = {}
    for _round in range(ROUNDS):
        for way, read in ways.items():
            try:
                spent = read()
            except DecodeError:
                # A file whose index stands at its end cannot be fed; any other way has to work.
                if way != "feed_64kb":
                    raise
                continue
            best[way] = min(best.get(way, spent), spent, key=lambda one: one.cpu_s)
    return best


def _bare(path: Path, *, one_thread: bool = False, skip: Literal["NONE", "NONKEY"] = "NONE") -> _Spent:
    before, frames = time.process_time(), 0
    with av.open(str(path)) as container:
        if one_thread:
            container.streams.video[0].thread_type = "NONE"
        if skip != "NONE":
            container.streams.video[0].codec_context.skip_frame = skip
        for _frame in container.decode(video=0):
            frames += 1
    return _Spent(time.process_time() - before, frames, frames)


def _ours(path: Path, *, closely: Collection[int] | None = None) -> _Spent:
    before, yielded = time.process_time(), 0
    with read_frames(path, hz=HZ, closely=closely) as source:
        for _frame in source:
            yielded += 1
    return _Spent(time.process_time() - before, source.counts.decoded, yielded)


def _child(path: Path, sandbox: MediaSandbox) -> _Spent:
    before, yielded = time.process_time(), 0
    with sandbox.read_frames(path, hz=HZ) as source:
        for _frame in source:
            yielded += 1
    return _Spent(time.process_time() - before + source.cpu_s, source.counts.decoded, yielded)


class _Chunks:
    """A file as a socket gives it: at most 64 kB a read, and no way back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def read(self, n: int) -> bytes:
        chunk = bytes(self._data[self._at : self._at + min(n, CHUNK_BYTES)])
        self._at += len(chunk)
        return chunk


def _feed(path: Path) -> _Spent:
    data = path.read_bytes()
    before, yielded = time.process_time(), 0
    with read_frames(_Chunks(data), hz=HZ) as source:
        for _frame in source:
            yielded += 1
    return _Spent(time.process_time() - before, source.counts.decoded, yielded)


def _opencv(path: Path) -> _Spent:
    before, frames = time.process_time(), 0
    capture = cv2.VideoCapture(str(path))
    while capture.read()[0]:
        frames += 1
    capture.release()
    return _Spent(time.process_time() - before, frames, frames)


def _ratio(spent: _Spent, beside: _Spent) -> float:
    return round(spent.cpu_s / beside.cpu_s, 3)


def _open_ms(opening: Callable[[], Any]) -> float:
    """Median wall milliseconds until the source is open and its facts are known."""
    took = []
    for _ in range(OPENINGS):
        before = time.perf_counter()
        with opening() as source:
            assert source.media.width
            took.append(1000 * (time.perf_counter() - before))
    return round(median(took), 2)


def _cold_start_ms(path: Path) -> float:
    """Median wall milliseconds until a file is open through a sandbox that was not there; its zygote starts with the first source."""
    took = []
    for _ in range(COLD_STARTS):
        before = time.perf_counter()
        with MediaSandbox() as sandbox, sandbox.read_frames(path, hz=HZ) as source:
            assert source.media.width
            took.append(1000 * (time.perf_counter() - before))
    return round(median(took), 2)
