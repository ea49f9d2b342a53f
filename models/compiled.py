"""A frozen torch net as an ONNX Runtime session for the CPU: arrays in, arrays out. Used by `face_detector.py` and `eye.py` when serving.

Measured on one core beside torch's eager mode: the encoder 3.5 ms a crop instead of 5.0, P-Net 1.4 instead of 2.7 at 145 x 257, R-Net and
O-Net a third. Rows go through one by one: with matrix products of several rows a row's last bits depend on the others, and on a CPU a
batch is no faster (R-Net: 0.04 ms alone, 0.07 in a batch of 8).
"""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET = 17
_QUIET = 3  # ONNX Runtime's level of errors
_EXPORTING = threading.Lock()
"""Neither the exporter nor a filter of warnings is for one thread alone."""


class CompiledNet:
    """A net with one input and one output or more, compiled for one thread; may be called from many.

    Args:
        net: in evaluation mode, on the CPU; it is copied.
        example: an input (N, ...) to trace with.
        free: axes of the input, besides the first, whose length changes from call to call.
    """

    def __init__(self, net: nn.Module, example: Tensor, *, free: tuple[int, ...] = ()) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        self._session = onnxruntime.InferenceSession(onnx_bytes(net, example, free=free), options, providers=["CPUExecutionProvider"])

    def __call__(self, x: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Every output for the rows of `x` (N, ...), N >= 1, in the order in which the net gives them; each row by itself."""
        rows = [self._session.run(None, {"x": x[i : i + 1]}) for i in range(len(x))]
        return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def onnx_bytes(net: nn.Module, example: Tensor, *, free: tuple[int, ...] = ()) -> bytes:
    """`net` as an ONNX model with one input, `x`; its first axis and those in `free` may have any length."""
    axes: Mapping[str, Any] = {"x": {0: "n"} | {axis: f"axis{axis}" for axis in free}}
    data = io.BytesIO()
    with _EXPORTING, warnings.catch_warnings():
        # The exporter that torch recommends instead takes seconds a net and another package; this one takes a tenth of a second.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _without_prelu(net),
            (example,),
            data,  # type: ignore[arg-type]  # this exporter writes to files, too
            opset_version=OPSET,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
        )
    return data.getvalue()


class _Hinges(nn.Module):
    """PReLU of channels in two ReLUs, bit by bit the same: ONNX Runtime's own takes half of P-Net's time."""

    def __init__(self, prelu: nn.PReLU) -> None:
        super().__init__()
        self.slope = prelu.weight

    def forward(self, x: Tensor) -> Tensor:
        slope = self.slope.view(1, -1, *[1] * (x.dim() - 2))
        return torch.relu(x) - slope * torch.relu(-x)


def _without_prelu(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.PReLU):
                setattr(module, name, _Hinges(child))
    return net
