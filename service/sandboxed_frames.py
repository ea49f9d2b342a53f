"""What a decode child says of its source: messages and slots of shared memory come in, Frames or pieces of a rendition go out, each held to
what it may be.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
from pydantic import ValidationError

from pipelines import errors
from pipelines.clock import Arrival
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
from pipelines.image_pool import ImagePool
from pipelines.media import Frame, FrameCounts, MediaInfo, MediaWarning
from pipelines.sampling import Sampler
from pipelines.time_report import TimeReport
from service.decode_children import Child
from service.media_descriptors import Pump
from service.media_wire import (
    MAX_MESSAGE_BYTES,
    RATE,
    Alive,
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
from service.net_gate import NetGate

# FFmpeg raises for a silent URL after twice the time it was given (research/streaming.md, section 0.6); it gets to say so itself.
GRACE_S: Final = 2.0

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


class SandboxedFrames:
    """An opened source in a child, to be iterated once; see `pipelines.media.Frames`."""

    def __init__(
        self, child: Child, request: Request, pump: Pump | None, gated: Callable[[int], NetGate] | None, idle: Callable[[], None] | None
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
            with child.children.counting():
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
        with self._child.children.counting():
            yield from self._taken(Shown, self._frame)

    def written(self) -> Iterator[Piece]:
        """Yield the pieces of a rendition, where one was asked for (`MediaSandbox.encode`).

        Raises:
            RenditionFailed, MediaTooLarge: see `pipelines.rendition.encode`; and whatever iterating for Frames does.
        """
        with self._child.children.counting():
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
