"""TransformerHead: attention over true seconds behind the interface of `heads.py`, for comparison; benchmarks train it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.heads import Head


class TransformerHead(Head):
    """Causal self-attention over the last `window` usable observations, which know their distance in true seconds.

    Queries and keys are turned by rotary embeddings (Su et al. 2021) whose position is time, so only differences in seconds count. The
    state is what a stream must keep for that: keys and values of the window and their ages, 2 x blocks x window as much as a GRU keeps.

    Args:
        blocks: attention and feed-forward pairs, pre-norm.
        heads: attention heads; `units / heads` must be even.
        window: how many usable observations a moment sees, itself among them.
    """

    PERIODS_S = (0.1, 60.0)
    omega: Tensor

    def __init__(
        self, inputs: int = 128, units: int = 32, front: str = "difference", blocks: int = 2, heads: int = 4, window: int = 64
    ) -> None:
        # of each observation in the window: is there one, its age in seconds as two floats, keys and values of every block
        super().__init__(inputs, units, front, (window, 3 + 2 * blocks * units))
        if units % (2 * heads):
            raise ValueError(f"TransformerHead: expected units to be a multiple of 2 x {heads} heads, got {units}")
        self.blocks, self.heads, self.window = blocks, heads, window
        self.norms = nn.ModuleList(nn.LayerNorm(units) for _ in range(blocks))
        self.project = nn.ModuleList(nn.Linear(units, 3 * units) for _ in range(blocks))
        self.attended = nn.ModuleList(nn.Linear(units, units) for _ in range(blocks))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(units), nn.Linear(units, 2 * units), nn.GELU(), nn.Linear(2 * units, units)) for _ in range(blocks)
        )
        low, high = (2.0 * math.pi / period for period in reversed(self.PERIODS_S))
        omega = torch.logspace(math.log10(low), math.log10(high), units // heads // 2, dtype=torch.float64)
        self.register_buffer("omega", omega, persistent=False)

    @property
    def dims(self) -> dict[str, Any]:
        return {**super().dims, "blocks": self.blocks, "heads": self.heads, "window": self.window}

    def integrate(self, n: Tensor, age: Tensor, dt: Tensor, memory: Tensor, judged: Tensor) -> tuple[Tensor, Tensor]:
        past = memory[:, self.window - _most(memory[..., 0].sum(1)) :]
        behind, new, y = past.shape[1], judged.t(), n.transpose(0, 1)
        # In fp64, as ages are kept: a fast rotation loses what fp32 seconds round away after a long gap.
        now = torch.where(new, dt.squeeze(-1).t(), 0.0).double().cumsum(1)
        times = torch.cat((-past[..., 1:3].double().sum(-1), now), 1)
        there = torch.cat((past[..., 0] > 0, new), 1)
        sees = self._sees(there, behind)
        angle = times.unsqueeze(-1) * self.omega.double()
        turn = torch.stack((angle.cos(), angle.sin())).to(n.dtype).unsqueeze(2)
        kept = []
        for b, old in enumerate(torch.split(past[..., 3:], 2 * self.units, -1)):
            query, pair = torch.split(self.project[b](self.norms[b](y)), [self.units, 2 * self.units], -1)
            kept.append(pair)
            key, value = torch.cat((old, pair), 1).chunk(2, -1)
            query, key = _turned(self._apart(query), turn[..., behind:, :]), _turned(self._apart(key), turn)
            mixed = functional.scaled_dot_product_attention(query, key, self._apart(value), sees.unsqueeze(1))
            y = y + self.attended[b](mixed.transpose(1, 2).flatten(2))
            y = y + self.feed[b](y)
        tokens = torch.cat((past[..., 3:], torch.cat(kept, -1)), 1)
        return y.transpose(0, 1), self._remembered(there, times, tokens)

    def _sees(self, there: Tensor, behind: int) -> Tensor:
        """there (N, S) bool: which observations count, the first `behind` of them past -> which each new one sees, (N, T, S)."""
        rank = there.cumsum(1)
        back = rank[:, behind:, None] - rank[:, None]
        # A masked moment sees itself all the same: a softmax over nothing would be NaN, here and in the gradient.
        itself = functional.pad(torch.eye(rank.shape[1] - behind, dtype=torch.bool, device=rank.device), (behind, 0))
        return (there[:, None] & (back >= 0) & (back < self.window)) | itself

    def _remembered(self, there: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """The last `window` observations that count, at the end of (N, window, K), behind zeros; bit-identical where none is new."""
        ages = times[:, -1:] - times if times.shape[1] else times
        high = ages.to(tokens.dtype)
        low = (ages - high).to(tokens.dtype)
        entries = torch.cat((torch.ones_like(high).unsqueeze(-1), high.unsqueeze(-1), low.unsqueeze(-1), tokens), -1)
        entries = functional.pad(torch.where(there.unsqueeze(-1), entries, 0.0), (0, 0, self.window, 0))
        order = functional.pad(there.to(torch.uint8), (self.window, 0)).argsort(dim=1, stable=True)[:, -self.window :]
        return entries.gather(1, order.unsqueeze(-1).expand(-1, -1, entries.shape[-1]))

    def _apart(self, x: Tensor) -> Tensor:
        """(N, S, D) -> (N, heads, S, D / heads)."""
        return x.reshape(*x.shape[:2], self.heads, self.units // self.heads).transpose(1, 2)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """x (N, heads, S, K) with each half-and-half pair turned by cosine and sine, turn (2, N, 1, S, K / 2)."""
    a, b = x.chunk(2, -1)
    cosine, sine = turn
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)


def _most(counts: Tensor) -> int:
    return int(counts.max()) if counts.numel() else 0
