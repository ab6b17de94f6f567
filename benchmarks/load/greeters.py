"""Nodes without number that greet one discv5 node: each makes a handshake, then answers or is forgotten."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any, Self

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.protocols.discv5 import Discv5, RequestDone, UdpNetwork

HOST = "127.0.0.1"
SECONDS = 5.0  # for one handshake


class Lane(asyncio.DatagramProtocol):
    """A socket with one node behind it at a time."""

    _transport: asyncio.DatagramTransport
    _core: Discv5
    _greeted: asyncio.Future[None]

    @classmethod
    async def open(cls) -> Self:
        _, lane = await asyncio.get_running_loop().create_datagram_endpoint(cls, local_addr=(HOST, 0))
        return lane

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        source = Endpoint(Network.IPV4, *address)
        events = self._core.receive_packet(data, source, time.monotonic())
        self._flush()
        if any(isinstance(event, RequestDone) for event in events) and not self._greeted.done():
            self._greeted.set_result(None)

    def identity(self) -> Discv5:
        """A new node, with this socket in its record."""
        key = NodeKey.generate(os.urandom)
        record = build_record(key, 1, ip=HOST, udp=self._transport.get_extra_info("sockname")[1])
        return Discv5(key, lambda: record, UdpNetwork(), rand=os.urandom)

    async def greet(self, core: Discv5, server: NodeRecord) -> bool:
        """Put a node behind the socket and ping a server; returns whether that answered."""
        self._core = core
        self._greeted = asyncio.get_running_loop().create_future()
        core.ping(core.contact(server), time.monotonic())
        self._flush()
        try:
            async with asyncio.timeout(SECONDS):
                await self._greeted
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._transport.close()

    def _flush(self) -> None:
        for data, to in self._core.take_packets():
            self._transport.sendto(data, (to.host, to.port))  # type: ignore[attr-defined]


async def crowd(server: NodeRecord, count: int) -> list[Lane]:
    """Nodes that have greeted a server and answer its pings as long as they are kept."""
    lanes = [await Lane.open() for _ in range(count)]
    for lane in lanes:
        if not await lane.greet(lane.identity(), server):
            raise RuntimeError("a greeting of the crowd was not answered")
    return lanes


async def greet(server: NodeRecord, count: int, window: int) -> dict[str, Any]:
    """Greet with many identities, made beforehand, so many at a time."""
    lanes = [await Lane.open() for _ in range(window)]
    identities = [[lane.identity() for _ in range(count // window)] for lane in lanes]
    began = time.perf_counter()
    done = await asyncio.gather(
        *(_one_after_the_other(lane, cores, server) for lane, cores in zip(lanes, identities, strict=True))
    )
    seconds = time.perf_counter() - began
    for lane in lanes:
        lane.close()
    failed = count // window * window - sum(done)
    return {"done": sum(done), "errors": {"silence": failed} if failed else {}, "seconds": seconds}


async def _one_after_the_other(lane: Lane, cores: Sequence[Discv5], server: NodeRecord) -> int:
    return sum([await lane.greet(core, server) for core in cores])
