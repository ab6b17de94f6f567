"""Connected pairs of asyncio transports over a socketpair: a wire without a network for the upper rooms."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

A = TypeVar("A", bound=asyncio.BaseProtocol)
B = TypeVar("B", bound=asyncio.BaseProtocol)


class Pair(Generic[A, B]):
    """Both ends: `left` is the dialing side by convention, `right` the listening one."""

    def __init__(self, left: tuple[asyncio.Transport, A], right: tuple[asyncio.Transport, B]) -> None:
        self.left_transport, self.left = left
        self.right_transport, self.right = right

    async def close(self) -> None:
        """Close both ends, and return when both protocols have heard of it."""
        self.left_transport.abort()
        self.right_transport.abort()
        for _ in range(3):  # connection_lost runs from call_soon, the socket is closed after it
            await asyncio.sleep(0)


async def make_pair(
    left: Callable[[], A], right: Callable[[], B], *, buffer_size: int | None = None
) -> Pair[A, B]:
    """Join two protocols by a socketpair.

    buffer_size: bytes of the kernel's send and receive buffers, to make a writer feel a slow reader early.
    """
    loop = asyncio.get_running_loop()
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        if buffer_size is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
    return Pair(
        await loop.create_connection(left, sock=ends[0]),
        await loop.create_connection(right, sock=ends[1]),
    )


@asynccontextmanager
async def pair(
    left: Callable[[], A], right: Callable[[], B], *, buffer_size: int | None = None
) -> AsyncIterator[Pair[A, B]]:
    """Like `make_pair`, closed at the end of the block."""
    joined = await make_pair(left, right, buffer_size=buffer_size)
    try:
        yield joined
    finally:
        await joined.close()


class Recorder(asyncio.Protocol):
    """A protocol that remembers what it got, and lets a test wait for it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.lost: asyncio.Event = asyncio.Event()
        self.error: Exception | None = None
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.lost.set()
        self._changed.set()

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    async def wait_for_bytes(self, count: int, deadline: float = 5.0) -> bytes:
        """Return the first `count` bytes once they are there; EOFError when the connection ends before."""
        async with asyncio.timeout(deadline):
            while len(self.received) < count:
                if self.lost.is_set():
                    raise EOFError(f"{len(self.received)} of {count} bytes came")
                self._changed.clear()
                await self._changed.wait()
        return bytes(self.received[:count])

    async def wait_lost(self, deadline: float = 5.0) -> None:
        async with asyncio.timeout(deadline):
            await self.lost.wait()
