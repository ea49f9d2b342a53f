"""Untrusted media, decoded by somebody else: a path, URL or byte feed comes in, Frames go out, and what it does to its decoder stays there.

Used by `judging.py`, `admission.py` and the command line wherever `pipelines.frames` would be, and by `renditions.py`; `media_child.py` is
the other side.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import mmap
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
from pydantic import ValidationError

from pipelines import errors
from pipelines.byte_feed import Readable, SeekableFeed, feed_of, open_file
from pipelines.clock import Arrival, Mark
from pipelines.errors import (
    DecodeError,
    DecoderCrashed,
    DecoderStalled,
    FeedFailed,
    MediaTooLarge,
    RenditionFailed,
    SourceError,
    TimestampError,
    UrlNotAllowed,
)
from pipelines.frames import read_frames
from pipelines.image_pool import ImagePool
from pipelines.media import Frame, FrameCounts, Limits, MediaInfo, MediaWarning, Reader, RtspTransport
from pipelines.rendition import RenditionTerms
from pipelines.sampling import Sampler
from pipelines.time_report import TimeReport
from service.content_credentials import can_be_read, media_type
from service.media_wire import (
    FRAME_SLOTS,
    MAX_MESSAGE_BYTES,
    RATE,
    READY,
    Alive,
    Credentials,
    Ended,
    FromChild,
    Opened,
    Refused,
    Request,
    Shown,
    Started,
    Written,
    from_child,
)
from service.net_gate import PROXY, NetGate
from service.schemas import ContentCredentials
from service.url_policy import ANYWHERE, UrlPolicy

# glibc gives large blocks back to the system at once and asks for them again: at 720p that is half of the cost of converting a picture.
CHILD_ENVIRONMENT: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
# FFmpeg raises for a silent URL after twice the time it was given (research/streaming.md, section 0.6); it gets to say so itself.
GRACE_S: Final = 2.0
FAREWELL_S: Final = 1.0
START_S: Final = 30.0  # importing the decoder takes one second, on a machine that has nothing else to do
ORDER_S: Final = 5.0
CREDENTIALS_S: Final = 120.0  # a hash over all of the media, of which there may be gigabytes
FEED_PIECE: Final = 64 * 1024

REFUSALS: Final[dict[str, type[SourceError] | type[DecodeError] | type[TimestampError] | type[RenditionFailed]]] = {
    kind.slug: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SourceError | DecodeError | TimestampError | RenditionFailed)
}

M = TypeVar("M")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a rendition."""

    at: int
    """The byte of the file at which it belongs; a later piece may lie before an earlier one, or over it."""
    data: bytes
    t: float
    """Media seconds of the last picture that went into it."""


@dataclass(frozen=True, slots=True)
class SandboxCounts:
    """What became of the decode children."""

    alive: int
    started: int
    crashed: int
    """Died of their media, or made no sense."""
    stalled: int
    """Ended, because they gave no answer in time."""


class MediaSandbox:
    """Starts a decode child for each source. May be used by many threads; a context manager that ends with all its children.

    Args:
        policy: where URLs may point; anywhere if None.
    """

    def __init__(self, policy: UrlPolicy | None = None) -> None:
        self.policy = policy or UrlPolicy(ANYWHERE)
        self._lock = threading.Lock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._counting = threading.Lock()  # forking may hold the other for seconds
        self._alive = self._started = self._crashed = self._stalled = 0
        self._isolation: Started | None = None

    @staticmethod
    def supported() -> bool:
        """Whether this system has what the child needs (Linux does)."""
        return hasattr(os, "memfd_create") and hasattr(os, "pidfd_open") and hasattr(socket, "SOCK_SEQPACKET")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote; its children end with it."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            self._kill()
            self._control = self._zygote = None

    def read_frames(
        self,
        source: str | os.PathLike[str] | Readable,
        *,
        hz: float | None = 12.0,
        limits: Limits | None = None,
        closely: Collection[int] | None = None,
        live: bool = False,
        after: Mark | None = None,
        idle: Callable[[], None] | None = None,
        transport: RtspTransport = "tcp",
    ) -> SandboxedFrames:
        """As `pipelines.frames.read_frames`, in a child.

        Args:
            after: the last picture of an earlier session of the same camera, so that the outage between becomes a real dt.
            idle: called some times a second while the child says nothing, opening or reading; what it raises ends that.

        Raises:
            SourceError: as there; UrlNotAllowed for a URL that points, or leads, where `policy` does not allow.
            DecoderCrashed, DecoderStalled: the child died of this source, or gave no answer in time.
        """
        limits = limits or Limits()
        with ExitStack() as given:
            target, name, media, pump = None, "the byte feed", None, None
            Sampler(hz)  # raises for a rate that is none, as it would in the child
            if isinstance(source, str | os.PathLike) and "://" in os.fspath(source):
                target = self.policy.admit(os.fspath(source))
                name = target.shown
            elif isinstance(source, str | os.PathLike):
                # A file's name may be any bytes; what is shown of it is text.
                name = os.fsencode(Path(source).name).decode(errors="replace")
                media = given.enter_context(open_file(Path(source))).fileno()
            elif (media := _seekable(source, limits)) is not None:
                given.callback(os.close, media)
            else:
                media, writer = os.pipe()
                given.callback(os.close, media)
                pump = _Pump(source, writer)
                given.callback(pump.drop)
            request = Request(
                url=None if target is None else target.url,
                proxy=None if target is None or target.scheme == "rtsp" else "http://{}:{}".format(*PROXY),
                name=name,
                hz=hz,
                limits=limits,
                closely=None if closely is None else frozenset(closely),
                live=live,
                after=after,
                transport=transport,
            )
            child = self._child(request, media)
            with ExitStack() as failed:
                failed.callback(child.close)
                if pump is not None:
                    pump.start()
                failed.pop_all()
            gated = None
            if target is not None:
                gated = partial(NetGate, target=target, policy=self.policy, datagrams=transport == "udp")
            return SandboxedFrames(child, request, pump, gated, idle)
        raise AssertionError("ExitStack swallows nothing")

    def encode(self, media: Path, terms: RenditionTerms, *, limits: Limits, idle: Callable[[], None] | None = None) -> SandboxedFrames:
        """Open a file to be made a rendition, in a child; `SandboxedFrames.written` gives it.

        Raises:
            SourceError, DecoderCrashed, DecoderStalled: as `read_frames`.
        """
        with open_file(media) as file:
            # A file of ours has a name that says nothing.
            request = Request(url=None, name="The video", hz=None, limits=limits, closely=None, rendition=terms)
            child = self._child(request, file.fileno())
        return SandboxedFrames(child, request, None, None, idle)

    def credentials(self, media: Path, container: str, *, limits: Limits | None = None) -> ContentCredentials | None:
        """What the content credentials in a file say, read in a child; None where that cannot be had here.

        A file that harms its reader, or keeps it busy for too long, has credentials that cannot be read: nobody's judgement waits for them.

        Raises:
            SourceError: there is no such file.
        """
        if not self.supported() or not can_be_read():
            return None
        if (kind := media_type(container)) is None:
            return ContentCredentials(state="none")
        limits = limits or Limits()
        with open_file(media) as file:
            request = Request(url=None, name="The video", hz=None, limits=limits, closely=None, credentials=kind)
            try:
                with self.counting(), closing(self._child(request, file.fileno())) as child:
                    return _credentials(child, limits)
            except DecodeError:
                return ContentCredentials(state="unreadable")

    @property
    def reader(self) -> Reader:
        """How to read media here: in a child, or where the system has no such thing in this process (`doctor` says so)."""
        return self.read_frames if self.supported() else read_frames

    def probe(self, source: str | os.PathLike[str], *, limits: Limits | None = None) -> MediaInfo:
        """As `pipelines.frames.probe`, through `reader`."""
        with self.reader(source, hz=None, limits=limits, closely=None) as frames:
            next(iter(frames))
            return frames.media

    def isolation(self) -> Started | None:
        """What a child for a file is without here; some systems do not let it be taken away. None if no child answers.

        Asked of a child once: what a system allows does not change while this process lives.
        """
        if self._isolation is None:
            self._isolation = self._asked_for_isolation()
        return self._isolation

    def _asked_for_isolation(self) -> Started | None:
        request = Request(url=None, name="nothing", hz=None, limits=Limits(), closely=None)
        try:
            # An empty file, which it refuses quietly when it gets that far.
            with os.fdopen(os.memfd_create("nothing", os.MFD_CLOEXEC)) as nothing, closing(self._child(request, nothing.fileno())) as child:
                child.talk.settimeout(request.limits.open_timeout_s)
                started = from_child.validate_json(child.talk.recv(MAX_MESSAGE_BYTES))
                return started if isinstance(started, Started) else None
        except (OSError, ValidationError, DecodeError):
            return None

    @property
    def counts(self) -> SandboxCounts:
        """What happened here so far."""
        with self._counting:
            return SandboxCounts(self._alive, self._started, self._crashed, self._stalled)

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

    def _child(self, request: Request, media: int | None) -> _Child:
        for _ in range(2):  # the zygote may have died just now, or not have found room for a child
            with suppress(_NoChild):
                return _Child(self, request, media)
        raise DecoderCrashed("Decoding could not begin.", expected="a decode child", got="none, twice")

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


def _credentials(child: _Child, limits: Limits) -> ContentCredentials:
    """What it says of them, in a time that cannot be drawn out."""
    until = time.monotonic() + min(CREDENTIALS_S, limits.max_wall_s)
    child.talk.settimeout(limits.read_timeout_s)
    while True:
        try:
            message = from_child.validate_json(child.talk.recv(MAX_MESSAGE_BYTES))
        except (ConnectionError, ValidationError) as error:
            raise DecoderCrashed("The reader of credentials died.", expected="credentials", got="none") from error
        except TimeoutError as error:
            raise DecoderStalled("The reader of credentials is silent.", expected="a word", got="none") from error
        if isinstance(message, Credentials):
            return message.found
        if not isinstance(message, Started | Alive):
            raise DecoderCrashed("The reader of credentials makes no sense.", expected="credentials", got=message.kind)
        if time.monotonic() > until:
            raise DecoderStalled("Reading credentials takes too long.", expected=f"at most {CREDENTIALS_S:g} s", got="more")


class _NoChild(Exception):
    """The zygote died, was silent, or could not fork."""


class _Child:
    """One forked child: its socket, its slots of shared memory, its life and death."""

    def __init__(self, sandbox: MediaSandbox, request: Request, media: int | None) -> None:
        self.sandbox = sandbox
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
            zygote = sandbox.fork([talk.fileno(), frames, text, *([] if media is None else [media]), exit_writer])
            theirs.close()
            told = self._line(request.limits.open_timeout_s)
            if told is None:
                sandbox.give_up(zygote)
            if not told:
                raise _NoChild
            self.pid = int(told)
            # A pid may be somebody else's by the time a signal is sent; a descriptor of the process never is.
            self._process: int | None = None
            with suppress(ProcessLookupError):
                self._process = os.pidfd_open(self.pid)
            if self._process is not None:
                ours.callback(os.close, self._process)
            sandbox.came()
            ours.callback(sandbox.went)
            self._open = ours.pop_all()

    def kill(self) -> None:
        """End it at once, whatever it does; stopped processes too."""
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
        self._process = None
        self._open.close()


class _Pump(threading.Thread):
    """Carries a byte feed into the child's pipe, since a child cannot call back; keeps what the feed raised."""

    def __init__(self, source: Readable, writer: int) -> None:
        super().__init__(name="media-feed", daemon=True)
        self.error: BaseException | None = None
        self._source, self._writer = source, writer
        self._waits: tuple[float, float | None] = (0.0, None)
        """Seconds waited for the feed until now, and since when it is waited for again; one value, since two threads look."""

    @property
    def waited_s(self) -> float:
        """Seconds in which the feed, not the child, was what everybody waited for."""
        waited_s, since = self._waits
        return waited_s if since is None else waited_s + time.monotonic() - since

    def drop(self) -> None:
        """Let go of the pipe, if it was never started."""
        if self.ident is None:
            os.close(self._writer)

    def run(self) -> None:
        with os.fdopen(self._writer, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            while True:
                self._waits = (self._waits[0], time.monotonic())
                try:
                    piece = memoryview(self._source.read(FEED_PIECE))
                except BaseException as error:  # anything: it is raised again to whoever reads the frames
                    self.error = error
                    return
                finally:
                    self._waits = (self.waited_s, None)
                if not piece:
                    return
                while piece:
                    piece = piece[pipe.write(piece) :]


class SandboxedFrames:
    """An opened source in a child, to be iterated once; see `pipelines.media.Frames`."""

    def __init__(
        self, child: _Child, request: Request, pump: _Pump | None, gated: Callable[[int], NetGate] | None, idle: Callable[[], None] | None
    ) -> None:
        self._child, self._request, self._pump, self._idle = child, request, pump, idle
        self._gate: NetGate | None = None
        self._pool = ImagePool()
        # Closing lets go of what reading uses; by the same thread it may happen in the middle of it.
        self._busy = threading.RLock()
        self._closed = False
        self._waited_s = 0.0
        self._mark = (time.monotonic(), self._fed_s())
        self._last_pts = -(2**63) if request.after is None else request.after.pts
        self._used = False
        self._ended: Ended | None = None
        self.counts = FrameCounts()
        self.warnings: list[MediaWarning] = []
        self.disconnected = False
        try:
            limits = request.limits
            patience_s = limits.open_timeout_s + GRACE_S
            with child.sandbox.counting():
                started = self._receive(patience_s, gated)
                if gated is not None and self._gate is None:
                    raise UrlNotAllowed(
                        f"{request.name} is not opened: this system cannot hold a decoder to one address.",
                        expected="seccomp with user notification (Linux 5.9, x86-64 or arm64)",
                        got="none",
                    )
                opened = self._receive(patience_s)
                if not isinstance(started, Started) or not isinstance(opened, Opened) or not _makes_sense(opened.media):
                    raise self._untrue(opened)
        except BaseException:
            self.close()
            raise
        self.media = opened.media
        self.started = started
        """What the child is without."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the wanted Frames in order of time; raises what `FrameSource` does, and DecoderCrashed and DecoderStalled."""
        with self._child.sandbox.counting():
            yield from self._taken(Shown, self._frame)

    def written(self) -> Iterator[Piece]:
        """Yield the pieces of a rendition, where one was asked for (`MediaSandbox.encode`).

        Raises:
            RenditionFailed, MediaTooLarge: see `pipelines.rendition.encode`; and whatever iterating for Frames does.
        """
        with self._child.sandbox.counting():
            yield from self._taken(Written, self._piece)

    def _taken(self, kind: type[M], take: Callable[[M], T]) -> Iterator[T]:
        """What `take` makes of each message of a kind, to the end."""
        if self._used:
            raise SourceError("A source can be read once.", expected="a newly opened source", got="one that was read before")
        self._used = True
        limits = self._request.limits
        patience_s = limits.read_timeout_s if self._request.url is None else 2 * limits.read_timeout_s + GRACE_S
        self._mark = (time.monotonic(), self._fed_s())
        while True:
            with self._busy:
                if self._closed:
                    return
                try:
                    message = self._receive(patience_s)
                    taken = take(message) if isinstance(message, kind) else None
                except DecodeError:
                    if self._closed:  # by another thread, meanwhile
                        return
                    raise
            match message:
                case _ if taken is not None:
                    yield taken
                    self._mark = (time.monotonic(), self._fed_s())
                case Alive(decoded=decoded):
                    self.counts.decoded = decoded
                case Ended() as ended if self.counts.yielded > 0 and _is_credible(ended):
                    self._ended, self.counts, self.disconnected = ended, ended.counts, ended.disconnected
                    self.warnings = ended.warnings
                    self._raise_feed_error()
                    return
                case other:
                    raise self._untrue(other)

    def look(self, hz: float | None) -> None:
        """Another rate from one of the next frames on; see `pipelines.media.Frames`."""
        Sampler(hz)  # raises for a rate that is none
        with suppress(OSError):  # it has ended, or hears nothing; then the rate is of no use either
            self._child.talk.send(RATE.pack(float("inf") if hz is None else hz), socket.MSG_DONTWAIT)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def report(self) -> TimeReport:
        """How the source keeps time; there once it was read to its end."""
        if self._ended is None:
            raise DecodeError("The source was not read to its end.", expected="a report at the end", got="none yet")
        return self._ended.report

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the child spent; 0 until the end."""
        return 0.0 if self._ended is None else self._ended.cpu_s

    def close(self) -> None:
        """Kill the child and free its memory; may be called twice, and by another thread to make an iteration end."""
        self._closed = True
        self._child.stop()
        with self._busy:
            self._child.close()
            if self._gate is not None:
                self._gate.close()
                self._gate = None

    def _frame(self, shown: Shown) -> Frame:
        size = shown.height * shown.width * 3
        limits = self._request.limits
        if (
            not _is_finite(shown.arrival)
            or not self._child.holds(size)
            or shown.pts <= self._last_pts
            or self.counts.yielded >= limits.max_frames
        ):
            raise self._untrue(shown)
        self._last_pts = shown.pts
        image = self._pool.take(shown.height, shown.width)
        with self._child.pixels(shown.slot, size) as pixels:
            np.copyto(image.reshape(-1), np.frombuffer(pixels, np.uint8))
        self._free(shown)
        self.counts.decoded = shown.decoded
        self.counts.yielded += 1
        return Frame(
            image=image,
            pts=shown.pts,
            time_base=self.media.time_base,
            provenance=shown.provenance,
            flags=shown.flags,
            dropped_before=shown.dropped_before,
            missing_before=shown.missing_before,
            missing_since=shown.missing_since,
            gap_since=shown.gap_since,
            epoch=shown.epoch,
            shift=shown.shift,
            arrival=shown.arrival,
        )

    def _piece(self, written: Written) -> Piece:
        terms = self._request.rendition
        if terms is None or not self._child.holds(written.size) or written.at + written.size > terms.max_bytes:
            raise self._untrue(written)
        with self._child.pixels(written.slot, written.size) as part:
            data = bytes(part)
        self._free(written)
        self.counts.decoded = written.decoded
        self.counts.yielded += 1
        return Piece(written.at, data, float(written.pts * self.media.time_base))

    def _free(self, told: Shown | Written) -> None:
        """Let the child have a slot again."""
        try:
            self._child.talk.send(bytes([told.slot]), socket.MSG_DONTWAIT)
        except ConnectionError:
            pass  # it has died since; the next message will say so
        except BlockingIOError:
            raise self._untrue(told) from None  # it shows, and never looks which slots are free again

    def _receive(self, patience_s: float, gated: Callable[[int], NetGate] | None = None) -> FromChild:
        """The next message; refusals are raised, and so are silence and death. `gated` takes what a first one brings along."""
        self._wait(patience_s)
        try:
            if gated is None:
                packet = self._child.talk.recv(MAX_MESSAGE_BYTES)
            else:
                packet, listeners, _, _ = socket.recv_fds(self._child.talk, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
                if listeners:
                    self._gate = gated(listeners[0])
        except ConnectionResetError:
            # It left without reading our last credits, which Linux reports first; what it said before is still there.
            packet = self._child.talk.recv(MAX_MESSAGE_BYTES)
        if not packet:
            self._raise_feed_error()
            raise self._death()
        try:
            message = from_child.validate_json(packet)
        except ValidationError as error:
            raise DecoderCrashed("The decoder's answer makes no sense.", expected="a message", got=f"{len(packet)} bytes") from error
        refused, gate = isinstance(message, Refused), self._gate
        if gate is not None and gate.strayed and (refused or not gate.forgives):
            raise UrlNotAllowed(
                f"{self._request.name} leads elsewhere, and is not followed.", expected="the host that was named", got=gate.strayed
            )
        if isinstance(message, Refused):
            self._raise_feed_error()
            kind = REFUSALS.get(message.slug, DecodeError)
            raise kind(message.detail, expected=message.expected, got=message.got)
        return message

    def _wait(self, patience_s: float) -> None:
        """Until there is a message. Only time that the child keeps us waiting counts: not ours between two Frames, nor a feed's."""
        silent_s, most = 0.0, self._request.limits.max_wall_s
        ready = select.poll()
        ready.register(self._child.talk, select.POLLIN)
        if self._gate is not None:
            ready.register(self._gate, select.POLLIN)
        while True:
            there = dict(ready.poll(1000 * min(0.25, patience_s)))
            if self._gate is not None and (asks := there.pop(self._gate.fileno(), 0)):
                if asks & select.POLLIN:
                    self._gate.answer()
                else:
                    ready.unregister(self._gate)  # nobody is left to ask
            if self._idle is not None and not there:
                self._idle()
            passed_s = self._passed_s()
            silent_s += passed_s
            self._waited_s += passed_s
            late = self._waited_s >= most
            if there and not late:
                return
            if silent_s >= patience_s or late:
                self._child.close()
                expected = f"an end within {most:g} s" if late else f"an answer within {patience_s:g} s"
                raise DecoderStalled(f"{self._request.name} kept its decoder busy too long.", expected=expected, got="none; it was ended")

    def _passed_s(self) -> float:
        """Seconds since this was last asked, or a Frame was given out, without those spent waiting for the feed."""
        before, fed_before = self._mark
        self._mark = now, fed = (time.monotonic(), self._fed_s())
        return max(0.0, now - before - (fed - fed_before))

    def _fed_s(self) -> float:
        return 0.0 if self._pump is None else self._pump.waited_s

    def _death(self) -> DecodeError | MediaTooLarge:
        status = self._child.status()
        name = self._request.name
        if status is None:
            return DecoderCrashed(f"{name} could not be decoded: the decoder's parent died.", expected="a living decoder", got="none")
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if number == signal.SIGXCPU:
            most = f"at most {self._request.limits.max_cpu_s} s of CPU time"
            return MediaTooLarge(f"{name} takes too long to decode.", expected=most, got="more")
        if number is not None:
            # Python has no names for most real-time signals, and a child may send itself any.
            known = {one.value: one.name for one in signal.Signals}
            got = known.get(number, f"signal {number}") + (" (killed, or out of memory)" if number == signal.SIGKILL else "")
        else:
            got = f"exit status {os.waitstatus_to_exitcode(status)}"
        return DecoderCrashed(f"{name} made its decoder fail.", expected="frames, or a refusal", got=got)

    def _raise_feed_error(self) -> None:
        if self._pump is not None and self._pump.error is not None:
            error = self._pump.error
            if not isinstance(error, Exception):
                raise error
            raise FeedFailed(
                "The byte feed failed while it was read.", expected="bytes from read(n)", got=f"{type(error).__name__}: {error}"
            ) from error

    def _untrue(self, message: FromChild) -> DecoderCrashed:
        return DecoderCrashed("The decoder's answer makes no sense here.", expected="another message", got=json.dumps(message.kind))


def _makes_sense(media: MediaInfo) -> bool:
    """A child that was taken over may say anything; the rest of the house counts on these."""
    numbers = (media.nominal_fps, media.declared_duration_s)
    # FFmpeg's AVRational and sizes are of 32 bits; what is longer cannot be told as a float.
    whole = (media.time_base.numerator, media.time_base.denominator, media.width + 1, media.height + 1)
    return (
        all(0 < n < 2**31 for n in whole) and 0 <= (media.size_bytes or 0) < 2**63 and all(n is None or math.isfinite(n) for n in numbers)
    )


def _is_finite(arrival: Arrival | None) -> bool:
    return arrival is None or (math.isfinite(arrival.at_s) and math.isfinite(arrival.utc_zero_s or 0.0))


def _is_credible(ended: Ended) -> bool:
    numbers = (*astuple(ended.counts), *astuple(ended.report))
    return all(math.isfinite(n) for n in numbers if isinstance(n, float)) and all(0 <= n < 2**63 for n in numbers if isinstance(n, int))


def _seekable(source: Readable, limits: Limits) -> int | None:
    """A descriptor of what a source still has to give, if it can go back: a file's own, or a copy in memory; None if it cannot.

    Raises:
        MediaTooLarge: it has more bytes than the limit.
    """
    feed = feed_of(source, max_bytes=limits.max_bytes)
    if not isinstance(feed, SeekableFeed):
        return None
    if (own := _reopened(source)) is not None:
        return own
    left = feed.size_bytes
    with ExitStack() as failed:
        copy = os.memfd_create("media", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        failed.callback(os.close, copy)
        with os.fdopen(os.dup(copy), "wb") as file:
            while left > 0 and (piece := feed.read(min(left, FEED_PIECE))):
                file.write(piece)
                left -= len(piece)
        feed.raise_error("the byte feed")
        os.lseek(copy, 0, os.SEEK_SET)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        failed.pop_all()
    return copy


def _reopened(source: Readable) -> int | None:
    """A plain file's descriptor of its own, at the same place: the caller's may be writable, and stays where it is.

    Only of Python's own classes, because another's `fileno` need not be where its bytes come from (gzip).
    """
    raw = source.raw if type(source) is io.BufferedReader else source
    if type(raw) is not io.FileIO or not raw.readable() or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    assert isinstance(source, io.FileIO | io.BufferedReader)
    at = source.tell()
    try:
        own = os.open(f"/proc/self/fd/{raw.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # opened by somebody with other rights than this process has now
        return None
    os.lseek(own, at, os.SEEK_SET)
    return own
