"""A node that somebody's short connections come to: it writes down every message, and answers as it is told.

async with Receiver(chain) as receiver:
    proxy.routes[onion, 30303] = ("127.0.0.1", receiver.port)
    ...
    (visit,) = receiver.visits
    assert visit.counts == {"hello": 1, "status": 1, "transactions": 1, "ping": 1, "disconnect": 1}
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from contextlib import suppress
from typing import Self

from relay.chain.networks import ChainConfig
from relay.primitives import rlp
from relay.primitives.errors import PeerError
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected, Disconnected, Message
from relay.protocols.devp2p.messages import PING
from relay.protocols.eth.messages import Status
from relay.protocols.eth.packing import encode_announcement
from relay.protocols.eth.versions import BY_VERSION
from tests.aids.scripted_peer import hello_of, true_status
from tests.aids.until import until

__all__ = ["Receiver", "Visit"]

NAMES = {0x00: "status", 0x02: "transactions", 0x08: "announcement", 0x09: "request", 0x0A: "answer"}


class Visit:
    """One connection that came in.

    Attributes:
        counts: of all messages of the visitor, by name.
        messages: eth messages: (code, payload).
        hello, status: the visitor's.
        reason: of its Disconnect.
        over: the connection is gone.
    """

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.messages: list[tuple[int, bytes]] = []
        self.hello = self.status = self.reason = None
        self.over = False


class _Counting(DevP2PConnection):
    """A connection that tells of pings, which are answered without a word otherwise."""

    __slots__ = ("pings",)

    def _take_base(self, code, payload, events):
        if code == PING:
            self.pings.append(payload)
        super()._take_base(code, payload, events)


class Receiver:
    """See the module.

    Args:
        chain: whose node it is.
        status: what it says instead of its true Status.
        refuse: devp2p reason with which it turns everybody away at once.
        mute: it answers no ping.
        asks: what is announced is asked for.
        chatty: after its Status it asks for a header and a transaction, announces one, and pings.
    """

    def __init__(
        self,
        chain: ChainConfig,
        *,
        status=None,
        refuse=None,
        mute=False,
        asks=True,
        chatty=False,
        versions=(69, 70),
    ):
        self.chain, self.status, self.refuse = chain, status, refuse
        self.mute, self.asks, self.chatty, self.versions = mute, asks, chatty, versions
        self.key = NodeKey.generate(secrets.token_bytes)
        self.visits: list[Visit] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def until_over(self, count: int = 1, deadline: float = 20.0) -> list[Visit]:
        """Return the visits once so many have ended."""
        await until(lambda: sum(each.over for each in self.visits) >= count, "visits end", deadline)
        return self.visits

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        visit = Visit()
        self.visits.append(visit)
        connection = _Counting.recipient(self.key, hello_of(self.key, self.versions), secrets.token_bytes)
        connection.pings = []
        with suppress(OSError, PeerError):
            while data := await reader.read(1 << 16):
                for event in connection.receive(data):
                    self._take(visit, connection, writer, event)
                visit.counts["ping"] = len(connection.pings)
                output = connection.take_output()
                if output and not (self.mute and connection.pings):
                    writer.write(output)
        visit.over = True
        writer.close()

    def _take(self, visit, connection, writer, event) -> None:
        if isinstance(event, Connected):
            visit.counts["hello"] += 1
            visit.hello = event.hello
            if self.refuse is not None:
                connection.disconnect(self.refuse)
            elif connection.shared:
                self._say(
                    connection, writer, 0x00, self._own_status(connection).encode(self._version(connection))
                )
                if self.chatty:
                    self._say(connection, writer, 0x03, rlp.encode([7, [0, 1, 0, 0]]))
                    self._say(connection, writer, 0x08, encode_announcement(b"\2", [110], [b"\x55" * 32]))
                    self._say(connection, writer, 0x09, rlp.encode([8, [b"\x56" * 32]]))
                    connection.ping()
        elif isinstance(event, Message):
            visit.counts[NAMES.get(event.code, hex(event.code))] += 1
            visit.messages.append((event.code, event.payload))
            if event.code == 0x00:
                visit.status = Status.decode(event.payload, version=self._version(connection))
            elif event.code == 0x08 and self.asks:
                _, _, hashes = rlp.decode(event.payload)[:3]
                self._say(connection, writer, 0x09, rlp.encode([5, hashes]))
        elif isinstance(event, Disconnected):
            visit.counts["disconnect"] += 1
            visit.reason = event.reason

    def _own_status(self, connection) -> Status:
        return self.status or true_status(self.chain, self._version(connection))

    def _version(self, connection) -> int:
        return BY_VERSION[connection.shared[0].version].version

    def _say(self, connection, writer, code, payload) -> None:
        writer.write(connection.send(connection.shared[0].offset + code, payload))
