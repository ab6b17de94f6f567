"""Discovery: packets, handshakes, and round trips between two nodes in one process, without sockets.

A round trip counts everything that both sides do; over UDP each side has a core of its own.
"""

import random
from dataclasses import replace

from benchmarks.micro.registry import Call, case
from relay.protocols.discv5 import UDP, ContactCache, UdpNetwork
from relay.protocols.discv5.codec import Codec
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.crypto import REAL
from relay.protocols.discv5.distance import log_distance
from relay.protocols.discv5.session import Session
from relay.protocols.discv5.table import Entry
from tests.aids.discv5 import TestNode, make_node, node_key, udp_record

QUIET = replace(UDP, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9)
TABLE = 400


def codecs() -> tuple[Codec, Codec, Session, Session]:
    made, sessions = [], []
    for number in (1, 2):
        contacts = ContactCache(UdpNetwork().address_of, 16)
        record = udp_record(number)
        made.append(
            Codec(node_key(number), lambda r=record: r, contacts, REAL, UDP, random.Random(number).randbytes)
        )
        other = udp_record(3 - number)
        keys = (bytes(16), bytes(16))
        sessions.append(Session(Contact(other, UdpNetwork().address_of(other)), *keys))
    return made[0], made[1], sessions[0], sessions[1]


@case("discv5", "seal a message")
def _() -> Call:
    codec, _, session, _ = codecs()
    plaintext = bytes(24)
    return lambda: codec.seal(session, plaintext)


@case("discv5", "unmask and open a message")
def _() -> Call:
    codec, other, session, theirs = codecs()
    data, _ = codec.seal(session, bytes(24))
    return lambda: other.open(theirs, other.parse(data))


@case("discv5", "refuse a packet of another protocol")
def _() -> Call:
    node, source = make_node(1, QUIET), make_node(2, QUIET).address
    data = random.Random(1).randbytes(200)
    return lambda: node.core.receive_packet(data, source, 0.0)


def exchange(a: TestNode, b: TestNode, now: float) -> None:
    while packets := a.core.take_packets():
        for data, _ in packets:
            b.core.receive_packet(data, a.address, now)
        for data, _ in b.core.take_packets():
            a.core.receive_packet(data, b.address, now)


def pair() -> tuple[TestNode, TestNode]:
    a, b = make_node(1, QUIET), make_node(2, QUIET)
    a.core.ping(a.core.contact(b.record), 0.0)
    exchange(a, b, 0.0)
    return a, b


@case("discv5", "handshake with PING and PONG, both sides")
def _() -> Call:
    a, b = make_node(1, QUIET), make_node(2, QUIET)
    to = a.core.contact(b.record)

    def call() -> None:
        a.core.close_address(b.address, 0.0)
        a.core.ping(to, 0.0)
        exchange(a, b, 0.0)

    return call


@case("discv5", "PING round trip, both sides")
def _() -> Call:
    a, b = pair()
    to = a.core.contact(b.record)

    def call() -> None:
        a.core.ping(to, 0.0)
        exchange(a, b, 0.0)

    return call


@case("discv5", "TALKREQ of 100 bytes round trip, both sides")
def _() -> Call:
    a, b = pair()
    to, payload = a.core.contact(b.record), bytes(100)

    def call() -> None:
        a.core.talkreq(to, b"test", payload, 0.0)
        exchange(a, b, 0.0)

    return call


@case("discv5", "FINDNODE of 16 records round trip, both sides")
def _() -> Call:
    a, b = pair()
    for number in range(10, 10 + TABLE):
        b.core.add_node(udp_record(number), 0.0)
    for entry in b.core.table:
        make_live(entry)
    to = a.core.contact(b.record)
    distances = tuple({log_distance(b.core.node_id, entry.contact.node_id): 0 for entry in b.core.table})[:3]

    def call() -> None:
        a.core.findnode(to, distances, 0.0)
        exchange(a, b, 0.0)

    return call


def make_live(entry: Entry) -> None:
    entry.live = True
