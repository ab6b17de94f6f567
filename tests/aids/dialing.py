"""A node whose dial scheduler runs, with others to dial, all in memory and on a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from relay.peering.options import DialOptions, PeeringOptions
from relay.peering.scheduler import DialScheduler
from relay.peering.session import PeerSession
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DialRefused, TransportError
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.transports.dialer import Dialed
from relay.transports.listener import Label
from relay.transports.policy import DialPlan, Mode, plan_dial
from tests.aids.peering import End, Link, ManualLoop, MemoryTransport, couple, key_of, make_end, settle

ONION = "a" * 56 + ".onion"


def node_of(number: int, host: str = "8.8.8.8") -> Node:
    network = Network.ONION if host.endswith(".onion") else Network.IPV4
    return Node(key_of(number).public_key, (Endpoint(network, host, 30303),))


class ScriptedDialer:
    """Connects to ends that exist, fails as told, hangs otherwise."""

    def __init__(self, loop: ManualLoop, mode: Mode = Mode.DEFAULT) -> None:
        self.loop = loop
        self.mode = mode
        self.ends: dict[PublicKey, End] = {}
        self.errors: dict[PublicKey, TransportError] = {}
        self.plans: list[DialPlan] = []
        self.links: list[Link] = []

    def plan(self, node: Node, *, allow_private: bool = False) -> DialPlan:
        return plan_dial(self.mode, node, allow_private=allow_private)

    async def dial_node(self, plan: DialPlan, protocol_factory: Callable[[], Any]) -> Dialed[Any]:
        self.plans.append(plan)
        if not plan.targets:
            raise DialRefused(plan.refusal)
        if plan.public_key in self.errors:
            raise self.errors[plan.public_key]
        end = self.ends.get(plan.public_key)
        if end is None:
            await asyncio.Event().wait()
        assert end is not None
        session: PeerSession = protocol_factory()
        near = MemoryTransport(self.loop, session)
        far = MemoryTransport(self.loop, end.peers.inbound_factory(Label.ONION)())
        couple(near, far)
        self.links.append(Link(near, far))
        return Dialed(plan.targets[0].way, plan.targets[0].endpoint, near, session)

    def dialed(self) -> list[PublicKey]:
        return [plan.public_key for plan in self.plans]


class Bench:
    """A node with a scheduler that runs, and others to dial."""

    def __init__(self, mode: Mode = Mode.DEFAULT, *, max_peers: int = 50, **options: Any) -> None:
        self.loop = ManualLoop()
        self.end = make_end(key_of(0), self.loop, options=PeeringOptions(max_peers=max_peers))
        self.dialer = ScriptedDialer(self.loop, mode)
        self.options = DialOptions(**{"jitter": 0.0} | options)
        self.scheduler = DialScheduler(
            self.end.peers,
            self.dialer,
            options=self.options,
            now=self.loop.now,
            rand=bytes,
            observer=self.end.tally,
        )

    def other(self, number: int, **how: Any) -> End:
        end = make_end(key_of(number), self.loop, **how)
        self.dialer.ends[end.key.public_key] = end
        return end

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)
            settle([self.loop], self.dialer.links)

    async def after(self, seconds: float) -> int:
        """Let time pass; return how many dials began."""
        before = len(self.dialer.plans)
        self.loop.time += seconds
        self.scheduler.wake()
        await self.settle()
        return len(self.dialer.plans) - before

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.scheduler.run())
            await self.settle()
            yield
            task.cancel()


class Source:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)

    def take(self, count: int) -> Sequence[Node]:
        taken, self.nodes = self.nodes[:count], self.nodes[count:]
        return taken

    def why(self, public_key: PublicKey) -> str | None:
        return "test: chosen"
