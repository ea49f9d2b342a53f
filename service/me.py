"""Who asks, as they may know it: a request comes in, its tenant, scopes, key and limits go out. The router of `/v1/me`."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from service.auth import Known, KnownKey
from service.key_store import Scope
from service.problems import documented
from service.rooms import Rooms
from service.schemas import Wire

router = APIRouter(prefix="/v1/me", tags=["session"])


class LimitsOut(Wire):
    """What may be asked for."""

    requests_per_minute: int = Field(description="Of one key, and of one replica.")
    requests_at_once: int = Field(description="Of one key, and of one replica; event streams and live streams among them.")
    upload_bytes: int = Field(description="Of one video.")
    unfinished_analyses: int = Field(description="Of the tenant: those that wait or run.")
    kept_bytes: int = Field(description="Of the tenant: of media.")


class UsedOut(Wire):
    """What the tenant has of that."""

    unfinished_analyses: int
    kept_bytes: int


class MeOut(Wire):
    """Who this is, and what for."""

    tenant: str
    scopes: list[Scope]
    key_id: str | None = Field(description="Of the key, or of this browser's session; null: of the service's own machine, without a key.")
    name: str = Field(description="What people call it: what the key is for, or the e-mail of whoever has signed in.")
    expires_at: datetime | None
    limits: LimitsOut
    used: UsedOut


@router.get("", responses=documented())
async def get_me(rooms: Rooms, caller: Known, key: KnownKey) -> MeOut:
    """Who this is."""
    settings, held = rooms.settings, await rooms.allowance.held(caller.tenant)
    return MeOut(
        tenant=caller.tenant,
        scopes=sorted(caller.scopes),
        key_id=caller.key_id,
        name=caller.name,
        expires_at=None if key is None else key.expires_at,
        limits=LimitsOut(
            requests_per_minute=settings.keys.per_minute,
            requests_at_once=settings.keys.at_once,
            upload_bytes=settings.max_upload_bytes,
            unfinished_analyses=settings.tenants.max_unfinished,
            kept_bytes=settings.tenants.max_bytes,
        ),
        used=UsedOut(unfinished_analyses=held.unfinished, kept_bytes=held.size_bytes),
    )
