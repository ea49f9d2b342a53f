"""Cell: what `liquid.py`, `ltc.py` and `cfc.py` have in common. Rows and their own seconds in, states out; whoever streams keeps the state.

The contract is one for all: `init` gives a state, `step` takes it and gives it back, `forward` is the fold of `step`, equal to it bitwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from models.rows import checked_dt, chunks, expect_dtype, expect_mask, expect_shape, usable_rows

Flow: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


class Cell(nn.Module):
    """A recurrent cell in continuous time. Holds parameters only.

    A subclass says what the input alone decides (`drive`, over all moments at once) and how one state moves (`flow`).

    Args:
        inputs: components of u.
        units: components of h (D).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        if inputs < 1 or units < 1:
            raise ValueError(f"{type(self).__name__}: expected at least 1 input and 1 unit, got {inputs} and {units}")
        self.inputs = inputs
        self.units = units

    def init(self, n: int) -> Tensor:
        """State of `n` rows that have seen nothing: zeros (n, D)."""
        return next(self.parameters()).new_zeros((n, self.units))

    def slow_parameters(self) -> list[nn.Parameter]:
        """Those that set time constants: an optimiser moves them slowly and does not pull them towards 1 s."""
        return []

    def step(self, u: Tensor, h: Tensor, dt: Tensor, mask: Tensor | None = None) -> Tensor:
        """One observation: u (N, inputs), h (N, D), dt (N, 1) seconds since each row's previous one, mask (N,) bool -> h (N, D).

        Rows never influence each other. dt = 0 leaves a row's h bit-identical; so does mask = False or a u with a component that is
        not finite or beyond 1e6 (then the caller adds this dt to the row's next one). inf or more than 1e4 s reads as 1e4 s.

        Raises:
            ValueError: a shape is wrong, or dt is negative or NaN.
        """
        _, last = self.forward(u.unsqueeze(0), dt.unsqueeze(0), h, None if mask is None else mask.unsqueeze(0))
        return last

    def forward(self, u: Tensor, dt: Tensor, h0: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The fold of `step`: u (T, N, inputs), dt (T, N, 1), h0 (N, D), mask (T, N) -> every h (T, N, D) and the last (N, D)."""
        expect_shape("u", u, (*u.shape[:2], self.inputs), "(T, N, inputs)")
        expect_shape("h0", h0, (u.shape[1], self.units), "(N, units)")
        expect_mask(mask, u.shape[:2])
        dtype = expect_dtype(next(self.parameters()))
        dt, h0 = checked_dt(dt, u.shape[:2]).to(dtype), h0.to(dtype)
        with torch.autocast(u.device.type, enabled=False):  # the state outlives a thousand steps: bf16 would freeze it
            if torch.is_grad_enabled():
                u, valid = usable_rows(u.to(dtype), mask)
                every = self.roll(u, dt, h0, valid)
                return every, last_of(every, h0)
            every, last = h0.new_empty((*u.shape[:2], self.units)), h0
            for part in chunks(u.shape[0], u.shape[1] * max(self.inputs, self.units)):
                rows, valid = usable_rows(u[part].to(dtype), None if mask is None else mask[part])
                every[part] = self.roll(rows, dt[part], last, valid)
                last = every[part.stop - 1]
            return every, last.clone()

    def roll(self, u: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
        """Every state after h0, (T, N, D), of checked inputs; valid (T, N) bool says which rows count."""
        flow, moves = self.flow(), valid.unsqueeze(-1) & (dt > 0)
        dt = torch.where(moves, dt, 0.0)  # an adaptive solver would cross a masked row's hour for nothing
        every, h = [], h0
        # unbind, not [t]: the gradient of an index fills all T, T times over.
        for drive, seconds, move in zip(self.drive(u).unbind(0), dt.unbind(0), moves.unbind(0), strict=True):
            # where, not a factor 0: h + 0 turns -0.0 into 0.0, and "bit-identical" is the promise.
            h = torch.where(move, flow(drive, h, seconds), h)
            every.append(h)
        return torch.stack(every) if every else h0.new_empty((0, *h0.shape))

    def drive(self, u: Tensor) -> Tensor:
        """What u (T, N, inputs) alone decides, (T, N, K); computed once for all moments."""
        raise NotImplementedError

    def flow(self) -> Flow:
        """How one state moves: (drive (N, K), h (N, D), dt (N, 1) seconds) -> h (N, D), with what only parameters decide computed once.

        dt = 0 may do anything finite: `roll` discards it.
        """
        raise NotImplementedError


def last_of(every: Tensor, before: Tensor) -> Tensor:
    """The last of (T, N, D) states, or `before` (N, D) where T = 0; with memory of its own, so that a state keeps no clip alive."""
    return (every[-1] if len(every) else before).clone()
