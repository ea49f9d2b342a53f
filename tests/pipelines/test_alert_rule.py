"""Alerts, held against what a list of looks says by itself: irregular times, gaps, looks that were not judged."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.alert_rule import Alert, AlertRule, AlertWatch

Look = tuple[Fraction, dict[int, float | None]]
RULE = AlertRule(threshold=0.8, end_threshold=0.5, min_s=1.0, cooldown_s=5.0)

rules = st.builds(
    lambda high, share, min_s, cooldown_s, unseen_s: AlertRule(high, high * share, min_s, cooldown_s, unseen_s),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    st.sampled_from([0.0, 2.0, 30.0]),
    st.sampled_from([0.5, 2.0]),
)
# Distances of pictures as 90 kHz has them: mostly a camera's, some that are gaps, some longer than a night.
steps = st.one_of(st.integers(1, 20_000), st.integers(1, 500_000), st.integers(1, 10**10))
probabilities = st.one_of(st.none(), st.sampled_from([0.0, 0.2, 0.55, 0.7, 0.85, 0.95, 1.0]))


@st.composite
def streams(draw: st.DrawFn) -> list[Look]:
    t, looks = draw(st.integers(-(10**9), 10**12)), []
    for step in draw(st.lists(steps, max_size=60)):
        t += step
        looks.append((Fraction(t, 90_000), draw(st.dictionaries(st.integers(1, 3), probabilities, max_size=3))))
    return looks


def run(rule: AlertRule, looks: list[Look]) -> list[tuple[Fraction, Alert]]:
    """Every alert that was told, with when."""
    watch, told = AlertWatch(rule), []
    for t, faces in looks:
        told += [(t, alert) for alert in watch.look(t, faces)]
    if looks:
        told += [(looks[-1][0], alert) for alert in watch.stop()]
    return told


def seconds(*ps: float | None, every: float = 0.5, track: int = 1) -> list[Look]:
    return [(Fraction(n) * Fraction(every), {track: p}) for n, p in enumerate(ps)]


@given(rules, streams())
def test_every_alert_is_what_the_looks_say(rule: AlertRule, looks: list[Look]) -> None:
    open_now: dict[int, Alert] = {}
    quiet_until: Fraction | None = None
    for t, alert in run(rule, looks):
        judged = {at: p for at, faces in looks if (p := faces.get(alert.track)) is not None and alert.began <= at <= alert.last}
        assert alert.began in judged and alert.last in judged, "it begins and ends with what was seen"
        assert (alert.peak, judged[alert.peak_at]) == (max(judged.values()),) * 2
        distances = [later - earlier for earlier, later in pairwise(judged)]
        assert alert.longest == max(distances, default=0) <= rule.unseen_s, "no gap was spanned"
        assert min(judged.values()) >= rule.end_threshold
        if alert.ended is None:
            assert alert.track not in open_now and min(judged.values()) >= rule.threshold
            assert t == alert.last and alert.seconds >= rule.min_s
            assert quiet_until is None or t >= quiet_until
            open_now[alert.track] = alert
        else:
            assert open_now.pop(alert.track).began == alert.began, "what ends has begun"
            until = alert.last + Fraction(rule.cooldown_s)
            quiet_until = until if quiet_until is None else max(until, quiet_until)
            if alert.ended == "below":
                after = next(p for at, faces in looks if at > alert.last and (p := faces.get(alert.track)) is not None)
                assert after < rule.end_threshold
    assert open_now == {}, "what begins has an end"


@given(rules, streams())
def test_looks_without_a_judgement_change_nothing(rule: AlertRule, looks: list[Look]) -> None:
    """Null is not 0: leaving it out gives the same alerts."""
    judged: list[Look] = [(t, {track: p for track, p in faces.items() if p is not None}) for t, faces in looks]
    assert run(rule, looks) == run(rule, judged)


@given(rules, streams(), st.integers(1, 10**12))
def test_only_distances_count(rule: AlertRule, looks: list[Look], later: int) -> None:
    moved = run(rule, [(t + later, faces) for t, faces in looks])
    assert [(t, alert.began, alert.ended) for t, alert in run(rule, looks)] == [
        (t - later, alert.began - later, alert.ended) for t, alert in moved
    ]


def test_it_begins_after_so_many_seconds_and_not_so_many_looks() -> None:
    told = run(RULE, seconds(0.9, 0.9, 0.9, 0.9))
    assert [(float(t), float(alert.began), alert.ended) for t, alert in told] == [(1, 0, None), (1.5, 0, "stopped")]
    assert run(RULE, seconds(*[0.9] * 10, every=0.1)) == []


def test_it_ends_at_the_lower_threshold() -> None:
    told = run(RULE, seconds(0.9, 0.9, 0.9, 0.6, 0.5, 0.49, 0.9))
    assert [(float(t), float(alert.last), alert.ended) for t, alert in told] == [(1, 1, None), (2.5, 2, "below")]


def test_a_dip_before_it_begins_starts_the_count_anew() -> None:
    assert [t for t, _ in run(RULE, seconds(0.9, 0.6, 0.9, 0.9, 0.9))] == [2, 2]


def test_nothing_begins_in_the_cool_down_and_what_lasts_begins_after_it() -> None:
    looks = seconds(*[0.9] * 3, 0.1, *[0.9] * 12)
    told = [(float(t), float(alert.began)) for t, alert in run(RULE, looks) if alert.ended is None]
    assert told == [(1, 0), (6, 2)]


def test_a_gap_ends_it_and_a_new_run_begins_behind_the_gap() -> None:
    looks: list[Look] = [*seconds(0.9, 0.9, 0.9), (Fraction(60), {1: 0.9}), (Fraction(61), {1: 0.9})]
    told = [(float(t), float(alert.began), float(alert.last), alert.ended) for t, alert in run(RULE, looks)]
    assert told == [(1, 0, 1, None), (60, 0, 1, "unseen"), (61, 60, 61, None), (61, 60, 61, "stopped")]


def test_a_face_that_is_there_and_not_judged_ends_it_in_time() -> None:
    looks = seconds(0.9, 0.9, 0.9, None, None, None, None, None)
    assert [(t, alert.ended) for t, alert in run(RULE, looks)] == [(1, None), (Fraction(7, 2), "unseen")]


def test_a_break_of_unknown_length_ends_it() -> None:
    watch = AlertWatch(RULE)
    for t, faces in seconds(0.9, 0.9, 0.9):
        watch.look(t, faces)
    assert [alert.track for alert in watch.open] == [1]
    assert [alert.ended for alert in watch.broke()] == ["unseen"]
    assert watch.open == [] and watch.look(Fraction(3, 2), {1: 0.9}) == []


def test_two_faces_alert_side_by_side() -> None:
    looks: list[Look] = [(Fraction(n, 2), {1: 0.9, 2: 0.95}) for n in range(3)]
    assert [(alert.track, alert.ended) for _, alert in run(RULE, looks)] == [(1, None), (2, None), (1, "stopped"), (2, "stopped")]


@pytest.mark.parametrize(
    "wrong", [(0.5, 0.6, 1, 1), (1.1, 0.5, 1, 1), (0.5, 0.0, 1, 1), (0.5, 0.4, -1, 1), (0.5, 0.4, 1, -1), (float("nan"), 0.4, 1, 1)]
)
def test_a_rule_that_contradicts_itself_is_refused(wrong: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        AlertRule(*wrong)
