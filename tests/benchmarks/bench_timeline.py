"""How true the times of pictures are: VFR files with known times in, the largest error in ms of ours and of what others do, out.

Every picture carries its number, so that each reader's time is held against the true time of the picture it really gave. Others are
given the time of the first picture, which OpenCV sets to 0 and an index cannot know: they are compared relative to it. Ours are compared as
they are, except where the file itself holds other times than were meant; how far it moves them is taken from the bare stamp of the first
picture and said in `container_shift_ms`; and once more relative, like for like.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from pipelines.frames import read_frames
from tests.zoo import CONTAINERS, PATTERNS, Specimen, mux, number_of

# A container's own tick is at most 1 ms; what differs by less was rounded, not moved.
ROUNDING_S = Fraction(1, 1000)
# No camera is faster: a rate above it is a time base that was mistaken for one, and no timeline.
ABSURD_FPS = 1000.0


class _Reading(NamedTuple):
    """Which pictures a reader gave, when it says each is shown (in seconds), and which rate it claims."""

    numbers: list[int]
    times_s: list[float]
    fps: float | None = None


def run() -> list[dict[str, Any]]:
    """One row for each pattern in each container."""
    with tempfile.TemporaryDirectory() as folder:
        return [_row(mux(Path(folder), pattern, container), pattern, container) for pattern in PATTERNS for container in CONTAINERS]


def _row(specimen: Specimen, pattern: str, container: str) -> dict[str, Any]:
    truth = [float(t) for t in specimen.times]
    ours, bare, opencv = _ours(specimen.path), _bare(specimen.path), _opencv(specimen.path)
    shift_s = bare.times_s[0] - truth[bare.numbers[0]]
    if abs(shift_s) < ROUNDING_S:
        shift_s = 0.0
    return {
        "pattern": pattern,
        "container": container,
        "frames": len(truth),
        "span_s": round(truth[-1] - truth[0], 3),
        "frames_read": {"ours": len(ours.numbers), "bare": len(bare.numbers), "opencv": len(opencv.numbers)},
        "container_shift_ms": round(1000 * shift_s, 3),
        "average_rate": bare.fps,
        "opencv_fps": opencv.fps,
        "max_error_ms": {
            "ours": _worst_ms([t - shift_s - truth[i] for i, t in zip(ours.numbers, ours.times_s, strict=True)]),
            "ours_relative": _relative_error_ms(ours.numbers, ours.times_s, truth),
            "index_average_rate": _index_error_ms(bare, truth),
            "opencv_pos_msec": _relative_error_ms(opencv.numbers, opencv.times_s, truth),
            "opencv_index_fps": _index_error_ms(opencv, truth),
        },
    }


def _ours(path: Path) -> _Reading:
    with read_frames(path, hz=None) as source:
        frames = [(number_of(frame.image), frame.t) for frame in source]
    return _Reading([number for number, _ in frames], [t for _, t in frames])


def _bare(path: Path) -> _Reading:
    """What PyAV gives to whoever asks for no more than it offers."""
    numbers, times = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        for frame in container.decode(stream):
            assert frame.pts is not None and frame.time_base is not None
            numbers.append(number_of(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)))
            times.append(float(frame.pts * frame.time_base))
    return _Reading(numbers, times, None if rate is None else round(float(rate), 3))


def _opencv(path: Path) -> _Reading:
    capture = cv2.VideoCapture(str(path))
    numbers, times = [], []
    fps = capture.get(cv2.CAP_PROP_FPS)
    while True:
        there, image = capture.read()
        if not there:
            break
        numbers.append(number_of(np.asarray(image, dtype=np.uint8)))
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    capture.release()
    return _Reading(numbers, times, round(fps, 3) if fps > 0 else None)


def _index_error_ms(reading: _Reading, truth: Sequence[float]) -> float | None:
    """None where there is no rate, or none that a camera could have."""
    if reading.fps is None or reading.fps > ABSURD_FPS:
        return None
    return _relative_error_ms(reading.numbers, [i / reading.fps for i in range(len(reading.numbers))], truth)


def _relative_error_ms(numbers: Sequence[int], times_s: Sequence[float], truth: Sequence[float]) -> float:
    zero, true_zero = times_s[0], truth[numbers[0]]
    return _worst_ms([(t - zero) - (truth[i] - true_zero) for i, t in zip(numbers, times_s, strict=True)])


def _worst_ms(errors_s: Sequence[float]) -> float:
    return round(1000 * max(abs(error) for error in errors_s), 3)
