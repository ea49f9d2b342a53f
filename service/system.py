"""The system in one answer: the rooms of a running service come in, version, model, health, settings and findings go out. `GET /v1/system`.

For `admin`. What is unsafe about the deployment is told to admins of the tenant `default` alone: an admin of another is one of its tenant,
and may be somebody from whom the deployment is to be kept safe.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final, get_args

from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError

from models.calibration import probability
from pipelines.load import LATENCY_BOUNDS_S
from service import __version__
from service.auth import Known
from service.database import DEFAULT_TENANT, Backlog, now
from service.deployment_facts import decode_child, look_up
from service.deployment_findings import findings
from service.feed_wire import FeedState
from service.gpu_memory import gpu_memory
from service.health import check_database, check_store
from service.problems import NotReady, documented
from service.rooms import Rooms, ServiceRooms
from service.settings import Settings
from service.shown_settings import shown_settings
from service.system_wire import FindingOut, GpuOut, LiveOut, ModelOut, QueueOut, ReachOut, SystemOut, TellingOut

MOST_OF: Final = 0.95

router = APIRouter(prefix="/v1/system", tags=["health"])


@router.get("", responses=documented())
async def get_system(rooms: Rooms, caller: Known) -> SystemOut:
    """Version, model, health, settings and, for the tenant `default`, what is unsafe about this deployment and what to do."""
    settings = rooms.settings
    backlog, database = await _database(rooms)
    return SystemOut(
        version=__version__,
        replica=settings.replica,
        stopping=rooms.drain.begun or rooms.jobs.draining,
        model=_model(rooms),
        database=database,
        store=await _store(rooms),
        disk_free_bytes=rooms.storage.free_bytes,
        queue=None if backlog is None else _queue(backlog, settings),
        webhooks=None if backlog is None else await _telling(rooms),
        live=_live(rooms),
        gpus=[
            GpuOut(name=card.name, used_bytes=card.used_bytes, total_bytes=card.total_bytes, own_bytes=card.own_bytes)
            for card in gpu_memory(rooms.engines.devices)
        ],
        settings=shown_settings(settings),
        findings=await asyncio.to_thread(_findings, rooms) if caller.tenant == DEFAULT_TENANT else None,
    )


def _model(rooms: ServiceRooms) -> ModelOut:
    info, calibrator = rooms.engines.model.info, rooms.engines.model.calibrator
    return ModelOut(
        name=info.name,
        version=info.version,
        weights_sha256=info.weights_sha256,
        calibration_id=info.calibration_id,
        crop_version=info.crop_version,
        threshold=calibrator.shipped.p,
        doubt_threshold=probability(calibrator.shipped.doubt),
        target_fpr=calibrator.shipped.target_fpr,
    )


async def _database(rooms: ServiceRooms) -> tuple[Backlog | None, ReachOut]:
    kind: Final = "sqlite" if rooms.settings.database_url is None else "postgresql"
    try:
        backlog = await check_database(rooms)
    except NotReady as error:
        return None, ReachOut(kind=kind, reachable=False, trouble=error.detail)
    return backlog, ReachOut(kind=kind, reachable=True, trouble=None)


async def _store(rooms: ServiceRooms) -> ReachOut:
    kind: Final = "directory" if rooms.settings.store_url is None else "s3"
    try:
        await check_store(rooms)
    except NotReady as error:
        return ReachOut(kind=kind, reachable=False, trouble=error.detail)
    return ReachOut(kind=kind, reachable=True, trouble=None)


def _queue(backlog: Backlog, settings: Settings) -> QueueOut:
    age_s = _age_s(backlog.oldest_queued_at)
    return QueueOut(queued=backlog.queued, running=backlog.running, oldest_age_s=age_s, workers=settings.workers)


async def _telling(rooms: ServiceRooms) -> TellingOut | None:
    try:
        waiting = await rooms.webhooks.deliveries.waiting()
    except SQLAlchemyError:
        return None
    return TellingOut(pending=waiting.count, oldest_age_s=_age_s(waiting.oldest_at), overdue_s=_age_s(waiting.due_at))


def _live(rooms: ServiceRooms) -> LiveOut:
    controller = rooms.engines.controller
    done = controller.counts
    bounds = zip(LATENCY_BOUNDS_S, done.within, strict=True)
    return LiveOut(
        streams=rooms.streams.running,
        max_streams=rooms.settings.streams.max_streams,
        refused=rooms.engines.refused,
        feeds={state: rooms.feeds.states[state] for state in get_args(FeedState)},
        scored=done.scored,
        mean_s=done.latency_sum_s / done.scored if done.scored else None,
        p95_s=next((bound for bound, n in bounds if done.scored and n >= MOST_OF * done.scored), None),
        target_s=controller.targets.latency_s,
        hz=controller.hz,
        full_hz=controller.targets.high_hz,
    )


def _findings(rooms: ServiceRooms) -> list[FindingOut]:
    settings = rooms.settings
    decoding, network_gone, files_gone = decode_child(rooms.sandbox)
    facts = look_up(settings, decoding, network_gone=network_gone, files_gone=files_gone)
    # What a finding says of a path it says by the name of its variable.
    named = {"data_dir": Path("$UNDERCURRENT_DATA_DIR"), "weights": settings.weights and Path("$UNDERCURRENT_WEIGHTS")}
    return [FindingOut(**asdict(one)) for one in findings(settings.model_copy(update=named), facts)]


def _age_s(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now() - since).total_seconds())
