"""Stills of feeds: a feed comes in; the newest picture that was looked at, and what was seen in it, go out. The router of `/still`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Response

from service.etags import knows
from service.feed_album import Picture
from service.feeds import Watched
from service.problems import documented
from service.stream_wire import ScoreEvent
from service.wall_wire import FaceInStill, LookAtStill

router = APIRouter(prefix="/v1/feeds", tags=["feeds"])

LOOK: Final = "Undercurrent-Look"
MOST_FACES: Final = 16
"""In a header: proxies take 4 to 8 kB of them."""
HEADERS: Final = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "no-store"}
_told: Final[dict[str, Any]] = {
    LOOK: {
        "description": "What was seen in it, as JSON: `session_id`, `at`, `arrived_at` (unix seconds), `p`, and `faces`, at most sixteen, "
        "the highest first, each with `track`, `p`, `reason` and its `box` (left, top, right, bottom in pixels of this still).",
        "schema": {"type": "string", "contentMediaType": "application/json"},
    },
    "ETag": {"schema": {"type": "string"}},
}


@router.get(
    "/{feed_id}/still",
    response_class=Response,
    responses=documented(
        404,
        409,
        422,
        also={
            200: {"content": {"image/jpeg": {}}, "headers": _told},
            204: {"description": "There is nothing to be seen now."},
            304: {"description": "Unchanged since that ETag: nothing was looked at meanwhile."},
        },
    ),
)
async def get_newest_still(
    watch: Watched, if_none_match: Annotated[str | None, Header(max_length=400, description="An ETag you have.")] = None
) -> Response:
    """The newest picture of a feed that was looked at, at most 960 pixels a side; `Undercurrent-Look` tells what was seen in it.

    There is none (204) while nothing is watched: before the first look, and when the feed is paused, waits, has failed or ended. During an
    outage it is the last before it.
    """
    seen = watch.seen
    if seen is None:
        return Response(status_code=204, headers=HEADERS)
    picture, score = seen
    tag = f'"{score.session_id}-{score.at.pts}"'
    headers = {**HEADERS, "ETag": tag}
    if knows(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(picture.jpeg, media_type="image/jpeg", headers={**headers, LOOK: _look(picture, score).model_dump_json()})


def _look(picture: Picture, score: ScoreEvent) -> LookAtStill:
    highest = sorted(score.faces, key=lambda face: -1.0 if face.p is None else face.p, reverse=True)[:MOST_FACES]
    return LookAtStill(
        session_id=score.session_id,
        at=score.at,
        arrived_at=score.judged_at - score.latency_s,
        p=score.p,
        faces=[FaceInStill(track=face.track, p=face.p, reason=face.reason, box=_scaled(face.box, picture.scale)) for face in highest],
    )


def _scaled(box: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(edge * scale, 1) for edge in box)
    return left, top, right, bottom
