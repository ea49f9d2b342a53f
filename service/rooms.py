"""What a running service owns: made by `app.py` at start-up, handed by FastAPI to every route that names `Rooms`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Request

from pipelines.engine import Engines
from service.audit_rows import AuditRows
from service.auth import Known
from service.database import AnalysisRow, Database
from service.drain import Drain
from service.feed_keeper import Feeds
from service.jobs import Jobs
from service.key_store import KeyStore
from service.media_sandbox import MediaSandbox
from service.problems import NoResultYet, UnknownAnalysis
from service.quota import Quota
from service.settings import Settings
from service.storage import Storage
from service.streams import Streams
from service.witness import Witness


@dataclass(frozen=True, slots=True)
class ServiceRooms:
    """Settings, rows, files and work of one process."""

    settings: Settings
    database: Database
    keys: KeyStore
    quota: Quota
    audit: AuditRows
    storage: Storage
    jobs: Jobs
    sandbox: MediaSandbox
    engines: Engines
    streams: Streams
    feeds: Feeds
    witness: Witness
    drain: Drain


def _rooms(request: Request) -> ServiceRooms:
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
