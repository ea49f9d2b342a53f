"""Quality of reviews: a tenant and a period come in, what its lead watches goes out, counted by the database. Read by `quality.py`.

Only counts and single values leave the database, so memory does not grow with what was reviewed. A period is from `since` up to, without,
`until`. No number tells a decision that awaits a second reviewer: what people say counts once it stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from scipy.special import chdtri, ndtri  # scipy.stats takes every command half a second to import
from sqlalchemy import ColumnElement, Select, and_, case, func, select
from sqlalchemy.orm import Session, aliased

from service.database import AnalysisRow, Database
from service.review_rows import ReviewItemRow, ReviewRow

BINS: Final = 10
"""Of equal width over 0 to 1."""
SURE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """`k` of `n`, with its 95 % Wilson interval; nothing of nothing is no number."""

    k: int
    n: int
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """Of `n` durations: values that occurred (nearest rank)."""

    n: int
    median_s: float | None
    p90_s: float | None


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on one day of UTC."""

    day: str
    decided: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two reviewers, the second of whom did not know the first's word."""

    same: Share
    kappa: float | None
    """Cohen's, over three words; None: chance alone would agree always."""


@dataclass(frozen=True, slots=True)
class Rulings:
    """What leads decided."""

    disputes: int
    """Two reviewers had disagreed."""
    overturned: Share
    """Of what stood already: given another word."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Scores of analyses that ended in the period, against those of the period of the same length before it."""

    n: int
    n_before: int
    histogram: tuple[int, ...]
    histogram_before: tuple[int, ...]
    psi: float | None
    """Population stability index over these bins, each counted half a time more than it was, so that an empty one is no infinity."""
    by_chance: float | None
    """What chance alone stays below in 95 of 100 periods: with few scores the index is large without any drift."""


@dataclass(frozen=True, slots=True)
class Quality:
    """All of it."""

    days: tuple[Day, ...]
    to_decision: Times
    """From the end of an analysis to the first decision."""
    open: Times
    """How long reviewers had it open, of each decision."""
    agreement: Agreement
    rulings: Rulings
    skips: Mapping[str, int]
    false_positives: Share
    """Of what the service called manipulated: people say genuine. Unsure counts as neither."""
    false_negatives: Share
    """Of what the service found no evidence in: people say manipulated."""
    drift: Drift


class ReviewQuality:
    """The numbers of one database."""

    def __init__(self, database: Database) -> None:
        self._read = database.read

    async def of(self, tenant: str, since: datetime, until: datetime) -> Quality:
        """Those of `tenant`, counted now."""
        return await self._read(lambda session: _quality(session, tenant, since, until))


def share(k: int, n: int) -> Share:
    """`k` of `n`, with Wilson's interval (Wilson 1927, "Probable inference")."""
    if n == 0:
        return Share(k, n, None, None, None)
    z = float(ndtri((1 + SURE) / 2))
    middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return Share(k, n, k / n, max(0.0, middle - half) / (n + z * z), min(1.0, (middle + half) / (n + z * z)))


def kappa(pairs: Mapping[tuple[str | None, str | None], int]) -> float | None:
    """Cohen's kappa of so many pairs of words."""
    n = sum(pairs.values())
    words = {word for pair in pairs for word in pair}
    if n == 0:
        return None
    by_chance = sum(
        sum(count for (first, _), count in pairs.items() if first == word)
        * sum(count for (_, second), count in pairs.items() if second == word)
        for word in words
    )
    if by_chance == n * n:
        return None
    agreed = sum(count for (first, second), count in pairs.items() if first == second)
    return (agreed * n - by_chance) / (n * n - by_chance)


def psi(here: tuple[int, ...], before: tuple[int, ...]) -> tuple[float | None, float | None]:
    """The population stability index of two histograms, and what chance alone stays below in 95 of 100 (it is about chi-squared then)."""
    n, m, bins = sum(here), sum(before), len(here)
    if not n or not m:
        return None, None
    total = 0.0
    for a, b in zip(here, before, strict=True):
        p, q = (a + 0.5) / (n + bins / 2), (b + 0.5) / (m + bins / 2)
        total += (p - q) * math.log(p / q)
    return total, float(chdtri(bins - 1, 1 - SURE)) * (1 / n + 1 / m)


def _quality(session: Session, tenant: str, since: datetime, until: datetime) -> Quality:
    mine = and_(ReviewRow.tenant == tenant, ReviewRow.at >= since, ReviewRow.at < until)
    decided, skipped = ReviewRow.decision.is_not(None), ReviewRow.decision.is_(None)
    earlier = aliased(ReviewRow)
    first_word = ~_other(earlier).where(earlier.n < ReviewRow.n, earlier.decision.is_not(None)).exists()
    day = func.date(ReviewRow.at)
    by_day = select(day, func.count(ReviewRow.decision), func.count()).where(mine).group_by(day).order_by(day)
    skips = select(ReviewRow.reason, func.count()).where(mine, skipped).group_by(ReviewRow.reason).order_by(ReviewRow.reason)
    said = _outcomes(session, mine)
    return Quality(
        days=tuple(Day(str(name), some, every - some) for name, some, every in session.execute(by_day)),
        to_decision=_times(session, select(ReviewRow.waited_s).where(mine, decided, first_word)),
        open=_times(session, select(ReviewRow.open_s).where(mine, decided)),
        agreement=_agreement(session, mine),
        rulings=_rulings(session, mine),
        skips={reason: count for reason, count in session.execute(skips)},
        false_positives=_wrong(said, "manipulated", "genuine"),
        false_negatives=_wrong(said, "no_evidence", "manipulated"),
        drift=_drift(session, tenant, since, until),
    )


def _other(row: type[ReviewRow]) -> Select[Any]:
    """Another review of the same analysis."""
    return select(row.id).where(row.analysis_id == ReviewRow.analysis_id)


def _times(session: Session, query: Select[Any]) -> Times:
    n = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    if n == 0:
        return Times(0, None, None)
    (value,) = query.selected_columns
    ranked = query.order_by(value).limit(1)
    return Times(n, *(session.scalar(ranked.offset(math.ceil(n * percent / 100) - 1)) for percent in (50, 90)))


def _agreement(session: Session, mine: ColumnElement[bool]) -> Agreement:
    """A second word against the last one that its author's predecessor gave; nobody speaks first after it."""
    first, later = aliased(ReviewRow), aliased(ReviewRow)
    corrected = select(later.id).where(later.analysis_id == first.analysis_id, later.role == "first", later.n > first.n).exists()
    query = select(first.decision, ReviewRow.decision, func.count()).select_from(ReviewRow)
    query = query.join(first, and_(first.analysis_id == ReviewRow.analysis_id, first.role == "first", ~corrected))
    query = query.where(mine, ReviewRow.role == "second").group_by(first.decision, ReviewRow.decision)
    pairs: dict[tuple[str | None, str | None], int] = {(one, other): count for one, other, count in session.execute(query)}
    agreed = sum(count for (one, other), count in pairs.items() if one == other)
    return Agreement(share(agreed, sum(pairs.values())), kappa(pairs))


def _rulings(session: Session, mine: ColumnElement[bool]) -> Rulings:
    """A ruling on two words that differ resolves; any other one confirms or overturns the word before it."""
    before, between, first, later = (aliased(ReviewRow) for _ in range(4))
    nearer = select(between.id).where(between.analysis_id == before.analysis_id, between.decision.is_not(None))
    nearer = nearer.where(between.n > before.n, between.n < ReviewRow.n)
    corrected = select(later.id).where(later.analysis_id == first.analysis_id, later.role == "first", later.n > first.n).exists()
    query = select(before.role, first.decision, before.decision, ReviewRow.decision, func.count()).select_from(ReviewRow)
    last = and_(before.analysis_id == ReviewRow.analysis_id, before.n < ReviewRow.n, before.decision.is_not(None), ~nearer.exists())
    query = query.join(before, last)
    query = query.join(first, and_(first.analysis_id == ReviewRow.analysis_id, first.role == "first", ~corrected))
    query = query.where(mine, ReviewRow.role == "ruling")
    found = session.execute(query.group_by(before.role, first.decision, before.decision, ReviewRow.decision))
    disputes = stood = overturned = 0
    for role, one, other, ruling, count in found:
        if role == "second" and one != other:
            disputes += count
        else:
            stood += count
            overturned += count if other != ruling else 0
    return Rulings(disputes, share(overturned, stood))


def _outcomes(session: Session, mine: ColumnElement[bool]) -> dict[tuple[str, str], int]:
    """What the service said and what stands, of what was decided last in the period."""
    later = aliased(ReviewRow)
    last = ~_other(later).where(later.n > ReviewRow.n, later.decision.is_not(None)).exists()
    query = select(ReviewRow.verdict, ReviewItemRow.outcome, func.count())
    query = query.join(ReviewItemRow, ReviewItemRow.analysis_id == ReviewRow.analysis_id)
    query = query.where(mine, ReviewRow.decision.is_not(None), ReviewItemRow.outcome.is_not(None), last)
    found = session.execute(query.group_by(ReviewRow.verdict, ReviewItemRow.outcome))
    return {(verdict, str(outcome)): count for verdict, outcome, count in found}


def _wrong(said: Mapping[tuple[str, str], int], verdict: str, people: str) -> Share:
    known = {word: said.get((verdict, word), 0) for word in ("genuine", "manipulated")}
    return share(known[people], sum(known.values()))


def _drift(session: Session, tenant: str, since: datetime, until: datetime) -> Drift:
    here = _histogram(session, tenant, since, until)
    before = _histogram(session, tenant, since - (until - since), since)
    index, by_chance = psi(here, before)
    return Drift(sum(here), sum(before), here, before, index, by_chance)


def _histogram(session: Session, tenant: str, since: datetime, until: datetime) -> tuple[int, ...]:
    """Bins by comparison: SQLite cuts a number off where PostgreSQL rounds it."""
    p = AnalysisRow.p
    bins = [and_(p >= n / BINS, p < (n + 1) / BINS if n < BINS - 1 else p <= 1) for n in range(BINS)]
    query = select(*(func.count(case((inside, 1))) for inside in bins))
    query = query.where(AnalysisRow.tenant == tenant, AnalysisRow.status == "succeeded", p.is_not(None))
    query = query.where(AnalysisRow.finished_at >= since, AnalysisRow.finished_at < until)
    return tuple(session.execute(query).one())
