"""A network that breaks: a TCP proxy on loopback whose connections a test can cut, or that cuts them by itself after so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress


class BrokenNetwork:
    """Carries bytes between clients and `target`, a port of this machine, until it is told not to."""

    def __init__(self, target: int, budgets: Iterator[int]) -> None:
        self.target = target
        """Where new connections lead; a test may change it."""
        self.cuts = 0
        self.up = True
        """Whether new connections are carried at all."""
        self._budgets = budgets
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """All connections end at once, without a word."""
        self.cuts += bool(self._writers)
        for writer in self._writers:
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        budget = [next(self._budgets, None)]
        self._writers |= {writer, to_writer}
        try:
            await asyncio.gather(self._copy(reader, to_writer, budget), self._copy(to_reader, writer, budget))
        finally:
            self._writers -= {writer, to_writer}
            for one in (writer, to_writer):
                one.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int | None]) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
                (left,) = budget
                if left is not None:
                    budget[0] = left - len(data)
                    if left <= len(data):
                        self.cut()
        with suppress(OSError, RuntimeError):  # it is cut already
            writer.write_eof()


@asynccontextmanager
async def broken_network(target: int, budgets: Iterable[int] = ()) -> AsyncIterator[BrokenNetwork]:
    """Each new connection takes the next of `budgets`: after so many bytes of both directions, all are cut. Without one it holds."""
    network = BrokenNetwork(target, iter(budgets))
    server = await asyncio.start_server(network.carry, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    async with server:
        yield network
        network.cut()
