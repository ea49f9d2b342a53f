"""Uploads that go around the service: a wish comes in, a URL of the store that takes the bytes goes out. The router of `/v1/uploads`."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from service.auth import Known
from service.database import now
from service.ids import new_id
from service.problems import NoDirectUploads, documented
from service.rooms import Rooms
from service.schemas import Wire

URL_S: Final = 3600.0

router = APIRouter(prefix="/v1/uploads", tags=["analyses"])


class UploadOut(Wire):
    """Where the bytes of one upload go. Whoever has the URL may send them, again too, until it expires."""

    id: str = Field(description="For `upload` in `POST /v1/analyses`.")
    method: Literal["PUT"] = "PUT"
    url: str = Field(description="Send the media there as the body, with a Content-Length and without any of our headers.")
    expires_at: datetime
    max_bytes: int = Field(description="What is larger will not be analysed.")


@router.post("", status_code=201, responses=documented(409, 503))
async def create_upload(response: Response, rooms: Rooms, caller: Known) -> UploadOut:
    """Get a URL that takes media straight into the store, where the service keeps its media in one.

    Send the bytes there, as often as it takes, and then `{"upload": id}` to `POST /v1/analyses`, with any key of the same tenant. What
    nobody has analysed is removed when it is a day old.
    """
    upload_id = new_id()
    expires_at = now() + timedelta(seconds=URL_S)
    url = await asyncio.to_thread(rooms.storage.presigned_put, caller.tenant, upload_id, URL_S)
    if url is None:
        raise NoDirectUploads(
            "Media is kept in a directory of this service; send it to POST /v1/analyses.",
            expected="a service with a bucket (UNDERCURRENT_STORE_URL)",
            got="one with a directory",
        )
    response.headers["Cache-Control"] = "no-store"
    return UploadOut(id=upload_id, url=url, expires_at=expires_at, max_bytes=rooms.settings.max_upload_bytes)
