"""Discovery over onion streams: what is proved, what is told, what is dialed."""

import random
from dataclasses import replace
from itertools import pairwise

from relay.primitives.enr import build_record
from relay.protocols.discv5 import (
    ONION,
    ContactCache,
    EndpointVote,
    NodeVerified,
    OnionNetwork,
    RequestDone,
    SessionEstablished,
)
from relay.protocols.discv5.distance import log_distance
from tests.aids.discv5 import NullSuite, VirtualNetwork, Wire, make_node, node_key, onion_record, populate

STILL = replace(
    ONION, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9, refresh_interval=1e9, young_interval=0.0
)


class Streams(Wire):
    """Who is called from the stream's other end sees no onion, only a stream."""

    def _carry(self, node, to, data):
        self.log.append((node.address, to, data))
        if isinstance(to, tuple):
            target, source = self.nodes[to[0]], to[1]
        else:
            target, source = self.nodes.get(to), (node.address, to)
        if target is not None:
            target.events += target.core.receive_packet(data, source, self.now)


def two(options=STILL):
    a, b = make_node(1, options, onion=True), make_node(2, options, onion=True)
    return a, b, Streams(a, b)


def test_incoming_node_enters_the_table_only_after_our_own_dial():
    a, b, wire = two()
    b.core.poll(wire.now)
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()

    (session,) = b.said(SessionEstablished)
    assert isinstance(session.contact.address, tuple)
    assert len(b.core.table) == 0
    b.core.ping(session.contact, wire.now)
    wire.deliver()
    assert len(b.said(RequestDone)) == 1
    assert len(b.core.table) == 0

    wire.pass_time(1.0)
    (entry,) = b.core.table
    assert entry.live
    assert entry.contact.address == a.address
    assert b.said(NodeVerified) == [NodeVerified(entry.contact)]


def test_node_that_we_dialed_enters_at_once():
    a, b, wire = two()
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()
    assert [entry.live for entry in a.core.table] == [True]
    assert not a.said(EndpointVote)


def test_session_dies_with_its_stream():
    a, b, wire = two()
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()
    (session,) = b.said(SessionEstablished)
    b.core.close_address(session.contact.address, wire.now)
    assert len(b.core._codec.sessions) == 0


def test_one_onion_is_dialed_a_few_times_however_many_ids_claim_it():
    a, _, wire = two()
    a.core.poll(wire.now)
    neighbours = a.core._neighbours
    for number in range(100, 140):
        neighbours.heard(
            a.core.contact(onion_record(number, onion=7)), node_key(number + 500).node_id, wire.now
        )
    wire.pass_time(60.0)
    assert len({data for _, _, data in wire.log}) == 4
    wire.now += 600
    assert neighbours.may_dial(a.core.contact(onion_record(100, onion=7)), wire.now)


def test_one_teller_has_a_share_of_those_who_wait():
    a, _, wire = two()
    for number in range(100, 200):
        a.core._neighbours.heard(a.core.contact(onion_record(number)), b"teller", wire.now)
    assert len(a.core._neighbours._candidates) == 32


def test_nobody_is_dialed_whose_teller_has_its_share_of_the_table():
    a, _, wire = two()
    for number in range(100, 300):
        a.core.table.add(a.core.contact(onion_record(number)), b"teller")
    heard = a.core._neighbours.heard
    strangers = [a.core.contact(onion_record(number)) for number in range(300, 400)]
    far = [each for each in strangers if log_distance(a.core.node_id, each.node_id) == 256]
    assert sum(a.core.table.has_room(each.node_id) for each in far) == len(far)
    for each in far:
        heard(each, b"teller", wire.now)
    assert not len(a.core._neighbours._candidates)
    heard(far[0], b"another", wire.now)
    assert len(a.core._neighbours._candidates) == 1


def test_a_bootnode_is_asked_though_there_is_no_place_for_it():
    # Otherwise a group whose far buckets are full of its own members never meets the rest of the network.
    def packets_to_the_bootnode(options):
        a = make_node(1, options, onion=True)
        far = [n for n in range(10, 400) if log_distance(a.core.node_id, node_key(n).node_id) == 256]
        b, wire = make_node(far[16], STILL, onion=True), Streams(a)
        for number in far[:16]:
            a.core.table.add(a.core.contact(onion_record(number)), number)
        for number in range(400, 440):
            near = onion_record(number)
            b.core.table.add(b.core.contact(near), number)
        for entry in b.core.table:
            entry.live = True
        wire.nodes[b.address] = b
        a.core.add_bootnode(b.record)
        a.core._refresh.due = wire.now
        a.core.poll(wire.now)
        wire.deliver()
        assert b.core.node_id not in a.core.table.entries
        return sum(to == b.address for _, to, _ in wire.log), len(a.core._neighbours._candidates)

    asked, heard = packets_to_the_bootnode(STILL)
    assert asked >= 2
    assert heard >= 1
    assert packets_to_the_bootnode(replace(STILL, ask_bootnodes=False)) == (0, 0)


def test_who_is_new_looks_for_its_neighbours_at_growing_intervals():
    a, _, wire = two(replace(ONION, fast_interval=1e9, slow_interval=1e9))
    for number in range(100, 150):
        a.core.table.add(a.core.contact(onion_record(number)), number)
    refresh, begun = a.core._refresh, []

    class Counting:
        def begin(self, target, done, now):
            begun.append((now, target))
            return False

    refresh._searches = Counting()
    for _ in range(9):
        wire.now = max(wire.now, refresh.due)
        a.core.poll(wire.now)
        assert refresh.due <= wire.now + ONION.refresh_interval
    times = sorted({when for when, _ in begun})
    young = [target for when, target in begun if times[0] < when <= times[4]]
    assert young == [a.core.node_id] * 4
    gaps = [after - before for before, after in pairwise(times)]
    bounds = [ONION.young_interval * 2**number for number in range(4)]
    assert all(most / 2 <= gap <= most for gap, most in zip(gaps, bounds, strict=False))
    assert gaps[-1] >= ONION.refresh_interval / 2
    assert sum(when == times[-1] for when, _ in begun) == 1 + ONION.refresh_lookups


def test_a_dead_entry_makes_room_for_one_that_is_proved_first():
    a, _, wire = two()
    base = a.core.node_id
    far = [n for n in range(10, 400) if log_distance(base, node_key(n).node_id) == 256][:17]
    for number in far:
        a.core.table.add(a.core.contact(onion_record(number)), node_key(number).node_id)
    first = a.core.table.entries[node_key(far[0]).node_id]
    a.core._neighbours._revalidation.add(first, wire.now)
    a.core._neighbours._drop(first, wire.now)
    assert len(a.core.table) == 15
    assert len(a.core._neighbours._candidates) == 1


def test_records_with_an_ip_are_never_told():
    network = OnionNetwork()
    both = build_record(node_key(3), 1, ip="9.9.9.9", udp=30303, tcp=30303, onion3=onion_record(3).onion3)
    pure = onion_record(4)
    assert network.address_of(both) is not None
    assert not network.may_tell(both, network.address_of(both), "stream")
    assert network.may_tell(pure, network.address_of(pure), "stream")
    lean = ContactCache(network.address_of, 4).of(both).record
    assert not network.may_tell(lean, network.address_of(both), "stream")


def test_records_without_onion_or_port_have_no_address():
    network = OnionNetwork()
    assert network.address_of(build_record(node_key(3), 1, ip="9.9.9.9", udp=3, tcp=3)) is None
    assert network.address_of(build_record(node_key(3), 1, onion3=onion_record(3).onion3)) is None


def test_eight_in_a_line_find_each_other():
    network = VirtualNetwork(5, latency=(0.1, 0.5))
    nodes = []
    for number in range(8):
        node = make_node(number, ONION, suite=NullSuite(), rand=random.Random(number).randbytes, onion=True)
        if nodes:
            nodes[-1].core.add_bootnode(node.record)
        nodes.append(network.add(node))
    network.run(60.0)
    assert [len(node.core.table) for node in nodes] == [7] * 8


def test_onion_network_forms():
    network = VirtualNetwork(6, latency=(0.05, 0.4))
    nodes = populate(network, 24, ONION, suite=NullSuite(), onion=True)
    network.run(400.0)
    assert min(len(node.core.table) for node in nodes) >= 15
    assert all(entry.live for node in nodes for entry in node.core.table)
