"""The system on the wire: pydantic models of what `GET /v1/system` shows. Filled by `system.py`; no secret, no path."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.deployment_findings import Severity
from service.feed_wire import FeedState
from service.schemas import Wire
from service.shown_settings import SettingOut


class ModelOut(Wire):
    """What judges, and where it draws the line."""

    name: str
    version: str
    weights_sha256: str
    calibration_id: str
    crop_version: int
    threshold: float = Field(description="Probability at and above which a video counts as manipulated.")
    doubt_threshold: float = Field(description="Between this one and `threshold` it is inconclusive.")
    target_fpr: float = Field(description="The share of real videos that `threshold` was set to accuse.")


class ReachOut(Wire):
    """Something that the service needs."""

    kind: Literal["sqlite", "postgresql", "directory", "s3"]
    reachable: bool
    trouble: str | None = Field(description="Why it is not.")


class QueueOut(Wire):
    """Analyses that have not ended, of all replicas and tenants."""

    queued: int
    running: int
    oldest_age_s: float = Field(description="How long the oldest of those that wait has waited.")
    workers: int = Field(description="Analyses that this replica runs at once.")


class TellingOut(Wire):
    """What webhooks are still to be told, of all replicas and tenants."""

    pending: int
    oldest_age_s: float
    overdue_s: float = Field(description="How long one that is due has not been sent.")


class LiveOut(Wire):
    """Live streams and cameras of this replica since it started, and how long a look at them takes."""

    streams: int
    max_streams: int
    refused: int
    feeds: dict[FeedState, int] = Field(description="Cameras that it watches by itself, by state.")
    scored: int
    mean_s: float | None = Field(description="From a frame's arrival to its score; null: nothing was scored.")
    p95_s: float | None = Field(
        description="95 of 100 took at most so long, rounded up to a bound of the metric; null: none scored, or longer."
    )
    target_s: float
    hz: float = Field(description="Looks a second that every stream gets now.")
    full_hz: float = Field(description="What it gets when there is time.")


class GpuOut(Wire):
    """A card that nets run on."""

    name: str
    used_bytes: int = Field(description="Of the whole card, whoever uses it.")
    total_bytes: int
    own_bytes: int = Field(description="What this process holds.")


class FindingOut(Wire):
    """One thing about this deployment, as `undercurrent doctor` says it; paths by the names of their variables."""

    severity: Severity
    code: str
    says: str
    do: str


class SystemOut(Wire):
    """What answers here, how it fares, and what it was told."""

    version: str
    replica: str
    stopping: bool
    model: ModelOut
    database: ReachOut
    store: ReachOut
    disk_free_bytes: int
    queue: QueueOut | None = Field(description="Null: the database does not answer.")
    webhooks: TellingOut | None = Field(description="Null: the database does not answer.")
    live: LiveOut
    gpus: list[GpuOut] = Field(description="Empty where nets run on the CPU.")
    settings: list[SettingOut]
    findings: list[FindingOut] | None = Field(
        description="The gravest first. Null: they are for whoever runs the service, who has the keys of the tenant `default`."
    )
