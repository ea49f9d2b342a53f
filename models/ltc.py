"""LTCCell: inputs and seconds in, membrane potentials out, by a solver of choice. Beside `liquid.py`; held against ncps by its tests.

Hasani et al. 2021, "Liquid Time-constant Networks" (arXiv 2006.04439), in the conductance form, where S = sigmoid(sigma (v - mu)) opens:
    cm dh/dt = leak (vleak - h) + sum_j w_j S_j (erev_j - h),
over sensory synapses (v = u, held since the previous observation) and recurrent ones (v = h). An affine map of u would only rename the
sensory sigma and mu, so there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from models.cell import Cell, Flow
from models.lanes import GRAIN, LANES, aligned, sigmoid_
from models.rows import differentiable_once, expect_shape, log_uniform
from models.wiring import FanIn, NCPWiring, Synapses, WiringSeal

Solver = Literal["fused", "exponential", "rk4", "adaptive"]

LEAK = (1e-3, 10.0)
"""Bounds of the leak, in the unit of all conductances (it cancels out)."""
WIDEST = 10.0
"""Largest w of one synapse."""
RK4_REACH = 1.5
"""An explicit sub-step spans at most this many of a neuron's shortest possible time constants: |growth| <= 1 whatever opens on the way
(the growth is linear in each stage's conductance, so its corners prove it, up to 2.7), and 0.27, near its least, when all stays open."""
MOST_STEPS = 20_000
"""Steps that dopri5 may take for one observation before it is refused."""


class LTCCell(Cell):
    """A liquid time-constant cell. Holds parameters only; cm and leak as logarithms, so that they stay positive.

    Effective time constants cm / (leak + sum w S) have hard bounds in seconds: `tau_bounds_s`. At rest (u = h = 0) they start
    log-uniform in `tau_s`. Rows agree bitwise alone and in any batch on a CPU, except by "adaptive", whose steps all rows share.

    Args:
        inputs: components of u.
        units: neurons (D).
        wiring: which synapses exist; every one when None.
        solver: "fused" (semi-implicit Euler: first order, stable at any dt), "exponential" (conductances held over a sub-step: first
            order too, at a third of the error, stable at any dt), "rk4" (fourth order while a sub-step is short against every time
            constant; longer ones are cut to what is stable, RK4_REACH, so after a long gap it still remembers about a quarter: take another
            where gaps are long), "adaptive" (torchdiffeq's dopri5: the reference, slower the longer dt is against the fastest time
            constant, and refused with a ValueError beyond MOST_STEPS).
        unfolds: equal sub-steps an observation; "adaptive" chooses its own.
        tau_s: shortest and longest initial time constant, seconds.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        wiring: NCPWiring | None = None,
        solver: Solver = "fused",
        unfolds: int = 6,
        tau_s: tuple[float, float] = (0.01, 10.0),
    ) -> None:
        super().__init__(inputs, units)
        if solver not in get_args(Solver):
            raise ValueError(f"LTCCell: expected solver {', '.join(get_args(Solver))}, got {solver}")
        if unfolds < 1:
            raise ValueError(f"LTCCell: expected at least 1 unfold, got {unfolds}")
        wiring = NCPWiring.dense(inputs, units) if wiring is None else wiring
        if (wiring.inputs, wiring.units) != (inputs, units):
            raise ValueError(
                f"LTCCell: expected a wiring of {inputs} inputs and {units} units, got {wiring.inputs} inputs and {wiring.units} units"
            )
        self.solver: Solver = solver
        self.wiring = WiringSeal(wiring)
        self.unfolds = unfolds
        self.cm_s = (0.1 * tau_s[0], tau_s[1])
        self.sensory = _SynapseBank(wiring.sensory, inputs, units)
        self.recurrent = _SynapseBank(wiring.recurrent, units, units)
        leak = 0.1 + 0.2 * torch.rand(units)
        self.log_leak = nn.Parameter(leak.log())
        self.vleak = nn.Parameter(0.4 * torch.rand(units) - 0.2)
        with torch.no_grad():
            # Given the conductances, cm decides the time constant. ncps draws cm alone, and 128 inputs then collapse every tau.
            rest = leak + self.sensory(torch.zeros(1, inputs))[0, 1] + self.recurrent(torch.zeros(1, units))[0, 1]
        self.log_cm = nn.Parameter(log_uniform(units, *tau_s) + rest.log())

    @property
    def tau_bounds_s(self) -> tuple[float, float]:
        """No effective time constant is shorter or longer than this, whatever is learned, seconds."""
        synapses = self.sensory.fan_in + self.recurrent.fan_in
        return self.cm_s[0] / (LEAK[1] + WIDEST * synapses), self.cm_s[1] / LEAK[0]

    def slow_parameters(self) -> list[nn.Parameter]:
        """Capacities and leaks."""
        return [self.log_cm, self.log_leak]

    def time_constants(self, u: Tensor, h: Tensor) -> Tensor:
        """Effective time constants in seconds at u (..., inputs) and h (..., D): (..., D)."""
        expect_shape("u", u, (*h.shape[:-1], self.inputs), "(..., inputs)")
        expect_shape("h", h, (*h.shape[:-1], self.units), "(..., units)")
        cm, leak = self._membrane()
        opened: Tensor = self.sensory(u.reshape(-1, self.inputs))[:, 1] + self.recurrent(h.reshape(-1, self.units))[:, 1]
        return (cm / (leak + opened)).reshape(h.shape)

    def drive(self, u: Tensor) -> Tensor:
        """Currents and conductances that u (T, N, inputs) alone decides, leak included: (T, N, 2 D)."""
        _, leak = self._membrane()
        fixed = torch.stack((leak * self.vleak, leak))
        given: Tensor = self.sensory(u.flatten(0, 1)) + fixed
        return given.reshape(*u.shape[:2], 2 * self.units)

    def _membrane(self) -> tuple[Tensor, Tensor]:
        low, high = self.cm_s
        return self.log_cm.clamp(math.log(low), math.log(high)).exp(), self.log_leak.clamp(math.log(LEAK[0]), math.log(LEAK[1])).exp()

    def flow(self) -> Flow:
        """The chosen solver, from one observation to the next."""
        cm, _ = self._membrane()
        constants = self.recurrent.constants()

        def total(drive: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            current, conductance = (drive.view(-1, 2, self.units) + self.recurrent.sums(h, constants)).unbind(1)
            return current, conductance

        def fused(drive: Tensor, h: Tensor, dt: Tensor) -> Tensor:
            # Everything times the sub-step: ncps divides cm by it, which is inf at dt = 0.
            s = (dt / self.unfolds).unsqueeze(-1)
            base = torch.addcmul(capacity, drive.view(-1, 2, self.units), s)
            for _ in range(self.unfolds):
                above, below = torch.addcmul(base, self.recurrent.sums(h, constants), s).unbind(1)
                h = torch.addcmul(above, cm, h) / below
            return h

        def exponential(drive: Tensor, h: Tensor, dt: Tensor) -> Tensor:
            half = dt / (2 * self.unfolds * cm)
            for _ in range(self.unfolds):
                current, conductance = total(drive, h)
                t = torch.tanh(half * conductance)
                # 1 - exp(-z) = 2 t / (1 + t) with t = tanh(z / 2): as exact near 0 as expm1, and a fifth of its time.
                h = h + (2 * t / (1 + t)) * (current / conductance - h)
            return h

        def rk4(drive: Tensor, h: Tensor, dt: Tensor) -> Tensor:
            widest = drive.view(-1, 2, self.units)[:, 1] + self.recurrent.widest(constants)
            s = torch.minimum(dt / (self.unfolds * cm), RK4_REACH / widest)

            def slope(h: Tensor) -> Tensor:
                current, conductance = total(drive, h)
                return s * (current - conductance * h)

            for _ in range(self.unfolds):
                k1 = slope(h)
                k2 = slope(h + k1 / 2)
                k3 = slope(h + k2 / 2)
                k4 = slope(h + k3)
                h = h + (k1 + 2 * (k2 + k3) + k4) / 6
            return h

        def adaptive(drive: Tensor, h: Tensor, dt: Tensor) -> Tensor:
            def slope(_: Tensor, h: Tensor) -> Tensor:
                current, conductance = total(drive, h)
                return dt / cm * (current - conductance * h)

            return _dopri5(slope, h) if h.numel() else h

        capacity = torch.stack((torch.zeros_like(cm), cm))
        return {"fused": fused, "exponential": exponential, "rk4": rk4, "adaptive": adaptive}[self.solver]


def _dopri5(slope: Callable[[Tensor, Tensor], Tensor], h: Tensor) -> Tensor:
    """h at 1 of dh/ds = slope(s, h), from 0: every row runs through its own dt in the same normalised time."""
    try:
        from torchdiffeq import odeint
    except ImportError as missing:
        raise ImportError('LTCCell(solver="adaptive") expected torchdiffeq; install it with: pip install torchdiffeq') from missing
    exact = h.dtype == torch.float64
    try:
        path: Tensor = odeint(
            slope,
            h,
            h.new_tensor([0.0, 1.0]),
            method="dopri5",
            rtol=1e-9 if exact else 1e-5,
            atol=1e-11 if exact else 1e-6,
            options={"max_num_steps": MOST_STEPS},
        )
    except AssertionError as stiff:
        raise ValueError(
            f"LTCCell(solver='adaptive'): expected dt that dopri5 crosses in {MOST_STEPS} steps, got one too long against the fastest "
            f"time constant ({stiff}); solver='fused' and 'exponential' take any dt"
        ) from stiff
    return path[-1]


Constants = tuple[Tensor, Tensor, Tensor]


class _SynapseBank(nn.Module):
    """All synapses of one kind: presynaptic values (M, sources) in, currents and conductances (M, 2, D) out.

    Parameters are (F, P): the F-th synapse into neuron `first` + P, see FanIn. Padding has w = 0 for ever.
    """

    pre: Tensor
    exists: Tensor

    def __init__(self, synapses: Synapses, sources: int, units: int) -> None:
        super().__init__()
        fan = FanIn.of(synapses)
        shape = fan.pre.shape
        self.fan_in, self.units, self.first = shape[0], units, fan.first
        self.every = len(synapses) == sources * units
        self.register_buffer("pre", fan.pre, persistent=False)
        self.register_buffer("exists", fan.polarity.abs(), persistent=False)
        self.sigma = nn.Parameter(3 + 5 * torch.rand(shape))
        self.mu = nn.Parameter(0.3 + 0.5 * torch.rand(shape))
        # Divided by the fan-in, all of a neuron's synapses together conduct about 1, some five times its leak: how far an input can
        # shorten a time constant does not depend on how many inputs there are.
        self.log_w = nn.Parameter(((0.5 + torch.rand(shape)) / self.exists.sum(0).clamp(min=1)).log())
        self.erev = nn.Parameter(fan.polarity.clone())

    def constants(self) -> Constants:
        """sigma, -sigma mu, and (w erev, w) stacked: (F, P), (F, P), (2, F, P)."""
        w = self.log_w.clamp(max=math.log(WIDEST)).exp() * self.exists
        return self.sigma, -self.sigma * self.mu, torch.stack((w * self.erev, w))

    def widest(self, constants: Constants) -> Tensor:
        """(D,) conductance with every synapse open."""
        _, _, weight = constants
        return self._place(weight[1].sum(0))

    def forward(self, v: Tensor) -> Tensor:
        """(M, sources) -> (M, 2, D)."""
        return self.sums(v, self.constants())

    def sums(self, v: Tensor, constants: Constants) -> Tensor:
        """`forward` with constants at hand."""
        pre = None if self.every else self.pre
        return self._place((_SynapseSums.apply if torch.is_grad_enabled() else _sums)(v, *constants, pre))

    def _place(self, sums: Tensor) -> Tensor:
        """(..., P) -> (..., D): neurons without a synapse get 0."""
        posts = sums.shape[-1]
        return sums if posts == self.units else nn.functional.pad(sums, (self.first, self.units - self.first - posts))


class _SynapseSums(torch.autograd.Function):
    """sum_F S(v) weight, (M, 2, P). Keeps v, not the F P openings of every row: they are computed again on the way back."""

    @staticmethod
    def forward(v: Tensor, slope: Tensor, shift: Tensor, weight: Tensor, pre: Tensor | None) -> Tensor:
        return _sums(v, slope, shift, weight, pre)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types no saved_tensors
        differentiable_once()
        v, slope, shift, weight, pre = ctx.saved_tensors
        dslope, dshift, dweight = (torch.zeros_like(t) for t in (slope, shift, weight))
        sizes = _sizes(v, slope.numel())
        back = []
        for part, grad in zip(torch.split(v, sizes), torch.split(grads[0], sizes), strict=True):
            source, opened = _opened(part, slope, shift, pre)
            above, below = grad.unsqueeze(2).unbind(1)
            dweight[0] += (opened * above).sum(0)
            dweight[1] += (opened * below).sum(0)
            inner = torch.ops.aten.sigmoid_backward(torch.addcmul(above * weight[0], below, weight[1]), opened)
            dshift += inner.sum(0)
            dslope += (inner * source).sum(0)
            inner.mul_(slope)
            back.append(inner.sum(-1) if pre is None else torch.zeros_like(part).index_add_(1, pre.flatten(), inner.flatten(1)))
        return torch.cat(back), dslope, dshift, dweight, None


def _sums(v: Tensor, slope: Tensor, shift: Tensor, weight: Tensor, pre: Tensor | None) -> Tensor:
    if v.shape[0] * slope.numel() <= GRAIN // 2:  # a few rows live on few calls
        return (_opened(v, slope, shift, pre)[1].unsqueeze(1) * weight).sum(2)
    fan_in, posts = slope.shape
    if (width := max(1, GRAIN // 2 // fan_in)) < posts and v.device.type == "cpu":
        each = (slice(first, first + width) for first in range(0, posts, width))
        return torch.cat([_sums(v, slope[:, c], shift[:, c], weight[..., c], None if pre is None else pre[:, c]) for c in each], -1)

    parts = torch.split(v, _sizes(v, slope.numel()))
    return torch.cat([(_opened(part, slope, shift, pre)[1].unsqueeze(1) * weight).sum(2) for part in parts])


def _opened(v: Tensor, slope: Tensor, shift: Tensor, pre: Tensor | None) -> tuple[Tensor, Tensor]:
    """Presynaptic values and openings of n rows, (n, F, P or 1) and (n, F, P)."""
    source = v.unsqueeze(-1) if pre is None else v.index_select(1, pre.flatten()).view(-1, *pre.shape)
    opened = aligned(v, (v.shape[0], *slope.shape))
    torch.addcmul(shift, slope, source, out=opened)
    return source, sigmoid_(opened)


def _sizes(v: Tensor, row: int) -> list[int]:
    """Rows of v to compute together, each `row` numbers: bounds memory (a whole clip's synapses are gigabytes), stays in cache, keeps bits.

    On several threads a block is so small that torch computes it on one, or gives every thread whole rows and whole LANES.
    """
    rows, threads = v.shape[0], torch.get_num_threads()
    if v.device.type != "cpu":
        few = many = max(1, 2**24 // row)
    elif threads == 1:
        few = many = max(1, 2 * GRAIN // row)
    else:
        few, step = max(1, GRAIN // 2 // row), LANES // math.gcd(LANES, row)
        many = threads * step * -(-GRAIN // (step * row))
    count, rest = divmod(rows, many)
    short, last = divmod(rest, few)
    return [many] * count + [few] * short + [last] * (last > 0 or rows == 0)
