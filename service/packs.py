"""A pack over HTTP: the row of a finished analysis comes in, its evidence pack goes out as a stream. Called by `evidence.py`."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Final

from fastapi.responses import StreamingResponse

from service.database import AnalysisRow, now
from service.evidence_pack import MEDIA_TYPE, Evidence, listed, pack_files, signed
from service.pack_container import Entry, ending, entry, header
from service.pack_wire import AnalysisFacts, Decision, MediaRecord, PackFile
from service.problems import MediaChanged
from service.rooms import ServiceRooms
from service.timeline_text import read_timeline

SUFFIXES: Final = {"video/webm": "webm", "video/x-matroska": "mkv", "video/mp4": "mp4", "video/mp2t": "ts", "video/x-msvideo": "avi"}


async def evidence_of(row: AnalysisRow, rooms: ServiceRooms, *, with_media: bool = False) -> Evidence:
    """All that the result of a finished analysis rests on.

    Raises:
        UnknownEvidence, StoreUnavailable: some of it is gone, or cannot be had now.
    """
    storage = rooms.storage
    result = await storage.read_result(row.id)
    suffix = SUFFIXES.get(row.media_type, "video")
    return Evidence(
        result=result,
        timeline=await asyncio.to_thread(read_timeline, await storage.read_timeline(row.id)),
        crops=await storage.read_crops(row.id, result),
        config=await storage.read_config(row.id),
        media=MediaRecord(
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            filename=row.filename,
            source_url=row.source_url,
            file=f"media/original.{suffix}" if with_media else None,
            facts=result.media,
        ),
        decisions=await decisions_of(row, rooms),
        analysis=AnalysisFacts(
            id=row.id, external_id=row.external_id, created_at=row.created_at, finished_at=row.finished_at or row.created_at
        ),
    )


async def decisions_of(row: AnalysisRow, rooms: ServiceRooms) -> list[Decision]:
    """What people decided about it, oldest first; none of it while a second reviewer is to decide without knowing the first."""
    item, reviews = await rooms.reviews.get(row)
    if item.stage == "second":
        return []
    return [
        Decision(at=review.at, reviewer=review.reviewer_name, decision=review.decision, note=review.note)
        for review in reviews
        if review.decision is not None
    ]


async def pack_response(row: AnalysisRow, rooms: ServiceRooms, *, with_media: bool) -> StreamingResponse:
    """The pack, as it is downloaded.

    Raises:
        UnknownEvidence, StoreUnavailable: some of it is gone, or cannot be had now.
        MediaChanged: the store's media is not what was judged.
        SigningKeyAway: it cannot be signed here.
    """
    evidence = await evidence_of(row, rooms, with_media=with_media)
    files = await asyncio.to_thread(pack_files, evidence)
    table, media = listed(files), None
    if evidence.media.file is not None:
        media = await _media_entry(row, rooms, evidence.media.file)
        table.append(PackFile(name=media.name, size=media.size, sha256=row.sha256))
    begins = signed(evidence, table, await rooms.signing.signer(), now())
    contents = {**begins, **files}
    entries = [entry(name, content) for name, content in begins.items()]
    entries += sorted([*(entry(name, content) for name, content in files.items()), *([media] if media else [])], key=lambda one: one.name)
    end = ending(entries)

    async def body() -> AsyncIterator[bytes]:
        for one in entries:
            yield header(one)
            if one.name in contents:
                yield contents[one.name]
            else:
                async for piece in rooms.storage.read_media(row.id, 0, row.size_bytes):
                    yield piece
        yield end

    length = sum(len(header(one)) + one.size for one in entries) + len(end)
    headers = {
        "Content-Length": str(length),
        "Content-Disposition": f'attachment; filename="undercurrent-{row.id}.zip"',
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(body(), headers=headers, media_type=MEDIA_TYPE)


async def _media_entry(row: AnalysisRow, rooms: ServiceRooms, name: str) -> Entry:
    """Read once before: a zip has the checksum in front, and bytes that are not those which were judged are refused, not sent."""
    digest, crc = hashlib.sha256(), 0
    async for piece in rooms.storage.read_media(row.id, 0, row.size_bytes):
        crc = await asyncio.to_thread(_taken, digest, piece, crc)
    if digest.hexdigest() != row.sha256:
        raise MediaChanged("The media in the store is not what was judged.", expected=f"sha256 {row.sha256}", got=digest.hexdigest())
    return Entry(name, row.size_bytes, crc)


def _taken(digest: hashlib._Hash, piece: bytes, crc: int) -> int:
    digest.update(piece)
    return zlib.crc32(piece, crc)
