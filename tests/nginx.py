"""A real load balancer: ports of replicas come in, Debian's nginx with `docker/nginx/nginx.conf` and a client of it go out."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.support import ROOT, require

CONFIG = ROOT / "docker" / "nginx" / "nginx.conf"


@contextmanager
def nginx(directory: Path, *replicas: int) -> Iterator[httpx.Client]:
    """Our configuration, but for the replicas' addresses, its own, and where it may write; a client of it."""
    program = str(require("nginx"))
    port = free_port()
    text = CONFIG.read_text("utf-8").replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{directory}/")
    for number, replica in enumerate(replicas, 1):
        assert text.count(f"undercurrent-{number}:8000") == 2, "for requests, and for streams"
        text = text.replace(f"undercurrent-{number}:8000", f"127.0.0.1:{replica}")
    config = directory / "nginx.conf"
    config.write_text(text, "utf-8")
    command = [program, "-p", str(directory), "-c", str(config)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "[warn]" not in checked.stderr, checked.stderr
    with (
        subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            until = time.monotonic() + 120
            while not _answers(client):
                assert running.poll() is None and time.monotonic() < until, "nginx did not start"
                time.sleep(0.02)
            yield client
        finally:
            running.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/metrics").status_code == 404
    except httpx.ConnectError:
        return False
