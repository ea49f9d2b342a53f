"""The Engine: what a stream gets from it is what it would get alone, whoever else sits there, fails, comes or goes."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from models.encoder import EncoderOutput
from pipelines.analysis import Analysis
from pipelines.engine import Engine, Engines
from pipelines.errors import EngineClosed, ModelFailed, Overloaded
from pipelines.inference import Inference, Look
from pipelines.load import LoadController
from pipelines.media import Frame
from pipelines.model import Model
from pipelines.verdict import Score
from tests.clips import face_frame
from tests.pipelines.test_inference import CROPS, open_to_all, with_eye
from tests.pipelines.test_load import Clock

MS = Fraction(1, 1000)


def frames(phase: float, *, n: int = 14, hz: float = 12) -> list[Frame]:
    return [Frame(face_frame(phase + i / hz), round(1000 * i / hz), MS) for i in range(n)]


def facts(scores: list[Score]) -> list[tuple[object, ...]]:
    return [(score.track, score.pts, score.dt, score.logit, score.p, score.surprise, score.reason) for score in scores]


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[Engine]:
    # A window, so that batches of several streams happen on a CPU too.
    with Engine(model, window_s=0.05) as running:
        yield running


def test_the_scores_of_a_clip_alone_and_among_fifteen_others_are_the_same(model: Model, engine: Engine) -> None:
    alone = Analysis(model)
    for frame in frames(0.0):
        alone.push(frame)

    def judge(stream: int) -> list[Score]:
        with engine.seat() as seat:
            analysis = Analysis(model, seat=seat)
            for frame in frames(0.37 * stream):
                analysis.push(frame)
            return analysis.scores

    with ThreadPoolExecutor(16) as threads:
        scores = list(threads.map(judge, range(16)))
    assert facts(scores[0]) == facts(alone.scores) and any(score.p is not None for score in alone.scores)
    assert engine.counts.largest > 4, "they did share batches"
    assert (engine.counts.seats, engine.counts.memories, engine.counts.failed) == (0, 0, 0)


def test_only_the_guilty_stream_hears_of_its_failure(model: Model) -> None:
    guilty = CROPS[3]

    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        if any(np.array_equal(crop, guilty) for crop in crops):
            raise RuntimeError("a kernel failed")
        return open_to_all(model).eye(crops)

    alone = Inference(open_to_all(model))
    (expected,) = alone.judge([Look(CROPS[0], alone.acquire(), float("inf"))])
    with Engine(with_eye(open_to_all(model), eye), window_s=60) as engine, engine.seat() as one, engine.seat() as two:
        a, b = Look(CROPS[0], one.acquire(), float("inf")), Look(guilty, two.acquire(), float("inf"))
        with ThreadPoolExecutor(2) as threads:
            fine, failed = threads.submit(one.judge, [a]), threads.submit(two.judge, [b])
            with pytest.raises(ModelFailed, match="a kernel failed"):
                failed.result()
            (impression,) = fine.result()
        assert engine.counts.failed == 1 and engine.counts.largest == 2
    assert impression.remembered is not None and expected.remembered is not None
    assert impression.remembered.logit == expected.remembered.logit


def test_a_closed_engine_answers_whoever_waits_and_whoever_comes(model: Model) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        if crops.std() > 0:  # not the warm-up
            entered.set()
            assert go_on.wait(20)
        return model.eye(crops)

    engine = Engine(with_eye(model, eye))
    with engine, ThreadPoolExecutor(3) as threads:
        one, two = engine.seat(), engine.seat()
        running = threads.submit(one.judge, [Look(CROPS[0], one.acquire(), float("inf"))])
        assert entered.wait(20)
        waiting = threads.submit(two.judge, [Look(CROPS[1], two.acquire(), float("inf"))])
        while not engine._waiting:
            time.sleep(0.01)
        closing = threads.submit(engine.close)
        while not engine._closed:
            time.sleep(0.01)
        go_on.set()
        assert len(running.result(20)) == 1, "what it had begun is finished"
        with pytest.raises(EngineClosed, match="Expected a running engine; got one that has ended"):
            waiting.result(20)
        closing.result(20)
        with pytest.raises(EngineClosed):
            one.judge([Look(CROPS[0], 0, 0.1)])
        assert one.judge([]) == []
    assert not engine._thread.is_alive()


def test_seats_are_bounded_and_leaving_gives_all_back(model: Model) -> None:
    with Engine(model, seats=1) as engine:
        seat = engine.seat()
        with pytest.raises(Overloaded, match="Expected fewer than 1 streams; got 1"):
            engine.seat()
        for _ in range(3):
            seat.acquire()
        seat.leave()
        seat.leave()
        assert (engine.counts.seats, engine.counts.memories) == (0, 0)
        engine.seat().leave()


def test_the_door_leads_to_the_emptiest_engine(model: Model) -> None:
    with Engines([model], engines_each=2) as engines:
        seats = [engines.seat() for _ in range(4)]
        assert [count.seats for count in engines.counts] == [2, 2]
        for seat in seats:
            seat.leave()
        assert engines.seated == 0
    with pytest.raises(ValueError, match="expected at least one model"):
        Engines([])


def test_two_devices_are_two_engines_behind_one_door_and_are_swapped_together(model: Model) -> None:
    """Two processors stand for two GPUs; each has nets and memories of its own."""
    alone = Analysis(model)
    for frame in frames(0.0):
        alone.push(frame)
    pair, others = [dataclasses.replace(model) for _ in range(2)], [dataclasses.replace(model) for _ in range(2)]
    with Engines(pair, engines_each=1, controller=LoadController(now=Clock())) as engines:
        assert engines.devices == (model.device,)
        seats = [engines.seat() for _ in range(4)]
        assert sorted(id(seat.engine.model) for seat in seats) == sorted(2 * [id(one) for one in pair])
        for seat in seats[:2]:
            analysis = Analysis(seat.engine.model, seat=seat)
            for frame in frames(0.0):
                analysis.push(frame)
            assert facts(analysis.scores) == facts(alone.scores), "the same score wherever a stream is seated"
        seats[0].leave()
        engines.controller = LoadController(now=Clock())  # four more may come at once
        assert engines.seat().engine is seats[0].engine, "where there are fewer"
        engines.swap(others)
        assert {id(engines.seat().engine.model) for _ in range(2)} == {id(one) for one in others}
        assert all(seat.engine.model in pair for seat in seats[1:]), "who runs ends with what it began with"


def test_another_model_takes_over_while_streams_run(model: Model) -> None:
    other = open_to_all(model)
    with Engines([model], engines_each=1, controller=LoadController(now=Clock())) as engines:
        old = engines.seat()
        analysis = Analysis(old.engine.model, seat=old)
        for frame in frames(0.0)[:5]:
            analysis.push(frame)
        engines.swap([other])
        assert engines.model is other and old.engine.model is model
        for frame in frames(0.0)[5:]:
            analysis.push(frame)
        new = engines.seat()
        assert new.engine.model is other and engines.seated == 2
        alone = Analysis(model)
        for frame in frames(0.0):
            alone.push(frame)
        assert facts(analysis.scores) == facts(alone.scores), "a stream ends with the model that it began with"
        thread = old.engine._thread
        old.leave()
        engines.seat()
        assert len(engines.counts) == 1 and not thread.is_alive(), "and that model goes when its last stream has gone"
        total = engines.total
        assert total.rows == len(analysis.scores) and total.batches >= 1 and total.seats == 2, "what it did is not forgotten"
        spent = {time.stage: time for time in engines.spent.times()}
        assert spent["encoder"].calls >= total.batches and spent["encoder"].cpu_s > 0


def test_streams_for_which_there_is_no_room_are_counted(model: Model) -> None:
    with Engines([model], engines_each=1, controller=LoadController(now=Clock())) as engines:
        seats = [engines.seat() for _ in range(4)]
        with pytest.raises(Overloaded, match="begin at once"):
            engines.seat()
        assert engines.refused == 1 and engines.total.seats == 4
        for seat in seats:
            seat.leave()


def test_a_model_that_does_not_start_leaves_the_old_one_in_place(model: Model) -> None:
    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        raise RuntimeError("no kernel image")

    with Engines([model], engines_each=1) as engines:
        before = threading.active_count()
        with pytest.raises(ModelFailed, match="no kernel image"):
            engines.swap([model, with_eye(model, eye)])
        assert engines.model is model and threading.active_count() == before
        engines.seat().leave()
