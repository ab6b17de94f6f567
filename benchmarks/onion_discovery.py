"""Discovery over onion streams on a private Tor network: what a dial, a handshake and a request take.

`python -m benchmarks.onion_discovery [--json]`. The raw round trip of Tor is measured on the very stream that
FINDNODE then uses, with as many bytes each way: before discovery begins, the stream carries an echo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from relay.discovery.driver import CoreDriver, NoAnswer
from relay.discovery.onion_dial import onion_dial
from relay.discovery.onion_stream import OnionStream, StreamOptions
from relay.discovery.streams import OnionStreams
from relay.localnet.client import ClientHandle
from relay.localnet.network import PrivateTor
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import TransportError
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import ONION, Contact, Discv5, OnionNetwork
from relay.protocols.discv5.packet import MESSAGE_OVERHEAD
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.status import StatusBoard
from relay.transports.first_byte import Gate, Route
from relay.transports.listener import Label, serve
from relay.transports.pacing import ONION_PACE, DialPacer
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer

P = TypeVar("P", bound=asyncio.BaseProtocol)

ONION_PORT = 30303
DISCOVERY = range(0x64, 0x65)
ECHO = ord("e")
ECHOES = range(ECHO, ECHO + 1)
REQUEST = 2 + MESSAGE_OVERHEAD + 14  # bytes of a FINDNODE with one distance, in its frame
NODES_FRAME = 2 + MESSAGE_OVERHEAD + 17
DEADLINE = 60.0
TOLD = 4  # records of an answer: one packet


class OnionNode:
    """A node with an onion service of its own, in this process.

    Attributes:
        driver, streams, gate: as in the daemon.
        up: set when the service is published.
        switched: a dialed stream carries echoes first while this is above 0: their number.
        echoed: seconds that each took, and `dialed` each dial.
    """

    def __init__(self, client: ClientHandle, tasks: asyncio.TaskGroup, options: StreamOptions) -> None:
        loop = asyncio.get_running_loop()
        self._client, self._tasks = client, tasks
        self._sockets = SocketFactory(SocketRules.anywhere())
        self.key = NodeKey.generate(secrets.token_bytes)
        self.onion_key = OnionKey.generate(secrets.token_bytes)
        self.record = build_record(self.key, 1, onion3=self.onion_key.address, tcp=ONION_PORT)
        self.echoes = 0
        self.reply = 0
        self.echoed: list[float] = []
        self.dialed: list[float] = []
        self.up = asyncio.Event()
        socks = SocksDialer(
            self._sockets,
            client.socks,
            Isolation(secrets.token_bytes),
            purpose=Purpose.DISCOVERY,
            exits=False,
            own_onions=lambda: (self.onion_key.address,),
        )
        self.dial = onion_dial(socks, DialPacer(ONION_PACE, secrets.token_bytes, loop.time), loop)
        self.core = Discv5(self.key, lambda: self.record, OnionNetwork(), ONION, rand=secrets.token_bytes)
        self.streams = OnionStreams(self._dial, tasks=tasks, clock=loop, options=options)
        self.driver = CoreDriver(self.core, self.streams.send, clock=loop)
        self.streams.attach(self.driver)
        routes = [
            Route(DISCOVERY, self.streams.protocol, self.streams.has_room),
            Route(ECHOES, lambda _: EchoServer(self.streams.protocol)),
        ]
        self.gate = Gate(routes, clock=loop)

    @property
    def enode(self) -> Node:
        """What its enode URL tells."""
        return Node(self.key.public_key, (Endpoint(Network.ONION, self.onion_key.address, ONION_PORT),))

    @property
    def contact(self) -> Contact:
        """For the cores of others."""
        return Contact(self.record, OnionNetwork().address_of(self.record))

    async def start(self) -> None:
        """Listen and publish; returns when the service is up."""
        listener = serve(
            self._tasks,
            self._sockets,
            TcpAddress("127.0.0.1", 0),
            self.gate.protocol,
            Label.ONION,
            has_room=self.gate.has_room,
        )
        self._service = OnionService(
            OnionServiceOptions(self.onion_key, ONION_PORT, str(listener.address)),
            self._client.open_control,
            StatusBoard(),
            on_up=lambda _: self.up.set(),
        )
        self._listener = listener
        self._tasks.create_task(self._service.run())
        async with asyncio.timeout(DEADLINE):
            await self.up.wait()

    async def stop(self) -> None:
        """Withdraw and hang up."""
        self.driver.stop()
        self.streams.close()
        self.gate.close()
        self._service.stop()
        await self._listener.close()

    async def _dial(
        self, to: Endpoint, factory: Callable[[], OnionStream]
    ) -> tuple[asyncio.Transport, OnionStream]:
        began = perf_counter()
        if not self.echoes:
            dialed = await self.dial(to, factory)
            self.dialed.append(perf_counter() - began)
            return dialed
        transport, echo = await self.dial(to, EchoClient)
        self.dialed.append(perf_counter() - began)
        self.echoed += [await echo.round_trip(transport, self.reply) for _ in range(self.echoes)]
        stream = factory()
        transport.set_protocol(stream)
        stream.connection_made(transport)
        return transport, stream


class EchoServer(asyncio.Protocol):
    """Answers `e <size> ...` of REQUEST bytes with so many bytes, until discovery begins on the stream."""

    def __init__(self, then: Callable[[], asyncio.BufferedProtocol]) -> None:
        self._then = then
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= REQUEST and self._buffer[0] == ECHO:
            self._transport.write(bytes(int.from_bytes(self._buffer[1:3], "big")))
            del self._buffer[:REQUEST]
        if self._buffer and self._buffer[0] != ECHO:
            stream = self._then()
            self._transport.set_protocol(stream)
            stream.connection_made(self._transport)
            size = len(self._buffer)
            memoryview(stream.get_buffer(size))[:size] = self._buffer
            stream.buffer_updated(size)


class EchoClient(asyncio.Protocol):
    """Asks an EchoServer."""

    def __init__(self) -> None:
        self._missing = 0
        self._done: asyncio.Future[None] | None = None

    async def round_trip(self, transport: asyncio.Transport, reply: int) -> float:
        """Return the seconds from a request to the last byte of its answer."""
        self._missing = reply
        self._done = asyncio.get_running_loop().create_future()
        began = perf_counter()
        transport.write((bytes((ECHO,)) + reply.to_bytes(2, "big")).ljust(REQUEST, b"\0"))
        await self._done
        return perf_counter() - began

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing <= 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the stream ended"))


@dataclass(frozen=True)
class RoundTrips:
    """Seconds of each.

    Attributes:
        dial: from SOCKS request to stream.
        handshake: the first request on a new stream: WHOAREYOU, handshake, answer.
        raw: echoes on the stream, with the bytes of a FINDNODE and its answer.
        findnode: the same stream afterwards.
    """

    dial: list[float]
    handshake: list[float]
    raw: list[float]
    findnode: list[float]

    def figures(self) -> dict[str, float]:
        """Medians in milliseconds, and how many raw round trips a FINDNODE takes."""
        found = {f"{name}_ms": median(getattr(self, name)) * 1e3 for name in self.__dataclass_fields__}
        return found | {"findnode_per_raw": found["findnode_ms"] / found["raw_ms"]}


async def measure_round_trips(
    asker: OnionNode, asked: OnionNode, *, streams: int = 5, requests: int = 40
) -> RoundTrips:
    """Dial a node again and again; on each stream some echoes, a handshake, some FINDNODE.

    The node that is asked tells of `TOLD` nodes that are put into its table for that.
    """
    told = fill_table(asked, TOLD)
    asker.echoes = requests
    asker.reply = NODES_FRAME + sum(len(record.raw) for record in told)
    asker.dialed.clear()
    asker.echoed.clear()
    contact = asker.core.contact(asked.record)
    handshakes, answers = [], []
    for _ in range(streams):
        began, count = perf_counter(), len(asker.echoed)
        await asker.driver.ping(contact)
        handshakes.append(perf_counter() - began - asker.dialed[-1] - sum(asker.echoed[count:]))
        for _ in range(requests):
            began = perf_counter()
            found = await asker.driver.findnode(contact, (256,))
            answers.append(perf_counter() - began)
            assert len(found) == TOLD
        hang_up(asker)
    asker.echoes = 0
    return RoundTrips(list(asker.dialed), handshakes, list(asker.echoed), answers)


def fill_table(node: OnionNode, count: int) -> list[NodeRecord]:
    """Put nodes that do not exist into a node's table, at distance 256, as if they had answered."""
    records: list[NodeRecord] = []
    while len(records) < count:
        key = NodeKey.generate(secrets.token_bytes)
        if (key.node_id[0] ^ node.key.node_id[0]) & 0x80:
            onion = OnionKey.generate(secrets.token_bytes).address
            record = build_record(key, 1, onion3=onion, tcp=ONION_PORT)
            entry = node.core.table.add(node.core.contact(record), None)
            assert entry is not None
            entry.live = True
            records.append(record)
    return records


def hang_up(node: OnionNode) -> None:
    """End the streams that a node has."""
    for stream in list(node.streams._open.values()):
        stream.abort()
        node.streams.over(stream)


async def reached(node: OnionNode, target: OnionNode) -> None:
    """Wait until a service can be reached: its descriptor may not be at the directory that is asked."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await node.driver.ping(node.core.contact(target.record))
            except (NoAnswer, TransportError):
                await asyncio.sleep(0.5)
            else:
                return


@asynccontextmanager
async def onion_nodes(
    clients: list[ClientHandle], options: StreamOptions | None = None
) -> AsyncIterator[list[OnionNode]]:
    """A node at each Tor client, published; the drivers are not started."""
    async with asyncio.TaskGroup() as tasks:
        pool = options or StreamOptions(barred=0.5, barred_long=0.5)
        nodes = [OnionNode(client, tasks, pool) for client in clients]
        async with AsyncExitStack() as stack:
            for node in nodes:
                await node.start()
                stack.push_async_callback(node.stop)
            yield nodes


async def measure() -> dict[str, float]:
    """Figures of a private network that is made for it; takes most of a minute."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrelay-bench-")))
        network = PrivateTor(directory / "tor")
        stack.push_async_callback(network.stop)
        await network.start()
        clients = [await network.add_client(name) for name in ("asker", "asked")]
        asker, asked = await stack.enter_async_context(onion_nodes(clients))
        await reached(asker, asked)
        hang_up(asker)
        return (await measure_round_trips(asker, asked)).figures()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onion_discovery", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures: dict[str, Any] = asyncio.run(measure())
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
