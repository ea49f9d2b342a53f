"""What is told of a rendition: an analysis and a range come in, its bytes go out, or how far it is. Asked by `evidence.py`."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response
from pydantic import Field

from service.database import AnalysisRow
from service.etags import knows
from service.ranged import ranged
from service.renditions import Making
from service.rooms import ServiceRooms
from service.schemas import Wire

RETRY_AFTER_S: Final = 1
"""`Renditions.find` waits before it answers, so this is what is waited besides."""


class RenditionMaking(Wire):
    """A rendition is being made; the same request gives it when it is there."""

    media_s: float = Field(description="Media time that is in it already.")
    duration_s: float | None = Field(description="What the media says of its length.")


async def rendition_answer(
    row: AnalysisRow, rooms: ServiceRooms, wanted: str | None, if_range: str | None, if_none_match: str | None, cached: dict[str, str]
) -> Response:
    """The H.264 rendition of its media, or 202 and when to ask again.

    Raises:
        PipelineError, ServiceError: see `Renditions.find`; RangeNotSatisfiable.
    """
    found = await rooms.renditions.find(row.id)
    if isinstance(found, Making):
        body = RenditionMaking(media_s=found.t, duration_s=found.duration_s).model_dump()
        return JSONResponse(body, 202, headers={"Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"})
    name = f"{PurePath(row.filename or row.id).stem}.h264.mp4"
    headers = {
        "ETag": f'"{found.sha256}"',
        "Content-Disposition": f"inline; filename*=utf-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'",
        **cached,
    }
    if knows(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if if_range is not None and if_range != headers["ETag"]:
        wanted = None
    read = partial(rooms.storage.read_rendition, row.id, found.sha256)
    return await ranged(read, found.size_bytes, wanted, media_type="video/mp4", headers=headers)
