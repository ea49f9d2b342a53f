"""What threshold would give the wanted false-positive rate on what a tenant's people reviewed. The router of `/v1/reviews/thresholds`.

A proposal changes nothing: `thresholds.py` puts one in force, once a lead has confirmed it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from service.auth import Known
from service.problems import documented
from service.quality import EARLIEST, LATEST, BadPeriod, ShareOut
from service.review_thresholds import Proposal
from service.rooms import Rooms
from service.schemas import Wire
from service.thresholds import shown


class LeftOutOut(Wire):
    """Final decisions that say nothing about a threshold of the present calibration."""

    unsure: int
    incomparable: int = Field(description="Of results by another calibration, or from before it was noted how far they reach.")
    not_judged: int = Field(description="There was nothing to judge, so that no threshold accuses them.")
    repeated: int = Field(description="The same bytes as another one that is counted.")


class EffectOut(Wire):
    """What one threshold does to what was reviewed."""

    threshold: float
    false_positives: ShareOut = Field(description="Of what people call genuine: called manipulated.")
    misses: ShareOut = Field(description="Of what people call manipulated: not called so.")


class PointOut(Wire):
    """The same in counts, to be drawn."""

    threshold: float
    false_positives: int
    misses: int


class ProposalOut(Wire):
    """A threshold for the wanted rate, and what it rests on. It is of what was reviewed, which nobody drew at random."""

    calibration_id: str = Field(description="Of the weights that judge now; only their results are counted.")
    since: datetime | None
    fpr: float
    genuine: int
    manipulated: int
    left_out: LeftOutOut
    needed: int = Field(description="Genuine videos without which the wanted rate cannot be shown: about 3 / fpr, the rule of three.")
    present_version: int
    present: EffectOut
    proposed: EffectOut | None
    reason: str | None = Field(description="Why nothing is proposed.")
    curve: list[PointOut] = Field(description="At equal steps of log-odds.")


router = APIRouter(prefix="/v1/reviews/thresholds", tags=["reviews"])


@router.get("", responses=documented(422))
async def get_threshold_proposal(
    rooms: Rooms,
    caller: Known,
    fpr: Annotated[float, Query(ge=0.0001, le=0.5, allow_inf_nan=False, description="The false-positive rate that is wanted.")] = 0.01,
    since: Annotated[AwareDatetime | None, Query(description="Only what was decided from then on, with an offset; else all.")] = None,
) -> ProposalOut:
    """Which threshold would accuse no more than `fpr` of what was reviewed as genuine, and what it and the present one get wrong."""
    if since is not None and not EARLIEST <= since <= LATEST:
        raise BadPeriod("The period cannot be counted.", expected="since between 2000 and 2200", got=since.isoformat())
    calibration_id = rooms.engines.model.info.calibration_id
    present = shown(await rooms.thresholds.in_force(caller.tenant, calibration_id), rooms)
    found = await rooms.review_thresholds.of(caller.tenant, calibration_id, present.threshold, fpr, since)
    numbers = {name: getattr(found, name) for name in ProposalOut.model_fields if hasattr(found, name)}
    told = {"calibration_id": calibration_id, "since": since, "fpr": fpr, "present_version": present.version, "reason": _reason(found, fpr)}
    return ProposalOut.model_validate({**numbers, **told}, from_attributes=True)


def _reason(found: Proposal, fpr: float) -> str | None:
    match found.why_not:
        case "too_few":
            return (
                f"{found.genuine} genuine videos are too few to show a rate of {fpr:.4g}: that takes {found.needed}, of which none is "
                "accused (95 % confidence; the rule of three)."
            )
        case "nothing_above":
            return "More genuine videos than that have a score of almost 1, and no threshold lies above it."
        case None:
            return None
