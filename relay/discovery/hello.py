"""Asks a node for its client's name: dials it, reads its Hello, and says goodbye at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from relay.discovery.crawled import Client, CrawledNode, NodeSet
from relay.primitives.errors import PeerError, TransportError, UselessPeer
from relay.primitives.keys import NodeId, NodeKey, PublicKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected, Disconnected
from relay.protocols.devp2p.messages import DisconnectReason, Hello, describe_reason
from relay.transports.dialer import DialFailed, NodeDialer
from relay.transports.policy import Way

__all__ = ["HelloOptions", "HelloScan", "NoHello", "ask_hello"]

_LINGER: Final = 0.5  # seconds that the other side has to read our goodbye
_MAX_WORDS: Final = 120  # characters of a failure that are kept


class NoHello(TransportError):
    """A node was dialed in vain. `full`: it has no room now, so another try may do better."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


@dataclass(frozen=True, slots=True)
class HelloOptions:
    """How nodes are asked.

    Attributes:
        dials: at a time.
        deadline: seconds from the connection to Hello; over Tor `deadline_tor`.
        tries: of a node that has no room.
        retry: seconds between them.
    """

    dials: int = 16
    deadline: float = 8.0
    deadline_tor: float = 30.0
    tries: int = 3
    retry: float = 60.0


async def ask_hello(
    dialer: NodeDialer,
    node: CrawledNode,
    key: NodeKey,
    hello: Hello,
    *,
    rand: Callable[[int], bytes],
    allow_private: bool = False,
    options: HelloOptions | None = None,
) -> Client:
    """Dial a node as the mode allows and return what its Hello says.

    Raises:
        NoHello: no way to it, or it has no room, or it is not what it should be.
    """
    options = options or HelloOptions()
    plan = dialer.plan(node.node, allow_private=allow_private)
    try:
        dialed = await dialer.dial_node(plan, lambda: _Caller(key, node.public_key, hello, rand))
    except DialFailed as error:
        raise NoHello("; ".join(str(each) for _, each in error.failures)[:_MAX_WORDS]) from None
    except TransportError as error:
        raise NoHello(str(error)[:_MAX_WORDS]) from None
    seconds = options.deadline if dialed.way is Way.DIRECT else options.deadline_tor
    try:
        async with asyncio.timeout(seconds):
            client = await dialed.protocol.answer
        await dialed.protocol.say_goodbye()
    except TimeoutError:
        raise NoHello(f"no Hello within {seconds:g} s") from None
    finally:
        dialed.transport.abort()
    return client


class _Caller(asyncio.Protocol):
    """The dialing side of one connection, until Hello."""

    def __init__(self, key: NodeKey, remote: PublicKey, hello: Hello, rand: Callable[[int], bytes]) -> None:
        self._connection = DevP2PConnection.initiator(key, remote, hello, rand)
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self.answer: asyncio.Future[Client] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._connection.receive(data):
                if isinstance(event, Connected):
                    self._succeed(event.hello)
                elif isinstance(event, Disconnected):
                    self._fail(NoHello(describe_reason(event.reason), full=_is_full(event.reason)))
        except UselessPeer as error:
            # Nothing in common with us is no fault of one that was only asked for its name.
            if self._connection.remote_hello is not None:
                self._succeed(self._connection.remote_hello)
            self._fail(NoHello(str(error)))
        except PeerError as error:
            self._fail(NoHello(str(error)[:_MAX_WORDS]))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._fail(NoHello("it hung up before Hello"))

    async def say_goodbye(self) -> None:
        """Say that this was all, and give the other side a moment to read it: a cut would take it away."""
        self._connection.disconnect(DisconnectReason.REQUESTED)
        self._flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._lost.wait()

    def _succeed(self, hello: Hello) -> None:
        if not self.answer.done():
            names = tuple(f"{each.name}/{each.version}" for each in hello.capabilities)
            self.answer.set_result(Client(hello.client, names))

    def _fail(self, error: NoHello) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # looked at, also where nobody waits any more

    def _flush(self) -> None:
        output = self._connection.take_output()
        if output and self._transport is not None and not self._transport.is_closing():
            self._transport.write(output)


def _is_full(reason: int) -> bool:
    return reason in (DisconnectReason.TOO_MANY_PEERS, DisconnectReason.ALREADY_CONNECTED)


class HelloScan:
    """Asks every node of a crawl that has answered, each once, those without room a few times.

    Args:
        nodes: of the crawl; each of them is told of at its first answer.
        ask: asks one; raises NoHello.
        options: tuning.

    Attributes:
        on_asked: told of each node of which all is known that there is to know.
    """

    def __init__(
        self,
        nodes: NodeSet,
        ask: Callable[[CrawledNode], Awaitable[Client]],
        *,
        options: HelloOptions | None = None,
    ) -> None:
        self._ask = ask
        self._options = options or HelloOptions()
        # Without a bound of its own: a node of the set, which has one, is in here at most once.
        self._waiting: asyncio.Queue[CrawledNode] = asyncio.Queue()
        self._tries: dict[NodeId, int] = {}
        self._busy = 0
        self._later = 0
        self.on_asked: Callable[[CrawledNode], None] = lambda node: None
        nodes.on_first_answer = self._take

    @property
    def idle(self) -> bool:
        """Whether there is nobody left to ask."""
        return self._waiting.empty() and not self._busy and not self._later

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._options.dials):
                tasks.create_task(self._work())

    def _take(self, node: CrawledNode) -> None:
        if node.client is not None:
            self.on_asked(node)
        elif node.is_consensus:
            node.hello = "a consensus client: it runs no devp2p"
            self.on_asked(node)
        else:
            self._waiting.put_nowait(node)

    async def _work(self) -> None:
        while True:
            node = await self._waiting.get()
            self._busy += 1
            try:
                await self._try(node)
            finally:
                self._busy -= 1

    async def _try(self, node: CrawledNode) -> None:
        tries = self._tries[node.node_id] = self._tries.get(node.node_id, 0) + 1
        try:
            node.client, node.hello = await self._ask(node), ""
        except NoHello as error:
            node.hello = str(error)
            if error.full and tries < self._options.tries:
                self._later += 1
                asyncio.get_running_loop().call_later(self._options.retry, self._again, node)
                return
        self.on_asked(node)

    def _again(self, node: CrawledNode) -> None:
        self._later -= 1
        self._waiting.put_nowait(node)
