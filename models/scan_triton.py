"""The scan on a GPU: what `scan_cpu.py` does, as one Triton kernel a pass. `scan.py` hands over CUDA tensors and gets CUDA tensors back.

One program has a block of (row, unit) pairs for all of time, their states in registers: T steps are one launch, and each number is read
once. exp, expm1 and tanh are made of sums and products, each rounded by itself (never contracted to an FMA), and division is IEEE's: what
Triton's interpreter computes in the tests is what a GPU should compute. `scan_cpu.py` has other exponentials, so it differs in the last
digit. Only sine is libdevice's.

Written for fp32. Other dtypes (fp64, to check gradients) are computed by `scan_cpu.py` and brought back: right, and slow.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models import scan_cpu

BLOCK = 64
"""Numbers a program: two warps. Batch 256 of 128 units is then 512 programs, four for each multiprocessor of an H100."""
WARPS = 2
STAGES = 8
"""Steps whose loads are under way. No address depends on a state, so memory's latency need never be waited for."""
EXACT: dict[str, Any] = {"BLOCK": BLOCK, "STAGES": STAGES, "num_warps": WARPS, "enable_fp_fusion": False}

function: Callable[..., Any] = triton.jit
kernel: Callable[..., Any] = triton.jit(do_not_specialize=["steps", "numbers", "rows"])
"""No number gets a compiled kernel of its own: one step and three hundred run the same code."""

Gradients = scan_cpu.Gradients


def relax(target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, h0: Tensor, moves: Tensor) -> Tensor:
    """As `scan.relax`, without a graph and with h0 in front: (T + 1, N, D); moves (T, N, 1) bool."""
    if target.dtype != torch.float32:
        return scan_cpu.relax(*_on_cpu(target, w, kappa, dt, h0, moves)).to(target.device)
    steps, numbers = target.shape[0], h0.numel()
    states = h0.new_empty((steps + 1, *h0.shape))
    states[0] = h0
    if steps and numbers:
        with on(target.device):
            _relax[_grid(numbers)](
                *_dense(target, w, kappa, _moving(dt, moves)), states, steps, numbers, h0.shape[0], UNITS=h0.shape[1], **EXACT
            )
    return states


def relax_backward(
    grad: Tensor, target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, moves: Tensor, states: Tensor, *, wants_dt: bool
) -> Gradients:
    """Gradients of target, w, kappa, dt and h0 from that of every state after h0; `states` has h0 in front. Deterministic: no atomics."""
    if target.dtype != torch.float32:
        return _brought_back(scan_cpu.relax_backward(*_on_cpu(grad, target, w, kappa, dt, moves, states), wants_dt=wants_dt), target.device)
    (steps, rows, units), numbers = target.shape, states[0].numel()
    to_target, to_w = torch.empty_like(states[1:]), torch.empty_like(states[1:])
    by_dt = torch.empty_like(to_w) if wants_dt else to_w
    by_kappa, to_h0 = torch.zeros_like(states[0]), torch.zeros_like(states[0])
    if steps and numbers:
        with on(target.device):
            _relax_backward[_grid(numbers)](
                *_dense(grad, target, w, kappa, _moving(dt, moves), states),
                *(to_target, to_w, by_dt, by_kappa, to_h0),
                *(steps, numbers, rows),
                WANTS_DT=wants_dt,
                UNITS=units,
                **EXACT,
            )
    return to_target, to_w, by_kappa.sum(0), by_dt.sum(-1, keepdim=True) if wants_dt else None, to_h0


def resonate(target: Tensor, w: Tensor, kappa: Tensor, omega: Tensor, dt: Tensor, z0: Tensor, moves: Tensor) -> Tensor:
    """As `scan.resonate`, without a graph and with z0 in front."""
    if target.dtype != torch.float32:
        return scan_cpu.resonate(*_on_cpu(target, w, kappa, omega, dt, z0, moves)).to(target.device)
    (steps, rows, units), numbers = w.shape, w.shape[1] * w.shape[2]
    states = z0.new_empty((steps + 1, *z0.shape))
    states[0] = z0
    if steps and numbers:
        with on(target.device):
            _resonate[_grid(numbers)](
                *_dense(target, w, kappa, omega, _moving(dt, moves)), states, steps, numbers, rows, UNITS=units, **EXACT
            )
    return states


def resonate_backward(
    grad: Tensor, target: Tensor, w: Tensor, kappa: Tensor, omega: Tensor, dt: Tensor, moves: Tensor, states: Tensor, *, wants_dt: bool
) -> Gradients:
    """Gradients of target, w, kappa, omega, dt and z0 from that of every state after z0; `states` has z0 in front."""
    if target.dtype != torch.float32:
        return _brought_back(
            scan_cpu.resonate_backward(*_on_cpu(grad, target, w, kappa, omega, dt, moves, states), wants_dt=wants_dt), target.device
        )
    (steps, rows, units), numbers = w.shape, w.shape[1] * w.shape[2]
    to_target, to_w, to_omega = torch.empty_like(states[1:]), w.new_empty(w.shape), w.new_empty(w.shape)
    by_dt = torch.empty_like(to_w) if wants_dt else to_w
    by_kappa, to_z0 = w.new_zeros((rows, units)), torch.zeros_like(states[0])
    if steps and numbers:
        with on(target.device):
            _resonate_backward[_grid(numbers)](
                *_dense(grad, target, w, kappa, omega, _moving(dt, moves), states),
                *(to_target, to_w, to_omega, by_dt, by_kappa, to_z0),
                *(steps, numbers, rows),
                WANTS_DT=wants_dt,
                UNITS=units,
                **EXACT,
            )
    return to_target, to_w, by_kappa.sum(0), to_omega, by_dt.sum(-1, keepdim=True) if wants_dt else None, to_z0


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, wherever its tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _grid(numbers: int) -> tuple[int]:
    return (triton.cdiv(numbers, BLOCK),)


def _dense(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _moving(dt: Tensor, moves: Tensor) -> Tensor:
    """Seconds, 0 where a row does not move: one number of four bytes says both, and such loads can be asynchronous."""
    return torch.where(moves, dt, 0.0)


def _on_cpu(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().cpu() for tensor in tensors]


def _brought_back(gradients: Gradients, device: torch.device) -> Gradients:
    return tuple(None if one is None else one.to(device) for one in gradients)


@function
def exp_parts(x: tl.tensor) -> Any:  # noqa: ANN401 - Triton's compiler reads no types; these are for people
    """2^n and e^r - 1 with x = n ln 2 + r and |r| <= (ln 2) / 2, so that exp(x) = s + s p. NaN stays NaN.

    The Taylor series ends at r^7: what is missing is below 2e-8 of the sum, a third of an ulp.
    """
    x = tl.where(x > 88.0, 88.0, tl.where(x < -87.0, -87.0, x))
    n = tl.floor(x * 1.4426950408889634 + 0.5)
    # ln 2 in two parts, the first so short that n times it is exact
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = r * (1.0 / 5040.0) + (1.0 / 720.0)
    p = p * r + (1.0 / 120.0)
    p = p * r + (1.0 / 24.0)
    p = p * r + (1.0 / 6.0)
    p = p * r + 0.5
    p = (p * r) * r + r
    s = ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return s, p


@function
def exp(x: tl.tensor) -> Any:  # noqa: ANN401
    """e^x, between e^-87 and e^88."""
    s, p = exp_parts(x)
    return s + s * p


@function
def expm1(x: tl.tensor) -> Any:  # noqa: ANN401
    """e^x - 1, to the last digit where |x| is small: s is 1 there, and p is the answer."""
    s, p = exp_parts(x)
    return (s - 1.0) + s * p


@function
def tanh(x: tl.tensor) -> Any:  # noqa: ANN401
    """tanh x = -e / (2 + e) with e = exp(-2 |x|) - 1, and the sign of x."""
    e = expm1(-2.0 * tl.abs(x))
    size = tl.div_rn(-e, 2.0 + e)
    return tl.where(x < 0.0, -size, size)


@function
def rate_of(w: tl.tensor, kappa: tl.tensor) -> Any:  # noqa: ANN401
    """The rate exp(kappa + 2 tanh(w)) in 1/s, and that tanh; the 2 is scan.py's LIQUIDITY."""
    bent = tanh(w)
    return exp(bent * 2.0 + kappa), bent


@function
def complex_gain(rate: tl.tensor, omega: tl.tensor, dt: tl.tensor) -> Any:  # noqa: ANN401
    """Real and imaginary part of 1 - exp((-rate + i omega) dt), without the cancellation at small angles."""
    gain = -expm1(-(rate * dt))
    angle = omega * dt
    keep = 1.0 - gain
    half = tl.sin(0.5 * angle)
    return gain + 2.0 * keep * half * half, -keep * tl.sin(angle)


@kernel
def _relax(
    target: tl.tensor,
    w: tl.tensor,
    kappa: tl.tensor,
    dt: tl.tensor,
    states: tl.tensor,
    steps: tl.tensor,
    numbers: tl.tensor,
    rows: tl.tensor,
    UNITS: tl.constexpr,  # noqa: N803 - Triton's way to write what is known when it compiles
    BLOCK: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    row = at // UNITS
    centre = tl.load(kappa + at % UNITS, mask=inside, other=0.0)
    h = tl.load(states + at, mask=inside, other=0.0)
    for _ in tl.range(0, steps, num_stages=STAGES):
        seconds = tl.load(dt + row, mask=inside, other=0.0)
        end = tl.load(target + at, mask=inside, other=0.0)
        rate, _bent = rate_of(tl.load(w + at, mask=inside, other=0.0), centre)
        gain = -expm1(-(rate * seconds))
        h = tl.where(seconds > 0.0, h + (end - h) * gain, h)
        states += numbers
        tl.store(states + at, h, mask=inside)
        target += numbers
        w += numbers
        dt += rows


@kernel
def _relax_backward(
    grad: tl.tensor,
    target: tl.tensor,
    w: tl.tensor,
    kappa: tl.tensor,
    dt: tl.tensor,
    states: tl.tensor,
    to_target: tl.tensor,
    to_w: tl.tensor,
    by_dt: tl.tensor,
    by_kappa: tl.tensor,
    to_h0: tl.tensor,
    steps: tl.tensor,
    numbers: tl.tensor,
    rows: tl.tensor,
    WANTS_DT: tl.constexpr,  # noqa: N803
    UNITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    row = at // UNITS
    centre = tl.load(kappa + at % UNITS, mask=inside, other=0.0)
    carried = tl.zeros((BLOCK,), tl.float32)
    summed = tl.zeros((BLOCK,), tl.float32)
    last = (steps.to(tl.int64) - 1) * numbers
    grad += last
    target += last
    w += last
    states += last
    to_target += last
    to_w += last
    by_dt += last
    dt += (steps.to(tl.int64) - 1) * rows
    for _ in tl.range(0, steps, num_stages=STAGES):
        seconds = tl.load(dt + row, mask=inside, other=0.0)
        moves = seconds > 0.0
        before = tl.load(states + at, mask=inside, other=0.0)
        end = tl.load(target + at, mask=inside, other=0.0)
        adjoint = tl.load(grad + at, mask=inside, other=0.0) + carried
        rate, bent = rate_of(tl.load(w + at, mask=inside, other=0.0), centre)
        gain = tl.where(moves, -expm1(-(rate * seconds)), 0.0)
        keep = 1.0 - gain
        tl.store(to_target + at, gain * adjoint, mask=inside)
        carried = adjoint * keep
        # d gain / d (dt r) = exp(-dt r), which is what is kept
        way = tl.where(moves, (end - before) * adjoint * keep * rate, 0.0)
        if WANTS_DT:
            tl.store(by_dt + at, way, mask=inside)
        way = way * seconds
        summed += way
        tl.store(to_w + at, (2.0 - bent * bent * 2.0) * way, mask=inside)
        grad -= numbers
        target -= numbers
        w -= numbers
        states -= numbers
        to_target -= numbers
        to_w -= numbers
        by_dt -= numbers
        dt -= rows
    tl.store(by_kappa + at, summed, mask=inside)
    tl.store(to_h0 + at, carried, mask=inside)


@kernel
def _resonate(
    target: tl.tensor,
    w: tl.tensor,
    kappa: tl.tensor,
    omega: tl.tensor,
    dt: tl.tensor,
    states: tl.tensor,
    steps: tl.tensor,
    numbers: tl.tensor,
    rows: tl.tensor,
    UNITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    row = at // UNITS
    # a state holds the real parts of its row, then the imaginary ones
    real = at + row * UNITS
    imag = real + UNITS
    centre = tl.load(kappa + at % UNITS, mask=inside, other=0.0)
    x = tl.load(states + real, mask=inside, other=0.0)
    y = tl.load(states + imag, mask=inside, other=0.0)
    for _ in tl.range(0, steps, num_stages=STAGES):
        seconds = tl.load(dt + row, mask=inside, other=0.0)
        moves = seconds > 0.0
        to_x = tl.load(target + real, mask=inside, other=0.0) - x
        to_y = tl.load(target + imag, mask=inside, other=0.0) - y
        rate, _bent = rate_of(tl.load(w + at, mask=inside, other=0.0), centre)
        re, im = complex_gain(rate, tl.load(omega + at, mask=inside, other=0.0), seconds)
        x = tl.where(moves, x + (to_x * re - to_y * im), x)
        y = tl.where(moves, y + (to_y * re + to_x * im), y)
        states += 2 * numbers.to(tl.int64)
        tl.store(states + real, x, mask=inside)
        tl.store(states + imag, y, mask=inside)
        target += 2 * numbers.to(tl.int64)
        w += numbers
        omega += numbers
        dt += rows


@kernel
def _resonate_backward(
    grad: tl.tensor,
    target: tl.tensor,
    w: tl.tensor,
    kappa: tl.tensor,
    omega: tl.tensor,
    dt: tl.tensor,
    states: tl.tensor,
    to_target: tl.tensor,
    to_w: tl.tensor,
    to_omega: tl.tensor,
    by_dt: tl.tensor,
    by_kappa: tl.tensor,
    to_z0: tl.tensor,
    steps: tl.tensor,
    numbers: tl.tensor,
    rows: tl.tensor,
    WANTS_DT: tl.constexpr,  # noqa: N803
    UNITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    STAGES: tl.constexpr,  # noqa: N803
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    row = at // UNITS
    real = at + row * UNITS
    imag = real + UNITS
    centre = tl.load(kappa + at % UNITS, mask=inside, other=0.0)
    carried_x = tl.zeros((BLOCK,), tl.float32)
    carried_y = tl.zeros((BLOCK,), tl.float32)
    summed = tl.zeros((BLOCK,), tl.float32)
    single = numbers.to(tl.int64)
    last = (steps.to(tl.int64) - 1) * single
    grad += 2 * last
    target += 2 * last
    states += 2 * last
    to_target += 2 * last
    w += last
    omega += last
    to_w += last
    to_omega += last
    by_dt += last
    dt += (steps.to(tl.int64) - 1) * rows
    for _ in tl.range(0, steps, num_stages=STAGES):
        seconds = tl.load(dt + row, mask=inside, other=0.0)
        moves = seconds > 0.0
        turn = tl.load(omega + at, mask=inside, other=0.0)
        rate, bent = rate_of(tl.load(w + at, mask=inside, other=0.0), centre)
        re, im = complex_gain(rate, turn, seconds)
        re = tl.where(moves, re, 0.0)
        im = tl.where(moves, im, 0.0)
        a = tl.load(grad + real, mask=inside, other=0.0) + carried_x
        b = tl.load(grad + imag, mask=inside, other=0.0) + carried_y
        # conj(gain) adjoint, and what the step before receives: conj(1 - gain) adjoint
        tl.store(to_target + real, re * a + im * b, mask=inside)
        tl.store(to_target + imag, re * b - im * a, mask=inside)
        keep = 1.0 - re
        carried_x = a * keep - b * im
        carried_y = a * im + b * keep
        # l conj(A - z) times exp(-dt r - i dt omega), whose real part moves with dt r and whose imaginary part with dt omega
        to_x = tl.load(target + real, mask=inside, other=0.0) - tl.load(states + real, mask=inside, other=0.0)
        to_y = tl.load(target + imag, mask=inside, other=0.0) - tl.load(states + imag, mask=inside, other=0.0)
        way_x = tl.where(moves, carried_x * to_x + carried_y * to_y, 0.0)
        way_y = tl.where(moves, carried_y * to_x - carried_x * to_y, 0.0)
        if WANTS_DT:
            tl.store(by_dt + at, way_x * rate - way_y * turn, mask=inside)
        by_rate = way_x * seconds * rate
        summed += by_rate
        tl.store(to_w + at, by_rate * (2.0 - bent * bent * 2.0), mask=inside)
        tl.store(to_omega + at, -way_y * seconds, mask=inside)
        grad -= 2 * single
        target -= 2 * single
        states -= 2 * single
        to_target -= 2 * single
        w -= numbers
        omega -= numbers
        to_w -= numbers
        to_omega -= numbers
        by_dt -= numbers
        dt -= rows
    tl.store(by_kappa + at, summed, mask=inside)
    tl.store(to_z0 + real, carried_x, mask=inside)
    tl.store(to_z0 + imag, carried_y, mask=inside)
