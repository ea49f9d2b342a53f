"""What is told of all feeds of a tenant side by side: pydantic models of the events of `GET /v1/feeds/events` and of the look at a still.

Made by `feed_wall.py` and `stills.py`; the pages read them (`islands/wall/wire.ts`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.verdict import ReasonCode
from service.feed_wire import AlertEvent, FeedStateEvent
from service.schemas import Moment, Wire
from service.stream_wire import GapEvent


class Looks(Wire):
    """What the looks of about a second showed, together: none of them was higher than `p`."""

    type: Literal["looks"] = "looks"
    event_seq: int = Field(description="Of the newest of their scores, in the feed's own numbers.")
    session_id: str | None
    arrived_at: float = Field(description="Unix seconds by the service's clock: when the picture of the newest came.")
    t: float = Field(description="Media seconds of the newest.")
    p: float | None = Field(description="The highest of all their faces; null when none was judged.")
    looks: int
    judged: int = Field(description="Looks at which a face was judged.")
    faces: int = Field(description="Of the newest.")
    latency_s: float = Field(description="The longest from a picture's arrival to its score.")


class OfFeed(Wire):
    """An event of one of the feeds."""

    feed_id: str
    event: Annotated[Looks | FeedStateEvent | GapEvent | AlertEvent, Field(discriminator="type")]


class Hello(Wire):
    """The first event, and again when a watcher has to begin anew."""

    at: float = Field(description="Unix seconds by the service's clock.")
    resumed: bool = Field(
        description="Whether all that was missed follows. Else `history` follows for each feed, and states and alerts are to be asked for."
    )


class History(Wire):
    """The last minutes of one feed."""

    feed_id: str
    looks: list[tuple[float, float | None]] = Field(description="`arrived_at` and `p` of each `looks`, oldest first.")


class Tick(Wire):
    """Nothing has happened for some seconds; the connection is alive."""

    at: float


class FaceInStill(Wire):
    track: int
    p: float | None
    reason: ReasonCode | None
    box: tuple[float, float, float, float] = Field(description="Left, top, right, bottom in pixels of the still.")


class LookAtStill(Wire):
    """What was seen in a still."""

    session_id: str | None
    at: Moment
    arrived_at: float = Field(description="Unix seconds by the service's clock.")
    p: float | None = Field(description="The highest of its faces; null when none was judged.")
    faces: list[FaceInStill] = Field(description="At most sixteen, the highest first.")
