"""A first pass over an archive: a source in, the stamps of key pictures worth a closer look out. `analysis.py` then reads whole groups.

Decoding key pictures alone costs about an eighth of decoding all (research/streaming.md, section 3.3), and where two neighbouring ones show
no face there is seldom one between.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from models.face_detector import FaceDetector
from pipelines.errors import AnalysisCancelled
from pipelines.faces import find_faces
from pipelines.media import Frame, Limits, Reader
from pipelines.quality import MIN_JUDGED_PX
from pipelines.tracks import MIN_CONFIDENCE


def triage(
    source: str | os.PathLike[str],
    detector: FaceDetector,
    *,
    read: Reader,
    limits: Limits | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[frozenset[int], float]:
    """Stamps (as the source gave them) of the key pictures that show a face large enough to judge, and of those just before one that does.

    Beside them the CPU seconds that another process spent on reading.

    Raises:
        SourceError, DecodeError: the source cannot be read.
        AnalysisCancelled: `cancelled()` said so.
    """
    worth: set[int] = set()
    before: int | None = None
    with read(source, hz=None, limits=limits, closely=()) as frames:
        for frame in frames:
            if cancelled is not None and cancelled():
                raise AnalysisCancelled
            stamp = frame.pts - frame.shift
            if _shows_a_face(detector, frame):
                # Somebody may have come in at any moment since the key picture before.
                worth |= {stamp} if before is None else {before, stamp}
            before = stamp
        return frozenset(worth), frames.cpu_s


def _shows_a_face(detector: FaceDetector, frame: Frame) -> bool:
    return any(face.confidence >= MIN_CONFIDENCE and face.px >= MIN_JUDGED_PX for face in find_faces(detector, frame.image))
