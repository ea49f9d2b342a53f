"""The default TemporalHead on a GPU as one kernel: embeddings and seconds in, every output and the new state out, without a gradient.

`slots.py` calls it for streams (T = 1, states in a slab), `temporal.py` for clips; T is a loop inside the kernel, so that a stream and a
clip run the same code and agree bitwise. A program has a block of ROWS rows: every product has one shape, however many rows there are, and
every sum runs along one row, so a row's bits depend on nobody else. fp32 throughout, products included ("ieee").
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.liquid import WIDEST_KAPPA
from models.rows import LARGEST_INPUT, LONGEST_DT_S, checked_dt, expect_mask, expect_shape, first_sights, usable_rows
from models.scan_triton import exp, expm1, function, kernel, on, rate_of, tanh
from models.temporal import LONGEST_GAP_S, SURPRISE_CEILING, TemporalHead, TemporalOutput, TemporalState

ROWS = 8
"""Rows a program: 1,056 streams are one wave on the 132 multiprocessors of an H100; with 16 rows, few streams would wait twice as long."""
WARPS = 8
PRECISION = "ieee"
"""Of the products: one fp32 after the other. "tf32x3" is a quarter of the instructions; nobody has yet measured what it does to a logit."""
MOST_UNITS = 128
"""Wider, the weights of a layer no longer fit a multiprocessor."""
COMPONENTS_AT_ONCE = 64
"""Components of an embedding multiplied at once: facenet's 512 would not fit either."""
NO_SLOT = -1
"""Slot of a row that fills up a batch: read from nowhere, never judged, written nowhere."""


def forward(
    head: TemporalHead, x: Tensor, dt: Tensor, mask: Tensor | None = None, state: TemporalState | None = None
) -> tuple[TemporalOutput, TemporalState]:
    """As `head.forward` under no_grad: x (T, N, E), dt (T, N, 1) seconds, mask (T, N) bool -> outputs over T, last state.

    Raises:
        ValueError: as `head.forward`; or the head is not the one this kernel computes (`supports`).
    """
    expect_shape("x", x, (*x.shape[:2], head.inputs), "(T, N, E)")
    expect_shape("dt", dt, (*x.shape[:2], 1), "(T, N, 1) in seconds")
    expect_mask(mask, x.shape[:2])
    state = head.init(x.shape[1]) if state is None else state
    state = head.checked(state, x.shape[1])
    refuse_time_that_runs_backwards(x, dt, mask, state.started)
    state = TemporalState(*(part.clone(memory_format=torch.contiguous_format) for part in state))
    outputs = empty_outputs(head, x.shape[:2])
    step_slots(head, x, dt, mask, torch.arange(x.shape[1], device=x.device), state, outputs)
    return outputs, state


def step_slots(
    head: TemporalHead, x: Tensor, dt: Tensor, mask: Tensor | None, slots: Tensor, slab: TemporalState, outputs: TemporalOutput
) -> None:
    """Rows of x (T, N, E) through the head, their states in `slab` at `slots` (N,) int64, changed in place; `outputs` (T, N, ...) filled.

    dt (T, N, 1) seconds, mask (T, N) bool. Waits for nothing and copies no dense fp32 input, so that a CUDA graph can hold it; therefore
    the caller answers for what it cannot check: no slot twice, none beyond the slab, and no started row with a negative or NaN dt.

    Raises:
        ValueError: the head is not the one this kernel computes.
    """
    expect_supported(head)
    steps, rows = x.shape[:2]
    mask = torch.ones((steps, rows), dtype=torch.bool, device=x.device) if mask is None else mask
    if not steps or not rows:
        return
    evidence: Any = head.evidence
    layers: list[Any] = [head.embed, head.memory.rate, head.innovation, head.norm, evidence.target, evidence.rate]
    layers += [head.gate, head.merge, head.readout_norm, head.readout_hidden, head.readout]
    weights = [part.detach() for layer in layers for part in (layer.weight, layer.bias)]
    centres = [part.detach() for part in (head.memory.kappa, head.kappa_q, head.kappa_sigma, evidence.kappa)]
    options, constants = settings(head)
    with on(x.device):
        _step[(triton.cdiv(rows, ROWS),)](
            *(_whole(x.detach().float()), _whole(dt.detach().float()), _bytes(_whole(mask)), _whole(slots)),
            *(slab.h, slab.k, _bytes(slab.started)),
            *(outputs.logit, outputs.surprise, outputs.tau, _bytes(outputs.judged), outputs.information),
            *weights,
            *centres,
            *(steps, rows),
            **constants,
            **options,
        )


def settings(head: TemporalHead) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the kernel is compiled for this head: options of the compiler, and its constants."""
    # Three stages, the default, would load weights two layers ahead into 340 KB of shared memory; a GPU has 100 to 227.
    options = {"num_warps": WARPS, "num_stages": 1}
    constants = {
        "E": head.inputs,
        "D": head.units,
        "E_WIDE": min(COMPONENTS_AT_ONCE, _wide(head.inputs)),
        "D_WIDE": _wide(head.units),
        "ROWS": ROWS,
        "LARGEST": LARGEST_INPUT,
        "LONGEST": LONGEST_DT_S,
        "GAP": LONGEST_GAP_S,
        "CEILING": SURPRISE_CEILING,
        "WIDEST": WIDEST_KAPPA,
        "EPS_N": head.norm.eps,
        "EPS_Y": head.readout_norm.eps,
        "PRECISION": PRECISION,
    }
    return options, constants


def supports(head: TemporalHead) -> bool:
    """Whether this kernel computes `head`: liquid evidence without resonators, at most 128 units, fp32."""
    return head.cell == "liquid" and head.units <= MOST_UNITS and head.kappa_q.dtype == torch.float32


def expect_supported(head: TemporalHead) -> None:
    """ValueError unless the kernel computes `head`."""
    if not supports(head):
        raise ValueError(
            f"step_triton: expected a head with cell 'liquid' and at most {MOST_UNITS} units in torch.float32, "
            f"got {head.cell!r} with {head.units} in {head.kappa_q.dtype}"
        )


def empty_outputs(head: TemporalHead, rows: torch.Size | tuple[int, ...]) -> TemporalOutput:
    """Outputs of `rows` (N,) or (T, N) to be filled."""
    like = head.kappa_q.detach()
    return TemporalOutput(
        logit=like.new_empty(rows),
        surprise=like.new_empty(rows),
        tau=like.new_empty((*rows, head.units)),
        judged=like.new_empty(rows, dtype=torch.bool),
        information=like.new_empty(rows),
    )


def refuse_time_that_runs_backwards(x: Tensor, dt: Tensor, mask: Tensor | None, started: Tensor) -> None:
    """ValueError when a started row's dt is negative or NaN; x (T, N, E) says, where that is in doubt, when each row starts."""
    if bool((dt >= 0).all()):
        return
    _, judged = usable_rows(x, mask)
    checked_dt(torch.where(first_sights(started, judged), LONGEST_DT_S, dt), x.shape[:2])


def _whole(part: Tensor) -> Tensor:
    """`part`, dense and aligned as torch aligns whole tensors: for others Triton compiles other code, which might sum in another order."""
    part = part.contiguous()
    return part if part.data_ptr() % 16 == 0 else part.clone()


def _bytes(flags: Tensor) -> Tensor:
    return flags.view(torch.uint8)


def _wide(n: int) -> int:
    """Triton's blocks are powers of two, and 8 is the shortest sum it multiplies."""
    return max(8, 1 << (n - 1).bit_length())


@function
def vector(values: tl.tensor, col: tl.tensor, D: tl.constexpr) -> Any:  # noqa: ANN401, N803 - Triton's way to write what is known early
    """D numbers as a row (1, wide D), 0 in the columns that fill up."""
    return tl.load(values + col, mask=col < D, other=0.0)[None, :]


@function
def product(
    x: tl.tensor,
    weight: tl.tensor,
    col: tl.tensor,
    inner: tl.tensor,
    OUT: tl.constexpr,  # noqa: N803
    IN: tl.constexpr,  # noqa: N803
    STRIDE: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
) -> Any:  # noqa: ANN401
    """x (ROWS, wide) times a weight (OUT, STRIDE) transposed: its columns `inner`, as far as they are below IN."""
    both = (col[None, :] < OUT) & (inner[:, None] < IN)
    return tl.dot(x, tl.load(weight + col[None, :] * STRIDE + inner[:, None], mask=both, other=0.0), input_precision=PRECISION)


@function
def linear(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    col: tl.tensor,
    D: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
) -> Any:  # noqa: ANN401
    """x (ROWS, wide D) times weight (D, D) transposed, plus bias."""
    return product(x, weight, col, col, D, D, D, PRECISION) + vector(bias, col, D)


@function
def normed(
    z: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    col: tl.tensor,
    D: tl.constexpr,  # noqa: N803
    EPS: tl.constexpr,  # noqa: N803
) -> Any:  # noqa: ANN401
    """Layer norm of z (ROWS, wide D), 0 in the columns that fill up."""
    real = col[None, :] < D
    off = tl.where(real, z - (tl.sum(z, axis=1) / D)[:, None], 0.0)
    size = tl.sqrt_rn(tl.sum(off * off, axis=1) / D + EPS)
    return tl.div_rn(off, size[:, None]) * vector(weight, col, D) + vector(bias, col, D)


@function
def log1p(x: tl.tensor) -> Any:  # noqa: ANN401
    """log(1 + x) for x >= 0; what rounding 1 + x lost comes back as the second term (Kahan)."""
    y = 1.0 + x
    return tl.log(y) + tl.div_rn(x - (y - 1.0), y)


@function
def linear_of_features(
    nu: tl.tensor,
    mean_nu: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    col: tl.tensor,
    D: tl.constexpr,  # noqa: N803
    CEILING: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
) -> Any:  # noqa: ANN401
    """z of [log1p nu; min(nu, ceiling) / 4; log(mean nu + 1e-3)], piece by piece: nothing is ever 2 D + 1 wide."""
    z = product(log1p(nu), weight, col, col, D, D, 2 * D + 1, PRECISION)
    z += product(tl.where(nu > CEILING, CEILING, nu) * 0.25, weight + D, col, col, D, D, 2 * D + 1, PRECISION)
    last = tl.load(weight + col * (2 * D + 1) + 2 * D, mask=col < D, other=0.0)
    z += tl.log(mean_nu + 1e-3)[:, None] * last[None, :]
    return z + vector(bias, col, D)


@kernel
def _step(
    x: tl.tensor,
    dt: tl.tensor,
    mask: tl.tensor,
    slots: tl.tensor,
    slab_h: tl.tensor,
    slab_k: tl.tensor,
    slab_started: tl.tensor,
    logit: tl.tensor,
    surprise: tl.tensor,
    tau: tl.tensor,
    judged: tl.tensor,
    information: tl.tensor,
    embed_w: tl.tensor,
    embed_b: tl.tensor,
    rate_w: tl.tensor,
    rate_b: tl.tensor,
    innovation_w: tl.tensor,
    innovation_b: tl.tensor,
    norm_w: tl.tensor,
    norm_b: tl.tensor,
    target_w: tl.tensor,
    target_b: tl.tensor,
    evidence_w: tl.tensor,
    evidence_b: tl.tensor,
    gate_w: tl.tensor,
    gate_b: tl.tensor,
    merge_w: tl.tensor,
    merge_b: tl.tensor,
    readout_norm_w: tl.tensor,
    readout_norm_b: tl.tensor,
    hidden_w: tl.tensor,
    hidden_b: tl.tensor,
    readout_w: tl.tensor,
    readout_b: tl.tensor,
    kappa: tl.tensor,
    kappa_q: tl.tensor,
    kappa_sigma: tl.tensor,
    evidence_kappa: tl.tensor,
    steps: tl.tensor,
    rows: tl.tensor,
    E: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    E_WIDE: tl.constexpr,  # noqa: N803
    D_WIDE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    LARGEST: tl.constexpr,  # noqa: N803
    LONGEST: tl.constexpr,  # noqa: N803
    GAP: tl.constexpr,  # noqa: N803
    CEILING: tl.constexpr,  # noqa: N803
    WIDEST: tl.constexpr,  # noqa: N803
    EPS_N: tl.constexpr,  # noqa: N803
    EPS_Y: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    slot = tl.load(slots + row, mask=inside, other=-1)
    live = slot >= 0
    col = tl.arange(0, D_WIDE)
    place = tl.arange(0, E_WIDE)
    real = col[None, :] < D
    own = live[:, None] & real
    state_at = slot[:, None] * D + col[None, :]
    h = tl.load(slab_h + state_at, mask=own, other=0.0)
    k = tl.load(slab_k + state_at, mask=own, other=0.0)
    started = tl.load(slab_started + slot, mask=live, other=0) != 0
    centre = tl.minimum(tl.maximum(vector(kappa, col, D), -WIDEST), WIDEST)
    evidence_centre = tl.minimum(tl.maximum(vector(evidence_kappa, col, D), -WIDEST), WIDEST)
    q = exp(vector(kappa_q, col, D))
    floor = exp(2.0 * vector(kappa_sigma, col, D))
    for _ in range(0, steps):
        counts = live & (tl.load(mask + row, mask=inside, other=0) != 0)
        for start in tl.static_range(0, E, E_WIDE):
            seen = tl.load(x + row[:, None] * E + (start + place)[None, :], mask=live[:, None] & (start + place < E)[None, :], other=0.0)
            counts = counts & (tl.sum((tl.abs(seen) <= LARGEST).to(tl.int32), axis=1) == E_WIDE)  # NaN is not
        u = tl.zeros((ROWS, D_WIDE), tl.float32)
        for start in tl.static_range(0, E, E_WIDE):
            here = counts[:, None] & (start + place < E)[None, :]
            seen = tl.load(x + row[:, None] * E + (start + place)[None, :], mask=here, other=0.0)
            u += product(seen, embed_w, col, start + place, D, E, E, PRECISION)
        u += vector(embed_b, col, D)
        given = tl.load(dt + row, mask=inside, other=0.0)
        seconds = tl.where(started, tl.where(given > GAP, GAP, given), LONGEST)
        moves = (counts & (seconds > 0.0))[:, None]
        seconds = seconds[:, None]
        begun = started[:, None]

        rate, _bent = rate_of(linear(u, rate_w, rate_b, col, D, PRECISION), centre)
        off = u - h
        h = tl.where(moves, h + off * -expm1(-(rate * seconds)), h)

        growth = -expm1(-2.0 * seconds * q)
        variance = growth + floor
        nu = tl.where(real, tl.where(begun, tl.div_rn(off * off, variance), 1.0), 0.0)
        share = tl.where(real & begun, tl.div_rn(growth, variance), 0.0)
        mean_nu = tl.sum(nu, axis=1) / D
        z = linear_of_features(nu, mean_nu, innovation_w, innovation_b, col, D, CEILING, PRECISION)

        n = normed(z, norm_w, norm_b, col, D, EPS_N)
        faster, _bent = rate_of(linear(n, evidence_w, evidence_b, col, D, PRECISION), evidence_centre)
        way = linear(n, target_w, target_b, col, D, PRECISION) - k
        k = tl.where(moves, k + way * -expm1(-(faster * seconds)), k)

        gate = linear(n, gate_w, gate_b, col, D, PRECISION)
        y = z + linear(k * (0.5 * gate * (1.0 + tanh(0.5 * gate))), merge_w, merge_b, col, D, PRECISION)
        y = linear(normed(y, readout_norm_w, readout_norm_b, col, D, EPS_Y), hidden_w, hidden_b, col, D, PRECISION)
        y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
        said = tl.sum(y * vector(readout_w, col, D), axis=1) + tl.load(readout_b)

        tl.store(logit + row, tl.where(counts, said, 0.0), mask=inside)
        tl.store(surprise + row, tl.where(counts, mean_nu, 1.0), mask=inside)
        tl.store(tau + row[:, None] * D + col[None, :], tl.div_rn(1.0, rate), mask=inside[:, None] & real)
        tl.store(judged + row, counts.to(tl.uint8), mask=inside)
        tl.store(information + row, tl.where(counts, tl.sum(share, axis=1) / D, 0.0), mask=inside)
        started = started | counts
        x += rows.to(tl.int64) * E
        tau += rows.to(tl.int64) * D
        dt += rows
        mask += rows
        logit += rows
        surprise += rows
        judged += rows
        information += rows
    tl.store(slab_h + state_at, h, mask=own)
    tl.store(slab_k + state_at, k, mask=own)
    tl.store(slab_started + slot, started.to(tl.uint8), mask=live)
