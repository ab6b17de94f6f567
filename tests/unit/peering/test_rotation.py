"""Connections through Tor are made anew one at a time; who came in, and who is reached directly, stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.peering.options import DialOptions
from relay.peering.rotation import CircuitRotation, RotationOptions, jittered
from relay.peering.scheduler import DialScheduler
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, TransportError
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.dialer import Dialed
from relay.transports.listener import Label
from relay.transports.policy import DialPlan, Mode, Way, plan_dial
from tests.aids.peering import (
    End,
    Link,
    ManualLoop,
    MemoryTransport,
    connect,
    couple,
    key_of,
    make_end,
    rand_of,
    settle,
)

EVERY = 3600.0


class Dialer:
    """Reaches ends over Tor, fails as told."""

    def __init__(self, loop: ManualLoop) -> None:
        self.loop = loop
        self.ends: dict[PublicKey, End] = {}
        self.errors: dict[PublicKey, TransportError] = {}
        self.links: list[Link] = []
        self.dialed: list[PublicKey] = []

    def plan(self, node: Node, *, allow_private: bool = False) -> DialPlan:
        return plan_dial(Mode.DEFAULT, node, allow_private=allow_private, i2p=True)

    async def dial_node(self, plan: DialPlan, protocol_factory: Callable[[], Any]) -> Dialed[Any]:
        self.dialed.append(plan.public_key)
        if plan.public_key in self.errors:
            raise self.errors[plan.public_key]
        near = MemoryTransport(self.loop, protocol_factory())
        far = MemoryTransport(self.loop, self.ends[plan.public_key].peers.inbound_factory(Label.ONION)())
        couple(near, far)
        self.links.append(Link(near, far))
        return Dialed(plan.targets[0].way, plan.targets[0].endpoint, near, near.protocol)


class Bench:
    """A node whose connections are renewed, and a clock.

    Attributes:
        fewest: joined peers at the worst moment, since it was last set.
    """

    def __init__(self, *others: int, network: Network = Network.ONION, every: float = EVERY) -> None:
        self.loop = ManualLoop()
        self.end = make_end(key_of(0), self.loop)
        self.dialer = Dialer(self.loop)
        self.scheduler = DialScheduler(
            self.end.peers,
            self.dialer,
            options=DialOptions(jitter=0.0),
            now=self.loop.now,
            rand=bytes,
            observer=self.end.tally,
        )
        self.sleeping: list[tuple[float, asyncio.Event]] = []
        self.rotation = CircuitRotation(
            self.end.peers,
            self.scheduler,
            options=RotationOptions(every),
            now=self.loop.now,
            rand=rand_of(7),
            sleep=self.sleep,
        )
        self.links: list[Link] = []
        self.fewest = 0
        for number in others:
            key = key_of(number)
            self.dialer.ends[key.public_key] = make_end(key, self.loop)
            letter = chr(ord("a") + number)
            endpoint = {
                Network.ONION: Endpoint(Network.ONION, letter * 56 + ".onion", 30303),
                Network.I2P: Endpoint(Network.I2P, letter * 52 + ".b32.i2p", 0),
                Network.IPV4: Endpoint(Network.IPV4, f"8.8.8.{number}", 30303),
            }[network]
            self.scheduler.add_static(Node(key.public_key, (endpoint,)))

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self.sleeping.append((self.loop.time + seconds, over))
        await over.wait()

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)
            settle([self.loop], self.dialer.links + self.links)
            self.fewest = min(self.fewest, len(self.end.peers))

    async def after(self, seconds: float, step: float = 1.0) -> list[PublicKey]:
        """Let time pass in small steps; return who was dialed."""
        before = len(self.dialer.dialed)
        self.fewest = len(self.end.peers)
        for _ in range(int(seconds / step)):
            self.loop.time += step
            due = [over for at, over in self.sleeping if at <= self.loop.time]
            self.sleeping = [each for each in self.sleeping if each[0] > self.loop.time]
            for over in due:
                over.set()
            self.scheduler.wake()
            await self.settle()
        return self.dialer.dialed[before:]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(self.scheduler.run()), tasks.create_task(self.rotation.run())]
            await self.settle()
            yield
            for task in both:
                task.cancel()


def keys(*numbers: int) -> set[PublicKey]:
    return {key_of(number).public_key for number in numbers}


async def test_each_connection_is_made_anew_in_its_time_and_one_at_a_time_is_missing() -> None:
    bench = Bench(1, 2, 3)
    async with bench.running():
        first = set(bench.end.peers.sessions())
        assert len(first) == 3
        dialed = await bench.after(2 * EVERY, step=6.0)
        assert bench.fewest == 2
        assert len(bench.end.peers) == 3
        assert not first & set(bench.end.peers.sessions())
        assert set(dialed) == keys(1, 2, 3)
        assert bench.rotation.renewed == len(dialed)
        assert bench.rotation.lost == 0
        assert 4 <= len(dialed) <= 7  # three in an hour
        reasons = {each.reason for each in bench.end.tally.departures}
        assert reasons == {DisconnectReason.REQUESTED}


@pytest.mark.parametrize("network", [Network.IPV4, Network.I2P])
async def test_peers_that_came_in_and_those_not_through_tor_are_left_alone(network: Network) -> None:
    bench = Bench(1, network=network)
    guest = make_end(key_of(9), bench.loop)
    async with bench.running():
        bench.links.append(connect(guest, bench.end, label=Label.ONION))
        await bench.settle()
        before = set(bench.end.peers.sessions())
        assert len(before) == 2
        assert await bench.after(3 * EVERY, step=20.0) == []
        assert set(bench.end.peers.sessions()) == before


async def test_peer_that_does_not_come_back_holds_the_next_one_up() -> None:
    bench = Bench(1, 2, 3)
    async with bench.running():
        for key in keys(1, 2, 3):
            bench.dialer.errors[key] = ConnectFailed("Tor is broken today")
        await bench.after(0.9 * EVERY, step=10.0)
        assert bench.fewest == 2
        (gone,) = keys(1, 2, 3) - {each.public_key for each in bench.end.peers.sessions()}
        # Once Tor is well again the peer is dialed by the rules of any other that is away.
        bench.dialer.errors.clear()
        await bench.after(700, step=5.0)
        assert bench.end.peers.get(gone) is not None
        assert len(bench.end.peers) == 3


async def test_peers_that_are_lost_make_the_pauses_longer_until_one_is_back() -> None:
    bench = Bench(1, 2, 3, 4)
    async with bench.running():
        for key in keys(1, 2, 3, 4):
            bench.dialer.errors[key] = ConnectFailed("nobody answers any more")
        await bench.after(3.4 * EVERY, step=20.0)
        assert bench.rotation.lost >= 1
        assert len(bench.end.peers) >= 2
        bench.dialer.errors.clear()
        await bench.after(EVERY, step=20.0)
        assert len(bench.end.peers) == 4


async def test_peer_that_comes_back_by_its_own_dial_is_not_dialed() -> None:
    bench = Bench(1)
    async with bench.running():
        (session,) = bench.end.peers.sessions()
        assert bench.scheduler.renew(key_of(1).public_key)
        await bench.settle()
        assert len(bench.end.peers) == 0
        bench.links.append(connect(bench.dialer.ends[key_of(1).public_key], bench.end, label=Label.ONION))
        await bench.settle()
        assert len(bench.end.peers) == 1
        assert await bench.after(60) == []
        assert bench.end.peers.sessions()[0] is not session


async def test_goodbye_has_time_to_arrive_before_the_next_hello() -> None:
    bench = Bench(1)
    async with bench.running():
        assert bench.scheduler.renew(key_of(1).public_key)
        assert await bench.after(2) == []
        assert bench.scheduler.is_dialing(key_of(1).public_key), "another identity would dial it meanwhile"
        assert await bench.after(2) == [key_of(1).public_key]
        assert len(bench.end.peers) == 1
        assert not bench.scheduler.is_dialing(key_of(1).public_key)


async def test_nobody_is_renewed_who_is_no_peer_or_came_in() -> None:
    bench = Bench()
    guest = make_end(key_of(9), bench.loop)
    async with bench.running():
        bench.links.append(connect(guest, bench.end, label=Label.ONION))
        await bench.settle()
        assert not bench.scheduler.renew(guest.key.public_key)
        assert not bench.scheduler.renew(key_of(4).public_key)
        assert len(bench.end.peers) == 1


class Source:
    """Offers candidates again and again."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes

    def take(self, count: int) -> list[Node]:
        return list(self.nodes[: max(0, count)])

    def why(self, public_key: PublicKey) -> str:
        return "told by a test"


async def test_place_of_a_candidate_is_kept_while_it_is_dialed_anew() -> None:
    bench = Bench()
    nodes = []
    for number in range(1, 40):
        key = key_of(number)
        bench.dialer.ends[key.public_key] = make_end(key, bench.loop)
        host = f"{number:056d}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d")
        nodes.append(Node(key.public_key, (Endpoint(Network.ONION, host + ".onion", 30303),)))
    bench.scheduler.add_source(Source(*nodes))
    async with bench.running():
        await bench.after(300, step=5.0)
        full = bench.end.peers.dialed
        assert full >= bench.end.peers.options.max_dialed
        key = bench.end.peers.sessions()[0].public_key
        assert key is not None
        assert bench.scheduler.renew(key)
        assert await bench.after(30) == [key]
        assert bench.end.peers.dialed == full
        assert bench.end.peers.get(key) is not None


async def test_failed_way_of_a_candidate_frees_its_place() -> None:
    bench = Bench()
    first = Node(key_of(1).public_key, (Endpoint(Network.ONION, "b" * 56 + ".onion", 30303),))
    bench.dialer.ends[first.public_key] = make_end(key_of(1), bench.loop)
    bench.scheduler.add_source(Source(first))
    async with bench.running():
        await bench.after(20)
        assert bench.scheduler.renew(first.public_key)
        bench.dialer.errors[first.public_key] = ConnectFailed("gone")
        await bench.after(10)
        free = bench.scheduler._free_for_candidates()
        assert free > 0
        bench.dialer.errors.clear()
        await bench.after(700)
        assert bench.end.peers.get(first.public_key) is not None


def test_way_of_tor_is_what_counts() -> None:
    plan = plan_dial(Mode.DEFAULT, Node(key_of(1).public_key, (Endpoint.parse("8.8.8.8", 1),)))
    assert plan.ways == (Way.DIRECT,)


@given(st.floats(1, 1e6), st.floats(0, 1), st.binary(min_size=4, max_size=4))
def test_jitter_stays_within_its_share(seconds: float, share: float, random: bytes) -> None:
    found = jittered(seconds, share, lambda count: random)
    assert seconds * (1 - share) <= found <= seconds * (1 + share)


@pytest.mark.parametrize(("random", "factor"), [(b"\0\0\0\0", 0.5), (b"\x80\0\0\0", 1.0)])
def test_jitter_goes_both_ways(random: bytes, factor: float) -> None:
    assert jittered(10.0, 0.5, lambda count: random) == 10.0 * factor
