"""A peer that does what a test says: real RLPx over a real socket, and then anything.

async with await ScriptedPeer.dial(relay.enode, chain) as peer:
    await peer.join()                                   # Hello and Status both ways
    peer.send(Transactions.CODE, payload)
    assert await peer.ended() == DisconnectReason.SUBPROTOCOL_ERROR
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Self

from relay.chain.forkid import fork_id
from relay.chain.networks import ChainConfig
from relay.primitives.enode import parse
from relay.primitives.errors import PeerError
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected, Disconnected, Message, PongReceived
from relay.protocols.devp2p.messages import Hello
from relay.protocols.eth.messages import EthMessage, Status
from relay.protocols.eth.versions import BY_VERSION, EthVersion

__all__ = ["CLOSED", "ScriptedPeer", "hello_of", "says", "true_status"]

CLOSED = -1
"""What `ended` returns when the connection was closed without a Disconnect."""


def hello_of(key: NodeKey, versions: Sequence[int] = (69, 70, 71), **changes: Any) -> Hello:
    """Make a Hello that a relay likes, but for the changes."""
    capabilities = tuple(BY_VERSION[each].capability for each in versions)
    return replace(Hello(5, "scripted/v1", capabilities, 0, key.public_key), **changes)


def says(hello: Hello, said: Hello) -> Hello:
    """Make a Hello that our own core takes for `hello`, and that the other side reads as `said`."""

    class Said(Hello):
        def encode(self) -> bytes:
            return said.encode()

    return Said(*(getattr(hello, each.name) for each in fields(hello)))


def true_status(chain: ChainConfig, version: int = 69, **changes: Any) -> Status:
    """Make a Status of a node that knows nothing but genesis, but for the changes."""
    status = Status(
        version=version,
        network_id=chain.network_id,
        genesis=chain.genesis_hash,
        fork_id=fork_id(chain, None, time.time()),
        latest_hash=chain.genesis_hash,
        head=chain.genesis_hash,
    )
    return replace(status, **changes)


class ScriptedPeer:
    """A connection that was dialed. Reads in the background, and so answers pings.

    Attributes:
        key: its identity.
        connection: the pure core; what it says of the other side.
        messages: eth messages that came: (code, payload).
        reason: of the other side's Disconnect.
        mute: nothing is written any more, not even what the protocol itself has to say.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: NodeKey,
        connection: DevP2PConnection,
        chain: ChainConfig,
    ) -> None:
        self.key, self.connection, self.chain = key, connection, chain
        self.messages: list[tuple[int, bytes]] = []
        self.pongs = 0
        self.reason: int | None = None
        self.error: PeerError | None = None
        self.mute = False
        self.writer = writer
        self._reader = reader
        self._changed = asyncio.Event()
        self._over = False
        self._connected = False
        self._pump = asyncio.create_task(self._read())

    @classmethod
    async def dial(
        cls,
        enode: str,
        chain: ChainConfig,
        *,
        key: NodeKey | None = None,
        versions: Sequence[int] = (69, 70, 71),
        hello: Hello | None = None,
    ) -> Self:
        """Connect and begin the RLPx handshake."""
        target = parse(enode)
        key = key or NodeKey.generate(secrets.token_bytes)
        connection = DevP2PConnection.initiator(
            key, target.public_key, hello or hello_of(key, versions), secrets.token_bytes
        )
        reader, writer = await asyncio.open_connection(target.host, target.tcp)
        writer.write(connection.take_output())
        return cls(reader, writer, key, connection, chain)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the socket."""
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    # -- saying ----------------------------------------------------------------------------------------

    @property
    def eth(self) -> EthVersion:
        """The version that was agreed."""
        return BY_VERSION[self.connection.shared[0].version]

    async def greet(self, deadline: float = 10.0) -> None:
        """Wait for the other side's Hello."""
        await self.wait(lambda: self._connected or self._over, "Hello", deadline)
        assert self._connected, f"ended with {self.reason} before Hello: {self.error}"

    async def join(self, status: Status | None = None, deadline: float = 10.0) -> Status:
        """Exchange Hello and Status; returns the other side's."""
        await self.greet(deadline)
        self.say(status or true_status(self.chain, self.eth.version))
        return await self.expect(Status, deadline)

    def say(self, message: EthMessage) -> None:
        """Send an eth message."""
        self.send(message.CODE, message.encode(self.eth.version))

    def send(self, code: int, payload: bytes) -> None:
        """Send an eth message of any bytes."""
        self.writer.write(self.connection.send(self.connection.shared[0].offset + code, payload))

    def send_packed(self, code: int, body: bytes) -> None:
        """Send an eth message whose body is said to be compressed."""
        self.writer.write(self.connection.send_packed(self.connection.shared[0].offset + code, body))

    # -- hearing ---------------------------------------------------------------------------------------

    async def expect(self, kind: type[EthMessage], deadline: float = 10.0) -> Any:
        """Return the first message of a kind that is still to be taken."""

        def waiting() -> tuple[int, bytes] | None:
            return next((each for each in self.messages if each[0] == kind.CODE), None)

        await self.wait(lambda: waiting() or self._over, kind.__name__, deadline)
        found = waiting()
        assert found, f"ended with {self.reason} before {kind.__name__}: {self.error}"
        self.messages.remove(found)
        return self.eth.decode(*found)

    async def ended(self, deadline: float = 10.0) -> int:
        """Wait for the end; returns the reason that the other side gave, or CLOSED."""
        await self.wait(lambda: self._over, "the end of the connection", deadline)
        return CLOSED if self.reason is None else self.reason

    @property
    def open(self) -> bool:
        """Whether the connection has not ended."""
        return not self._over

    async def served(self, deadline: float = 5.0) -> float:
        """Ping and wait for the answer; returns the seconds that it took."""
        before, begun = self.pongs, time.monotonic()
        self.connection.ping()
        self.writer.write(self.connection.take_output())
        await self.wait(lambda: self.pongs > before or self._over, "Pong", deadline)
        assert self.pongs > before, f"ended with {self.reason} before Pong: {self.error}"
        return time.monotonic() - begun

    async def wait(self, condition: Callable[[], object], what: str, deadline: float) -> None:
        """Wait until a condition holds; it is looked at after everything that comes."""
        try:
            async with asyncio.timeout(deadline):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {deadline:g} s: {what}") from None

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                for event in self.connection.receive(data):
                    self._take(event)
                output = self.connection.take_output()
                if output and not self.mute:
                    self.writer.write(output)
                self._changed.set()
        except PeerError as error:
            self.error = error
        except OSError:
            pass
        finally:
            self._over = True
            self._changed.set()

    def _take(self, event: object) -> None:
        if isinstance(event, Message):
            self.messages.append((event.code, event.payload))
        elif isinstance(event, Connected):
            self._connected = True
        elif isinstance(event, PongReceived):
            self.pongs += 1
        elif isinstance(event, Disconnected):
            self.reason = event.reason
