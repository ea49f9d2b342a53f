"""CompiledStep: `TemporalHead.step` for a CPU, through ONNX Runtime. Embeddings, states and seconds in, outputs and new states out.

The same equations as `temporal.py`, which a test holds it against; a step of one row takes a fraction of torch's time, whose many small
calls cost more than the arithmetic. `step_bytes` is the same graph for machines without torch (`undercurrent export`).
"""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.compiled import CompiledNet, onnx_bytes
from models.errors import Refusal
from models.liquid import LiquidCell
from models.rows import LARGEST_INPUT, LONGEST_DT_S, RowLinear, checked_dt, expect_mask, expect_shape
from models.scan import bounded_rate
from models.temporal import LONGEST_GAP_S, TemporalHead, TemporalOutput, TemporalState, surprise, surprise_features

INPUTS = ("x", "h", "k", "started", "dt")
OUTPUTS = (*TemporalOutput._fields, *(f"next_{name}" for name in TemporalState._fields))
"""What the graph gives, in this order."""
_OUTPUTS = len(TemporalOutput._fields)


class CannotCompile(Refusal):
    """This head has no compiled step; `TemporalHead.step` computes it."""

    slug: ClassVar[str] = "cannot-compile"
    title: ClassVar[str] = "The memory cannot be compiled"


class CompiledStep:
    """The streaming step with the weights that `head` has when this is made. Holds no state; may be called from many threads.

    Rows go through one by one, so what a track gets depends on nobody beside it, to the last bit.

    Raises:
        CannotCompile: the head is not on a CPU, not fp32, or its evidence is gathered by another cell than "liquid".
    """

    def __init__(self, head: TemporalHead) -> None:
        self.head = head
        self._net = CompiledNet(_StepGraph(head), _example(head))

    @staticmethod
    def supports(head: TemporalHead) -> bool:
        """Whether `head` can be compiled."""
        return _obstacle(head) is None

    def __call__(self, x: Tensor, state: TemporalState, dt: Tensor, mask: Tensor | None = None) -> tuple[TemporalOutput, TemporalState]:
        """As `head.step`, without a gradient: x (N, E), dt (N, 1) seconds, mask (N,) bool -> outputs and state in memory of their own.

        Raises:
            ValueError: a shape is wrong, or the dt of a started row is negative or NaN.
        """
        n = x.shape[0]
        expect_shape("x", x, (n, self.head.inputs), "(N, E)")
        expect_shape("dt", dt, (n, 1), "(N, 1) in seconds")
        state = self.head.checked(state, n)
        if n == 0:
            return self.head.step(x, state, dt, mask)
        if mask is not None:
            expect_mask(mask, x.shape[:1])
            x = torch.where(mask.unsqueeze(-1), x.detach(), torch.nan)  # not finite is not judged, as not meant to be is not
        seconds = _array(dt)
        if not (seconds >= 0).all():
            checked_dt(torch.where(state.started, dt, 0.0).unsqueeze(0), torch.Size((1, n)))
        parts = [torch.from_numpy(part) for part in self._net(_array(x), *(part.numpy() for part in state), seconds)]
        return TemporalOutput(*parts[:_OUTPUTS]), TemporalState(*parts[_OUTPUTS:])


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.numpy(force=True).astype(np.float32, copy=False)


def step_bytes(head: TemporalHead) -> bytes:
    """The step as an ONNX model for any number of rows: INPUTS to OUTPUTS. A row of NaN is one without an observation.

    It checks nothing: a started row's dt has to be 0 or more.

    Raises:
        CannotCompile: see CompiledStep.
    """
    return onnx_bytes(_StepGraph(head), _example(head), outputs=OUTPUTS)


def _obstacle(head: TemporalHead) -> str | None:
    if not isinstance(head.evidence, LiquidCell) or head.evidence.frequency is not None:
        return f"cell {head.cell!r}"
    parameter = head.kappa_q
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        return f"parameters of {parameter.dtype} on {parameter.device}"
    return None


def _example(head: TemporalHead) -> dict[str, Tensor]:
    x, state = torch.zeros((1, head.inputs)), head.init(1)
    return dict(zip(INPUTS, (x, *state, torch.ones((1, 1))), strict=True))


class _StepGraph(nn.Module):
    """The equations of `TemporalHead.trace` at T = 1, in operations that the exporter knows."""

    def __init__(self, head: TemporalHead) -> None:
        super().__init__()
        obstacle = _obstacle(head)
        if obstacle is not None:
            raise CannotCompile(
                "The step of this temporal head cannot be compiled.", expected="cell 'liquid' in fp32 on a CPU", got=obstacle
            )
        self.head = _with_plain_products(head)

    def forward(self, x: Tensor, h: Tensor, k: Tensor, started: Tensor, dt: Tensor) -> tuple[Tensor, ...]:
        head = self.head
        evidence = head.evidence
        assert isinstance(evidence, LiquidCell) and evidence.target is not None
        # A sum, because a maximum over numbers of which one is NaN may be any of them.
        usable = (x.abs() <= LARGEST_INPUT).float().sum(-1, keepdim=True) == head.inputs
        x = torch.where(usable, x, 0.0)
        dt = torch.where(started, dt.clamp(max=LONGEST_GAP_S), LONGEST_DT_S)
        moves = usable & (dt > 0)

        u = head.embed(x)
        rate = bounded_rate(head.memory.centre, head.memory.rate(u))
        innovation = u - h
        nu, share = surprise(innovation, dt, head.kappa_q, head.kappa_sigma)
        nu, share = torch.where(started, nu, 1.0), torch.where(started, share, 0.0)
        mean_nu = nu.mean(-1, keepdim=True)
        z = head.innovation(surprise_features(nu, mean_nu))
        n = head.norm(z)
        gathered = _relaxed(k, evidence.target(n) - k, bounded_rate(evidence.centre, evidence.rate(n)), dt, moves)
        logit = head.read(z, n, gathered)

        judged = usable.squeeze(-1)
        return (
            torch.where(judged, logit, 0.0),
            torch.where(judged, mean_nu.squeeze(-1), 1.0),
            1.0 / rate,
            judged,
            torch.where(judged, share.mean(-1), 0.0),
            _relaxed(h, innovation, rate, dt, moves),
            gathered,
            started | usable,
        )


def _relaxed(h: Tensor, way: Tensor, rate: Tensor, dt: Tensor, moves: Tensor) -> Tensor:
    """`scan.relax` at T = 1: h (N, D) after dt (N, 1) seconds on its `way` (N, D); bit-identical where it does not move."""
    return torch.where(moves, h - torch.expm1(-dt * rate) * way, h)


def _with_plain_products(head: TemporalHead) -> TemporalHead:
    """A copy without `RowLinear`: where every row goes through alone, nobody needs its blocks."""
    head = copy.deepcopy(head).eval()
    for module in list(head.modules()):
        for name, child in module.named_children():
            if isinstance(child, RowLinear):
                plain = nn.Linear(child.in_features, child.out_features)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
    return head
