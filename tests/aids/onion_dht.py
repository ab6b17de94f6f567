"""Nodes of the provider DHT in the test's own process: on real Tor, or through a scripted proxy."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from relay.app.onions import STREAM_FIRST, OnionDiscovery
from relay.app.outward import WaysOut, ways_out
from relay.discovery.providers import ProviderClient
from relay.localnet.client import ClientHandle
from relay.primitives.address import Address, TcpAddress, parse_address
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.dht import DhtOptions
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.status import StatusBoard
from relay.transports.first_byte import Gate, Route
from relay.transports.listener import Label, serve
from relay.transports.pacing import DialPacer, Pace
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.socks_server import SocksServer

__all__ = ["DhtPeer", "ScriptedPeer", "dht_peers", "scripted_peer", "searcher", "ways_through"]

PORT = 30303
PUBLISHED_SECONDS = 60.0
TURNS = 4  # of the loop, from the accept of a connection that is not wanted any more to its end
QUICK = Pace(per_second=50.0, jitter=0.0, max_pending=16, max_waiting=400)
"""The daemon's own pace is for the guards of the public network."""


def ways_through(proxy: Address) -> WaysOut:
    """The ways out of a mode without IP, at a pace for a network of one's own."""
    loop = asyncio.get_running_loop()
    ways = ways_out(Mode.ONLY_ONION, SocketFactory(SocketRules.anywhere()), proxy, tuple)
    return replace(ways, onion_pacer=DialPacer(QUICK, secrets.token_bytes, loop.time))


class DhtPeer:
    """One node.

    Attributes:
        onion: its discovery.
        node: what others know of it at first: key and address.
    """

    def __init__(
        self,
        client: ClientHandle,
        tasks: asyncio.TaskGroup,
        entry: Iterable[Node],
        options: DhtOptions,
    ) -> None:
        self._client, self._tasks = client, tasks
        self.key, self._onion_key = (
            NodeKey.generate(secrets.token_bytes),
            OnionKey.generate(secrets.token_bytes),
        )
        address = self._onion_key.address
        self.node = Node(self.key.public_key, (Endpoint(Network.ONION, address, PORT),))
        record = build_record(self.key, 1, onion3=address, tcp=PORT)
        self.onion = OnionDiscovery(
            self.key,
            lambda: record,
            ways_through(client.socks),
            entry,
            tasks=tasks,
            dht=True,
            dht_options=options,
        )
        self._gate = Gate(
            (Route(STREAM_FIRST, self.onion.streams.protocol, self.onion.streams.has_room),),
            clock=asyncio.get_running_loop(),
        )

    @property
    def providers(self) -> ProviderClient:
        assert self.onion.providers is not None
        return self.onion.providers

    @property
    def known(self) -> int:
        """Nodes in its table that have answered."""
        return sum(entry.live for entry in self.onion.driver.core.table.entries.values())

    def keeps(self, key: bytes) -> int:
        """How many records it keeps for a key."""
        assert self.onion.dht is not None
        return self.onion.dht.store.count(key)

    async def publish(self) -> None:
        """Listen, and return when Tor has published the service."""
        up = asyncio.Event()
        self._listener = serve(
            self._tasks,
            SocketFactory(SocketRules.anywhere()),
            TcpAddress("127.0.0.1", 0),
            self._gate.protocol,
            Label.ONION,
            has_room=self._gate.has_room,
        )
        self._service = OnionService(
            OnionServiceOptions(self._onion_key, PORT, str(self._listener.address)),
            self._client.open_control,
            StatusBoard(),
            on_up=lambda _: up.set(),
        )
        self._running = self._tasks.create_task(self._service.run())
        async with asyncio.timeout(PUBLISHED_SECONDS):
            await up.wait()

    def begin(self) -> None:
        """Enter the network."""
        self._entering = self._tasks.create_task(self.onion.run())

    async def die(self) -> None:
        """Be gone, service and all."""
        self._entering.cancel()
        self.onion.stop()
        self._gate.close()
        self._service.stop()
        await asyncio.wait([self._running, self._entering])
        await self._listener.close()


@asynccontextmanager
async def dht_peers(
    clients: Sequence[ClientHandle], count: int, options: DhtOptions
) -> AsyncIterator[list[DhtPeer]]:
    """So many nodes, shared among the clients, published and entered; each is given two before it."""
    async with asyncio.TaskGroup() as tasks:
        peers: list[DhtPeer] = []
        for number in range(count):
            before = [peers[number // 2].node, peers[-1].node] if peers else []
            peers.append(DhtPeer(clients[number % len(clients)], tasks, dict.fromkeys(before), options))
        try:
            async with asyncio.TaskGroup() as publishing:
                for peer in peers:
                    publishing.create_task(peer.publish())
            for peer in peers:
                peer.begin()
            yield peers
        finally:
            for peer in peers:
                await peer.die()


@asynccontextmanager
async def searcher(client: ClientHandle) -> AsyncIterator[OnionDiscovery]:
    """A node that nobody can call."""
    key = NodeKey.generate(secrets.token_bytes)
    record = build_record(key, 1)
    async with asyncio.TaskGroup() as tasks:
        onion = OnionDiscovery(key, lambda: record, ways_through(client.socks), (), tasks=tasks, dht=True)
        running = tasks.create_task(onion.run())
        try:
            yield onion
        finally:
            running.cancel()
            onion.stop()


class ScriptedPeer:
    """A node whose onion is a route of a scripted proxy.

    Attributes:
        key, onion: as the names say.
        node: what others know of it at first.
    """

    def __init__(self, key: NodeKey, onion: OnionDiscovery, node: Node) -> None:
        self.key, self.onion, self.node = key, onion, node

    @property
    def providers(self) -> ProviderClient:
        assert self.onion.providers is not None
        return self.onion.providers


@asynccontextmanager
async def scripted_peer(
    proxy: SocksServer, *entry: Node, dht: bool = True, begin: bool = True
) -> AsyncIterator[ScriptedPeer]:
    """A node that others reach through the proxy by an onion.

    Args:
        proxy: with a table of routes.
        entry: nodes that it begins with.
        dht: whether it speaks the DHT.
        begin: whether it runs.
    """
    key, address = NodeKey.generate(secrets.token_bytes), OnionKey.generate(secrets.token_bytes).address
    record = build_record(key, 1, onion3=address, tcp=PORT)
    ways = ways_through(parse_address(proxy.address))
    async with asyncio.TaskGroup() as tasks:
        onion = OnionDiscovery(key, lambda: record, ways, entry, tasks=tasks, dht=dht)
        server = await asyncio.get_running_loop().create_server(onion.streams.protocol, "127.0.0.1", 0)
        assert isinstance(proxy.routes, dict)
        proxy.routes[address, PORT] = ("127.0.0.1", server.sockets[0].getsockname()[1])
        running = tasks.create_task(onion.run()) if begin else None
        try:
            node = Node(key.public_key, (Endpoint(Network.ONION, address, PORT),))
            yield ScriptedPeer(key, onion, node)
        finally:
            if running is not None:
                running.cancel()
            onion.stop()
            server.close()
            for _ in range(TURNS):
                await asyncio.sleep(0)
