"""Untrusted media, decoded by somebody else: a path, URL or byte feed comes in, Frames go out, and what it does to its decoder stays there.

Used by `judging.py`, `admission.py` and the command line wherever `pipelines.frames` would be, and by `renditions.py`; `media_child.py` is
the other side.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from pipelines.byte_feed import Readable, open_file
from pipelines.clock import Mark
from pipelines.errors import DecodeError, DecoderCrashed, DecoderStalled
from pipelines.frames import read_frames
from pipelines.media import Limits, MediaInfo, Reader, RtspTransport
from pipelines.rendition import RenditionTerms
from pipelines.sampling import Sampler
from service.content_credentials import can_be_read, media_type
from service.decode_children import Child, ChildCounts, DecodeChildren
from service.media_descriptors import Pump, seekable
from service.media_wire import MAX_MESSAGE_BYTES, Alive, Credentials, Request, Started, from_child
from service.net_gate import PROXY, NetGate
from service.sandboxed_frames import SandboxedFrames
from service.schemas import ContentCredentials
from service.url_policy import ANYWHERE, UrlPolicy

CREDENTIALS_S: Final = 120.0  # a hash over all of the media, of which there may be gigabytes


class MediaSandbox:
    """Starts a decode child for each source. May be used by many threads; a context manager that ends with all its children.

    Args:
        policy: where URLs may point; anywhere if None.
    """

    def __init__(self, policy: UrlPolicy | None = None) -> None:
        self.policy = policy or UrlPolicy(ANYWHERE)
        self._children = DecodeChildren()
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
        """End every child, now and for good."""
        self._children.close()

    @property
    def counts(self) -> ChildCounts:
        """What became of the children so far."""
        return self._children.counts

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
            elif (media := seekable(source, limits)) is not None:
                given.callback(os.close, media)
            else:
                media, writer = os.pipe()
                given.callback(os.close, media)
                pump = Pump(source, writer)
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
            child = self._children.child(request, media)
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
            child = self._children.child(request, file.fileno())
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
                with self._children.counting(), closing(self._children.child(request, file.fileno())) as child:
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
            with (
                os.fdopen(os.memfd_create("nothing", os.MFD_CLOEXEC)) as nothing,
                closing(self._children.child(request, nothing.fileno())) as child,
            ):
                child.talk.settimeout(request.limits.open_timeout_s)
                started = from_child.validate_json(child.talk.recv(MAX_MESSAGE_BYTES))
                return started if isinstance(started, Started) else None
        except (OSError, ValidationError, DecodeError):
            return None


def _credentials(child: Child, limits: Limits) -> ContentCredentials:
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
