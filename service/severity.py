"""Severity: a result comes in, a number from 0 to 1 that says which analysis a person should look at first goes out. Kept in its row.

Six tenths are how sure the service is that a face was manipulated: the mean of p and of the low end of its interval, so that of two equal
p the surer one goes first. Three tenths are how much of what was judged lies in segments. The last tenth is what could not be judged: of
two that look alike, the one that hides more is worth a look. Nothing judged counts as sure of nothing.
"""

from __future__ import annotations

from typing import Final, Literal

from service.schemas import AnalysisResult

Level = Literal["low", "medium", "high"]
SURE: Final = 0.6
SPREAD: Final = 0.3
UNSEEN: Final = 0.1
HIGH: Final = 0.6
MEDIUM: Final = 0.3


def severity(result: AnalysisResult) -> float:
    """Of one result; 0 for media without anything to judge."""
    score, coverage = result.score, result.coverage
    if result.verdict == "not_applicable":
        return 0.0
    sure = 0.0 if score.p is None else (score.p + (score.p if score.low is None else score.low)) / 2
    accused_s = sum(segment.end.t - segment.start.t for segment in result.segments)
    spread = min(1.0, accused_s / coverage.judged_s) if coverage.judged_s > 0 else 0.0
    unseen = 1 - min(1.0, coverage.judged_s / coverage.duration_s) if coverage.duration_s > 0 else 1.0
    return SURE * sure + SPREAD * spread + UNSEEN * unseen


def level(value: float) -> Level:
    """The same in a word."""
    return "high" if value >= HIGH else "medium" if value >= MEDIUM else "low"
