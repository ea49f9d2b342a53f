"""Why the head said so: embeddings and their seconds in, the clip's logit divided among its moments out. The pictures are drawn from this.

Nothing here is saliency after the fact. A moment's logit is what the moment says alone, read(z, k = 0), plus what its memory adds. The
second part is shared among the units of k by integrated gradients from k = 0 (Sundararajan et al. 2017, "Axiomatic Attribution for Deep
Networks", section 3, whose completeness makes the shares add up), and k is a sum over past moments exactly, because the evidence is a
linear recurrence: k_t = sum over s <= t of (product over s < j <= t of keep_j) gain_s A_s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.liquid import LiquidCell
from models.rows import first_sights
from models.temporal import LONGEST_GAP_S, TemporalHead, TemporalOutput, TemporalState, Trace, clip_logit

POINTS = (16, 64, 256)
"""Gauss-Legendre points of the integrals, more where CLOSE is missed. A trained head needs 16."""
CLOSE = 1e-4
"""How near the ledger comes to the logit, as a share of it, or of 1 where it is smaller."""
WINDOW_SHARE = 0.8
"""How much of the evidence a window holds unless told."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What the head saw in N tracks over T moments."""

    dt: Tensor
    """(T, N, 1) seconds, as given."""
    outputs: TemporalOutput
    """Logit, surprise, effective time constants, information, and which moments were judged."""
    compared: Tensor
    """(T, N) bool: judged, and not a track's first sight, whose surprise is 1 by convention."""
    clip_logit: Tensor
    """(N,) mean logit of the judged moments."""
    ledger: Tensor
    """(T, N) what each moment gave to `clip_logit`, now and, through the memory, later. It sums to it with `carried` and `remainder`."""
    alone: Tensor
    """(T, N) the part of the ledger that needs no memory."""
    carried: Tensor
    """(N,) what came with the initial state."""
    remainder: Tensor
    """(N,) what the integrals missed: below 1e-4 of the logit (or of 1) unless the read-out is too rough for 256 points."""
    evenly: Tensor
    """(T, N) the logits that the same pictures would have got, evenly spaced over the same time: the counterfactual gap."""
    timing: Tensor
    """(N,) how much of `clip_logit` is due to when the pictures came: itself minus the mean of `evenly`."""

    def seconds(self) -> Tensor:
        """(T, N) seconds since each track's first judged moment, fp64. A moment that was not judged shows the time of the last that was."""
        # A moment's own seconds are inside the next judged dt. An endless gap of a face that was known counts as the head counts it.
        dt = self.dt.squeeze(-1).double()
        return torch.where(self.compared, torch.where(dt.isinf(), LONGEST_GAP_S, dt), 0.0).cumsum(0)

    def window(self, track: int, share: float = WINDOW_SHARE) -> tuple[float, float, float] | None:
        """The shortest stretch (start, end in seconds, share held) with `share` of the track's evidence; None where there is none.

        Evidence is what points the way of `clip_logit`: entries of its sign. A first sight compares with nothing and is none.

        Raises:
            ValueError: `share` is not in (0, 1].
        """
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share: expected more than 0 and at most 1, got {share:g}")
        compared = self.compared[:, track].cpu().numpy()
        sign = 1.0 if float(self.clip_logit[track]) >= 0.0 else -1.0
        entries = np.clip(sign * self.ledger[:, track].double().cpu().numpy()[compared], 0.0, None)
        times = self.seconds()[:, track].cpu().numpy()[compared]
        total = entries.sum()
        if not total > 0.0:
            return None
        held = np.concatenate(([0.0], entries.cumsum()))
        # For each start the first end that holds enough; the few last starts hold too little.
        ends = np.searchsorted(held, held[:-1] + share * total - 1e-9 * total) - 1
        fits = np.flatnonzero(ends < len(times))
        start = fits[np.argmin(times[ends[fits]] - times[fits])]
        end = ends[start]
        return float(times[start]), float(times[end]), float((held[end + 1] - held[start]) / total)


@torch.inference_mode(False)
def explain(head: TemporalHead, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: TemporalState | None = None) -> Explanation:
    """`head.forward` with its reasons: x (T, N, E), dt (T, N, 1) seconds, mask (T, N) bool. Autocast is off inside.

    Raises:
        ValueError: as `forward`; or the head's evidence is not an exact flow (cell "ltc" or "cfc"), so that it adds up to nothing.
    """
    if not isinstance(head.evidence, LiquidCell):
        raise ValueError(f"explain: expected a head with cell 'liquid' or 'resonator', whose evidence is linear; got {head.cell!r}")
    state = head.init(x.shape[1]) if state is None else state
    # Clones, for a tensor born in inference mode can have no gradient.
    x, dt, state = x.clone(), dt.clone(), TemporalState(*(part.clone() for part in state))
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        outputs, _, parts = head.trace(x, dt, mask, state)
        compared = outputs.judged & ~first_sights(state.started, outputs.judged).squeeze(-1)
        evenly, _, _ = head.trace(x, _evenly(dt, compared), mask, state)  # the same arithmetic, on a GPU too
        clip = clip_logit(outputs.logit, outputs.judged)
        weight = outputs.judged / outputs.judged.sum(0).clamp(min=1)
        alone = weight * head.read(parts.z, parts.n, torch.zeros_like(parts.k))
        for points in POINTS:
            slope = _mean_slope(head, parts.z, parts.n, parts.k, points) * weight.unsqueeze(-1)
            through_memory, carried = _through_memory(head.evidence, parts, state, outputs.judged, slope)
            ledger = alone + through_memory
            remainder = clip - ledger.sum(0) - carried
            if bool((remainder.abs() <= CLOSE * clip.abs().clamp(min=1.0)).all()):
                break
    timing = clip - clip_logit(evenly.logit, outputs.judged)
    return Explanation(dt, outputs, compared, clip, ledger, alone, carried, remainder, evenly.logit, timing)


def _through_memory(evidence: LiquidCell, parts: Trace, state: TemporalState, judged: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of sum slope_t k_t: of each moment's target (T, N), and of the initial state (N,). The scan's own backward divides it."""
    with torch.enable_grad():
        target = evidence.coefficients(parts.n)[0].detach().requires_grad_()
        k0 = state.k.detach().clone().requires_grad_()
        k = evidence.relaxed(target, parts.n, parts.dt, k0, judged)
        if not len(k):
            return torch.zeros_like(slope[..., 0]), torch.zeros_like(k0[:, 0]).detach()
        to_target, to_k0 = torch.autograd.grad(k, (target, k0), slope)
    return (to_target * target).sum(-1).detach(), (to_k0 * k0).sum(-1).detach()


def _mean_slope(head: TemporalHead, z: Tensor, n: Tensor, k: Tensor, points: int) -> Tensor:
    """d read / d k (T, N, D), averaged over the way from no evidence to k; times k it is what the memory adds, read(z, k) - read(z, 0)."""
    places, weights = np.polynomial.legendre.leggauss(points)
    slope = torch.zeros_like(k)
    for place, weight in zip(places, weights, strict=True):
        with torch.enable_grad():
            part = ((place + 1.0) / 2.0 * k).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(head.read(z, n, part).sum(), part)
        slope += weight / 2.0 * gradient
    return slope


def _evenly(dt: Tensor, compared: Tensor) -> Tensor:
    """dt (T, N, 1) with each track's moments evenly spread over the time that they took."""
    compared = compared.unsqueeze(-1)
    took = torch.where(compared, dt.clamp(max=LONGEST_GAP_S), 0.0).sum(0)  # as the head counts them
    return torch.where(compared, took / compared.sum(0).clamp(min=1), dt)
