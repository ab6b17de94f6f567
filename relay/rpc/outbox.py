"""What waits to be sent to one client: bounded and in order; a client that does not read is cut off."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from relay.primitives.errors import RelayError

__all__ = ["CutOff", "Outbox", "Total"]

MAX_TOTAL: Final = 256 * 1024 * 1024  # bytes that wait for all clients of one server

_log = structlog.get_logger("relay.rpc")


class CutOff(RelayError):
    """A client does not read what it is sent."""


class Total:
    """Bytes that wait for all clients of one server; who puts more in than there is room for is cut off."""

    def __init__(self, limit: int = MAX_TOTAL) -> None:
        self.limit = limit
        self.held = 0


class Outbox:
    """Messages to one client.

    Args:
        send: sends some and returns when the client has made room for more.
        cut: breaks the connection, so that `send` and all reading end.
        counters: of clients that were cut off.
        total: of all clients.
        limit: bytes that may wait; beyond it the client is cut off.
        seconds: within which the client has to make room.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], Awaitable[None]],
        cut: Callable[[], None],
        counters: Counter[str],
        total: Total,
        *,
        limit: int,
        seconds: float,
    ) -> None:
        self._send = send
        self._cut = cut
        self._counters = counters
        self._total = total
        self._limit = limit
        self._seconds = seconds
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._finished = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, message: bytes) -> None:
        """Have a message sent; never waits."""
        if self._over:
            return
        self._waiting.append(message)
        self._size += len(message)
        self._total.held += len(message)
        if self._size > self._limit:
            self._end(f"more than {self._limit} bytes wait")
        elif self._total.held > self._total.limit:
            self._end("too many bytes wait for all clients together")
        elif self._size > self._limit // 4:
            self._room.clear()
        self._news.set()

    async def room(self) -> None:
        """Return once the client has taken most of what was sent: until then nothing more is read of it."""
        await self._room.wait()

    def close(self) -> None:
        """Give back what is held; nothing is sent any more."""
        self._over = True
        self._waiting.clear()
        self._total.held -= self._size
        self._size = 0

    def finish(self) -> None:
        """End `run` when all is sent."""
        self._finished = True
        self._news.set()

    async def run(self) -> None:
        """Send until `finish`.

        Raises:
            CutOff: the client takes too little.
            OSError: it has hung up.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            if self._over:
                raise CutOff("the client does not read")
            if self._waiting:
                await self._send_waiting()
            elif self._finished:
                return

    async def _send_waiting(self) -> None:
        messages = tuple(self._waiting)
        self._waiting.clear()
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(messages)
        except TimeoutError:
            self._end(f"nothing was taken for {self._seconds:g} s")
        sent = sum(map(len, messages))
        self._size -= sent
        self._total.held -= sent
        if self._size <= self._limit // 4:
            self._room.set()
        self._news.set()

    def _end(self, why: str) -> None:
        _log.warning("client does not read its answers", why=why)
        self._counters["client cut off"] += 1
        self._over = True
        self._waiting.clear()
        self._room.set()
        self._cut()
