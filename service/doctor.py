"""What this machine can do: nothing in, one table and a yes or no out. Shown by `undercurrent doctor`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch
from rich.table import Table

from models.checkpoint import WeightsError
from pipelines.model import load_model
from service import __version__
from service.media_sandbox import MediaSandbox


def examine() -> tuple[Table, bool]:
    """One row a fact; False when something that judging needs is missing."""
    table = Table("what", "found", box=None, pad_edge=False)
    table.add_row("undercurrent", __version__)
    table.add_row("python", platform.python_version())
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    table.add_row("av", version("av"))
    table.add_row("CPU", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    table.add_row("GPU", ", ".join(gpus) or "none that torch can use; judging runs on the CPU")
    table.add_row("media", _decode_child())
    try:
        info = load_model().info
    except WeightsError as error:
        table.add_row("weights", str(error))
        return table, False
    table.add_row("weights", f"{info.name} {info.version}, sha256 {info.weights_sha256[:16]} matches")
    return table, True


def _decode_child() -> str:
    """Whether untrusted media can be kept away from this process."""
    if not MediaSandbox.supported():
        return "decoded in this process: this system has no memfd, pidfd or packet sockets"
    with MediaSandbox() as sandbox:
        started = sandbox.isolation()
    if started is None:
        return "no decode child answers"
    gone = [word for word, is_gone in (("network", started.network_gone), ("files", started.files_gone)) if is_gone]
    return f"decoded in a child of its own, {'without ' + ' and '.join(gone) if gone else 'which keeps its network and files'}"
