"""discv5 and discv4 on one port: who gets which packet, what the cores tell each other, votes, life."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relay.discovery.buckets import Drop, GateOptions, Rate
from relay.discovery.udp import ClearnetDiscovery, ClearnetOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.errors import DialRefused, LocalError
from relay.primitives.node import Node
from relay.protocols.discv4.contact import Contact as V4Contact
from relay.protocols.discv4.events import Proved
from relay.protocols.discv4.packets import is_discv4
from relay.protocols.discv5 import NodeVerified, SessionEstablished
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.clearnet import ClearnetNode, VirtualNet
from tests.aids.discv5 import node_key, onion_record, udp_record
from tests.aids.until import until


@pytest.fixture
def net() -> VirtualNet:
    return VirtualNet()


def node_of(other: ClearnetNode) -> Node:
    return Node.from_record(other.record)


def knows_v5(node: ClearnetNode, other: ClearnetNode) -> bool:
    assert node.discovery.v5 is not None
    entry = node.discovery.v5.core.table.entries.get(other.key.node_id)
    return entry is not None and entry.live


def knows_v4(node: ClearnetNode, other: ClearnetNode) -> bool:
    assert node.discovery.v4 is not None
    return node.discovery.v4.core.table.get(other.key.node_id) is not None


def test_bootnode_with_a_record_is_met_by_both_protocols(net: VirtualNet) -> None:
    one = net.add(1)
    two = net.add(2, knows=[node_of(one)])
    net.run(10.0)
    assert knows_v5(two, one)
    assert knows_v4(two, one)
    assert knows_v4(one, two)
    assert two.discovery.stats.refused == one.discovery.stats.refused == {}


@pytest.mark.parametrize("served", ["v4", "v5"])
def test_bootnode_given_by_its_key_alone_is_met_by_either(net: VirtualNet, served: str) -> None:
    only = {"v4": served == "v4", "v5": served == "v5"}
    one = net.add(1, **only)
    two = net.add(2, knows=[Node(one.key.public_key, (one.endpoint,))], **only)
    net.run(10.0)
    assert knows_v5(two, one) if served == "v5" else knows_v4(two, one)


def test_nodes_reach_the_third_by_either_protocol(net: VirtualNet) -> None:
    one = net.add(1)
    others = [net.add(number, knows=[node_of(one)]) for number in range(2, 6)]
    net.run(120.0)
    for node in others:
        assert sum(knows_v5(node, other) for other in others) == len(others) - 1
        assert sum(knows_v4(node, other) for other in others) == len(others) - 1


def test_port_that_serves_one_protocol_takes_no_packet_of_the_other(net: VirtualNet) -> None:
    four = net.add(1, v5=False)
    five = net.add(2, v4=False)
    both = net.add(3, knows=[node_of(four), node_of(five)])
    net.run(10.0)
    assert knows_v4(both, four)
    assert knows_v5(both, five)
    assert four.discovery.v5 is None
    assert five.discovery.v4 is None
    assert {protocol for protocol, _ in four.discovery.stats.refused} == {"v4"}
    assert set(five.discovery.stats.refused) == {("v5", "not_discv5")}


def test_node_without_a_bootnode_is_silent(net: VirtualNet) -> None:
    alone = net.add(1)
    net.run(100.0)
    assert not alone.sent


def test_we_are_no_bootnode_of_ourselves(net: VirtualNet) -> None:
    record = udp_record(1)
    alone = net.add(1, knows=[Node.from_record(record)])
    alone.discovery.add_node(record)
    net.run(5.0)
    assert not alone.sent


def test_bootnodes_without_udp_are_told_of_and_skipped(net: VirtualNet) -> None:
    with capture_logs() as logs:
        node = net.add(1, knows=[Node.from_record(onion_record(2))])
    assert [(each["event"], each["count"]) for each in logs] == [("bootnodes without an address for udp", 1)]
    net.run(5.0)
    assert not node.sent


def test_node_of_a_database_is_tried_by_both(net: VirtualNet) -> None:
    one, two = net.add(1), net.add(2)
    two.discovery.add_node(one.record)
    two.discovery.add_node(onion_record(3))
    net.run(10.0)
    assert knows_v5(two, one)
    assert knows_v4(two, one)


def test_node_found_by_discv4_enters_the_table_of_discv5(net: VirtualNet) -> None:
    one, two = net.add(1), net.add(2)
    net.run(1.0)
    assert two.discovery.v4 is not None
    contact = V4Contact.of(one.key.public_key, one.endpoint, 30303)
    two.discovery.v4.core.request_record(contact, net.now)
    two.discovery.v4.flush()
    net.run(10.0)
    assert knows_v5(two, one)


def test_record_that_names_another_address_is_not_passed_on(net: VirtualNet) -> None:
    one, two = net.add(1), net.add(2)
    one.record = build_record(one.key, 2, ip="20.9.9.9", udp=30303)
    net.run(1.0)
    assert two.discovery.v4 is not None
    two.discovery.v4.core.request_record(V4Contact.of(one.key.public_key, one.endpoint, 30303), net.now)
    two.discovery.v4.flush()
    net.run(10.0)
    assert knows_v4(two, one)
    assert two.discovery.v5 is not None
    assert len(two.discovery.v5.core.table) == 0


def test_execution_node_found_by_discv5_is_asked_by_discv4(net: VirtualNet) -> None:
    one, two = net.add(1), net.add(2)
    net.run(1.0)
    assert two.discovery.v5 is not None
    two.discovery.v5.add_node(one.record)
    net.run(10.0)
    assert two.said(NodeVerified)
    assert knows_v4(two, one)


def test_node_that_is_no_execution_node_is_not(net: VirtualNet) -> None:
    one, two = net.add(1, v4=False), net.add(2)
    one.record = udp_record(1)
    net.run(1.0)
    assert two.discovery.v5 is not None
    two.discovery.v5.add_node(one.record)
    net.run(10.0)
    assert two.said(NodeVerified)
    assert not [data for data, to in two.sent if to == one.endpoint and is_discv4(data)]


@pytest.mark.parametrize("served", ["v4", "v5"])
def test_ten_hosts_tell_us_our_endpoint(net: VirtualNet, served: str) -> None:
    only = {"v4": served == "v4", "v5": served == "v5"}
    node = net.add(1, **only)
    node.record = build_record(node.key, 1)  # it does not know
    others = [net.add(number, **only) for number in range(2, 20, 2)]
    for other in others:
        node.discovery.add_node(other.record)
    net.run(60.0)
    assert len(others) == 9
    assert not node.stated
    node.discovery.add_node(net.add(40, **only).record)
    net.run(60.0)
    assert node.stated == [node.endpoint]


def test_ipv6_is_served_and_stated(net: VirtualNet) -> None:
    node = net.add(1, host="2a00:1::1")
    for number in range(2, 14):
        node.discovery.add_node(net.add(number, host=f"2a00:{number}::1").record)
    net.run(60.0)
    assert len(node.said(Proved)) >= 12
    assert node.stated == [node.endpoint]


def test_flood_of_one_host_is_dropped_and_counted(net: VirtualNet) -> None:
    gate = GateOptions(host=Rate(1.0, 10.0))
    node = net.add(1, options=ClearnetOptions(gate=gate))
    taken = [node.discovery.receive(os.urandom(100), Endpoint.parse("30.0.0.1", 9)) for _ in range(30)]
    assert sum(taken) == 10
    assert node.discovery.stats.dropped == {Drop.HOST: 20}
    assert node.discovery.stats.packets_in == 30
    assert node.discovery.stats.bytes_in == 3000


class Ticking(VirtualNet):
    """Each look at the clock takes time: work that can be measured."""

    def time(self) -> float:
        self.now += 0.001
        return self.now


def test_work_for_strangers_is_bounded_and_who_proved_itself_is_still_heard() -> None:
    net = Ticking()
    gate = GateOptions(strangers=Rate(0.0, 0.1), proved=Rate(1.0, 1.0))
    one = net.add(1)
    node = net.add(2, knows=[node_of(one)], options=ClearnetOptions(gate=gate))
    net.run(3.0)
    assert node.said(SessionEstablished)
    assert node.said(Proved)
    for number in range(200):
        node.discovery.receive(os.urandom(100), Endpoint.parse(f"30.0.{number}.1", 9))
    assert node.discovery.stats.dropped[Drop.STRANGERS] > 100
    before = one.discovery.stats.packets_in
    net.run(60.0)
    assert one.discovery.stats.packets_in > before + 5
    assert Drop.PROVED not in node.discovery.stats.dropped
    assert knows_v5(node, one)


def test_stopped_node_says_nothing_more(net: VirtualNet) -> None:
    one = net.add(1)
    two = net.add(2, knows=[node_of(one)])
    two.discovery.stop()  # before it has begun
    net.run(5.0)
    assert not two.sent
    three = net.add(3, knows=[node_of(one)])
    net.run(5.0)
    three.discovery.stop()
    sent = len(three.sent)
    assert sent
    net.run(60.0)
    three.discovery.receive(*one.sent[0])
    assert len(three.sent) == sent


# -- with a socket -----------------------------------------------------------------------------------------


def made(number: int, **options: object) -> ClearnetDiscovery:
    key = node_key(number)
    return ClearnetDiscovery(
        key,
        lambda: build_record(key, 1),
        clock=asyncio.get_running_loop(),
        unix=time.time,
        rand=os.urandom,
        **{"v4": True, "v5": True} | options,
    )


async def test_two_nodes_meet_over_loopback() -> None:
    sockets = SocketFactory(SocketRules.anywhere())
    one = made(1)
    await one.start(sockets, "127.0.0.1", 0)
    met: list[object] = []
    two = made(2, bootnodes=[Node(node_key(1).public_key, (Endpoint.parse("127.0.0.1", one.port),))])
    await two.start(sockets, "::", 0)
    assert two.v4 is not None
    assert two.v5 is not None
    two.v4.listen(met.append)
    two.v5.listen(met.append)
    try:
        kinds: Callable[[], set[type]] = lambda: {type(event) for event in met}  # noqa: E731
        await until(lambda: {Proved, SessionEstablished} <= kinds(), "both protocols answer")
        assert one.stats.packets_out
        assert two.stats.bytes_in
        assert two.lost == one.lost == {}
    finally:
        one.stop()
        two.stop()
    sockets.bind_udp("127.0.0.1", one.port).close()


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.hides_ip])
async def test_mode_that_hides_the_ip_has_no_discovery_over_udp(mode: Mode) -> None:
    discovery = made(1)
    with pytest.raises(DialRefused):
        await discovery.start(SocketFactory(SocketRules.of_mode(mode)), "127.0.0.1", 0)
    assert discovery.v5 is None
    discovery.stop()


async def test_taken_port_is_a_clear_error() -> None:
    sockets = SocketFactory(SocketRules.anywhere())
    with sockets.bind_udp("127.0.0.1", 0) as taken, pytest.raises(LocalError, match="already in use"):
        await made(1).start(sockets, "127.0.0.1", taken.getsockname()[1])


async def test_cancelled_start_gives_the_port_back() -> None:
    def lookup(name: str, port: int) -> list[object]:
        time.sleep(0.2)
        return []

    sockets = SocketFactory(SocketRules.anywhere(), lookup=lookup)
    with sockets.bind_udp("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    name = Node(node_key(2).public_key, (Endpoint.parse("boot.example", 30303),))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await made(1, bootnodes=[name]).start(sockets, "127.0.0.1", port)
    sockets.bind_udp("127.0.0.1", port).close()


def test_families_of_the_socket_are_those_of_the_cores(net: VirtualNet) -> None:
    node = net.add(1)
    both = build_record(node_key(2), 1, ip="20.0.0.1", ip6="2a00::1", udp=30303)
    sent: list[Endpoint] = []
    node.discovery.attach(lambda _data, to: sent.append(to) is None, (Network.IPV6,), [])
    node.discovery.add_node(both)
    net.run(5.0)
    assert sent
    assert {to.network for to in sent} == {Network.IPV6}
