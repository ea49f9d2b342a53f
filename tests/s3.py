"""A real S3 server: nothing comes in, a server of the tests' own in a process of its own goes out, with a bucket, gone with them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.ports import free_port

START_S = 120.0
# What the usual variables say, for whoever is to speak to it.
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}


class S3:
    """A running server on loopback; stop and start it to see what becomes of its clients. A new one is empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead here."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> None:
        """Serve an empty store with the bucket `media`, and return once it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                self._request("PUT", "/media").raise_for_status()
                return
            time.sleep(0.05)
        pytest.fail(f"no S3 server within {START_S:g} s")

    def stop(self) -> None:
        """Stop at once, as if killed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self, *, thaw: bool = False) -> None:
        """Keep its connections, and answer nothing until it is thawed."""
        assert self._process is not None
        self._process.send_signal(18 if thaw else 19)

    def names(self) -> list[str]:
        """The objects of the bucket."""
        return _texts(self._request("GET", "/media?list-type=2").text, "Key")

    def half_written(self) -> list[str]:
        """Uploads that were begun and neither finished nor given up."""
        return _texts(self._request("GET", "/media?uploads").text, "Key")

    def empty(self) -> None:
        """Forget everything, the bucket too, and make it again."""
        self._request("POST", "/moto-api/reset").raise_for_status()
        self._request("PUT", "/media").raise_for_status()

    def drop_bucket(self) -> None:
        """Forget everything, the bucket too."""
        self._request("POST", "/moto-api/reset").raise_for_status()

    def _request(self, method: str, path: str) -> httpx.Response:
        # It believes whoever says who they are.
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
        return httpx.request(method, self.endpoint + path, headers=signed, timeout=60)


def _texts(xml: str, tag: str) -> list[str]:
    return [part.partition(f"</{tag}>")[0] for part in xml.split(f"<{tag}>")[1:]]


@contextmanager
def s3_server() -> Iterator[S3]:
    """A server of one's own."""
    running = S3()
    try:
        yield running
    finally:
        running.stop()
