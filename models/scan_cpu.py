"""The scan on a processor, in NumPy: `scan.py` hands over tensors and gets tensors back.

NumPy rather than torch, for two reasons. Its call costs a third of torch's, and a scan of one row is nothing but calls (T = 300, N = 1: 0.2
instead of 0.5 ms); its exp, expm1 and tanh are vectorised (0.2 to 0.3 ns a number; torch's expm1 takes 10, its tanh 2). And its sums and
products are rounded one by one, as IEEE 754 says, wherever a number stands in its array: to the bit, a row is alone in the world.

Reverse mode of a linear recurrence (Martin and Cundy 2018, "Parallelizing Linear Recurrent Neural Nets over Sequence Length", section 2.2):
l_t = dL/dh_t + conj(1 - g_(t+1)) l_(t+1), then dL/dA_t = conj(g_t) l_t and dL/dg_t = l_t conj(A_t - h_(t-1)).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.rows import chunks
from models.scan import LIQUIDITY

NOWHERE = -1e30
"""Target of a row that does not move: a gain of 0 times this is -0.0, and adding -0.0 alone leaves every h, -0.0 too, as it was."""

Array: TypeAlias = NDArray[Any]
Gradients: TypeAlias = tuple[Tensor | None, ...]


def relax(target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, h0: Tensor, moves: Tensor) -> Tensor:
    """As `scan.relax`, without a graph and with h0 in front: (T + 1, N, D); moves (T, N, 1) bool."""
    states = h0.new_empty((target.shape[0] + 1, *h0.shape))
    states[0] = h0
    every, targets, ws, centre, dts, moving = _arrays(states, target, w, kappa, dt, moves)
    for part in chunks(target.shape[0], h0.numel()):
        gain, ends = _gain(_rate(ws[part], centre)[0], dts[part]), targets[part]
        if not moving[part].all():
            gain, ends = gain * moving[part], np.where(moving[part], ends, every.dtype.type(NOWHERE))
        way = np.empty_like(every[0])
        for (h, after), end, weight in zip(pairwise(every[part.start : part.stop + 1]), ends, gain, strict=True):
            np.subtract(end, h, out=way)
            np.multiply(way, weight, out=way)
            np.add(h, way, out=after)
    return states


def relax_backward(
    grad: Tensor, target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, moves: Tensor, states: Tensor, *, wants_dt: bool
) -> Gradients:
    """Gradients of target, w, kappa, dt and h0 from that of every state after h0; `states` has h0 in front."""
    out = [torch.empty_like(target), torch.empty_like(w), torch.zeros_like(kappa), torch.empty_like(dt), torch.zeros_like(states[0])]
    to_target, to_w, to_kappa, to_dt, carried = _arrays(*out)
    grads, targets, ws, centre, dts, moving, every = _arrays(grad, target, w, kappa, dt, moves, states)
    for part in reversed(list(chunks(target.shape[0], carried.size))):
        rate, tanh = _rate(ws[part], centre)
        gain = _gain(rate, dts[part])
        if not moving[part].all():
            gain *= moving[part]
        keep = 1.0 - gain
        adjoint = grads[part].copy()
        _sweep(adjoint, keep, carried)
        np.multiply(gain, adjoint, out=to_target[part])
        way = np.subtract(targets[part], every[part], out=gain)
        # d gain / d (dt r) = exp(-dt r), which is what is kept
        for factor in (adjoint, keep, rate):
            way *= factor
        if not moving[part].all():
            way *= moving[part]
        if wants_dt:
            way.sum(-1, keepdims=True, out=to_dt[part])
        way *= dts[part]
        to_kappa += way.reshape(-1, kappa.shape[0]).sum(0)
        np.multiply(tanh, tanh, out=tanh)
        np.multiply(np.subtract(LIQUIDITY, np.multiply(tanh, LIQUIDITY, out=tanh), out=tanh), way, out=to_w[part])
    return *out[:3], out[3] if wants_dt else None, out[4]


def resonate(target: Tensor, w: Tensor, kappa: Tensor, omega: Tensor, dt: Tensor, z0: Tensor, moves: Tensor) -> Tensor:
    """As `scan.resonate`, without a graph and with z0 in front; in real numbers, for complex products round differently in vector code."""
    steps, (rows, both) = target.shape[0], z0.shape
    states = z0.new_empty((steps + 1, rows, 2, both // 2))
    states[0] = z0.view(rows, 2, both // 2)
    every, targets, ws, centre, omegas, dts, moving = _arrays(states, target.reshape(steps, rows, 2, both // 2), w, kappa, omega, dt, moves)
    for part in chunks(steps, z0.numel()):
        re, im = _complex_gain(_rate(ws[part], centre)[0], omegas[part], dts[part])
        still = ~moving[part]
        np.copyto(re, 0.0, where=still)
        turn = np.stack((-im, im), 2)
        np.copyto(turn, 0.0, where=still[:, :, None])
        ends = np.where(still[:, :, None], every.dtype.type(NOWHERE), targets[part])
        way, turned = np.empty_like(every[0]), np.empty_like(every[0])
        for (z, after), end, along, across in zip(pairwise(every[part.start : part.stop + 1]), ends, re[:, :, None], turn, strict=True):
            np.subtract(end, z, out=way)
            np.multiply(way[:, ::-1], across, out=turned)
            np.multiply(way, along, out=way)
            np.add(way, turned, out=way)
            np.add(z, way, out=after)
    return states.view(steps + 1, rows, both)


def resonate_backward(
    grad: Tensor, target: Tensor, w: Tensor, kappa: Tensor, omega: Tensor, dt: Tensor, moves: Tensor, states: Tensor, *, wants_dt: bool
) -> Gradients:
    """Gradients of target, w, kappa, omega, dt and z0 from that of every state after z0; `states` has z0 in front."""
    grads, targets, ws, centre, omegas, dts, moving, every = _arrays(grad, target, w, kappa, omega, dt, moves, states)
    rate, tanh = _rate(ws, centre)
    re, im = _complex_gain(rate, omegas, dts)
    gain = np.where(moving, re + 1j * im, 0.0)
    keep = np.conj(1.0 - gain)
    adjoint, carried = _as_complex(grads), _as_complex(np.zeros_like(every[0]))
    _sweep(adjoint, keep, carried)
    # gain = 1 - exp(-x + i y) with x = dt r, y = dt omega, so d gain = exp(-x + i y) (dx - i dy)
    way = np.where(moving, adjoint * np.conj(_as_complex(targets) - _as_complex(every[:-1])) * keep, 0.0)
    by_rate, by_omega = way.real * dts * rate, -way.imag * dts
    found = (
        _as_halves(np.conj(gain) * adjoint),
        by_rate * LIQUIDITY * (1.0 - tanh * tanh),
        by_rate.reshape(-1, kappa.shape[0]).sum(0),
        by_omega,
        (way.real * rate - way.imag * omegas).sum(-1, keepdims=True) if wants_dt else None,
        _as_halves(carried),
    )
    return tuple(None if one is None else torch.from_numpy(one).to(target.dtype) for one in found)


def _arrays(*tensors: Tensor) -> list[Array]:
    """Views of the same memory."""
    return [tensor.detach().numpy() for tensor in tensors]


def _rate(w: Array, kappa: Array) -> tuple[Array, Array]:
    """The rate exp(kappa + 2 tanh(w)), and that tanh."""
    tanh = np.tanh(w)
    rate = tanh * w.dtype.type(LIQUIDITY)
    rate += kappa
    np.exp(rate, out=rate)
    return rate, tanh


def _gain(rate: Array, dt: Array) -> Array:
    """1 - exp(-dt r), to the last digit where slow memories live: fp32 has none left of the difference below 6e-8."""
    gain = rate * dt
    np.negative(gain, out=gain)
    np.expm1(gain, out=gain)
    np.negative(gain, out=gain)
    return gain


def _complex_gain(rate: Array, omega: Array, dt: Array) -> tuple[Array, Array]:
    """Real and imaginary part of 1 - exp((-r + i omega) dt), without the cancellation at small angles."""
    gain, angle = _gain(rate, dt), omega * dt
    keep, half = 1.0 - gain, np.sin(0.5 * angle)
    return gain + 2.0 * keep * half * half, -keep * np.sin(angle)


def _sweep(adjoint: Array, keep: Array, carried: Array) -> None:
    """Turn gradients (T, N, D) into adjoints, last step first; `carried` (N, D) becomes what the step before them receives. In place."""
    for step, factor in zip(adjoint[::-1], keep[::-1], strict=True):
        step += carried
        np.multiply(step, factor, out=carried)


def _as_complex(halves: Array) -> Array:
    re, im = np.split(halves, 2, -1)
    return re + 1j * im


def _as_halves(z: Array) -> Array:
    return np.concatenate((z.real, z.imag), -1)
