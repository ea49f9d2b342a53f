"""The clip that plays: an Example in, its pictures side by side and a video file at their true times out.

Written for people by `undercurrent train play`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.media import Image
from pipelines.training.example import Example
from pipelines.training.panels import ALARM, CALM, INK, PAPER, QUIET, blank, panels, write
from pipelines.training.video_writer import VideoWriter

PANEL_PX: Final = 384
TOP_PX: Final = 64
FOOT_PX: Final = 40


def side_by_side(example: Example, *, slow: float = 1.0) -> Iterator[Image]:
    """Each moment of a clip as one picture: real | fake | mask | difference, and what and when it is."""
    made, t = example.made, example.clip.t
    labels = made.frame_labels
    width = 4 * PANEL_PX
    speed = "" if slow == 1 else f", shown {slow:g} times slower"
    title = f"{made.kind}, {made.family}, opacity {example.opacity:.2f}, strength {example.strength:.2f}, {example.change:.1f} grey levels"
    for i, seconds in enumerate(t):
        tampered = bool(labels[i])
        picture = blank(TOP_PX + PANEL_PX + FOOT_PX, width)
        write(picture, title, 10, 24, INK, 18, bold=True)
        write(picture, f"{example.identity}{speed}", 10, 50, QUIET, 16)
        when = f"t = {seconds:8.3f} s   frame {i + 1}/{len(t)}" + (f"   dt {1000 * (seconds - t[i - 1]):5.1f} ms" if i else "")
        write(picture, when, width - 380, 24, INK, 18)
        write(picture, "TAMPERED" if tampered else "untouched", width - 380, 52, ALARM if tampered else CALM, 20, bold=True)
        for number, (name, panel) in enumerate(panels(example, i)):
            place = slice(number * PANEL_PX, (number + 1) * PANEL_PX)
            picture[TOP_PX : TOP_PX + PANEL_PX, place] = cv2.resize(panel, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_LINEAR)
            write(picture, name, number * PANEL_PX + 8, TOP_PX + 22, PAPER, 16, shadow=True)
        if tampered:
            picture[TOP_PX : TOP_PX + PANEL_PX, PANEL_PX : PANEL_PX + 4] = ALARM
            picture[TOP_PX : TOP_PX + PANEL_PX, 2 * PANEL_PX - 4 : 2 * PANEL_PX] = ALARM
        _draw_time(picture, t, labels, i)
        yield picture


def encode_clip(pictures: Iterable[Image], t: NDArray[np.float64], suffix: str, *, slow: float = 1.0) -> tuple[bytes, list[float]]:
    """A video file whose pictures stand at the times `t` (T,) in seconds, from the first on: nothing is resampled, VFR stays VFR.

    Args:
        suffix: `.mp4` (H.264, ticks of 1/90000 s) or `.webm` (VP9, whose container knows milliseconds only).
        slow: how many times longer than life it lasts.

    Returns:
        the file, and the seconds at which each picture was written.
    """
    mp4 = suffix == ".mp4"
    base = Fraction(1, 90_000) if mp4 else Fraction(1, 1000)
    ticks = np.round((t - t[0]) * slow / float(base)).astype(np.int64)
    # Two pictures of one stamp happen in real files; a container takes only rising ones.
    steps = np.arange(len(ticks))
    ticks = np.maximum.accumulate(ticks - steps) + steps
    last = int(np.median(np.diff(ticks))) if len(ticks) > 1 else round(0.5 / base)
    lasts = dict(zip(ticks.tolist(), [*np.diff(ticks).tolist(), last], strict=True))
    # No B-frames: with them the first stamp is not 0 and a player must honour an edit list.
    options = {"crf": "18", "preset": "veryfast", "bf": "0"} if mp4 else {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "5"}
    codec, container = ("libx264", "mp4") if mp4 else ("libvpx-vp9", "webm")
    buffer = io.BytesIO()
    with VideoWriter(buffer, codec, options | {"threads": "1"}, container=container, tick=base, lasts=lasts) as writer:
        for picture, tick in zip(pictures, ticks.tolist(), strict=True):
            writer.write(picture, tick)
    return buffer.getvalue(), [float(tick * base) for tick in ticks.tolist()]


def _draw_time(picture: Image, t: NDArray[np.float64], labels: NDArray[np.float32], i: int) -> None:
    """A strip at the foot: a tick for each picture at its true time, high where it was tampered with, and where we are."""
    left, right, foot = 10, picture.shape[1] - 10, picture.shape[0] - 8
    span = max(float(t[-1] - t[0]), 1e-9)
    for k, seconds in enumerate(t):
        x = round(left + (right - left) * float(seconds - t[0]) / span)
        top = foot - (18 if labels[k] else 8)
        picture[top:foot, x : x + 2] = ALARM if labels[k] else QUIET
        if k == i:
            picture[foot - 28 : foot + 4, x - 1 : x + 3] = INK
