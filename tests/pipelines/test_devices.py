"""Which devices are meant, on machines with none, one and four GPUs."""

from __future__ import annotations

import re

import pytest
import torch

from pipelines.devices import DEVICE_WORDS, devices
from pipelines.errors import DeviceMissing
from pipelines.model import load_model, load_models


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "words", "meant"),
    [
        (0, "auto", ["cpu"]),
        (4, "cpu", ["cpu"]),
        (1, "auto", ["cuda:0"]),
        (4, "auto", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        (4, "cuda", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        (4, "cuda:2", ["cuda:2"]),
        (4, "cuda:3,1,3", ["cuda:3", "cuda:1"]),
    ],
)
def test_what_is_meant(monkeypatch: pytest.MonkeyPatch, count: int, words: str, meant: list[str]) -> None:
    gpus(monkeypatch, count)
    assert re.match(DEVICE_WORDS, words)
    assert [str(device) for device in devices(words)] == meant


@pytest.mark.parametrize(
    ("count", "words", "there"),
    [(0, "cuda", "cpu"), (0, "cuda:0", "cpu"), (2, "cuda:0,2", "cpu or cuda:0, cuda:1"), (1, "cuda:7", "cuda:0")],
)
def test_what_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch, count: int, words: str, there: str) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(DeviceMissing, match=f"Expected .*{there}; got {words}"):
        load_model(device=words)


@pytest.mark.parametrize("words", ["gpu", "cuda:", "cuda:a", "cuda:1,", "CPU", "cpu:0", ""])
def test_other_words_are_none(words: str) -> None:
    assert not re.match(DEVICE_WORDS, words)


def test_one_model_for_each_device() -> None:
    (model,) = load_models(device="cpu")
    assert model.device == torch.device("cpu")
