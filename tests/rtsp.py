"""`rtsp_server.py` as a context manager: a camera on loopback that a test can freeze, thaw, kill and start again."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.support import SYSTEM_PYTHON

SERVER = Path(__file__).with_name("rtsp_server.py")
# Which frames of 1/30 s /vfr shows: about half, without a pattern, the same in every run.
KEPT = "1" + "".join(random.Random(7).choices("01", k=88))
USER = "camera:hunter2"


class RtspServer:
    """The running server process. It answers on the same port for as long as this object lives."""

    def __init__(self, clip: Path | None) -> None:
        self._clip = clip
        # Not any that the kernel gives: while a camera is away, that could become somebody else's.
        self.port = free_port()
        self._process = self._start()

    def url(self, mount: str, user: str = "") -> str:
        """`user` is `name:password`; `USER` is the one that /private lets in."""
        return f"rtsp://{user}{'@' if user else ''}127.0.0.1:{self.port}{mount}"

    def stop(self) -> None:
        """Freeze: connections stay open, and nothing is said any more."""
        self._process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut does; works on a frozen server, and twice."""
        self._process.kill()
        with self._process:
            self._process.wait()

    def restart(self, *, without: str = "") -> None:
        """A new process on the same port, with all time lines at zero; for what `without` names it says 404."""
        self.kill()
        self._process = self._start(without)

    def _start(self, without: str = "") -> subprocess.Popen[str]:
        command: list[str | Path] = [SYSTEM_PYTHON, SERVER, str(self.port), str(self._clip or "/dev/null"), KEPT, without]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        answer = process.stdout.readline().split()
        if answer[:1] != ["ready"]:
            process.kill()
            with process:
                process.wait()
            raise RuntimeError(f"The RTSP server did not start: expected 'ready PORT'; got {answer}, exit status {process.returncode}.")
        return process


@contextmanager
def rtsp_server(clip: Path | None = None) -> Iterator[RtspServer]:
    """Start a server, whose /file is `clip`, and end it whatever state the test left it in."""
    server = RtspServer(clip)
    try:
        yield server
    finally:
        server.kill()


class Answering:
    """An RTSP server that answers every request with one status: `453 Not Enough Bandwidth`, `302 Moved Temporarily` with a `location`."""

    def __init__(self, status: str, location: str = "") -> None:
        self._status, self._location = status, location
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        """The first line of each request."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                reader, _ = self._listener.accept()
                with suppress(OSError), reader:
                    reader.settimeout(60)
                    self._answer(reader)

    def _answer(self, reader: socket.socket) -> None:
        where = f"Location: {self._location}\r\n" if self._location else ""
        while asked := reader.recv(4096).decode():
            self.asked.append(asked.splitlines()[0])
            number = next(line for line in asked.splitlines() if line.lower().startswith("cseq"))
            reader.sendall(f"RTSP/1.0 {self._status}\r\n{number}\r\n{where}\r\n".encode())
