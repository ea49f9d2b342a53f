"""What judging costs beside what most open pipelines do: a real 720p30 clip in, CPU-ms of a second of media out, all in one run.

The plain pipeline is facenet-pytorch's own recipe at every frame: MTCNN over the whole picture, InceptionResnetV1 on each face (its weights
are random here, which costs the same), and a CfC of ncps over the embeddings. Ours is `analyse` as shipped, 12 looks a second; once more
with OpenCV's reader in place of ours.
"""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import islice
from typing import Any, Final

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from ncps.torch import CfC

from pipelines.analysis import Analysis, analyse, load_model
from pipelines.frames import read_frames
from pipelines.media import Frame
from pipelines.model import Model
from pipelines.sampling import Sampler
from tests.benchmarks.bench_walk import REAL_CLIP

FRAMES: Final = 60
"""Of the plain pipeline, which takes a quarter of a second for each."""
RUNS: Final = 3
MICROSECOND: Final = Fraction(1, 1_000_000)


def run() -> list[dict[str, Any]]:
    """One row a pipeline; the best of three runs, one after the other in turn."""
    if not REAL_CLIP.is_file():
        return []
    model, plain = load_model(), _Plain()
    analyse(REAL_CLIP, model, hz=12)  # warms up
    runs = [(_ours(model), _with_opencv(model), plain.cpu_ms(), _decoding()) for _ in range(RUNS)]
    ours, opencv, theirs, decoding = (min(times) for times in zip(*runs, strict=True))
    return [
        {"pipeline": "decoding alone", "cpu_ms_per_media_s": round(decoding, 1)},
        {"pipeline": "ours, 12 looks a second", "cpu_ms_per_media_s": round(ours, 1), "over_decoding": round(ours / decoding, 1)},
        {
            "pipeline": "ours, with OpenCV's reader",
            "cpu_ms_per_media_s": round(opencv, 1),
            "over_decoding": round(opencv / decoding, 1),
            "over_ours": round(opencv / ours, 1),
        },
        {
            "pipeline": "MTCNN, InceptionResnetV1 and ncps CfC at every frame",
            "cpu_ms_per_media_s": round(theirs, 1),
            "over_decoding": round(theirs / decoding, 1),
            "over_ours": round(theirs / ours, 1),
        },
    ]


def _ours(model: Model) -> float:
    report = analyse(REAL_CLIP, model, hz=12)
    return 1000 * sum(stage.cpu_s for stage in report.stages) / report.verdict.coverage.duration_s


def _with_opencv(model: Model) -> float:
    """`Analysis` over what cv2.VideoCapture decodes on one thread, as ours does; only what is wanted is converted."""
    capture = cv2.VideoCapture(str(REAL_CLIP), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    sampler, analysis = Sampler(12), Analysis(model)
    before, pts = time.process_time(), 0
    while capture.grab():
        pts = round(1000 * capture.get(cv2.CAP_PROP_POS_MSEC))
        if sampler.wants(pts, MICROSECOND):
            _, picture = capture.retrieve()
            analysis.push(Frame(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8), pts, MICROSECOND))
    analysis.finish()
    return 1000 * (time.process_time() - before) / float(pts * MICROSECOND)


def _decoding() -> float:
    with read_frames(REAL_CLIP, hz=0.01) as source:
        before = time.process_time()
        for _frame in source:
            pass
        assert source.media.declared_duration_s is not None, "the clip says how long it is"
        return 1000 * (time.process_time() - before) / source.media.declared_duration_s


class _Plain:
    """facenet-pytorch's recipe, one frame at a time."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._find = MTCNN(image_size=160, keep_all=True, device="cpu")
        self._embed = InceptionResnetV1(pretrained=None).eval()
        self._follow = CfC(512, 32)

    @torch.inference_mode()
    def cpu_ms(self) -> float:
        """CPU-ms of one second of media, decoding included."""
        state, before, seen = None, time.process_time(), []
        with read_frames(REAL_CLIP, hz=None) as source:
            for frame in islice(source, FRAMES):
                seen.append(frame.t)
                boxes, _ = self._find.detect(frame.image)
                if boxes is not None:
                    embedding = self._embed(self._find.extract(frame.image, boxes, None))
                    _, state = self._follow(embedding[:1].unsqueeze(1), state)
        return 1000 * (time.process_time() - before) / (seen[-1] - seen[0])
