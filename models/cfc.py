"""CfCCell: inputs and seconds in, a state gated by elapsed time out. Beside `liquid.py` and `ltc.py`; held against ncps by its tests.

Hasani et al. 2022, "Closed-form continuous-time neural networks" (arXiv 2106.13898). With x = backbone(u, h) and s = sigmoid(t_a dt + t_b):
    default  h' = tanh(ff1) (1 - s) + tanh(ff2) s        no_gate  h' = tanh(ff1) + tanh(ff2) s
    pure     h' = A - A ff1 exp(-dt (|w| + |ff1|))
A gate that has learned time, not a flow: two half steps are not one step (its tests say by how much), and dt > 0 however short moves h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from models.cell import Cell, Flow
from models.lanes import LANES, sigmoid_
from models.rows import LONGEST_DT_S, differentiable_once, expect_shape, log_uniform, row_affine
from models.wiring import NCPWiring, WiringSeal

Mode = Literal["default", "pure", "no_gate"]
Activation = Literal["lecun_tanh", "tanh", "relu", "silu", "gelu"]

SATURATED = 30.0
"""Largest argument of the gate: beyond it sigmoid is 0 or 1 in fp32, and its gradient times dt = 1e4 s would only be noise."""

# y = g tanh(k x) as g (2 sigmoid(2 k x) - 1), whose constants go into the weights around it: (k, g).
_SQUASHED: dict[str, tuple[float, float]] = {"lecun_tanh": (0.666, 1.7159), "tanh": (1.0, 1.0)}
# torch's own silu and gelu take other code at the end of a tensor, so a row's bits would depend on its batch.
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": lambda x: 0.5 * x * (1.0 + torch.tanh(0.5 * x)),
    "gelu": lambda x: 0.5 * x * (1.0 + torch.erf(x * math.sqrt(0.5))),
}


class CfCCell(Cell):
    """A closed-form continuous-time cell. Holds parameters only.

    Time scales 1 / |t_a| start log-uniform in `tau_s` seconds and never fall below a tenth of its shorter end (the rate is clamped, which
    nothing but an exploding weight meets). Rows agree bitwise alone and in any batch on a CPU.

    Args:
        inputs: components of u.
        units: components of h (D).
        mode: which of the three equations above.
        backbone_units: width of each backbone layer.
        backbone_layers: how many; 0 feeds (u, h) to the heads. 1 when None, or 0 with a wiring, which a backbone would mix up.
        activation: of the backbone.
        wiring: which inputs and neurons reach a neuron, by all of its heads; each always hears itself.
        tau_s: shortest and longest initial time scale, seconds.
    """

    mask: Tensor | None

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        mode: Mode = "default",
        backbone_units: int = 128,
        backbone_layers: int | None = None,
        activation: Activation = "lecun_tanh",
        wiring: NCPWiring | None = None,
        tau_s: tuple[float, float] = (0.01, 10.0),
    ) -> None:
        super().__init__(inputs, units)
        if mode not in get_args(Mode):
            raise ValueError(f"CfCCell: expected mode {', '.join(get_args(Mode))}, got {mode}")
        if activation not in get_args(Activation):
            raise ValueError(f"CfCCell: expected activation {', '.join(get_args(Activation))}, got {activation}")
        if wiring is not None and (backbone_layers or (wiring.inputs, wiring.units) != (inputs, units)):
            raise ValueError(
                f"CfCCell: expected a wiring of {inputs} inputs and {units} units and no backbone, "
                f"got {wiring.inputs} inputs, {wiring.units} units and {backbone_layers or 0} layers"
            )
        layers = int(wiring is None) if backbone_layers is None else backbone_layers
        if layers < 0 or backbone_units < 1:
            raise ValueError(f"CfCCell: expected 0 or more backbone layers of at least 1 unit, got {layers} of {backbone_units}")
        self.mode: Mode = mode
        self.activation: Activation = activation
        widths = [inputs + units] + [backbone_units] * layers
        self.backbone = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        heads = 1 if mode == "pure" else 4
        self.heads = nn.Linear(widths[-1], heads * units)
        for layer in (*self.backbone, self.heads):
            for part in layer.weight.detach().split(layer.out_features if layer is not self.heads else units):
                nn.init.xavier_uniform_(part)
        rate = torch.exp(-log_uniform(units, *tau_s))
        self.fastest = 10.0 / tau_s[0]
        if mode == "pure":
            self.w_tau = nn.Parameter(rate)
            self.asymptote = nn.Parameter(torch.ones(units))
        else:
            with torch.no_grad():  # t_a = rate (1 + something small): the scale is in seconds, and no start runs backwards
                self.heads.weight[2 * units : 3 * units] *= 0.3 * rate.unsqueeze(-1)
                self.heads.bias[2 * units :] = torch.cat((rate, torch.zeros(units)))
        mask = None
        if wiring is not None:
            hears = torch.cat((wiring.sensory.dense(inputs, units), wiring.recurrent.dense(units, units) + 2 * torch.eye(units)))
            mask = (hears != 0).t().float().repeat(heads, 1)
            self.wiring = WiringSeal(wiring)
        self.register_buffer("mask", mask, persistent=False)

    def slow_parameters(self) -> list[nn.Parameter]:
        """The rates of mode "pure"; the other modes keep theirs in a bias that also does other work."""
        return [self.w_tau] if self.mode == "pure" else []

    def time_constants(self, u: Tensor, h: Tensor) -> Tensor:
        """Time scales in seconds at u (..., inputs) and h (..., D): 1 / |t_a|, or 1 / (|w| + |ff1|) in mode "pure"; (..., D)."""
        expect_shape("u", u, (*h.shape[:-1], self.inputs), "(..., inputs)")
        expect_shape("h", h, (*h.shape[:-1], self.units), "(..., units)")
        heads, drive = self._heads(), self.drive(u.reshape(1, -1, self.inputs))[0]
        y = heads(drive, h.reshape(-1, self.units)).chunk(1 if self.mode == "pure" else 4, 1)
        rate = self.w_tau.abs() + y[0][:, : self.units].abs() if self.mode == "pure" else y[2][:, : self.units].abs()
        return (1.0 / rate.clamp(1.0 / LONGEST_DT_S, self.fastest)).reshape(h.shape)

    def drive(self, u: Tensor) -> Tensor:
        """The first layer's product with u (T, N, inputs), its bias included: (T, N, backbone_units), or heads without a backbone."""
        weight, bias = self._layers()[0]
        return row_affine(u.flatten(0, 1), weight[:, : self.inputs], bias).reshape(*u.shape[:2], len(bias))

    def _layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of every product, with the constants of the activations between them and of tanh(ff) inside.

        Layers and heads are padded with zeros to whole LANES: MKL peels a row off its alignment, so with 29 columns the bits of a row
        would depend on where in memory it lies (measured), and sigmoid_ would have a tail.
        """
        k, g = _SQUASHED.get(self.activation, (0.5, 0.5))
        shift = float(self.activation in _SQUASHED)
        found: list[tuple[Tensor, Tensor]] = []
        for i, layer in enumerate((*self.backbone, self.heads)):
            weight, bias = layer.weight, layer.bias
            if layer is self.heads and self.mask is not None:
                weight = weight * self.mask
            if i > 0:
                weight, bias = 2 * g * weight, bias - shift * g * weight.sum(1)
            if layer is not self.heads:
                weight, bias = 2 * k * weight, 2 * k * bias
            elif self.mode != "pure":
                twice = torch.ones_like(bias).index_fill_(0, torch.arange(2 * self.units, device=bias.device), 2.0)
                weight, bias = twice.unsqueeze(-1) * weight, twice * bias
            groups = 4 if layer is self.heads and self.mode != "pure" else 1
            missing = -(len(bias) // groups) % (LANES // groups)
            if missing or (found and found[-1][0].shape[0] != weight.shape[1]):
                sources = found[-1][0].shape[0] - weight.shape[1] if found else 0
                weight = nn.functional.pad(weight.view(groups, -1, weight.shape[1]), (0, sources, 0, missing)).flatten(0, 1)
                bias = nn.functional.pad(bias.view(groups, -1), (0, missing)).flatten()
            found.append((weight, bias))
        return found

    def _heads(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(drive, h) -> all heads (N, heads D), with what only the parameters decide computed once."""
        (first, _), *rest = ((weight.t().contiguous(), bias) for weight, bias in self._layers())
        inner = first[self.inputs :]
        with_grad = torch.is_grad_enabled()
        product: Callable[[Tensor, Tensor, Tensor], Tensor] = _RowAffine.apply if with_grad else _row_affine
        act = _PLAIN.get(self.activation, _Open.apply if with_grad else sigmoid_)

        def heads(drive: Tensor, h: Tensor) -> Tensor:
            x = product(drive, h, inner)
            for weight, bias in rest:
                x = product(bias, act(x), weight)
            return x

        return heads

    def flow(self) -> Flow:
        """The gate, or in mode "pure" the decay."""
        heads, gated, units = self._heads(), self.mode == "default", self.units
        if self.mode == "pure":
            return lambda drive, h, dt: self._decay(heads(drive, h)[:, :units], dt)
        if torch.is_grad_enabled():
            return lambda drive, h, dt: _Gate.apply(heads(drive, h), dt, self.fastest, gated)[:, :units]
        return lambda drive, h, dt: _gate(heads(drive, h), dt, self.fastest, gated)[0][:, :units]

    def _decay(self, ff1: Tensor, dt: Tensor) -> Tensor:
        rate = (self.w_tau.abs() + ff1.abs()).clamp(max=self.fastest)
        return self.asymptote - self.asymptote * ff1 * torch.exp(-dt * rate)


def _row_affine(base: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """base (N, M) or (M,) plus x (N, K) times weight (K, M), one small product a row; see RowLinear."""
    return torch.baddbmm(base.unsqueeze(-2) if base.dim() == 2 else base, x.unsqueeze(1), weight.expand(len(x), -1, -1)).squeeze(1)


class _RowAffine(torch.autograd.Function):
    """_row_affine, and whole matrices on the way back (nobody compares gradients bitwise)."""

    @staticmethod
    def forward(base: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return _row_affine(base, x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401 - torch types no ctx
        base, x, weight = inputs
        ctx.one_base = base.dim() == 1
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        (grad,) = grads
        return grad.sum(0) if ctx.one_base else grad, grad @ weight.t(), x.t() @ grad


class _Open(torch.autograd.Function):
    """sigmoid whose bits do not depend on the batch."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sigmoid_(x.clone())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401
        (opened,) = ctx.saved_tensors
        inner: Tensor = torch.ops.aten.sigmoid_backward(grads[0], opened)
        return inner


def _gate(y: Tensor, dt: Tensor, fastest: float, gated: bool) -> tuple[Tensor, ...]:
    """The new state (N, D) and, in place of 2 ff1, 2 ff2 and t_a in y (N, 4 D), (1 + tanh(ff1)) / 2, (1 + tanh(ff2)) / 2 and s."""
    units = y.shape[1] // 4
    a, b, s, t_b = y.view(-1, 4, units).unbind(1)
    s.clamp_(-fastest, fastest)
    torch.addcmul(t_b, s, dt, out=s).clamp_(-SATURATED, SATURATED)
    sigmoid_(y)
    mixed = torch.lerp(a, b, s) if gated else torch.addcmul(a - s / 2, b, s)  # tanh(ff1) + s tanh(ff2) = 2 (a + s b - s / 2) - 1
    return mixed.mul_(2.0).sub_(1.0), a, b, s


class _Gate(torch.autograd.Function):
    """Heads (N, 4 D) and dt (N, 1) to the new state (N, D); zero gradient where the rate or the gate's argument is clamped."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, dt: Tensor, fastest: float, gated: bool) -> Tensor:  # noqa: ANN401
        h, *opened = _gate(y.clone(), dt, fastest, gated)
        ctx.save_for_backward(y, dt, *opened)
        ctx.fastest, ctx.gated = fastest, gated
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        differentiable_once()
        y, dt, a, b, s = ctx.saved_tensors
        (grad,) = grads
        _, _, t_a, t_b = y.chunk(4, 1)
        rate = t_a.clamp(-ctx.fastest, ctx.fastest)
        dff2 = 2.0 * grad * s
        dff1 = 2.0 * grad - dff2 if ctx.gated else 2.0 * grad
        to_s = 2.0 * (b - a) if ctx.gated else 2.0 * b - 1.0
        dz = grad * to_s * s * (1.0 - s) * ((rate * dt + t_b).abs() < SATURATED)
        dy = torch.cat((dff1 * a * (1.0 - a), dff2 * b * (1.0 - b), dz * dt * (rate == t_a), dz), 1)
        return dy, (dz * rate).sum(1, keepdim=True) if ctx.needs_input_grad[1] else None, None, None
