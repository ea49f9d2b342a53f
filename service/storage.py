"""Files: an analysis's media and evidence come in, files and bytes go out. Written by `intake.py`, `judging.py` and `renditions.py`.

analyses/<id>/media                         the bytes as they came, under a name that says nothing (FFmpeg trusts extensions)
analyses/<id>/bookmarks/<key>               where its analysis was at the end of a segment, until it has ended
analyses/<id>/evidence/timeline.json        Timeline
analyses/<id>/evidence/columns-1.safetensors the same for whoever wants a part of it (`timeline_columns.py`)
analyses/<id>/evidence/<track>-<k>.jpg      evidence crop, and <track>-<k>.png its boundary map
analyses/<id>/evidence/config.json           Config, what it was judged with
analyses/<id>/evidence/result.json          AnalysisResult, written last
analyses/<id>/rendition/<sha256>.mp4        the same pictures at the same times for browsers (`renditions.py`), made when it is wanted
uploads/<tenant>/<id>/media                 what a client put into the bucket itself (`direct_uploads.py`); a digest of whose it is

All of it lies in the data directory, or in a bucket (`UNDERCURRENT_STORE_URL`), where several replicas share it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Literal, Self
from uuid import UUID

from service.ids import new_id
from service.objects import ObjectNotFound, Objects
from service.pack_wire import Config
from service.problems import DiskFull, StoreUnavailable, UnknownEvidence
from service.report import CropImages
from service.schemas import AnalysisResult, Timeline
from service.settings import Settings
from service.timeline_columns import columns_of

Layer = Literal["face", "boundary"]
ORPHAN_S: Final = 86_400.0
"""Somebody may be storing what has no row yet, for no longer than this."""
TIMELINE: Final = "timeline.json"
COLUMNS: Final = "columns-1.safetensors"
"""The number is the format's: a replica that knows another one makes its own from the JSON."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One that the store has."""

    sha256: str
    size_bytes: int


class Storage:
    """Media and evidence by analysis.

    Args:
        objects: what keeps them.
        scratch: a directory of this process alone, for copies of media while they are looked at; emptied here.
        min_free_bytes: what is to be left of the disk that it is on.
    """

    def __init__(self, objects: Objects, scratch: Path, *, min_free_bytes: int = 0) -> None:
        self._objects = objects
        self._min_free_bytes = min_free_bytes
        self._scratch = scratch
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The storage that the settings name; a store that cannot be reached now is no error.

        Raises:
            BadStoreUrl: there can be no such store.
        """
        url, alone = settings.store_url, settings.database_url is None
        if url is None:
            (settings.data_dir / "analyses").mkdir(parents=True, exist_ok=True, mode=0o700)
            objects = Objects.in_directory(settings.data_dir, shared=not alone)
        else:
            objects = Objects.at_url(url, public_endpoint=settings.store_public_url)
        scratch = settings.data_dir / ("scratch" if alone else f"scratch-{settings.replica}")
        return cls(objects, scratch, min_free_bytes=settings.min_free_bytes)

    @property
    def free_bytes(self) -> int:
        """What the disk of this machine still takes."""
        return shutil.disk_usage(self._scratch).free

    def make_sure_of_room(self, more: int) -> None:
        """Refuse bytes that would fill the disk.

        Raises:
            DiskFull: `more` bytes would.
        """
        if (free := self.free_bytes) < self._min_free_bytes + more:
            raise DiskFull(
                "The disk is nearly full; delete analyses or give the service more room.",
                expected=f"{self._min_free_bytes:,} bytes left free after {more:,} more",
                got=f"{free:,} bytes free",
            )

    def check(self) -> None:
        """Make sure that media and evidence can be reached.

        Raises:
            StoreUnavailable: they cannot.
        """
        self._objects.check()

    def remove(self, analysis_id: str) -> None:
        """Remove everything of one analysis; nothing happens when it is gone already.

        Raises:
            StoreUnavailable: some of it may be there still.
        """
        self._objects.remove_group(f"analyses/{analysis_id}")

    def kept(self) -> list[str]:
        """The analyses of which there is anything.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        return self._objects.groups("analyses")

    def remove_orphans(self, kept: Iterable[str], known: Iterable[str], *, only_old: bool = False, at_s: float | None = None) -> list[str]:
        """Remove whatever no row knows (a process died between an upload's first byte and its row), and uploads that nobody claimed.

        Args:
            kept: what there was before the rows were read: what came meanwhile may have a row by now.
            known: what has a row.
            only_old: this process may be storing what has no row yet; as others may always, where they share the store.
            at_s: seconds since the epoch by which it is told what is old; None: now.

        Returns what is gone.

        Raises:
            StoreUnavailable: the store is away.
        """
        at_s = time.time() if at_s is None else at_s
        unknown = sorted(set(kept) - set(known))
        orphans = [f"analyses/{name}" for name in unknown if (self._objects.is_own and not only_old) or _is_old(name, at_s)]
        orphans += [f"uploads/{name}" for name in self._uploads() if _is_old(name.rpartition("/")[2], at_s)]
        removed = []
        for name in orphans:
            try:
                self._objects.remove_group(name)
            except StoreUnavailable:
                self.check()  # one that cannot be removed, which is logged, keeps no other; a store that is away does
            else:
                removed.append(name)
        return removed

    def _uploads(self) -> list[str]:
        tenants = self._objects.groups("uploads")
        # Until tenants had places of their own, uploads lay where those are now.
        return tenants + [f"{tenant}/{name}" for tenant in tenants for name in self._objects.groups(f"uploads/{tenant}")]

    # -- media ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def receive(self, analysis_id: str, chunks: AsyncIterable[bytes]) -> AsyncIterator[Path]:
        """Keep new media, whole or not at all; gives a file with the same bytes to look at inside the context.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        name = _media(analysis_id)
        if (file := self._objects.file(name)) is not None:
            await self._objects.write(name, chunks)
            yield file
            return
        with self.scratch_file() as (path, copy):
            await self._objects.write(name, _copied(chunks, copy))
            yield path

    @contextmanager
    def media_file(self, analysis_id: str) -> Iterator[Path]:
        """The media as a file of this machine, inside the context, for a thread.

        Raises:
            UnknownEvidence, StoreUnavailable, DiskFull: there is no such media, or it cannot be brought here now.
        """
        name = _media(analysis_id)
        if (file := self._objects.file(name)) is not None:
            with _lost(analysis_id):
                if not file.is_file():
                    raise ObjectNotFound("There is no such file.", expected="a file that was kept", got=name)
            yield file
            return
        with self.scratch_file() as (path, copy):
            with _lost(analysis_id):
                for piece in self._objects.fetch(name):
                    self.make_sure_of_room(len(piece))
                    _append(copy, piece)
            yield path

    async def read_media(self, analysis_id: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The media's bytes from `start` up to and not with `end`.

        Raises:
            UnknownEvidence, StoreUnavailable: there is no such media, or it cannot be had now.
        """
        with _lost(analysis_id):
            async for piece in self._objects.read_range(_media(analysis_id), start, end):
                yield piece

    @contextmanager
    def scratch_file(self) -> Iterator[tuple[Path, FileIO]]:
        """An empty file of this process, gone after the context."""
        path = self._scratch / new_id()
        try:
            with FileIO(path, "xb+") as file:
                yield path, file
        finally:
            path.unlink(missing_ok=True)

    # -- renditions --------------------------------------------------------------------------------------------

    def put_at(self, file: FileIO, at: int, piece: bytes) -> None:
        """Write a piece of a scratch file.

        Raises:
            DiskFull: there is no room for it.
        """
        self.make_sure_of_room(len(piece))
        file.seek(at)
        _append(file, piece)

    def rendition(self, analysis_id: str) -> Rendition | None:
        """The rendition of an analysis' media; None if there is none yet.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        # Two replicas may have made one each; which of them is told must not change.
        for name, size in sorted(self._objects.names(f"analyses/{analysis_id}/rendition").items()):
            if name.endswith(".mp4"):
                return Rendition(name.rpartition("/")[2].removesuffix(".mp4"), size)
        return None

    def write_rendition(self, analysis_id: str, file: Path, rendition: Rendition) -> None:
        """Keep one, whole or not at all.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        self.make_sure_of_room(rendition.size_bytes)
        self._objects.put_file(_rendition(analysis_id, rendition.sha256), file)

    async def read_rendition(self, analysis_id: str, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Its bytes from `start` up to and not with `end`.

        Raises:
            UnknownEvidence, StoreUnavailable: it is gone, or cannot be had now.
        """
        with _lost(analysis_id):
            async for piece in self._objects.read_range(_rendition(analysis_id, sha256), start, end):
                yield piece

    # -- media that a client put there itself -----------------------------------------------------------------

    def presigned_put(self, tenant: str, upload_id: str, seconds: float) -> str | None:
        """A URL that takes the bytes of an upload for that long; None where media is kept in a directory.

        Raises:
            StoreUnavailable: the store cannot be asked now.
        """
        return self._objects.presigned_put(_upload(tenant, upload_id), seconds)

    def upload_size(self, tenant: str, upload_id: str) -> int | None:
        """The bytes that came; None if none did, they are another tenant's, or were claimed or thrown away.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        name = _upload(tenant, upload_id)
        return self._objects.names(name.rpartition("/")[0]).get(name)

    async def claim_upload(self, tenant: str, upload_id: str, analysis_id: str) -> None:
        """Make the media of an upload that of an analysis, so that whoever still has the URL cannot change it.

        Raises:
            ObjectNotFound, StoreUnavailable: there is none, or not now.
        """
        await self._objects.copy(_upload(tenant, upload_id), _media(analysis_id))

    def remove_upload(self, tenant: str, upload_id: str) -> None:
        """Remove an upload; nothing happens when it is gone already.

        Raises:
            StoreUnavailable: it may be there still.
        """
        self._objects.remove_group(_upload(tenant, upload_id).rpartition("/")[0])

    # -- bookmarks ---------------------------------------------------------------------------------------------

    def write_bookmark(self, analysis_id: str, content: bytes) -> str:
        """Keep a bookmark, whole or not at all; returns the key by which it is read, its own for each.

        Raises:
            StoreUnavailable, DiskFull: it cannot be kept.
        """
        key = new_id()
        self._objects.put(_bookmark(analysis_id, key), content)
        return key

    def read_bookmark(self, analysis_id: str, key: str) -> bytes:
        """What was kept under `key`.

        Raises:
            UnknownEvidence, StoreUnavailable: it is gone, or cannot be had now.
        """
        with _lost(analysis_id):
            return b"".join(self._objects.fetch(_bookmark(analysis_id, key)))

    def remove_bookmarks(self, analysis_id: str) -> None:
        """Remove them all: it has ended.

        Raises:
            StoreUnavailable: some may be there still.
        """
        self._objects.remove(*self._objects.names(f"analyses/{analysis_id}/bookmarks"))

    # -- evidence ---------------------------------------------------------------------------------------------

    async def read_result(self, analysis_id: str) -> AnalysisResult:
        """The result; there once the row says `succeeded`.

        Raises:
            UnknownEvidence, StoreUnavailable: it is gone, or cannot be had now.
        """
        with _lost(analysis_id):
            return AnalysisResult.model_validate_json(await self._objects.read(_evidence(analysis_id, "result.json")))

    async def read_timeline(self, analysis_id: str) -> bytes:
        """The timeline as JSON; there once the row says `succeeded`.

        Raises:
            UnknownEvidence, StoreUnavailable: it is gone, or cannot be had now.
        """
        with _lost(analysis_id):
            return await self._objects.read(_evidence(analysis_id, TIMELINE))

    async def read_columns(self, analysis_id: str) -> bytes | None:
        """The timeline as `columns_of` gave it; None where nobody has written that.

        Raises:
            StoreUnavailable: it cannot be had now.
        """
        try:
            return await self._objects.read(_evidence(analysis_id, COLUMNS))
        except ObjectNotFound:
            return None

    def write_columns(self, analysis_id: str, content: bytes) -> None:
        """Keep the columns of a timeline that was written without; nothing happens when the timeline is gone.

        Raises:
            StoreUnavailable, DiskFull: they cannot be kept.
        """
        self.make_sure_of_room(len(content))
        self._objects.put(_evidence(analysis_id, COLUMNS), content)
        # It may have been deleted meanwhile.
        if _evidence(analysis_id, TIMELINE) not in self._objects.names(f"analyses/{analysis_id}/evidence"):
            self._objects.remove(_evidence(analysis_id, COLUMNS))

    async def read_config(self, analysis_id: str) -> Config:
        """What it was judged with.

        Raises:
            UnknownEvidence, StoreUnavailable: it is gone, or cannot be had now.
        """
        with _lost(analysis_id):
            return Config.model_validate_json(await self._objects.read(_evidence(analysis_id, "config.json")))

    async def read_crop(self, analysis_id: str, track: int, k: int, layer: Layer) -> bytes:
        """One evidence picture: JPEG of the face, PNG of its boundary map.

        Raises:
            UnknownEvidence, StoreUnavailable: there is none, or it cannot be had now.
        """
        try:
            return await self._objects.read(_evidence(analysis_id, _crop(track, k, layer)))
        except ObjectNotFound as error:
            raise UnknownEvidence(
                f"The track {track} has no crop {k}.", expected="a track and a k of the result's `tracks[].crops`", got=f"{track}, {k}"
            ) from error

    async def read_crops(self, analysis_id: str, result: AnalysisResult) -> dict[tuple[int, int], CropImages]:
        """Every evidence picture of a result, by (track, k).

        Raises:
            UnknownEvidence, StoreUnavailable: some are gone, or cannot be had now.
        """

        async def both(track: int, k: int) -> CropImages:
            face, boundary = [await self.read_crop(analysis_id, track, k, layer) for layer in ("face", "boundary")]
            return CropImages(jpeg=face, boundary_png=boundary)

        keys = [(track.id, crop.k) for track in result.tracks for crop in track.crops]
        return dict(zip(keys, await asyncio.gather(*(both(*key) for key in keys)), strict=True))

    def write_evidence(
        self,
        analysis_id: str,
        result: AnalysisResult,
        timeline: Timeline,
        crops: Mapping[tuple[int, int], CropImages],
        config: Config,
    ) -> None:
        """Write all evidence of one analysis, the result last; of earlier evidence nothing stays.

        Raises:
            StoreUnavailable, DiskFull: it is not all there.
        """
        rows = timeline.model_dump_json().encode()
        files = {TIMELINE: rows, COLUMNS: columns_of(rows), "config.json": config.model_dump_json().encode()}
        for (track, k), images in crops.items():
            files |= {_crop(track, k, "face"): images.jpeg, _crop(track, k, "boundary"): images.boundary_png}
        files["result.json"] = result.model_dump_json().encode()
        earlier = self._objects.names(f"analyses/{analysis_id}/evidence")
        self._objects.put_all({_evidence(analysis_id, name): content for name, content in files.items()})
        self._objects.remove(*(earlier.keys() - {_evidence(analysis_id, name) for name in files}))


def _media(analysis_id: str) -> str:
    return f"analyses/{analysis_id}/media"


def _rendition(analysis_id: str, sha256: str) -> str:
    return f"analyses/{analysis_id}/rendition/{sha256}.mp4"


def _upload(tenant: str, upload_id: str) -> str:
    return f"uploads/{hashlib.sha256(tenant.encode()).hexdigest()[:16]}/{upload_id}/media"


def _bookmark(analysis_id: str, key: str) -> str:
    return f"analyses/{analysis_id}/bookmarks/{key}"


def _evidence(analysis_id: str, name: str) -> str:
    return f"analyses/{analysis_id}/evidence/{name}"


def _crop(track: int, k: int, layer: Layer) -> str:
    return f"{track}-{k}.{'jpg' if layer == 'face' else 'png'}"


def _is_old(name: str, at_s: float) -> bool:
    """Whether an analysis was begun long before `at_s`, by its id; what is no id of ours is nobody's to remove."""
    try:
        made = UUID(name)
    except ValueError:
        return False
    return made.version == 7 and (made.int >> 80) / 1000 < at_s - ORPHAN_S


async def _copied(chunks: AsyncIterable[bytes], copy: FileIO) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await asyncio.to_thread(_append, copy, chunk)
        yield chunk


def _append(file: FileIO, piece: bytes) -> None:
    try:
        left = memoryview(piece)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DiskFull("The disk is full; delete analyses or give the service more room.", expected="room", got="none") from error


@contextmanager
def _lost(analysis_id: str) -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as error:
        raise UnknownEvidence(
            f"The store no longer has this of {analysis_id}.", expected="media and evidence that nobody removed", got=error.got
        ) from error
