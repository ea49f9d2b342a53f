"""Live streams: the newest frame counts, nothing is left out unsaid, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from models.encoder import EncoderOutput
from pipelines.analysis import Analysis
from pipelines.engine import Engines
from pipelines.errors import ModelFailed, TimestampError
from pipelines.live import FAILURES, Failed, LiveEvent, LiveStream, Scored, Shed
from pipelines.load import LoadController, LoadTargets
from pipelines.media import Frame
from pipelines.model import Model
from pipelines.verdict import Verdict
from tests.clips import empty_frame, face_frame
from tests.pipelines.test_inference import with_eye
from tests.pipelines.test_load import Clock

MS = Fraction(1, 1000)


@pytest.fixture(scope="module")
def engines(model: Model) -> Iterator[Engines]:
    with Engines([model], engines_each=1, controller=unmoved(12.0)) as door:
        yield door


def unmoved(hz: float) -> LoadController:
    """A controller that has come down to one rate and stays there, whatever this machine is doing besides."""
    controller = LoadController(LoadTargets(latency_s=1e6, low_hz=hz))
    controller.admit(1)
    controller._hz = hz
    controller._tokens = float("inf")
    return controller


def watched(stream: LiveStream, feed: Callable[[LiveStream], None]) -> tuple[Verdict, list[LiveEvent]]:
    events: list[LiveEvent] = []
    with stream, ThreadPoolExecutor(1) as threads:
        running = threads.submit(stream.run, events.append)
        try:
            feed(stream)
        finally:
            stream.end()
        return running.result(60), events


def one_by_one(frames: list[Frame]) -> Callable[[LiveStream], None]:
    """A camera that waits for each score, so that none is passed over."""

    def feed(stream: LiveStream) -> None:
        for frame in frames:
            if not stream.offer(frame):
                return
            while stream._next is not None and not stream._ended:
                time.sleep(0.001)

    return feed


def test_a_live_stream_scores_as_a_file_does(model: Model, engines: Engines) -> None:
    frames = [Frame(face_frame(i / 12), round(1000 * i / 12), MS) for i in range(24)]
    verdict, events = watched(LiveStream(engines), one_by_one(frames))
    analysis = Analysis(model)
    for frame in frames:
        analysis.push(frame)
    assert [score for event in events if isinstance(event, Scored) for score in event.scores] == analysis.scores
    assert verdict.score == analysis.finish().score is not None
    assert all(event.took.all_s > 0 for event in events if isinstance(event, Scored))
    assert not any(isinstance(event, Shed) for event in events)
    assert (engines.seated, engines.counts[0].memories) == (0, 0)


def test_a_patient_stream_looks_at_every_frame_however_fast_they_come(model: Model) -> None:
    frames = [Frame(face_frame(i / 12), round(1000 * i / 12), MS, shift=7) for i in range(24)]
    controller = LoadController(LoadTargets(latency_s=1e6))
    with Engines([model], engines_each=1, controller=controller) as engines:
        controller._hz = 4.0
        stream = LiveStream(engines, patient=True)

        def feed(stream: LiveStream) -> None:
            for frame in frames:
                assert stream.offer(frame)

        _, events = watched(stream, feed)
    analysis = Analysis(model)
    for frame in frames:
        analysis.push(frame)
    scored = [event for event in events if isinstance(event, Scored)]
    assert len(scored) == len(events) == 24 and stream.counts.passed_over == stream.counts.shed == 0
    assert [score for event in scored for score in event.scores] == analysis.scores
    assert {(event.shift, event.provenance) for event in scored} == {(7, "container")}


def test_a_giver_that_a_patient_stream_holds_back_is_let_go_when_it_ends(engines: Engines) -> None:
    with LiveStream(engines, patient=True) as stream, ThreadPoolExecutor(1) as threads:
        assert stream.offer(Frame(empty_frame(0), 0, MS))
        held = threads.submit(stream.offer, Frame(empty_frame(0), 1, MS))
        with pytest.raises(TimeoutError):
            held.result(0.1)
        stream.end()
        assert held.result(5) is False


def test_the_newest_frame_counts_and_every_one_passed_over_is_told(engines: Engines) -> None:
    frames = [Frame(face_frame(i / 30), round(1000 * i / 30), MS) for i in range(90)]

    def feed(stream: LiveStream) -> None:
        for frame in frames:
            stream.offer(frame)
            time.sleep(0.002)

    stream = LiveStream(engines)
    _, events = watched(stream, feed)
    counts = stream.counts
    looked = [event.pts for event in events if isinstance(event, Scored)]
    assert counts.offered == 90 == counts.looked_at + counts.passed_over and counts.passed_over > 0
    assert len(looked) == counts.looked_at and looked == sorted(looked) and looked[-1] == frames[-1].pts
    shed = [event for event in events if isinstance(event, Shed)]
    assert sum(event.n for event in shed) == counts.shed == counts.passed_over
    assert all(event.first_pts < event.last_pts for event in shed)


def test_a_lower_rate_is_told_of_too(model: Model) -> None:
    frames = [Frame(face_frame(i / 4), 250 * i, MS) for i in range(21)]
    controller = LoadController(LoadTargets(latency_s=1e6))
    with Engines([model], engines_each=1, controller=controller) as engines:
        stream = LiveStream(engines, attentive=False)
        controller._hz = 4.0
        assert stream.hz == 4.0
        _, events = watched(stream, one_by_one(frames))
    # The rate rises again, since nothing is late here: at most 8 looks were left out of each of 5 seconds.
    shed = [event.n for event in events if isinstance(event, Shed)]
    assert 20 < sum(shed) <= 40 and len(shed) == 5
    assert stream.counts.shed == sum(shed) == controller.counts.shed


def test_a_source_of_few_frames_sheds_none(model: Model) -> None:
    controller = LoadController(LoadTargets(latency_s=1e6))
    with Engines([model], engines_each=1, controller=controller) as engines:
        stream = LiveStream(engines, native_hz=2.0)
        controller._hz = 4.0
        _, events = watched(stream, one_by_one([Frame(face_frame(i / 2), 500 * i, MS) for i in range(8)]))
    assert not any(isinstance(event, Shed) for event in events) and stream.hz == 2.0


def test_a_break_before_a_frame_that_is_passed_over_is_one_before_the_next(engines: Engines) -> None:
    with LiveStream(engines) as stream:
        stream.offer(Frame(empty_frame(0), 0, MS, flags=frozenset({"discontinuity", "tainted"})))
        stream.offer(Frame(empty_frame(1), 100, MS, flags=frozenset({"duplicate"})))
        taken = stream._take()
        assert taken is not None and taken.frame.flags == {"discontinuity", "duplicate"} and taken.overtaken == 1


def test_a_frame_on_which_the_nets_fail_is_told_and_the_stream_goes_on(model: Model) -> None:
    failing = threading.Event()

    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        if failing.is_set():
            raise RuntimeError("a kernel failed")
        return model.eye(crops)

    frames = [Frame(face_frame(i / 12), round(1000 * i / 12), MS) for i in range(30)]
    with Engines([with_eye(model, eye)], engines_each=1, controller=unmoved(12.0)) as engines:

        def feed(stream: LiveStream) -> None:
            for i, frame in enumerate(frames):
                (failing.set if 10 <= i < 13 else failing.clear)()
                one_by_one([frame])(stream)
                while stream.counts.looked_at + stream.counts.failed <= i:
                    time.sleep(0.001)

        stream = LiveStream(engines)
        verdict, events = watched(stream, feed)
        assert stream.counts.failed == 3 and [i for i, event in enumerate(events) if isinstance(event, Failed)] == [10, 11, 12]
        assert verdict.score is not None
        # Its memory was told the whole gap.
        after = events[13]
        assert isinstance(after, Scored) and after.scores[0].dt == pytest.approx(4 / 12, abs=0.002)
        failing.set()
        with pytest.raises(ModelFailed, match="a kernel failed"):
            watched(LiveStream(engines), one_by_one(frames[: FAILURES + 1]))
        assert engines.seated == 0


def test_time_that_runs_backwards_ends_the_stream_with_a_typed_error(engines: Engines) -> None:
    with pytest.raises(TimestampError, match="older than the one before"):
        watched(LiveStream(engines), one_by_one([Frame(empty_frame(0), 1000, MS), Frame(empty_frame(0), 900, MS)]))
    assert engines.seated == 0


def test_a_stream_that_never_had_a_frame_ends_in_peace(engines: Engines) -> None:
    verdict, events = watched(LiveStream(engines), lambda stream: None)
    assert verdict.verdict == "not_applicable" and events == []


def test_a_stream_that_stops_for_an_hour_goes_on_with_its_memory(engines: Engines) -> None:
    frames = [Frame(face_frame(i / 12), round(1000 * i / 12), MS) for i in range(12)]
    frames += [Frame(face_frame(1 + i / 12), 3_600_000 + round(1000 * i / 12), MS) for i in range(12)]
    _, events = watched(LiveStream(engines), one_by_one(frames))
    first = [event for event in events if isinstance(event, Scored)][12].scores[0]
    assert first.track == 0 and first.dt == pytest.approx(3599.083) and first.p is not None


@pytest.mark.parametrize("fps", [0.1, 240.0])
def test_any_frame_rate_is_a_frame_rate(engines: Engines, fps: float) -> None:
    frames = [Frame(face_frame(i / fps), round(1e6 * i / fps), MS / 1000) for i in range(12)]
    _, events = watched(LiveStream(engines, native_hz=fps, attentive=fps > 1), one_by_one(frames))
    scores = [score for event in events if isinstance(event, Scored) for score in event.scores]
    assert len(scores) == 12 and {score.track for score in scores} == {0}
    assert all(score.p is not None and score.dt == pytest.approx(1 / fps, rel=1e-3) for score in scores[1:])


def test_memory_is_bounded_however_long_a_stream_lasts(model: Model) -> None:
    """What an analysis keeps of four horizons is what it keeps of one."""
    analysis, kept = Analysis(model, horizon_s=5.0), []
    for i in range(120):
        t = i / 6
        frame = face_frame(t) if i % 40 < 30 else empty_frame(t)
        analysis.push(Frame(frame, round(1000 * t), MS))
        kept.append(len(analysis.frame_pts) + sum(len(one.moments) for one in analysis._records.values()))
    assert max(kept[60:]) <= 2 * 5.5 * 6 + 6 and analysis.scores == []
    verdict = analysis.finish()
    assert verdict.coverage.duration_s == pytest.approx(5.0, abs=0.8)
    assert all(float(track.first_pts * track.time_base) >= 120 / 6 - 5.8 for track in verdict.tracks)
    with pytest.raises(ValueError, match="expected explain or horizon_s, got both"):
        Analysis(model, horizon_s=5.0, explain=True)


def test_an_attentive_stream_gets_the_rate_that_its_controller_grants(engines: Engines) -> None:
    clock = Clock()
    with LiveStream(engines, now=clock) as stream:
        assert stream.hz <= engines.controller.hz
