"""Small real videos with known timestamps, made while testing: pictures and PTS in, files out.

The face is scikit-image's astronaut (public domain), moved over a flat background, so that the real detector finds it and no data has to
be downloaded. Every builder returns the path that it wrote.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from skimage import data

Image = NDArray[np.uint8]
MILLISECOND = Fraction(1, 1000)


@cache
def _portrait(px: int) -> Image:
    """Head and shoulders, `px` high; the face is about 0.45 of that."""
    face = data.astronaut()[0:240, 100:340]  # type: ignore[no-untyped-call]  # scikit-image ships no types for it
    return np.asarray(cv2.resize(face, (px, px), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def face_frame(t: float, *, width: int = 640, height: int = 480, px: int = 360, left: float | None = None) -> Image:
    """A picture at media time `t` with one face that sways slowly; `left` fixes where it starts."""
    picture = np.full((height, width, 3), (90, 110, 120), dtype=np.uint8)
    x = round((width - px) / 2 + 0.12 * px * np.sin(1.3 * t)) if left is None else round(left)
    y = round((height - px) / 2 + 0.04 * px * np.cos(0.9 * t))
    x, y = int(np.clip(x, 0, width - px)), int(np.clip(y, 0, height - px))
    picture[y : y + px, x : x + px] = _portrait(px)
    return picture


def empty_frame(t: float, *, width: int = 640, height: int = 480) -> Image:
    """A picture without a face that changes slowly."""
    ramp = np.linspace(60, 120, width) + 10 * np.sin(t)
    return np.repeat(np.broadcast_to(ramp, (height, width))[..., None], 3, axis=2).astype(np.uint8)


def write_clip(
    path: Path,
    pictures: Iterable[Image],
    pts: Sequence[int],
    time_base: Fraction = MILLISECOND,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Encode `pictures` with exactly these `pts` (ticks of `time_base`); the suffix of `path` names the container."""
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=30, options=options or ({"preset": "ultrafast", "crf": "18"} if codec == "libx264" else {}))
        assert isinstance(stream, VideoStream)
        for picture, tick in zip(pictures, pts, strict=True):
            if stream.codec_context.time_base != time_base:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                stream.codec_context.time_base = time_base
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def regular_pts(seconds: float, fps: float) -> list[int]:
    """Milliseconds of a constant frame rate, rounded as a camera's clock is."""
    return [round(1000 * i / fps) for i in range(round(seconds * fps))]


def variable_pts(seconds: float, *, seed: int = 0) -> list[int]:
    """Milliseconds of a screen recording: bursts at 60 fps, pauses up to 0.7 s, no pattern."""
    rng = np.random.default_rng(seed)
    pts, now = [], 0
    while now < 1000 * seconds:
        pts.append(now)
        now += int(rng.choice([17, 33, 50, 120, 400, 700], p=[0.3, 0.35, 0.2, 0.09, 0.04, 0.02]))
    return pts


def face_clip(path: Path, *, seconds: float = 3.0, fps: float = 24.0, pts: Sequence[int] | None = None, px: int = 360, **how: str) -> Path:
    """One swaying face; `how` goes on to `write_clip` (codec=...)."""
    ticks = list(pts) if pts is not None else regular_pts(seconds, fps)
    return write_clip(path, (face_frame(tick / 1000, px=px) for tick in ticks), ticks, codec=how.get("codec", "libx264"))


def camera_file(path: Path, *, seconds: float = 5.0, fps: float = 30.0) -> Path:
    """The swaying face, there and back, as Chromium's fake camera wants it (`.mjpeg`: JPEGs, one after the other) and films for ever."""
    there = []
    for i in range(round(seconds * fps)):
        done, encoded = cv2.imencode(".jpg", face_frame(i / fps)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        assert done
        there.append(encoded.tobytes())
    # When it begins again, Chromium's camera shows nothing for a moment; so it does that seldom.
    path.write_bytes(6 * b"".join(there + there[::-1]))
    return path


def empty_clip(path: Path, *, seconds: float = 2.0) -> Path:
    """A video in which no face appears."""
    ticks = regular_pts(seconds, 12)
    return write_clip(path, (empty_frame(tick / 1000) for tick in ticks), ticks)


def one_frame_clip(path: Path) -> Path:
    """A video of a single picture with a face."""
    return write_clip(path, [face_frame(0.0)], [0])


def audio_only(path: Path) -> Path:
    """Half a second of tone in a container that could hold video."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        tone = (0.2 * np.sin(np.arange(22050) / 20)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def still(path: Path) -> Path:
    """A picture (by its suffix jpg, png, bmp ...) under whatever name."""
    suffix = path.suffix if path.suffix in (".jpg", ".png", ".bmp", ".webp") else ".png"
    done, encoded = cv2.imencode(suffix, face_frame(0.0)[..., ::-1])
    assert done
    path.write_bytes(encoded.tobytes())
    return path


def cut_short(source: Path, path: Path, share: float) -> Path:
    """The first `share` of a file's bytes, as a crash or a broken upload leaves them."""
    whole = source.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def bomb(path: Path) -> Path:
    """A few kilobytes that would decode to 16384 x 8192 pixels.

    Encoding it takes about a gigabyte for a moment, so a child process does it and gives the memory back.
    """
    code = (
        "import av, numpy as np, sys\n"
        "out = av.open(sys.argv[1], 'w')\n"
        "s = out.add_stream('libx264', rate=1, options={'preset': 'ultrafast', 'crf': '51', 'threads': '1'})\n"
        "s.width, s.height, s.pix_fmt = 16384, 8192, 'yuv420p'\n"
        "f = av.VideoFrame(16384, 8192, 'yuv420p')\n"
        "for plane in f.planes: plane.update(bytes(plane.buffer_size))\n"
        "f.pts = 0\n"
        "out.mux(s.encode(f)); out.mux(s.encode(None)); out.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    return path


PLAYLISTS: dict[str, str] = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
}


def playlist(path: Path, kind: str, target: str) -> Path:
    """A text that asks its reader to open `target`."""
    path.write_text(PLAYLISTS[kind].format(target=target))
    return path
