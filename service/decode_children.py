"""The children that decode: a request and a descriptor come in, a forked child to talk with goes out, and each end is counted.

Forked by a zygote that has imported the decoder and nothing of the service's, so that a child begins in milliseconds; used by
`media_sandbox.py` and `sandboxed_frames.py`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pipelines.errors import DecoderCrashed, DecoderStalled
from service.media_wire import FRAME_SLOTS, READY, Request

# glibc gives large blocks back to the system at once and asks for them again: at 720p that is half of the cost of converting a picture.
CHILD_ENVIRONMENT: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
FAREWELL_S: Final = 1.0
START_S: Final = 30.0  # importing the decoder takes one second, on a machine that has nothing else to do
ORDER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """What became of the decode children."""

    alive: int
    started: int
    crashed: int
    """Died of their media, or made no sense."""
    stalled: int
    """Ended, because they gave no answer in time."""


class _NoChild(Exception):
    """The zygote died, was silent, or could not fork."""


class DecodeChildren:
    """Forks a child for each request. May be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._counting = threading.Lock()  # forking may hold the other for seconds
        self._alive = self._started = self._crashed = self._stalled = 0

    def close(self) -> None:
        """End the zygote; its children end with it."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            self._kill()
            self._control = self._zygote = None

    def child(self, request: Request, media: int | None) -> Child:
        """One that was told of a request, and given the descriptor that it decodes.

        Raises:
            DecoderCrashed: none could be had.
        """
        for _ in range(2):  # the zygote may have died just now, or not have found room for a child
            with suppress(_NoChild):
                return Child(self, request, media)
        raise DecoderCrashed("Decoding could not begin.", expected="a decode child", got="none, twice")

    @property
    def counts(self) -> ChildCounts:
        """What happened here so far."""
        with self._counting:
            return ChildCounts(self._alive, self._started, self._crashed, self._stalled)

    def came(self) -> None:
        """A child lives."""
        with self._counting:
            self._alive += 1
            self._started += 1

    def went(self) -> None:
        """One is gone, whatever it died of."""
        with self._counting:
            self._alive -= 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what makes an end of the child that is read inside."""
        try:
            yield
        except DecoderCrashed:
            with self._counting:
                self._crashed += 1
            raise
        except DecoderStalled:
            with self._counting:
                self._stalled += 1
            raise

    def fork(self, descriptors: list[int]) -> subprocess.Popen[bytes] | None:
        """Have the zygote fork a child that keeps `descriptors`; the last is where its pid and its status will be written.

        Returns the zygote, to be given up should it not answer.
        """
        with self._lock:
            if self._zygote is None or self._zygote.poll() is not None:
                self._start()
            try:
                self._order(descriptors)
            except (ConnectionError, TimeoutError):  # it died just now, or has been stopped for long
                self._start()
                self._order(descriptors)
            return self._zygote

    def give_up(self, zygote: subprocess.Popen[bytes] | None) -> None:
        """Kill a zygote that does not answer, unless somebody else did so and there is another by now."""
        with self._lock:
            if zygote is self._zygote:
                self._kill()

    def _order(self, descriptors: list[int]) -> None:
        assert self._control is not None
        socket.send_fds(self._control, [b"fork"], descriptors)

    def _kill(self) -> None:
        # Asking is not enough: it may be stopped.
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()

    def _start(self) -> None:
        if self._control is not None:
            self._control.close()
        self._kill()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own: no terminal to type into.
            self._zygote = subprocess.Popen(
                [sys.executable, "-I", "-c", f"from service.media_child import serve; serve({theirs.fileno()})"],
                env=CHILD_ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._control.settimeout(START_S)
        with suppress(TimeoutError, ConnectionError):
            if self._control.recv(len(READY)) == READY:
                self._control.settimeout(ORDER_S)
                return
        self._kill()
        raise _NoChild


class Child:
    """One forked child: its socket, its slots of shared memory, its life and death."""

    def __init__(self, children: DecodeChildren, request: Request, media: int | None) -> None:
        self.children = children
        self._slot_bytes = 3 * request.limits.max_pixels
        with ExitStack() as ours, ExitStack() as theirs:
            self.talk, talk = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(self.talk.close)
            theirs.callback(talk.close)
            frames = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            theirs.callback(os.close, frames)
            os.ftruncate(frames, FRAME_SLOTS * self._slot_bytes)
            # Reading where a child has cut the memory off would kill this process.
            fcntl.fcntl(frames, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            text = os.memfd_create("request", os.MFD_CLOEXEC)
            theirs.callback(os.close, text)
            os.pwrite(text, request.model_dump_json().encode(), 0)
            self._slots = mmap.mmap(frames, FRAME_SLOTS * self._slot_bytes, prot=mmap.PROT_READ)
            ours.callback(self._slots.close)
            life, exit_writer = os.pipe2(os.O_CLOEXEC)
            self._life, self._heard = life, b""
            ours.callback(os.close, life)
            theirs.callback(os.close, exit_writer)
            zygote = children.fork([talk.fileno(), frames, text, *([] if media is None else [media]), exit_writer])
            theirs.close()
            told = self._line(request.limits.open_timeout_s)
            if told is None:
                children.give_up(zygote)
            if not told:
                raise _NoChild
            self.pid = int(told)
            # A pid may be somebody else's by the time a signal is sent; a descriptor of the process never is, as long as it is open.
            self._process: int | None = None
            self._signalling = threading.Lock()
            with suppress(ProcessLookupError):
                self._process = os.pidfd_open(self.pid)
            if self._process is not None:
                ours.callback(os.close, self._process)
            children.came()
            ours.callback(children.went)
            self._open = ours.pop_all()

    def kill(self) -> None:
        """End it at once, whatever it does; stopped processes too. May be called by another thread while this one closes."""
        with self._signalling:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def status(self) -> int | None:
        """Its wait status; killed if it has not died yet, though it left. None if the zygote died too."""
        line = self._line(FAREWELL_S)
        if not line:
            self.kill()
            line = self._line(FAREWELL_S)
        return int(line) if line else None

    def _line(self, patience_s: float) -> bytes | None:
        """What the zygote says next; nothing if it says no more, None if it is silent for so long."""
        ready, until = select.poll(), time.monotonic() + patience_s
        ready.register(self._life, select.POLLIN)
        while b"\n" not in self._heard:
            if not ready.poll(1000 * max(0.0, until - time.monotonic())):
                return None
            piece = os.read(self._life, 64)
            if not piece:
                return b""
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def holds(self, size: int) -> bool:
        """Whether a slot has room for so many bytes."""
        return size <= self._slot_bytes

    def pixels(self, slot: int, size: int) -> memoryview:
        """What lies in a slot."""
        return memoryview(self._slots)[slot * self._slot_bytes : slot * self._slot_bytes + size]

    def stop(self) -> None:
        """Kill it, and let whoever waits for its next word hear that there is none."""
        self.kill()
        with suppress(OSError):  # it may have hung up by itself
            self.talk.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Kill it and let go of everything."""
        self.kill()
        with self._signalling:
            self._process = None
        self._open.close()
