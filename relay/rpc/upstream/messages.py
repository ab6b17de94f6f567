"""Upstreams by one connection that stays (WebSocket, unix socket): calls side by side, and subscriptions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from relay.rpc.upstream.budget import Budget, Share
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.framings import Framing, LineFraming, WebSocketFraming
from relay.rpc.upstream.opener import Opener
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.texts import answer_id
from relay.rpc.upstream.urls import Scheme
from relay.transports.sockets import describe

__all__ = ["MessageLink", "Push"]

MAX_UNSENT: Final = 64 * 1024 * 1024  # bytes of requests that the upstream does not take
MAX_PUSH: Final = 4 * 1024 * 1024  # bytes of one notification; a block's header and a log are far below

Push = Callable[[str, str], None]
"""Is told of each notification: the upstream's id of the subscription, and JSON of the result."""


class MessageLink:
    """The connection to one upstream, opened when it is needed.

    Args:
        opener: makes it.
        options: limits.
        budget: of bytes on their way.

    Attributes:
        on_push: told of notifications.
        on_lost: told when the connection has ended, and with it every subscription.
    """

    def __init__(self, opener: Opener, options: UpstreamOptions, budget: Budget) -> None:
        self.on_push: Push = lambda _key, _result: None
        self.on_lost: Callable[[], None] = lambda: None
        self._opener = opener
        self._options = options
        self._budget = budget
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.usable

    async def exchange(self, call_id: int, body: bytes, *, once: bool) -> bytes:
        """Send a request and return its answer. Cancelled, the connection goes on; the answer is dropped.

        Args:
            call_id: of the request.
            body: the request.
            once: it must never be sent twice, which here it never is.

        Raises:
            UpstreamFault: there is no such answer.
        """
        connection = await self._ready()
        return await connection.ask(call_id, body)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def leave(self) -> None:
        """Give the connection up for a new one: it ends with the last answer, subscriptions begin anew."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.usable:
            connection.leave()

    async def _ready(self) -> _Connection:
        connection = self._connection
        if connection is not None and connection.usable:
            return connection
        async with self._opening:  # one at a time, however many wait for it
            if self._connection is None or not self._connection.usable:
                self._connection = await self._open()
            return self._connection

    async def _open(self) -> _Connection:
        share = Share(self._budget, self._options.answer_bytes)
        url = self._opener.url
        framing = LineFraming(share) if url.scheme is Scheme.UNIX else WebSocketFraming(url, share)
        transport, connection = await self._opener.open(lambda: _Connection(framing, share, self))
        connection.transport = transport  # TLS has put its own over the first
        with ExitStack() as guard:
            guard.callback(connection.close)
            try:
                async with asyncio.timeout(self._options.connect_seconds):
                    await connection.shake_hands()
            except TimeoutError:
                raise UpstreamFault(Fault.UNREACHABLE, "it does not answer WebSocket's handshake") from None
            guard.pop_all()
        return connection


class _Connection(asyncio.Protocol):
    """One connection; calls are matched by their ids."""

    def __init__(self, framing: Framing, share: Share, link: MessageLink) -> None:
        self.transport: asyncio.Transport | None = None
        self._framing = framing
        self._share = share
        self._link = link
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fault: UpstreamFault | None = None
        self._leaving = False

    @property
    def usable(self) -> bool:
        """Whether calls may go out."""
        return self._fault is None and self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def shake_hands(self) -> None:
        """Return once messages may be sent."""
        assert self.transport is not None
        if hello := self._framing.hello():
            self.transport.write(hello)
        if not self._framing.ready:
            await self._open
        if self._fault is not None:
            raise self._fault

    async def ask(self, call_id: int, body: bytes) -> bytes:
        """Return the answer."""
        assert self.transport is not None
        if self.transport.get_write_buffer_size() > MAX_UNSENT:
            raise UpstreamFault(Fault.BUSY, "it does not take our requests")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        try:
            self.transport.write(self._framing.wrap(body))
            return await answer
        finally:
            self._waiting.pop(call_id, None)
            self._end_if_left()

    def data_received(self, data: bytes) -> None:
        try:
            messages, reply = self._framing.receive(data)
        except UpstreamFault as fault:
            self._end(fault)
            return
        if reply and self.transport is not None:
            self.transport.write(reply)
        if self._framing.ready and not self._open.done():
            self._open.set_result(None)
        for message in messages:
            self._take(message)

    def connection_lost(self, error: Exception | None) -> None:
        words = describe(error) if isinstance(error, OSError) else "it closed it"
        self._end(UpstreamFault(Fault.BROKEN, f"the connection ended: {words}"))

    def close(self) -> None:
        """Close at once."""
        self._end(UpstreamFault(Fault.BROKEN, "the connection is closed"))

    def leave(self) -> None:
        """Close once every call has its answer; nothing else is told from now on."""
        self._leaving = True
        self._link.on_lost()
        self._end_if_left()

    def _end_if_left(self) -> None:
        if self._leaving and not self._waiting:
            self.close()

    def _take(self, message: bytes) -> None:
        is_push = b'"method":' in message[:64]
        call_id = None if is_push or not self._waiting else answer_id(message)
        waiting = None if call_id is None else self._waiting.get(call_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
        elif len(message) <= MAX_PUSH:
            self._take_push(message)  # else it is an answer that nobody waits for any more

    def _take_push(self, message: bytes) -> None:
        if self._fault is not None or self._leaving or b'"params"' not in message:
            return
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            self._end(UpstreamFault(Fault.GARBAGE, "it sends what is no JSON"))
            return
        match value:
            case {"method": str(), "params": {"subscription": str(key), "result": result}}:
                self._link.on_push(key, json.dumps(result, separators=(",", ":")))

    def _end(self, fault: UpstreamFault) -> None:
        if self._fault is not None:
            return
        self._fault = fault
        self._share.release()
        if not self._open.done():
            self._open.set_result(None)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(fault)
        if self.transport is not None:
            self.transport.abort()
        if not self._leaving:
            self._link.on_lost()
