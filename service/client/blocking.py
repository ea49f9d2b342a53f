"""The client for programs without an event loop: the same calls, each waits for its answer; a thread runs the loop of `live.py`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar

from service.client import live
from service.client.sources import Media, pieces
from service.schemas import VerdictOut
from service.stream_wire import End, Ready, SessionEvent

P = ParamSpec("P")
T = TypeVar("T")


class BlockingLive:
    """A stream, between `with` and its end; see `live.Live`. One thread may send while another iterates."""

    def __init__(self, stream: live.Live) -> None:
        self._stream = stream
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def ready(self) -> Ready:
        """What the service said at the beginning."""
        return self._stream.ready

    @property
    def end(self) -> End | None:
        """The last event, once it has come."""
        return self._stream.end

    @property
    def left_out(self) -> int:
        """Events that came and were given up because nobody took them."""
        return self._stream.left_out

    @property
    def resumed(self) -> int:
        """How often the connection was lost and had again."""
        return self._stream.resumed

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="undercurrent-client")
        self._thread.start()
        try:
            self._wait(self._stream.__aenter__())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait(self._stream.__aexit__())
        finally:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
                self._thread.join()
                loop.close()

    def send(self, data: bytes) -> None:
        """See `Live.send`."""
        self._wait(self._stream.send(data))

    def send_frame(self, image: bytes, t: float, *, captured_epoch_us: int | None = None, cut: bool = False) -> None:
        """See `Live.send_frame`."""
        self._wait(self._stream.send_frame(image, t, captured_epoch_us=captured_epoch_us, cut=cut))

    def send_all(self, media: Media) -> None:
        """See `Live.send_all`."""
        for piece in pieces(media):
            if isinstance(piece, bytes):
                self.send(piece)
            else:
                self.send_frame(*piece)

    def pause(self) -> None:
        """See `Live.pause`."""
        self._wait(self._stream.pause())

    def resume_media(self) -> None:
        """See `Live.resume_media`."""
        self._wait(self._stream.resume_media())

    def finish(self) -> VerdictOut:
        """See `Live.finish`."""
        return self._wait(self._stream.finish())

    def __iter__(self) -> Iterator[SessionEvent]:
        """The events, each once, as they come."""
        while (event := self._wait(self._next())) is not None:
            yield event

    async def _next(self) -> SessionEvent | None:
        return await anext(self._stream, None)

    def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            answer.close()
            raise live.not_open()
        waiting = asyncio.run_coroutine_threadsafe(answer, self._loop)
        try:
            return waiting.result()
        except BaseException:
            # Ctrl-C while it waits; without effect on what has failed by itself.
            waiting.cancel()
            raise


def _blocking(connect: Callable[P, live.Live]) -> Callable[P, BlockingLive]:
    @wraps(connect)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> BlockingLive:
        return BlockingLive(connect(*args, **kwargs))

    return blocking


connect = _blocking(live.connect)
