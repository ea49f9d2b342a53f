"""The service as a process of its own, as `undercurrent serve` starts it: settings come in, a process, a client and its log go out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.support import ROOT

START_S = 180.0


@dataclass(frozen=True)
class Serving:
    """A service that runs."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    port: int
    log_file: Path

    def ended(self, sign: signal.Signals, timeout_s: float = 120.0) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(sign)
        return self.process.wait(timeout_s)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line that it has logged, and not what of the next is there already."""
        written = self.log_file.read_text("utf-8")
        return [json.loads(line) for line in written[: written.rfind("\n") + 1].splitlines()]


@contextmanager
def serving(directory: Path, **settings: object) -> Iterator[Serving]:
    """Start one that keeps everything below `directory`; killed at the end if it still runs."""
    port = free_port()
    chosen = {"port": port, "data_dir": directory / "data", "hz": 4, "min_free_bytes": 0, "device": "cpu", **settings}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{f"UNDERCURRENT_{name.upper()}": str(value) for name, value in chosen.items()}}
    log_file = directory / "log"
    with (
        log_file.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", "from service.cli import main; main()", "serve"], cwd=ROOT, env=environment, stderr=log
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            until = time.monotonic() + START_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"the service did not start: {log_file.read_text('utf-8')[-4000:]}")
                time.sleep(0.05)
            yield Serving(process, client, port, log_file)
        finally:
            process.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True
