"""Webhooks on the wire: pydantic models of what `/v1/webhooks` takes and shows, and of the events that are told there.

An event is thin: ids, what was found, where the rest is. Never media, and nothing that a log of a receiver should not have.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from pipelines.alert_rule import EndCause
from pipelines.verdict import VerdictName
from service.feed_wire import AlertPeak, Text
from service.schemas import Moment, Wire
from service.webhook_deliveries import DeliveryStatus
from service.webhook_rows import Disabled

AnalysisEventType = Literal["analysis.succeeded", "analysis.failed", "analysis.cancelled"]
AlertEventType = Literal["alert.started", "alert.ended"]
EventType = AnalysisEventType | AlertEventType

WebhookUrl = Annotated[
    str,
    Field(
        max_length=2048,
        pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$",
        description="http(s), at an address where this service may go. What is secret in it is kept, and never shown again.",
    ),
]
Events = Annotated[list[EventType], Field(min_length=1, max_length=5)]


class NewWebhook(Wire):
    """A place to tell."""

    url: WebhookUrl
    events: Events | None = Field(default=None, description="Of these alone; null: of all.")
    description: Text | None = Field(default=None, min_length=1, max_length=200, description="For people.")


class WebhookChange(Wire):
    """What is to be otherwise; what is left out stays."""

    url: WebhookUrl | None = Field(default=None, description="Null: as it is. What is still to be told goes there.")
    events: Events | None = Field(default=None, description="Null: all.")
    description: Text | None = Field(default=None, min_length=1, max_length=200)
    enabled: bool | None = Field(
        default=None, description="Null: as it is. While it is false nothing new is noted; what was to be told goes on when it is true."
    )


class WebhookOut(Wire):
    """A place that is told."""

    id: str
    url: str = Field(description="Without user, password, query, and what looks like a secret.")
    events: list[EventType] | None = Field(description="Null: all.")
    description: str | None
    created_at: datetime
    enabled: bool
    disabled: Disabled | None = Field(
        description="Why it is not enabled: `asked` for, `gone` (it answered 410), `failing` (nothing could be delivered for days)."
    )
    failing_since: datetime | None = Field(description="When an event was given up first; null once something was delivered.")
    previous_secrets_until: datetime | None = Field(description="Until when an earlier secret signs beside the newest, if one does.")
    links: dict[str, str]


class WebhookWithSecret(WebhookOut):
    """It, and the secret that signs from now on."""

    secret: str = Field(description="`whsec_...`; shown this once.")


class WebhookPage(Wire):
    """One page of webhooks, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[WebhookOut]
    next: str | None


class Rotation(Wire):
    """How one secret is to follow another."""

    overlap_s: float = Field(
        default=86_400, ge=0, le=7 * 86_400, description="For so long the secrets before it sign as well; 0: not at all, as after a leak."
    )


class AttemptOut(Wire):
    """What came of sending it once."""

    n: int
    at: datetime
    duration_s: float
    status_code: int | None = Field(description="Null: there was no answer.")
    answer: str = Field(description="Its first 2048 characters.")
    error: str | None


class DeliveryOut(Wire):
    """One event that a webhook is to be told of."""

    id: str
    event_id: str = Field(description="The `webhook-id` that receivers see: the same in all attempts and replays of one event.")
    event: EventType | Literal["ping"]
    status: DeliveryStatus
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="Null once it was delivered or given up.")
    attempts: list[AttemptOut]
    links: dict[str, str]


class DeliveryPage(Wire):
    """One page of deliveries, newest first; `next` is the cursor of the following page, null at the end."""

    items: list[DeliveryOut]
    next: str | None


# Events.


class AnalysisTold(Wire):
    """An analysis has ended."""

    id: str
    external_id: str | None
    status: Literal["succeeded", "failed", "cancelled"]
    verdict: VerdictName | None
    p: float | None = Field(description="Null when nothing was judged.")
    problem: str | None = Field(description="Type of the problem with which it failed.")
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


class AnalysisEvent(Wire):
    """Told once for each analysis."""

    type: AnalysisEventType
    timestamp: datetime = Field(description="When it happened.")
    data: AnalysisTold


class AlertTold(Wire):
    """An alert of a feed."""

    feed_id: str
    n: int
    track: int
    began: Moment
    last: Moment
    peak: AlertPeak
    cause: EndCause | None = Field(description="Why it ended.")
    links: dict[str, str]


class AlertChangeEvent(Wire):
    """Told when an alert begins, and when it has ended."""

    type: AlertEventType
    timestamp: datetime = Field(description="When it happened.")
    data: AlertTold


class PingTold(Wire):
    """Nothing has happened."""

    webhook: str = Field(description="The webhook's id.")


class PingEvent(Wire):
    """Told when somebody asks for it."""

    type: Literal["ping"] = "ping"
    timestamp: datetime
    data: PingTold
