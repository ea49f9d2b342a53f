"""Thresholds: a lead confirms one, and what begins from then on is judged by it. The router of `/v1/thresholds`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field, model_validator

from service.auth import Known
from service.cursors import read_place, write_place
from service.etags import must_have_read, tagged
from service.problems import documented
from service.review_wire import Note
from service.reviewer import Reviewing
from service.rooms import Rooms, ServiceRooms
from service.schemas import Wire
from service.threshold_rows import SHIPPED, Choice, Threshold, ThresholdChanged

ORDER: Final = "thresholds"


class NewThreshold(Wire):
    """What is to be in force."""

    threshold: float | None = Field(
        gt=0, lt=1, strict=True, allow_inf_nan=False, description="Probability from which on a video counts as manipulated; null: shipped."
    )
    target_fpr: float | None = Field(
        default=None, gt=0, le=0.5, strict=True, allow_inf_nan=False, description="For which false-positive rate it was chosen."
    )
    note: Annotated[Note, Field(pattern=r"\S")] = Field(description="Why: plain text.")

    @model_validator(mode="after")
    def _both(self) -> NewThreshold:
        if (self.threshold is None) != (self.target_fpr is None):
            raise ValueError("expected `target_fpr` beside a `threshold`, and none beside null")
        return self


class ThresholdOut(Wire):
    """One version of a tenant's threshold."""

    version: int = Field(description="0: the one that the weights came with.")
    calibration_id: str = Field(description="Of the weights that it is for; with others, theirs is in force.")
    shipped: bool = Field(description="Whether it is, or is again, the one that the weights came with.")
    threshold: float = Field(description="Probability from which on a video counts as manipulated.")
    target_fpr: float = Field(description="The false-positive rate that it was chosen for.")
    note: str | None = Field(description="Null: shipped.")
    at: datetime | None = Field(description="Null: shipped.")
    author: str | None = Field(description="Null: shipped.")


class ThresholdPage(Wire):
    """One page of versions, newest first, the shipped one last; `next` is the cursor of the following page, null at the end."""

    items: list[ThresholdOut]
    next: str | None


router = APIRouter(prefix="/v1/thresholds", tags=["reviews"])


@router.get("", response_model=ThresholdOut, responses=documented(422, also={304: {"description": "Unchanged since that ETag."}}))
async def get_threshold(
    rooms: Rooms, caller: Known, if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None
) -> Response:
    """By which what begins now is judged."""
    return tagged(_body(await _in_force(rooms, caller.tenant), rooms), "application/json", if_none_match)


@router.get("/versions", responses=documented(422))
async def list_thresholds(
    rooms: Rooms,
    caller: Known,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> ThresholdPage:
    """Every version for the weights that judge now, with who confirmed it and when. None is ever changed."""
    before = None if cursor is None else int(read_place(cursor, ORDER, (int,))[0])
    calibration_id = rooms.engines.model.info.calibration_id
    found = list(await rooms.thresholds.page(caller.tenant, calibration_id, before=before, limit=limit + 1))
    if len(found) <= limit and before != SHIPPED.version:
        found.append(SHIPPED)
    following = write_place(ORDER, [found[limit - 1].version]) if len(found) > limit else None
    return ThresholdPage(items=[shown(one, rooms) for one in found[:limit]], next=following)


@router.put("", response_model=ThresholdOut, responses=documented(412, 422, 428))
async def put_threshold(
    given: NewThreshold,
    rooms: Rooms,
    caller: Known,
    reviewer: Reviewing,
    if_match: Annotated[str | None, Header(description="The ETag of the one in force.")] = None,
) -> Response:
    """Put another version in force; for leads. What has begun by then is judged by the one before; scores are the same by any."""
    caller.check("reviews:lead")
    current = await _in_force(rooms, caller.tenant)
    must_have_read(if_match, _body(current, rooms), "/v1/thresholds", current.version, ThresholdChanged)
    choice = None if given.threshold is None or given.target_fpr is None else Choice(given.threshold, given.target_fpr)
    calibration_id = rooms.engines.model.info.calibration_id
    kept = await rooms.thresholds.write(caller.tenant, calibration_id, reviewer, choice, given.note, after=current.version)
    return tagged(_body(kept, rooms), "application/json", None)


def shown(one: Threshold, rooms: ServiceRooms) -> ThresholdOut:
    """A version as the wire shows it."""
    model = rooms.engines.model
    shipped = model.calibrator.shipped
    return ThresholdOut(
        version=one.version,
        calibration_id=model.info.calibration_id,
        shipped=one.choice is None,
        threshold=shipped.p if one.choice is None else one.choice.threshold,
        target_fpr=shipped.target_fpr if one.choice is None else one.choice.target_fpr,
        note=one.note,
        at=one.at,
        author=one.author,
    )


async def _in_force(rooms: ServiceRooms, tenant: str) -> Threshold:
    return await rooms.thresholds.in_force(tenant, rooms.engines.model.info.calibration_id)


def _body(one: Threshold, rooms: ServiceRooms) -> bytes:
    return shown(one, rooms).model_dump_json().encode()
