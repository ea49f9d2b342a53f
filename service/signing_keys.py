"""Public keys of evidence packs: nothing comes in, all keys that sign or signed go out. The router of `/v1/signing-keys`, open to all."""

from __future__ import annotations

from fastapi import APIRouter

from service.pack_wire import SigningKeyList, SigningKeyOut
from service.rooms import Rooms

router = APIRouter(prefix="/v1/signing-keys", tags=["evidence"])


@router.get("")
async def list_signing_keys(rooms: Rooms) -> SigningKeyList:
    """Every public key that signs evidence packs of this service or has signed them, the present one first. Needs no API key."""
    return SigningKeyList(
        keys=[
            SigningKeyOut(id=row.id, public_key=row.public_pem, created_at=row.created_at, retired_at=row.retired_at)
            for row in await rooms.signing.all()
        ]
    )
