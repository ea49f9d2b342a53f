"""CUDA graphs: a launch in, the same launch as one graph out. For `slots.py` and `buckets.py`, where launching takes longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

_CAPTURING = threading.Lock()
"""A process records one graph at a time."""


def capture(launch: Callable[[], None], device: torch.device, *, pool: Any = None) -> Callable[[], object]:  # noqa: ANN401 - torch names no type
    """`launch`, once done and recorded: what comes back does the same to the same memory, as one CUDA graph.

    Args:
        launch: works on `device`, waits for nothing, and copies nothing from the host.
        device: a GPU; others may work meanwhile, and threads of this process too.
        pool: of `torch.cuda.graph_pool_handle`, to share memory with graphs that never run at the same time as this one.
    """
    # Leaving a capture that failed can leave its stream the current one; the second context puts that right.
    with _CAPTURING, torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
        launch()  # compiles and loads, which must not happen while recording
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # torch's own stream for this lies on whichever device was first, and its own mode forbids other threads to allocate.
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.graph(graph, pool=pool, stream=aside, capture_error_mode="thread_local"):
            launch()
    return graph.replay
