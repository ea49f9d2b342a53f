"""Ports of loopback: nothing comes in, one that nobody listens on goes out."""

from __future__ import annotations

import os
import random
import socket

# Below those that Linux gives to whoever asks for any (ip_local_port_range): a service takes seconds to start, and the tests beside it
# would be given the same one meanwhile. Seeds of tests do not reach this generator, or two processes would draw alike.
LOW, HIGH = 20_000, 32_000
_drawn = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that nobody else is given: neither in this process nor by a worker of pytest-xdist beside it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = _drawn.randrange(LOW + worker, HIGH, workers)
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port
