"""Anything from the network ends in events, and memory stays bounded."""

import random
import tracemalloc
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols.discv5 import UDP, ContactCache, Reason, Refused, UdpNetwork
from relay.protocols.discv5 import packet as wire
from relay.protocols.discv5.crypto import HeaderMask
from relay.protocols.discv5.networks import ITSELF
from relay.protocols.discv5.session import Session, Sessions
from relay.protocols.discv5.table import Limits, Table
from tests.aids.discv5 import NullSuite, Wire, make_node, node_key, udp, udp_record

STILL = replace(UDP, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9, refresh_interval=1e9)
PEER = udp("50.0.0.1")


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=0, max_size=1400), max_size=5))
def test_noise_is_refused(packets):
    node = make_node(1, STILL)
    for data in packets:
        events = node.core.receive_packet(data, PEER, 0.0)
        assert all(isinstance(event, Refused) for event in events)


@settings(max_examples=200)
@given(st.sampled_from([0, 1, 2]), st.binary(max_size=500), st.binary(max_size=700))
def test_well_formed_headers_with_anything_inside_raise_nothing(flag, auth, message):
    node = make_node(1, STILL)
    if flag == 0:
        auth = auth.ljust(32, b"a")[:32]
    elif flag == 1:
        auth, message = auth.ljust(24, b"a")[:24], b""
    else:
        auth = auth[:32].ljust(32, b"a") + b"\x40\x21" + auth.ljust(97, b"b")
    header = bytes(16) + b"discv5\x00\x01" + bytes((flag,)) + bytes(12) + len(auth).to_bytes(2, "big") + auth
    node.core.receive_packet(wire.protect(header, HeaderMask(node.core.node_id), message), PEER, 0.0)
    node.core.take_packets()


@settings(max_examples=300)
@given(st.integers(0, 255), st.binary(max_size=400))
def test_any_message_of_an_authenticated_peer_raises_nothing(kind, payload):
    a, b = SESSION
    session = b.core._codec.sessions.get((a.core.node_id, a.address))
    data, _ = b.core._codec.seal(session, bytes((kind,)) + payload)
    a.core.receive_packet(data, b.address, 0.0)
    a.core.take_packets()


@settings(max_examples=200)
@given(st.data())
def test_any_change_of_a_true_packet_raises_nothing(data):
    a, b = make_node(1, STILL), make_node(2, STILL)
    wire_between = Wire(a, b)

    def alter(_source, _to, packet):
        if data.draw(st.booleans()):
            return packet
        at = data.draw(st.integers(0, len(packet) - 1))
        return packet[:at] + bytes((packet[at] ^ data.draw(st.integers(1, 255)),)) + packet[at + 1 :]

    wire_between.alter = alter
    a.core.ping(a.core.contact(b.record), wire_between.now)
    wire_between.deliver()


def connected():
    a, b = make_node(1, STILL), make_node(2, STILL)
    a.core.ping(a.core.contact(b.record), 0.0)
    Wire(a, b).deliver()
    return a, b


SESSION = connected()


def test_a_hundred_thousand_node_ids_leave_bounded_memory():
    node = make_node(1, STILL, suite=NullSuite())
    header = bytes(16) + b"discv5\x00\x01\x00" + bytes(12) + b"\x00\x20"
    rand = random.Random(1)

    def attack(count):
        for _ in range(count):
            node.core.receive_packet(header + rand.randbytes(32) + bytes(40), PEER, 0.0)
            node.core.take_packets()

    attack(90_000)
    tracemalloc.start()
    try:
        attack(5_000)
        before, _ = tracemalloc.get_traced_memory()
        attack(5_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert len(node.core._codec.challenges) == STILL.challenges


def test_thousands_of_true_handshakes_leave_bounded_memory():
    node = make_node(1, replace(STILL, sessions=64, records=64), suite=NullSuite())
    node.core.poll(0.0)
    for number in range(1000, 1600):
        peer = make_node(number, STILL, suite=NullSuite())
        peer.core.ping(peer.core.contact(node.record), 0.0)
        Wire(node, peer).deliver()
    assert len(node.core._codec.sessions) == 64
    assert len(node.core._contacts) == 64
    assert len(node.core.table) <= 272


def test_table_entry_takes_about_one_kilobyte():
    records = [udp_record(number).raw for number in range(2000, 2800)]
    network = UdpNetwork()
    cache = ContactCache(network.address_of, 10_000)
    table = Table(node_key(0).node_id, network, Limits(16, 300), random.Random(1).randrange)
    tracemalloc.start()
    try:
        for raw in records:
            table.add(cache.get(bytes(bytearray(raw))), ITSELF)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(records) < 1200


def test_sessions_set_up_few_ciphers():
    sessions = Sessions(NullSuite(), 1024, 4)
    contacts = ContactCache(UdpNetwork().address_of, 100)
    made = []
    for number in range(20):
        session = Session(contacts.of(udp_record(number)), bytes(16), bytes(16))
        sessions.put((node_key(number).node_id, PEER), session)
        sessions.ciphers(session)
        made.append(session)
    assert sum(session.ciphers is not None for session in made) <= 4
    assert (node_key(3).node_id, PEER) in sessions
    sessions.drop((node_key(3).node_id, PEER))
    assert (node_key(3).node_id, PEER) not in sessions


def test_another_protocol_on_the_port_is_recognised():
    node = make_node(1, STILL)
    (event,) = node.core.receive_packet(bytes(98), PEER, 0.0)
    assert event == Refused(Reason.NOT_DISCV5, PEER)
