"""Good small clips, one of each container and codec that arrives in practice: a folder comes in, paths go out, damage comes later."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from tests.clips import Image, write_clip

WIDTH, HEIGHT, FRAMES = 96, 64, 20
TICK = Fraction(1, 25)
# The same bytes on every run: one thread, no random identifiers, and none of x264's macroblock tree, which reads memory that nobody wrote.
H264 = {"preset": "veryfast", "g": "10", "bf": "2", "threads": "1", "x264-params": "mbtree=0:weightp=0"}
VPX = {"deadline": "realtime", "cpu-used": "8", "g": "10", "threads": "1"}
HEVC = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1:keyint=10:bframes=2"}
PLAIN = {"g": "10", "bf": "2", "threads": "1"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}

# name: codec, options of the encoder, options of the container. The first seven are the base of the corpus.
SEEDS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "plain.mp4": ("libx264", H264, {}),
    "fragmented.mp4": ("libx264", H264, FRAGMENTED),
    "camera.mov": ("mpeg4", PLAIN, {"movflags": "faststart"}),
    "recording.mkv": ("libx264", H264, {}),
    "browser.webm": ("libvpx", VPX, {}),
    "broadcast.ts": ("libx264", H264, {}),
    "old.avi": ("mpeg4", {"g": "10", "threads": "1"}, {}),
    "vp9.webm": ("libvpx-vp9", VPX, {}),
    "hevc.mp4": ("libx265", HEVC, {}),
    "mpeg2.ts": ("mpeg2video", PLAIN, {}),
    "motion.mkv": ("mjpeg", {"threads": "1"}, {}),
}
BASES = tuple(SEEDS)[:7]


def picture(i: int) -> Image:
    """Noise that moves over a ramp, so that every codec has residuals, motion and more than one macroblock type to write."""
    rng = np.random.default_rng(i // 4)
    ramp = np.linspace(30, 200, WIDTH)[None, :, None] + np.arange(HEIGHT)[:, None, None]
    noise = np.roll(rng.integers(0, 60, (HEIGHT, WIDTH, 3)), 2 * i, axis=1)
    return np.asarray(np.clip(ramp + noise - 30, 0, 255), dtype=np.uint8)


def write_seed(folder: Path, name: str) -> Path:
    """Write one of `SEEDS`: 20 frames at 25 fps, with one longer interval, so that there is more than one stts entry."""
    codec, options, container = SEEDS[name]
    # In ticks of the frame rate, because MPEG-2 knows no finer clock.
    pts = [i + (5 if i > 12 else 0) for i in range(FRAMES)]
    pictures = [picture(i) for i in range(FRAMES)]
    return write_clip(folder / name, pictures, pts, TICK, codec=codec, options=options, container={"fflags": "+bitexact"} | container)


def write_streams(path: Path, count: int) -> Path:
    """A file of `count` video streams with two frames each."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        streams = [out.add_stream("mpeg4", rate=25, options={"threads": "1"}) for _ in range(count)]
        for stream in streams:
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        for stream in streams:
            assert isinstance(stream, VideoStream)
            for i in range(2):
                frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, dtype=np.uint8), format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path
