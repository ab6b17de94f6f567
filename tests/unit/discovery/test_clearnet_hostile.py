"""A hostile internet before one UDP port: memory, amplification, replays, nonsense; no exception escapes."""

from __future__ import annotations

import gc
import os
import random
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.discovery.buckets import Drop, GateOptions, Rate
from relay.discovery.udp import ClearnetOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.protocols.discv4.options import Options as V4Options
from relay.protocols.discv4.packets import ENRRequest, FindNode, Ping, WireEndpoint, encode
from relay.protocols.discv5 import UDP
from relay.protocols.discv5.crypto import REAL
from relay.protocols.discv5.messages import FindNode as V5FindNode
from relay.protocols.discv5.packet import message_header, protect
from tests.aids.clearnet import UNIX, ClearnetNode, VirtualNet
from tests.aids.discv5 import node_key

NODES = 100_000
V4_NODES = 16_000  # each costs a recovered key and two signatures; nothing remembers more than 8,192 of them
LIMIT = 12 << 20  # bytes: 4,096 challenges, and 8,192 each of addresses, networks and their facts
BLOCKS = 5_000  # objects; 100,000 node ids that left one each would be far over it
OPEN = GateOptions(
    host=Rate(1e9, 1e9), network=Rate(1e9, 1e9), strangers=Rate(1e9, 1e9), proved=Rate(1e9, 1e9)
)
WIDE_OPEN = ClearnetOptions(gate=OPEN)
WHOAREYOU = 63


def source_of(number: int) -> Endpoint:
    return Endpoint(Network.IPV4, f"{30 + number // 65536}.{number // 256 % 256}.{number % 256}.7", 30303)


def unreadable(to: ClearnetNode, node_id: bytes, size: int = 20) -> bytes:
    """Return an ordinary packet of nobody, which asks for a WHOAREYOU."""
    header = message_header(os.urandom(16), os.urandom(12), node_id)
    return protect(header, REAL.mask(to.key.node_id), os.urandom(size))


def assert_bounded(feed: Callable[[int, int], None], traced: int, count: int) -> None:
    """Call `feed` with numbers from and to, up to count; what it leaves behind must be bounded.

    Tracing is slow, so it covers the first part, in which all bounds are reached. From there on the number of
    objects may not grow.
    """
    feed(0, 256)  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        feed(256, traced)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < LIMIT
    finally:
        tracemalloc.stop()
    before = sys.getallocatedblocks()
    feed(traced, count)
    gc.collect()
    assert sys.getallocatedblocks() - before < BLOCKS


class Victim:
    """One node that keeps nothing of what it sends."""

    def __init__(self, options: ClearnetOptions = WIDE_OPEN, **serves: bool) -> None:
        self.net = VirtualNet()
        self.node = self.net.add(1, options=options, **serves)
        self.out = self.count = 0
        self.node.discovery.attach(self._transmit)
        self.net.run(1.0)

    def _transmit(self, data: bytes, _to: Endpoint) -> bool:
        self.out += len(data)
        self.count += 1
        return True

    def receive(self, data: bytes, source: Endpoint) -> tuple[int, int]:
        """Take a packet; returns how many bytes and packets went out for it at once."""
        out, count = self.out, self.count
        self.node.discovery.receive(data, source)
        return self.out - out, self.count - count


@pytest.mark.slow
def test_hundred_thousand_node_ids_of_discv5_cost_bounded_memory() -> None:
    """Each is answered with a WHOAREYOU: the gate, which would let few of them through, is open."""
    victim = Victim()
    numbers = random.Random(1)
    # The mask is a stream cipher: whatever stands in the place of the id is an id.
    whole = unreadable(victim.node, bytes(32))
    head, tail = whole[:39], whole[71:]

    def feed(start: int, end: int) -> None:
        for number in range(start, end):
            # 4,000 packets a second: challenges overlap, as in a real flood.
            victim.net.now += 0.00025
            victim.receive(head + numbers.randbytes(32) + tail, source_of(number))

    assert_bounded(feed, 20_000, NODES)
    assert victim.node.discovery.stats.packets_in == victim.count == NODES


@cache
def handshakers(count: int) -> list[NodeKey]:
    return [node_key(1000 + number) for number in range(count)]


def test_thousands_of_complete_handshakes_cost_bounded_memory() -> None:
    """Real sessions, records and table entries: their bounds are set low, so that all of them are reached."""
    small = replace(UDP, sessions=64, warm_sessions=16, challenges=64, records=64)
    options = ClearnetOptions(v5=small, gate=replace(OPEN, sources=64))
    net = VirtualNet()
    victim = net.add(1, options=options, v4=False)
    net.run(1.0)
    cores = []
    for number, key in enumerate(handshakers(600)):
        host = f"31.{number // 256}.{number % 256}.7"
        other = net.add(1000 + number, host=host, v4=False, knows=[Node.from_record(victim.record)])
        assert other.key.public_key == key.public_key
        cores.append(other)
        net.run(0.2)
        other.discovery.stop()
        del net.nodes[other.endpoint]
        other.sent.clear()
    v5 = victim.discovery.v5
    assert v5 is not None
    assert v5.core.traffic.challenges >= 600
    assert v5.core.traffic.received.total() >= 600
    codec = v5.core._codec
    assert len(codec.sessions) <= 64
    assert len(codec.challenges) <= 64
    assert len(v5.core._contacts) <= 64
    assert len(v5.core.table) <= 17 * 16
    assert len(victim.discovery._gate) <= 3 * 64


@pytest.mark.slow
def test_more_node_ids_of_discv4_than_it_remembers_cost_bounded_memory() -> None:
    """Pings of distinct keys and sources: every key is recovered and pinged back until that is too many."""
    victim = Victim(ClearnetOptions(v4=V4Options(packet_burst=10**9), gate=OPEN), v5=False)
    # To sign them all takes long; a signature over another hash gives another key, as good as any.
    data, _ = encode(node_key(9), Ping(WireEndpoint(bytes(4), 1, 1), WireEndpoint(bytes(4), 1, 1), 2**40))
    content = data[97:]

    def ping(number: int) -> bytes:
        signed = data[32:97] + content + number.to_bytes(4, "big")
        return keccak256(signed) + signed

    def feed(start: int, end: int) -> None:
        for number in range(start, end):
            victim.net.run(0.001)
            victim.receive(ping(number), source_of(number))

    assert_bounded(feed, 9_000, V4_NODES)
    v4 = victim.node.discovery.v4
    assert v4 is not None
    assert v4.core.received["Ping"] == V4_NODES
    assert v4.core.waiting <= V4Options().max_ping_backs
    assert len(v4.core.table) == v4.core.bonds == 0


def test_flood_through_the_gate_causes_work_within_its_share() -> None:
    class Clock(VirtualNet):
        def time(self) -> float:
            self.now += 0.0001
            return self.now

    net = Clock()
    gate = replace(GateOptions(), strangers=Rate(0.25, 0.5))
    node = net.add(1, options=ClearnetOptions(gate=gate))
    began, worked = net.now, 0.0
    for number in range(30_000):
        before = net.now
        if node.discovery.receive(unreadable(node, os.urandom(32)), source_of(number)):
            worked += net.now - before - 0.0001  # less the look at the clock that begins it
        net.now += 0.0001
    assert node.discovery.stats.dropped[Drop.STRANGERS] > 10_000
    assert worked <= 0.25 * (net.now - began) + 0.5 + 0.001


# -- amplification -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 20, 100, 1193])
def test_unproved_source_gets_one_whoareyou_never_larger_than_its_packet(size: int) -> None:
    victim = Victim()
    packet = unreadable(victim.node, os.urandom(32), size)
    out, count = victim.receive(packet, source_of(1))
    assert (out, count) == (WHOAREYOU, 1)
    assert out <= len(packet)


def test_packet_shorter_than_a_whoareyou_gets_nothing() -> None:
    victim = Victim()
    whole = unreadable(victim.node, os.urandom(32), 20)
    for size in range(87):  # the least that a message can have: header, id, tag
        assert victim.receive(whole[:size], source_of(1)) == (0, 0)


def test_ping_of_discv4_gets_at_most_pong_and_ping() -> None:
    victim = Victim()
    to = WireEndpoint(bytes(4), 30303, 30303)
    ping, _ = encode(node_key(5), Ping(to, to, int(UNIX + 2000)))
    out, count = victim.receive(ping, source_of(1))
    # Pong and, for an endpoint proof, Ping: what discv4.md demands of everyone.
    assert count == 2
    assert out <= 3 * len(ping)
    # Again and again: the ping back is not repeated while one is under way.
    assert victim.receive(ping, source_of(1))[1] == 1


@pytest.mark.parametrize("request_", [FindNode(bytes(64), 2**40), ENRRequest(2**40)])
def test_larger_answers_of_discv4_need_a_proof(request_: FindNode | ENRRequest) -> None:
    victim = Victim()
    packet, _ = encode(node_key(5), request_)
    assert victim.receive(packet, source_of(1)) == (0, 0)
    assert victim.node.discovery.stats.refused["v4", "no endpoint proof"] == 1


def test_flood_in_the_name_of_one_victim_is_answered_within_its_share() -> None:
    victim = Victim(ClearnetOptions())
    for _ in range(5000):
        victim.receive(unreadable(victim.node, os.urandom(32)), source_of(1))
    assert victim.count <= GateOptions().host.burst


# -- replayed and reflected --------------------------------------------------------------------------------


@pytest.fixture
def talk() -> tuple[VirtualNet, ClearnetNode, ClearnetNode, list[tuple[Endpoint, Endpoint, bytes]]]:
    """Two nodes after some talk, and all packets of it."""
    net = VirtualNet()
    log: list[tuple[Endpoint, Endpoint, bytes]] = []

    def carry(source: Endpoint, to: Endpoint, data: bytes) -> bool:
        log.append((source, to, data))
        return True

    net.carries = carry
    one = net.add(1)
    two = net.add(2, knows=[Node.from_record(one.record)])
    net.run(10.0)
    return net, one, two, log


def test_replayed_packets_change_nothing(talk) -> None:
    net, one, two, log = talk
    heard = len(one.heard), len(two.heard)
    for source, to, data in list(log):
        node = one if to == one.endpoint else two
        before = len(node.sent)
        node.discovery.receive(data, source)
        # At most the one answer that the protocol has for it, to where the packet came from.
        assert len(node.sent) - before <= 2
        assert all(each == source for _, each in node.sent[before:])
    assert len(one.heard) < heard[0] + len(log) + 1
    net.run(60.0)
    for node, other in ((one, two), (two, one)):
        assert node.discovery.v5 is not None
        assert node.discovery.v5.core.table.entries[other.key.node_id].live


def test_packets_from_another_source_open_no_session(talk) -> None:
    _, one, two, log = talk
    assert one.discovery.v5 is not None
    sessions = len(one.discovery.v5.core._codec.sessions)
    thief = Endpoint.parse("66.0.0.1", 30303)
    for _, to, data in list(log):
        if to == one.endpoint:
            before = len(one.sent)
            one.discovery.receive(data, thief)
            answer = sum(len(each) for each, _ in one.sent[before:])
            assert answer <= 3 * len(data)
    assert len(one.discovery.v5.core._codec.sessions) == sessions
    assert two.endpoint in {to for _, to in one.sent}


def test_reflected_packets_are_refused(talk) -> None:
    _, one, _, log = talk
    before = len(one.sent)
    for source, to, data in list(log):
        if source == one.endpoint:
            one.discovery.receive(data, to)  # our own word, sent back to us
    refused = one.discovery.stats.refused
    assert refused["v4", "own key"]
    assert refused["v5", "not_discv5"] + refused["v5", "header"]
    assert len(one.sent) == before


def test_wrong_versions_and_kinds_are_refused() -> None:
    victim = Victim()
    mask = REAL.mask(victim.node.key.node_id)
    header = message_header(os.urandom(16), os.urandom(12), os.urandom(32))
    for at, value in ((21, 0), (22, 0), (23, 2), (24, 3), (24, 255), (37, 255), (38, 255)):
        changed = bytearray(header)
        changed[at] = value
        if bytes(changed) != header:
            assert victim.receive(protect(bytes(changed), mask, os.urandom(20)), source_of(1))[0] <= WHOAREYOU
    assert victim.node.discovery.stats.refused


# -- nonsense ----------------------------------------------------------------------------------------------

HOSTS = st.sampled_from(
    ["8.8.8.8", "10.0.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "2a00::1", "::1", "fe80::1"]
)
FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def worn() -> Victim:
    """One that takes all the nonsense there is, without forgetting any."""
    return Victim()


@FUZZ
@given(data=st.binary(max_size=1400), host=HOSTS, port=st.integers(0, 65535))
def test_any_bytes_are_taken(worn: Victim, data: bytes, host: str, port: int) -> None:
    out, _ = worn.receive(data, Endpoint.parse(host, port))
    assert out <= max(len(data), 0)


@FUZZ
@given(content=st.binary(min_size=1, max_size=1150), host=HOSTS)
def test_anything_under_a_good_hash_of_discv4_is_taken(worn: Victim, content: bytes, host: str) -> None:
    signed = node_key(7).sign_recoverable(keccak256(content)) + content
    worn.receive(keccak256(signed) + signed, Endpoint.parse(host, 30303))


@FUZZ
@given(
    flag=st.integers(0, 3),
    auth=st.binary(max_size=700),
    message=st.binary(max_size=600),
    lie=st.one_of(st.none(), st.integers(0, 65535)),
)
def test_anything_under_a_good_mask_of_discv5_is_taken(
    worn: Victim, flag: int, auth: bytes, message: bytes, lie: int | None
) -> None:
    size = len(auth) if lie is None else lie
    static = b"discv5\x00\x01" + bytes((flag,)) + os.urandom(12) + size.to_bytes(2, "big")
    data = protect(os.urandom(16) + static + auth, REAL.mask(worn.node.key.node_id), message)
    out, count = worn.receive(data, source_of(1))
    assert count <= 1
    assert out <= WHOAREYOU


@FUZZ
@given(plaintext=st.binary(max_size=1100))
def test_anything_inside_of_a_session_is_taken(plaintext: bytes) -> None:
    _, one, two = session()
    v5 = two.discovery.v5
    assert v5 is not None
    codec = v5.core._codec
    held = codec.sessions.get((one.key.node_id, one.endpoint))
    assert held is not None
    data, _ = codec.seal(held, plaintext)
    one.discovery.receive(data, two.endpoint)


@cache
def session() -> tuple[VirtualNet, ClearnetNode, ClearnetNode]:
    net = VirtualNet()
    one = net.add(1, options=WIDE_OPEN)
    two = net.add(2, knows=[Node.from_record(one.record)])
    net.run(5.0)
    return net, one, two


@FUZZ
@given(
    index=st.integers(0, 10**6),
    cut=st.integers(0, 1280),
    at=st.integers(0, 1279),
    value=st.integers(0, 255),
    more=st.binary(max_size=400),
)
def test_real_packets_cut_changed_and_lengthened_are_taken(
    index: int, cut: int, at: int, value: int, more: bytes
) -> None:
    _, one, two = session()
    packets = [data for data, to in two.sent if to == one.endpoint]
    changed = bytearray(packets[index % len(packets)][:cut])
    if changed:
        changed[at % len(changed)] ^= value
    one.discovery.receive(bytes(changed) + more, two.endpoint)


def test_record_that_points_at_loopback_or_at_us_is_never_called(talk) -> None:
    net, one, two, _ = talk
    liar = net.add(7, knows=[Node.from_record(one.record)])
    for host in ("127.0.0.1", "10.0.0.1", one.endpoint.host):
        liar.record = build_record(liar.key, liar.record.seq + 1, ip=host, udp=30303, tcp=30303)
        net.run(30.0)
    called = {to.host for _, to in two.sent}
    assert not called & {"127.0.0.1", "10.0.0.1", two.endpoint.host}


def test_find_node_of_a_stranger_with_every_distance_gets_one_challenge() -> None:
    victim = Victim()
    plaintext = V5FindNode(b"\x01", tuple(range(256))).encode()
    out, count = victim.receive(unreadable(victim.node, os.urandom(32), len(plaintext) + 16), source_of(1))
    assert (out, count) == (WHOAREYOU, 1)
