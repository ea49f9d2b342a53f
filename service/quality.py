"""Quality for the lead: a period comes in, how well and how fast its tenant's reviewers and the service decided goes out.

The router of `/v1/reviews/quality`; what is counted, and how, stands in `review_quality.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from service.auth import Known
from service.database import now
from service.problems import ServiceError, documented
from service.rooms import Rooms
from service.schemas import Wire

USUAL: Final = timedelta(days=28)
LONGEST: Final = timedelta(days=366)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Nothing of ours is older, and the period before must be a date as well."""
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class BadPeriod(ServiceError):
    slug = "bad-period"
    title = "That is no period that can be counted"
    status = 422


class ShareOut(Wire):
    """A share with its 95 % Wilson interval; null where n is 0."""

    k: int
    n: int
    share: float | None
    low: float | None
    high: float | None


class TimesOut(Wire):
    """Durations; median and 90th percentile are values that occurred (nearest rank)."""

    n: int
    median_s: float | None
    p90_s: float | None


class DayOut(Wire):
    """What happened on one day of UTC; days without anything are left out."""

    day: str
    decided: int
    skipped: int


class AgreementOut(Wire):
    """Of blind pairs."""

    same: ShareOut
    kappa: float | None = Field(description="Cohen's kappa over the three words; null: it is not defined.")


class RulingsOut(Wire):
    """What leads decided."""

    disputes: int = Field(description="Two reviewers had disagreed.")
    overturned: ShareOut = Field(description="Of rulings on what stood already: given another word.")


class DriftOut(Wire):
    """Scores of what ended in the period, against the period of the same length before it."""

    n: int
    n_before: int
    histogram: list[int] = Field(description="Bins of equal width over 0 to 1.")
    histogram_before: list[int]
    psi: float | None = Field(description="Population stability index over these bins (half a count added to each).")
    by_chance: float | None = Field(description="What the index stays below in 95 of 100 periods without any drift, by these n.")


class QualityOut(Wire):
    """How reviewing went. What people say counts once it stands; `unsure` counts as neither right nor wrong."""

    since: datetime
    until: datetime
    days: list[DayOut]
    to_decision: TimesOut = Field(description="From the end of an analysis to its first decision.")
    open: TimesOut = Field(description="How long reviewers had it open, of each decision.")
    agreement: AgreementOut
    rulings: RulingsOut
    skips: dict[str, int] = Field(description="By reason.")
    false_positives: ShareOut = Field(description="Of what the service called manipulated and people know: genuine.")
    false_negatives: ShareOut = Field(description="Of what the service found no evidence in and people know: manipulated.")
    drift: DriftOut


router = APIRouter(prefix="/v1/reviews", tags=["reviews"])


@router.get("/quality", responses=documented(422))
async def get_quality(
    rooms: Rooms,
    caller: Known,
    since: Annotated[AwareDatetime | None, Query(description="With an offset; else 28 days before `until`.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Up to, without; else now.")] = None,
) -> QualityOut:
    """What a lead watches, of at most 366 days. It is of what was reviewed, which nobody drew at random."""
    end = until or now()
    if not EARLIEST <= end <= LATEST or (since is not None and not end - LONGEST <= since < end):
        got = f"{'none' if since is None else since.isoformat()} to {end.isoformat()}"
        raise BadPeriod("The period cannot be counted.", expected="since before until, at most 366 days apart", got=got)
    begin = since or end - USUAL
    found = await rooms.quality.of(caller.tenant, begin, end)
    numbers = {name: getattr(found, name) for name in QualityOut.model_fields if hasattr(found, name)}
    return QualityOut.model_validate({"since": begin, "until": end, **numbers}, from_attributes=True)
