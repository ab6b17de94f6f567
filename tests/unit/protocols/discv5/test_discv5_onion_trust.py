"""Discovery over onion streams: contacts without a record, victims' onions, who is at a stream's end."""

from dataclasses import replace
from hashlib import sha256

import pytest

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.discv5 import (
    ONION,
    UDP,
    Contact,
    Failure,
    NodeDropped,
    NodeVerified,
    Reason,
    Refused,
    RequestDone,
    RequestFailed,
    SessionEstablished,
)
from relay.protocols.discv5.patience import ENOUGH, Estimate
from tests.aids.discv5 import (
    NullSuite,
    VirtualNetwork,
    Wire,
    make_node,
    node_key,
    onion_record,
    udp_record,
)

STILL = replace(
    ONION, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9, refresh_interval=1e9, young_interval=0.0
)


def endpoint_of(number: int, port: int = 30303) -> Endpoint:
    seed = sha256(b"onion %d" % number).digest()
    return Endpoint(Network.ONION, OnionKey.from_seed(seed).address, port)


def by_enode(number: int, onion: int | None = None, port: int = 30303) -> Node:
    return Node(node_key(number).public_key, (endpoint_of(number if onion is None else onion, port),))


class Streams(Wire):
    """Who is called from the other end of a stream sees no onion, only a stream."""

    def _carry(self, node, to, data):
        self.log.append((node.address, to, data))
        if isinstance(to, tuple):
            target, source = self.nodes[to[0]], to[1]
        else:
            target, source = self.nodes.get(to), (node.address, to)
        if target is not None:
            target.events += target.core.receive_packet(data, source, self.now)


def two(options=STILL, **kwargs):
    a, b = make_node(1, options, onion=True), make_node(2, options, onion=True, **kwargs)
    return a, b, Streams(a, b)


def count_first_calls(wire, node):
    """Packets of noise that ask for a handshake; no message is as short."""
    return sum(source == node.address and len(data) == 91 for source, _, data in wire.log)


# -- contacts without a record ---------------------------------------------------------------------------


def test_bootnode_by_enode_enters_with_its_own_record():
    a, b, wire = two()
    a.core.add_bootnode(by_enode(2))
    wire.pass_time(1.0)
    (entry,) = a.core.table
    assert entry.live
    assert entry.contact.record.raw == b.record.raw
    assert a.said(NodeVerified)[0].contact.record.raw == b.record.raw


def test_nothing_enters_while_only_the_key_is_known():
    a, _, wire = two()
    contact = a.core.contact(by_enode(2))
    assert not contact.is_known
    a.core.ping(contact, wire.now)
    wire.deliver()
    assert len(a.said(RequestDone)) == 1
    assert len(a.core.table) == 0


def test_bootnode_by_enode_of_another_key_gets_no_answer():
    a, _, wire = two()
    a.core.add_bootnode(by_enode(3, onion=2))
    wire.pass_time(70.0)
    assert len(a.core.table) == 0
    assert not a.said(SessionEstablished)


def test_record_of_a_bootnode_that_names_another_onion_is_proved_there_first():
    a, b, wire = two(record=onion_record(2, onion=5))
    b.address = "b"
    wire.nodes = {a.address: a, "b": b, endpoint_of(2): b}
    a.core.add_bootnode(by_enode(2))
    wire.pass_time(5.0)
    assert len(a.core.table) == 0
    assert endpoint_of(5) in {to for source, to, _ in wire.log if source == a.address}

    wire.nodes[endpoint_of(5)] = b
    a.core.close_address(endpoint_of(5), wire.now)
    a.core.add_node(b.record, wire.now)
    wire.pass_time(2.0)
    assert [entry.contact.address for entry in a.core.table] == [endpoint_of(5)]


def test_record_of_a_bootnode_without_onion_enters_nowhere():
    a, b, wire = two(record=build_record(node_key(2), 1, ip="9.9.9.9", udp=3, tcp=3))
    b.address = "nowhere"
    wire.nodes = {a.address: a, "nowhere": b, endpoint_of(2): b}
    a.core.add_bootnode(by_enode(2))
    wire.pass_time(3.0)
    assert len(a.core.table) == 0


def test_bootnode_by_enode_works_over_udp_too():
    a, b = make_node(1, UDP), make_node(2, UDP)
    wire = Wire(a, b)
    a.core.add_bootnode(Node(b.record.public_key, (Endpoint(Network.IPV4, b.record.ip, b.record.udp),)))
    wire.pass_time(3.0)
    (entry,) = a.core.table
    assert entry.contact.record.raw == b.record.raw


def test_handshake_of_a_node_known_by_key_alone_needs_its_record():
    a, b, wire = two()
    # We call it by its key while it calls us; its handshake leaves the record out.
    b.core._codec._own_record = lambda: replace(b.record, seq=0)
    a.core.ping(a.core.contact(by_enode(2)), wire.now)
    a.core.take_packets()
    b.core.ping(b.core.contact(a.record), wire.now)
    for _ in range(3):
        for node, other, seen_as in ((b, a, endpoint_of(2)), (a, b, endpoint_of(1))):
            for data, _ in node.core.take_packets():
                other.events += other.core.receive_packet(data, seen_as, wire.now)
    assert not a.said(SessionEstablished)
    assert Refused(Reason.RECORD, endpoint_of(2)) in a.events


def test_contact_of_a_node_with_record_is_that_of_the_record():
    a, b, _ = two()
    assert a.core.contact(Node.from_record(b.record)) == a.core.contact(b.record)
    nowhere = a.core.contact(Node(node_key(2).public_key, (Endpoint(Network.IPV4, "9.9.9.9", 9),)))
    assert nowhere == Contact.by_key(node_key(2).public_key, None)
    request = a.core.ping(nowhere, 0.0)
    assert a.core.poll(0.0) == [RequestFailed(request, nowhere, Failure.UNREACHABLE)]


# -- victims' onions -------------------------------------------------------------------------------------


def test_thousand_ids_with_one_onion_cost_their_victim_a_few_dials():
    a = make_node(1, replace(STILL, candidates=2000, candidates_per_teller=2000), onion=True)
    wire = Streams(a)
    a.core.poll(wire.now)
    for number in range(1000):
        record = build_record(
            node_key(10_000 + number), 1, onion3=endpoint_of(7).host, tcp=1000 + number % 50_000
        )
        a.core._neighbours.heard(a.core.contact(record), node_key(number).node_id, wire.now)
    wire.pass_time(500.0, step=0.5)
    victims = {(to.port, data[:16]) for _, to, data in wire.log if to.host == endpoint_of(7).host}
    assert 0 < len(victims) <= ONION.dials_per_host


def test_victim_that_we_know_is_not_dialed_for_liars_at_all():
    a, b, wire = two()
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    asked = count_first_calls(wire, a)
    for number in range(100, 120):
        liar = a.core.contact(onion_record(number, onion=2))
        assert not a.core.may_dial(liar, wire.now)
        a.core._neighbours.heard(liar, b"teller", wire.now)
    wire.pass_time(30.0)
    assert count_first_calls(wire, a) == asked == 1
    assert a.core.may_dial(a.core.contact(b.record), wire.now)


def test_lookup_dials_a_victim_a_few_times():
    a, b, wire = two(replace(STILL, bucket_group_limit=1000, table_group_limit=1000))
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    for number in range(100, 400):
        entry = b.core.table.add(b.core.contact(onion_record(number, onion=7)), None)
        if entry is not None:
            entry.live = True
    for number in range(20):
        a.core.lookup(node_key(5000 + number).node_id, wire.now)
        wire.pass_time(130.0, step=1.0)
        # Within one window: the clock runs on, the budget's window is set back.
        wire.now -= 130.0
    dialed = {data for source, to, data in wire.log if source == a.address and to == endpoint_of(7)}
    assert 0 < len(dialed) <= ONION.dials_per_host


def test_proved_nodes_that_rename_themselves_to_a_victim_keep_their_old_address():
    a, b, wire = two()
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    (entry,) = a.core.table
    a.core.add_node(onion_record(2, seq=2, onion=7), wire.now)
    assert entry.contact.address == endpoint_of(2)
    wire.pass_time(700.0, step=1.0)
    assert entry.contact.address == endpoint_of(2)
    assert len({data for _, to, data in wire.log if to == endpoint_of(7)}) <= ONION.dials_per_host


def test_node_that_moved_is_taken_over_once_its_new_onion_has_answered():
    a, b, wire = two()
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    moved = onion_record(2, seq=2, onion=7)
    b.record = moved
    wire.nodes[endpoint_of(7)] = b
    a.core.add_node(moved, wire.now)
    wire.pass_time(2.0)
    (entry,) = a.core.table
    assert (entry.contact.address, entry.live) == (endpoint_of(7), True)


def test_our_own_onion_is_never_dialed():
    a, _, wire = two()
    liar = build_record(node_key(9), 1, onion3=endpoint_of(1).host, tcp=9999)
    a.core.add_node(liar, wire.now)
    wire.pass_time(5.0)
    assert not [each for each in wire.log if each[0] == a.address]
    assert len(a.core._neighbours._candidates) == 0


def test_one_onion_holds_one_place_of_the_table():
    a, b, wire = two()
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    second = make_node(3, STILL, record=onion_record(3, onion=2), onion=True)
    wire.nodes[endpoint_of(2)] = second
    a.events += a.core.close_address(endpoint_of(2), wire.now, Failure.LOST)
    a.core.ping(a.core.contact(second.record), wire.now)
    wire.deliver()
    assert [entry.contact.node_id for entry in a.core.table] == [node_key(3).node_id]
    assert NodeDropped(node_key(2).node_id) in a.events


def test_one_teller_fills_a_part_of_the_table_only():
    a = make_node(1, replace(STILL, table_group_limit=5), onion=True)
    wire = Streams(a)
    others = [make_node(number, STILL, onion=True) for number in range(100, 130)]
    for other in others:
        wire.nodes[other.address] = other
        a.core._neighbours.heard(a.core.contact(other.record), b"one teller", wire.now)
    # Nobody but we ourselves does anything by itself: what they tell of each other would have other tellers.
    for _ in range(60):
        wire.now += 0.5
        a.core.poll(wire.now)
        wire.deliver()
    assert len(a.core.table) == 5


def test_proofs_leave_dials_to_lookups():
    a = make_node(1, replace(STILL, proofs=5), onion=True)
    wire = Streams(a)
    others = [onion_record(number) for number in range(100, 120)]
    for number, other in enumerate(others):
        a.core._neighbours.heard(a.core.contact(other), b"teller %d" % number, wire.now)

    def called():
        return {to for _, to, _ in wire.log}

    def pass_time(seconds):
        for _ in range(int(seconds / 0.5)):
            wire.now += 0.5
            a.core.poll(wire.now)
            wire.deliver()

    pass_time(20.0)
    assert len(called()) == 5
    # One that ends makes room for one more, whatever its end.
    a.core.close_address(next(iter(called())), wire.now, Failure.BUSY)
    pass_time(5.0)
    assert len(called()) == 6
    pass_time(2000.0)
    assert called() == {a.core.contact(other).address for other in others}


# -- who is at the end of a stream -----------------------------------------------------------------------


def test_stream_carries_one_node_id_until_it_ends():
    a, b, wire = two()
    third = make_node(3, STILL, onion=True)
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()
    stream = b.said(SessionEstablished)[0].contact.address

    def call(node):
        node.core.ping(node.core.contact(b.record), wire.now)
        for _ in range(3):
            for data, _ in node.core.take_packets():
                b.events += b.core.receive_packet(data, stream, wire.now)
            for data, _ in b.core.take_packets():
                node.events += node.core.receive_packet(data, b.address, wire.now)

    call(third)
    assert Refused(Reason.HANDSHAKE, stream) in b.events
    assert len(b.said(SessionEstablished)) == 1
    assert (third.core.node_id, stream) not in b.core._codec.sessions
    assert not third.said(RequestDone)
    b.core.close_address(stream, wire.now)
    third.core.close_address(b.address, wire.now)
    call(third)
    assert len(b.said(SessionEstablished)) == 2


def test_packets_of_one_stream_are_worth_nothing_on_another():
    a, b, wire = two()
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()
    a.core.ping(a.core.contact(b.record), wire.now)
    wire.deliver()
    recorded = [data for source, to, data in wire.log if source == a.address and to == b.address]
    received = b.core.traffic.received.copy()
    b.events.clear()
    for data in recorded:
        b.events += b.core.receive_packet(data, "another stream", wire.now)
    assert b.core.traffic.received == received
    assert Refused(Reason.HANDSHAKE, "another stream") in b.events
    # All that comes back is a challenge, and it goes to where the packets came from.
    assert {to for _, to in b.core.take_packets()} == {"another stream"}


def test_challenge_ends_with_its_stream():
    a, b, wire = two()
    a.core.ping(a.core.contact(b.record), wire.now)
    ((data, _),) = a.core.take_packets()
    b.core.receive_packet(data, "stream", wire.now)
    assert len(b.core._codec.challenges) == 1
    b.core.close_address("stream", wire.now)
    assert len(b.core._codec.challenges) == 0


@pytest.mark.parametrize(
    ("failure", "left"), [(Failure.UNREACHABLE, 0), (Failure.LOST, 1), (Failure.BUSY, 1)]
)
def test_only_a_failed_dial_counts_against_a_node(failure, left):
    a, b, wire = two()
    a.core.add_bootnode(b.record)
    wire.pass_time(1.0)
    assert len(a.core.table) == 1
    a.core.ping(a.core.contact(b.record), wire.now)
    a.core.take_packets()
    a.events += a.core.close_address(b.address, wire.now, failure)
    assert [event.failure for event in a.said(RequestFailed)] == [failure]
    assert len(a.core.table) == left


def test_udp_core_never_tells_of_onions_and_onion_core_never_of_ips():
    udp = make_node(1, UDP)
    udp.core.add_node(onion_record(5), 0.0)
    assert len(udp.core.table) == 0
    onion = make_node(1, ONION, onion=True)
    wire = Streams(onion)
    onion.core.add_node(udp_record(5), wire.now)
    wire.pass_time(3.0)
    assert not wire.log


# -- time ------------------------------------------------------------------------------------------------


def test_line_of_eight_known_by_enode_alone_is_complete_within_half_a_minute():
    network = VirtualNetwork(11, latency=(0.5, 1.0))
    nodes = [
        make_node(number, ONION, suite=NullSuite(), rand=network.rand_for(number), onion=True)
        for number in range(8)
    ]
    for number, node in enumerate(nodes[:-1]):
        node.core.add_bootnode(by_enode(number + 1))
    for node in nodes:
        network.add(node)
    network.run(30.0)
    assert [len(node.core.table) for node in nodes] == [7] * 8
    assert all(entry.live for node in nodes for entry in node.core.table)


def test_time_outs_follow_what_is_measured():
    a, b, wire = two()
    contact = a.core.contact(b.record)
    assert (a.core.patience.response.timeout, a.core.patience.connect.timeout) == (15.0, 90.0)
    for _ in range(ENOUGH + 1):
        a.core.ping(contact, wire.now)
        wire.deliver()
    assert a.core.patience.response.timeout == ONION.response_floor
    wire.alter = lambda *_: None
    a.core.ping(contact, wire.now)
    a.core.take_packets()
    assert a.core._calls.next_deadline == wire.now + ONION.response_floor


def test_patience_begins_when_the_dial_has_come_through():
    a, _, wire = two()
    near, far = a.core.contact(onion_record(20)), a.core.contact(onion_record(21))
    a.core.ping(near, wire.now)
    a.core.ping(far, wire.now)
    a.core.opened(near.address, wire.now + 50.0)
    assert a.core._calls.next_deadline == wire.now + 65.0
    a.events += a.core.poll(wire.now + 65.0)
    assert [event.contact for event in a.said(RequestFailed)] == [near]
    assert a.core._calls.next_deadline == wire.now + 90.0
    a.core.ping(near, wire.now + 70.0)
    assert a.core._calls.next_deadline == wire.now + 85.0
    a.core.close_address(near.address, wire.now + 71.0)
    a.core.ping(near, wire.now + 75.0)
    assert a.core._calls.next_deadline == wire.now + 90.0


def test_round_trips_are_measured_to_the_first_part_of_an_answer():
    a, b, wire = two()
    for number in range(100, 130):
        entry = b.core.table.add(b.core.contact(onion_record(number)), number)
        if entry is not None:
            entry.live = True
    contact = a.core.contact(b.record)
    a.core.ping(contact, wire.now)
    wire.deliver()
    a.core.findnode(contact, tuple(range(256, 240, -1)), wire.now)
    ((question, _),) = a.core.take_packets()
    b.core.receive_packet(question, (a.address, b.address), wire.now)
    parts = [data for data, _ in b.core.take_packets()]
    assert len(parts) > 1
    before = len(a.core.patience.response._samples)
    for late, part in enumerate(parts):
        a.core.receive_packet(part, b.address, wire.now + 3.0 + 0.001 * late)
    assert list(a.core.patience.response._samples)[before:] == [pytest.approx(3.0)]


def test_estimate_grows_with_the_network_and_with_silence():
    estimate = Estimate(2.0, 15.0)
    for _ in range(ENOUGH):
        estimate.took(1.0)
    assert (estimate.typical, estimate.timeout) == (1.0, 3.0)
    for _ in range(20):
        estimate.missed()
    assert estimate.timeout == 15.0
    for _ in range(100):
        estimate.took(0.01)
    assert estimate.timeout == 2.0


def test_estimate_without_floor_never_moves():
    estimate = Estimate(None, 0.7)
    for _ in range(100):
        estimate.took(0.001)
    assert estimate.timeout == 0.7


def test_later_calls_never_wait_shorter_than_those_before_them():
    a, _, wire = two()
    late, later = a.core.contact(onion_record(20)), a.core.contact(onion_record(21))
    a.core.ping(late, wire.now)
    a.core.opened(late.address, wire.now)
    for _ in range(ENOUGH):
        a.core.patience.response.took(0.1)
    assert a.core.patience.response.timeout == ONION.response_floor
    a.core.ping(later, wire.now)
    a.core.opened(later.address, wire.now)
    assert a.core._calls.next_deadline == wire.now + 15.0
    a.events += a.core.poll(wire.now + 15.0)
    assert [event.failure for event in a.said(RequestFailed)] == [Failure.TIMEOUT] * 2
