"""Bookmarks: what an Analysis learnt since its last one in, bytes out; all of them, read back in order, are that Analysis again.

Written and read by `Analysis`; whoever runs it keeps the bytes. Numbers and arrays only (safetensors around JSON): reading one runs
nothing. Each holds what is new alone, so that keeping a long analysis costs what was judged since, not all of it each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from pipelines.cropper import CropperState
from pipelines.errors import BookmarkUnusable
from pipelines.judgement import Moment, Sighting, TrackRecord
from pipelines.verdict import EvidenceCrop, ModelInfo, ReasonCode, Score, StageTime

FORMAT: Final = 1
PAGE: Final = "page"
"""The array that holds the JSON."""
Arrays = dict[str, NDArray[np.generic]]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class CropPage(_Wire):
    """An evidence crop; its pictures are arrays."""

    pts: int
    p: float | None


class RecordPage(_Wire):
    """One track that was seen since the last bookmark: its new moments, and everything else as it is now."""

    id: int
    first_pts: int
    last_pts: int
    observations: int
    moments: tuple[Moment, ...]
    refused: dict[ReasonCode, int]
    crops: tuple[CropPage, ...]


class MemoryPage(_Wire):
    """What one track's memory knows beside its arrays."""

    track: int
    artefact: float | None
    last_pts: int | None
    names: tuple[str, ...]


class Page(_Wire):
    """The JSON of one bookmark."""

    format: Literal[1]
    number: int
    """0, 1, 2...: each goes on from the one before."""
    weights_sha256: str
    crop_version: int
    time_base: Fraction | None
    faces: int
    scores: tuple[Score, ...]
    sightings: tuple[Sighting, ...]
    records: tuple[RecordPage, ...]
    memories: tuple[MemoryPage, ...]
    cropper: CropperState
    stages: tuple[StageTime, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """One track's memory, as its seat gave it."""

    artefact: float | None
    last_pts: int | None
    arrays: Arrays


@dataclass(slots=True)
class Told:
    """Everything that an Analysis knows between two frames."""

    time_base: Fraction | None = None
    faces: int = 0
    scores: list[Score] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    records: dict[int, TrackRecord] = field(default_factory=dict)
    memories: dict[int, Held] = field(default_factory=dict)
    cropper: CropperState | None = None
    stages: tuple[StageTime, ...] = ()


class Scribe:
    """Remembers what one Analysis has written down already."""

    def __init__(self) -> None:
        self.number = 0
        self._scores = self._sightings = 0
        self._known: dict[int, tuple[int, int]] = {}
        """Observations and moments of each track."""

    def write(self, told: Told, model: ModelInfo) -> bytes:
        """The next bookmark."""
        assert told.cropper is not None
        arrays: Arrays = {}
        records = tuple(
            _record_page(record, self._known.get(record.id, (0, 0))[1], arrays)
            for record in told.records.values()
            if self._known.get(record.id, (0, 0))[0] != record.observations
        )
        for track, held in told.memories.items():
            arrays.update({f"memory/{track}/{name}": array for name, array in held.arrays.items()})
        page = Page(
            format=FORMAT,
            number=self.number,
            weights_sha256=model.weights_sha256,
            crop_version=model.crop_version,
            time_base=told.time_base,
            faces=told.faces,
            scores=tuple(told.scores[self._scores :]),
            sightings=tuple(told.sightings[self._sightings :]),
            records=records,
            memories=tuple(
                MemoryPage(track=track, artefact=held.artefact, last_pts=held.last_pts, names=tuple(held.arrays))
                for track, held in told.memories.items()
            ),
            cropper=told.cropper,
            stages=told.stages,
        )
        self.wrote(told)
        arrays[PAGE] = np.frombuffer(page.model_dump_json().encode(), dtype=np.uint8)
        return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    def wrote(self, told: Told, n: int = 1) -> None:
        """All of `told` is written down, in `n` more bookmarks."""
        self.number += n
        self._scores, self._sightings = len(told.scores), len(told.sightings)
        self._known = {record.id: (record.observations, len(record.moments)) for record in told.records.values()}


def read(bookmarks: Iterable[bytes], model: ModelInfo) -> Told:
    """What an Analysis knew when it wrote the last of these; they are all of its bookmarks, in order.

    Raises:
        BookmarkUnusable: one is damaged, missing, of another format, or of other weights or crops than `model`.
    """
    told = Told()
    for number, given in enumerate(bookmarks):
        arrays = _arrays(given)
        page = _page(arrays)
        _check("bookmark number", number, page.number)
        _check("weights", model.weights_sha256, page.weights_sha256)
        _check("crop version", model.crop_version, page.crop_version)
        told.time_base, told.faces, told.cropper, told.stages = page.time_base, page.faces, page.cropper, page.stages
        told.scores += page.scores
        told.sightings += page.sightings
        try:
            for record in page.records:
                _merge(told, record, page.time_base, arrays)
            told.memories = {
                one.track: Held(one.artefact, one.last_pts, {name: arrays[f"memory/{one.track}/{name}"] for name in one.names})
                for one in page.memories
            }
        except KeyError as error:
            raise BookmarkUnusable("A bookmark is incomplete.", expected=f"the array {error}", got="none") from error
    return told


def _record_page(record: TrackRecord, written: int, arrays: Arrays) -> RecordPage:
    for k, crop in enumerate(record.crops):
        arrays[f"crop/{record.id}/{k}"] = crop.image
        arrays[f"boundary/{record.id}/{k}"] = crop.boundary
    return RecordPage(
        id=record.id,
        first_pts=record.first_pts,
        last_pts=record.last_pts,
        observations=record.observations,
        moments=tuple(record.moments[written:]),
        refused=dict(record.refused),
        crops=tuple(CropPage(pts=crop.pts, p=crop.p) for crop in record.crops),
    )


def _merge(told: Told, page: RecordPage, time_base: Fraction | None, arrays: Arrays) -> None:
    before = told.records.get(page.id)
    base = time_base or Fraction(1)
    told.records[page.id] = TrackRecord(
        id=page.id,
        first_pts=page.first_pts,
        last_pts=page.last_pts,
        observations=page.observations,
        moments=[*(before.moments if before else ()), *page.moments],
        refused=Counter(page.refused),
        crops=[
            EvidenceCrop(crop.pts, base, crop.p, _picture(arrays[f"crop/{page.id}/{k}"]), _picture(arrays[f"boundary/{page.id}/{k}"]))
            for k, crop in enumerate(page.crops)
        ],
    )


def _picture(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise BookmarkUnusable("A bookmark's picture is none.", expected="uint8", got=str(array.dtype))
    return array.astype(np.uint8, copy=False)


def _arrays(given: bytes) -> Arrays:
    try:
        return dict(safetensors.numpy.load(given))
    except (SafetensorError, KeyError) as error:  # KeyError: a type of number that numpy does not know
        raise BookmarkUnusable("A bookmark is damaged.", expected="a safetensors file", got=str(error)) from error


def _page(arrays: Arrays) -> Page:
    try:
        return Page.model_validate_json(arrays.pop(PAGE).tobytes())
    except KeyError as error:
        raise BookmarkUnusable("A bookmark is incomplete.", expected=f"the array {PAGE!r}", got=_listed(arrays)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BookmarkUnusable(
            "A bookmark cannot be read.", expected=f"format {FORMAT}", got=f"{where}: {first['msg']}, {str(first['input'])[:80]}"
        ) from error


def _check(what: str, expected: object, got: object) -> None:
    if got != expected:
        raise BookmarkUnusable(f"A bookmark has another {what}.", expected=str(expected), got=str(got))


def _listed(names: Sequence[str] | Arrays) -> str:
    return ", ".join(names) or "none"
