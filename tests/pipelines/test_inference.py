"""Asking the nets: who shares a batch changes nothing, who fails fails alone, who leaves leaves nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.buckets import BucketedEye
from models.encoder import EncoderOutput, FaceEncoder
from models.slots import SlotsFull
from models.temporal import TemporalOutput, TemporalState
from pipelines.analysis import Analysis
from pipelines.errors import ModelFailed
from pipelines.inference import Impression, Inference, Look, Seat
from pipelines.media import Frame
from pipelines.model import Model
from tests.clips import face_frame

MS = Fraction(1, 1000)
RNG = np.random.default_rng(3)
CROPS = RNG.integers(0, 256, (16, 160, 160, 3), dtype=np.uint8)


def judged(seat: Seat, slots: list[int], crops: NDArray[np.uint8], dt: float) -> list[Impression]:
    return seat.judge([Look(crop, slot, dt) for crop, slot in zip(crops, slots, strict=True)])


def open_to_all(model: Model) -> Model:
    """A model to which every embedding is familiar: noise is nobody's face."""
    calibrator = type(model.calibrator)()
    calibrator.load_state_dict(model.calibrator.state_dict() | {"farthest": torch.tensor(float("inf"), dtype=torch.float64)})
    return dataclasses.replace(model, calibrator=calibrator)


def with_eye(model: Model, eye: Callable[[NDArray[np.uint8]], EncoderOutput]) -> Model:
    """The model with an eye that fails on purpose."""
    broken = dataclasses.replace(model)
    object.__setattr__(broken, "eye", eye)
    return broken


def test_a_row_alone_and_among_fifteen_others_is_the_same_bit_for_bit(model: Model) -> None:
    together = Inference(open_to_all(model))
    slots = [together.acquire() for _ in range(16)]
    alone = Inference(open_to_all(model))
    own = alone.acquire()
    for dt, turn in ((float("inf"), 0), (1 / 12, 1), (0.4, 2), (0.0, 3)):
        crops = np.roll(CROPS, turn, axis=1)
        (one,), many = judged(alone, [own], crops[7:8], dt), judged(together, slots, crops, dt)
        assert one.artefact == many[7].artefact and np.array_equal(one.boundary, many[7].boundary)
        assert one.remembered is not None and many[7].remembered is not None
        assert (one.remembered.logit, one.remembered.surprise) == (many[7].remembered.logit, many[7].remembered.surprise)
        assert np.array_equal(one.remembered.tau_s, many[7].remembered.tau_s)


def test_only_the_guilty_row_fails_and_nobody_steps_twice(model: Model) -> None:
    model = open_to_all(model)
    guilty = CROPS[2]

    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        if any(np.array_equal(crop, guilty) for crop in crops):
            raise RuntimeError("a kernel failed")
        return model.eye(crops)

    shared, calm = Inference(with_eye(model, eye)), Inference(model)
    slots, others = [shared.acquire() for _ in range(4)], [calm.acquire() for _ in range(4)]
    for dt in (float("inf"), 0.1, 0.1):
        outcomes = shared.judge_each([Look(crop, slot, dt) for crop, slot in zip(CROPS[:4], slots, strict=True)])
        expected = judged(calm, others, CROPS[:4], dt)
        assert isinstance(outcomes[2], ModelFailed) and "RuntimeError: a kernel failed" in str(outcomes[2])
        for i in (0, 1, 3):
            outcome, other = outcomes[i], expected[i]
            assert isinstance(outcome, Impression) and outcome.remembered is not None and other.remembered is not None
            assert outcome.remembered.logit == other.remembered.logit
    with pytest.raises(ModelFailed, match="Expected a score; got RuntimeError"):
        judged(shared, slots, CROPS[:4], 0.1)


def test_what_is_not_a_number_is_a_failure_of_its_row(model: Model) -> None:
    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        seen = model.eye(crops)
        marked = torch.tensor([[crop[0, 0, 0] == 7] for crop in crops])
        return seen._replace(embedding=seen.embedding.masked_fill(marked, float("nan")))

    inference = Inference(with_eye(model, eye))
    crops = np.full((2, 160, 160, 3), 90, dtype=np.uint8)
    crops[1, 0, 0, 0] = 7
    fine, failed = inference.judge_each([Look(crop, inference.acquire(), float("inf")) for crop in crops])
    assert isinstance(fine, Impression) and isinstance(failed, ModelFailed)


def test_a_batch_that_a_gpu_has_no_memory_for_is_judged_in_smaller_ones(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = FaceEncoder.forward

    def cramped(self: FaceEncoder, crops: Tensor) -> EncoderOutput:
        sizes.append(len(crops))
        if len(crops) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, crops)

    small, large = Inference(with_eye(model, BucketedEye(model.encoder))), Inference(model)
    b = judged(large, [large.acquire() for _ in range(9)], CROPS[:9], float("inf"))
    monkeypatch.setattr(FaceEncoder, "forward", cramped)
    a = judged(small, [small.acquire() for _ in range(9)], CROPS[:9], float("inf"))
    assert sizes == [16, 8, 4, 2, 2, 2, 2, 1], "it went on with what had fitted"
    np.testing.assert_allclose([one.artefact for one in a], [one.artefact for one in b], atol=1e-4)
    assert judged(small, [small.acquire() for _ in range(5)], CROPS[:5], float("inf")) and sizes[8:] == [2, 2, 1], "and begins with it"


def test_it_warms_every_size_and_forgets(model: Model) -> None:
    sizes: list[int] = []

    def eye(crops: NDArray[np.uint8]) -> EncoderOutput:
        sizes.append(len(crops))
        return model.eye(crops)

    inference = Inference(with_eye(model, eye), capacity=6)
    inference.warm_up((8, 4, 1))
    assert sizes == [6, 4, 1] and len(inference) == 0

    def step(x: Tensor, state: TemporalState, dt: Tensor, mask: Tensor | None) -> tuple[TemporalOutput, TemporalState]:
        raise RuntimeError("no kernel image")

    forgetful = dataclasses.replace(model)
    object.__setattr__(forgetful, "step", step)
    with pytest.raises(ModelFailed, match="no kernel image"):
        Inference(forgetful).warm_up()


def test_memories_are_bounded_and_come_back(model: Model) -> None:
    inference = Inference(model, capacity=2)
    slots = [inference.acquire() for _ in range(2)]
    with pytest.raises(SlotsFull):
        inference.acquire()
    inference.release(slots[0])
    inference.warm_up()
    assert len(inference) == 1 and inference.judge([]) == []


def test_an_analysis_gives_its_memories_back(model: Model) -> None:
    inference = Inference(model)
    analysis = Analysis(model, seat=inference)
    for t in range(0, 1500, 100):
        analysis.push(Frame(face_frame(t / 1000), t, MS))
    assert len(inference) == 1
    before = analysis.finish()
    analysis.close()
    analysis.close()
    assert len(inference) == 0 and analysis.finish().score == before.score
