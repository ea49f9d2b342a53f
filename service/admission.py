"""Admission: an upload comes in, a stored, probed and queued row goes out, or a refusal that leaves nothing. Asked by `analyses.py`."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import Request
from sqlalchemy.exc import IntegrityError

from pipelines.media import MediaInfo
from service.auth import Caller
from service.database import AnalysisRow, now
from service.ids import new_id
from service.intake import store_media
from service.problems import IdempotencyKeyReused, MalformedUpload, StoreUnavailable
from service.rooms import ServiceRooms
from service.uploads import basename, open_body

MAX_EXTERNAL_ID = 200

log = structlog.get_logger()


async def admit(
    request: Request,
    rooms: ServiceRooms,
    caller: Caller,
    external_id: str | None,
    filename: str | None,
    priority: int,
    idempotency_key: str | None,
) -> AnalysisRow:
    """Store, probe and queue. Whatever goes wrong, and a client that goes away, leaves neither file nor row."""
    analysis_id, tenant = new_id(), caller.tenant
    kept = False
    try:
        body = open_body(request, rooms.storage, rooms.settings)
        async with store_media(analysis_id, body, rooms.storage, rooms.settings) as stored:
            if idempotency_key and (earlier := await rooms.database.by_idempotency_key(tenant, idempotency_key)):
                return _same(earlier, stored.sha256, idempotency_key)
            external_id = _bounded(body.fields.get("external_id", external_id))
            media = await asyncio.to_thread(rooms.sandbox.probe, stored.file, limits=rooms.settings.limits)
        row = AnalysisRow(
            id=analysis_id,
            tenant=tenant,
            status="queued",
            external_id=external_id,
            filename=basename(body.filename or filename),
            media_type=_media_type(media),
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            idempotency_key=idempotency_key,
            priority=priority,
            created_at=now(),
        )
        try:
            await rooms.database.add(row)
        except IntegrityError:
            # Two uploads with one key ran side by side, and the other was first.
            earlier = await rooms.database.by_idempotency_key(tenant, idempotency_key) if idempotency_key else None
            if earlier is None or idempotency_key is None:
                raise
            return _same(earlier, stored.sha256, idempotency_key)
        kept = True
        await rooms.audit.write(tenant, caller.key_id, "analysis.created", row.id)
    finally:
        if not kept:
            await _forget(analysis_id, rooms)
    log.info("analysis_queued", analysis=row.id, size_bytes=row.size_bytes, sha256=row.sha256)
    await rooms.jobs.submit(row)
    return row


async def _forget(analysis_id: str, rooms: ServiceRooms) -> None:
    """Remove what an upload left, if that can be done now; else whoever removes orphans does it."""
    try:
        await asyncio.to_thread(rooms.storage.remove, analysis_id)
    except StoreUnavailable:
        log.warning("media_left_behind", analysis=analysis_id)


def _same(earlier: AnalysisRow, sha256: str, key: str) -> AnalysisRow:
    if earlier.sha256 != sha256:
        raise IdempotencyKeyReused(
            f"The key {key!r} belongs to the analysis {earlier.id} of other bytes.",
            expected=f"the bytes with sha256 {earlier.sha256}",
            got=sha256,
        )
    return earlier


def _bounded(external_id: str | None) -> str | None:
    if external_id is not None and len(external_id) > MAX_EXTERNAL_ID:
        raise MalformedUpload(
            "The external_id is too long.", expected=f"at most {MAX_EXTERNAL_ID} characters", got=f"{len(external_id)} characters"
        )
    if external_id is not None and "\0" in external_id:
        raise MalformedUpload("The external_id has a character that no text has.", expected="no NUL", got="a NUL")
    return external_id or None


def _media_type(media: MediaInfo) -> str:
    """What a browser is told the media is; it is never told that uploaded bytes are a page."""
    names = media.container.lower()
    if "webm" in names and media.codec.lower() in ("vp8", "vp9", "av1"):
        return "video/webm"
    for part, kind in (("matroska", "video/x-matroska"), ("mp4", "video/mp4"), ("mpegts", "video/mp2t"), ("avi", "video/x-msvideo")):
        if part in names:
            return kind
    return "application/octet-stream"
