"""A fast sigmoid whose bits depend on no neighbour: tensors laid out in whole vectors. `ltc.py` and `cfc.py` open their gates with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

GRAIN = 32768
"""Elements below which torch keeps an operation on one thread (at::internal::GRAIN_SIZE)."""
LANES = 32
"""Two AVX-512 registers of floats: what torch's vectorised loops take at once; the rest of a tensor goes through other code."""


def aligned(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor whose memory goes on to a whole number of LANES."""
    size = math.prod(shape)
    return like.new_empty(shape) if size % LANES == 0 else like.new_empty(-(-size // LANES) * LANES)[:size].view(shape)


def sigmoid_(x: Tensor) -> Tensor:
    """In-place sigmoid of an `aligned` tensor, to its end and beyond.

    torch computes the last size % 32 numbers of a thread's share by other code, so a row's bits would depend on its batch. A tenth of
    the time of tanh, which has no such tail.
    """
    size, threads = -(-x.numel() // LANES) * LANES, torch.get_num_threads()
    whole = x if x.numel() == size else x.as_strided((size,), (1,))
    if size < GRAIN or threads == 1 or x.device.type != "cpu" or (size >= threads * GRAIN and size % (threads * LANES) == 0):
        whole.sigmoid_()
    else:
        for part in torch.split(whole.view(-1), GRAIN):
            part.sigmoid_()
    return x
