"""The XOR streams are the published ones, and their labels follow from events and elapsed steps alone."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks import bench_xor
from tests.benchmarks.xor_task import LONGEST, TEST_SEED, Streams, make_streams


def test_the_events_spell_the_bits() -> None:
    """Written back into bits, every stream has the parity that its label says: what lasted is the bit of the event before."""
    streams = make_streams(500, 3)
    for i in range(500):
        ones, lasting = 0, 0
        for t in range(int(streams.mask[:, i].sum())):
            bit, steps = int(streams.bits[t, i, 0]), int(streams.elapsed[t, i, 0])
            ones += lasting * (steps - 1) + bit
            lasting = bit
        assert ones % 2 == int(streams.odd[i])


def test_the_seed_gives_the_published_test_set() -> None:
    """9.25 events a stream and 50.9 % odd ones were measured of the authors' own draw."""
    streams = make_streams(10_000, TEST_SEED)
    assert float(streams.odd.mean()) == pytest.approx(0.509, abs=5e-4)
    assert float(streams.mask.sum(0).float().mean()) == pytest.approx(9.25, abs=0.1)
    assert streams.bits.shape == (LONGEST, 10_000, 1)
    assert bool((streams.elapsed[streams.mask] >= 1).all())
    assert not bool(streams.elapsed[~streams.mask].any())


def test_a_small_run_makes_rows() -> None:
    rows = bench_xor.run(("liquid with resonators",), train_count=256, test_count=64)
    assert rows[0]["model"] == "liquid with resonators"
    assert rows[0]["parameters"] < 20_000
    assert 20.0 < rows[0]["accuracy"] < 80.0, "two batches teach nothing"
    assert [row["model"] for row in rows] == ["liquid with resonators"]


def test_the_last_event_is_what_the_head_reads() -> None:
    streams = make_streams(8, 5)
    model = bench_xor.ARMS[0].make()
    whole = model(streams)
    padded = streams.bits.clone()
    padded[~streams.mask] = 7.0
    again = model(Streams(padded, streams.elapsed, streams.mask, streams.odd))
    assert torch.equal(whole, again)
