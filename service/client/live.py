"""One live stream as its client has it: a caller's media goes to the service within its credit, events come back once each, then a verdict.

Losses of the connection are mended below it, by `conversation.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from typing import Final, Literal, Self

from pydantic import ValidationError

from service.client.conversation import Conversation
from service.client.errors import Misuse
from service.client.link import stream_url
from service.client.sources import PIECE_BYTES, Media, Piece, pieces_of
from service.media_header import FARTHEST_US, NO_FLAGS, MediaFlag, MediaHeader
from service.schemas import VerdictOut
from service.stream_wire import End, Mode, Pace, Pause, Ready, ResumeMedia, SessionEvent, Start

PATIENCE_S: Final = 60.0


def connect(
    service: str,
    *,
    mode: Mode,
    source: str | None = None,
    codec: Literal["jpeg", "webp"] | None = None,
    pace: Pace | None = None,
    key: str | None = None,
    patience_s: float = PATIENCE_S,
) -> Live:
    """A stream to be opened with `async with`.

    Args:
        service: `http://host:port` or `ws://...`.
        mode: `container` (then `send`), `frames` of a `codec` (then `send_frame`), or `pull`: the service opens `source`.
        pace: see `stream_wire.Start`.
        key: `uc_...`, where the service wants one.
        patience_s: how long to try for a place at a full service, and for a connection after each loss.

    Raises:
        Misuse: these do not fit together, or `service` is no URL.
    """
    try:
        start = Start(type="start", mode=mode, url=source, codec=codec, pace=pace)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise Misuse("There is no such stream.", expected="what `start` allows", got=fault) from error
    return Live(Conversation(stream_url(service), start, {} if key is None else {"Authorization": f"Bearer {key}"}, patience_s), mode)


class Live:
    """A stream, between `async with` and its end. For one event loop, where one task may send while another iterates.

    Leaving it sooner tells the service to let go; `finish` first to have the verdict.
    """

    def __init__(self, conversation: Conversation, mode: Mode) -> None:
        self._conversation, self._mode = conversation, mode
        self._turn = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._finishing = False

    @property
    def ready(self) -> Ready:
        """What the service said at the beginning."""
        if self._conversation.ready is None:
            raise not_open()
        return self._conversation.ready

    @property
    def end(self) -> End | None:
        """The last event, once it has come."""
        return self._conversation.end

    @property
    def left_out(self) -> int:
        """Events that came and were given up because nobody took them: the oldest beyond ten thousand."""
        return self._conversation.left_out

    @property
    def resumed(self) -> int:
        """How often the connection was lost and had again."""
        return self._conversation.resumed

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ServiceUnreachable, WrongProtocol, AccessDenied: there is no such service, or not for this client.
            Overloaded, ServiceUnavailable, TooManyRequests: for as long as the patience lasted it had no room, could serve nobody, or had
                enough of this client.
            StreamFailed: it does not take such a stream.
        """
        self._life = asyncio.create_task(self._conversation.run(), name="undercurrent-client")
        self._life.add_done_callback(lambda _: self._conversation.news.beat())
        try:
            await self._until(lambda: self._conversation.ready is not None)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def send(self, data: bytes) -> None:
        """Send bytes of the container, as many as there are; waits for credit. What follows the stream's end is not sent.

        Raises:
            Misuse: the mode is another, or `finish` was called.
            ClientError: the stream has failed.
        """
        _check(self._mode == "container", "mode `container`", f"mode `{self._mode}`")
        for at in range(0, len(data), PIECE_BYTES):
            await self._send(bytes(data[at : at + PIECE_BYTES]))

    async def send_frame(self, image: bytes, t: float, *, captured_epoch_us: int | None = None, cut: bool = False) -> None:
        """Send one picture; waits for credit.

        Args:
            image: a JPEG or lossy WebP, as `codec` says.
            t: when it is shown, in seconds on a line of your own.
            captured_epoch_us: when it was filmed, microseconds since 1970; comes back with its score.
            cut: another scene, or another camera, from here on.

        Raises:
            Misuse, ClientError: as `send`, and for what no picture or stamp can be.
        """
        _check(self._mode == "frames", "mode `frames`", f"mode `{self._mode}`")
        most = self.ready.limits.message_bytes - MediaHeader.FORM.size
        _check(0 < len(image) <= most, f"a picture of at most {most} bytes", f"{len(image)} bytes")
        _check(math.isfinite(t) and abs(t) * 1e6 <= FARTHEST_US, f"seconds within {FARTHEST_US / 1e6:g} of 0", f"{t}")
        flags = MediaFlag.KEY | (MediaFlag.DISCONTINUITY if cut else NO_FLAGS)
        await self._send(bytes(image), flags=flags, pts_us=round(t * 1_000_000), capture_epoch_us=captured_epoch_us)

    async def send_all(self, media: Media | AsyncIterable[Piece]) -> None:
        """Send a file, all that a pipe or another reader gives, or the pieces of an iterable: bytes, or (image, seconds)."""
        async for piece in pieces_of(media):
            await (self.send(piece) if isinstance(piece, bytes) else self.send_frame(*piece))

    async def pause(self) -> None:
        """Say that nothing will come for a while, on purpose; ten minutes at most. The next piece ends it."""
        self._conversation.pause(Pause(type="pause"))

    async def resume_media(self) -> None:
        """Say that it goes on; the time that passed is a real distance."""
        self._conversation.pause(ResumeMedia(type="resume_media"))

    async def finish(self) -> VerdictOut:
        """Say that nothing follows, and wait for the verdict. Events can be iterated before, meanwhile and after.

        Raises:
            StreamFailed: the service ended the stream for a reason; the error's `end` has the verdict until then, if there is one.
            ClientError: it could not be heard.
        """
        if not self._finishing and self._mode == "pull":
            self._finishing = True
            self._conversation.stop()
        elif not self._finishing:
            # A piece like any other, so after a loss it is sent again like any other.
            await self._send(b"", flags=MediaFlag.LAST)
        await self._until(lambda: False)
        end = self._conversation.end
        assert end is not None and end.verdict is not None
        return end.verdict

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionEvent:
        """The next event, each once; ends after `end`, or raises why the stream failed."""
        events = self._conversation.events
        if not await self._until(lambda: bool(events)):
            raise StopAsyncIteration
        return events.popleft()

    async def _until(self, holds: Callable[[], bool]) -> bool:
        """Wait until it holds; False if the stream has ended well before. Raises why it failed."""
        life = self._life
        if life is None:
            raise not_open()
        await self._conversation.news.until(lambda: holds() or life.done())
        if holds():
            return True
        if life.cancelled():
            raise not_open()
        life.result()
        return False

    async def _send(
        self, payload: bytes, *, flags: MediaFlag = NO_FLAGS, pts_us: int | None = None, capture_epoch_us: int | None = None
    ) -> None:
        out = self._conversation.out
        # Turns are given in the order of the calls.
        async with self._turn:
            _check(not self._finishing, "media before `finish`", "media after it")
            if await self._until(lambda: out.has_room(len(payload))):
                out.put(payload, flags=flags, pts_us=pts_us, capture_epoch_us=capture_epoch_us)
                self._finishing = MediaFlag.LAST in flags
                self._conversation.news.beat()


def not_open() -> Misuse:
    """Of a stream that was not entered, or was left."""
    return Misuse("The stream is not open.", expected="to be inside of `async with`", got="outside of it")


def _check(holds: bool, expected: str, got: str) -> None:
    if not holds:
        raise Misuse("That cannot be sent.", expected=expected, got=got)
