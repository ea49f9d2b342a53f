"""The evidence page: AnalysisResult, Timeline and crops in, one self-contained HTML page out. Used by `--report` and REST.

The one place that turns evidence crops into files.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from pipelines.media import Image
from pipelines.verdict import REASON_WORDS, AnalysisReport
from service import __version__
from service.pack_wire import Decision
from service.schemas import AnalysisResult, Timeline

JPEG_QUALITY = 92
VERDICT_WORDS = {
    "manipulated": "Manipulated",
    "no_evidence": "No evidence of manipulation",
    "inconclusive": "Inconclusive",
    "not_applicable": "Nothing to judge",
}


@dataclass(frozen=True, slots=True)
class CropImages:
    """One evidence crop as files."""

    jpeg: bytes
    """The pixels that the encoder saw."""
    boundary_png: bytes
    """Translucent heat of the same size: where the encoder saw a seam."""


def crop_images(report: AnalysisReport) -> dict[tuple[int, int], CropImages]:
    """Every evidence crop of a report by (track id, k)."""
    return {
        (track.id, k): CropImages(_jpeg(crop.image), _heat_png(crop.boundary, crop.image.shape[0]))
        for track in report.verdict.tracks
        for k, crop in enumerate(track.crops)
    }


def html_report(
    result: AnalysisResult,
    timeline: Timeline,
    crops: Mapping[tuple[int, int], CropImages],
    title: str,
    *,
    decisions: Sequence[Decision] = (),
) -> str:
    """One page with everything inside it: no script, no network. Whoever chose `title` or wrote a note: it is escaped."""
    from service.plot import timeline_png  # as in evidence.py

    return _template().render(
        title=title,
        result=result,
        word=VERDICT_WORDS[result.verdict],
        reasons=REASON_WORDS,
        plot=_data_uri("image/png", timeline_png(result, timeline)),
        crops={key: (_data_uri("image/jpeg", one.jpeg), _data_uri("image/png", one.boundary_png)) for key, one in crops.items()},
        decisions=decisions,
        version=__version__,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("service"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: "not judged" if value is None else f"{value:.0%}"
    return environment.get_template("report.html.j2")


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _heat_png(boundary: Image, size: int) -> bytes:
    """Yellow to red with growing certainty, clear where there is nothing."""
    strength = cv2.resize(boundary, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32).clip(0, 255)
    bgra = np.zeros((size, size, 4), dtype=np.uint8)
    bgra[..., 1] = (200 - 0.7 * strength).astype(np.uint8)
    bgra[..., 2] = 255
    bgra[..., 3] = (0.85 * np.clip(strength - 40, 0, None)).astype(np.uint8)
    return cv2.imencode(".png", bgra)[1].tobytes()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
