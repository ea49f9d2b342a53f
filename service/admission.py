"""Admission: a request comes in, a stored, probed and queued row goes out, or a refusal that leaves nothing. Asked by `analyses.py`."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import Request
from sqlalchemy.exc import IntegrityError

from pipelines.errors import UnsupportedMedia
from pipelines.media import MediaInfo
from service.allowance import Coming
from service.arrivals import Arrived, Wish, arrive, digest_of_wish, read_elsewhere
from service.audit_rows import audited
from service.auth import Caller
from service.database import AnalysisRow, InDoubt, now
from service.ids import new_id
from service.problems import IdempotencyKeyReused, MalformedUpload, StoreUnavailable
from service.rooms import ServiceRooms
from service.schemas import FromUpload, FromUrl
from service.uploads import announced_bytes, basename

MAX_EXTERNAL_ID = 200

log = structlog.get_logger()


async def admit(request: Request, rooms: ServiceRooms, caller: Caller, wish: Wish) -> AnalysisRow:
    """Store, probe and queue. Whatever goes wrong, and a client that goes away, leaves neither file nor row."""
    elsewhere = await read_elsewhere(request, rooms.settings)
    if elsewhere is not None and (earlier := await _earlier(digest_of_wish(elsewhere), rooms, caller, wish)):
        return earlier
    with rooms.allowance.coming(caller.tenant, announced_bytes(request)) as coming:
        # Most often its analysis is there already, and nothing will be added.
        if not await _is_repeated(rooms, caller, wish):
            await coming.check()
        return await _admit(request, elsewhere, rooms, caller, wish, coming)


async def _admit(
    request: Request, elsewhere: FromUrl | FromUpload | None, rooms: ServiceRooms, caller: Caller, wish: Wish, coming: Coming
) -> AnalysisRow:
    analysis_id, tenant = new_id(), caller.tenant
    kept = False
    try:
        async with arrive(request, elsewhere, tenant, analysis_id, rooms, wish) as arrived:
            if earlier := await _earlier(arrived.request_sha256, rooms, caller, wish):
                return earlier
            if wish.dedupe and (same := await _finished(tenant, arrived.sha256, rooms)):
                return same
            coming.size_bytes = arrived.size_bytes
            await coming.check()
            external_id = _bounded(arrived.external_id)
            media = await _probe(arrived, rooms)
        row = AnalysisRow(
            id=analysis_id,
            tenant=tenant,
            status="queued",
            external_id=external_id,
            filename=basename(arrived.filename),
            media_type=_media_type(media),
            size_bytes=arrived.size_bytes,
            sha256=arrived.sha256,
            source_url=arrived.source_url,
            idempotency_key=wish.idempotency_key,
            request_sha256=arrived.request_sha256,
            priority=wish.priority,
            created_at=now(),
        )
        try:
            await rooms.database.add(row, audited(tenant, caller.key_id, "analysis.created", row.id))
        except (InDoubt, asyncio.CancelledError):
            kept = True  # should it have a row, that needs its media; should it not, whoever removes orphans does it
            raise
        except IntegrityError:
            # Two uploads with one key ran side by side, and the other was first.
            if (earlier := await _earlier(arrived.request_sha256, rooms, caller, wish)) is None:
                raise
            return earlier
        kept = True
    finally:
        if not kept:
            await _forget(analysis_id, rooms)
    if isinstance(elsewhere, FromUpload):
        await _consume(tenant, str(elsewhere.upload), rooms)
    log.info("analysis_queued", analysis=row.id, size_bytes=row.size_bytes, sha256=row.sha256, source_url=row.source_url)
    await rooms.jobs.submit(row)
    return row


async def _probe(arrived: Arrived, rooms: ServiceRooms) -> MediaInfo:
    try:
        return await asyncio.to_thread(rooms.sandbox.probe, arrived.file, limits=rooms.settings.limits)
    except UnsupportedMedia as error:
        if not arrived.content_type:
            raise
        # Most often it is a page about the video, or one that asks for a password.
        got = f"{error.got}; its host calls it {arrived.content_type}"
        raise UnsupportedMedia(error.detail, expected=error.expected, got=got) from error


async def _finished(tenant: str, sha256: str, rooms: ServiceRooms) -> AnalysisRow | None:
    """The analysis of the same bytes that another one now would only repeat."""
    in_force = await rooms.thresholds.in_force(tenant, rooms.engines.model.info.calibration_id)
    return await rooms.database.finished(tenant, sha256, rooms.recipe, in_force.version)


async def _earlier(request_sha256: str, rooms: ServiceRooms, caller: Caller, wish: Wish) -> AnalysisRow | None:
    """The analysis that this key belongs to already.

    Raises:
        IdempotencyKeyReused: it belongs to one of something else.
    """
    key = wish.idempotency_key
    if key is None or (earlier := await rooms.database.by_idempotency_key(caller.tenant, key)) is None:
        return None
    if (earlier.request_sha256 or earlier.sha256) != request_sha256:
        raise IdempotencyKeyReused(
            f"The key {key!r} belongs to the analysis {earlier.id} of other media.", expected="the same bytes, URL or upload", got="others"
        )
    return earlier


async def _is_repeated(rooms: ServiceRooms, caller: Caller, wish: Wish) -> bool:
    key = wish.idempotency_key
    return key is not None and await rooms.database.by_idempotency_key(caller.tenant, key) is not None


async def _forget(analysis_id: str, rooms: ServiceRooms) -> None:
    """Remove what was left, if that can be done now; else whoever removes orphans does it."""
    try:
        await asyncio.to_thread(rooms.storage.remove, analysis_id)
    except StoreUnavailable:
        log.warning("media_left_behind", analysis=analysis_id)


async def _consume(tenant: str, upload_id: str, rooms: ServiceRooms) -> None:
    try:
        await asyncio.to_thread(rooms.storage.remove_upload, tenant, upload_id)
    except StoreUnavailable:
        log.warning("upload_left_behind", upload=upload_id)


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
