"""Events: a row that has just changed comes in, deliveries to all who want to know go out, in that same transaction.

`app.py` hands these to `database.py` and `feed_rows.py`, which know nothing of webhooks.
"""

from __future__ import annotations

from typing import Final, cast, get_args

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from service.alert_view import alert_out
from service.database import AnalysisRow, now
from service.feed_rows import AlertRow, FeedRow
from service.schemas import Problem
from service.webhook_deliveries import announce
from service.webhook_wire import (
    AlertChangeEvent,
    AlertEventType,
    AlertTold,
    AnalysisEvent,
    AnalysisEventType,
    AnalysisTold,
    PingEvent,
    PingTold,
)


async def analysis_ended(session: AsyncSession, row: AnalysisRow) -> None:
    """Whoever wants to know is to be told that it has."""
    event = AnalysisEvent(
        type=cast(AnalysisEventType, f"analysis.{row.status}"),
        timestamp=row.finished_at or now(),
        data=AnalysisTold.model_validate(
            {
                "id": row.id,
                "external_id": row.external_id,
                "status": row.status,
                "verdict": row.verdict,
                "p": row.p,
                "problem": Problem.model_validate_json(row.problem).type if row.problem else None,
                "created_at": row.created_at,
                "finished_at": row.finished_at,
                "links": {"self": f"/v1/analyses/{row.id}", "page": f"/analyses/{row.id}"},
            }
        ),
    )
    await announce(session, row.tenant, event.type, event.model_dump_json())


async def alert_changed(session: AsyncSession, row: AlertRow) -> None:
    """Whoever wants to know is to be told that it has begun, or ended."""
    tenant = await session.scalar(select(FeedRow.tenant).where(FeedRow.id == row.feed_id))
    if tenant is None:
        return
    shown = alert_out(row)
    event = AlertChangeEvent(
        type="alert.started" if row.ended_at is None else "alert.ended",
        timestamp=row.ended_at or row.told_at,
        data=AlertTold(
            feed_id=row.feed_id,
            n=row.n,
            track=shown.track,
            began=shown.began,
            last=shown.last,
            peak=shown.peak,
            cause=shown.cause,
            links={**shown.links, "feed": f"/v1/feeds/{row.feed_id}"},
        ),
    )
    await announce(session, tenant, event.type, event.model_dump_json())


def ping(webhook_id: str) -> str:
    """The body of an event that tells nothing but that it came."""
    return PingEvent(timestamp=now(), data=PingTold(webhook=webhook_id)).model_dump_json()


def _told_analysis(body: AnalysisEvent) -> None:
    """An analysis has ended. Any 2xx within 10 s is a success; without one it is sent again, for three days."""


def _told_alert(body: AlertChangeEvent) -> None:
    """An alert of a feed has begun, or has ended. Otherwise as for an analysis."""


described: Final = APIRouter(
    tags=["webhooks"],
    generate_unique_id_function=lambda route: route.name,
    responses={"4XX": {"description": "It is sent again, as after whatever is no 2xx. After 410 nothing more is sent."}},
)
"""What receivers are sent, for the OpenAPI document; nothing here is ever served."""
for _types, _told in ((get_args(AnalysisEventType), _told_analysis), (get_args(AlertEventType), _told_alert)):
    for _type in _types:
        described.add_api_route(_type, _told, methods=["POST"], status_code=204, name=f"told_{_type.replace('.', '_')}")
