"""The evidence pack: a result with all that it rests on comes in, the files of a pack and their signed manifest go out.

The same evidence gives the same files, byte for byte; only `manifest.json`, which says when it was signed, and `manifest.sig` differ. Made
for `packs.py` (REST) and `undercurrent detect --pack`; `pack_check.py` holds a pack against all that is said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from service import __version__
from service.canonical import canonical
from service.pack_signing import Signer
from service.pack_wire import (
    FORMAT,
    MANIFEST,
    SIGNATURE,
    AnalysisFacts,
    Config,
    Decision,
    Manifest,
    MediaRecord,
    PackFile,
    SignedBy,
    crop_name,
)
from service.report import CropImages, html_report
from service.schemas import AnalysisResult, Timeline

MEDIA_TYPE: Final = "application/zip"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a result rests on."""

    result: AnalysisResult
    timeline: Timeline
    crops: Mapping[tuple[int, int], CropImages]
    config: Config
    media: MediaRecord
    decisions: Sequence[Decision] = ()
    analysis: AnalysisFacts | None = None


def pack_files(evidence: Evidence) -> dict[str, bytes]:
    """Every file but the media and the manifest, in the order of their names."""
    title = evidence.media.filename or (evidence.analysis.id if evidence.analysis else evidence.media.sha256)
    page = html_report(evidence.result, evidence.timeline, evidence.crops, title, decisions=evidence.decisions)
    files = {
        "config.json": canonical(evidence.config.model_dump(mode="json")),
        "decisions.json": canonical([one.model_dump(mode="json") for one in evidence.decisions]),
        "index.html": page.encode(),
        "media.json": canonical(evidence.media.model_dump(mode="json")),
        "result.json": canonical(evidence.result.model_dump(mode="json")),
        "timeline.json": canonical(evidence.timeline.model_dump(mode="json")),
    }
    for (track, k), images in evidence.crops.items():
        files |= {crop_name(track, k, "jpg"): images.jpeg, crop_name(track, k, "png"): images.boundary_png}
    return dict(sorted(files.items()))


def listed(files: Mapping[str, bytes]) -> list[PackFile]:
    """Names, sizes and hashes of files at hand."""
    return [PackFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()) for name, content in files.items()]


def signed(evidence: Evidence, files: Sequence[PackFile], signer: Signer, at: datetime) -> dict[str, bytes]:
    """The two files that a pack begins with: the manifest of `files`, and its signature."""
    manifest = Manifest(
        format=FORMAT,
        format_version=1,
        version=__version__,
        analysis=evidence.analysis,
        media_sha256=evidence.media.sha256,
        signed_at=at.astimezone(UTC).replace(microsecond=0),
        key=SignedBy(id=signer.public.id, public_key=signer.public.pem),
        files=sorted(files, key=lambda one: one.name),
    )
    content = canonical(manifest.model_dump(mode="json"))
    return {MANIFEST: content, SIGNATURE: signer.sign(content)}
