"""`ClearnetDiscovery` without sockets: several of them under one virtual clock, or one alone with a test."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from relay.discovery.udp import ClearnetDiscovery, ClearnetOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.forkid import ForkId
from relay.primitives.node import Node
from tests.aids.discv5 import ip_of, node_key

__all__ = ["UNIX", "ClearnetNode", "VirtualNet"]

UNIX = 1_800_000_000.0


class _Timer:
    """What is needed of asyncio.TimerHandle."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback, self.is_cancelled = callback, False

    def cancel(self) -> None:
        self.is_cancelled = True


class ClearnetNode:
    """One node.

    Attributes:
        discovery: what is tested.
        record: its own; exchange it at will.
        endpoint: where it lives.
        heard: events of both drivers.
        sent: its datagrams, with their destinations.
        stated: what it was told of its endpoint.
    """

    def __init__(self, net: VirtualNet, number: int, host: str | None, **options: Any) -> None:
        self.key = node_key(number)
        self.endpoint = Endpoint.parse(host or ip_of(number), 30303)
        ip = (
            {"ip6": self.endpoint.host}
            if self.endpoint.network is Network.IPV6
            else {"ip": self.endpoint.host}
        )
        port = self.endpoint.port
        self.record: NodeRecord = build_record(
            self.key, 1, udp=port, tcp=port, fork_id=ForkId(bytes(4), 0), **ip
        )
        self.heard: list[object] = []
        self.sent: list[tuple[bytes, Endpoint]] = []
        self.stated: list[Endpoint] = []
        self.discovery = ClearnetDiscovery(
            self.key,
            lambda: self.record,
            clock=net,  # type: ignore[arg-type]
            unix=lambda: UNIX + net.now,
            rand=random.Random(number).randbytes,
            **{"v4": True, "v5": True} | options,
        )
        self.discovery.on_endpoint = self.stated.append

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]


class VirtualNet:
    """The clock, and the way between the nodes: 20 ms.

    Attributes:
        now: seconds.
        carries: says of each datagram on its way whether it arrives.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.nodes: dict[Endpoint, ClearnetNode] = {}
        self.carries: Callable[[Endpoint, Endpoint, bytes], bool] = lambda _source, _to, _data: True
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], object], _Timer | None]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._queue, (when, next(self._order), callback, timer))
        return timer

    def add(
        self,
        number: int,
        *,
        host: str | None = None,
        knows: Sequence[Node] = (),
        options: ClearnetOptions | None = None,
        **more: Any,
    ) -> ClearnetNode:
        node = ClearnetNode(self, number, host, options=options, **more)
        self.nodes[node.endpoint] = node

        def transmit(data: bytes, to: Endpoint) -> bool:
            node.sent.append((data, to))
            if self.carries(node.endpoint, to, data):
                arrive = lambda: self._deliver(data, node.endpoint, to)  # noqa: E731
                heapq.heappush(self._queue, (self.now + 0.02, next(self._order), arrive, None))
            return True

        node.discovery.attach(transmit, bootnodes=knows)
        for driver in (node.discovery.v5, node.discovery.v4):
            if driver is not None:
                driver.listen(node.heard.append)
        return node

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, callback, timer = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if timer is None or not timer.is_cancelled:
                callback()
        self.now = end

    def _deliver(self, data: bytes, source: Endpoint, to: Endpoint) -> None:
        if to in self.nodes:
            self.nodes[to].discovery.receive(data, source)
