"""Evidence: an analysis's id comes in; its timeline, media, crops, report, plot and pack go out. The router under `/v1/analyses/{id}`."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import HTMLResponse, Response

from service.etags import knows, tagged
from service.pack_wire import Decision
from service.packs import decisions_of, pack_response
from service.problems import documented
from service.ranged import ranged
from service.rendition_answer import RenditionMaking, rendition_answer
from service.report import CropImages, html_report
from service.rooms import Existing, Judged, Rooms
from service.schemas import AnalysisResult, TimelinePart
from service.storage import Layer
from service.timeline_columns import Columns
from service.timeline_part import Window, part_of, timeline_part
from service.timeline_text import read_timeline

router = APIRouter(prefix="/v1/analyses/{analysis_id}", tags=["evidence"])
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)
_NUMBERS = ("track", "pts", "t", "dt", "logit", "p", "surprise")
_BOX = ("x0", "y0", "x1", "y1")
_CACHED = {"Cache-Control": "private, max-age=86400"}
"""Evidence of a finished analysis never changes; deleting it changes its address to 404."""


@router.get(
    "/timeline",
    response_model=TimelinePart,
    responses=documented(
        404,
        409,
        422,
        503,
        also={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, 304: {"description": "Unchanged since that ETag."}},
    ),
)
async def get_timeline(
    row: Judged,
    rooms: Rooms,
    format: Annotated[Literal["json", "csv"], Query(description="How to write it.")] = "json",
    from_s: Annotated[float | None, Query(alias="from", allow_inf_nan=False, description="Only from this second of the media on.")] = None,
    to_s: Annotated[float | None, Query(alias="to", allow_inf_nan=False, description="Only up to this second of the media.")] = None,
    points: Annotated[
        int | None,
        Query(ge=4, le=20_000, description="About so many rows of each face: those that a picture shows, no peak among them lost."),
    ] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None,
) -> Response:
    """Every face at every analysed moment, or those of a part: p, surprise, dt and, where it was not judged, why."""
    window = Window(from_s, to_s, points)
    if format == "json" and window.is_whole:
        return await asyncio.to_thread(tagged, await rooms.storage.read_timeline(row.id), "application/json", if_none_match)
    columns = await rooms.timelines.columns(row.id)
    return await asyncio.to_thread(_part_as_json if format == "json" else _part_as_csv, columns, window, if_none_match)


@router.get(
    "/media",
    response_class=Response,
    responses=documented(
        404,
        413,
        416,
        422,
        503,
        507,
        also={
            200: {"content": {"video/*": {"schema": {"type": "string", "contentMediaType": "video/*"}}}},
            202: {"model": RenditionMaking, "description": "The rendition is being made; Retry-After says when to ask again."},
            206: {"description": "The range you asked for."},
            304: {"description": "Unchanged since that ETag."},
        },
    ),
)
async def get_media(
    row: Existing,
    rooms: Rooms,
    rendition: Annotated[
        Literal["h264"] | None,
        Query(description="Its pictures as browsers play them, each at its own time: H.264 in MP4, at most 720 lines, no sound."),
    ] = None,
    range_: Annotated[str | None, Header(alias="Range", description="`bytes=first-last`; one range.")] = None,
    if_range: Annotated[str | None, Header(description="The ETag that the range is of; else all bytes are sent.")] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None,
) -> Response:
    """The bytes as they were uploaded, or a rendition of them, made when it is asked for first; `Range` is honoured."""
    if rendition is not None:
        return await rendition_answer(row, rooms, range_, if_range, if_none_match, _CACHED)
    name = row.filename or f"{row.id}.video"
    quoted = quote(name, safe="")
    headers = {
        "ETag": f'"{row.sha256}"',
        "Content-Disposition": f'inline; filename="{name}"' if name == quoted else f"inline; filename*=utf-8''{quoted}",
        "Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'",
        **_CACHED,
    }
    if knows(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if if_range is not None and if_range != headers["ETag"]:
        range_ = None
    read = partial(rooms.storage.read_media, row.id)
    return await ranged(read, row.size_bytes, range_, media_type=row.media_type, headers=headers)


@router.get(
    "/tracks/{track}/crops/{k}",
    response_class=Response,
    responses=documented(
        404,
        409,
        422,
        503,
        also={200: {"content": {"image/jpeg": {}, "image/png": {}}}, 304: {"description": "Unchanged since that ETag."}},
    ),
)
async def get_crop(
    row: Judged,
    rooms: Rooms,
    track: Annotated[int, Path(ge=0, le=2**31)],
    k: Annotated[int, Path(ge=0, le=2**31)],
    layer: Annotated[
        Layer, Query(description="`face`: the pixels the encoder saw (JPEG); `boundary`: where it saw blending (PNG).")
    ] = "face",
    if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None,
) -> Response:
    """One evidence crop of one face."""
    body = await rooms.storage.read_crop(row.id, track, k, layer)
    return tagged(body, "image/jpeg" if layer == "face" else "image/png", if_none_match, _CACHED)


@router.get(
    "/report",
    response_class=Response,
    responses=documented(
        404,
        409,
        422,
        503,
        also={200: {"content": {"text/html": {"schema": {"type": "string"}}, "application/zip": {"schema": {"type": "string"}}}}},
    ),
)
async def get_report(
    row: Judged,
    rooms: Rooms,
    format: Annotated[Literal["html", "zip"], Query(description="`html`: one page; `zip`: the signed evidence pack around it.")] = "html",
    media: Annotated[bool, Query(description="Whether the evidence pack is to hold the media itself.")] = False,
) -> Response:
    """One self-contained page with the verdict and its evidence, to keep or print; or all its evidence, signed: `undercurrent verify`."""
    if format == "zip":
        return await pack_response(row, rooms, with_media=media)
    result = await rooms.storage.read_result(row.id)
    crops = await rooms.storage.read_crops(row.id, result)
    decisions = await decisions_of(row, rooms)
    return await asyncio.to_thread(
        _report_page, result, await rooms.storage.read_timeline(row.id), crops, row.filename or row.id, decisions
    )


@router.get("/plot", response_class=Response, responses=documented(404, 409, 422, 503, also={200: {"content": {"image/png": {}}}}))
async def get_plot(row: Judged, rooms: Rooms) -> Response:
    """Probability, surprise and coverage over media time, as a picture."""
    result = await rooms.storage.read_result(row.id)
    picture = await asyncio.to_thread(_plot_picture, result, await rooms.storage.read_timeline(row.id))
    return Response(picture, media_type="image/png", headers=_CACHED)


def timeline_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows of a timeline, by the names of `TimelineRow`, as CSV with a header line; what is null is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*_NUMBERS, *_BOX, "reason", "flags"))
    for row in rows:
        writer.writerow((*(row[name] for name in _NUMBERS), *row["box"], row["reason"], " ".join(row["flags"])))
    return out.getvalue()


# In a thread: what is to be read or written may be hundreds of megabytes.


def _part_as_json(columns: Columns, window: Window, if_none_match: str | None) -> Response:
    return tagged(timeline_part(columns, window), "application/json", if_none_match)


def _part_as_csv(columns: Columns, window: Window, if_none_match: str | None) -> Response:
    return tagged(timeline_csv(part_of(columns, window)["rows"]).encode(), "text/csv; charset=utf-8", if_none_match)


def _plot_picture(result: AnalysisResult, timeline: bytes) -> bytes:
    from service.plot import timeline_png  # matplotlib: most of a second of a service's start, for what few ask for

    return timeline_png(result, read_timeline(timeline))


def _report_page(
    result: AnalysisResult, timeline: bytes, crops: Mapping[tuple[int, int], CropImages], title: str, decisions: Sequence[Decision]
) -> Response:
    page = html_report(result, read_timeline(timeline), crops, title, decisions=decisions)
    styles = " ".join(f"'sha256-{_digest(style)}'" for style in _STYLE.findall(page)) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src {styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "private, no-cache"})


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
