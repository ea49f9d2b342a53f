"""Ports of loopback: nothing comes in, one that nobody listens on goes out."""

from __future__ import annotations

import random
import socket

# Below those that Linux gives to whoever asks for any (ip_local_port_range): a service takes seconds to start, and the tests beside it
# would be given the same one meanwhile. Seeds of tests do not reach this generator, or two processes would draw alike.
LOW, HIGH = 20_000, 32_000
_drawn = random.SystemRandom()


def free_port() -> int:
    """A port that nobody listens on, and that only whoever asks here is given."""
    while True:
        port = _drawn.randrange(LOW, HIGH)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
