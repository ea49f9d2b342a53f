"""Webhooks: a URL comes in, a secret goes out once; what ends later is told there, signed. The router of `/v1/webhooks`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.exc import IntegrityError

from service.audit_rows import Action, audited
from service.auth import Caller, Known
from service.cursors import read_cursor, write_cursor
from service.database import now
from service.feeds import link_next
from service.ids import new_id
from service.problems import TooManyWebhooks, UnknownDelivery, UnknownWebhook, documented
from service.rooms import Rooms, ServiceRooms
from service.url_policy import shown
from service.webhook_deliveries import AttemptRow, DeliveryRow, DeliveryStatus
from service.webhook_events import ping
from service.webhook_rows import WebhookRow, new_secret, only
from service.webhook_wire import (
    AttemptOut,
    DeliveryOut,
    DeliveryPage,
    EventType,
    NewWebhook,
    Rotation,
    WebhookChange,
    WebhookOut,
    WebhookPage,
    WebhookWithSecret,
)

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
MOST: Final = 32
"""Of one tenant: each is another row for every event, in the transaction of what it tells of."""


async def _existing(webhook_id: UUID, rooms: Rooms, caller: Known) -> WebhookRow:
    row = await rooms.webhooks.webhooks.get(str(webhook_id))
    if row is None or row.tenant != caller.tenant:
        raise _unknown(str(webhook_id))
    return row


Existing = Annotated[WebhookRow, Depends(_existing)]


async def _delivery(row: Existing, delivery_id: UUID, rooms: Rooms) -> DeliveryRow:
    return await _found(row.id, str(delivery_id), rooms)


Told = Annotated[DeliveryRow, Depends(_delivery)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("", status_code=201, responses=documented(409, 422))
async def create_webhook(given: NewWebhook, response: Response, rooms: Rooms, caller: Known) -> WebhookWithSecret:
    """Have events told to a URL, as Standard Webhooks says. The secret that signs them is shown this once.

    A URL that points where this service may not go is refused here, and again whenever something is told there.
    """
    await rooms.webhooks.check(given.url)
    if await rooms.webhooks.webhooks.count(caller.tenant) >= MOST:
        raise TooManyWebhooks("There is no room for another webhook.", expected=f"at most {MOST}", got="one more")
    secret = new_secret()
    row = WebhookRow(
        id=new_id(),
        tenant=caller.tenant,
        url=given.url,
        description=given.description,
        events=_events(given.events),
        secrets=only(secret),
        created_at=now(),
    )
    await rooms.webhooks.webhooks.add(row, audited(caller.tenant, caller.key_id, "webhook.created", row.id))
    response.headers["Location"] = f"/v1/webhooks/{row.id}"
    return WebhookWithSecret(**dict(webhook_out(row)), secret=secret)


@router.get("", responses=documented(422))
async def list_webhooks(
    request: Request, response: Response, rooms: Rooms, caller: Known, cursor: Cursor = None, limit: Limit = 25
) -> WebhookPage:
    """Webhooks, newest first, without their secrets."""
    rows = await rooms.webhooks.webhooks.page(caller.tenant, before=read_cursor(cursor) if cursor else None, limit=limit + 1)
    following = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    link_next(request, response, following)
    return WebhookPage(items=[webhook_out(row) for row in rows[:limit]], next=following)


@router.get("/{webhook_id}", responses=documented(404, 422))
async def get_webhook(row: Existing) -> WebhookOut:
    """One webhook: what it is told, and whether it can be."""
    return webhook_out(row)


@router.patch("/{webhook_id}", responses=documented(404, 422))
async def change_webhook(row: Existing, change: WebhookChange, rooms: Rooms, caller: Known) -> WebhookOut:
    """Tell somewhere else, of something else, not for now, or again after it was disabled."""
    if change.url is not None:
        await rooms.webhooks.check(change.url)
    values: dict[str, Any] = {} if change.url is None else {"url": change.url}
    if "description" in change.model_fields_set:
        values["description"] = change.description
    if "events" in change.model_fields_set:
        values["events"] = _events(change.events)
    if change.enabled is not None:
        values |= {"disabled": None, "failing_since": None} if change.enabled else {"disabled": "asked"}
    if not values:
        return webhook_out(row)
    changed = await rooms.webhooks.webhooks.change(row.id, values, audited(caller.tenant, caller.key_id, "webhook.changed", row.id))
    if changed is None:
        raise _unknown(row.id)
    return webhook_out(changed)


@router.delete("/{webhook_id}", status_code=204, responses=documented(404, 422))
async def delete_webhook(row: Existing, rooms: Rooms, caller: Known) -> None:
    """Tell it nothing more, not even what was to be told, and forget what was."""
    await _audit(rooms, caller, "webhook.deleted", row.id)
    await rooms.webhooks.webhooks.remove(row.id)


@router.post("/{webhook_id}/rotate", responses=documented(404, 409, 422))
async def rotate_webhook(row: Existing, rooms: Rooms, caller: Known, given: Rotation | None = None) -> WebhookWithSecret:
    """A new secret, which signs from now on. For `overlap_s` those before it sign as well, so that a receiver may change at any moment."""
    secret = new_secret()
    overlap, line = timedelta(seconds=(given or Rotation()).overlap_s), audited(caller.tenant, caller.key_id, "webhook.rotated", row.id)
    rotated = await rooms.webhooks.webhooks.rotate(row.id, secret, overlap, line)
    return WebhookWithSecret(**dict(webhook_out(rotated)), secret=secret)


@router.post("/{webhook_id}/test", responses=documented(404, 422))
async def test_webhook(row: Existing, rooms: Rooms, caller: Known) -> DeliveryOut:
    """Tell it a `ping`, now and once, enabled or not; answers with what came back."""
    await _audit(rooms, caller, "webhook.tested", row.id)
    try:
        delivery_id = await rooms.webhooks.ping(row, ping(row.id))
    except IntegrityError as error:
        raise _unknown(row.id) from error
    (shown,) = await _shown([await _found(row.id, delivery_id, rooms)], rooms)
    return shown


@router.get("/{webhook_id}/deliveries", responses=documented(404, 422))
async def list_deliveries(
    request: Request,
    response: Response,
    row: Existing,
    rooms: Rooms,
    cursor: Cursor = None,
    limit: Limit = 25,
    status: Annotated[DeliveryStatus | None, Query(description="Only these.")] = None,
) -> DeliveryPage:
    """What was told or is to be, newest first, with what came of each attempt; for 30 days."""
    before = read_cursor(cursor) if cursor else None
    rows = await rooms.webhooks.deliveries.page(row.id, before=before, limit=limit + 1, status=status)
    following = write_cursor(rows[limit - 1].id) if len(rows) > limit else None
    link_next(request, response, following)
    return DeliveryPage(items=await _shown(rows[:limit], rooms), next=following)


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=documented(404, 422))
async def get_delivery(delivery: Told, rooms: Rooms) -> DeliveryOut:
    """One delivery."""
    (shown,) = await _shown([delivery], rooms)
    return shown


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=documented(404, 422))
async def replay_delivery(delivery: Told, rooms: Rooms, caller: Known) -> DeliveryOut:
    """Tell it again, delivered or not, with the same `webhook-id`; as often as it takes, once more from the first wait on."""
    await _audit(rooms, caller, "webhook.replayed", delivery.webhook_id)
    await rooms.webhooks.deliveries.replay(delivery.id)
    (shown,) = await _shown([await _found(delivery.webhook_id, delivery.id, rooms)], rooms)
    return shown


def webhook_out(row: WebhookRow) -> WebhookOut:
    """A webhook as the wire shows it."""
    base = f"/v1/webhooks/{row.id}"
    return WebhookOut(
        id=row.id,
        url=shown(row.url),
        events=cast(list[EventType], row.events.split()) or None,
        description=row.description,
        created_at=row.created_at,
        enabled=row.disabled is None,
        disabled=row.disabled,
        failing_since=row.failing_since,
        previous_secrets_until=row.previous_until,
        links={"self": base, "deliveries": f"{base}/deliveries", "test": f"{base}/test", "rotate": f"{base}/rotate"},
    )


async def _shown(rows: Sequence[DeliveryRow], rooms: ServiceRooms) -> list[DeliveryOut]:
    attempts = await rooms.webhooks.deliveries.attempts([row.id for row in rows])
    return [_delivery_out(row, attempts.get(row.id, ())) for row in rows]


def _delivery_out(row: DeliveryRow, attempts: Sequence[AttemptRow]) -> DeliveryOut:
    base = f"/v1/webhooks/{row.webhook_id}/deliveries/{row.id}"
    return DeliveryOut.model_validate(
        {
            "id": row.id,
            "event_id": row.event_id,
            "event": row.event,
            "status": row.status,
            "created_at": row.created_at,
            "next_attempt_at": row.due_at if row.status == "pending" else None,
            "attempts": [AttemptOut.model_validate(one, from_attributes=True) for one in attempts],
            "links": {"self": base, "replay": f"{base}/replay"},
        }
    )


async def _found(webhook_id: str, delivery_id: str, rooms: ServiceRooms) -> DeliveryRow:
    delivery = await rooms.webhooks.deliveries.get(webhook_id, delivery_id)
    if delivery is None:
        raise UnknownDelivery(f"The webhook has no delivery {delivery_id}.", expected="the id of a delivery that is kept", got=delivery_id)
    return delivery


async def _audit(rooms: ServiceRooms, caller: Caller, action: Action, webhook_id: str) -> None:
    await rooms.audit.write(caller.tenant, caller.key_id, action, webhook_id)


def _events(given: Sequence[EventType] | None) -> str:
    return " ".join(dict.fromkeys(given or ()))


def _unknown(webhook_id: str) -> UnknownWebhook:
    return UnknownWebhook(f"No webhook has the id {webhook_id}.", expected="the id of a webhook that was not deleted", got=webhook_id)
