"""Attention against a fixed rate: how soon a deepfake spliced into real video stands out, at how many looks, with as many false alarms.

Streams are made of what the encoder saw in genuine videos, at every frame: half a minute of a real one, then one of its deepfakes (its own
scene where the data has it), to and fro. The alarm is the evidence of `Change` above the level that so many of the real streams reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import load_model
from pipelines.attention import Attention
from pipelines.change import Change
from pipelines.evaluation.time_sweep import sequences_of
from pipelines.training.manifest import read_manifest
from pipelines.training.sequences import Sequence
from pipelines.verdict import Score
from tests.benchmarks.bench_card import DATA

DUE_HZ: Final = 12.0
REAL_S: Final = 30.0
FAKE_S: Final = 20.0
LEAST_LOOKS: Final = 60
"""Of a video that takes part."""
ALARMS: Final = (1, 3)
"""Real streams that raise a false alarm, of all."""
Stream = tuple[NDArray[np.float64], NDArray[np.float32]]
"""Seconds and the encoder's log-odds of each frame."""


@dataclass(frozen=True, slots=True)
class _Seen:
    looks_a_second: float
    t: NDArray[np.float64]
    evidence: NDArray[np.float64]


def run() -> list[dict[str, Any]]:
    """One row a policy and number of false alarms."""
    manifest = DATA / "manifest.json"
    if not manifest.is_file():
        return []
    model = load_model()
    records = [one for one in read_manifest(manifest) if one.kind == "video" and one.tier in ("validation", "study")]
    found = [(one, sequence) for one in records for sequence in sequences_of([one], model)[:1] if len(sequence.t) > LEAST_LOOKS]
    reals = [pair for pair in found if pair[0].label == "real"]
    fakes = [pair for pair in found if pair[0].label == "fake"]
    own = {record.identity: sequence for record, sequence in reversed(reals)}
    calm = [_joined((sequence, REAL_S + FAKE_S)) for _, sequence in reals]
    spliced = [_joined((own.get(record.identity, reals[0][1]), REAL_S), (sequence, FAKE_S)) for record, sequence in fakes]
    return [row for name, attend in _policies().items() for row in _rows(name, attend, calm, spliced)]


def _policies() -> dict[str, Callable[[], Attention | float]]:
    return {
        "fixed, 12 a second": lambda: DUE_HZ,
        "fixed, 6 a second": lambda: 6.0,
        "every frame": lambda: 1e6,
        "attentive, 12 due": lambda: Attention(native_hz=30.0),
    }


def _rows(name: str, attend: Callable[[], Attention | float], calm: list[Stream], spliced: list[Stream]) -> list[dict[str, Any]]:
    real, fake = [_watched(one, attend()) for one in calm], [_watched(one, attend()) for one in spliced]
    highest = sorted((float(one.evidence.max()) for one in real), reverse=True)
    rows = []
    for alarms in ALARMS:
        level = highest[alarms]
        after = [one.t[(one.evidence > level) & (one.t >= REAL_S)] - REAL_S for one in fake]
        took = np.array([times[0] if len(times) else np.inf for times in after])
        rows.append(
            {
                "policy": name,
                "looks_a_second_real": round(float(np.mean([one.looks_a_second for one in real])), 1),
                "looks_a_second_spliced": round(float(np.mean([one.looks_a_second for one in fake])), 1),
                "false_alarms": f"{alarms} of {len(real)}",
                "noticed": f"{int(np.isfinite(took).sum())} of {len(took)}",
                "median_s": round(float(np.median(took)), 1),
            }
        )
    return rows


def _joined(*parts: tuple[Sequence, float]) -> Stream:
    """Sequences one after another, each played to and fro for so many seconds."""
    times, logits, begin = [], [], 0.0
    for sequence, seconds in parts:
        gaps = np.diff(sequence.t)
        there_and_back = np.concatenate([np.arange(len(gaps)), np.arange(len(gaps), 0, -1)])
        steps = np.concatenate([gaps, gaps[::-1]])
        rounds = int(np.ceil(seconds / steps.sum()))
        t = np.concatenate([[0.0], np.cumsum(np.tile(steps, rounds))[:-1]])
        kept = t < seconds
        times.append(begin + t[kept])
        logits.append(sequence.artefact[np.tile(there_and_back, rounds)[kept]])
        begin += seconds
    return np.concatenate(times), np.concatenate(logits)


def _watched(stream: Stream, policy: Attention | float) -> _Seen:
    change, looked, evidence, last = Change(), [], [], -np.inf
    for t, logit in zip(*(values.tolist() for values in stream), strict=True):
        hz = policy if isinstance(policy, float) else policy.hz(DUE_HZ)
        # The sampler's rule: the first frame of each interval of a grid.
        if np.isfinite(last) and np.floor(t * hz + 1e-6) <= np.floor(last * hz + 1e-6):
            continue
        last = t
        if isinstance(policy, Attention):
            policy.saw(t, [Score(0, 0, Fraction(1, 1000), None, (0, 0, 1, 1), logit, 0.5, None, artefact=logit)], DUE_HZ)
        looked.append(t)
        evidence.append(change.saw(t, logit))
    return _Seen(len(looked) / (looked[-1] - looked[0]), np.array(looked), np.array(evidence))
