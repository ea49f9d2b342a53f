"""Feeds on the wire: pydantic models of what `/v1/feeds` takes and shows, and of the events that only a feed has.

The other events of a feed are those of a live stream (`stream_wire.py`), with numbers of the feed's own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.alert_rule import EndCause
from service.schemas import Moment, Problem, Wire
from service.stream_wire import Event, StreamMedia

FeedState = Literal["waiting", "connecting", "running", "stalled", "reconnecting", "paused", "failed", "ended"]
"""`waiting`: for a seat, or before another attempt. `failed`: it will not get better by itself. `ended`: it was a recording."""


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected no NUL character")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]


class AlertRuleIn(Wire):
    """When a face is worth an alert. Seconds are of media time."""

    threshold: float | None = Field(default=None, gt=0, le=1, description="Probability from which on a face counts; null: the model's own.")
    end_threshold: float | None = Field(
        default=None, gt=0, le=1, description="Probability below which an alert ends; null: nine tenths of `threshold`."
    )
    min_s: float = Field(default=2.0, ge=0, le=3600, description="For so long it must stay at or above `threshold`.")
    cooldown_s: float = Field(default=30.0, ge=0, le=86_400, description="After an alert none begins for so long.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.end_threshold is not None and (self.threshold is None or self.end_threshold > self.threshold):
            raise ValueError("expected `end_threshold` beside a `threshold`, and not above it")
        return self


class NewFeed(Wire):
    """A camera to watch."""

    url: Text = Field(
        min_length=1,
        max_length=2048,
        description="rtsp(s) or http(s). User and password in it are kept, and never shown again.",
    )
    name: Text | None = Field(default=None, min_length=1, max_length=200, description="For people.")
    hz: float | None = Field(default=None, gt=0, le=120, description="Looks a second at most; null: as often as the service looks.")
    rule: AlertRuleIn = Field(default_factory=AlertRuleIn)
    paused: bool = Field(default=False, description="Keep it, and do not watch.")


class FeedChange(Wire):
    """What is to be otherwise; what is left out stays. `hz` and `paused` make a new connection, and so does any change of a failed feed."""

    name: Text | None = Field(default=None, min_length=1, max_length=200)
    hz: float | None = Field(default=None, gt=0, le=120)
    rule: AlertRuleIn | None = Field(default=None, description="The whole of it; null: as it is.")
    paused: bool | None = Field(default=None, description="Null: as it is.")


class LastScore(Wire):
    """The newest look."""

    at: Moment
    told_at: datetime = Field(description="When it was told, UTC.")
    p: float | None = Field(description="The highest of its faces; null when none was judged.")
    faces: int
    latency_s: float


class FeedTotals(Wire):
    """Since this service began to watch it."""

    since: datetime
    sessions: int = Field(description="How often it was given a seat; the memories of its faces begin anew with each.")
    looks: int
    judged: int = Field(description="Looks at which a face was judged.")
    gaps: int
    gap_s: float
    drops: dict[str, int] = Field(description="Pictures that nobody looked at, by cause.")
    alerts: int


class FeedLive(Wire):
    """How a feed does in the process that watches it."""

    attempt: int = Field(description="Of connecting.")
    next_retry_s: float | None
    code: str | None = Field(description="Why, as a problem's last word.")
    problem: Problem | None = Field(description="Why it failed.")
    media: StreamMedia | None
    session_id: str | None
    threshold: float = Field(description="From which on a face counts: the rule's, or the model's own.")
    hz: float | None = Field(description="Looks a second that it gets now.")
    latency_p95_s: float | None = Field(description="From a picture's arrival to its score, of the last two seconds.")
    last_score: LastScore | None
    event_seq: int = Field(description="Number of the newest event.")
    totals: FeedTotals


class FeedOut(Wire):
    """A camera that the service watches by itself."""

    id: str
    name: str | None
    url: str = Field(description="Without user, password and query.")
    hz: float
    rule: AlertRuleIn
    paused: bool
    created_at: datetime
    state: FeedState | Literal["elsewhere"] = Field(description="`elsewhere`: another replica watches it, and knows.")
    since: datetime = Field(description="Of the state, UTC.")
    live: FeedLive | None = Field(description="Null where another replica watches it.")
    links: dict[str, str]


class FeedPage(Wire):
    """One page of feeds, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[FeedOut]
    next: str | None


class AlertPeak(Wire):
    at: Moment
    p: float


class ClipOut(Wire):
    """What was looked at around the alert, as an mp4 whose times are those of the camera, from 0 on."""

    first: Moment = Field(description="Of its first picture, which the mp4 shows at 0.")
    last: Moment
    bytes: int


class AlertOut(Wire):
    """A face that stayed at or above the threshold."""

    feed_id: str
    n: int | None = Field(description="From 1 on within its feed; null for one that could not be kept.")
    state: Literal["open", "ended"]
    session_id: str = Field(description="Media time is that of this session.")
    track: int
    began: Moment = Field(description="The first look that was high.")
    last: Moment = Field(description="The newest that belongs to it.")
    seconds: float = Field(description="Of media, from `began` to `last`.")
    peak: AlertPeak
    longest_s: float = Field(description="The longest distance of two judged looks in it; one above two seconds would have ended it.")
    cause: EndCause | None = Field(description="Why it ended.")
    told_at: datetime = Field(description="When it was told, UTC.")
    ended_at: datetime | None
    clip: ClipOut | None = Field(description="Null until some seconds after the alert has begun or ended, and where it could not be kept.")
    links: dict[str, str] = Field(description="`still`: the picture of the peak with its face; `clip`. Only what there is.")


class NewestAlerts(Wire):
    """The newest alerts of all feeds; each feed's own list has the older ones."""

    items: list[AlertOut]


class AlertPage(Wire):
    """One page of a feed's alerts, newest first."""

    items: list[AlertOut]
    next: str | None


# Events.


class FeedStateEvent(Event):
    """How it is with the feed."""

    type: Literal["state"] = "state"
    state: FeedState
    since: datetime
    attempt: int = 0
    next_retry_s: float | None = None
    code: str | None = Field(default=None, description="Why, as a problem's last word.")
    problem: Problem | None = Field(default=None, description="Why it failed.")
    media: StreamMedia | None = None


class AlertEvent(Event):
    """An alert began, or ended, or its clip can be had."""

    type: Literal["alert"] = "alert"
    change: Literal["began", "ended", "clip"]
    alert: AlertOut


class MissedEvent(Event):
    """Events that may not be lost are gone: the watcher was away, or behind, for longer than they are kept."""

    type: Literal["missed"] = "missed"
    after: int = Field(description="The last event that the watcher had.")
    until: int = Field(description="No event up to this one can be had; some of these numbers may never have been used.")
