"""A frozen torch net as an ONNX Runtime session for the CPU: arrays in, arrays out. For `face_detector`, `eye` and `compiled_step`.

Measured on one core beside torch's eager mode: the encoder 3.5 ms a crop instead of 5.0, P-Net 1.4 instead of 2.7 at 145 x 257, R-Net and
O-Net a third. Rows go through one by one: with matrix products of several rows a row's last bits depend on the others, and on a CPU a
batch is no faster (R-Net: 0.04 ms alone, 0.07 in a batch of 8).
"""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d

OPSET = 17
_QUIET = 3  # ONNX Runtime's level of errors
_ROWS = "n"
"""What every graph calls the length of its first axis."""
_EXPORTING = threading.Lock()
"""Neither the exporter nor a filter of warnings is for one thread alone."""


class CompiledNet:
    """A net with one input and one output or more, compiled for one thread; may be called from many.

    Args:
        net: in evaluation mode, on the CPU; it is copied.
        example: an input (N, ...) to trace with, or several by name, in the order in which the net takes them.
        free: axes of the inputs, besides the first, whose length changes from call to call.
    """

    def __init__(self, net: nn.Module, example: Tensor | Mapping[str, Tensor], *, free: tuple[int, ...] = ()) -> None:
        self._session = _session(onnx_bytes(net, example, free=free), rows=1)
        self._names = tuple(_named(example))

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[Any], ...]:
        """Every output for the rows of the inputs, each (N, ...) with N >= 1, in the order of the net's own; each row by itself."""
        n = len(inputs[0])
        if n == 1:
            return tuple(self._session.run(None, dict(zip(self._names, inputs, strict=True))))
        rows = [self._session.run(None, {name: x[i : i + 1] for name, x in zip(self._names, inputs, strict=True)}) for i in range(n)]
        return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def onnx_bytes(
    net: nn.Module, example: Tensor | Mapping[str, Tensor], *, free: tuple[int, ...] = (), outputs: Sequence[str] | None = None
) -> bytes:
    """`net` as an ONNX model with the inputs of `example` (a single one is `x`) and `outputs`, where these are to have names.

    The first axis of every input and output, and those in `free`, may have any length.
    """
    inputs = _named(example)
    axes: dict[str, Any] = {name: {0: _ROWS} | {axis: f"axis{axis}" for axis in free} for name in inputs}
    axes |= {name: {0: _ROWS} for name in outputs or ()}
    data = io.BytesIO()
    with _EXPORTING, warnings.catch_warnings(), _exact_expm1():
        # The exporter that torch recommends instead takes seconds a net and another package; this one takes a tenth of a second.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _without_prelu(net),
            tuple(inputs.values()),
            data,  # type: ignore[arg-type]  # this exporter writes to files, too
            opset_version=OPSET,
            dynamo=False,
            input_names=list(inputs),
            output_names=None if outputs is None else list(outputs),
            dynamic_axes=axes,
        )
    return data.getvalue()


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph."""

    name: str
    dtype: str
    """As ONNX Runtime says it: tensor(float)."""
    shape: tuple[int | str, ...]
    """A name stands for any length."""


def ports(graph: bytes) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The inputs and the outputs of an ONNX model."""
    session = _session(graph)
    inputs, outputs = (
        tuple(Port(one.name, one.type, tuple(one.shape)) for one in side) for side in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def _session(graph: bytes, *, rows: int | None = None) -> Any:  # noqa: ANN401 - ONNX Runtime ships no types
    options = onnxruntime.SessionOptions()
    if rows is not None:
        # What only depends on shapes is then computed here and not at each run: of the encoder's 228 nodes 100 are left.
        options.add_free_dimension_override_by_name(_ROWS, rows)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _named(example: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"x": example} if isinstance(example, Tensor) else example


@contextmanager
def _exact_expm1() -> Iterator[None]:
    """expm1 as tanh(x / 2) (exp(x) + 1), which is the same number: the exporter's exp(x) - 1 leaves no digit of a slow memory's gain."""

    def symbolic(g: Any, x: Any) -> Any:  # noqa: ANN401 - torch types no graph contexts
        half = g.op("Mul", x, g.op("Constant", value_t=torch.tensor(0.5)))
        return g.op("Mul", g.op("Tanh", half), g.op("Add", g.op("Exp", x), g.op("Constant", value_t=torch.tensor(1.0))))

    torch.onnx.utils.register_custom_op_symbolic("aten::expm1", symbolic, OPSET)
    try:
        yield
    finally:
        torch.onnx.utils.unregister_custom_op_symbolic("aten::expm1", OPSET)


class _Hinges(nn.Module):
    """PReLU of channels in two ReLUs, bit by bit the same: ONNX Runtime's own takes half of P-Net's time.

    Of pictures, signs and slopes are convolutions of one pixel, which ONNX Runtime does in the blocked layout of the convolutions around
    them; products and differences it brings into the plain layout for, and back.
    """

    def __init__(self, prelu: nn.PReLU) -> None:
        super().__init__()
        self.slope = prelu.weight

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            return torch.relu(x) - self.slope.view(1, -1, *[1] * (x.dim() - 2)) * torch.relu(-x)
        slope = self.slope.view(-1, 1, 1, 1)
        flipped = conv2d(x, -torch.ones_like(slope), groups=len(slope))
        return torch.relu(x) + conv2d(torch.relu(flipped), -slope, groups=len(slope))


def _without_prelu(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.PReLU):
                setattr(module, name, _Hinges(child))
    return net
