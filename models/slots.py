"""TemporalSlots: the states of many streams in one slab; rows and the slots they belong to in, outputs out. The Engine's memory.

Every stream owns one slot from `acquire` to `release`; a step takes any of them together, in any order, each with its own dt, and changes
their states in place. What a stream gets is bitwise what the step would give it alone. One thread steps; others may acquire and
release slots meanwhile, but not one that is in the step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from models.graphs import capture
from models.rows import expect_mask, expect_shape
from models.temporal import TemporalHead, TemporalOutput, TemporalState

BUCKETS = (1, 8, 32, 128, 512, 2048, 4096)
"""Rows of a captured step: launching costs more than computing, and a CUDA graph has fixed shapes. Beyond the last, a plain launch."""


Step = Callable[[Tensor, TemporalState, Tensor, Tensor | None], tuple[TemporalOutput, TemporalState]]


class SlotsFull(RuntimeError):
    """Every slot has an owner."""


class UnknownSlot(ValueError):
    """A slot that no stream owns: never acquired, released already, or not there at all."""


class RepeatedSlot(ValueError):
    """A slot twice in one step: which of its two observations came first is not said."""


class TemporalSlots:
    """`capacity` streams of one head; 2 D floats and a flag each. On a GPU, a step of the default head is one captured kernel.

    The head's parameters may change in place (`load_state_dict`) but not move: captured steps know them by address.

    Args:
        head: on its device; the slab lies beside it.
        capacity: streams at once.
        step: computes the head's step where no kernel does; `head.step` if None. One that was compiled keeps the weights it was made with.

    Raises:
        ValueError: there is no room for even one.
    """

    def __init__(self, head: TemporalHead, capacity: int, *, step: Step | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"TemporalSlots: expected a capacity of at least 1, got {capacity}")
        self.head = head
        self._step = step or head.step
        self.capacity = capacity
        # Tensors born in inference mode could never be changed outside it.
        with torch.inference_mode(False), torch.no_grad():
            self.state = head.init(capacity)
        self._free = list(reversed(range(capacity)))
        self._owned = np.zeros(capacity, dtype=np.bool_)
        self._place = np.zeros(capacity, dtype=np.int64)
        self._lock = threading.Lock()
        self._captured: dict[int, _CapturedStep] = {}

    def __len__(self) -> int:
        """Slots with an owner."""
        return self.capacity - len(self._free)

    def acquire(self) -> int:
        """A slot whose state has seen nothing.

        Raises:
            SlotsFull: there is none.
        """
        with self._lock:
            if not self._free:
                raise SlotsFull(f"acquire: expected one of {self.capacity} slots to be free, got none")
            slot = self._free.pop()
            self._owned[slot] = True
            return slot

    def release(self, slot: int) -> None:
        """Give the slot back. Its state is gone at once: nothing of a stream outlives it.

        Raises:
            UnknownSlot: nobody owns it.
        """
        with self._lock, torch.no_grad():
            if type(slot) is not int or not (0 <= slot < self.capacity and self._owned[slot]):
                raise UnknownSlot(f"release: expected a slot that is in use, got {slot}")
            for whole, fresh in zip(self.state, self.head.init(1), strict=True):
                whole[slot] = fresh[0]
            self._owned[slot] = False
            self._free.append(slot)

    def read(self, slot: int) -> TemporalState:
        """A copy of one slot's state, each (1, ...), on the processor.

        Raises:
            UnknownSlot: nobody owns it.
        """
        rows = self._checked([slot]).to(self.state.h.device)
        return TemporalState(*(part.cpu() for part in self.state.gather(rows)))

    def write(self, slot: int, state: TemporalState) -> None:
        """Have one slot remember what `read` gave, here or elsewhere.

        Raises:
            UnknownSlot: nobody owns it.
            ValueError: it is the state of another head.
        """
        rows = self._checked([slot]).to(self.state.h.device)
        for name, whole, part in zip(state._fields, self.state, state, strict=True):
            if part.shape != (1, *whole.shape[1:]) or part.dtype != whole.dtype:
                raise ValueError(
                    f"write: expected {name} to be {whole.dtype} of shape {(1, *whole.shape[1:])}, got {part.dtype} of {tuple(part.shape)}"
                )
        with torch.no_grad():
            for whole, part in zip(self.state, state, strict=True):
                whole.index_copy_(0, rows, part.to(whole.device))

    def step(self, x: Tensor, slots: Sequence[int] | Tensor, dt: Tensor, mask: Tensor | None = None) -> TemporalOutput:
        """One observation of each of N streams: x (N, E), dt (N, 1) seconds since each one's previous, mask (N,) bool. No gradient.

        slots, N numbers in any order, lie best on the processor, and so does dt: to check them there waits for no GPU.

        Raises:
            UnknownSlot: a slot has no owner.
            RepeatedSlot: a slot comes twice.
            ValueError: a shape is wrong, or the dt of a started row is negative or NaN. Then no state has changed.
        """
        rows = self._checked(slots)
        expect_shape("x", x, (len(rows), self.head.inputs), "(N, E), one row for each slot,")
        with torch.no_grad():
            kernel = self._kernel()
            if kernel is None:
                index = rows.to(self.state.h.device)
                outputs, after = self._step(x, self.state.gather(index), dt.to(index.device), mask)
                for whole, part in zip(self.state, after, strict=True):
                    whole.index_copy_(0, index, part)
                return outputs
            return self._step_fused(kernel, x, rows, dt, mask)

    def _checked(self, slots: Sequence[int] | Tensor) -> Tensor:
        """The slots as (N,) int64 on the processor."""
        given = np.asarray(slots.cpu() if isinstance(slots, Tensor) else slots)
        if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
            raise UnknownSlot(f"step: expected a row of whole numbers, got {given.dtype} of shape {given.shape}")
        rows = given.astype(np.int64)
        known = (rows >= 0) & (rows < self.capacity)
        known[known] = self._owned[rows[known]]
        if not known.all():
            raise UnknownSlot(f"step: expected slots that are in use, got {rows[~known][0]}")
        # Every row leaves its place at its slot; where another one overwrote it, the slot came twice. No sorting.
        places = np.arange(len(rows))
        self._place[rows] = places
        if (again := self._place[rows] != places).any():
            raise RepeatedSlot(f"step: expected every slot once, got {rows[again][0]} twice")
        return torch.from_numpy(rows)

    def _kernel(self) -> ModuleType | None:
        """The module that computes this head in one kernel, where there is one."""
        if self.state.h.device.type != "cuda":
            return None
        from models import step_triton  # Triton is there only where a GPU is

        return step_triton if step_triton.supports(self.head) else None

    def _step_fused(self, kernel: ModuleType, x: Tensor, rows: Tensor, dt: Tensor, mask: Tensor | None) -> TemporalOutput:
        n, device = len(rows), self.state.h.device
        expect_shape("dt", dt, (n, 1), "(N, 1) in seconds")
        expect_mask(mask, x.shape[:1])
        if not bool((dt >= 0).all()):
            here = None if mask is None else mask.to(device).unsqueeze(0)
            started = self.state.started[rows.to(device)]
            kernel.refuse_time_that_runs_backwards(x.to(device).unsqueeze(0), dt.to(device).unsqueeze(0), here, started)
        bucket = next((bucket for bucket in BUCKETS if n <= bucket), None)
        if bucket is not None:
            if bucket not in self._captured:
                self._captured[bucket] = _CapturedStep(kernel, self, bucket)
            return self._captured[bucket].run(x, rows, dt, mask)
        outputs: TemporalOutput = kernel.empty_outputs(self.head, (n,))
        x, dt, mask = x.to(device), dt.to(device), None if mask is None else mask.to(device).unsqueeze(0)
        batched = TemporalOutput(*(part.unsqueeze(0) for part in outputs))
        kernel.step_slots(self.head, x.unsqueeze(0), dt.unsqueeze(0), mask, rows.to(device), self.state, batched)
        return outputs


class _CapturedStep:
    """A step of up to `bucket` rows as a CUDA graph: inputs are copied into its buffers, outputs out of them."""

    def __init__(self, kernel: ModuleType, slots: TemporalSlots, bucket: int) -> None:
        device = slots.state.h.device
        self.nowhere = torch.full((bucket,), kernel.NO_SLOT, dtype=torch.int64)
        with torch.inference_mode(False), torch.no_grad():
            self.x = torch.zeros((1, bucket, slots.head.inputs), device=device)
            self.dt = torch.zeros((1, bucket, 1), device=device)
            self.mask = torch.ones((1, bucket), dtype=torch.bool, device=device)
            self.rows = torch.full_like(self.nowhere, kernel.NO_SLOT, device=device)
            self.outputs: TemporalOutput = kernel.empty_outputs(slots.head, (1, bucket))

            def launch() -> None:
                kernel.step_slots(slots.head, self.x, self.dt, self.mask, self.rows, slots.state, self.outputs)

            self.replay = capture(launch, device)  # every row's slot is NO_SLOT now, so no state changes

    def run(self, x: Tensor, rows: Tensor, dt: Tensor, mask: Tensor | None) -> TemporalOutput:
        """Outputs of the rows, in tensors of their own. Rows beyond them keep what was there and, without a slot, change nothing."""
        n = len(rows)
        padded = self.nowhere.clone()
        padded[:n] = rows
        self.rows.copy_(padded)
        self.x[0, :n].copy_(x)
        self.dt[0, :n].copy_(dt)
        if mask is None:
            self.mask.fill_(True)
        else:
            self.mask[0, :n].copy_(mask)
        self.replay()
        return TemporalOutput(*(part[0, :n].clone() for part in self.outputs))
