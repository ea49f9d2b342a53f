"""Files: an analysis's media and evidence come in, paths and bytes go out. Written by `uploads.py` and `judging.py`, read by the routers.

<root>/<analysis id>/media                         the bytes as they came, under a name that says nothing (FFmpeg trusts extensions)
<root>/<analysis id>/bookmarks/<key>               where the analysis was at the end of a segment, until it has ended
<root>/<analysis id>/evidence/result.json          AnalysisResult
<root>/<analysis id>/evidence/timeline.json        Timeline
<root>/<analysis id>/evidence/<track>-<k>.jpg      evidence crop, and <track>-<k>.png its boundary map
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from service.report import CropImages
from service.schemas import AnalysisResult, Timeline

Layer = Literal["face", "boundary"]


class Storage:
    """One directory for each analysis, under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def free_bytes(self) -> int:
        """What the disk still takes."""
        return shutil.disk_usage(self._root).free

    def create(self, analysis_id: str) -> Path:
        """Make the directory of a new analysis; returns where its media belongs."""
        (self._root / analysis_id).mkdir(mode=0o700)
        return self.media(analysis_id)

    def remove(self, analysis_id: str) -> None:
        """Remove everything of one analysis; nothing happens when it is gone already."""
        directory = self._root / analysis_id
        if directory.is_dir():
            # Whoever still works on it may write between the look and the removal.
            shutil.rmtree(directory, ignore_errors=True)

    def remove_orphans(self, known: Iterable[str], *, older_than_s: float) -> list[str]:
        """Remove every directory that no row knows and nobody has written to for so long (a process died between an upload's first byte and
        its row)."""
        names, before = set(known), time.time() - older_than_s
        orphans = [path for path in self._root.iterdir() if path.is_dir() and path.name not in names and path.stat().st_mtime <= before]
        for path in orphans:
            self.remove(path.name)
        return sorted(path.name for path in orphans)

    def media(self, analysis_id: str) -> Path:
        """Where the uploaded bytes lie."""
        return self._root / analysis_id / "media"

    def result(self, analysis_id: str) -> Path:
        """The result as JSON; there once the row says `succeeded`."""
        return self._evidence(analysis_id) / "result.json"

    def timeline(self, analysis_id: str) -> Path:
        """The timeline as JSON; there once the row says `succeeded`."""
        return self._evidence(analysis_id) / "timeline.json"

    def crop(self, analysis_id: str, track: int, k: int, layer: Layer) -> Path:
        """One evidence picture: JPEG of the face, PNG of its boundary map."""
        return self._evidence(analysis_id) / f"{track}-{k}.{'jpg' if layer == 'face' else 'png'}"

    def read_crops(self, analysis_id: str, result: AnalysisResult) -> dict[tuple[int, int], CropImages]:
        """Every evidence picture of a result, by (track, k)."""
        keys = [(track.id, crop.k) for track in result.tracks for crop in track.crops]
        return {
            key: CropImages(
                jpeg=self.crop(analysis_id, *key, "face").read_bytes(),
                boundary_png=self.crop(analysis_id, *key, "boundary").read_bytes(),
            )
            for key in keys
        }

    def write_evidence(
        self, analysis_id: str, result: AnalysisResult, timeline: Timeline, crops: Mapping[tuple[int, int], CropImages], *, by: str
    ) -> None:
        """Write all evidence of one analysis, whole or not at all; `by` is the replica that does, for others may try too."""
        final = self._evidence(analysis_id)
        part = final.with_name(f"evidence.{by}.part")
        for leftover in (part, final):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(mode=0o700)
        (part / "result.json").write_text(result.model_dump_json(), encoding="utf-8")
        (part / "timeline.json").write_text(timeline.model_dump_json(), encoding="utf-8")
        for (track, k), images in crops.items():
            (part / f"{track}-{k}.jpg").write_bytes(images.jpeg)
            (part / f"{track}-{k}.png").write_bytes(images.boundary_png)
        part.rename(final)

    def write_bookmark(self, analysis_id: str, data: bytes) -> str:
        """Keep a bookmark, whole or not at all; returns the key by which it is read."""
        directory = self._bookmarks(analysis_id)
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / secrets.token_hex(8)
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.rename(path)
        return path.name

    def read_bookmark(self, analysis_id: str, key: str) -> bytes:
        """What was kept under `key`; raises OSError when it is gone."""
        return (self._bookmarks(analysis_id) / key).read_bytes()

    def remove_bookmarks(self, analysis_id: str) -> None:
        """Remove them all: it has ended."""
        shutil.rmtree(self._bookmarks(analysis_id), ignore_errors=True)

    def _bookmarks(self, analysis_id: str) -> Path:
        return self._root / analysis_id / "bookmarks"

    def _evidence(self, analysis_id: str) -> Path:
        return self._root / analysis_id / "evidence"
