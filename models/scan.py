"""The scan of the exact flow: targets, rates and seconds in, every state out; one step after the other, with a hand-written backward.

h_t = h_(t-1) + g_t (A_t - h_(t-1)) with the gain g = 1 - exp(-dt r), real for a memory, complex (r - i omega) for a resonator. Sequential
in time and parallel over rows and units, because a tree-shaped scan rounds differently from a stream. `liquid.py` and `temporal.py` call
this; `scan_cpu.py` does the work on a processor, `scan_triton.py` on a GPU.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from models.rows import differentiable_once

LIQUIDITY = 2.0
"""r moves at most by exp(+-2) around its learned centre: effective time constants have hard bounds."""
BACKENDS = {"cpu": "models.scan_cpu", "cuda": "models.scan_triton"}


def bounded_rate(kappa: Tensor, w: Tensor) -> Tensor:
    """exp(kappa + 2 tanh(w)) in 1/s: kappa (D,), w (..., D)."""
    return torch.exp(kappa + LIQUIDITY * torch.tanh(w))


def relax(target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
    """Memories: h0 (N, D) through T observations at the rates `bounded_rate(kappa, w)`.

    target, w (T, N, D); kappa (D,); dt (T, N, 1) seconds; valid (T, N) bool. Returns every state after h0, (T, N, D). Rows with dt = 0 or
    valid = False stay bit-identical. Differentiable once in everything but `valid`.

    Raises:
        NotImplementedError: the tensors are neither on a CPU nor on a CUDA device.
    """
    moves = valid.unsqueeze(-1) & (dt > 0)
    if torch.is_grad_enabled():
        every: Tensor = _Relax.apply(target, w, kappa, dt, h0, moves)
        return every
    return _relax(target, w, kappa, dt, h0, moves)[1:]


def resonate(target: Tensor, w: Tensor, kappa: Tensor, omega: Tensor, dt: Tensor, z0: Tensor, valid: Tensor) -> Tensor:
    """Resonators: z0 (N, 2 R) through T observations; as `relax`, but z turns by omega (T, N, R) rad/s while it relaxes.

    The first R numbers of a state or a target are real parts, the others imaginary ones; w is (T, N, R), kappa (R,).
    """
    moves = valid.unsqueeze(-1) & (dt > 0)
    if torch.is_grad_enabled():
        every: Tensor = _Resonate.apply(target, w, kappa, omega, dt, z0, moves)
        return every
    return _resonate(target, w, kappa, omega, dt, z0, moves)[1:]


def _backend(device: torch.device) -> ModuleType:
    if device.type not in BACKENDS:
        raise NotImplementedError(f"scan: expected tensors on one of {', '.join(BACKENDS)}, got {device}")
    return importlib.import_module(BACKENDS[device.type])  # Triton is there only where a GPU is


def _relax(target: Tensor, *rest: Tensor) -> Tensor:
    states: Tensor = _backend(target.device).relax(target, *rest)
    return states


def _resonate(target: Tensor, *rest: Tensor) -> Tensor:
    states: Tensor = _backend(target.device).resonate(target, *rest)
    return states


class _Relax(torch.autograd.Function):
    """Keeps what exists anyway; rates and gains are computed again, since exp is cheaper than memory."""

    @staticmethod
    def forward(ctx: Any, target: Tensor, w: Tensor, kappa: Tensor, dt: Tensor, h0: Tensor, moves: Tensor) -> Tensor:  # noqa: ANN401
        states = _relax(target, w, kappa, dt, h0, moves)
        ctx.save_for_backward(target, w, kappa, dt, moves, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch types no saved_tensors
        differentiable_once()
        return *_backend(grad.device).relax_backward(grad, *ctx.saved_tensors, wants_dt=ctx.needs_input_grad[3]), None


class _Resonate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        target: Tensor,
        w: Tensor,
        kappa: Tensor,
        omega: Tensor,
        dt: Tensor,
        z0: Tensor,
        moves: Tensor,
    ) -> Tensor:
        states = _resonate(target, w, kappa, omega, dt, z0, moves)
        ctx.save_for_backward(target, w, kappa, omega, dt, moves, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        differentiable_once()
        return *_backend(grad.device).resonate_backward(grad, *ctx.saved_tensors, wants_dt=ctx.needs_input_grad[4]), None
