"""The GPU's kernels against the processor's code: on a GPU where there is one, and everywhere else in Triton's interpreter.

Triton decides while it is imported whether it interprets, so one test here runs this file once more, in a process of its own; there the
tests marked `gpu` get a processor. A third kind of test compiles the kernels for GPUs that are not here.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import scan_cpu, slots
from models.rows import LONGEST_DT_S
from models.slots import TemporalSlots
from models.temporal import TemporalHead, TemporalOutput, TemporalState
from tests.models.contracts import same_bits
from tests.models.test_scan import KINDS, Inputs, make
from tests.models.test_temporal import all_same_bits, make_clip, make_head
from tests.support import ROOT, require

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHARED_MEMORY = 99 * 1024
"""Bytes a program may have on the smallest GPU we think of (compute capability 8.6 and 12.0)."""

gpu = pytest.mark.gpu
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture
def device() -> torch.device:
    """Where kernels run: a processor in the interpreter, a GPU anywhere else."""
    if INTERPRETED:
        return torch.device("cpu")
    require("gpu")
    return torch.device("cuda")


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_the_interpreter_agrees_with_the_processor() -> None:
    """Every test below that is marked `gpu` and needs no real one."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", __file__]
    child = subprocess.run(command, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout[-5000:] + child.stderr[-2000:]
    assert re.search(r"\d\d passed", child.stdout), child.stdout


# The scan


def moves_of(inputs: Inputs) -> Tensor:
    return inputs.valid.unsqueeze(-1) & (inputs.dt > 0)


def scan(backend: Any, inputs: Inputs, device: torch.device) -> Tensor:  # noqa: ANN401 - a module
    """Every state, with the first in front, on the processor."""
    there = inputs.map(lambda one: one.to(device))
    moves = moves_of(inputs).to(device)
    if there.omega is None:
        states: Tensor = backend.relax(there.target, there.w, there.kappa, there.dt, there.h0, moves)
    else:
        states = backend.resonate(there.target, there.w, there.kappa, there.omega, there.dt, there.h0, moves)
    return states.cpu()


def scan_backward(
    backend: Any,  # noqa: ANN401
    inputs: Inputs,
    states: Tensor,
    device: torch.device,
    *,
    wants_dt: bool = True,
) -> list[Tensor | None]:
    """Gradients of a fixed mixture of the states, on the processor."""
    pull = torch.randn(inputs.target.shape, generator=torch.Generator().manual_seed(5)).to(inputs.target)
    there = inputs.map(lambda one: one.to(device))
    turning = () if there.omega is None else (there.omega,)
    backward = backend.relax_backward if there.omega is None else backend.resonate_backward
    found = backward(
        *(pull.to(device), there.target, there.w, there.kappa, *turning, there.dt, moves_of(inputs).to(device), states.to(device)),
        wants_dt=wants_dt,
    )
    return [None if one is None else one.cpu() for one in found]


@gpu
@KINDS
@pytest.mark.parametrize(("steps", "rows", "units"), [(0, 3, 7), (1, 1, 1), (2, 3, 7), (31, 5, 13), (3, 2, 64), (4, 0, 5)])
def test_scan_equals_the_processors(steps: int, rows: int, units: int, turning: bool, device: torch.device) -> None:
    from models import scan_triton

    inputs = make(steps, rows, units, turning=turning)
    expected = scan(scan_cpu, inputs, torch.device("cpu"))
    torch.testing.assert_close(scan(scan_triton, inputs, device), expected, atol=1e-5, rtol=0)
    theirs = scan_backward(scan_cpu, inputs, expected, torch.device("cpu"))
    ours = scan_backward(scan_triton, inputs, expected, device)
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)
    assert scan_backward(scan_triton, inputs, expected, device, wants_dt=False)[-2] is None


@gpu
@KINDS
@pytest.mark.parametrize("dt", [0.0, 1e-30, 1e-12, 1e-8, 1 / 30, 60.0, LONGEST_DT_S])
def test_scan_is_accurate_at_every_dt(dt: float, turning: bool, device: torch.device) -> None:
    """From a state of 0, h' is the gain times the target: a gain that lost its digits shows in the ratio."""
    from models import scan_triton

    inputs = make(1, 3, 11, turning=turning)
    inputs = inputs._replace(dt=torch.full_like(inputs.dt, dt), h0=torch.zeros_like(inputs.h0), valid=torch.ones_like(inputs.valid))
    states = scan(scan_triton, inputs, device)
    exact = scan(scan_cpu, inputs.map(Tensor.double), torch.device("cpu"))
    # Real and imaginary parts are differences, exact to the size of what was subtracted; an angle of 60 rad is itself known to 4e-6.
    scale = float(exact.abs().max()) if turning else 1e-30
    torch.testing.assert_close(states.double(), exact, atol=1e-5 * scale, rtol=3e-6)
    gradients = scan_backward(scan_triton, inputs, states, device)
    assert all(one is not None and bool(one.isfinite().all()) for one in gradients)


@gpu
@KINDS
def test_scan_leaves_bits_where_nothing_moves(turning: bool, device: torch.device) -> None:
    from models import scan_triton

    inputs = make(3, 4, 5, turning=turning)
    inputs.h0[0, 0] = -0.0
    for still in (
        inputs._replace(dt=torch.zeros_like(inputs.dt)),
        inputs._replace(dt=torch.ones_like(inputs.dt), valid=torch.zeros_like(inputs.valid)),
    ):
        assert same_bits(scan(scan_triton, still, device), still.h0.expand(4, -1, -1))


@gpu
@KINDS
def test_scan_keeps_rows_apart(turning: bool, device: torch.device) -> None:
    """A row has the same bits alone, in a batch, and beside a row that is no number."""
    from models import scan_triton

    inputs = make(5, 3, 30, turning=turning)
    inputs = inputs._replace(valid=torch.ones_like(inputs.valid))
    together = scan(scan_triton, inputs, device)
    gradients = scan_backward(scan_triton, inputs, together, device)
    for i in range(3):
        assert same_bits(scan(scan_triton, inputs.rows(slice(i, i + 1)), device), together[:, i : i + 1])
    bad = inputs.map(Tensor.clone)
    bad.target[2, 1] = math.nan
    others = [0, 2]
    poisoned = scan(scan_triton, bad, device)
    assert same_bits(poisoned[:, others], together[:, others])
    assert bool(poisoned[-1, 1].isnan().any())
    for got, clean in zip(scan_backward(scan_triton, bad, poisoned, device), gradients, strict=True):
        assert got is not None and clean is not None
        if got.dim() > 1:
            at = (slice(None), others) if got.dim() == 3 else (others,)
            assert same_bits(got[at], clean[at])


@gpu
@KINDS
def test_scan_of_a_stream_is_that_of_the_clip(turning: bool, device: torch.device) -> None:
    from models import scan_triton

    inputs = make(6, 3, 7, turning=turning)
    clip, h = scan(scan_triton, inputs, device), inputs.h0
    for t in range(6):
        at = slice(t, t + 1)
        omega = None if inputs.omega is None else inputs.omega[at]
        here = Inputs(inputs.target[at], inputs.w[at], inputs.kappa, omega, inputs.dt[at], h, inputs.valid[at])
        h = scan(scan_triton, here, device)[1]
        assert same_bits(h, clip[t + 1])


@gpu
@KINDS
def test_scan_takes_tensors_as_they_lie_and_answers_the_same_twice(turning: bool, device: torch.device) -> None:
    from models import scan_triton

    inputs = make(4, 3, 6, turning=turning)
    strided = inputs.map(lambda one: torch.stack((one, one), -1)[..., 0])
    assert not strided.target.is_contiguous()
    states = scan(scan_triton, inputs, device)
    assert same_bits(scan(scan_triton, strided, device), states)
    first = scan_backward(scan_triton, inputs, states, device)
    again = scan_backward(scan_triton, strided, states, device)
    assert all(a is not None and b is not None and same_bits(a, b) for a, b in zip(first, again, strict=True))


@gpu
@KINDS
def test_scan_in_fp64_is_the_processors(turning: bool, device: torch.device) -> None:
    from models import scan_triton

    inputs = make(4, 3, 6, turning=turning, dtype=torch.float64)
    states = scan(scan_triton, inputs, device)
    assert same_bits(states, scan(scan_cpu, inputs, torch.device("cpu")))
    ours = scan_backward(scan_triton, inputs, states, device)
    theirs = scan_backward(scan_cpu, inputs, states, torch.device("cpu"))
    assert all(a is not None and b is not None and same_bits(a, b) for a, b in zip(ours, theirs, strict=True))


@gpu
@pytest.mark.slow
def test_scan_reaches_beyond_two_billion_numbers(device: torch.device) -> None:
    """An offset of 32 bits would wrap and write into the first step."""
    if INTERPRETED:
        pytest.skip("too large for the interpreter")
    if torch.cuda.mem_get_info()[0] < 40 * 1024**3:
        pytest.skip("needs 40 GiB of free GPU memory")
    from models import scan_triton

    steps, rows, units = 3, 2**20 + 1, 1024
    target = torch.ones((1, 1, 1), device=device).expand(steps, rows, units)
    w, kappa, h0 = torch.zeros_like(target), torch.zeros(units, device=device), torch.zeros((rows, units), device=device)
    dt = torch.ones((steps, rows, 1), device=device)
    states = scan_triton.relax(target, w, kappa, dt, h0, dt > 0)
    for t, expected in enumerate((0.0, 1 - math.exp(-1), 1 - math.exp(-2), 1 - math.exp(-3))):
        assert float((states[t] - expected).abs().max()) < 1e-6


# The head in one kernel


def hard_clip(rows: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """A clip with what streams bring: a duplicate, a gap, a row that starts late, one that is no number, hidden faces."""
    x, dt = make_clip(rows, steps)
    dt[2 % steps], dt[3 % steps, 0] = 0.0, 100.0
    mask = torch.rand(steps, rows, generator=torch.Generator().manual_seed(4)) > 0.2
    mask[:2, -1] = False
    x[1 % steps, 0, 7] = math.nan
    x[3 % steps, rows // 2, 5] = 1e30
    return x, dt, mask


def fused(
    head: TemporalHead, device: torch.device, x: Tensor, dt: Tensor, mask: Tensor | None, state: TemporalState | None = None
) -> tuple[TemporalOutput, TemporalState]:
    """What the kernel says, on the processor."""
    from models import step_triton

    if state is not None:
        state = TemporalState(*(part.to(device) for part in state))
    outputs, last = step_triton.forward(head, x.to(device), dt.to(device), None if mask is None else mask.to(device), state)
    return TemporalOutput(*(part.cpu() for part in outputs)), TemporalState(*(part.cpu() for part in last))


def at(outputs: TemporalOutput, t: int) -> TemporalOutput:
    return TemporalOutput(*(part[t] for part in outputs))


@gpu
@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (11, 6), (3, 0), (0, 3)])
def test_head_equals_the_processors(rows: int, steps: int, device: torch.device) -> None:
    head = make_head()
    x, dt, mask = hard_clip(rows, steps) if rows and steps else (torch.zeros(steps, rows, 128), torch.zeros(steps, rows, 1), None)
    with torch.no_grad():
        expected, state = head(x, dt, mask)
    got, got_state = fused(head.to(device), device, x, dt, mask)
    for name, one, other in zip((*got._fields, *got_state._fields), (*got, *got_state), (*expected, *state), strict=True):
        assert one.dtype == other.dtype, name
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@gpu
@pytest.mark.parametrize(("inputs", "units"), [(6, 4), (70, 9)])
def test_head_of_another_size_equals_the_processors(inputs: int, units: int, device: torch.device) -> None:
    """Smaller than a block, and an embedding that takes two of them."""
    torch.manual_seed(0)
    head = TemporalHead(inputs, units)
    x, dt = torch.randn(3, 2, inputs), torch.full((3, 2, 1), 0.1)
    with torch.no_grad():
        expected, state = head(x, dt)
    got, got_state = fused(head.to(device), device, x, dt, None)
    for one, other in zip((*got, *got_state), (*expected, *state), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@gpu
def test_a_stream_is_the_clip_and_can_be_resumed(device: torch.device) -> None:
    head = make_head().to(device)
    x, dt, mask = hard_clip(3, 6)
    clip, last = fused(head, device, x, dt, mask)
    state = TemporalState(*(part.cpu() for part in head.init(3)))
    for t in range(6):
        output, state = fused(head, device, x[t : t + 1], dt[t : t + 1], mask[t : t + 1], state)
        assert all_same_bits(at(output, 0), at(clip, t))
    assert all_same_bits(state, last)


@gpu
def test_a_duplicate_leaves_the_state_and_an_endless_first_gap_is_the_embedding(device: torch.device) -> None:
    head = make_head().to(device)
    x, dt = make_clip(2, 2)
    _, state = fused(head, device, x[:1], dt[:1], None)
    state.h[0, 0] = -0.0
    output, after = fused(head, device, x[1:], torch.zeros(1, 2, 1), None, state)
    assert all_same_bits(after, state)
    assert bool(output.judged.all())
    assert not bool(output.information.any())


@gpu
def test_a_row_has_the_same_bits_whoever_is_beside_it(device: torch.device) -> None:
    head = make_head().to(device)
    x, dt, mask = hard_clip(10, 3)
    outputs, state = fused(head, device, x, dt, mask)
    for i in (0, 7, 9):
        alone, alone_state = fused(head, device, x[:, i : i + 1], dt[:, i : i + 1], mask[:, i : i + 1])
        assert all_same_bits(TemporalOutput(*(part[:, i : i + 1] for part in outputs)), alone)
        assert all_same_bits(state.gather(torch.tensor([i])), alone_state)


@gpu
def test_heads_the_kernel_does_not_compute_are_refused(device: torch.device) -> None:
    x, dt = torch.zeros(1, 1, 8, device=device), torch.zeros(1, 1, 1, device=device)
    from models import step_triton

    for head, said in (
        (TemporalHead(8, 8, "resonator"), r"got 'resonator' with 8 in torch.float32"),
        (TemporalHead(8, 8, "cfc"), r"got 'cfc' with 8 in torch.float32"),
        (TemporalHead(8, 130), r"got 'liquid' with 130 in torch.float32"),
        (TemporalHead(8, 8).double(), r"got 'liquid' with 8 in torch.float64"),
    ):
        with pytest.raises(ValueError, match=rf"step_triton: expected a head with cell 'liquid' and at most 128 units .*{said}"):
            step_triton.forward(head.to(device), x, dt)


@gpu
@pytest.mark.parametrize(("dt", "said"), [(-0.5, "got -0.5"), (math.nan, "got NaN")])
def test_only_a_started_row_refuses_time_that_runs_backwards(dt: float, said: str, device: torch.device) -> None:
    head = make_head().to(device)
    x, times = make_clip(2, 2)
    times[0, 0] = dt
    fused(head, device, x, times, None)
    times[1, 1] = dt
    with pytest.raises(ValueError, match=rf"dt: expected seconds >= 0 .*{said}"):
        fused(head, device, x, times, None)
    with pytest.raises(ValueError, match=r"state.h: expected shape \(N, D\) = \(2, 40\), got \(3, 40\)"):
        fused(head, device, x, times, None, head.init(3))


# Slots


@pytest.fixture(params=["captured", "launched"])
def fused_slots(request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> TemporalSlots:
    """Slots whose step is the kernel, in buckets or plainly launched; in the interpreter a bucket is launched too."""
    from models import step_triton

    monkeypatch.setattr(slots, "BUCKETS", (1, 4) if request.param == "captured" else ())
    if INTERPRETED:
        monkeypatch.setattr(TemporalSlots, "_kernel", lambda _: step_triton)

        def record(launch: Callable[[], None], device: torch.device) -> Callable[[], None]:
            launch()
            return launch

        monkeypatch.setattr(slots, "capture", record)
    return TemporalSlots(make_head().to(device), 6)


@gpu
def test_slots_step_as_every_stream_would_alone(fused_slots: TemporalSlots, device: torch.device) -> None:
    head = fused_slots.head
    mine = [fused_slots.acquire() for _ in range(5)]
    alone = [TemporalState(*(part.cpu() for part in head.init(1))) for _ in range(5)]
    x, dt, mask = hard_clip(5, 5)
    mask[2, 1] = False  # its place in the batch is still masked a tick later, unless somebody clears it
    for t, streams in enumerate(([4, 0, 2], [1], [0, 1, 2, 3], [3, 4, 2], [2])):
        outputs = fused_slots.step(
            x[t, streams].to(device), [mine[i] for i in streams], dt[t, streams], None if t == 3 else mask[t, streams].to(device)
        )
        for place, i in enumerate(streams):
            seen = None if t == 3 else mask[t : t + 1, i : i + 1]
            expected, alone[i] = fused(head, device, x[t : t + 1, i : i + 1], dt[t : t + 1, i : i + 1], seen, alone[i])
            assert all_same_bits(TemporalOutput(*(part[place : place + 1].cpu() for part in outputs)), at(expected, 0))
    for i in range(5):
        state = fused_slots.state.gather(torch.tensor([mine[i]], device=device))
        assert all_same_bits(TemporalState(*(part.cpu() for part in state)), alone[i])
    assert not bool(fused_slots.state.h[5].any())


@gpu
def test_a_row_without_a_slot_is_nobody(device: torch.device) -> None:
    from models import step_triton

    head = make_head().to(device)
    x, dt = make_clip(3, 1)
    slab, outputs = head.init(4), step_triton.empty_outputs(head, (1, 3))
    places = torch.tensor([step_triton.NO_SLOT, 2, step_triton.NO_SLOT], device=device)
    step_triton.step_slots(head, x.to(device), dt.to(device), None, places, slab, outputs)
    assert outputs.judged.tolist() == [[False, True, False]]
    assert slab.started[:, 0].tolist() == [False, False, True, False]
    assert slab.h.any(1).tolist() == [False, False, True, False]


@gpu
def test_slots_refuse_before_anything_changes(fused_slots: TemporalSlots, device: torch.device) -> None:
    mine = [fused_slots.acquire() for _ in range(2)]
    x, dt = make_clip(2, 2)
    first = fused_slots.step(x[0].to(device), mine, torch.tensor([[-1.0], [math.nan]]))
    before = TemporalState(*(part.clone() for part in fused_slots.state))
    for seconds in (torch.tensor([[0.1], [-1.0]]), torch.tensor([[math.nan], [0.1]])):
        with pytest.raises(ValueError, match="dt: expected seconds >= 0"):
            fused_slots.step(x[1].to(device), mine, seconds)
    with pytest.raises(ValueError, match=r"dt: expected shape \(N, 1\) in seconds"):
        fused_slots.step(x[1].to(device), mine, dt[1, :1])
    assert all(bool((one == other).all()) for one, other in zip(fused_slots.state, before, strict=True))
    kept = TemporalOutput(*(part.clone() for part in first))
    fused_slots.step(x[1].to(device), mine, dt[1])
    assert all(bool((one == other).all()) for one, other in zip(first, kept, strict=True)), "outputs are no views of a buffer"


# Without a GPU and without the interpreter: does it compile, and to what?


def compiled(kernel: Any, constants: dict[str, Any], capability: int, **options: Any) -> Any:  # noqa: ANN401 - Triton has no types
    """`kernel` for an NVIDIA GPU of this compute capability, with pointers as aligned as torch's."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kinds = {"steps": "i32", "numbers": "i32", "rows": "i32", "slots": "*i64", "mask": "*u8", "slab_started": "*u8", "judged": "*u8"}
    signature = {name: "constexpr" if name in constants else kinds.get(name, "*fp32") for name in kernel.arg_names}
    known = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    return compile(ASTSource(kernel, signature, known, aligned), target=GPUTarget("cuda", capability, 32), options=options)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_the_scan_compiles_and_rounds_every_sum_and_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import scan_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    chosen = dict(scan_triton.EXACT)
    options = {name: chosen.pop(name) for name in ("num_warps", "enable_fp_fusion")}
    for name in ("_relax", "_relax_backward", "_resonate", "_resonate_backward"):
        kernel = getattr(scan_triton, name)
        constants = {"UNITS": 128, "WANTS_DT": True, **chosen}
        built = compiled(kernel, {name: value for name, value in constants.items() if name in kernel.arg_names}, 90, **options)
        assert built.metadata.shared <= SHARED_MEMORY
        assert "cp.async" in built.asm["ptx"], "loads wait for states"
        if "resonate" not in name:  # sine is libdevice's, which is full of them
            assert not re.search(r"\bfma\.|\bex2\.|\bdiv\.full|\bdiv\.approx", built.asm["ptx"])


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_the_step_compiles_and_fits_a_small_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import step_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    options, constants = step_triton.settings(TemporalHead())
    built = compiled(step_triton._step, constants, 80, **options)
    assert built.metadata.shared <= SHARED_MEMORY
    assert "mma." not in built.asm["ptx"], "tensor cores round fp32 away"
