"""Cell: what `liquid.py`, `ltc.py` and `cfc.py` have in common. Rows and their own seconds in, states out; whoever streams keeps the state.

The contract is one for all: `init` gives a state, `step` takes it and gives it back, `forward` is the fold of `step`, equal to it bitwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.rows import checked_dt, expect_shape, usable_rows


class Cell(nn.Module):
    """A recurrent cell in continuous time. Holds parameters only.

    A subclass says what the input alone decides (`drive`, over all moments at once) and how one state moves (`advance`).

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

    def step(self, u: Tensor, h: Tensor, dt: Tensor, mask: Tensor | None = None) -> Tensor:
        """One observation: u (N, inputs), h (N, D), dt (N, 1) seconds since each row's previous one, mask (N,) bool -> h (N, D).

        Rows never influence each other. dt = 0 leaves a row's h bit-identical; so does mask = False or a u that is not finite
        (then the caller adds this dt to the row's next one). inf or more than 1e4 s reads as 1e4 s.

        Raises:
            ValueError: a shape is wrong, or dt is negative or NaN.
        """
        _, last = self.forward(u.unsqueeze(0), dt.unsqueeze(0), h, None if mask is None else mask.unsqueeze(0))
        return last

    def forward(self, u: Tensor, dt: Tensor, h0: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The fold of `step`: u (T, N, inputs), dt (T, N, 1), h0 (N, D), mask (T, N) -> every h (T, N, D) and the last (N, D)."""
        expect_shape("u", u, (*u.shape[:2], self.inputs), "(T, N, inputs)")
        expect_shape("h0", h0, (u.shape[1], self.units), "(N, units)")
        dtype = next(self.parameters()).dtype
        u, valid = usable_rows(u.to(dtype), mask)
        dt = checked_dt(dt, u.shape[:2]).to(dtype)
        with torch.autocast(u.device.type, enabled=False):  # the state outlives a thousand steps: bf16 would freeze it
            states = self.roll(u, dt, h0.to(dtype), valid)
        return states[1:], states[-1]

    def roll(self, u: Tensor, dt: Tensor, h0: Tensor, valid: Tensor) -> Tensor:
        """h0 and every state, (T + 1, N, D), of checked inputs; valid (T, N) bool says which rows count."""
        drive = self.drive(u)
        moves = valid.unsqueeze(-1) & (dt > 0)
        states = [h0]
        for t in range(u.shape[0]):
            # where, not a factor 0: h + 0 turns -0.0 into 0.0, and "bit-identical" is the promise.
            states.append(torch.where(moves[t], self.advance(drive[t], states[-1], dt[t]), states[-1]))
        return torch.stack(states)

    def drive(self, u: Tensor) -> Tensor:
        """What u (T, N, inputs) alone decides, (T, N, K); computed once for all moments."""
        raise NotImplementedError

    def advance(self, drive: Tensor, h: Tensor, dt: Tensor) -> Tensor:
        """h (N, D) after dt (N, 1) seconds under drive (N, K). dt = 0 may do anything finite: `roll` discards it."""
        raise NotImplementedError
