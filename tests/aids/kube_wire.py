"""A wire between relays and a real API server that can be cut in the middle of an answer, or trickle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.aids.kube_apiserver import ApiServer

__all__ = ["Wire", "wire"]

TRICKLE = 0.25  # seconds between two parts


class Wire:
    """Passes bytes on; what the server says may be limited.

    Attributes:
        url: of the API, through the wire.
        cuts: connections that were cut.
    """

    def __init__(self, server: ApiServer) -> None:
        self._to = int(server.url.rpartition(":")[2])
        self._most: int | None = None
        self._rate: int | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.cuts = 0

    def cut_after(self, count: int | None) -> None:
        """End those that are open, and each that comes after so many bytes of the server's; None: no more."""
        self._most = count
        self.hang_up()

    def slow_down(self, rate: int | None) -> None:
        """Pass so many bytes of the server's a second; None: all."""
        self._rate = rate

    def hang_up(self) -> None:
        """End all that are open."""
        for each in list(self._open):
            each.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with suppress(OSError):
            there = await asyncio.open_connection("127.0.0.1", self._to)
            self._open |= {writer, there[1]}
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._up(reader, there[1]))
                    tasks.create_task(self._down(there[0], writer))
            except* (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                for each in (writer, there[1]):
                    self._open.discard(each)
                    each.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while part := await reader.read(1 << 16 if self._rate is None else max(int(self._rate * TRICKLE), 1)):
            if self._most is not None and passed + len(part) > self._most:
                writer.write(part[: self._most - passed])
                await writer.drain()
                self.cuts += 1
                raise ConnectionResetError
            writer.write(part)
            await writer.drain()
            passed += len(part)
            if self._rate is not None:
                await asyncio.sleep(TRICKLE)
        raise ConnectionResetError


@asynccontextmanager
async def wire(server: ApiServer) -> AsyncIterator[Wire]:
    """Lay one on a port of its own."""
    found = Wire(server)
    listener = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        listener.close()
        found.hang_up()
        await listener.wait_closed()
