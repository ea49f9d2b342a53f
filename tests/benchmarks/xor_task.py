"""Bit-stream XOR, event-based: a seed in, events, the steps between them and the parity of the bits out. `bench_xor.py` trains on it.

The task of Lechner and Hasani 2020 (arXiv 2006.04418), as Hasani et al. 2022 (arXiv 2106.13898, Table 4) run it: a stream of 2 to
31 random bits; an event only where the bit changes, and one for what remains at the end; the label is the parity of all bits. Ignoring
the elapsed steps is guessing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LONGEST = 32
TRAIN_SEED, TEST_SEED = 1234984, 48736


@dataclass(frozen=True, slots=True)
class Streams:
    """M streams, padded to LONGEST events."""

    bits: Tensor
    """(T, M, 1) float: the value of the stream from this event on, 0 or 1."""
    elapsed: Tensor
    """(T, M, 1) steps since the event before."""
    mask: Tensor
    """(T, M) bool: False where padded."""
    odd: Tensor
    """(M,) float: 1 where the stream holds an odd number of ones."""


def make_streams(count: int, seed: int) -> Streams:
    """`count` streams, drawn in the order in which the published script draws them (so its seeds give its data)."""
    rng = np.random.RandomState(seed)
    bits = np.zeros((LONGEST, count, 1), np.float32)
    elapsed = np.zeros((LONGEST, count, 1), np.float32)
    mask = np.zeros((LONGEST, count), bool)
    odd = np.zeros(count, np.float32)
    for stream in range(count):
        event, waited, last = 0, 0, -1
        for _ in range(rng.randint(low=2, high=LONGEST)):
            waited += 1
            bit = int(rng.randint(low=0, high=2))
            odd[stream] = (odd[stream] + bit) % 2
            if bit != last:
                bits[event, stream, 0], elapsed[event, stream, 0], mask[event, stream] = bit, waited, True
                event, waited, last = event + 1, 0, bit
        if waited:
            bits[event, stream, 0], elapsed[event, stream, 0], mask[event, stream] = last, waited, True
    return Streams(torch.from_numpy(bits), torch.from_numpy(elapsed), torch.from_numpy(mask), torch.from_numpy(odd))
