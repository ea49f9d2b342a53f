"""Arrivals: a request's body, the URL in it or an upload that went around the service come in; media in the store goes out.

Asked by `admission.py`; `uploads.py`, `imports.py` and `storage.py` have the bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from service.imports import open_url
from service.intake import check_announced, digest_of, store_media
from service.objects import ObjectNotFound
from service.problems import UnknownUpload
from service.rooms import ServiceRooms
from service.schemas import FromUpload, FromUrl
from service.settings import Settings
from service.uploads import is_json, open_body, read_json

_elsewhere: TypeAdapter[FromUrl | FromUpload] = TypeAdapter(FromUrl | FromUpload)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says beside its body."""

    external_id: str | None = None
    filename: str | None = None
    idempotency_key: str | None = None
    dedupe: bool = False
    priority: int = 5


@dataclass(frozen=True, slots=True)
class Arrived:
    """Media that the store has, and what was said about it."""

    file: Path
    size_bytes: int
    sha256: str
    request_sha256: str
    filename: str | None
    external_id: str | None
    source_url: str | None = None
    content_type: str = ""


async def read_elsewhere(request: Request, settings: Settings) -> FromUrl | FromUpload | None:
    """Where the media is, if the body says so rather than being it.

    Raises:
        RequestValidationError, MalformedUpload: the body is JSON that says something else.
    """
    if not is_json(request):
        return None
    try:
        return _elsewhere.validate_json(await read_json(request, settings))
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from error


def digest_of_wish(elsewhere: FromUrl | FromUpload) -> str:
    """What an idempotency key stands for when the bytes are not in the request."""
    what = f"url {elsewhere.url}" if isinstance(elsewhere, FromUrl) else f"upload {elsewhere.upload}"
    return hashlib.sha256(what.encode()).hexdigest()


@asynccontextmanager
async def arrive(
    request: Request, elsewhere: FromUrl | FromUpload | None, tenant: str, analysis_id: str, rooms: ServiceRooms, wish: Wish
) -> AsyncIterator[Arrived]:
    """Bring the media of a new analysis into the store, from wherever it is; inside the context it is a file of this machine, too.

    Raises:
        Refusal: what `open_body`, `open_url` and `store_media` refuse; UnknownUpload for an upload that nobody of `tenant` sent.
    """
    storage, settings = rooms.storage, rooms.settings
    if elsewhere is None:
        body = open_body(request, storage, settings)
        async with store_media(analysis_id, body, storage, settings) as stored:
            external_id = body.fields.get("external_id", wish.external_id)
            filename = body.filename or wish.filename
            yield Arrived(stored.file, stored.size_bytes, stored.sha256, stored.sha256, filename, external_id)
        return
    external_id, filename = elsewhere.external_id or wish.external_id, elsewhere.filename or wish.filename
    request_sha256 = digest_of_wish(elsewhere)
    if isinstance(elsewhere, FromUrl):
        async with (
            open_url(elsewhere.url, rooms.sandbox.policy, storage, settings) as remote,
            store_media(analysis_id, remote.chunks, storage, settings) as stored,
        ):
            filename = filename or remote.filename
            yield Arrived(
                stored.file,
                stored.size_bytes,
                stored.sha256,
                request_sha256,
                filename,
                external_id,
                source_url=remote.shown,
                content_type=remote.content_type,
            )
        return
    async with _claimed(tenant, str(elsewhere.upload), analysis_id, rooms) as file:
        sha256 = await asyncio.to_thread(digest_of, file)
        yield Arrived(file, file.stat().st_size, sha256, request_sha256, filename, external_id)


@asynccontextmanager
async def _claimed(tenant: str, upload_id: str, analysis_id: str, rooms: ServiceRooms) -> AsyncIterator[Path]:
    """What a client put into the store itself, as media of the analysis and as a file of this machine."""
    size = await asyncio.to_thread(rooms.storage.upload_size, tenant, upload_id)
    try:
        if size is None:
            raise ObjectNotFound("Nothing came.", expected="bytes", got="none")
        check_announced(size, rooms.storage, rooms.settings)
        await rooms.storage.claim_upload(tenant, upload_id, analysis_id)
    except ObjectNotFound as error:
        raise UnknownUpload(
            f"Nothing was sent to the upload {upload_id}.",
            expected="the id of an upload whose bytes were sent, and which is not analysed yet",
            got=upload_id,
        ) from error
    brought = rooms.storage.media_file(analysis_id)
    file = await asyncio.to_thread(brought.__enter__)
    try:
        check_announced(file.stat().st_size, rooms.storage, rooms.settings)
        yield file
    finally:
        brought.__exit__(None, None, None)
