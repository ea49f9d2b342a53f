"""The decode child: one descriptor or URL comes in; Frames, a rendition or content credentials go out. Forked by the zygote below, for one
source each.

The zygote is a small clean process (no secrets in its environment, no threads, no open files of the service) that has imported the decoder
once and forks a child for every source, in a few milliseconds. It dies with the service; its children die with it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import numpy as np

from models.errors import Refusal
from pipelines.clock import MediaClock
from pipelines.containers import preload
from pipelines.errors import DecoderCrashed, MediaTooLarge
from pipelines.frames import FrameSource, read_frames
from pipelines.image_pool import ImagePool
from pipelines.media import Frame, FrameCounts, Image
from pipelines.rendition import encode
from service import content_credentials
from service.media_lock import die_with_parent, lock_up
from service.media_wire import FRAME_SLOTS, RATE, READY, Alive, Credentials, Ended, Message, Opened, Refused, Request, Written, shown
from service.net_gate import lock_sending

PULSE_S: Final = 0.5
FAULT: Final = 70  # EX_SOFTWARE of sysexits.h: a mistake of ours, with its traceback on stderr
# The child's descriptors: 0 and 1 are /dev/null, 2 is the log, then these. A URL brings no MEDIA.
TALK, FRAMES, REQUEST, MEDIA = 3, 4, 5, 6


def serve(control_fd: int) -> None:
    """The zygote: fork a child for each packet of descriptors on the control socket; the last of them is told its pid, and how it ended."""
    preload()
    content_credentials.preload()
    control = socket.socket(fileno=control_fd)
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    told: dict[int, int] = {}
    control.send(READY)
    with selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        ready.register(wake_reader, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not control:
                    with suppress(BlockingIOError):
                        os.read(wake_reader, 4096)
                    _reap(told)
                    continue
                packet, descriptors, flags, _address = socket.recv_fds(control, 16, 8)
                if not packet:
                    return
                # Truncated: there is no room for more descriptors here, and the last is not what it seems.
                if not flags & socket.MSG_CTRUNC:
                    with suppress(OSError):  # no process or memory to be had, or nobody waits: the others go on
                        _fork(descriptors, told)
                for descriptor in set(descriptors) - set(told.values()):
                    os.close(descriptor)


def _fork(descriptors: list[int], told: dict[int, int]) -> None:
    *given, exit_writer = descriptors
    pid = os.fork()
    if pid == 0:
        _become(given)
    told[pid] = exit_writer
    os.write(exit_writer, f"{pid}\n".encode())


def _reap(told: dict[int, int]) -> None:
    while told:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        writer = told.pop(pid)
        with suppress(BrokenPipeError):
            os.write(writer, f"{status}\n".encode())
        os.close(writer)


def _become(given: list[int]) -> None:
    """In the fork: keep the given descriptors and nothing else, decode, and never return into the zygote's loop."""
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Twice, since one of them may stand where another is to go.
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, MEDIA + 1) for descriptor in given]
        for n, descriptor in enumerate(high):
            os.dup2(descriptor, TALK + n)
        os.closerange(TALK + len(given), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        talk = socket.socket(fileno=TALK)
        with os.fdopen(REQUEST, "rb") as text:
            request = Request.model_validate_json(text.read())
        # mmap keeps a duplicate of its descriptor, in the place where REQUEST was.
        memory = mmap.mmap(FRAMES, FRAME_SLOTS * 3 * request.limits.max_pixels)
        started, gate = lock_up(request, files=TALK + len(given))
        if gate is None:
            _say(talk, started)
        else:
            # Whoever holds the gate may answer for itself.
            socket.send_fds(talk, [started.model_dump_json().encode()], [gate])
            os.close(gate)
            lock_sending()
        if request.proxy is not None:
            os.environ["http_proxy"] = request.proxy
        _decode(request, talk, memory)
        os._exit(0)
    except BaseException as error:  # whatever it is, a fork must not run on as a second zygote
        traceback.print_exc()
        # A log that is a file takes nothing more from a process that may write no file.
        with suppress(OSError, NameError):
            came = f"{type(error).__name__} inside the decoder"
            _say(
                talk,
                Refused(slug=DecoderCrashed.slug, detail="The media made its decoder fail.", expected="frames, or a refusal", got=came),
            )
    finally:
        os._exit(FAULT)


def _decode(request: Request, talk: socket.socket, memory: mmap.mmap) -> None:
    """Read the source to its end, or to the reason why not."""
    child = _Child(request, talk, memory)
    try:
        child.run()
    except Refusal as refusal:
        _say(talk, Refused(slug=refusal.slug, detail=refusal.detail, expected=refusal.expected, got=refusal.got))
    except MemoryError:
        most = f"at most {request.limits.max_memory_bytes >> 20} MiB"
        _say(talk, Refused(slug=MediaTooLarge.slug, detail="Decoding takes too much memory.", expected=most, got="more"))
    except ConnectionError:
        return  # nobody wants the frames any more


class _Slots:
    """Shared memory for FRAME_SLOTS pictures; `take` makes it the pool that pictures are converted into (`pipelines.image_pool.Pool`)."""

    def __init__(self, memory: mmap.mmap, slot_bytes: int, talk: socket.socket) -> None:
        self._memory, self._slot_bytes, self._talk = memory, slot_bytes, talk
        self._free = list(range(FRAME_SLOTS))
        self._given: tuple[int, Image] | None = None
        self.on_rate: Callable[[float | None], None] = lambda _hz: None
        """Told of another rate when one is asked for; nobody else reads what the parent says."""

    def take(self, height: int, width: int) -> Image:
        """The memory of a slot that the parent does not hold; waits for one."""
        with suppress(BlockingIOError):
            while True:
                self._hear(socket.MSG_DONTWAIT)
        slot = self._given[0] if self._given is not None else self._next()
        image = np.frombuffer(self._memory, np.uint8, height * width * 3, slot * self._slot_bytes).reshape(height, width, 3)
        self._given = (slot, image)
        return image

    def slot_of(self, image: Image) -> int:
        """Where `image` lies; one that was turned or mapped since lies elsewhere, and is copied."""
        if self._given is None or self._given[1] is not image:
            np.copyto(self.take(*image.shape[:2]), image)
        assert self._given is not None
        slot, self._given = self._given[0], None
        return slot

    def put(self, data: bytes) -> tuple[int, int]:
        """Copy as many bytes as a slot holds into one; which one, and how many."""
        slot, size = self._next(), min(len(data), self._slot_bytes)
        self._memory[slot * self._slot_bytes : slot * self._slot_bytes + size] = data[:size]
        return slot, size

    def _next(self) -> int:
        while not self._free:
            self._hear()
        return self._free.pop()

    def _hear(self, flags: int = 0) -> None:
        said = self._talk.recv(RATE.size, flags)
        if not said:
            raise BrokenPipeError
        if len(said) == RATE.size:
            (hz,) = RATE.unpack(said)
            self.on_rate(None if hz == float("inf") else hz)
        else:
            self._free.append(said[0])


class _Child:
    """Reads one source and tells of it."""

    def __init__(self, request: Request, talk: socket.socket, memory: mmap.mmap) -> None:
        self._request, self._talk = request, talk
        self._slots = _Slots(memory, 3 * request.limits.max_pixels, talk)
        self._pulse_due = time.monotonic() + PULSE_S
        self._counts = FrameCounts()

    def run(self) -> None:
        request = self._request
        if request.credentials is not None:
            with content_credentials.Watched(MEDIA, self._pulse) as media:
                _say(self._talk, Credentials(found=content_credentials.read_credentials(media, request.credentials)))
            return
        with read_frames(
            request.url or _Media(),
            hz=request.hz,
            limits=request.limits,
            closely=request.closely,
            live=request.live,
            transport=request.transport,
            clock=MediaClock(request.after),
            name=request.name,
            pulse=self._pulse,
            pool=self._slots if request.rendition is None else ImagePool(),
        ) as frames:
            self._counts = frames.counts
            self._slots.on_rate = frames.look
            _say(self._talk, Opened(media=frames.media))
            if request.rendition is not None:
                sink = _Sink(self._talk, self._slots, frames.counts)
                aspect = frames.pixel_aspect
                encode(sink.watched(frames), frames.media, sink, request.rendition, pixel_aspect=aspect)
            else:
                self._show(frames)
            _say(
                self._talk,
                Ended(
                    counts=frames.counts,
                    warnings=frames.warnings,
                    report=frames.report,
                    disconnected=frames.disconnected,
                    cpu_s=time.process_time(),
                ),
            )

    def _show(self, frames: FrameSource) -> None:
        for frame in frames:
            _say(self._talk, shown(frame, self._slots.slot_of(frame.image), frames.counts.decoded))

    def _pulse(self) -> None:
        if time.monotonic() >= self._pulse_due:
            self._pulse_due = time.monotonic() + PULSE_S
            _say(self._talk, Alive(decoded=self._counts.decoded))


class _Sink:
    """Where a rendition is written: what goes in is told piece by piece, with the byte at which it belongs (`video_writer.Sink`)."""

    def __init__(self, talk: socket.socket, slots: _Slots, counts: FrameCounts) -> None:
        self._talk, self._slots, self._counts = talk, slots, counts
        self._at = self._end = 0
        self._pts = 0

    def watched(self, frames: FrameSource) -> Iterator[Frame]:
        """The same Frames, remembering how far they are."""
        for frame in frames:
            self._pts = frame.pts
            yield frame

    def write(self, data: bytes, /) -> int:
        """Tell of `data`, in as many pieces as it takes."""
        left = data
        while left:
            slot, size = self._slots.put(left)
            _say(self._talk, Written(slot=slot, at=self._at, size=size, pts=self._pts, decoded=self._counts.decoded))
            self._at, left = self._at + size, left[size:]
        self._end = max(self._end, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As a file's."""
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        """As a file's."""
        return self._at


class _Media:
    """The descriptor that came along: a file, which can be sought, or the feed's pipe, which cannot."""

    def __init__(self) -> None:
        self._file = os.fdopen(MEDIA, "rb", buffering=0)
        self.read, self.seek, self.tell, self.seekable = self._file.read, self._file.seek, self._file.tell, self._file.seekable


def _say(talk: socket.socket, message: Message) -> None:
    talk.send(message.model_dump_json().encode())
