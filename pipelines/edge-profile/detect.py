"""Judges the face of a video with nothing but onnxruntime, NumPy, OpenCV and PyAV: `python detect.py VIDEO [--hz N|all] [--json]`.

Stands in the folder that `undercurrent export` wrote, and imports nothing of Undercurrent. The walk is the service's own, for one face:
pictures with their real timestamps, the face searched for now and then and refined between (`following.py`, `cascade.py`), one crop
function, the encoder, the memory with its state in your hands and the true seconds since its last look, the calibration.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from bundle import Bundle, Float, Image
from cascade import Cascade
from following import Follower, align, why_unusable
from numpy.typing import NDArray

TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one picture. `p` is null, never 0, where nothing was judged; `reason` then says why."""

    t: float
    pts: int
    time_base: str
    track: int | None
    box: list[float] | None
    """x0, y0, x1, y1 in pixels of the picture."""
    dt: float | None
    """Seconds since this face was last judged; null on the first time."""
    logit: float | None
    p: float | None
    surprise: float | None
    """1 is what real faces do in dt seconds; null on the first time."""
    reason: str | None


@dataclass(slots=True)
class Track:
    """What is remembered of one face: the memory's state, and its evidence so far."""

    h: Float
    k: Float
    started: NDArray[np.bool_]
    first_s: Fraction
    last_s: Fraction
    artefact: float | None = None
    judged_s: Fraction | None = None
    logits: list[float] = field(default_factory=list)


class Judge:
    """Looks at the pictures of one video, one after another."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._profile = bundle, bundle.profile
        self._follower = Follower(Cascade(bundle), bundle.profile["following"])
        self._tracks: dict[int, Track] = {}

    def look(self, image: Image, pts: int, base: Fraction) -> Look:
        """The next picture, RGB (H, W, 3), at `pts` ticks of `base` seconds."""
        t = pts * base
        face = self._follower.update(image, t)
        if face is None:
            return Look(float(t), pts, str(base), None, None, None, None, None, None, "no_face")
        units = self._profile["memory"]["units"]
        empty = np.zeros((1, units), np.float32)
        track = self._tracks.setdefault(self._follower.track, Track(empty, empty, np.zeros((1, 1), np.bool_), t, t))
        track.last_s = t
        dt = None if track.judged_s is None else float(t - track.judged_s)
        crop = align(image, face.points, self._profile["crop"])
        reason, logit, surprise = why_unusable(face, crop, self._profile["quality"]), None, None
        if reason is None:
            reason, logit, surprise = self._judged(track, crop, t, dt)
        p = None if logit is None else probability(logit)
        return Look(float(t), pts, str(base), self._follower.track, face.box.tolist(), dt, logit, p, surprise, reason)

    def _judged(self, track: Track, crop: Image, t: Fraction, dt: float | None) -> tuple[str | None, float | None, float | None]:
        """The encoder, the memory with the true dt, the calibration."""
        numbers = self._profile["calibration"]
        pixels = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32)
        x, artefact, distance = self._bundle.run("encoder", ["embedding", "logit", "distance"], crops=pixels)
        if numbers["farthest"] is not None and float(distance[0]) > numbers["farthest"]:
            return "out_of_distribution", None, None
        temporal, surprise, track.h, track.k, track.started = self._bundle.run(
            "memory",
            ["logit", "surprise", "next_h", "next_k", "next_started"],
            **{"x": x, "h": track.h, "k": track.k, "started": track.started},
            dt=np.array([[math.inf if dt is None else dt]], np.float32),
        )
        held, now = track.artefact, float(artefact[0])
        track.artefact = now if held is None or dt is None else now + (held - now) * math.exp(-dt / numbers["artefact_tau_s"])
        weight = numbers["weight"]
        track.logits.append(weight[0] * track.artefact + weight[1] * float(temporal[0]) + weight[2])
        track.judged_s = t
        return None, track.logits[-1], None if dt is None else float(surprise[0]) / numbers["surprise_unit"]

    def conclusion(self) -> dict[str, Any]:
        """The most suspicious face over all that was seen of it. `p` is null where no face was seen for long enough."""
        rule, numbers = self._profile["conclusion"], self._profile["calibration"]
        enough = {
            number: sum(track.logits) / len(track.logits)
            for number, track in self._tracks.items()
            if len(track.logits) >= rule["min_moments"] and track.last_s - track.first_s >= rule["min_track_s"]
        }
        worst = max(enough, key=lambda number: enough[number], default=None)
        p = None if worst is None else probability(enough[worst])
        threshold = probability(numbers["thresholds"]["track"])
        return {
            "track": worst,
            "p": p,
            "threshold": threshold,
            "above": None if p is None else p >= threshold,
            "judged": sum(len(track.logits) for track in self._tracks.values()),
            "faces": len(self._tracks),
        }


def probability(logit: float) -> float:
    """The logistic function, without overflow."""
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def pictures(video: str, hz: Fraction | None) -> Iterator[tuple[Image, int, Fraction]]:
    """The first picture at or after each k / hz of media time (None: all), with its own timestamp; damaged ones are left out."""
    with av.open(video) as container:
        if not container.streams.video:
            raise SystemExit(f"{video} has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # slice threads hide damage
        base, last, slot = Fraction(stream.time_base or 0), None, None
        # Millisecond clocks round: what one rounded down by half a tick is not before its point.
        rounded = base / 2 if base <= Fraction(1, 1000) else 0
        for frame in container.decode(stream):
            if frame.pts is None or frame.is_corrupt or (last is not None and frame.pts <= last):
                continue
            last = frame.pts
            if hz is not None:
                place = math.floor((frame.pts * base + rounded) * hz)
                if slot is not None and place <= slot:
                    continue
                slot = place
            image, turn = frame.to_ndarray(format="rgb24"), TURNS.get(round(frame.rotation / 90) % 4)
            yield np.asarray(image if turn is None else cv2.rotate(image, turn), np.uint8), frame.pts, base


def main() -> None:
    """Print what is seen at each look, then a conclusion; one JSON object a line with --json."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("video", help="a file, or a URL that PyAV opens")
    parser.add_argument("--hz", type=rate, default="12", metavar="N|all", help="looks for each second of media (12)")
    parser.add_argument("--json", action="store_true", help="one JSON object a look, then one for the conclusion")
    asked = parser.parse_args()
    judge = Judge(Bundle(Path(__file__).parent))
    try:
        for image, pts, base in pictures(asked.video, asked.hz):
            look = judge.look(image, pts, base)
            print(json.dumps(asdict(look)) if asked.json else line(look), flush=True)
    except (av.error.FFmpegError, OSError) as error:
        raise SystemExit(f"{asked.video} cannot be read: {error}") from None
    end = judge.conclusion()
    print(json.dumps({"conclusion": end}) if asked.json else sentence(end))


def rate(text: str) -> Fraction | None:
    """`--hz`, exact."""
    if text != "all" and not 0 < float(text) <= 1000:
        raise ValueError(text)
    return None if text == "all" else Fraction(float(text)).limit_denominator(1_000_000)


def line(look: Look) -> str:
    """One look for people."""
    if look.p is None:
        return f"{look.t:9.3f} s  -      {look.reason}"
    since = "first look" if look.dt is None else f"after {look.dt:.3f} s, surprise {look.surprise:.2f}"
    return f"{look.t:9.3f} s  p {look.p:.3f}  face {look.track}, {since}"


def sentence(end: dict[str, Any]) -> str:
    """The conclusion for people. There is no word for "authentic"."""
    if end["p"] is None:
        return f"No face was seen for long enough to be judged ({end['judged']} looks at {end['faces']} faces)."
    side = "at or above" if end["above"] else "below"
    return f"Face {end['track']}: p {end['p']:.3f}, {side} the threshold of {end['threshold']:.3f}; {end['judged']} looks judged."


if __name__ == "__main__":
    main()
