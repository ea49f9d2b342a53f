"""Clips that only time tells apart: a way of sampling and a seed in, embeddings, true dt and labels out; `bench_seconds.py` trains on them.

x_t = id + W z_t + 0.05 noise: 16 components, W with 6 orthonormal columns, an id for each clip. z holds 6 Ornstein-Uhlenbeck processes
of unit variance, all with tau ~ LogU(0.8, 1.6) s in a real clip; in a fake two of them, the same two in every fake as one way of forging
leaves one kind of trace, have tau ~ LogU(0.35, 0.7) s. Every single frame has the same distribution in both: only the speed in seconds
differs. The transition over an irregular dt is exact: z' = a z + sqrt(1 - a^2) e with a = exp(-dt / tau). The best that any detector
could do on such clips is known, and `ideal_logit` does it.

Narrow training never shows a test rate: 20 to 30 fps with 20 % jitter, and 5 % of frames dropped. Its short intervals (`short_dt`, in a
quarter of the clips) take 1 to 12 ms, below the 13 to 20 ms of 60 fps with jitter, and come in runs of 1 to 3 among ordinary ones.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

FRAMES, INPUTS, PROCESSES, FAST = 48, 16, 6, 2
NOISE = 0.05
REAL_TAU_S, FAKE_TAU_S = (0.8, 1.6), (0.35, 0.7)
JITTER = 0.2
SHORT_S = (0.001, 0.012)
BURST_S, GAP_S, GROUP = (0.005, 0.015), (0.1, 1.0), (2, 6)

Training = Literal["narrow", "wide"]
Sampling = Literal["narrow", "wide", "fps60", "fps30", "fps15", "fps10", "fps5", "burst", "drop50"]
TESTS: tuple[Sampling, ...] = ("fps60", "fps30", "fps15", "fps10", "fps5", "burst", "drop50")
"""What is tested besides the sampling of the training itself."""


class Clips(NamedTuple):
    """N clips of FRAMES frames."""

    x: Tensor
    """(T, N, 16) embeddings."""
    dt: Tensor
    """(T, N, 1) seconds since the previous frame; inf for the first."""
    fake: Tensor
    """(N,) float: 1 where two processes are fast; every second clip is."""


def make_clips(n: int, sampling: Sampling, seed: int, *, short_dt: bool = True) -> Clips:
    """`n` clips; the same seed gives the same ones. `short_dt` matters to the two ways of training only."""
    generator = torch.Generator().manual_seed(seed)
    dt = intervals(n, sampling, generator, short_dt=short_dt)
    fake = torch.arange(n) % 2 == 1
    tau = time_constants(fake, generator)
    z = ornstein_uhlenbeck(dt, tau, generator)
    identity = torch.randn((n, INPUTS), generator=generator)
    x = identity + z @ directions().t() + NOISE * torch.randn((FRAMES, n, INPUTS), generator=generator)
    return Clips(x, dt.unsqueeze(-1), fake.float())


def directions() -> Tensor:
    """W (16, 6): the same for every clip there is."""
    columns: Tensor = torch.linalg.qr(torch.randn((INPUTS, PROCESSES), generator=torch.Generator().manual_seed(6)))[0]
    return columns


def ideal_logit(clips: Clips, points: int = 8) -> Tensor:
    """(N,) log-odds of fake by Bayes' rule with everything known but the id and the tau.

    W'x gives processes that know nothing of each other, each Gaussian given its tau; tau is averaged over `points` of its range.
    """
    y = (clips.x @ directions()[:, :FAST]).double().permute(1, 0, 2)
    times = torch.cat((torch.zeros_like(clips.dt[:1]), clips.dt[1:])).squeeze(-1).double().cumsum(0).t()
    apart = (times.unsqueeze(2) - times.unsqueeze(1)).abs()
    one = torch.eye(y.shape[1], dtype=torch.float64)
    evidence = []
    for low, high in (REAL_TAU_S, FAKE_TAU_S):
        middles = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        likelihoods = []
        for tau in (low * (high / low) ** middles).tolist():
            # the id adds a variance of 1 that all frames share
            factor = torch.linalg.cholesky(torch.exp(-apart / tau) + 1.0 + NOISE**2 * one)
            white = torch.linalg.solve_triangular(factor, y, upper=False)
            likelihoods.append(-0.5 * white.square().sum(1) - factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True))
        evidence.append(torch.stack(likelihoods).logsumexp(0))
    return (evidence[1] - evidence[0]).sum(1)


def time_constants(fake: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 6) tau in seconds for fake (N,) bool."""
    n = fake.shape[0]
    slow, quick = (_log_uniform((n, PROCESSES), span, generator) for span in (REAL_TAU_S, FAKE_TAU_S))
    return torch.where(fake.unsqueeze(1) & (torch.arange(PROCESSES) < FAST), quick, slow)


def ornstein_uhlenbeck(dt: Tensor, tau: Tensor, generator: torch.Generator) -> Tensor:
    """(T, N, K) processes of unit variance at dt (T, N) seconds, tau (N, K) seconds; the first dt is inf and starts them."""
    keep = torch.exp(-dt.unsqueeze(-1) / tau)
    push = (1.0 - keep * keep).sqrt() * torch.randn((dt.shape[0], *tau.shape), generator=generator)
    z = [push[0]]
    for a, e in zip(keep[1:], push[1:], strict=True):
        z.append(a * z[-1] + e)
    return torch.stack(z)


def intervals(n: int, sampling: Sampling, generator: torch.Generator, *, short_dt: bool) -> Tensor:
    """(T, N) seconds between frames, the first inf."""
    if sampling == "burst":
        dt = _bursts(n, generator)
    elif sampling == "narrow":
        dt = _frames(_uniform((1, n), (20.0, 30.0), generator), torch.full((1, n), 0.05), generator)
    elif sampling == "wide":
        dt = _frames(_log_uniform((1, n), (5.0, 60.0), generator), _uniform((1, n), (0.0, 0.5), generator), generator)
        dt = torch.where(torch.rand(n, generator=generator) < 0.25, _bursts(n, generator), dt)
    else:
        fps = 30.0 if sampling == "drop50" else float(sampling.removeprefix("fps"))
        dt = _frames(torch.full((1, n), fps), torch.full((1, n), 0.5 if sampling == "drop50" else 0.0), generator)
    if short_dt and sampling in ("narrow", "wide"):
        dt = torch.where((torch.rand(n, generator=generator) < 0.25) & _short(n, generator), _uniform((FRAMES, n), SHORT_S, generator), dt)
    dt[0] = math.inf
    return dt


def _frames(fps: Tensor, dropped: Tensor, generator: torch.Generator) -> Tensor:
    """(T, N): intervals of 1 / fps seconds vary by JITTER, and frames are dropped with a probability; dt spans what is missing."""
    n = fps.shape[1]
    shots = 4 * FRAMES
    times = (_uniform((shots, n), (1.0 - JITTER, 1.0 + JITTER), generator) / fps).cumsum(0)
    gone = torch.rand((shots, n), generator=generator) < dropped
    left = gone.to(torch.uint8).argsort(dim=0, stable=True)[: FRAMES + 1]
    return times.gather(0, left.sort(dim=0).values).diff(dim=0)


def _bursts(n: int, generator: torch.Generator) -> Tensor:
    """(T, N): groups of 2 to 6 frames 5 to 15 ms apart, with gaps of 0.1 to 1 s between the groups."""
    sizes = torch.randint(GROUP[0], GROUP[1] + 1, (FRAMES // GROUP[0], n), generator=generator)
    starts = sizes.cumsum(0)
    gap = torch.zeros((FRAMES * GROUP[1], n), dtype=torch.bool).scatter_(0, starts, True)[:FRAMES]
    return torch.where(gap, _uniform((FRAMES, n), GAP_S, generator), _uniform((FRAMES, n), BURST_S, generator))


def _short(n: int, generator: torch.Generator) -> Tensor:
    """(T, N) bool: runs of 1 to 3 intervals (or more, where runs meet) that are short; about a quarter of all."""
    starts = torch.rand((FRAMES, n), generator=generator) < 0.15
    length = torch.randint(1, 4, (FRAMES, n), generator=generator)
    short = starts.clone()
    for later in (1, 2):
        short[later:] |= (starts & (length > later))[:-later]
    return short


def _uniform(shape: tuple[int, ...], span: tuple[float, float], generator: torch.Generator) -> Tensor:
    return span[0] + (span[1] - span[0]) * torch.rand(shape, generator=generator)


def _log_uniform(shape: tuple[int, ...], span: tuple[float, float], generator: torch.Generator) -> Tensor:
    return _uniform(shape, (math.log(span[0]), math.log(span[1])), generator).exp()
