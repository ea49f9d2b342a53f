"""What a running service owns: made by `app.py` at start-up, handed by FastAPI to every route that names `Rooms`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Request

from pipelines.engine import Engines
from service.allowance import Allowance
from service.audit_rows import AuditRows
from service.auth import Known
from service.database import AnalysisRow, Database
from service.drain import Drain
from service.feed_keeper import Feeds
from service.jobs import Jobs
from service.key_store import KeyStore
from service.media_sandbox import MediaSandbox
from service.oidc import Issuer
from service.policy_rows import PolicyRows
from service.problems import NoResultYet, UnknownAnalysis
from service.quota import Quota
from service.renditions import Renditions
from service.review_log_rows import ReviewLog
from service.review_quality import ReviewQuality
from service.review_queue import ReviewQueue
from service.review_rows import ReviewRows
from service.review_thresholds import ReviewThresholds
from service.settings import Settings
from service.signing_key_store import SigningKeys
from service.storage import Storage
from service.streams import Streams
from service.threshold_rows import ThresholdRows
from service.timeline_shelf import TimelineShelf
from service.webhook_deliverer import Deliverer
from service.witness import Witness


@dataclass(frozen=True, slots=True)
class ServiceRooms:
    """Settings, rows, files and work of one process."""

    settings: Settings
    database: Database
    keys: KeyStore
    quota: Quota
    allowance: Allowance
    issuer: Issuer | None
    """Whom browsers can be sent to so that somebody signs in."""
    audit: AuditRows
    signing: SigningKeys
    storage: Storage
    timelines: TimelineShelf
    renditions: Renditions
    jobs: Jobs
    sandbox: MediaSandbox
    engines: Engines
    streams: Streams
    feeds: Feeds
    webhooks: Deliverer
    witness: Witness
    drain: Drain
    recipe: str
    """What results are made with here (`recipe.py`)."""
    reviews: ReviewRows
    queue: ReviewQueue
    review_log: ReviewLog
    policies: PolicyRows
    quality: ReviewQuality
    thresholds: ThresholdRows
    review_thresholds: ReviewThresholds


# FastAPI takes what is not `async` to a thread, and so every request.
async def _rooms(request: Request) -> ServiceRooms:
    return cast(ServiceRooms, request.app.state.rooms)


Rooms = Annotated[ServiceRooms, Depends(_rooms)]


async def _existing(analysis_id: UUID, rooms: Rooms, caller: Known) -> AnalysisRow:
    row = await rooms.database.get(str(analysis_id))
    # Of another tenant: not even that it exists is told.
    if row is None or row.tenant != caller.tenant:
        raise UnknownAnalysis(
            f"No analysis has the id {analysis_id}.", expected="the id of an analysis that was not deleted", got=str(analysis_id)
        )
    return row


Existing = Annotated[AnalysisRow, Depends(_existing)]


async def _judged(row: Existing) -> AnalysisRow:
    if row.status != "succeeded":
        raise NoResultYet(f"The analysis is {row.status}.", expected="an analysis that succeeded", got=row.status)
    return row


Judged = Annotated[AnalysisRow, Depends(_judged)]
