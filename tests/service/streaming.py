"""A plain client of a live stream for tests, and media to send: a real WebSocket to a real server, every event kept, no rule hidden."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import av
import cv2
import httpx
from av.video.stream import VideoStream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from service.media_header import NO_FLAGS, MediaFlag, MediaHeader, MediaKind
from service.stream_wire import SUBPROTOCOL, server_message

Json = dict[str, Any]
WITHIN_S = 120.0


class Talk:
    """One connection. `events` are all that came, in order; each fits the models."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Json] = []
        self.seq = 0
        self._came = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def media(
        self, kind: MediaKind, payload: bytes, *, flags: MediaFlag = NO_FLAGS, seq: int | None = None, **header: int | None
    ) -> None:
        """Send a piece as the next, whatever the credit."""
        seq = self.seq if seq is None else seq
        await self.socket.send(MediaHeader(kind, seq, flags, **header).packed() + payload)
        self.seq = seq + 1

    async def until(self, kind: str, where: Callable[[Json], bool] = lambda _: True, *, within_s: float = WITHIN_S) -> Json:
        """The first event of a kind, past or to come."""

        def found() -> Json | None:
            return next((event for event in self.events if event["type"] == kind and where(event)), None)

        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: found() is not None or self._reading.done())
        event = found()
        assert event is not None, f"closed with {self.socket.close_code} and no {kind}: {[one['type'] for one in self.events]}"
        return event

    async def room(self, size: int, *, within_s: float = WITHIN_S) -> None:
        """Wait until the credit has room for another piece of so many bytes."""

        def free() -> bool:
            credit = next((event["credit"] for event in reversed(self.events) if "credit" in event), None)
            return bool(credit and self.sent[0] + 1 <= credit["media"] and self.sent[1] + size <= credit["bytes"])

        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: free() or self._reading.done())

    sent = (0, 0)
    """Pieces and bytes that `feed` has sent."""

    async def feed(self, kind: MediaKind, pieces: Iterator[bytes] | list[bytes], stamps_us: list[int] | None = None) -> None:
        """Send all pieces within the credit."""
        for i, piece in enumerate(pieces):
            await self.room(len(piece))
            await self.media(kind, piece, pts_us=None if stamps_us is None else stamps_us[i])
            self.sent = self.sent[0] + 1, self.sent[1] + len(piece)

    async def closed(self, *, within_s: float = WITHIN_S) -> int:
        """The close code, when it has come."""
        async with asyncio.timeout(within_s):
            await asyncio.wait([self._reading])
            await self.socket.wait_closed()
        assert self.socket.close_code is not None
        return self.socket.close_code

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["type"] == kind]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                assert isinstance(message, str)
                server_message.validate_json(message)
                await self._keep(json.loads(message))
        except ConnectionClosed:
            pass
        finally:
            async with self._came:
                self._came.notify_all()

    async def _keep(self, event: Json) -> None:
        async with self._came:
            self.events.append(event)
            self._came.notify_all()


def stream_url(client: httpx.Client) -> str:
    return f"ws://{client.base_url.host}:{client.base_url.port}/v1/stream"


@asynccontextmanager
async def talk(client: httpx.Client, *, protocols: tuple[str, ...] = (SUBPROTOCOL,), key: str | None = None) -> AsyncIterator[Talk]:
    """Connect to the service of `client`."""
    spoken = [Subprotocol(name) for name in protocols]
    shown = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with (
        connect(
            stream_url(client),
            subprotocols=spoken or None,
            additional_headers=shown,
            compression=None,
            max_size=None,
            open_timeout=60,
        ) as socket,
        Talk(socket) as it,
    ):
        yield it


def pieces(data: bytes, size: int = 16 * 1024) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def remuxed(source: Path, target: Path, options: dict[str, str] | None = None) -> Path:
    """The very packets of `source` in another container, by the suffix of `target`."""
    with av.open(str(source)) as opened, av.open(str(target), "w", options=options or {}) as out:
        video = opened.streams.video[0]
        stream = out.add_stream_from_template(video)
        assert isinstance(stream, VideoStream)
        for packet in opened.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return target


def pictures_of(path: Path, suffix: str = ".jpg") -> tuple[list[bytes], list[int]]:
    """Every picture of a clip by itself, with its stamp in microseconds."""
    images, stamps = [], []
    quality = [cv2.IMWRITE_JPEG_QUALITY if suffix == ".jpg" else cv2.IMWRITE_WEBP_QUALITY, 95]
    with av.open(str(path)) as opened:
        for frame in opened.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            done, encoded = cv2.imencode(suffix, frame.to_ndarray(format="bgr24"), quality)
            assert done
            images.append(encoded.tobytes())
            stamps.append(round(frame.pts * frame.time_base * 1_000_000))
    return images, stamps


class Left:
    """What streams have left behind since this was made: threads and decode children, once there was time to let go."""

    def __init__(self) -> None:
        self._before = _living()

    def behind(self, *, within_s: float = WITHIN_S) -> set[str]:
        until = time.monotonic() + within_s
        while (left := _living() - self._before) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def _living() -> set[str]:
    """Names of the threads that work for streams, and of grandchildren of this process: a zygote's children decode."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    children = {f"process {pid}" for pid, parent in parents.items() if parents.get(parent) == os.getpid()}
    return children | {f"thread {one.name}" for one in threading.enumerate() if one.name.startswith(("stream-", "media-feed"))}
