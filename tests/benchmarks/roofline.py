"""Roofline: a net and a batch in, the arithmetic and the bytes that its operations need out; and what a GPU does of each in a second.

Nothing is guessed: a pretended pass (no memory, no arithmetic, any machine) says which operations there are, of which shapes and dtypes.
Bytes are those of every operation's inputs and outputs, once each: what goes through memory while none is merged with the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.encoder import EncoderDims, FaceEncoder
from models.temporal import TemporalHead

COPIED_BYTES: Final = 2**30
GEMM_SIDE: Final = 8192


@dataclass(frozen=True, slots=True)
class Work:
    """What something costs, wherever it runs."""

    flops: int
    """Of products and convolutions, a multiplication and an addition being two; the rest is in the bytes."""
    nbytes: int
    operations: int
    """That move bytes: one kernel each, or nearly."""

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.nbytes + other.nbytes, self.operations + other.operations)


@dataclass(frozen=True, slots=True)
class Peaks:
    """What a GPU was seen to do at best."""

    flops_per_s: float
    bytes_per_s: float

    def least_s(self, work: Work) -> float:
        """Seconds that `work` takes at the least."""
        return max(work.flops / self.flops_per_s, work.nbytes / self.bytes_per_s)


def eye_work(dims: EncoderDims, rows: int) -> Work:
    """Of one pass of the encoder as `models/buckets.py` runs it on a GPU: from uint8 to outputs, convolutions in bf16."""
    with FakeTensorMode():
        encoder = FaceEncoder(dims).eval().requires_grad_(False)
        crops = torch.zeros((rows, dims.crop_px, dims.crop_px, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return counted(lambda: encoder(crops))


def memory_work(head: TemporalHead, rows: int) -> Work:
    """Of one step of the memories as one kernel: every weight and state is read, every state and output written, once; fp32."""
    weights = [parameter for parameter in head.parameters() if parameter.dim() == 2]
    moved = sum(parameter.numel() for parameter in head.parameters())
    # Embedding and dt in; h and k in and out; logit, surprise, information and tau out. Flags are a byte each.
    moved += rows * (head.inputs + 1 + 4 * head.units + 3 + head.units)
    return Work(2 * rows * sum(weight.numel() for weight in weights), 4 * moved + 4 * rows, 1)


def counted(call: Callable[[], object]) -> Work:
    """What the operations of `call` cost."""
    bytes_of = _Bytes()
    with FlopCounterMode(display=False) as flops, bytes_of:
        call()
    return Work(flops.get_total_flops(), bytes_of.total, bytes_of.operations)


class _Bytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - torch's own signature
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten.detach.default:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(_nbytes(tensor) for tensor in tensors)
            self.operations += bool(tensors)
        return result


def _nbytes(tensor: Tensor) -> int:
    """Of what lies in memory: what was expanded is read once, and again from a cache."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def measured_peaks(device: torch.device) -> Peaks:
    """Of a product of large bf16 matrices, and of a copy, read and written bytes together."""
    a, b = (torch.randn((GEMM_SIDE, GEMM_SIDE), device=device, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * GEMM_SIDE**3 / seconds_of(lambda: a @ b)
    return Peaks(product, bandwidth(device))


def bandwidth(device: torch.device) -> float:
    """Bytes read and written a second by a copy."""
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    sink = torch.empty_like(source)
    return 2 * COPIED_BYTES / seconds_of(lambda: sink.copy_(source))


def seconds_of(work: Callable[[], object], repeats: int = 50) -> float:
    """Seconds of one `work`, the best of five rounds, between CUDA events."""
    for _ in range(3):
        work()
    best = float("inf")
    for _ in range(5):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        for _ in range(repeats):
            work()
        ended.record()
        ended.synchronize()
        best = min(best, began.elapsed_time(ended) / 1e3 / repeats)
    return best
