"""What a threshold would have done to what people reviewed: a tenant and a wanted false-positive rate come in; a proposal, what it and the
present threshold get wrong, and a curve go out, counted by the database. Read by `threshold_proposal.py`.

Only counts and one value leave the database. What people say counts once it stands, and a video once, however often it was uploaded: by
what was said of it last. What was judged by another calibration does not compare, and is counted as left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from models.calibration import log_odds, probability
from service.database import Database
from service.review_quality import SURE, Share, share
from service.review_rows import ReviewItemRow, ReviewRow

CURVE: Final = tuple(probability(quarter / 4) for quarter in range(-28, 29))
"""Thresholds at equal steps of log-odds, from about .001 to .999."""
ABOVE: Final = 0.01
"""Log-odds that a proposal lies above the real video that it is not to accuse: another machine may give it a hair more."""
HIGHEST: Final = probability(12.0)
"""Above it there is no room for a threshold that means anything."""

Why = Literal["too_few", "nothing_above"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Final decisions that say nothing about this threshold."""

    unsure: int
    incomparable: int
    """Of results by other weights, or from before anybody noted how far they reach."""
    not_judged: int
    """There was nothing to judge, so no threshold accuses them."""
    repeated: int
    """The same bytes as another one, decided before it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one threshold does to what was reviewed."""

    threshold: float
    false_positives: Share
    """Of what people call genuine: called manipulated."""
    misses: Share
    """Of what people call manipulated: not called so."""


@dataclass(frozen=True, slots=True)
class Point:
    """The same in counts."""

    threshold: float
    false_positives: int
    misses: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """All of it."""

    genuine: int
    manipulated: int
    left_out: LeftOut
    needed: int
    """So many genuine ones must be reviewed before the wanted rate can be shown."""
    present: Effect
    proposed: Effect | None
    why_not: Why | None
    curve: tuple[Point, ...]


class ReviewThresholds:
    """The reviewed material of one database."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def of(self, tenant: str, calibration_id: str, present: float, fpr: float, since: datetime | None) -> Proposal:
        """For `tenant`, whose threshold is `present` now; of what was decided from `since` on, or ever."""
        return await self._read(lambda session: _proposal(session, _final(tenant, calibration_id, since), present, fpr))


def needed(fpr: float) -> int:
    """How many real videos, none of them accused, show with 95 % confidence that no more than `fpr` are: about 3 / fpr (rule of three)."""
    return math.ceil(math.log(1 - SURE) / math.log1p(-fpr))


def _final(tenant: str, calibration_id: str, since: datetime | None) -> Subquery:
    """Outcome, reach and kind of what stands."""
    later = aliased(ReviewRow)
    superseded = select(later.id).where(later.analysis_id == ReviewRow.analysis_id, later.n > ReviewRow.n, later.decision.is_not(None))
    kind = case(
        (ReviewItemRow.outcome == "unsure", "unsure"),
        (or_(ReviewRow.calibration_id != calibration_id, and_(ReviewRow.reach.is_(None), ReviewRow.p.is_not(None))), "incomparable"),
        (ReviewRow.reach.is_(None), "not_judged"),
        else_="counted",
    )
    query = select(ReviewItemRow.outcome, ReviewRow.reach, ReviewRow.id, ReviewRow.media_sha256, kind.label("kind"))
    query = query.join(ReviewItemRow, ReviewItemRow.analysis_id == ReviewRow.analysis_id)
    query = query.where(ReviewRow.tenant == tenant, ReviewRow.decision.is_not(None), ReviewItemRow.outcome.is_not(None))
    if since is not None:
        query = query.where(ReviewRow.at >= since)
    said = query.where(~superseded.exists()).subquery()
    nth = func.row_number().over(partition_by=(said.c.kind, said.c.media_sha256), order_by=said.c.id.desc())
    ranked = select(said.c.outcome, said.c.reach, said.c.kind, nth.label("nth")).subquery()
    repeated = and_(ranked.c.kind == "counted", ranked.c.nth > 1)
    return select(ranked.c.outcome, ranked.c.reach, case((repeated, "repeated"), else_=ranked.c.kind).label("kind")).subquery()


def _proposal(session: Session, final: Subquery, present: float, fpr: float) -> Proposal:
    found = session.execute(select(final.c.outcome, final.c.kind, func.count()).group_by(final.c.outcome, final.c.kind))
    counts: dict[tuple[str, str], int] = {(outcome, kind): count for outcome, kind, count in found}
    genuine, manipulated = counts.get(("genuine", "counted"), 0), counts.get(("manipulated", "counted"), 0)
    left_out = {kind: sum(n for (_, its), n in counts.items() if its == kind) for kind in LeftOut.__dataclass_fields__}
    proposed, why_not = _proposed(session, final, genuine, fpr)
    marked = [present] if proposed is None else [present, proposed]
    points = _points(session, final, manipulated, (*CURVE, *marked))
    effects = [
        Effect(point.threshold, share(point.false_positives, genuine), share(point.misses, manipulated)) for point in points[len(CURVE) :]
    ]
    return Proposal(
        genuine=genuine,
        manipulated=manipulated,
        left_out=LeftOut(**left_out),
        needed=needed(fpr),
        present=effects[0],
        proposed=effects[1] if proposed is not None else None,
        why_not=why_not,
        curve=points[: len(CURVE)],
    )


def _proposed(session: Session, final: Subquery, genuine: int, fpr: float) -> tuple[float | None, Why | None]:
    """The lowest threshold that accuses no more than that share of the genuine ones."""
    if genuine < needed(fpr):
        return None, "too_few"
    accused = math.floor(fpr * genuine + 1e-9)  # .07 of 100 is 7, whatever its last bit
    mine = select(final.c.reach).where(final.c.outcome == "genuine", final.c.kind == "counted").order_by(final.c.reach.desc())
    spared = session.scalar(mine.offset(accused).limit(1))
    assert spared is not None, "fpr is below 1, so one of the genuine is to be spared"
    if spared >= HIGHEST:
        return None, "nothing_above"
    return probability(log_odds(max(spared, 1 - HIGHEST)) + ABOVE), None


def _points(session: Session, final: Subquery, manipulated: int, thresholds: tuple[float, ...]) -> tuple[Point, ...]:
    def accused(outcome: str, threshold: float) -> ColumnElement[int]:
        return func.count(case((and_(final.c.outcome == outcome, final.c.reach >= threshold), 1)))

    columns = [accused(outcome, threshold) for threshold in thresholds for outcome in ("genuine", "manipulated")]
    told = session.execute(select(*columns).where(final.c.kind == "counted")).one()
    return tuple(Point(threshold, told[2 * n], manipulated - told[2 * n + 1]) for n, threshold in enumerate(thresholds))
