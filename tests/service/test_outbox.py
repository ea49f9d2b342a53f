"""The queue to one client, whatever is told and however it reads: numbered without a hole, bounded, and nothing lost that counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.outbox import CALM, KEEP_S, MAX_BYTES, MAX_EVENTS, Missed, Outbox, SlowReader
from service.schemas import Moment
from service.stream_wire import Allowance, Credit, DropEvent, ErrorEvent, Event, GapEvent, LatencyStages, ScoreEvent, Stats
from tests.pipelines.test_load import Clock


def moment(n: int) -> Moment:
    return Moment(t=n / 1000, pts=n, time_base=(1, 1000))


def score(n: int) -> ScoreEvent:
    stages = LatencyStages(decode_s=0, wait_s=0, look_s=0.1)
    return ScoreEvent(
        session_id="s", at=moment(n), stamp=n, provenance="client", p=None, faces=[], latency_s=0.1, stages=stages, judged_at=n
    )


def drop(n: int) -> DropEvent:
    return DropEvent(session_id="s", cause="undecodable", n=n + 1)


def gap(n: int) -> GapEvent:
    return GapEvent(session_id="s", cause="missing", start=moment(n), end=moment(n + 1), seconds=0.001)


def error(n: int) -> ErrorEvent:
    return ErrorEvent(session_id="s", code=str(n), title="x", detail="x" * (n % 50), retryable=False)


def credit(n: int) -> Credit:
    return Credit(session_id="s", credit=Allowance(media=n, bytes=n), received=Allowance(media=n, bytes=n))


def stats(n: int) -> Stats:
    nothing = Allowance(media=n, bytes=0)
    return Stats(
        session_id="s",
        received=nothing,
        waiting_bytes=0,
        offered=0,
        looked_at=0,
        overtaken=0,
        shed=0,
        nets_failed=0,
        hz=12.0,
        latency_p95_s=None,
        events_waiting=0,
    )


MAKERS = {"score": score, "drop": drop, "gap": gap, "error": error, "credit": credit, "stats": stats}


def identity(event: dict[str, Any]) -> tuple[str, object]:
    match event["type"]:
        case "score":
            return "score", event["at"]["pts"]
        case "drop":
            return "drop", event["n"] - 1
        case "gap":
            return "gap", event["start"]["pts"]
        case "error":
            return "error", int(event["code"])
        case "credit":
            return "credit", event["credit"]["media"]
        case other:
            return other, event["received"]["media"]


class Reading(RuleBasedStateMachine):
    """A session that tells, a client that reads, loses its connection and comes back, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.outbox = Outbox(now=self.clock)
        self.n = 0
        self.put: list[tuple[str, int]] = []
        self.sent: list[dict[str, Any]] = []
        """What left, once each: what the client has after any resume."""
        self.heard = 0
        """The client's last event."""
        self.acked = 0

    @rule(kind=st.sampled_from(sorted(MAKERS)), many=st.integers(1, 90))
    def tell(self, kind: str, many: int) -> None:
        for _ in range(many):
            self.n += 1
            event: Event = MAKERS[kind](self.n)
            try:
                self.outbox.put(event)
            except SlowReader:
                assert len(self.outbox) >= MAX_EVENTS - 8 or self.outbox.waiting_bytes > MAX_BYTES - 2**18
                return
            self.put.append((kind, self.n))

    @rule(many=st.integers(1, 120), arrives=st.booleans())
    def read(self, many: int, arrives: bool) -> None:
        for _ in range(many):
            message = self.outbox.take()
            if message is None:
                assert not len(self.outbox)
                return
            event = json.loads(message)
            number = event["event_seq"]
            if number == len(self.sent) + 1:
                self.sent.append(event)
            assert event == self.sent[number - 1], "told again, it says the same"
            if arrives and number == self.heard + 1:
                self.heard = number

    @rule()
    def come_back(self) -> None:
        assert self.outbox.again_from(self.heard) == self.heard + 1

    @precondition(lambda self: self.heard > self.acked)
    @rule()
    def ack(self) -> None:
        self.outbox.ack(self.heard)
        self.acked = self.heard

    @invariant()
    def numbers_have_no_hole(self) -> None:
        assert [event["event_seq"] for event in self.sent] == list(range(1, len(self.sent) + 1))

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.outbox._waiting) <= MAX_EVENTS and self.outbox.waiting_bytes <= MAX_BYTES
        assert self.outbox.waiting_bytes == sum(one.size for one in self.outbox._waiting)

    def teardown(self) -> None:
        """Read all that is left: whatever counts has come, once, in the order in which it was told."""
        self.outbox.again_from(self.heard)
        self.read(10**9, True)
        came = [identity(event) for event in self.sent]
        assert self.heard == len(self.sent)
        for kept in ("drop", "gap", "error"):
            assert [one for one in came if one[0] == kept] == [one for one in self.put if one[0] == kept]
        order = {one: at for at, one in enumerate(self.put)}
        lasting = [order[one] for one in came]  # type: ignore[index]
        assert lasting == sorted(lasting) and len(set(lasting)) == len(lasting)
        for newest in ("score", "credit", "stats"):
            told = [one for one in self.put if one[0] == newest]
            assert not told or told[-1] in came
        assert sum(event["stands_for"] for event in self.sent if event["type"] == "score") == sum(kind == "score" for kind, _ in self.put)


TestReading = Reading.TestCase


def take_all(outbox: Outbox) -> list[dict[str, Any]]:
    taken = []
    while (message := outbox.take()) is not None:
        taken.append(json.loads(message))
    return taken


def test_a_client_that_keeps_up_gets_every_score() -> None:
    outbox = Outbox()
    for n in range(CALM):
        outbox.put(score(n))
    assert [event["stands_for"] for event in take_all(outbox)] == [1] * CALM and outbox.left_out == 0


def test_one_that_falls_behind_gets_the_newest_and_learns_for_how_many_it_stands() -> None:
    outbox = Outbox()
    for n in range(CALM + 100):
        outbox.put(score(n))
        outbox.put(gap(n))
    came = take_all(outbox)
    scores = [event for event in came if event["type"] == "score"]
    assert scores[-1]["at"]["pts"] == CALM + 99 and sum(event["stands_for"] for event in scores) == CALM + 100
    assert outbox.left_out == CALM + 100 - len(scores) > 0
    assert sum(event["type"] == "gap" for event in came) == CALM + 100


def test_what_may_not_be_lost_is_refused_loudly_when_there_is_no_room_and_the_end_still_has_some() -> None:
    outbox = Outbox()
    with pytest.raises(SlowReader, match="may not be lost have no room"):
        for n in range(MAX_EVENTS + 1):
            outbox.put(drop(n))
    outbox.put(error(1))
    came = take_all(outbox)
    assert [event["n"] for event in came[:-1]] == list(range(1, len(came))) and came[-1]["type"] == "error"


def test_the_last_minute_is_kept_and_what_is_gone_is_counted() -> None:
    clock = Clock()
    outbox = Outbox(now=clock)
    for n in range(10):
        outbox.put(drop(n))
    take_all(outbox)
    clock.s += KEEP_S - 1
    outbox.put(drop(10))
    take_all(outbox)
    assert outbox.again_from(4) == 5 and [event["event_seq"] for event in take_all(outbox)] == [5, 6, 7, 8, 9, 10, 11]
    clock.s += 2
    with pytest.raises(Missed) as gone:
        outbox.again_from(4)
    assert gone.value.n == 6
    with pytest.raises(Missed, match="got 12"):
        outbox.again_from(12)
    assert outbox.again_from(10) == 11


def test_a_client_is_stuck_when_something_waits_and_nothing_moves() -> None:
    clock = Clock()
    outbox = Outbox(now=clock)
    clock.s += 100
    outbox.put(drop(1))
    assert outbox.stuck_s == 0, "it waits from now on"
    clock.s += 10
    assert outbox.stuck_s == 10
    outbox.take()
    assert outbox.stuck_s == 0
    for _ in range(3):
        outbox.put(MAKERS["stats"](0))
        clock.s += 2
    assert outbox.stuck_s == 6, "a newer one in the place of what waits moves nothing"


@given(st.lists(st.sampled_from(["credit", "stats"]), min_size=1, max_size=300))
def test_of_what_the_newest_says_all_of_there_is_one(kinds: list[str]) -> None:
    outbox = Outbox()
    for n, kind in enumerate(kinds):
        outbox.put(MAKERS[kind](n))
    assert len(outbox) == len(set(kinds))
