"""JSON-RPC by WebSocket, as geth serves it (v1.17.8, rpc/websocket.go): a request or batch a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.rpc.conversation import Conversation
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.meters import Meters
from relay.rpc.origins import SocketOrigins
from relay.rpc.outbox import Outbox
from relay.rpc.subscriptions import PendingFeed, Pushing

__all__ = ["JsonRpcOverWs", "RpcWsOptions", "WebSocket"]


@dataclass(frozen=True, slots=True)
class RpcWsOptions:
    """What geth sets by --ws.origins, and limits.

    Attributes:
        origins: of pages that may connect; others than browsers always may.
        backlog_bytes: of answers and notifications that a client has not taken; beyond it is cut off.
        write_seconds: within which a client has to make room for more.
        at_once: requests of one client that are answered at a time.
    """

    origins: tuple[str, ...] = ()
    backlog_bytes: int = 64 * 1024 * 1024
    write_seconds: float = 10.0
    at_once: int = 32


class WebSocket(Protocol):
    """One connection (`relay.rpc.httpd.Socket`)."""

    @property
    def client(self) -> str:
        """IP address of who asks."""
        ...

    def messages(self) -> AsyncGenerator[bytes, None]:
        """Give each message; raises OSError at the end of the connection."""
        ...

    def send(self, messages: Sequence[bytes], /) -> Awaitable[None]:
        """Send some; done when there is room for more. Raises OSError when the connection is broken."""
        ...

    def abort(self) -> None:
        """Break the connection."""
        ...


class JsonRpcOverWs:
    """Serves WebSocket connections by a dispatcher.

    Args:
        dispatcher: of the modules that are offered.
        feeds: what eth_subscribe offers of our own, by name.
        pushing: tells of what an upstream knows; None for nobody.
        options: limits.
        meters: count the calls of each address; None for no limit.
        counters: of clients that were cut off.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        feeds: Mapping[str, PendingFeed],
        pushing: Pushing | None = None,
        options: RpcWsOptions | None = None,
        meters: Meters | None = None,
        counters: Counter[str] | None = None,
    ) -> None:
        self._options = options or RpcWsOptions()
        self._counters: Counter[str] = Counter() if counters is None else counters
        self._conversation = Conversation(dispatcher, feeds, pushing, self._options.at_once, self._counters)
        self._origins = SocketOrigins(self._options.origins)
        self._meters = meters

    def allows(self, origin: str | None) -> bool:
        """Tell whether a page of this origin may connect; None is no page."""
        allowed = self._origins.allows(origin)
        if not allowed:
            self._counters["origin refused"] += 1
        return allowed

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client until it ends, or sends what is no JSON, which is told last."""
        options = self._options

        async def send(messages: Sequence[bytes]) -> None:
            await socket.send(messages)

        outbox = Outbox(
            send,
            socket.abort,
            self._counters,
            self._conversation.total,
            limit=options.backlog_bytes,
            seconds=options.write_seconds,
        )
        meter = None if self._meters is None else self._meters.of_address(socket.client)
        await self._conversation.hold(socket.messages(), outbox, meter)
