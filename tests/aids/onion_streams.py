"""Nodes of discovery over streams in one event loop: an onion is a name, a dial a socketpair."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from relay.discovery.driver import CoreDriver
from relay.discovery.onion_stream import OnionStream, StreamOptions
from relay.discovery.streams import OnionStreams
from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import ProxyFailed, Retry
from relay.primitives.node import Node
from relay.protocols.discv5 import ONION, Discv5, Event, OnionNetwork, Options
from relay.transports.first_byte import Gate, Route
from tests.aids.discv5 import node_key, onion_record
from tests.aids.streams import make_pair

DISCOVERY = range(0x64, 0x65)


@dataclass(eq=False)
class StreamNode:
    """A node with its pool."""

    number: int
    record: NodeRecord
    driver: CoreDriver
    streams: OnionStreams
    gate: Gate
    events: list[Event] = field(default_factory=list)

    @property
    def core(self) -> Discv5:
        return self.driver.core

    @property
    def endpoint(self) -> Endpoint:
        endpoint = OnionNetwork().address_of(self.record)
        assert isinstance(endpoint, Endpoint)
        return endpoint

    @property
    def enode(self) -> Node:
        """What an enode URL tells of it."""
        return Node(self.record.public_key, (self.endpoint,))

    def said(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def knows(self) -> set[int]:
        return {KNOWN[entry.contact.node_id] for entry in self.core.table if entry.live}


KNOWN = {node_key(number).node_id: number for number in range(64)}


class StreamWorld:
    """Where dials lead.

    Attributes:
        latency: seconds that a dial takes.
        dialed: endpoints in the order of the dials.
        refusals: what dialing a host ends in.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.latency = 0.0
        self.dialed: list[Endpoint] = []
        self.refusals: dict[str, Exception] = {}
        self.doors: dict[str, Callable[[], asyncio.BaseProtocol]] = {}
        self.nodes: list[StreamNode] = []
        self.other_ends: list[asyncio.Transport] = []

    async def dial(
        self, to: Endpoint, factory: Callable[[], OnionStream]
    ) -> tuple[asyncio.Transport, OnionStream]:
        self.dialed.append(to)
        await asyncio.sleep(self.latency)
        if to.host in self.refusals:
            raise self.refusals[to.host]
        if to.host not in self.doors:
            raise ProxyFailed("not found", code=0xF0, retry=Retry.LONG)
        pair = await make_pair(factory, self.doors[to.host])
        self.other_ends.append(pair.right_transport)
        return pair.left_transport, pair.left

    def add(
        self,
        number: int,
        *,
        options: Options = ONION,
        pool: StreamOptions | None = None,
        record: NodeRecord | None = None,
    ) -> StreamNode:
        loop = asyncio.get_running_loop()
        record = record or onion_record(number)
        core = Discv5(node_key(number), lambda: record, OnionNetwork(), options, rand=secrets.token_bytes)
        streams = OnionStreams(self.dial, tasks=self.tasks, clock=loop, options=pool)
        driver = CoreDriver(core, streams.send, clock=loop)
        streams.attach(driver)
        gate = Gate([Route(DISCOVERY, streams.protocol, streams.has_room)], clock=loop)
        node = StreamNode(number, record, driver, streams, gate)
        driver.listen(node.events.append)
        self.doors[node.endpoint.host] = gate.protocol
        self.nodes.append(node)
        return node

    def close(self) -> None:
        for node in self.nodes:
            node.driver.stop()
            node.streams.close()
            node.gate.close()
        for transport in self.other_ends:
            transport.abort()


@asynccontextmanager
async def stream_world() -> AsyncIterator[StreamWorld]:
    async with asyncio.TaskGroup() as tasks:
        world = StreamWorld(tasks)
        try:
            yield world
        finally:
            world.close()
            for _ in range(3):  # connection_lost comes by call_soon
                await asyncio.sleep(0)
