"""Memory of the GPUs that nets run on: devices come in, what each card has and what of it is taken goes out.

Asked by `metrics.py` and `system.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One card."""

    index: int | None
    name: str
    used_bytes: int
    """Of the whole card, whoever uses it."""
    total_bytes: int
    own_bytes: int
    """What this process holds."""


def gpu_memory(devices: Iterable[torch.device]) -> list[GpuMemory]:
    """Of those that are GPUs. Asking about others would take a context, and with it memory, on a GPU of somebody else's."""
    found = []
    for device in devices:
        if device.type != "cuda":
            continue
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        name, own_bytes = torch.cuda.get_device_name(device), torch.cuda.memory_reserved(device)
        found.append(GpuMemory(device.index, name, total_bytes - free_bytes, total_bytes, own_bytes))
    return found
