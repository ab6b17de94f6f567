"""The table of ways, cell by cell, against a scripted proxy and a direct listener that record who came."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay.primitives.address import parse_address
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import (
    ConnectFailed,
    ConnectTimeout,
    DialRefused,
    ProxyFailed,
    Retry,
)
from relay.primitives.node import Node
from relay.transports.dialer import (
    DialDeadlines,
    Dialed,
    DialFailed,
    NodeDialer,
    TcpDialer,
    dialers_of,
)
from relay.transports.pacing import DialPacer, Pace
from relay.transports.policy import Mode, Way
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Isolation, SocksDialer
from tests.aids.socks_server import ATYP_IPV4, ATYP_NAME, Act, Script, SocksServer
from tests.aids.streams import Recorder
from tests.unit.transports.conftest import ONION, OTHER_ONION, node

DIRECT, TOR, EXIT = Way.DIRECT, Way.TOR_ONION, Way.TOR_EXIT

# mode, onion only, IP only, both: a copy of the table in issue 3, by hand.
TABLE: list[tuple[Mode, list[Way], list[Way], list[Way]]] = [
    (Mode.NO_TOR, [], [DIRECT], [DIRECT]),
    (Mode.DEFAULT, [TOR], [DIRECT], [DIRECT, TOR]),
    (Mode.PREFER_TOR, [TOR], [DIRECT], [TOR, DIRECT]),
    (Mode.CLEARNET_TOR, [TOR], [EXIT], [TOR, EXIT]),
    (Mode.ONLY_ONION, [TOR], [], [TOR]),
]
CELLS = [
    pytest.param(mode, reach, ways, id=f"{mode.value}: {reach}")
    for mode, *row in TABLE
    for reach, ways in zip(("onion", "ip", "both"), row, strict=True)
]


@dataclass
class World:
    """A peer with an onion (through the proxy) and an IP (a direct listener), and what they saw."""

    proxy: SocksServer
    listener: asyncio.Server
    port: int
    direct_connects: list[str] = field(default_factory=list)
    names_looked_up: list[str] = field(default_factory=list)

    def peer(self, reach: str) -> Node:
        hosts = {"onion": [(ONION, 30303)], "ip": [("127.0.0.1", self.port)]}
        return node(*hosts.get(reach, hosts["ip"] + hosts["onion"]))

    def dialer(self, mode: Mode, **options: Any) -> NodeDialer:
        proxy_address = parse_address(self.proxy.address)
        sockets = SocketFactory(SocketRules.of_mode(mode, proxy_address), lookup=self.lookup)
        exits = mode is Mode.CLEARNET_TOR
        socks = SocksDialer(sockets, proxy_address, Isolation(os.urandom), exits=exits)
        proxy = None if mode is Mode.NO_TOR else socks
        return NodeDialer(mode, dialers_of(mode, sockets, proxy), resolver=sockets, **options)

    def lookup(self, name: str, port: int) -> list[Any]:
        self.names_looked_up.append(name)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    @property
    def proxied(self) -> list[Way]:
        return [TOR if each.host.endswith(".onion") else EXIT for each in self.proxy.asked]


@pytest.fixture
async def world(proxy: SocksServer) -> AsyncIterator[World]:
    def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The proxy's own connections to the listener (exits) come from its side of a splice: none here.
        made.direct_connects.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(came, "127.0.0.1", 0)
    made = World(proxy, server, server.sockets[0].getsockname()[1])
    proxy.record_only = True
    yield made
    server.close()
    await server.wait_closed()


async def dial(dialer: NodeDialer, peer: Node, *, allow_private: bool = True) -> Dialed[Recorder]:
    dialed = await dialer.dial_node(dialer.plan(peer, allow_private=allow_private), Recorder)
    dialed.transport.abort()
    await dialed.protocol.wait_lost()
    return dialed


async def arrived(world: World, count: int) -> None:
    async with asyncio.timeout(5):
        while len(world.direct_connects) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize(("mode", "reach", "ways"), CELLS)
async def test_cell_uses_its_first_way_and_no_other(
    world: World, mode: Mode, reach: str, ways: list[Way]
) -> None:
    dialer = world.dialer(mode)
    if ways:
        assert (await dial(dialer, world.peer(reach))).way is ways[0]
    else:
        with pytest.raises(DialRefused):
            await dial(dialer, world.peer(reach))
    await arrived(world, int(ways[:1] == [DIRECT]))
    assert world.proxied == [way for way in ways[:1] if way is not DIRECT]
    assert len(world.direct_connects) == int(ways[:1] == [DIRECT])
    assert world.names_looked_up == []


@pytest.mark.parametrize(("mode", "reach", "ways"), CELLS)
async def test_cell_falls_back_to_its_own_ways_only_however_often(
    world: World, mode: Mode, reach: str, ways: list[Way]
) -> None:
    world.proxy.script = Script(Act.REFUSE, code=0xF0)
    dialer = world.dialer(mode)
    plan = dialer.plan(world.peer(reach), allow_private=True)
    direct_works = DIRECT in ways
    for _ in range(3):
        if direct_works:
            dialed = await dialer.dial_node(plan, Recorder)
            assert dialed.way is DIRECT
            dialed.transport.abort()
            await dialed.protocol.wait_lost()
        elif ways:
            with pytest.raises(DialFailed) as caught:
                await dialer.dial_node(plan, Recorder)
            assert [target.way for target, _ in caught.value.failures] == ways
        else:
            with pytest.raises(DialRefused):
                await dialer.dial_node(plan, Recorder)
        plan = plan.renewed(world.peer("both"))  # the record changes: it has everything now
        if not ways:
            break  # it was never dialed, so it may be planned anew
    await arrived(world, 3 if direct_works else 0)
    before_direct = ways[: ways.index(DIRECT)] if direct_works else ways
    assert world.proxied == before_direct * 3
    assert len(world.direct_connects) == (3 if direct_works else 0)


@pytest.mark.parametrize(("mode", "reach", "ways"), [cell for cell in CELLS if cell.values[2]])
async def test_cell_tries_all_its_ways_when_all_fail(
    world: World, mode: Mode, reach: str, ways: list[Way]
) -> None:
    world.proxy.script = Script(Act.REFUSE, code=0x05)
    world.listener.close()
    await world.listener.wait_closed()
    with pytest.raises(DialFailed) as caught:
        await dial(world.dialer(mode), world.peer(reach))
    assert [target.way for target, _ in caught.value.failures] == ways
    assert world.proxied == [way for way in ways if way is not DIRECT]


async def test_only_onion_never_falls_back_when_the_proxy_is_dead(world: World) -> None:
    await world.proxy.stop()
    dialer = world.dialer(Mode.ONLY_ONION)
    plan = dialer.plan(world.peer("both"), allow_private=True)
    for _ in range(3):
        with pytest.raises(DialFailed, match="is Tor running") as caught:
            await dialer.dial_node(plan, Recorder)
        (_, error), *others = caught.value.failures
        assert isinstance(error, ProxyFailed)
        assert (error.code, others) == (0, [])
    await world.proxy.start()
    assert (await dialer.dial_node(plan, Recorder)).way is TOR
    assert world.direct_connects == []
    world.proxy.cut()


async def test_onion_of_both_is_asked_by_name(world: World) -> None:
    await dial(world.dialer(Mode.ONLY_ONION), world.peer("both"))
    (asked,) = world.proxy.asked
    assert (asked.address_type, asked.host, asked.port) == (ATYP_NAME, ONION, 30303)


async def test_exit_is_asked_for_the_ip(world: World) -> None:
    await dial(world.dialer(Mode.CLEARNET_TOR), node(("93.184.216.34", 30303)))
    (asked,) = world.proxy.asked
    assert (asked.address_type, asked.host, asked.port) == (ATYP_IPV4, "93.184.216.34", 30303)


async def test_clearnet_tor_gives_names_to_the_exit_unresolved(world: World) -> None:
    await dial(world.dialer(Mode.CLEARNET_TOR), node(("node.example", 30303)))
    (asked,) = world.proxy.asked
    assert (asked.address_type, asked.host) == (ATYP_NAME, "node.example")
    assert world.names_looked_up == []


async def test_only_onion_refuses_a_name(world: World) -> None:
    with pytest.raises(DialRefused):
        await dial(world.dialer(Mode.ONLY_ONION), node(("node.example", 30303)))
    assert (world.names_looked_up, world.proxy.asked) == ([], [])


@pytest.mark.parametrize("mode", [Mode.NO_TOR, Mode.DEFAULT, Mode.PREFER_TOR])
async def test_direct_modes_look_a_name_up(world: World, mode: Mode) -> None:
    dialed = await dial(world.dialer(mode), node(("node.example", world.port)))
    assert dialed.endpoint == Endpoint(Network.IPV4, "127.0.0.1", world.port)
    assert world.names_looked_up == ["node.example"]


@pytest.mark.parametrize("mode", Mode)
async def test_onion_name_never_reaches_the_resolver(world: World, mode: Mode) -> None:
    world.proxy.script = Script(Act.REFUSE, code=0xF0)
    dialer = world.dialer(mode)
    for peer in (node((ONION.upper(), 1)), Node(node().public_key, (Endpoint(Network.DNS, "x.Onion.", 1),))):
        with pytest.raises((DialRefused, DialFailed)):
            await dial(dialer, peer)
    assert world.names_looked_up == []
    assert {each.host for each in world.proxy.asked} <= {ONION}


async def test_name_that_points_into_our_own_network_is_refused(world: World) -> None:
    with pytest.raises(DialFailed, match="no address that may be dialed"):
        await dial(world.dialer(Mode.DEFAULT), node(("rebind.example", world.port)), allow_private=False)
    assert world.direct_connects == []


async def test_every_address_of_a_name_is_tried() -> None:
    class TwoAddresses:
        async def resolve(self, name: str, port: int) -> tuple[Endpoint, ...]:
            return (Endpoint.parse("8.8.8.8", port), Endpoint.parse("8.8.4.4", port))

    class SecondWorks:
        def __init__(self) -> None:
            self.tried: list[str] = []

        async def dial(self, to: Endpoint, protocol_factory: Callable[[], Any]) -> Any:
            self.tried.append(to.host)
            if len(self.tried) == 1:
                raise ConnectFailed("refused")
            return asyncio.Transport(), protocol_factory()

    direct = SecondWorks()
    dialer = NodeDialer(Mode.DEFAULT, {DIRECT: direct}, resolver=TwoAddresses())
    dialed = await dialer.dial_node(dialer.plan(node(("two.example", 1))), Recorder)
    assert (dialed.endpoint.host, direct.tried) == ("8.8.4.4", ["8.8.8.8", "8.8.4.4"])


async def test_name_without_a_resolver_is_refused() -> None:
    dialer = NodeDialer(Mode.DEFAULT, {DIRECT: TcpDialer(SocketFactory(SocketRules.anywhere()))})
    with pytest.raises(DialFailed, match="not looked up") as caught:
        await dialer.dial_node(dialer.plan(node(("node.example", 1))), Recorder)
    assert caught.value.retry is Retry.NEVER


@pytest.mark.parametrize("act", [Act.SILENT, Act.SILENT_REPLY])
async def test_silent_proxy_is_given_up_at_the_deadline_and_its_socket_closed(world: World, act: Act) -> None:
    world.proxy.script = Script(act)
    dialer = world.dialer(Mode.ONLY_ONION, deadlines=DialDeadlines(onion=0.05))
    with pytest.raises(DialFailed, match=r"no connection within 0.05 s") as caught:
        await dial(dialer, world.peer("onion"))
    assert isinstance(caught.value.failures[0][1], ConnectTimeout)
    await world.proxy.wait_idle()


async def test_each_way_has_its_own_deadline() -> None:
    deadlines = DialDeadlines()
    assert [deadlines.of(way) for way in (DIRECT, TOR, EXIT)] == [15, 60, 30]


async def test_cancelled_dial_closes_its_socket(world: World) -> None:
    world.proxy.script = Script(Act.SILENT_REPLY)
    dialer = world.dialer(Mode.PREFER_TOR)
    async with asyncio.TaskGroup() as tasks:
        dialing = tasks.create_task(dial(dialer, world.peer("both")))
        await world.proxy.wait_asked(1)
        dialing.cancel()
    await world.proxy.wait_idle()
    assert world.direct_connects == []


async def test_failure_is_worth_another_try_as_soon_as_one_way_is(world: World) -> None:
    world.listener.close()
    await world.listener.wait_closed()
    world.proxy.script = Script(Act.REFUSE, code=0xF6)
    with pytest.raises(DialFailed) as caught:
        await dial(world.dialer(Mode.DEFAULT), world.peer("both"))
    assert [error.retry for _, error in caught.value.failures] == [Retry.SHORT, Retry.NEVER]
    assert caught.value.retry is Retry.SHORT
    with pytest.raises(DialFailed) as caught:
        await dial(world.dialer(Mode.DEFAULT), world.peer("onion"))
    assert caught.value.retry is Retry.NEVER


async def test_error_texts_hold_no_address_of_a_peer(world: World) -> None:
    world.listener.close()
    await world.listener.wait_closed()
    world.proxy.script = Script(Act.REFUSE, code=0xF0)
    with pytest.raises(DialFailed) as caught:
        await dial(world.dialer(Mode.DEFAULT), world.peer("both"))
    assert "onion service can not be found (0xF0)" in str(caught.value)
    assert ONION not in str(caught.value)
    assert str(world.port) not in str(caught.value)


async def test_way_without_a_dialer_is_refused() -> None:
    dialer = NodeDialer(Mode.DEFAULT, {})
    with pytest.raises(DialFailed, match="default has no way tor-onion"):
        await dialer.dial_node(dialer.plan(node((ONION, 1))), Recorder)


async def test_direct_dialer_takes_ip_literals_only() -> None:
    dialer = TcpDialer(SocketFactory(SocketRules.anywhere()))
    for host in (ONION, "node.example"):
        with pytest.raises(DialRefused):
            await dialer.dial(Endpoint.parse(host, 1), Recorder)


async def test_paced_way_waits_for_its_turn(world: World) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    clock = [0.0]
    pacer = DialPacer(Pace(2.0, 0.0, 8, 8), bytes, lambda: clock[0], sleep)
    dialer = world.dialer(Mode.DEFAULT, pacers={TOR: pacer})
    for peer in (node((ONION, 1)), node((OTHER_ONION, 1)), world.peer("ip")):
        await dial(dialer, peer)
    assert slept == [0.5]


def test_modes_get_dialers_for_the_ways_of_their_row() -> None:
    sockets = SocketFactory(SocketRules.anywhere())
    socks = SocksDialer(sockets, parse_address("127.0.0.1:9050"), Isolation(os.urandom), exits=True)
    ways = {mode: set(dialers_of(mode, sockets, socks)) for mode in Mode}
    assert ways == {
        Mode.NO_TOR: {DIRECT},
        Mode.DEFAULT: {DIRECT, TOR},
        Mode.PREFER_TOR: {DIRECT, TOR},
        Mode.CLEARNET_TOR: {TOR, EXIT},
        Mode.ONLY_ONION: {TOR},
        Mode.ONLY_I2P: set(),
    }
    assert set(dialers_of(Mode.DEFAULT, sockets, None)) == {DIRECT}
