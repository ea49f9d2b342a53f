"""An evidence clip: pictures of an album come in, an mp4 that shows each at its time goes out. Asked by `alert_notes.py`, in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from pipelines.training.video_writer import VideoWriter, quality_options
from service.feed_album import Picture

CRF: Final = 23


def clip_of(pictures: Sequence[Picture]) -> bytes:
    """The clip begins with the first of them, at 0; distances are those of their PTS, in the ticks of the camera.

    Args:
        pictures: at least one, in order, of one time base. All get the size of the first.
    """
    first = pictures[0]
    ticks = [picture.pts - first.pts for picture in pictures]
    lasts = {tick: after - tick for tick, after in pairwise(ticks)}
    lasts[ticks[-1]] = lasts.get(ticks[-2], 1) if len(ticks) > 1 else 1
    height, width = (side // 2 * 2 for side in first.image.shape[:2])
    out = BytesIO()
    # No B-frames: with them the first stamp is not 0, and a player must honour an edit list.
    options = quality_options("libx264", CRF) | {"bf": "0"}
    with VideoWriter(out, "libx264", options, container="mp4", tick=first.time_base, lasts=lasts) as writer:
        for picture, tick in zip(pictures, ticks, strict=True):
            image = picture.image
            if image.shape[:2] != (height, width):
                image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
            writer.write(image, tick)
    return out.getvalue()
