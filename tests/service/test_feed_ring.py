"""Many watchers of one feed: the same events for all, in order; who is slow loses scores and nothing else, and hears of what is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from service.database import now
from service.feed_ring import LASTING, PASSING, FeedRing, Told
from service.feed_wire import FeedState, FeedStateEvent
from service.outbox import CALM
from service.schemas import Moment
from service.stream_wire import DropEvent, LatencyStages, ScoreEvent

STAGES = LatencyStages(decode_s=0.0, wait_s=0.0, look_s=0.1)


def score(t: float = 0.0) -> ScoreEvent:
    at = Moment(t=t, pts=0, time_base=(1, 1000))
    return ScoreEvent(session_id="s", at=at, stamp=0, provenance="rtp", p=None, faces=[], latency_s=0.1, stages=STAGES, judged_at=0.0)


def drop() -> DropEvent:
    return DropEvent(session_id="s", cause="overtaken", n=1)


def state(name: FeedState = "running") -> FeedStateEvent:
    return FeedStateEvent(session_id="s", state=name, since=now())


async def taken(follower: AsyncIterator[Told], n: int) -> list[Told]:
    async with asyncio.timeout(60):
        return [await anext(follower) for _ in range(n)]


async def rest(ring: FeedRing, last: int | None) -> list[Told]:
    """Everything that a watcher hears of a ring that was closed."""
    async with aclosing(ring.follow(last)) as follower:
        return [told async for told in follower]


async def test_a_fast_watcher_hears_everything_in_order() -> None:
    ring = FeedRing(100)
    ring.put(state())
    async with aclosing(ring.follow(None)) as follower:
        (first,) = await taken(follower, 1)
        assert (first.kind, first.seq) == ("state", 101)
        for event in (score(), drop(), score()):
            ring.put(event)
        told = await taken(follower, 3)
    assert [(one.seq, one.kind, json.loads(one.data)["event_seq"]) for one in told] == [
        (102, "score", 102),
        (103, "drop", 103),
        (104, "score", 104),
    ]


async def test_a_slow_watcher_gets_the_newest_score_and_all_the_rest() -> None:
    ring = FeedRing(0)
    ring.put(state())
    async with aclosing(ring.follow(None)) as follower:
        await taken(follower, 1)
        ring.put(score())
        await taken(follower, 1)
        for n in range(300):
            ring.put(score(float(n)))
            if n % 100 == 0:
                ring.put(drop())
        ring.close()
        told = [one async for one in follower]
    assert [one.kind for one in told] == ["drop", "drop", "drop", "score"]
    newest = json.loads(told[-1].data)
    assert (newest["at"]["t"], newest["stands_for"], newest["event_seq"]) == (299.0, 300, ring.seq)


async def test_after_a_long_stall_the_newest_score_stands_for_all_that_passed() -> None:
    ring = FeedRing(0)
    ring.put(state())
    async with aclosing(ring.follow(None)) as follower:
        await taken(follower, 1)
        for n in range(PASSING + 100):
            ring.put(score(float(n)))
        ring.close()
        (newest,) = [json.loads(one.data) async for one in follower]
    assert newest["stands_for"] == PASSING + 100


async def test_who_comes_back_hears_what_was_kept() -> None:
    ring = FeedRing(0)
    for n in range(CALM + 20):
        ring.put(score(float(n)))
    ring.close()
    assert [one.seq for one in await rest(ring, 10)] == list(range(11, CALM + 21))


async def test_what_is_gone_is_told() -> None:
    ring = FeedRing(50)
    ring.put(state())
    for _ in range(LASTING + 5):
        ring.put(drop())
    ring.close()
    told = await rest(ring, 40)
    missed = json.loads(told[0].data)
    assert (missed["type"], missed["after"], missed["until"]) == ("missed", 40, 56)
    assert [one.kind for one in told[1:2]] == ["state"], "the present state, whenever it was told"
    assert [one.seq for one in told[2:]] == list(range(57, 50 + LASTING + 7))


async def test_a_number_that_was_never_told_begins_with_the_present() -> None:
    ring = FeedRing(0)
    ring.put(state("connecting"))
    ring.put(state("running"))
    ring.close()
    for last in (None, 77):
        (only,) = await rest(ring, last)
        assert json.loads(only.data)["state"] == "running" and only.seq == 2


@given(st.lists(st.sampled_from(["score", "drop", "read"]), max_size=200), st.integers(0, 2**40))
def test_nothing_that_may_not_be_lost_is_lost_and_every_score_is_counted(steps: list[str], base: int) -> None:
    async def run() -> None:
        ring = FeedRing(base)
        heard: list[Told] = []
        async with aclosing(ring.follow(None)) as follower:
            waiting = asyncio.create_task(anext(follower, None))
            await asyncio.sleep(0)
            for step in steps:
                if step == "read":
                    for _ in range(4):
                        await asyncio.sleep(0)
                        if waiting.done() and (told := waiting.result()) is not None:
                            heard.append(told)
                            waiting = asyncio.create_task(anext(follower, None))
                else:
                    ring.put(score() if step == "score" else drop())
            ring.close()
            while (told := await waiting) is not None:
                heard.append(told)
                waiting = asyncio.create_task(anext(follower, None))
        numbers = [told.seq for told in heard]
        assert numbers == sorted(set(numbers))
        assert sum(told.kind == "drop" for told in heard) == steps.count("drop")
        assert sum(json.loads(told.data)["stands_for"] for told in heard if told.kind == "score") == steps.count("score")

    assert len(steps) < PASSING
    asyncio.run(run())
